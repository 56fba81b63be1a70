#include <gtest/gtest.h>

#include "pattern/testing.h"

namespace tilewright::pattern {
namespace {

const double nan = std::nan("");
using Ints = std::vector<int64_t>;

Tensor prefix(const Tensor& t, int64_t count) {
  Tensor result(t.dtype(), {count});
  for (int64_t i = 0; i < count; ++i) is_float(t.dtype()) ? result.set_float(i, t.float_at(i)) : result.set_int(i, t.int_at(i));
  return result;
}

TEST(InterpretNonzero, ColumnsAreCoordinatesInRowMajorOrder) {
  Example e;
  Select s;
  s.inputs = {e.input(floats({2, 3}, {0, 1, 0, -2, 0, nan}))};
  s.outputs = {e.output({DType::i64, {2, 6}})};
  s.count = e.output({DType::i64, {}});
  e.add(s);
  const auto out = e.run();
  EXPECT_EQ(out[1].ints(), Ints{3});
  EXPECT_EQ(out[0].ints(), (Ints{0, 1, 1, 0, 0, 0, 1, 0, 2, 0, 0, 0}));  // rows, then columns; each padded to 6
}

std::vector<Tensor> top_k(const Tensor& x, int64_t axis, int64_t k, bool largest) {
  Example e;
  Select s;
  s.kind = Select::Kind::top_k;
  s.source = "top";
  s.inputs = {e.input(x)};
  Type values = Example::type_of(x);
  values.dims[static_cast<size_t>(axis)] = k;
  s.outputs = {e.output(values), e.output({DType::i64, values.dims})};
  s.ints = {axis, largest, 1};
  e.add(s);
  return e.run();
}

TEST(InterpretTopK, TiesTakeTheLowerIndexFirst) {
  const auto largest = top_k(floats({5}, {3, 7, 7, 1, 3}), 0, 4, true);
  EXPECT_EQ(reals_of(largest[0]), (std::vector<double>{7, 7, 3, 3}));
  EXPECT_EQ(largest[1].ints(), (Ints{1, 2, 0, 4}));
  EXPECT_EQ(top_k(floats({5}, {3, 7, 7, 1, 3}), 0, 4, false)[1].ints(), (Ints{3, 0, 4, 1}));
}

TEST(InterpretTopK, NaNIsTheLargest) {
  EXPECT_EQ(top_k(floats({4}, {1, nan, 9, nan}), 0, 3, true)[1].ints(), (Ints{1, 3, 2}));
  EXPECT_EQ(top_k(floats({4}, {1, nan, 9, nan}), 0, 3, false)[1].ints(), (Ints{0, 2, 1}));
}

TEST(InterpretTopK, WorksAlongAnInnerAxisAndOnUnsignedIntegers) {
  const auto out = top_k(integers(DType::u64, {3, 2}, {1, 5, -1, 6, 2, 7}), 0, 2, true);  // -1: 2^64-1
  EXPECT_EQ(out[0].ints(), (Ints{-1, 7, 2, 6}));
  EXPECT_EQ(out[1].ints(), (Ints{1, 2, 2, 1}));
}

TEST(InterpretTopK, MoreThanThereAreIsRefused) {
  try {
    top_k(floats({2}, {1, 2}), 0, 3, true);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_input);
    EXPECT_EQ(std::string(error.what()), "top: the 3 largest or smallest are wanted of 2 elements");
  }
}

std::vector<Tensor> unique(const Tensor& x, int64_t axis, bool sorted, const Dims& values) {
  Example e;
  Select s;
  s.kind = Select::Kind::unique;
  s.inputs = {e.input(x)};
  const Dim bound = axis == -1000 ? Dim(x.element_count()) : Dim(x.dims()[static_cast<size_t>(axis)]);
  s.outputs = {e.output({x.dtype(), values}), e.output({DType::i64, {bound}}), e.output({DType::i64, {bound}}), e.output({DType::i64, {bound}})};
  s.count = e.output({DType::i64, {}});
  s.ints = {axis, sorted};
  e.add(s);
  return e.run();
}

TEST(InterpretUnique, SortedAscendingOrInOrderOfFirstSight) {
  const Tensor x = integers(DType::i64, {6}, {2, 1, 1, 3, 4, 3});
  auto out = unique(x, -1000, true, {6});
  EXPECT_EQ(out[4].ints(), Ints{4});
  EXPECT_EQ(prefix(out[0], 4).ints(), (Ints{1, 2, 3, 4}));
  EXPECT_EQ(prefix(out[1], 4).ints(), (Ints{1, 0, 3, 4}));
  EXPECT_EQ(out[2].ints(), (Ints{1, 0, 0, 2, 3, 2}));
  EXPECT_EQ(prefix(out[3], 4).ints(), (Ints{2, 1, 2, 1}));
  out = unique(x, -1000, false, {6});
  EXPECT_EQ(prefix(out[0], 4).ints(), (Ints{2, 1, 3, 4}));
  EXPECT_EQ(prefix(out[1], 4).ints(), (Ints{0, 1, 3, 4}));
  EXPECT_EQ(out[2].ints(), (Ints{0, 1, 1, 2, 3, 2}));
  EXPECT_EQ(prefix(out[3], 4).ints(), (Ints{1, 2, 2, 1}));
}

TEST(InterpretUnique, ComparesWholeSlicesAlongAnAxis) {
  const auto out = unique(integers(DType::i64, {3, 2}, {1, 0, 0, 9, 1, 0}), 0, true, {3, 2});
  EXPECT_EQ(out[4].ints(), Ints{2});
  EXPECT_EQ(prefix(out[0].reshaped({6}), 4).ints(), (Ints{0, 9, 1, 0}));
  EXPECT_EQ(prefix(out[1], 2).ints(), (Ints{1, 0}));
  EXPECT_EQ(out[2].ints(), (Ints{1, 0, 1}));
  EXPECT_EQ(prefix(out[3], 2).ints(), (Ints{1, 2}));
}

TEST(InterpretCompress, GivesThePositionsThatAreTrue) {
  Example e;
  Select s;
  s.kind = Select::Kind::compress;
  s.inputs = {e.input(integers(DType::boolean, {4}, {0, 1, 0, 1}))};
  s.outputs = {e.output({DType::i64, {4}})};
  s.count = e.output({DType::i64, {}});
  e.add(s);
  const auto out = e.run();
  EXPECT_EQ(out[1].ints(), Ints{2});
  EXPECT_EQ(prefix(out[0], 2).ints(), (Ints{1, 3}));
}

Ints suppress(const Tensor& boxes, const Tensor& scores, int64_t limit, double iou, double score, bool center = false) {
  Example e;
  Select s;
  s.kind = Select::Kind::nms;
  s.inputs = {e.input(boxes), e.input(scores), e.input(integers(DType::i64, {}, {limit})), e.input(floats({}, {iou})), e.input(floats({}, {score}))};
  const int64_t bound = scores.element_count();
  s.outputs = {e.output({DType::i64, {bound, 3}})};
  s.count = e.output({DType::i64, {}});
  s.ints = {center};
  e.add(s);
  const auto out = e.run();
  return prefix(out[0].reshaped({bound * 3}), out[1].int_at(0) * 3).ints();
}

TEST(InterpretNms, SuppressesOverlapAndOrdersByScore) {
  // Boxes 0 and 1 overlap by 0.9/1.1 = 0.818; box 2 is far away.
  const Tensor boxes = floats({1, 3, 4}, {0, 0, 1, 1, 0, 0.1, 1, 1.1, 10, 10, 11, 11}), scores = floats({1, 1, 3}, {0.5, 0.75, 0.6});
  EXPECT_EQ(suppress(boxes, scores, 10, 0.5, 0), (Ints{0, 0, 1, 0, 0, 2}));
  EXPECT_EQ(suppress(boxes, scores, 10, 0.9, 0), (Ints{0, 0, 1, 0, 0, 2, 0, 0, 0}));
  EXPECT_EQ(suppress(boxes, scores, 1, 0.9, 0), (Ints{0, 0, 1}));
  EXPECT_EQ(suppress(boxes, scores, 0, 0.9, 0), Ints{});
}

TEST(InterpretNms, ScoresMustBeAboveTheThresholdAndOverlapAboveItsOwn) {
  // Exactly half of the joined area overlaps: 0.5 does not suppress, anything below does.
  const Tensor boxes = floats({1, 2, 4}, {0, 0, 1, 2, 0, 0, 1, 1}), scores = floats({1, 1, 2}, {0.75, 0.5});
  EXPECT_EQ(suppress(boxes, scores, 10, 0.5, 0), (Ints{0, 0, 0, 0, 0, 1}));
  EXPECT_EQ(suppress(boxes, scores, 10, 0.49, 0), (Ints{0, 0, 0}));
  EXPECT_EQ(suppress(boxes, scores, 10, 0.5, 0.5), (Ints{0, 0, 0}));
}

TEST(InterpretNms, ClassesAndBatchesAreSeparateAndCornersMayBeSwapped) {
  const Tensor boxes = floats({2, 1, 4}, {1, 1, 0, 0, 0, 0, 1, 1}), scores = floats({2, 2, 1}, {0.1, 0.9, 0.8, 0.2});
  EXPECT_EQ(suppress(boxes, scores, 10, 0.5, 0), (Ints{0, 0, 0, 0, 1, 0, 1, 0, 0, 1, 1, 0}));
}

TEST(InterpretNms, CenterFormatHoldsCentersAndSizes) {
  // [x center, y center, width, height]: the second box covers 2/3 of the union.
  const Tensor boxes = floats({1, 2, 4}, {1, 1, 2, 3, 1, 1, 2, 2}), scores = floats({1, 1, 2}, {0.9, 0.8});
  EXPECT_EQ(suppress(boxes, scores, 10, 0.6, 0, true), (Ints{0, 0, 0}));
  EXPECT_EQ(suppress(boxes, scores, 10, 0.7, 0, true), (Ints{0, 0, 0, 0, 0, 1}));
}

}  // namespace
}  // namespace tilewright::pattern
