#include "tile/kernels/split_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tile/kernels/window_rows.h"
#include "tile/testing/teams.h"

// Products of floats by parts: against float64, beside multiply-adds of floats.

namespace tile {
namespace {

TEST(SplitFloats, AreExactlyTheirParts) {
  std::mt19937 random(1);
  std::vector<float> values = {0, -0.0F, 1, -1, 0x1p-100F, std::nextafter(0x1p64F, 0.F), 1 + 0x1p-23F, 0x1.ffffffp10F, 0x1.fefffep0F, 0x1.00ff01p-20F};
  for (int i = 0; i < 100000; ++i) values.push_back(std::ldexp(static_cast<float>(random()) - 2e9F, static_cast<int>(random() % 60) - 60));
  for (const float value : values) {
    if (!detail::splits(value)) continue;
    bfloat16 parts[3];
    split_float<3>(value, parts, 1);
    double of[3];
    for (int p = 0; p < 3; ++p) of[p] = static_cast<double>(to_float(parts[p]));
    ASSERT_EQ(of[0] + of[1] + of[2], static_cast<double>(value)) << value;
    ASSERT_LE(std::abs(of[1]), std::abs(static_cast<double>(value)) * 0x1p-8) << value;
    ASSERT_LE(std::abs(of[2]), std::abs(static_cast<double>(value)) * 0x1p-17) << value;
  }
}

TEST(SplitFloats, ExcludeWhatPartsDoNotStandFor) {
  using Limits = std::numeric_limits<float>;
  for (const float value : {0.F, -0.F, 1.F, -0x1p-100F, 0x1.fp63F}) EXPECT_TRUE(detail::splits(value)) << value;
  for (const float value : {Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN(), Limits::max(), 0x1p64F, -0x1p127F, Limits::denorm_min(),
                            std::nextafter(0x1p-100F, 0.F), -Limits::min()})
    EXPECT_FALSE(detail::splits(value)) << value;
  EXPECT_TRUE(weight_splits(0x1p60F, 3));
  EXPECT_FALSE(weight_splits(0x1p60F, 4));
}

std::vector<float> any_floats(i64 count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(static_cast<size_t>(count));
  for (float& x : v) x = normal(random);
  return v;
}

/// Results of two kernels and of float64, and Σ |products|.
struct Results {
  std::vector<float> split, plain;
  std::vector<double> exact, magnitude;
};

template <class Block, class Right, class Left>
std::vector<float> product(i64 m, i64 n, const Left& left, const Right& right, int threads, const RowsBlocking& blocking) {
  testing::TestTeam team(threads);
  std::vector<float> out(static_cast<size_t>(m * n), 77);
  contract_rows<Block>(
      1, n, left, right,
      [&](i64, i64 m0, i64 n0, i64 rows, auto columns, const float* tile, auto ld) {
        for (i64 i = 0; i < rows; ++i)
          for (i64 j = 0; j < columns; ++j) out.at(static_cast<size_t>((m0 + i) * n + n0 + j)) = tile[i * ld + j];
      },
      team.team(), blocking);
  return out;
}

/// `split_left` and `plain_left` provide the same rows, whose elements f(m, k) gives, in strips as Split and Plain have them.
template <class Split, class Plain, class SplitLeft, class PlainLeft, class F>
Results results(i64 m, i64 n, i64 k, const SplitLeft& split_left, const PlainLeft& plain_left, F f, const std::vector<float>& weights, int threads,
                const RowsBlocking& blocking) {
  const i64 runs = split_left.runs(), depth = split_left.depth(), steps = runs * dot_steps(depth, 2);
  const auto weight = [&](i64 j, i64 kk) { return weights[static_cast<size_t>(j * k + kk)]; };
  const i64 columns = (n + Split::columns - 1) / Split::columns * Split::columns;
  using Lanes = typename Split::panel_type;
  std::vector<Lanes> lanes_of_parts(static_cast<size_t>(columns * steps));
  pack_parts(lanes_of_parts.data(), n, runs, depth, Split::columns, weight);
  std::vector<float> panels(static_cast<size_t>(packed_size(n, k, Plain::columns)));
  pack(panels.data(), n, k, Plain::columns, weight);
  Results r;
  r.split = product<Split>(m, n, SplitStrips<SplitLeft, Split::stride, Split::parts>{split_left},
                           Packed<Lanes, Split::columns, false>{lanes_of_parts.data(), steps}, threads, blocking);
  r.plain = product<Plain>(m, n, plain_left, Packed<float, Plain::columns, false>{panels.data(), k}, 1, {});
  for (i64 i = 0; i < m; ++i)
    for (i64 j = 0; j < n; ++j) {
      double sum = 0, magnitude = 0;
      for (i64 kk = 0; kk < k; ++kk) {
        const double term = static_cast<double>(f(i, kk)) * static_cast<double>(weight(j, kk));
        sum += term;
        magnitude += std::fabs(term);
      }
      r.exact.push_back(sum);
      r.magnitude.push_back(magnitude);
    }
  return r;
}

/// Errors in units of 2^-24 of the sum of the products' magnitudes; subnormal results count as zeros.
double largest_error(const std::vector<float>& actual, const Results& r) {
  double most = 0;
  for (size_t i = 0; i < actual.size(); ++i)
    if (r.magnitude[i] > 0) most = std::max(most, std::fabs(static_cast<double>(actual[i]) - r.exact[i]) / r.magnitude[i] * 0x1p24);
  return most;
}

/// Short sums by multiply-adds may be exact but for the last rounding; six products are rounded twice or more.
template <int parts = 3>
void expect_accuracy_of_floats(const Results& r) {
  if (parts == 2) {
    // Both factors err by 2^-17, and the product of what their first parts leave, each 2^-9, is left out; TF32's factors err by 2^-11.
    EXPECT_LE(largest_error(r.split, r), 0x1p24 * (2 * 0x1p-17 + 0x1p-18) + 2);
    EXPECT_GT(largest_error(r.split, r), 2 * largest_error(r.plain, r)) << "two parts are no floats";
    return;
  }
  const double split = largest_error(r.split, r), plain = largest_error(r.plain, r);
  EXPECT_LE(split, std::max(1.5 * plain, 2.0)) << "multiply-adds err by " << plain;
}

template <int rows, int vectors, i64 stride, int steps = 16, int parts = 3>
void check_matrix(i64 m, i64 n, i64 k, i64 row_stride, unsigned seed) {
  using Split = AmxSplitBlocks<rows, vectors, stride, parts, steps, EmulatedTiles>;
  using Plain = RowBlocks<float, 8, 1, stride>;
  const auto a = any_floats((m - 1) * row_stride + k, seed), weights = any_floats(n * k, seed + 1);
  const auto f = [&](i64 i, i64 kk) { return a[static_cast<size_t>(i * row_stride + kk)]; };
  for (int threads : {1, 3})
    for (i64 panel_bytes : {1 << 19, 256}) {
      const RowsBlocking blocking{.panel_bytes = panel_bytes};
      expect_accuracy_of_floats<parts>(results<Split, Plain>(m, n, k, MatrixRows<float, float, rows, stride>{a.data(), row_stride, m, k},
                                                             MatrixRows<float, float, 8, stride>{a.data(), row_stride, m, k}, f, weights, threads, blocking));
    }
}

TEST(SplitRows, MatricesAreAsAccurateAsByMultiplyAdds) {
  check_matrix<16, 2, 64>(40, 70, 64, 64, 1);
  check_matrix<32, 1, 64>(70, 40, 64, 64, 3);
  check_matrix<21, 1, 35>(53, 20, 35, 35, 5);  // odd, and fewer rows at the end
  check_matrix<7, 2, 3, 2>(15, 33, 3, 3, 7);
  check_matrix<24, 1, 48, 12>(49, 33, 48, 60, 9);  // from copies, tiles of 24
  check_matrix<16, 1, 1>(17, 9, 1, 1, 11);
  check_matrix<32, 1, 2000>(33, 17, 2000, 2000, 13);
  check_matrix<1, 2, 771>(3, 65, 771, 771, 15);
}

TEST(SplitRows, TwoPartsAreMoreAccurateThanTf32) {
  check_matrix<16, 2, 64, 16, 2>(40, 70, 64, 64, 1);
  check_matrix<27, 1, 35, 16, 2>(53, 20, 35, 35, 3);
  check_matrix<32, 1, 700, 15, 2>(33, 17, 700, 700, 5);
}

struct Axis {
  i64 input, kernel, stride = 1, dilation = 1, pad = 0;
  i64 output() const { return (input + 2 * pad - (kernel - 1) * dilation - 1) / stride + 1; }
};

template <int strip, int vectors, i64 step>
void check_windows(Axis y, Axis x, i64 channels, i64 filters, bool channels_last, unsigned seed) {
  using Split = AmxSplitBlocks<strip, vectors, step, 3, 16, EmulatedTiles>;
  using Plain = RowBlocks<float, 8, 1, step>;
  const i64 positions = y.input * x.input, k = y.kernel * x.kernel * channels, pitch = channels_last ? channels : 1;
  const auto image = any_floats(positions * channels, seed), weights = any_floats(filters * k, seed + 1);
  const auto left = [&]<int rows>(std::integral_constant<int, rows>) {
    WindowRows<float, float, 2, rows, step> windows{};
    windows.data = image.data();
    windows.channels = channels;
    windows.channel_stride = channels_last ? 1 : positions;
    const Axis* axes[] = {&y, &x};
    for (int d = 0; d < 2; ++d) {
      windows.pitch[d] = d == 0 ? x.input * pitch : pitch;
      windows.input[d] = axes[d]->input, windows.output[d] = axes[d]->output(), windows.kernel[d] = axes[d]->kernel;
      windows.stride[d] = axes[d]->stride, windows.dilation[d] = axes[d]->dilation, windows.pad[d] = axes[d]->pad;
    }
    return windows;
  };
  const auto f = [&](i64 o, i64 kk) {
    const i64 tap = kk / channels, row = o / x.output() * y.stride - y.pad + tap / x.kernel * y.dilation,
              column = o % x.output() * x.stride - x.pad + tap % x.kernel * x.dilation;
    if (row < 0 || row >= y.input || column < 0 || column >= x.input) return 0.F;
    return image[static_cast<size_t>((row * x.input + column) * pitch + kk % channels * (channels_last ? 1 : positions))];
  };
  for (int threads : {1, 3})
    for (const RowsBlocking& blocking : {RowsBlocking{}, RowsBlocking{.panel_bytes = 256, .strip_bytes = 64}})
      expect_accuracy_of_floats(results<Split, Plain>(y.output() * x.output(), filters, k, left(std::integral_constant<int, strip>{}),
                                                      left(std::integral_constant<int, 8>{}), f, weights, threads, blocking));
}

TEST(SplitRows, WindowsAreAsAccurateAsByMultiplyAdds) {
  check_windows<16, 2, 8>({9, 3, 1, 1, 1}, {18, 3, 1, 1, 1}, 8, 40, true, 1);
  check_windows<22, 1, 5>({9, 3, 1, 1, 1}, {22, 3, 1, 1, 1}, 5, 19, true, 3);
  check_windows<4, 1, 4>({9, 3, 1, 2, 2}, {13, 2, 1, 3, 2}, 4, 19, true, 5);
  check_windows<6, 1, 16>({14, 3, 2, 1, 1}, {14, 3, 2, 1, 1}, 8, 16, true, 7);
  check_windows<10, 1, 6>({20, 7, 2, 1, 3}, {20, 7, 2, 1, 3}, 3, 16, false, 9);
  check_windows<9, 1, 16>({9, 2, 1, 1, 0}, {9, 1, 2, 1, 0}, 8, 16, true, 11);  // positions between are skipped
}

/// One element of a matrix is `value`; its row, and with it the strip, is as multiply-adds have it.
void check_value(float value) {
  constexpr i64 m = 40, n = 20, k = 70, at = 19;
  using Split = AmxSplitBlocks<16, 1, k, 3, 16, EmulatedTiles>;
  auto a = any_floats(m * k, 1);
  const auto weights = any_floats(n * k, 2);
  a[at * k + 13] = value;
  const auto f = [&](i64 i, i64 kk) { return a[static_cast<size_t>(i * k + kk)]; };
  const Results r = results<Split, RowBlocks<float, 8, 1, k>>(m, n, k, MatrixRows<float, float, 16, k>{a.data(), k, m, k},
                                                              MatrixRows<float, float, 8, k>{a.data(), k, m, k}, f, weights, 1, {});
  for (i64 i = 0; i < m * n; ++i) {
    const auto at_i = static_cast<size_t>(i);
    if (std::isnan(r.plain[at_i])) {
      EXPECT_TRUE(std::isnan(r.split[at_i])) << value << " row " << i / n;
    } else if (std::isinf(r.plain[at_i])) {
      EXPECT_EQ(r.split[at_i], r.plain[at_i]) << value << " row " << i / n;
    } else {
      ASSERT_NEAR(static_cast<double>(r.split[at_i]), r.exact[at_i], r.magnitude[at_i] * 8 * 0x1p-24) << value << " row " << i / n;
    }
  }
}

TEST(SplitRows, ValuesThatPartsDoNotStandForAreMultipliedAsFloats) {
  using Limits = std::numeric_limits<float>;
  for (const float value :
       {Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN(), Limits::max(), -0x1p127F, 0x1p64F, 0x1p-101F, Limits::min(), Limits::denorm_min()})
    check_value(value);
}

TEST(SplitRows, RowsOfTinyAndOfLargeValuesKeepTheirDigits) {
  constexpr i64 m = 20, n = 16, k = 64;
  using Split = AmxSplitBlocks<16, 1, k, 3, 16, EmulatedTiles>;
  for (const int exponent : {-140, -120, -99, -60, 50, 62, 100}) {
    auto a = any_floats(m * k, 1), weights = any_floats(n * k, 2);
    for (float& x : a) x = std::ldexp(x, exponent);
    const auto f = [&](i64 i, i64 kk) { return a[static_cast<size_t>(i * k + kk)]; };
    const Results r = results<Split, RowBlocks<float, 8, 1, k>>(m, n, k, MatrixRows<float, float, 16, k>{a.data(), k, m, k},
                                                                MatrixRows<float, float, 8, k>{a.data(), k, m, k}, f, weights, 1, {});
    SCOPED_TRACE(exponent);
    expect_accuracy_of_floats(r);
  }
}

}  // namespace
}  // namespace tile
