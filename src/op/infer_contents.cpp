#include "op/infer_contents.h"

#include <algorithm>

#include "op/op.h"
#include "pattern/symbolic.h"

namespace tilewright {
namespace {

constexpr int64_t element_limit = 1024;

bool small_integer(const Type& type) {
  const Dim count = product(type.dims);
  return !is_float(type.dtype) && count.is_constant() && count.constant() <= element_limit &&
         std::all_of(type.dims.begin(), type.dims.end(), [](const Dim& dim) { return dim.is_constant(); });
}

void set_contents(Value& value, Dims contents) {
  if (std::all_of(contents.begin(), contents.end(), [](const Dim& dim) { return dim.is_constant(); })) {
    std::vector<int64_t> dims;
    for (const Dim& dim : value.type.dims) dims.push_back(dim.constant());
    Tensor tensor(value.type.dtype, dims);
    for (size_t i = 0; i < contents.size(); ++i) tensor.set_int(static_cast<int64_t>(i), contents[i].constant());
    value.constant = std::make_shared<const Tensor>(std::move(tensor));
  }
  value.contents = std::move(contents);
}

}  // namespace

void infer_contents(Graph& graph, const Node& node) {
  if (node.op == "dims") {
    set_contents(graph.value(node.outputs[0]), std::get<Dims>(node.attributes.at("sizes")));
    return;
  }
  if (!node.subgraphs.empty() || node.outputs.size() != 1 || !small_integer(graph.type(node.outputs[0]))) return;
  const InferContext context(graph, node);
  for (int i = 0; i < context.input_count(); ++i)
    if (context.has(i) && !context.contents(i) && !context.constant(i)) return;
  // The node alone, lowered; its patterns evaluated one after the other.
  pattern::Program program;
  Lowering lowering{program, graph, node, {}, {}};
  std::map<pattern::TensorId, Dims> known;
  for (int i = 0; i < context.input_count(); ++i) {
    if (!context.has(i)) {
      lowering.inputs.push_back(-1);
      continue;
    }
    lowering.inputs.push_back(program.add_tensor(context.type(i), "operand", context.constant(i)));
    if (const auto contents = context.contents(i)) known[lowering.inputs.back()] = *contents;
    else return;
  }
  lowering.outputs = {program.add_tensor(graph.type(node.outputs[0]), "result")};
  find_op(node.op).lower(lowering);
  if (const auto contents = pattern::evaluate_contents(program, known, lowering.outputs[0])) set_contents(graph.value(node.outputs[0]), *contents);
}

}  // namespace tilewright
