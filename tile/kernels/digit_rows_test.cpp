#include "tile/kernels/digit_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tile/testing/digit_products.h"

// Products of floats by digits of bytes: against float64, beside multiply-adds of floats.

namespace tile {
namespace {

using testing::any_floats, testing::expect_accuracy_of_floats, testing::product, testing::Results, testing::results;

uint32_t largest_magnitude(const std::vector<float>& values) {
  Magnitudes all;
  all.add(values.data(), static_cast<i64>(values.size()));
  return all.largest;
}

template <int count>
void check_digits(std::vector<float> values, float unit) {
  int8_t digits[count * 64];
  if (count == 4) unit /= 256;
  split_digits<count>(values.data(), 1 / unit, digits, 64);
  for (size_t i = 0; i < 64; ++i) {
    double number = 0;
    for (size_t d = 0; d < count; ++d) number = number * 256 + digits[d * 64 + i];
    ASSERT_LE(std::abs(number * static_cast<double>(unit) - static_cast<double>(values[i])), static_cast<double>(unit) / 2) << i;
    for (int d = 0; d < 3 && count == 3; ++d) ASSERT_EQ(digits[static_cast<size_t>(d) * 64 + i], detail::digit_of(static_cast<int32_t>(number), d));
  }
}

TEST(ByteDigits, AreWholeNumbersOfTheUnit) {
  std::mt19937 random(1);
  for (int exponent = -60; exponent < 60; exponent += 7) {
    std::vector<float> values(64);
    for (float& x : values) x = std::ldexp(static_cast<float>(static_cast<int32_t>(random())), exponent - 31);
    values[3] = 0, values[60] = std::ldexp(values[60], -20);
    values[7] = std::ldexp(random() % 2 ? -1.F : 1.F, exponent);
    if (exponent % 2) values[7] = std::nextafter(2 * values[7], 0.F);
    const float unit = unit_of(largest_magnitude(values));
    ASSERT_GT(unit, 0);
    int exact;
    ASSERT_EQ(std::frexp(unit, &exact), 0.5F) << "no power of two";
    check_digits<3>(values, unit);
    check_digits<4>(values, unit);
    ASSERT_GE(static_cast<double>(std::abs(values[7])) / static_cast<double>(unit), 0x1p22 * 127 / 128) << "a bit is wasted";
  }
}

TEST(ByteDigits, HaveNoUnitForWhatTheyDoNotStandFor) {
  using Limits = std::numeric_limits<float>;
  const auto unit = [](float value) { return unit_of(detail::magnitude_bits(value)); };
  EXPECT_EQ(unit(0.F), 1);
  for (const float value : {1.F, -1.F, 0x1p-90F, -Limits::max()}) EXPECT_GT(unit(value), 0) << value;
  for (const float value : {Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN(), Limits::denorm_min(), Limits::min(), std::nextafter(0x1p-90F, 0.F)})
    EXPECT_EQ(unit(value), 0) << value;
  EXPECT_EQ(unit_of(largest_magnitude({1, -3, Limits::quiet_NaN(), 2})), 0);
}

TEST(ByteDigits, NeedAFourthWhereMagnitudesAreUnlike) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(512);
  for (float& x : values) x = normal(random);
  for (const int exponent : {0, 30, 49, 70, 120, -30, -80}) {
    Magnitudes some;
    std::vector<float> scaled = values;
    for (float& x : scaled) x = std::ldexp(x, exponent);
    some.add(scaled.data(), 512);
    if (std::abs(exponent) < 40) {
      EXPECT_FALSE(some.uneven(512)) << exponent;
    }
    scaled[100] *= 100;
    some = {};
    some.add(scaled.data(), 100), some.add(scaled.data() + 100, 412);
    EXPECT_TRUE(some.uneven(512)) << exponent;
  }
}

TEST(ByteDigits, ColumnsHaveTheSmallestUnitUnlessAnEvenOneIsExact) {
  const auto unit = [](const std::vector<float>& weights, int32_t most = 1000) {
    return unit_of_column(static_cast<i64>(weights.size()), most, [&](i64 k) { return weights[static_cast<size_t>(k)]; });
  };
  EXPECT_EQ(unit({0, 0}), 1);
  EXPECT_EQ(unit({500, -1000, 3}), 1) << "whole numbers";
  EXPECT_EQ(unit({500, -1001, 3}), 1001 / 1000.F) << "a unit of 2 has no 3";
  EXPECT_EQ(unit({500, -1002, 4}), 2);
  EXPECT_EQ(unit({0.75F, -0.5F}), 0x1p-10F);
  EXPECT_EQ(unit({0.75F, -0.1F}), 0.75F / 1000);
  EXPECT_EQ(unit({1e-15F, 3e-16F}), 1e-15F / 1000);
}

TEST(ByteDigits, StandForEvenColumns) {
  EXPECT_TRUE(column_splits(3, 1, 512));
  EXPECT_FALSE(column_splits(9, 1, 512));
  EXPECT_FALSE(column_splits(5, 1, 32)) << "short sums err less";
  EXPECT_FALSE(column_splits(1, 1.0 / 201, 201)) << "one weight that is not zero";
  EXPECT_FALSE(column_splits(INFINITY, INFINITY, 512));
  EXPECT_FALSE(column_splits(1, std::nan(""), 512));
  EXPECT_TRUE(column_splits(0, 0, 512));
  EXPECT_FALSE(column_splits(0x1p60F, 0x1p120, 512));
  EXPECT_FALSE(column_splits(0x1p-61F, 0x1p-122, 512));
}

template <int rows, int vectors, i64 stride, int steps = 16>
void check_matrix(i64 m, i64 n, i64 k, i64 row_stride, unsigned seed) {
  using Digits = AmxDigitBlocks<rows, vectors, stride, steps, EmulatedTiles>;
  using Plain = RowBlocks<float, 8, 1, stride>;
  const auto a = any_floats((m - 1) * row_stride + k, seed, seed % 4 == 1), weights = any_floats(n * k, seed + 1);
  const auto f = [&](i64 i, i64 kk) { return a[static_cast<size_t>(i * row_stride + kk)]; };
  for (int threads : {1, 3})
    for (i64 panel_bytes : {1 << 19, 256}) {
      const RowsBlocking blocking{.panel_bytes = panel_bytes, .pieces = threads, .fetch_results = threads > 1};
      expect_accuracy_of_floats(results<Digits, Plain>(m, n, k, MatrixRows<float, float, rows, stride>{a.data(), row_stride, m, k},
                                                       MatrixRows<float, float, 8, stride>{a.data(), row_stride, m, k}, f, weights, threads, blocking),
                                k);
    }
}

TEST(DigitRows, MatricesAreAsAccurateAsByMultiplyAdds) {
  check_matrix<16, 2, 64>(40, 70, 64, 64, 1);
  check_matrix<32, 1, 64>(70, 40, 64, 64, 3);
  check_matrix<21, 3, 35>(53, 20, 35, 35, 5);  // odd, two tiles of unlike heights
  check_matrix<7, 1, 3, 1>(15, 33, 3, 3, 7);
  check_matrix<24, 2, 48, 12>(49, 33, 48, 60, 9);  // from copies, two tiles of 12 rows
  check_matrix<64, 4, 160, 10>(130, 33, 160, 160, 17);
  check_matrix<16, 2, 1, 1>(17, 9, 1, 1, 11);
  check_matrix<32, 1, 2000>(33, 17, 2000, 2000, 13);
  check_matrix<1, 4, 771, 15>(3, 65, 771, 771, 15);
}

struct Axis {
  i64 input, kernel, stride = 1, dilation = 1, pad = 0;
  i64 output() const { return (input + 2 * pad - (kernel - 1) * dilation - 1) / stride + 1; }
};

template <int strip, int vectors, i64 step, int steps = 16>
void check_windows(Axis y, Axis x, i64 channels, i64 filters, bool channels_last, unsigned seed) {
  using Digits = AmxDigitBlocks<strip, vectors, step, steps, EmulatedTiles>;
  using Plain = RowBlocks<float, 8, 1, step>;
  const i64 positions = y.input * x.input, k = y.kernel * x.kernel * channels, pitch = channels_last ? channels : 1;
  const auto image = any_floats(positions * channels, seed, seed % 4 == 1), weights = any_floats(filters * k, seed + 1);
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
      expect_accuracy_of_floats(results<Digits, Plain>(y.output() * x.output(), filters, k, left(std::integral_constant<int, strip>{}),
                                                       left(std::integral_constant<int, 8>{}), f, weights, threads, blocking),
                                k, 2);
}

TEST(DigitRows, WindowsAreAsAccurateAsByMultiplyAdds) {
  check_windows<16, 2, 8>({9, 3, 1, 1, 1}, {18, 3, 1, 1, 1}, 8, 40, true, 1);
  check_windows<22, 1, 5>({9, 3, 1, 1, 1}, {22, 3, 1, 1, 1}, 5, 19, true, 3);
  check_windows<4, 2, 4>({9, 3, 1, 2, 2}, {13, 2, 1, 3, 2}, 4, 19, true, 5);
  check_windows<6, 1, 16>({14, 3, 2, 1, 1}, {14, 3, 2, 1, 1}, 8, 16, true, 7);
  check_windows<10, 4, 6>({20, 7, 2, 1, 3}, {20, 7, 2, 1, 3}, 3, 16, false, 9);
  check_windows<36, 3, 8, 6>({9, 3, 1, 1, 1}, {36, 3, 1, 1, 1}, 8, 40, true, 13);
  check_windows<9, 1, 16>({9, 2, 1, 1, 0}, {9, 1, 2, 1, 0}, 8, 16, true, 11);  // positions between are skipped
}

/// One element of a matrix is `value`; its row, and with it the strip, is as multiply-adds have it.
void check_value(float value) {
  constexpr i64 m = 40, n = 20, k = 70, at = 19;
  using Digits = AmxDigitBlocks<16, 2, k, 16, EmulatedTiles>;
  auto a = any_floats(m * k, 1);
  auto weights = any_floats(n * k, 2);
  weights[5] = 0x1p-40F;  // less than a unit: infinities keep the sign they get of it
  a[at * k + 13] = value;
  const auto f = [&](i64 i, i64 kk) { return a[static_cast<size_t>(i * k + kk)]; };
  const Results r = results<Digits, RowBlocks<float, 8, 1, k>>(m, n, k, MatrixRows<float, float, 16, k>{a.data(), k, m, k},
                                                               MatrixRows<float, float, 8, k>{a.data(), k, m, k}, f, weights, 1, {});
  for (i64 i = 0; i < m * n; ++i) {
    const auto at_i = static_cast<size_t>(i);
    if (std::isnan(r.plain[at_i])) {
      EXPECT_TRUE(std::isnan(r.digits[at_i])) << value << " row " << i / n;
    } else if (std::isinf(r.plain[at_i])) {
      EXPECT_EQ(r.digits[at_i], r.plain[at_i]) << value << " row " << i / n;
    } else {
      ASSERT_NEAR(static_cast<double>(r.digits[at_i]), r.exact[at_i], r.length[at_i] * 8 * 0x1p-24) << value << " row " << i / n;
    }
  }
}

TEST(DigitRows, ValuesThatDigitsDoNotStandForAreMultipliedAsFloats) {
  using Limits = std::numeric_limits<float>;
  for (const float value : {Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN(), Limits::max(), -0x1p127F, 0x1p60F, 0x1p59F, 0x1p-101F, Limits::min(),
                            Limits::denorm_min()})
    check_value(value);
}

TEST(DigitRows, RowsOfTinyAndOfLargeValuesKeepTheirDigits) {
  constexpr i64 m = 20, n = 16, k = 64;
  using Digits = AmxDigitBlocks<16, 2, k, 16, EmulatedTiles>;
  for (const int exponent : {-120, -99, -61, -58, 0, 50, 58, 62, 100})
    for (const int of_weights : {-55, 0, 55}) {
      if (exponent + of_weights > 115 || exponent + of_weights < -115) continue;
      auto a = any_floats(m * k, 1), weights = any_floats(n * k, 2);
      for (float& x : a) x = std::ldexp(x, exponent);
      for (float& x : weights) x = std::ldexp(x, of_weights);
      const auto f = [&](i64 i, i64 kk) { return a[static_cast<size_t>(i * k + kk)]; };
      const Results r = results<Digits, RowBlocks<float, 8, 1, k>>(m, n, k, MatrixRows<float, float, 16, k>{a.data(), k, m, k},
                                                                   MatrixRows<float, float, 8, k>{a.data(), k, m, k}, f, weights, 1, {});
      SCOPED_TRACE(exponent);
      expect_accuracy_of_floats(r, k);
    }
}

TEST(DigitRows, EntriesOfABatchHaveWeightsOfTheirOwn) {
  constexpr i64 m = 20, n = 40, k = 70, batch = 3;
  using Digits = AmxDigitBlocks<16, 2, k, 16, EmulatedTiles>;
  const auto a = any_floats(batch * m * k, 1), weights = any_floats(batch * n * k, 2);
  constexpr i64 rows = Digits::panel_steps(k), group = (rows + 1) * 2 * Digits::columns;
  std::vector<ByteDigits> digits(batch * group);
  for (i64 b = 0; b < batch; ++b)
    pack_digits(digits.data() + b * group, n, 1, k, Digits::columns, Digits::steps,
                [&](i64 j, i64 kk) { return weights[static_cast<size_t>((b * n + j) * k + kk)]; });
  const MatrixRows<float, float, 16, k> left{a.data(), k, m, k, {m * k}};
  for (const int threads : {1, 2}) {
    const std::vector<float> out = product<Digits>(m, n, DigitStrips<decltype(left), Digits>{left}, DigitPanels<Digits::columns>{digits.data(), rows, {group}},
                                                   threads, {.pieces = 1}, batch);
    for (i64 b = 0; b < batch; ++b)
      for (i64 i = 0; i < m; ++i)
        for (i64 j = 0; j < n; ++j) {
          double sum = 0;
          for (i64 kk = 0; kk < k; ++kk)
            sum += static_cast<double>(a[static_cast<size_t>((b * m + i) * k + kk)]) * static_cast<double>(weights[static_cast<size_t>((b * n + j) * k + kk)]);
          ASSERT_NEAR(static_cast<double>(out[static_cast<size_t>((b * m + i) * n + j)]), sum, 1e-5) << b << " " << i << " " << j;
        }
  }
}

/// Half of a picture is so many times darker than the other: the windows in it keep the bits of floats.
void check_dim_half(int exponent) {
  constexpr i64 size = 18, channels = 8, filters = 16, k = 9 * channels, out = size - 2;
  using Digits = AmxDigitBlocks<16, 1, channels, 6, EmulatedTiles>;
  auto image = any_floats(size * size * channels, 1);
  const auto weights = any_floats(filters * k, 2);
  for (i64 i = 0; i < size * size * channels; ++i)
    if (i / channels % size >= 8) image[static_cast<size_t>(i)] = std::ldexp(image[static_cast<size_t>(i)], exponent);
  const auto windows = [&]<int rows>(std::integral_constant<int, rows>) {
    return WindowRows<float, float, 2, rows, channels>{.data = image.data(),
                                                       .channels = channels,
                                                       .channel_stride = 1,
                                                       .pitch = {size * channels, channels},
                                                       .input = {size, size},
                                                       .output = {out, out},
                                                       .kernel = {3, 3},
                                                       .stride = {1, 1},
                                                       .dilation = {1, 1},
                                                       .pad = {0, 0}};
  };
  const auto f = [&](i64 o, i64 kk) {
    const i64 tap = kk / channels;
    return image[static_cast<size_t>(((o / out + tap / 3) * size + o % out + tap % 3) * channels + kk % channels)];
  };
  const Results r = results<Digits, RowBlocks<float, 8, 1, channels>>(out * out, filters, k, windows(std::integral_constant<int, 16>{}),
                                                                      windows(std::integral_constant<int, 8>{}), f, weights, 1, {});
  double squares = 0, lengths = 0;
  for (i64 i = 0; i < out * out * filters; ++i) {
    if (i / filters % out < 8) continue;
    const auto at = static_cast<size_t>(i);
    squares += std::pow(static_cast<double>(r.digits[at]) - r.exact[at], 2), lengths += r.length[at] * r.length[at];
  }
  EXPECT_LE(std::sqrt(squares / lengths * k) * 0x1p24, 10) << "2^" << exponent;
}

TEST(DigitRows, WindowsBesideBrighterOnesKeepTheirBits) {
  for (const int exponent : {0, -2, -3, -4, -7, -9, -12, -24}) check_dim_half(exponent);
}

/// Rows of which one element is far larger than the others, of unlike magnitudes side by side: none is worse than by multiply-adds of floats, row by row.
TEST(DigitRows, RowsHaveUnitsOfTheirOwn) {
  constexpr i64 m = 32, n = 16, k = 512;
  using Digits = AmxDigitBlocks<32, 1, k, 16, EmulatedTiles>;
  auto a = any_floats(m * k, 1);
  const auto weights = any_floats(n * k, 2);
  for (i64 i = 0; i < m; ++i) {
    for (i64 kk = 0; kk < k; ++kk) a[static_cast<size_t>(i * k + kk)] *= std::ldexp(1.F, static_cast<int>(i % 5) * 12 - 24);
    if (i % 2) a[static_cast<size_t>(i * k + i)] *= 1000;
  }
  const auto f = [&](i64 i, i64 kk) { return a[static_cast<size_t>(i * k + kk)]; };
  const Results r = results<Digits, RowBlocks<float, 8, 1, k>>(m, n, k, MatrixRows<float, float, 32, k>{a.data(), k, m, k},
                                                               MatrixRows<float, float, 8, k>{a.data(), k, m, k}, f, weights, 1, {});
  for (i64 i = 0; i < m; ++i) {
    double digits = 0, plain = 0;
    for (i64 j = 0; j < n; ++j) {
      const auto at = static_cast<size_t>(i * n + j);
      digits += std::pow(static_cast<double>(r.digits[at]) - r.exact[at], 2), plain += std::pow(static_cast<double>(r.plain[at]) - r.exact[at], 2);
    }
    EXPECT_LE(std::sqrt(digits), 1.5 * std::sqrt(plain)) << "row " << i;
  }
}

}  // namespace
}  // namespace tile
