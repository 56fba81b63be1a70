#include "target/source/attention_shape.h"

#include <algorithm>

namespace tilewright::source {
namespace {

using schedule::affine_in;

/// Longer keys and values would crowd the caches.
constexpr int64_t head_limit = 512;

std::optional<Dim> slope_of(const Dim& e, const Loop& loop) {
  const auto affine = affine_in(e, loop.symbol);
  return affine ? std::optional(affine->slope) : std::nullopt;
}

/// Arranges the loops so that element `of_scores` is (batch · rows + row) · keys + key, in joint indices: rows are the innermost loop that
/// only the left factor has, all others are batch. False where the scores do not lie so.
bool align(ContractShape& shape, const LoopGroup& keys, const Dim& of_scores) {
  const auto by_key = even_over(of_scores, keys);
  if (!by_key || !(by_key->slope == Dim(1))) return false;
  // Outer loops have the larger slopes: where one's slope is what another steps over as a whole, it is outside of that.
  const auto outside = [&](const Loop& a, const Loop& b) {
    const auto of_a = slope_of(by_key->at_zero, a), of_b = slope_of(by_key->at_zero, b);
    return of_a && of_b && !(*of_a == *of_b) && proven_nonnegative(*of_a - *of_b);
  };
  LoopGroup rows = shape.m, batch = shape.batch;
  if (!rows.loops.empty()) {
    auto inner = rows.loops.begin();
    for (auto loop = rows.loops.begin(); loop != rows.loops.end(); ++loop)
      if (outside(*inner, *loop)) inner = loop;
    std::rotate(rows.loops.begin(), inner, inner + 1);
    batch.loops.insert(batch.loops.end(), rows.loops.begin() + 1, rows.loops.end());
    rows.loops.resize(1);
  }
  std::stable_sort(batch.loops.begin(), batch.loops.end(), outside);
  const auto by_row = even_over(by_key->at_zero, rows);
  if (!by_row || (!rows.loops.empty() && !(by_row->slope == keys.extent()))) return false;
  const auto by_batch = even_over(by_row->at_zero, batch);
  if (!by_batch || (!batch.loops.empty() && !(by_batch->slope == rows.extent() * keys.extent())) || !(by_batch->at_zero == Dim(0))) return false;
  shape.m = rows;
  shape.batch = batch;
  for (const LoopGroup* group : {&shape.batch, &shape.m, &shape.n, &shape.k}) shape.nest.bounds.of[group->symbol] = {Dim(0), group->extent() - 1};
  return true;
}

void swap_factors(ContractShape& shape) {
  std::swap(shape.left, shape.right);
  std::swap(shape.m.loops, shape.n.loops);
}

bool is_small_float(DType dtype) { return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16; }

/// Where a factor lies, when it is a tensor of floats.
std::optional<DenseShape> find_floats(const ContractShape& shape, const Factor& factor, const LoopGroup& outer) {
  if (!factor.direct || factor.zero >= 0 || !is_small_float(shape.nest.loads[static_cast<size_t>(factor.access)].dtype)) return std::nullopt;
  return find_dense(shape, factor, outer);
}

}  // namespace

std::optional<AttentionShape> find_attention_shape(const std::vector<const pattern::Nest*>& stages, const pattern::Program& program) {
  for (size_t i = 0; i + 1 < stages.size(); ++i)
    if (!is_small_float(program.tensor(stages[i]->outputs.at(0).tensor).type.dtype)) return std::nullopt;
  const std::optional<ContractShape> scores = find_product(*stages.front(), program), values = find_product(*stages.back(), program);
  if (!scores || !values || scores->sum != DType::f32 || values->sum != DType::f32) return std::nullopt;
  AttentionShape shape{*scores, *values, {}, {}, {}};

  const Dim& of_scores = scores->nest.stores[0].offset;
  if (!align(shape.scores, shape.scores.n, of_scores)) {
    swap_factors(shape.scores);
    if (!align(shape.scores, shape.scores.n, of_scores)) return std::nullopt;
  }

  const TensorId probabilities = stages[stages.size() - 2]->outputs[0].tensor;
  const auto reads = [&](const Factor& factor) { return factor.direct && values->nest.loads[static_cast<size_t>(factor.access)].tensor == probabilities; };
  if (reads(shape.values.right)) swap_factors(shape.values);
  if (!reads(shape.values.left) || reads(shape.values.right)) return std::nullopt;
  if (!align(shape.values, shape.values.k, values->nest.loads[static_cast<size_t>(shape.values.left.access)].offset)) return std::nullopt;
  if (std::count_if(stages.back()->accesses.begin(), stages.back()->accesses.end(), [&](const auto& access) { return access.tensor == probabilities; }) > 1)
    return std::nullopt;

  if (!(shape.scores.batch.extent() == shape.values.batch.extent()) || !(shape.scores.m.extent() == shape.values.m.extent()) ||
      !(shape.scores.n.extent() == shape.values.k.extent()))
    return std::nullopt;
  const auto query = find_floats(shape.scores, shape.scores.left, shape.scores.m), key = find_floats(shape.scores, shape.scores.right, shape.scores.n),
             value = find_floats(shape.values, shape.values.right, shape.values.n);
  const auto head = shape.scores.k.extent().as_constant(), value_head = shape.values.n.extent().as_constant();
  if (!query || !key || !value || !head || !value_head || *head < 1 || *head > head_limit || *value_head < 1 || *value_head > head_limit) return std::nullopt;
  shape.query = *query;
  shape.key = *key;
  shape.value = *value;
  shape.head = *head;
  shape.value_head = *value_head;
  return shape;
}

}  // namespace tilewright::source
