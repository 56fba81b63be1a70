#include "pass/hoist_scales.h"

#include <algorithm>
#include <cmath>

#include "pass/editor.h"

namespace tilewright {
namespace {

/// integers · scale, with the scale constant along all axes but `axis` (-1: along all).
struct Scaled {
  ValueId integers = no_value;
  std::vector<double> scale;
  int axis = -1;
  std::vector<int64_t> permutation;  ///< applied to the product; empty: none
};

/// The constant, seen through reshapes; null when there is none.
const Tensor* elements_of(const Editor& editor, ValueId id) {
  while (editor.constant(id) == nullptr) {
    const Node* node = editor.producer(id);
    if (node == nullptr || node->op != "reshape") return nullptr;
    id = node->inputs[0];
  }
  return editor.constant(id);
}

/// The axis along which a broadcast factor of these dims varies: -1 for none, nothing for more than one.
std::optional<int> varying_axis(const Dims& dims, size_t rank) {
  int found = -1;
  for (size_t axis = 0; axis < dims.size(); ++axis) {
    if (dims[axis] == Dim(1)) continue;
    if (found >= 0) return std::nullopt;
    found = static_cast<int>(axis + rank - dims.size());
  }
  return found;
}

std::optional<Scaled> scaled_integers(Editor& editor, ValueId id) {
  const Node* node = editor.producer(id);
  if (node == nullptr) return std::nullopt;
  if (node->op == "transpose") {
    const auto permutation = std::get<std::vector<int64_t>>(node->attributes.at("permutation"));
    std::optional<Scaled> inner = scaled_integers(editor, node->inputs[0]);
    if (!inner || !inner->permutation.empty()) return std::nullopt;
    inner->permutation = permutation;
    return inner;
  }
  if (node->op != "mul") return std::nullopt;
  const Graph& graph = editor.graph();
  for (const size_t side : {size_t{0}, size_t{1}}) {
    const ValueId integers = editor.resolve(node->inputs[side]), factor = editor.resolve(node->inputs[1 - side]);
    const Node* cast = editor.producer(integers);
    const Tensor* scale = elements_of(editor, factor);
    if (cast == nullptr || cast->op != "cast" || !is_integer(graph.type(cast->inputs[0]).dtype) || scale == nullptr) continue;
    if (graph.type(integers).dims != graph.type(id).dims) continue;
    const std::optional<int> axis = varying_axis(graph.type(factor).dims, graph.type(id).dims.size());
    if (!axis) continue;
    Scaled found{integers, {}, *axis, {}};
    for (int64_t i = 0; i < scale->element_count(); ++i) found.scale.push_back(scale->float_at(i));
    return found;
  }
  return std::nullopt;
}

std::optional<std::vector<ValueId>> rule(Editor& editor, const Node& node) {
  if (node.op != "conv" && node.op != "matmul") return std::nullopt;
  const Node product = node;
  const Type type = editor.graph().type(product.outputs[0]);
  if (type.dtype != DType::f32) return std::nullopt;
  const auto left = scaled_integers(editor, product.inputs[0]), right = scaled_integers(editor, product.inputs[1]);
  if (!left || !right || left->axis >= 0) return std::nullopt;
  const int rank = static_cast<int>(type.dims.size());
  const int right_rank = static_cast<int>(editor.graph().type(editor.resolve(product.inputs[1])).dims.size());
  const bool convolution = product.op == "conv";
  // Where the result's channels lie among the axes of the right operand, and of the result.
  const int channels_in = convolution ? 0 : right_rank - 1, channels_out = convolution ? 1 : rank - 1;
  int axis = right->axis;
  if (axis >= 0 && !right->permutation.empty())
    axis = static_cast<int>(std::find(right->permutation.begin(), right->permutation.end(), axis) - right->permutation.begin());
  if (axis >= 0 && (axis != channels_in || rank < 1)) return std::nullopt;

  std::vector<int64_t> dims;
  if (axis >= 0) {
    dims.assign(static_cast<size_t>(rank - channels_out), 1);
    dims[0] = static_cast<int64_t>(right->scale.size());
  }
  Tensor scale(DType::f32, dims);
  for (int64_t i = 0; i < scale.element_count(); ++i) {
    const double factor = left->scale.at(0) * right->scale.at(static_cast<size_t>(i));
    if (!std::isnormal(static_cast<float>(factor))) return std::nullopt;  // 0·∞ is not what the terms give
    scale.set_float(i, factor);
  }

  Builder& b = editor.builder();
  b.set_source(product.name);
  const auto integers = [&](const Scaled& operand) {
    return operand.permutation.empty() ? operand.integers : b.transpose(operand.integers, operand.permutation);
  };
  const std::vector<ValueId> operands = {integers(*left), integers(*right)};
  ValueId result = b.mul(b.one(product.op, operands, product.attributes), b.constant(scale));
  if (product.inputs.size() > 2 && product.inputs[2] != no_value) {
    Dims laid(static_cast<size_t>(rank - channels_out), Dim(1));
    const ValueId bias = editor.resolve(product.inputs[2]);
    laid[0] = b.dims(bias)[0];
    result = b.add(result, b.reshape(bias, laid));
  }
  return std::vector<ValueId>{result};
}

}  // namespace

void hoist_scales(Graph& graph) { apply_rule(graph, rule); }

}  // namespace tilewright
