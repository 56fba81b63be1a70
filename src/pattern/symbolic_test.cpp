#include "pattern/symbolic.h"

#include <gtest/gtest.h>

#include "pattern/testing.h"

namespace tilewright::pattern {
namespace {

const Dim n = Dim::symbol("N"), h = Dim::symbol("H");

/// One nest over [count] with an i64 operand of known elements; `build` makes the result's elements of the operand's.
template <class F>
std::optional<Dims> elementwise(const Dims& operand, DType result, F&& build, const std::set<std::string>& possibly_zero = {}) {
  Program p;
  const Dim count = static_cast<int64_t>(operand.size());
  const TensorId x = p.add_tensor({DType::i64, {count}}, "x"), y = p.add_tensor({result, {count}}, "y");
  NestBuilder nest({count});
  nest.store(y, build(nest, nest.load(x, DType::i64, Map::identity({count}))));
  p.patterns.push_back(nest.finish("test"));
  p.inputs = {x};
  verify(p);
  return evaluate_contents(p, {{x, operand}}, y, possibly_zero);
}

TEST(Symbolic, ArithmeticOnSizes) {
  EXPECT_EQ(elementwise({n, h, 3}, DType::i64, [](NestBuilder&, Expr x) { return (x + 1) * 2; }), (Dims{n * 2 + 2, h * 2 + 2, 8}));
  EXPECT_EQ(elementwise({n * 6, 7}, DType::i64, [](NestBuilder&, Expr x) { return x / 2; }), (Dims{n * 3, 3}));
  EXPECT_EQ(elementwise({n, -7}, DType::i64, [](NestBuilder& b, Expr x) { return b.binary(ExprOp::floor_div, x, b.constant_int(DType::i64, 2)); }),
            (Dims{n / 2, -4}));
}

TEST(Symbolic, TruncatingDivisionNeedsASignThatIsKnown) {
  EXPECT_EQ(elementwise({n - h}, DType::i64, [](NestBuilder&, Expr x) { return x / 2; }), std::nullopt);
}

TEST(Symbolic, SelectsWhereTheConditionIsDecided) {
  const auto ones_for = [](int64_t value) {
    return
        [value](NestBuilder& b, Expr x) { return b.select(b.binary(ExprOp::equal, x, b.constant_int(DType::i64, value)), b.constant_int(DType::i64, 1), x); };
  };
  EXPECT_EQ(elementwise({n, -1, 4}, DType::i64, ones_for(-1)), (Dims{n, 1, 4}));
  EXPECT_EQ(elementwise({n, 0}, DType::i64, ones_for(0)), (Dims{n, 1}));
  EXPECT_EQ(elementwise({n}, DType::i64, ones_for(3)), std::nullopt);
}

TEST(Symbolic, SizesLearnedWhileRunningMayBeZero) {
  const auto is_zero = [](NestBuilder& b, Expr x) { return b.binary(ExprOp::equal, x, b.constant_int(DType::i64, 0)); };
  const auto is_negative = [](NestBuilder& b, Expr x) { return b.binary(ExprOp::less, x, b.constant_int(DType::i64, 0)); };
  EXPECT_EQ(elementwise({n}, DType::boolean, is_zero), Dims{0});
  EXPECT_EQ(elementwise({n}, DType::boolean, is_zero, {"N"}), std::nullopt);
  EXPECT_EQ(elementwise({n}, DType::boolean, is_negative, {"N"}), Dims{0});
}

TEST(Symbolic, MinAndMaxAreDecidedWhereTheyCanBe) {
  EXPECT_EQ(elementwise({n, h * 2, n - h}, DType::i64, [](NestBuilder& b, Expr x) { return b.binary(ExprOp::min, x, b.constant_int(DType::i64, 1)); }),
            (Dims{1, 1, min(n - h, 1)}));
}

TEST(Symbolic, SizesPassThroughFloats) {
  const auto in_float = [](auto&& f) { return [f](NestBuilder& b, Expr x) { return b.cast(f(b, b.cast(x, DType::f32)), DType::i64); }; };
  EXPECT_EQ(elementwise({n, 5}, DType::i64, in_float([](NestBuilder& b, Expr x) { return b.unary(ExprOp::floor, x * 2.0); })), (Dims{n * 2, 10}));
  EXPECT_EQ(elementwise({n * 4, 6}, DType::i64, in_float([](NestBuilder&, Expr x) { return x / 2.0; })), (Dims{n * 2, 3}));
  EXPECT_EQ(elementwise({5}, DType::i64, in_float([](NestBuilder&, Expr x) { return x * 0.5; })), Dims{2});
  EXPECT_EQ(elementwise({n}, DType::i64, in_float([](NestBuilder&, Expr x) { return x * 0.5; })), std::nullopt);
  EXPECT_EQ(elementwise({n}, DType::i64, in_float([](NestBuilder&, Expr x) { return x / 2.0; })), std::nullopt);
}

TEST(Symbolic, ConcatAndGatherMoveSizes) {
  // shape = [N, H]; result = [shape[1], 7, shape[0]]
  Program p;
  const TensorId shape = p.add_tensor({DType::i64, {2}}, "shape"), result = p.add_tensor({DType::i64, {3}}, "result");
  const auto slice = [](int64_t at) { return Map::identity({Dim(3)}).sliced(0, at, 1, 1); };
  for (const auto& [at, from] : {std::pair<int64_t, int64_t>{0, -1}, {2, 0}}) {
    NestBuilder n1({1});
    // Negative positions count from the end: decided by the constant.
    const Expr position = n1.constant_int(DType::i64, from),
               wrapped = n1.select(n1.binary(ExprOp::less, position, n1.constant_int(DType::i64, 0)), position + 2, position);
    n1.store(result, slice(at), n1.load(shape, DType::i64, Map::identity({Dim(2)}).inserted(0, 1), {wrapped}));
    p.patterns.push_back(n1.finish("gather"));
  }
  NestBuilder n2({1});
  n2.store(result, slice(1), n2.constant_int(DType::i64, 7));
  p.patterns.push_back(n2.finish("constant"));
  p.inputs = {shape};
  verify(p);
  EXPECT_EQ(evaluate_contents(p, {{shape, {n, h}}}, result), (Dims{h, 7, n}));
}

TEST(Symbolic, ReductionsOfSizes) {
  const auto reduced = [](ReduceOp op, const Dims& values) {
    Program p;
    const Dim count = static_cast<int64_t>(values.size());
    const TensorId x = p.add_tensor({DType::i64, {count}}, "x"), y = p.add_tensor({DType::i64, {}}, "y");
    NestBuilder b({count}, 1);
    b.store(y, b.reduce(op, b.load(x, DType::i64, Map::identity({count})), DType::i64));
    p.patterns.push_back(b.finish("reduce"));
    return evaluate_contents(p, {{x, values}}, y);
  };
  EXPECT_EQ(reduced(ReduceOp::product, {n, 3, h}), Dims{n * h * 3});
  EXPECT_EQ(reduced(ReduceOp::sum, {n, 3, n}), Dims{n * 2 + 3});
  EXPECT_EQ(reduced(ReduceOp::max, {4, 9, 2}), Dims{9});
  EXPECT_EQ(reduced(ReduceOp::product, {}), Dims{1});
  EXPECT_EQ(reduced(ReduceOp::arg_max, {4, 9}), std::nullopt);
}

TEST(Symbolic, AgreesWithTheInterpreterOnConstants) {
  Example e;
  const Tensor x = integers(DType::i64, {6}, {-7, -1, 0, 1, 2, 9});
  const TensorId in = e.input(x), y = e.output({DType::i64, {6}});
  NestBuilder b({6});
  const Expr v = b.load(in, DType::i64, Map::identity({Dim(6)}));
  const Expr low = b.binary(ExprOp::mod, v, b.constant_int(DType::i64, 4)), odd = b.binary(ExprOp::less, low, b.constant_int(DType::i64, 2));
  b.store(y, b.select(odd, b.cast(b.cast(v, DType::u8), DType::i64) - low, b.binary(ExprOp::max, v / 2, low * 3)));
  e.add(b.finish("mixed"));
  Dims known;
  for (const int64_t value : x.ints()) known.push_back(value);
  const auto symbolic = evaluate_contents(e.program, {{in, known}}, y);
  ASSERT_TRUE(symbolic);
  const Tensor expected = e.run()[0];
  for (int64_t i = 0; i < 6; ++i) EXPECT_EQ((*symbolic)[static_cast<size_t>(i)], Dim(expected.int_at(i)));
}

}  // namespace
}  // namespace tilewright::pattern
