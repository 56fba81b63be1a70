#include "import/onnx/operators.h"

namespace tilewright::onnx {
namespace {

/// -log p(target) a position, weighted and reduced. `scores` holds log probabilities [batch, classes, positions…]; targets drop axis 1.
/// A target that is `ignore_index` counts nothing, in the mean either.
ValueId likelihood_loss(NodeImport& n, ValueId scores, ValueId target, ValueId weight) {
  Builder& b = n.b;
  const Dims dims = b.dims(scores);
  n.require(dims.size() >= 2, "scores are {}; need [batch, classes, positions…]", str(b.type(scores)));
  n.require(b.rank(target) + 1 == b.rank(scores), "targets are {} for scores {}", str(b.type(target)), str(b.type(scores)));
  const DType dtype = b.dtype(scores);
  const std::string reduction = n.text("reduction", "mean");
  n.require(reduction == "none" || reduction == "sum" || reduction == "mean", "reduction is '{}'; needs none, sum or mean", reduction);

  ValueId counted = no_value, index = b.cast(target, DType::i64);
  if (n.has_attribute("ignore_index")) {
    const ValueId ignored = b.equal(index, b.constant([&] {
      Tensor t(DType::i64, {});
      t.set_int(0, n.integer("ignore_index"));
      return t;
    }()));
    counted = b.logical_not(ignored);
    index = b.where(ignored, b.scalar(DType::i64, 0), index);  // any class: what is read there is not used
  }
  const ValueId zero = b.scalar(dtype, 0);
  ValueId loss = b.neg(b.squeeze(b.one("gather_elements", {scores, b.unsqueeze(index, {1})}, {{"axis", int64_t{1}}}), {1}));
  ValueId weights = no_value;
  if (weight != no_value) weights = b.gather(weight, index, 0);
  if (counted != no_value) weights = b.where(counted, weights == no_value ? b.scalar(dtype, 1) : weights, zero);
  if (weights != no_value) loss = b.mul(loss, weights);
  if (counted != no_value) loss = b.where(counted, loss, zero);
  if (reduction == "none") return loss;

  std::vector<int64_t> axes;
  for (int a = 0; a < b.rank(loss); ++a) axes.push_back(a);
  if (reduction == "mean" && weights == no_value) return b.reduce("reduce_mean", loss, axes, false);
  const ValueId total = b.reduce("reduce_sum", loss, axes, false);
  if (reduction == "sum") return total;
  return b.div(total, b.reduce("reduce_sum", b.broadcast(weights, b.dims(loss)), axes, false));
}

void negative_log_likelihood_loss(NodeImport& n) { n.set(likelihood_loss(n, n.in(0), n.in(1), n.in_or(2))); }

/// Outputs: the loss, log probabilities.
void softmax_cross_entropy_loss(NodeImport& n) {
  Builder& b = n.b;
  const ValueId scores = n.in(0);
  n.require(b.rank(scores) >= 2, "scores are {}; need [batch, classes, positions…]", str(b.type(scores)));
  const ValueId shifted = b.sub(scores, b.reduce("reduce_max", scores, {1}));
  const ValueId log_probabilities = b.sub(shifted, b.log(b.reduce("reduce_sum", b.exp(shifted), {1})));
  n.set(0, likelihood_loss(n, log_probabilities, n.in(1), n.in_or(2)));
  if (n.wants(1)) n.set(1, log_probabilities);
}

constexpr OperatorEntry entries[] = {
    {"", "NegativeLogLikelihoodLoss", 12, negative_log_likelihood_loss},
    {"", "SoftmaxCrossEntropyLoss", 12, softmax_cross_entropy_loss},
};

}  // namespace

std::span<const OperatorEntry> loss_operators() { return entries; }

}  // namespace tilewright::onnx
