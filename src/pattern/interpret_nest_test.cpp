#include <gtest/gtest.h>

#include "pattern/testing.h"

namespace tilewright::pattern {
namespace {

const double nan = std::nan(""), infinity = HUGE_VAL;

Dim n() { return Dim::symbol("N"); }

std::vector<double> run_one(Example& e) { return reals_of(e.run()[0]); }

TEST(InterpretMap, BroadcastsAndBindsNamedSizes) {
  Example e;
  const TensorId x = e.input({DType::f32, {n(), 2}}, floats({3, 2}, {1, 2, 3, 4, 5, 6}));
  const TensorId b = e.input(floats({2}, {10, 20}));
  const TensorId y = e.output({DType::f32, {n(), 2}});
  NestBuilder nest({n(), 2});
  nest.store(y, nest.load_broadcast(x, e.program.tensor(x).type) + nest.load_broadcast(b, e.program.tensor(b).type));
  e.add(nest.finish("add"));
  const Tensor result = e.run()[0];
  EXPECT_EQ(result.dims(), (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(reals_of(result), (std::vector<double>{11, 22, 13, 24, 15, 26}));
}

TEST(InterpretMap, NamesTheInputWhoseDimsDisagree) {
  Example e;
  const TensorId a = e.input({DType::f32, {n()}}, floats({3}, {1, 2, 3}));
  e.input({DType::f32, {n()}}, floats({2}, {1, 2}));
  const TensorId y = e.output({DType::f32, {n()}});
  NestBuilder nest({n()});
  nest.store(y, nest.load_broadcast(a, e.program.tensor(a).type));
  e.add(nest.finish("copy"));
  EXPECT_EQ(error_of(e, ErrorKind::invalid_input), "input 'in1' is f32[2]; the model wants f32[N]");
}

TEST(InterpretMap, EachOperationIsRoundedToFloat32) {
  const float a = 16777216, b = 1;  // a + b is no float32
  Example e;
  const TensorId x = e.input(floats({1}, {a})), y = e.output({DType::f32, {1}});
  NestBuilder nest({1});
  nest.store(y, nest.load_at(x, e.program.tensor(x).type, {nest.index(0)}) + b - a);
  e.add(nest.finish("cancel"));
  EXPECT_EQ(run_one(e), std::vector<double>{0});
  InterpreterOptions wide;
  wide.arithmetic = InterpreterOptions::Arithmetic::float64;
  const Tensor result = e.run(wide)[0];
  EXPECT_EQ(result.dtype(), DType::f64);
  EXPECT_EQ(reals_of(result), std::vector<double>{1});
}

TEST(InterpretMap, PaddingReadsTheFill) {
  Example e;
  const TensorId x = e.input(floats({2}, {1, 2})), y = e.output({DType::f32, {5}});
  NestBuilder nest({5});
  nest.store(y, nest.load(x, DType::f32, Map::identity({Dim(2)}).padded(0, 1, 2), {}, nest.constant(DType::f32, 9)));
  e.add(nest.finish("pad"));
  EXPECT_EQ(run_one(e), (std::vector<double>{9, 1, 2, 9, 9}));
}

TEST(InterpretMap, IndirectCoordinatesAreClampedWithoutAFillAndReplacedWithOne) {
  for (const bool filled : {false, true}) {
    Example e;
    const TensorId x = e.input(floats({3}, {10, 20, 30})), i = e.input(integers(DType::i64, {4}, {-5, 2, 0, 7}));
    const TensorId y = e.output({DType::f32, {4}});
    NestBuilder nest({4});
    const Expr at = nest.load_at(i, e.program.tensor(i).type, {nest.index(0)});
    nest.store(y, nest.load_at(x, e.program.tensor(x).type, {at}, filled ? std::optional(nest.constant(DType::f32, -1)) : std::nullopt));
    e.add(nest.finish("gather"));
    EXPECT_EQ(run_one(e), filled ? (std::vector<double>{-1, 30, 10, -1}) : (std::vector<double>{10, 30, 10, 30}));
  }
}

TEST(InterpretMap, IndirectCoordinatesOfAViewStayInsideTheView) {
  // Gathers from x[1:3]: index 5 is clamped to the view's last element, not to x's.
  Example e;
  const TensorId x = e.input(floats({5}, {0, 10, 20, 30, 40})), i = e.input(integers(DType::i64, {2}, {5, -1}));
  const TensorId y = e.output({DType::f32, {2}});
  NestBuilder nest({2});
  const Expr at = nest.load_at(i, e.program.tensor(i).type, {nest.index(0)});
  nest.store(y, nest.load(x, DType::f32, Map::identity({Dim(5)}).sliced(0, 1, 1, 2).inserted(0, 2), {at}));
  e.add(nest.finish("gather"));
  EXPECT_EQ(run_one(e), (std::vector<double>{20, 10}));
}

TEST(InterpretMap, GatheringFromAnEmptyTensorReadsZeros) {
  Example e;
  const TensorId x = e.input(floats({0}, {})), i = e.input(integers(DType::i64, {2}, {0, 1})), y = e.output({DType::f32, {2}});
  NestBuilder nest({2});
  const Expr at = nest.load_at(i, e.program.tensor(i).type, {nest.index(0)});
  nest.store(y, nest.load_at(x, e.program.tensor(x).type, {at}) + 1);
  e.add(nest.finish("gather"));
  EXPECT_EQ(run_one(e), (std::vector<double>{1, 1}));
}

TEST(InterpretMap, AReadOutsideTheTensorIsAnInternalError) {
  Example e;
  const TensorId x = e.input(floats({2}, {1, 2})), y = e.output({DType::f32, {3}});
  NestBuilder nest({3});
  nest.store(y, nest.load(x, DType::f32, Map::identity({Dim(3)})));
  e.add(nest.finish("broken"));
  EXPECT_NE(error_of(e, ErrorKind::internal).find("broken: coordinate 2 lies outside [0,2)"), std::string::npos);
}

TEST(InterpretMap, OutputsMayBeSlicesOfOneTensor) {
  Example e;
  const TensorId a = e.input(floats({2}, {1, 2})), b = e.input(floats({1}, {7})), y = e.output({DType::f32, {3}});
  for (const auto& [source, start, count] : {std::tuple(a, 0, 2), std::tuple(b, 2, 1)}) {
    NestBuilder nest({count});
    nest.store(y, Map::identity({Dim(3)}).sliced(0, start, 1, count), nest.load_broadcast(source, e.program.tensor(source).type));
    e.add(nest.finish("concat"));
  }
  EXPECT_EQ(run_one(e), (std::vector<double>{1, 2, 7}));
}

TEST(InterpretMap, DividingMapsWorkAcrossBlocks) {
  // A reshape and transpose of more points than one block holds, against plain loops.
  Example e;
  const int64_t a = 7, b = 31, c = 11;
  const Tensor x = random_floats({a * b * c}, 1);
  const TensorId in = e.input(x), y = e.output({DType::f32, {c * a, b}});
  NestBuilder nest({c * a, b});
  nest.store(
      y, nest.load(in, DType::f32, Map::identity({Dim(a * b * c)}).reshaped({Dim(a), Dim(b), Dim(c)}).transposed({2, 0, 1}).reshaped({Dim(c * a), Dim(b)})));
  e.add(nest.finish("shuffle"));
  const Tensor result = e.run()[0];
  for (int64_t k = 0; k < c; ++k)
    for (int64_t i = 0; i < a; ++i)
      for (int64_t j = 0; j < b; ++j) ASSERT_EQ(result.float_at((k * a + i) * b + j), x.float_at((i * b + j) * c + k));
}

/// Reduces a [rows, columns] tensor along its columns.
Tensor reduce_rows(ReduceOp op, const Tensor& x) {
  Example e;
  const TensorId in = e.input(x);
  const DType result = op >= ReduceOp::arg_min ? DType::i64 : x.dtype();
  const TensorId y = e.output({result, {x.dims()[0]}});
  NestBuilder nest({x.dims()[0], x.dims()[1]}, 1);
  nest.store(y, nest.reduce(op, nest.load(in, x.dtype(), Map::identity({Dim(x.dims()[0]), Dim(x.dims()[1])})), x.dtype()));
  e.add(nest.finish("reduce"));
  return e.run()[0];
}

TEST(InterpretReduce, SumsProductsAndExtremes) {
  const Tensor x = floats({2, 3}, {1, -2, 4, 0.5, 8, 3});
  EXPECT_EQ(reals_of(reduce_rows(ReduceOp::sum, x)), (std::vector<double>{3, 11.5}));
  EXPECT_EQ(reals_of(reduce_rows(ReduceOp::product, x)), (std::vector<double>{-8, 12}));
  EXPECT_EQ(reals_of(reduce_rows(ReduceOp::min, x)), (std::vector<double>{-2, 0.5}));
  EXPECT_EQ(reals_of(reduce_rows(ReduceOp::max, x)), (std::vector<double>{4, 8}));
}

TEST(InterpretReduce, EmptyRangesGiveTheNeutralElement) {
  const Tensor x = floats({1, 0}, {});
  EXPECT_EQ(reals_of(reduce_rows(ReduceOp::sum, x)), std::vector<double>{0});
  EXPECT_EQ(reals_of(reduce_rows(ReduceOp::product, x)), std::vector<double>{1});
  EXPECT_EQ(reals_of(reduce_rows(ReduceOp::min, x)), std::vector<double>{infinity});
  EXPECT_EQ(reals_of(reduce_rows(ReduceOp::max, x)), std::vector<double>{-infinity});
  EXPECT_EQ(reduce_rows(ReduceOp::min, integers(DType::i8, {1, 0}, {})).ints(), std::vector<int64_t>{127});
  EXPECT_EQ(reduce_rows(ReduceOp::max, integers(DType::i32, {1, 0}, {})).ints(), std::vector<int64_t>{-2147483648});
  EXPECT_EQ(reduce_rows(ReduceOp::max, integers(DType::boolean, {1, 0}, {})).ints(), std::vector<int64_t>{0});
  EXPECT_EQ(reduce_rows(ReduceOp::min, integers(DType::u64, {1, 0}, {})).ints(), std::vector<int64_t>{-1});
}

TEST(InterpretReduce, PositionsOfExtremesBreakTiesAsAsked) {
  const Tensor x = floats({2, 4}, {3, 5, 5, 3, 1, 1, 2, 2});
  EXPECT_EQ(reduce_rows(ReduceOp::arg_max, x).ints(), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(reduce_rows(ReduceOp::arg_max_last, x).ints(), (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(reduce_rows(ReduceOp::arg_min, x).ints(), (std::vector<int64_t>{0, 0}));
  EXPECT_EQ(reduce_rows(ReduceOp::arg_min_last, x).ints(), (std::vector<int64_t>{3, 1}));
}

TEST(InterpretReduce, NaNIsKeptByExtremesAndFoundByPositions) {
  const Tensor x = floats({1, 4}, {1, nan, 3, nan});
  EXPECT_TRUE(std::isnan(reduce_rows(ReduceOp::max, x).float_at(0)));
  EXPECT_TRUE(std::isnan(reduce_rows(ReduceOp::min, x).float_at(0)));
  EXPECT_EQ(reduce_rows(ReduceOp::arg_max, x).ints(), std::vector<int64_t>{1});
  EXPECT_EQ(reduce_rows(ReduceOp::arg_min_last, x).ints(), std::vector<int64_t>{3});
}

TEST(InterpretReduce, IntegersWrapToTheAccumulator) {
  EXPECT_EQ(reduce_rows(ReduceOp::sum, integers(DType::i8, {1, 3}, {100, 100, 100})).ints(), std::vector<int64_t>{44});
  EXPECT_EQ(reduce_rows(ReduceOp::product, integers(DType::u8, {1, 2}, {20, 20})).ints(), std::vector<int64_t>{144});
}

TEST(InterpretReduce, Float32SumsAccumulateInFloat64AndRoundOnce) {
  // In float32 the ones would vanish one after the other.
  EXPECT_EQ(reals_of(reduce_rows(ReduceOp::sum, floats({1, 5}, {16777216, 1, 1, 1, 1}))), std::vector<double>{16777220});
}

TEST(InterpretReduce, RowsLongerThanABlockAndSeveralReductionsAtOnce) {
  Example e;
  const int64_t rows = 5, length = 1300;
  const Tensor x = random_floats({rows, length}, 2);
  const TensorId in = e.input(x), low = e.output({DType::f32, {rows}}), where = e.output({DType::i64, {rows}}), spread = e.output({DType::f32, {rows}});
  NestBuilder nest({rows, length}, 1);
  const Expr v = nest.load(in, DType::f32, Map::identity({Dim(rows), Dim(length)}));
  const Expr smallest = nest.reduce(ReduceOp::min, v, DType::f32), largest = nest.reduce(ReduceOp::max, v, DType::f32);
  nest.store(low, smallest);
  nest.store(where, nest.reduce(ReduceOp::arg_min, v, DType::i64));
  nest.store(spread, largest - smallest);
  e.add(nest.finish("extremes"));
  const auto results = e.run();
  for (int64_t r = 0; r < rows; ++r) {
    int64_t at = 0;
    double highest = x.float_at(r * length);
    for (int64_t i = 0; i < length; ++i) {
      if (x.float_at(r * length + i) < x.float_at(r * length + at)) at = i;
      highest = std::max(highest, x.float_at(r * length + i));
    }
    EXPECT_EQ(results[0].float_at(r), x.float_at(r * length + at));
    EXPECT_EQ(results[1].int_at(r), at);
    EXPECT_EQ(results[2].float_at(r), static_cast<float>(highest - x.float_at(r * length + at)));
  }
}

TEST(InterpretLimits, HugeTensorsAndSpacesAreRefused) {
  Example e;
  const Tensor x = floats({2}, {1, 2});
  const TensorId in = e.input(x), y = e.output({DType::f32, {int64_t{1} << 40}});
  NestBuilder nest({int64_t{1} << 40});
  nest.store(y, nest.load(in, DType::f32, Map::identity({Dim(2)}).frozen(0, 1).inserted(0, int64_t{1} << 40)));
  e.add(nest.finish("repeat"));
  EXPECT_NE(error_of(e, ErrorKind::invalid_input).find("more elements than the interpreter's limit of 2147483648"), std::string::npos);

  Example sum;
  const TensorId from = sum.input(x), total = sum.output({DType::f32, {}});
  NestBuilder reduce({int64_t{1} << 50}, 1);
  reduce.store(total,
               reduce.reduce(ReduceOp::max, reduce.load(from, DType::f32, Map::identity({Dim(2)}).frozen(0, 1).inserted(0, int64_t{1} << 50)), DType::f32));
  sum.add(reduce.finish("long"));
  EXPECT_NE(error_of(sum, ErrorKind::invalid_input).find("long: more work than the interpreter's limit"), std::string::npos);

  InterpreterOptions small;
  small.byte_limit = 8 * 3;
  Example copy;
  const TensorId a = copy.input(x), b = copy.output({DType::f32, {2}});
  NestBuilder same({2});
  same.store(b, same.load(a, DType::f32, Map::identity({Dim(2)})));
  copy.add(same.finish("copy"));
  EXPECT_NE(error_of(copy, ErrorKind::invalid_input, small).find("beyond its limit of 24 bytes"), std::string::npos);
}

TEST(InterpretLimits, TheObserverSeesEveryTensorThatIsWritten) {
  Example e;
  const TensorId in = e.input(floats({2}, {1, 2})), middle = e.temporary({DType::f32, {2}}), y = e.output({DType::f32, {2}});
  for (const auto& [from, to] : {std::pair(in, middle), std::pair(middle, y)}) {
    NestBuilder nest({2});
    nest.store(to, nest.load(from, DType::f32, Map::identity({Dim(2)})) * 2);
    e.add(nest.finish("double"));
  }
  std::vector<std::pair<TensorId, std::vector<double>>> seen;
  InterpreterOptions options;
  options.observe = [&](TensorId id, const Tensor& t) { seen.emplace_back(id, reals_of(t)); };
  e.run(options);
  EXPECT_EQ(seen, (std::vector<std::pair<TensorId, std::vector<double>>>{{middle, {2, 4}}, {y, {4, 8}}}));
}

}  // namespace
}  // namespace tilewright::pattern
