#include "op/infer_contents.h"

#include <algorithm>
#include <set>

#include "op/op.h"
#include "pattern/symbolic.h"

namespace tilewright {
namespace {

constexpr int64_t element_limit = 1024;

/// Integers and bools; floats that may hold sizes exactly.
bool may_hold_sizes(const Type& type) {
  const Dim count = product(type.dims);
  return (!is_float(type.dtype) || type.dtype == DType::f32 || type.dtype == DType::f64) && count.is_constant() && count.constant() <= element_limit &&
         std::all_of(type.dims.begin(), type.dims.end(), [](const Dim& dim) { return dim.is_constant(); });
}

bool all_constant(const Dims& dims) {
  return std::all_of(dims.begin(), dims.end(), [](const Dim& dim) { return dim.is_constant(); });
}

void set_contents(Value& value, Dims contents) {
  if (all_constant(contents)) {
    if (is_float(value.type.dtype)) return;  // constant folding computes these as written
    std::vector<int64_t> dims;
    for (const Dim& dim : value.type.dims) dims.push_back(dim.constant());
    Tensor tensor(value.type.dtype, dims);
    for (size_t i = 0; i < contents.size(); ++i) tensor.set_int(static_cast<int64_t>(i), contents[i].constant());
    value.constant = std::make_shared<const Tensor>(std::move(tensor));
  }
  value.contents = std::move(contents);
}

/// Sizes that nodes of this graph learn while running: unlike those of inputs they are often 0.
std::set<std::string> learned_sizes(const Graph& graph) {
  std::set<std::string> symbols;
  for (const Node& node : graph.nodes)
    for (const char* attribute : {"symbols", "bound_symbols", "body_bound_symbols"})
      if (const auto found = node.attributes.find(attribute); found != node.attributes.end()) {
        const auto& names = std::get<std::vector<std::string>>(found->second);
        symbols.insert(names.begin(), names.end());
      }
  return symbols;
}

}  // namespace

void infer_contents(Graph& graph, const Node& node) {
  if (node.op == "dims") {
    set_contents(graph.value(node.outputs[0]), std::get<Dims>(node.attributes.at("sizes")));
    return;
  }
  if (!node.subgraphs.empty() || node.outputs.size() != 1 || !may_hold_sizes(graph.type(node.outputs[0]))) return;
  const InferContext context(graph, node);
  for (int i = 0; i < context.input_count(); ++i)
    if (context.has(i) && !context.contents(i) && !context.constant(i)) return;
  // The node alone, lowered; its patterns evaluated one after the other.
  pattern::Program program;
  Lowering lowering{program, graph, node, {}, {}};
  std::map<pattern::TensorId, Dims> known;
  bool symbolic = false;
  for (int i = 0; i < context.input_count(); ++i) {
    if (!context.has(i)) {
      lowering.inputs.push_back(-1);
      continue;
    }
    lowering.inputs.push_back(program.add_tensor(context.type(i), "operand", context.constant(i)));
    if (auto contents = context.contents(i)) {
      symbolic |= !all_constant(*contents);
      known[lowering.inputs.back()] = std::move(*contents);
    }
  }
  lowering.outputs = {program.add_tensor(graph.type(node.outputs[0]), "result")};
  find_op(node.op).lower(lowering);
  if (const auto contents = pattern::evaluate_contents(program, known, lowering.outputs[0], symbolic ? learned_sizes(graph) : std::set<std::string>{}))
    set_contents(graph.value(node.outputs[0]), *contents);
}

}  // namespace tilewright
