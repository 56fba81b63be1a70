#include "pass/fold_affine.h"

#include <cmath>

#include "pass/editor.h"

namespace tilewright {
namespace {

/// The constant as one value for each channel (axis 1) of `dims`, when it varies along no other axis.
std::optional<std::vector<double>> per_channel(const Tensor* constant, const Dims& dims) {
  if (constant == nullptr || constant->rank() > dims.size() || dims.size() < 2 || !dims[1].is_constant()) return std::nullopt;
  const int64_t channels = dims[1].constant();
  const size_t missing = dims.size() - constant->rank();
  for (size_t axis = 0; axis < constant->rank(); ++axis)
    if (constant->dims()[axis] != 1 && axis + missing != 1) return std::nullopt;
  if (constant->element_count() != 1 && constant->element_count() != channels) return std::nullopt;
  std::vector<double> values;
  for (int64_t c = 0; c < channels; ++c) values.push_back(constant->float_at(constant->element_count() == 1 ? 0 : c));
  return values;
}

/// Element i of the weights belongs to output channel channel_of(i).
Tensor scaled_weights(const Tensor& weights, const std::vector<double>& scale, bool transposed, int64_t groups) {
  Tensor result = weights;
  const auto& dims = weights.dims();
  int64_t inner = 1;
  for (size_t axis = 2; axis < dims.size(); ++axis) inner *= dims[axis];
  for (int64_t i = 0; i < weights.element_count(); ++i) {
    const int64_t row = i / inner / dims[1], column = i / inner % dims[1];
    const int64_t channel = transposed ? row / (dims[0] / groups) * dims[1] + column : row;
    result.set_float(i, weights.float_at(i) * scale[static_cast<size_t>(channel)]);
  }
  return result;
}

bool all_finite(const Tensor& tensor) {
  for (int64_t i = 0; i < tensor.element_count(); ++i)
    if (!std::isfinite(tensor.float_at(i))) return false;
  return true;
}

/// What hoist_scales made: exact sums, which scaled weights would undo.
bool sums_integers(Editor& editor, const Node& conv) {
  const Node* cast = editor.producer(conv.inputs[0]);
  return cast != nullptr && cast->op == "cast" && is_integer(editor.graph().type(cast->inputs[0]).dtype);
}

std::optional<std::vector<ValueId>> rule(Editor& editor, const Node& node) {
  const bool scales = node.op == "mul" || node.op == "div", shifts = node.op == "add" || node.op == "sub";
  if (!scales && !shifts) return std::nullopt;
  const bool commutes = node.op == "mul" || node.op == "add";
  for (const size_t side : {size_t{0}, size_t{1}}) {
    if (side == 1 && !commutes) break;
    const Node* found = editor.producer(node.inputs[side]);
    if (found == nullptr || (found->op != "conv" && found->op != "conv_transpose") || editor.uses(node.inputs[side]) != 1) continue;
    const Node conv = *found;
    if (sums_integers(editor, conv)) continue;
    const Type type = editor.graph().type(conv.outputs[0]);
    const Tensor* weights = editor.constant(conv.inputs[1]);
    const bool has_bias = conv.inputs.size() > 2 && conv.inputs[2] != no_value;
    const Tensor* bias = has_bias ? editor.constant(conv.inputs[2]) : nullptr;
    const auto factor = per_channel(editor.constant(node.inputs[1 - side]), type.dims);
    if (!factor || weights == nullptr || (has_bias && bias == nullptr) || type != editor.graph().type(node.outputs[0])) continue;
    if (type.dtype != DType::f32 && type.dtype != DType::f64) continue;  // narrower weights would be rounded twice
    if (weights->dtype() != type.dtype) continue;
    const int64_t groups = conv.attributes.count("groups") ? std::get<int64_t>(conv.attributes.at("groups")) : 1;
    std::vector<double> scale(factor->size(), 1.0);
    Tensor new_bias(type.dtype, {static_cast<int64_t>(factor->size())});
    for (size_t c = 0; c < factor->size(); ++c) {
      if (scales) scale[c] = node.op == "mul" ? (*factor)[c] : 1.0 / (*factor)[c];
      const double shift = node.op == "add" ? (*factor)[c] : node.op == "sub" ? -(*factor)[c] : 0.0;
      new_bias.set_float(static_cast<int64_t>(c), (bias ? bias->float_at(static_cast<int64_t>(c)) : 0.0) * scale[c] + shift);
    }
    const Tensor new_weights = scales ? scaled_weights(*weights, scale, conv.op == "conv_transpose", groups) : *weights;
    if (!all_finite(new_weights) || !all_finite(new_bias)) continue;  // 0·∞ and ∞ − ∞ are not what a late overflow gives
    Builder& b = editor.builder();
    b.set_source(joined_sources(conv.name, node.name));
    std::vector<ValueId> inputs = {editor.resolve(conv.inputs[0]), editor.resolve(conv.inputs[1])};
    if (scales) inputs[1] = b.constant(new_weights);
    if (shifts || has_bias) inputs.push_back(b.constant(new_bias));
    return b.node(conv.op, inputs, conv.attributes);
  }
  return std::nullopt;
}

}  // namespace

void fold_affine(Graph& graph) { apply_rule(graph, rule); }

}  // namespace tilewright
