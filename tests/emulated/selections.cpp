// Running sums, and results whose order or size depends on data.

#include "families.h"

namespace tilewright::emulated {
namespace {

void cumulate(Draft& d, DType dtype) {
  const bool product = d.chance();
  // Every other time one is long enough for all threads of a block.
  const Dims dims =
      d.chance() ? Dims{d.size({0, 1, 3}), d.size({1, 2, 17, 33}), d.size({1, 5, 64, 129})} : Dims{d.size({1, 2}), d.size({257, 700}), d.size({1, 3})};
  const ValueId x = product ? d.input(dtype, dims, 0.875, 1.125) : d.input(dtype, dims);
  d.output(d.build.one(
      "cumulate", {x},
      {{"axis", static_cast<int64_t>(d.choose(3))}, {"product", int64_t{product}}, {"exclusive", int64_t{d.chance()}}, {"reverse", int64_t{d.chance()}}}));
}

/// The largest or smallest k, all of them for a sort; values repeat.
void top_k(Draft& d, DType dtype) {
  const size_t axis = d.choose(3);
  const Dims dims = {d.size({1, 2, 5}), d.size({1, 3, 16}), d.size({1, 2, 31, 65})};
  const Dim k = d.chance() ? dims[axis] : Dim(1);
  for (const ValueId result :
       d.build.node("top_k", {d.input(dtype, dims)}, {{"axis", static_cast<int64_t>(axis)}, {"k", Dims{k}}, {"largest", int64_t{d.chance()}}}, 2))
    d.output(result);
}

/// The first `count` (an i64 scalar) along `axis`, which is all that such a result has.
ValueId used(Builder& b, ValueId bounded, ValueId count, int axis) { return b.slice(bounded, axis, 0, b.sizes_of(count).at(0)); }

void nonzero(Draft& d, DType dtype) {
  Builder& b = d.build;
  const ValueId x = d.integers(dtype, {d.size({0, 1, 3}), d.size({1, 2, 33})}, 0, 1);
  const auto results = b.node("nonzero", {x}, {}, 2);
  d.output(used(b, results[0], results[1], 1));
}

void unique(Draft& d, DType dtype) {
  Builder& b = d.build;
  const auto results = b.node("unique", {d.integers(dtype, {d.size({1, 2, 37, 65})}, 0, 12)}, {}, 5);
  d.output(used(b, results[0], results[4], 0));
  d.output(results[2]);
  d.output(used(b, results[3], results[4], 0));
}

void compress(Draft& d, DType dtype) {
  Builder& b = d.build;
  const auto results = b.node("compress_positions", {d.integers(dtype, {d.size({0, 1, 2, 67})}, 0, 1)}, {}, 2);
  d.output(used(b, results[0], results[1], 0));
}

void suppression(Draft& d, DType dtype) {
  Builder& b = d.build;
  const Dim batch = d.size({1, 2}), boxes = d.size({1, 2, 13});
  const ValueId corners = d.input(dtype, {batch, boxes, 2}), extents = d.input(dtype, {batch, boxes, 2}, 0.5, 2);
  const ValueId scores = d.input(dtype, {batch, d.size({1, 3}), boxes}, 0, 2);
  const auto results = b.node(
      "non_max_suppression",
      {b.concat({corners, b.add(corners, extents)}, 2), scores, b.scalar(DType::i64, 3), b.scalar(DType::f32, 0.375), b.scalar(DType::f32, 0.25)}, {}, 2);
  d.output(used(b, results[0], results[1], 0));
}

const std::vector<DType> numbers = {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64, DType::i32, DType::i8, DType::u8};

}  // namespace

std::span<const Family> selection_families() {
  static const Family table[] = {{"cumulate", numbers, cumulate},
                                 {"top_k", numbers, top_k},
                                 {"nonzero", {DType::f32, DType::i64, DType::u8, DType::boolean}, nonzero},
                                 {"unique", {DType::f32, DType::i64, DType::i32, DType::i8, DType::u8}, unique},
                                 {"compress", {DType::boolean}, compress},
                                 {"suppression", {DType::f32}, suppression}};
  return table;
}

std::vector<Family> families() {
  std::vector<Family> all;
  for (const auto part : {product_families(), attention_families(), row_families(), point_families(), selection_families()})
    all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace tilewright::emulated
