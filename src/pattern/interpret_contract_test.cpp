#include <gtest/gtest.h>

#include "pattern/testing.h"

namespace tilewright::pattern {
namespace {

InterpreterOptions in_float64() {
  InterpreterOptions options;
  options.arithmetic = InterpreterOptions::Arithmetic::float64;
  return options;
}

/// batch of a[m,k]·b[k,n] as a Nest over (batch, m, n, k).
Example matmul(int64_t batch, int64_t m, int64_t n, int64_t k, const Tensor& a, const Tensor& b, DType accumulator) {
  Example e;
  const TensorId left = e.input(a), right = e.input(b), y = e.output({accumulator, {batch, m, n}});
  NestBuilder nest({batch, m, n, k}, 1);
  const Expr x = nest.load(left, a.dtype(), Map::identity({Dim(batch), Dim(m), Dim(k)}).inserted(2, n));
  const Expr w = nest.load(right, b.dtype(), Map::identity({Dim(batch), Dim(k), Dim(n)}).transposed({0, 2, 1}).inserted(1, m));
  nest.store(y, nest.reduce(ReduceOp::sum, nest.cast(x, accumulator) * nest.cast(w, accumulator), accumulator));
  e.add(nest.finish("matmul"));
  return e;
}

TEST(InterpretContract, MatchesPlainLoopsForAllKindsOfSizes) {
  unsigned seed = 1;
  for (const auto& [batch, m, n, k] :
       {std::tuple<int64_t, int64_t, int64_t, int64_t>{1, 1, 1, 1}, {2, 3, 8, 5}, {1, 17, 9, 600}, {3, 1, 40, 7}, {1, 33, 2, 4}, {2, 8, 8, 0}, {0, 8, 8, 3}}) {
    const Tensor a = random_floats({batch, m, k}, ++seed), b = random_floats({batch, k, n}, ++seed);
    const Example e = matmul(batch, m, n, k, a, b, DType::f32);
    const Tensor written = e.run()[0], wide = e.run(in_float64())[0];
    for (int64_t i = 0; i < batch * m * n; ++i) {
      double in_double = 0, of_float_products = 0;
      for (int64_t j = 0; j < k; ++j) {
        const double x = a.float_at(i / n * k + j), w = b.float_at((i / (m * n) * k + j) * n + i % n);
        in_double += x * w;
        of_float_products += static_cast<double>(static_cast<float>(x) * static_cast<float>(w));
      }
      ASSERT_EQ(wide.float_at(i), in_double);  // the same additions in the same order
      ASSERT_EQ(written.float_at(i), static_cast<float>(of_float_products));
    }
  }
}

TEST(InterpretContract, IntegersOfDifferentTypesAreExact) {
  const Tensor a = integers(DType::u8, {1, 1, 2}, {255, 3}), b = integers(DType::i8, {1, 2, 9}, {-128, 1, 2, 3, 4, 5, 6, 7, 127, 1, 1, 1, 1, 1, 1, 1, 1, -1});
  const Example e = matmul(1, 1, 9, 2, a, b, DType::i32);
  EXPECT_EQ(e.run()[0].ints(), (std::vector<int64_t>{-32637, 258, 513, 768, 1023, 1278, 1533, 1788, 32382}));
}

TEST(InterpretContract, ConvolutionReadsItsPaddingAsZeros) {
  // Stride 2, padding 1, groups 2, against plain loops.
  const int64_t groups = 2, in = 3, out = 5, size = 9, kernel = 3, positions = 5;
  const Tensor x = random_floats({groups * in, size, size}, 5), w = random_floats({groups * out, in, kernel, kernel}, 6);
  Example e;
  const TensorId image = e.input(x), weights = e.input(w), y = e.output({DType::f32, {groups * out, positions, positions}});
  NestBuilder nest({groups, out, positions, positions, in, kernel, kernel}, 3);
  const Map windows = Map::identity({Dim(groups * in), Dim(size), Dim(size)})
                          .padded(1, 1, 1)
                          .padded(2, 1, 1)
                          .windows(2, positions, kernel, 2, 1)
                          .windows(1, positions, kernel, 2, 1);
  const Expr a = nest.load(
      image, DType::f32,
      windows.reshaped({Dim(groups), Dim(in), Dim(positions), Dim(kernel), Dim(positions), Dim(kernel)}).transposed({0, 2, 4, 1, 3, 5}).inserted(1, out), {},
      nest.constant(DType::f32, 0));
  const Expr b = nest.load(weights, DType::f32,
                           Map::identity({Dim(groups * out), Dim(in), Dim(kernel), Dim(kernel)})
                               .reshaped({Dim(groups), Dim(out), Dim(in), Dim(kernel), Dim(kernel)})
                               .inserted(2, positions)
                               .inserted(2, positions));
  nest.store(y, Map::identity({Dim(groups * out), Dim(positions), Dim(positions)}).reshaped({Dim(groups), Dim(out), Dim(positions), Dim(positions)}),
             nest.reduce(ReduceOp::sum, a * b, DType::f32));
  e.add(nest.finish("conv"));
  const Tensor result = e.run(in_float64())[0];
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t o = 0; o < out; ++o)
      for (int64_t i = 0; i < positions; ++i)
        for (int64_t j = 0; j < positions; ++j) {
          double sum = 0;
          for (int64_t c = 0; c < in; ++c)
            for (int64_t u = 0; u < kernel; ++u)
              for (int64_t v = 0; v < kernel; ++v) {
                const int64_t row = i * 2 + u - 1, column = j * 2 + v - 1;
                if (row < 0 || row >= size || column < 0 || column >= size) continue;
                sum += x.float_at(((g * in + c) * size + row) * size + column) * w.float_at((((g * out + o) * in + c) * kernel + u) * kernel + v);
              }
          ASSERT_EQ(result.float_at(((g * out + o) * positions + i) * positions + j), sum);
        }
}

TEST(InterpretContract, EpiloguesAndProloguesBelongToTheNest) {
  // relu(Σk (x-1)·w + bias), with a bias per column.
  const Tensor x = floats({2, 2}, {1, 2, 3, 4}), w = floats({2, 8}, {1, 0, -1, 2, 1, 1, 1, 1, 0, 1, 1, -3, 2, 2, 2, 2}),
               bias = floats({8}, {0, 0, 0, 0, 0, 0, 0, -100});
  Example e;
  const TensorId a = e.input(x), b = e.input(w), c = e.input(bias), y = e.output({DType::f32, {2, 8}});
  NestBuilder nest({2, 8, 2}, 1);
  const Expr left = nest.load(a, DType::f32, Map::identity({Dim(2), Dim(2)}).inserted(1, 8)) - 1;
  const Expr right = nest.load(b, DType::f32, Map::identity({Dim(2), Dim(8)}).transposed({1, 0}).inserted(0, 2));
  const Expr sum = nest.reduce(ReduceOp::sum, left * right, DType::f32) + nest.load_broadcast(c, e.program.tensor(c).type);
  nest.store(y, nest.binary(ExprOp::max, sum, nest.constant(DType::f32, 0)));
  e.add(nest.finish("linear"));
  // Rows of x-1: (0,1), (2,3).
  EXPECT_EQ(reals_of(e.run()[0]), (std::vector<double>{0, 1, 1, 0, 2, 2, 2, 0, 2, 3, 1, 0, 8, 8, 8, 0}));
}

}  // namespace
}  // namespace tilewright::pattern
