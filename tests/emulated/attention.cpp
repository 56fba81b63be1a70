// Attention as exporters write it: products, masks, softmax, heads split and joined.

#include <cmath>
#include <limits>

#include "families.h"

namespace tilewright::emulated {
namespace {

/// [batch, length, heads · head] as [batch, heads, length, head]. Now and then the result of a product, which lies where we want it.
ValueId heads_of(Draft& d, DType dtype, const Dim& batch, const Dim& length, const Dim& heads, int64_t head) {
  Builder& b = d.build;
  ValueId x = -1;
  if (d.chance()) {
    constexpr int64_t width = 4;
    const ValueId wide = d.input(dtype, {batch, length, width}, -0.5, 0.5);
    x = b.matmul(wide, d.weights(dtype, {width, heads.constant() * head}));
  } else {
    x = d.input(dtype, {batch, length, heads * Dim(head)}, -1, 1);
  }
  return b.transpose(b.reshape(x, {batch, length, heads, head}), {0, 2, 1, 3});
}

ValueId masked(Draft& d, DType dtype, ValueId scores) {
  Builder& b = d.build;
  const Dims dims = b.dims(scores), plane = {1, 1, dims[2], dims[3]};
  const ValueId lowest = b.scalar(dtype, -std::numeric_limits<double>::infinity());
  switch (d.choose(5)) {
    case 0: return b.where(b.less_equal(b.iota(DType::i64, plane, 3), b.iota(DType::i64, plane, 2)), scores, lowest);  // causal
    case 1: return b.where(d.input(DType::boolean, {dims[0], 1, dims[2], dims[3]}), scores, lowest);
    case 2: return b.add(scores, d.input(dtype, {dims[0], 1, 1, dims[3]}));
    default: return scores;
  }
}

void attend(Draft& d, DType dtype, const Dim& rows, const Dim& keys) {
  Builder& b = d.build;
  const int64_t key_heads = d.one_of<int64_t>({1, 2}), heads = key_heads * d.one_of<int64_t>({1, 1, 2});
  const int64_t head = d.one_of<int64_t>({8, 16, 17, 40, 64}), value_head = d.one_of<int64_t>({head, 8, 24, 33});
  const Dim batch = d.size({1, 2});
  const ValueId q = heads_of(d, dtype, batch, rows, heads, head);
  ValueId k = d.chance() ? b.transpose(heads_of(d, dtype, batch, keys, key_heads, head), {0, 1, 3, 2}) : d.input(dtype, {batch, key_heads, head, keys}, -1, 1);
  ValueId v = heads_of(d, dtype, batch, keys, key_heads, value_head);
  const auto repeated = [&](ValueId x) {
    const Dims dims = b.dims(x);
    return b.reshape(b.broadcast(b.unsqueeze(x, {2}), {dims[0], dims[1], heads / key_heads, dims[2], dims[3]}), {dims[0], heads, dims[2], dims[3]});
  };
  if (heads != key_heads) k = repeated(k), v = repeated(v);
  ValueId scores = masked(d, dtype, b.mul(b.matmul(q, k), 1 / std::sqrt(static_cast<double>(head))));
  ValueId weights = b.softmax(scores, 3);
  if (d.chance()) weights = b.where(b.unary("is_nan", weights), b.scalar(dtype, 0), weights);
  const ValueId y = b.matmul(weights, v);
  d.output(b.reshape(b.transpose(y, {0, 2, 1, 3}), {batch, rows, Dim(value_head) * Dim(heads)}));
}

void attention(Draft& d, DType dtype) {
  const Dim rows = d.size({1, 3, 5, 16, 63, 65});
  attend(d, dtype, rows, d.size({16, 17, 31, 64, 65, 130}));
}

/// A query against many keys: several blocks share them.
void decoding(Draft& d, DType dtype) {
  const Dim rows = d.chance() ? Dim(1) : d.size({1, 2, 4});
  attend(d, dtype, rows, d.size({100, 257, 520, 700}));
}

const std::vector<DType> floats = {DType::f32, DType::f16, DType::bf16};

}  // namespace

std::span<const Family> attention_families() {
  static const Family table[] = {{"attention", floats, attention}, {"decoding", floats, decoding}};
  return table;
}

}  // namespace tilewright::emulated
