#include "pass/fold_constants.h"

#include <algorithm>

#include "base/error.h"
#include "op/op.h"
#include "pass/editor.h"
#include "pattern/interpreter.h"

namespace tilewright {
namespace {

/// Results up to this size are always worth holding; larger ones only when they are no larger than the operands.
constexpr int64_t always_folded_bytes = 64 << 10;
/// Integers up to this are exact in float32.
constexpr int64_t exact_integers = int64_t{1} << 24;

int64_t bytes_of(const Type& type) {
  const Dim elements = product(type.dims);
  int64_t bytes = 0;
  if (!elements.is_constant() || __builtin_mul_overflow(elements.constant(), static_cast<int64_t>(size_of(type.dtype)), &bytes)) return -1;
  return bytes;
}

bool foldable(const Graph& graph, const Node& node) {
  if (!node.subgraphs.empty() || node.outputs.empty()) return false;
  for (const auto& [attribute, value] : node.attributes)  // sizes known at run time only
    if (const Dims* dims = std::get_if<Dims>(&value); dims && !std::all_of(dims->begin(), dims->end(), [](const Dim& dim) { return dim.is_constant(); }))
      return false;
  int64_t in = 0, out = 0;
  for (const ValueId id : node.inputs) {
    if (id == no_value) continue;
    if (!graph.value(id).constant) return false;
    in += static_cast<int64_t>(graph.value(id).constant->byte_size());
  }
  for (const ValueId id : node.outputs) {
    const int64_t bytes = bytes_of(graph.type(id));
    if (bytes < 0) return false;
    out += bytes;
  }
  return out <= std::max(always_folded_bytes, in);
}

/// The node alone as a graph without inputs.
std::vector<Tensor> evaluate(const Graph& graph, const Node& node) {
  Graph alone;
  alone.name = node.name;
  Node copy = node;
  for (ValueId& id : copy.inputs)
    if (id != no_value) {
      alone.values.push_back(graph.value(id));
      alone.values.back().name = "operand_" + std::to_string(alone.values.size());
      id = static_cast<ValueId>(alone.values.size()) - 1;
    }
  for (ValueId& id : copy.outputs) {
    alone.values.push_back(graph.value(id));
    alone.values.back().name = "result_" + std::to_string(alone.values.size());
    id = static_cast<ValueId>(alone.values.size()) - 1;
    alone.outputs.push_back(id);
  }
  alone.nodes.push_back(std::move(copy));
  const pattern::Program program = lower(alone);
  if (const std::optional<Tensor> moved = pattern::move_constant(program)) return {*moved};
  return pattern::interpret(program, {});
}

/// The known contents as a tensor. Floats are taken only where rounding on the way cannot have changed them, nor the sign of a zero been lost.
std::optional<Tensor> contents_of(const Value& value) {
  const auto known = [](const Dim& dim) { return dim.is_constant(); };
  if (!value.contents || !std::all_of(value.contents->begin(), value.contents->end(), known)) return std::nullopt;
  if (!std::all_of(value.type.dims.begin(), value.type.dims.end(), known)) return std::nullopt;
  std::vector<int64_t> dims;
  for (const Dim& dim : value.type.dims) dims.push_back(dim.constant());
  Tensor tensor(value.type.dtype, dims);
  for (size_t i = 0; i < value.contents->size(); ++i) {
    const int64_t element = (*value.contents)[i].constant();
    if (is_float(value.type.dtype) && (element == 0 || std::abs(element) > exact_integers)) return std::nullopt;
    tensor.set_int(static_cast<int64_t>(i), element);
  }
  return tensor;
}

}  // namespace

void fold_constants(Graph& graph) {
  for (Value& value : graph.values)
    if (!value.constant)
      if (auto tensor = contents_of(value)) value.constant = std::make_shared<const Tensor>(std::move(*tensor));
  for (const ValueId id : graph.inputs) graph.value(id).constant = nullptr;
  std::erase_if(graph.nodes, [&](const Node& node) {
    const auto known = [&](ValueId id) { return graph.value(id).constant != nullptr; };
    if (!node.outputs.empty() && std::all_of(node.outputs.begin(), node.outputs.end(), known)) return true;
    if (!foldable(graph, node)) return false;
    const std::vector<Tensor> results = evaluate(graph, node);
    for (size_t i = 0; i < results.size(); ++i) graph.value(node.outputs[i]).constant = std::make_shared<const Tensor>(results[i]);
    return true;
  });
  for (Node& node : graph.nodes)
    for (auto& body : node.subgraphs) fold_constants(*body);
  compact(graph);
}

}  // namespace tilewright
