#include "tile/kernels/contract.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <random>
#include <vector>

#include "tile/kernels/conv_windows.h"
#include "tile/testing/teams.h"

namespace tile {
namespace {

template <class T>
T from_int(int v) {
  if constexpr (is_storage_float<T>) {
    return store_as<T>(static_cast<float>(v));
  } else {
    return static_cast<T>(v);
  }
}

/// Small whole numbers: all products and sums are exact in any type, so results can be compared for equality.
template <class T>
std::vector<T> whole_numbers(i64 count, int low, int high, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> in(low, high);
  std::vector<T> v(static_cast<size_t>(count));
  for (T& x : v) x = from_int<T>(in(random));
  return v;
}

/// Runs contract() and compares with the sum over f(batch, m, k) · g(batch, n, k), each output seen once.
template <class Acc, i64 rows = 0, class Left, class Right, class F, class G>
void expect_product(const Extents& e, const Left& left, const Right& right, F f, G g, int threads = 1, const Blocking& blocking = {}) {
  testing::TestTeam team(threads);
  const auto size = static_cast<size_t>(e.batch * e.m * e.n);
  std::vector<Acc> out(size, Acc{77});
  std::vector<std::atomic<int>> seen(size);
  auto epilogue = [&](i64 b, i64 m0, i64 n0, i64 count, i64 columns, const Acc* tile, i64 ld) {
    for (i64 i = 0; i < count; ++i) {
      for (i64 j = 0; j < columns; ++j) {
        const auto at = static_cast<size_t>((b * e.m + m0 + i) * e.n + n0 + j);
        out.at(at) = tile[i * ld + j];
        ++seen[at];
      }
    }
  };
  contract<Acc, rows>(e, left, right, epilogue, team.team(), blocking);
  size_t at = 0;
  for (i64 b = 0; b < e.batch; ++b) {
    for (i64 m = 0; m < e.m; ++m) {
      for (i64 n = 0; n < e.n; ++n, ++at) {
        double expected = 0;
        for (i64 k = 0; k < e.k; ++k) expected += static_cast<double>(f(b, m, k)) * static_cast<double>(g(b, n, k));
        ASSERT_EQ(seen[at], 1) << b << " " << m << " " << n << " of " << e.m << "x" << e.n << "x" << e.k;
        ASSERT_EQ(static_cast<double>(out[at]), expected) << b << " " << m << " " << n << " of " << e.m << "x" << e.n << "x" << e.k;
      }
    }
  }
}

constexpr i64 sizes[][3] = {{0, 5, 3},   {5, 0, 3},   {5, 3, 0},   {1, 1, 1},     {1, 37, 19},   {37, 1, 19}, {2, 70, 65},  {8, 600, 33}, {7, 7, 7},
                            {14, 32, 8}, {15, 33, 9}, {13, 31, 1}, {61, 97, 101}, {29, 5, 1201}, {3, 3, 700}, {100, 2, 64}, {6, 130, 40}, {64, 196, 530}};

template <class T, class Acc>
void check_dense(int low, int high) {
  unsigned seed = 1;
  for (const auto& size : sizes) {
    const i64 m = size[0], n = size[1], k = size[2];
    for (i64 batch : {1, 3}) {
      for (int form = 0; form < 4; ++form) {
        const auto a = whole_numbers<T>(batch * m * k, low, high, seed++);
        const auto b = whole_numbers<T>(batch * k * n, low, high, seed++);
        const bool turn_a = form & 1, turn_b = form & 2;
        const auto left = dense_left(a.data(), turn_a ? 1 : k, turn_a ? m : 1, BatchStride{m * k});
        const auto right = dense_right(b.data(), turn_b ? 1 : n, turn_b ? k : 1, BatchStride{k * n});
        auto f = [&](i64 i, i64 o, i64 kk) { return load_as<double>(*left.at(i, o, kk)); };
        auto g = [&](i64 i, i64 o, i64 kk) { return load_as<double>(*right.at(i, o, kk)); };
        expect_product<Acc>({batch, m, n, k}, left, right, f, g, 1 + static_cast<int>(seed % 3));
      }
    }
  }
}

TEST(Contract, FloatOfAnyShapeAndOrder) { check_dense<float, float>(-8, 8); }
TEST(Contract, Double) { check_dense<double, double>(-1000, 1000); }
TEST(Contract, BytesSumExactly) { check_dense<int8_t, int32_t>(-128, 127); }
TEST(Contract, UnsignedBytesSumExactly) { check_dense<uint8_t, int32_t>(0, 255); }
TEST(Contract, Int32) { check_dense<int32_t, int32_t>(-500, 500); }
TEST(Contract, Int64) { check_dense<int64_t, int64_t>(-500, 500); }
TEST(Contract, Uint64) { check_dense<uint64_t, uint64_t>(0, 500); }
TEST(Contract, Float16SumsInFloat) { check_dense<float16, float>(-8, 8); }
TEST(Contract, BFloat16SumsInFloat) { check_dense<bfloat16, float>(-8, 8); }

TEST(Contract, IntegersWrap) {
  const std::vector<int32_t> a{2000000000, 2000000000}, b{2, 2};
  testing::TestTeam team;
  int32_t out = 0;
  contract<int32_t>(
      {1, 1, 1, 2}, dense_left(a.data(), 2, 1), dense_right(b.data(), 1, 1), [&](i64, i64, i64, i64, i64, const int32_t* tile, i64) { out = tile[0]; },
      team.team());
  EXPECT_EQ(out, static_cast<int32_t>(8000000000u));
}

TEST(Contract, ZeroPointsAndMixedSigns) {
  for (const auto& size : sizes) {
    const i64 m = size[0], n = size[1], k = size[2];
    const auto a = whole_numbers<uint8_t>(m * k, 0, 255, 1);
    const auto b = whole_numbers<int8_t>(k * n, -128, 127, 2);
    const auto left = dense_left(a.data(), k, 1, BatchStride{}, 255);
    const auto right = dense_right(b.data(), n, 1, BatchStride{}, -128);
    auto f = [&](i64, i64 o, i64 kk) { return *left.at(0, o, kk) - 255; };
    auto g = [&](i64, i64 o, i64 kk) { return *right.at(0, o, kk) + 128; };
    expect_product<int32_t>({1, m, n, k}, left, right, f, g, 2);
  }
}

TEST(Contract, ManyPassesStepsAndTasks) {
  // Tiny budgets make every loop of the blocking run more than once.
  const Blocking tiny{16, 1, 1, 1, 1 << 20}, unshared{16, 1, 1, 1, 0};
  const i64 m = 67, n = 331, k = 77;
  const auto a = whole_numbers<float>(m * k, -8, 8, 1), b = whole_numbers<float>(k * n, -8, 8, 2);
  const auto left = dense_left(a.data(), k, 1);
  const auto right = dense_right(b.data(), n, 1);
  auto f = [&](i64, i64 o, i64 kk) { return *left.at(0, o, kk); };
  auto g = [&](i64, i64 o, i64 kk) { return *right.at(0, o, kk); };
  for (int threads : {1, 2, 5, 16}) {
    for (const Blocking& blocking : {tiny, unshared, Blocking{}}) {
      expect_product<float>({1, m, n, k}, left, right, f, g, threads, blocking);
      expect_product<float>({1, n, m, k}, Dense<float>(right), Dense<float>(left), g, f, threads, blocking);
    }
  }
}

TEST(Contract, PackedOperandsAndMappedOnes) {
  for (const auto& size : sizes) {
    const i64 m = size[0], n = size[1], k = size[2];
    const auto a = whole_numbers<float>(m * k, -8, 8, 1), b = whole_numbers<float>(k * n, -8, 8, 2);
    auto f = [&](i64, i64 o, i64 kk) { return a[static_cast<size_t>(o * k + kk)]; };
    auto g = [&](i64, i64 o, i64 kk) { return b[static_cast<size_t>(kk * n + o)]; };
    constexpr int rows = balanced_rows(64), columns = block_vectors * lanes<float>;
    std::vector<float> packed_a(static_cast<size_t>(packed_size(m, k, rows))), packed_b(static_cast<size_t>(packed_size(n, k, columns)));
    pack(packed_a.data(), m, k, rows, [&](i64 o, i64 kk) { return f(0, o, kk); });
    pack(packed_b.data(), n, k, columns, [&](i64 o, i64 kk) { return g(0, o, kk); });
    const Packed<float, rows> left{packed_a.data(), k};
    const Packed<float, columns> right{packed_b.data(), k};
    const Extents e{1, m, n, k};
    for (int threads : {1, 2}) {
      expect_product<float>(e, left, right, f, g, threads);
      expect_product<float>(e, left, dense_right(b.data(), n, 1), f, g, threads);
      expect_product<float>(e, dense_left(a.data(), k, 1), right, f, g, threads);
      expect_product<float>(e, Mapped{f}, right, f, g, threads);
      expect_product<float>(e, left, Mapped{g}, f, g, threads);
    }
    if (m == 1) expect_product<float, 1>(e, dense_left(a.data(), k, 1), right, f, g, 2);
    if (m == 3) expect_product<float, 3>(e, dense_left(a.data(), k, 1), right, f, g, 2);
    // Weights kept shorter than what they are multiplied in.
    std::vector<int16_t> narrow(packed_a.begin(), packed_a.end());
    const auto bytes = whole_numbers<uint8_t>(k * n, 0, 255, 3);
    auto h = [&](i64, i64 o, i64 kk) { return bytes[static_cast<size_t>(kk * n + o)]; };
    expect_product<int32_t>(e, Packed<int16_t, rows, true>{narrow.data(), k}, dense_right(bytes.data(), n, 1), f, h, 2);
  }
}

TEST(Contract, BatchesMayBroadcast) {
  const i64 m = 20, n = 35, k = 9;
  const auto a = whole_numbers<float>(2 * m * k, -8, 8, 1), b = whole_numbers<float>(3 * k * n, -8, 8, 2);
  auto batch_a = [&](i64 i) { return i / 3 * m * k; };
  auto batch_b = [&](i64 i) { return i % 3 * k * n; };
  const Dense<float, decltype(batch_a)> left{a.data(), k, 1, batch_a};
  const Dense<float, decltype(batch_b)> right{b.data(), 1, n, batch_b};
  auto f = [&](i64 i, i64 o, i64 kk) { return *left.at(i, o, kk); };
  auto g = [&](i64 i, i64 o, i64 kk) { return *right.at(i, o, kk); };
  expect_product<float>({6, m, n, k}, left, right, f, g, 2);
}

TEST(Contract, RoundingErrorStaysWithinTheBoundOfRecursiveSums) {
  const i64 m = 40, n = 70, k = 1500;
  std::mt19937 random(1);
  std::normal_distribution<float> in;
  std::vector<float> a(static_cast<size_t>(m * k)), b(static_cast<size_t>(k * n));
  for (float& x : a) x = in(random);
  for (float& x : b) x = in(random);
  testing::TestTeam team(2);
  contract<float>(
      {1, m, n, k}, dense_left(a.data(), k, 1), dense_right(b.data(), n, 1),
      [&](i64, i64 m0, i64 n0, i64 rows, i64 columns, const float* tile, i64 ld) {
        for (i64 i = 0; i < rows; ++i) {
          for (i64 j = 0; j < columns; ++j) {
            double exact = 0, magnitude = 0;
            for (i64 kk = 0; kk < k; ++kk) {
              const double p = static_cast<double>(a[static_cast<size_t>((m0 + i) * k + kk)]) * static_cast<double>(b[static_cast<size_t>(kk * n + n0 + j)]);
              exact += p;
              magnitude += std::fabs(p);
            }
            // |error| ≤ k u / (1 - k u) Σ|a b|, u = 2^-24.
            EXPECT_LE(std::fabs(static_cast<double>(tile[i * ld + j]) - exact), static_cast<double>(k) * 0x1p-23 * magnitude);
          }
        }
      },
      team.team());
}

template <int rank, class T, class Acc>
void check_windows(std::mt19937& random, int low, int high) {
  auto pick = [&](int from, int to) { return i64{std::uniform_int_distribution<int>(from, to)(random)}; };
  ConvWindows<T, rank> w{};
  i64 plane = 1, positions = 1, taps = 1;
  for (int d = 0; d < rank; ++d) {
    w.kernel[d] = pick(1, 4);
    w.stride[d] = pick(1, 3);
    w.dilation[d] = pick(1, 2);
    w.pad[d] = pick(0, 4);
    const i64 reach = (w.kernel[d] - 1) * w.dilation[d] + 1;
    w.input[d] = pick(1, rank == 1 ? 90 : rank == 2 ? 20 : 7);
    const i64 end_pad = pick(0, 4);
    const i64 room = w.input[d] + w.pad[d] + end_pad - reach;
    w.output[d] = room < 0 ? 0 : room / w.stride[d] + 1;
    plane *= w.input[d], positions *= w.output[d], taps *= w.kernel[d];
  }
  if constexpr (sizeof(T) == 1) w.zero = 3;
  const i64 channels = pick(1, 5), batch = pick(1, 3), filters = pick(1, 20), k = channels * taps;
  const auto x = whole_numbers<T>(batch * channels * plane, low, high, static_cast<unsigned>(random()));
  const auto weights = whole_numbers<T>(filters * k, low, high, static_cast<unsigned>(random()));
  w.data = x.data();
  w.batch = {channels * plane};
  auto f = [&](i64, i64 o, i64 kk) { return weights[static_cast<size_t>(o * k + kk)]; };
  auto g = [&](i64 b, i64 o, i64 kk) -> int {
    i64 tap = kk % taps, at = 0, size = 1;
    for (int d = rank - 1; d >= 0; --d) {
      const i64 p = o % w.output[d] * w.stride[d] - w.pad[d] + tap % w.kernel[d] * w.dilation[d];
      if (p < 0 || p >= w.input[d]) return 0;
      at += p * size;
      size *= w.input[d];
      o /= w.output[d];
      tap /= w.kernel[d];
    }
    return static_cast<int>(x[static_cast<size_t>((b * channels + kk / taps) * plane + at)]) - w.zero;
  };
  const auto left = dense_left(weights.data(), k, 1);
  const int threads = static_cast<int>(pick(1, 3));
  expect_product<Acc>({batch, filters, positions, k}, left, w, f, g, threads);
  expect_product<Acc>({batch, positions, filters, k}, w, left, g, f, threads);
}

TEST(ConvWindows, EqualTheirDefinition) {
  std::mt19937 random(11);
  for (int i = 0; i < 60; ++i) {
    check_windows<1, float, float>(random, -8, 8);
    check_windows<2, float, float>(random, -8, 8);
    check_windows<3, float, float>(random, -8, 8);
    check_windows<2, uint8_t, int32_t>(random, 0, 255);
  }
}

}  // namespace
}  // namespace tile
