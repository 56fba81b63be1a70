#include "tile/kernels/digit_windows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tile/testing/digit_products.h"

// Convolutions of floats by digits whose units bundles of strips share: where their magnitudes are unlike. That strips are the right windows is
// joined_windows_test's.

namespace tile {
namespace {

using testing::any_floats, testing::product, testing::Results, testing::results;

/// 3 x 3 windows of a picture, a line of which is as long as several strips.
constexpr i64 height = 60, width = 34, channels = 8, filters = 40, k = 9 * channels, high = height - 2, wide = width - 2;
using Digits = AmxDigitBlocks<16, 1, channels, 6, EmulatedTiles>;

template <int rows>
WindowRows<float, float, 2, rows, channels> windows_of(const std::vector<float>& image) {
  return {.data = image.data(),
          .channels = channels,
          .channel_stride = 1,
          .pitch = {width * channels, channels},
          .input = {height, width},
          .output = {high, wide},
          .kernel = {3, 3},
          .stride = {1, 1},
          .dilation = {1, 1},
          .pad = {0, 0}};
}

Results convolved(const std::vector<float>& image, const RowsBlocking& blocking = {}) {
  const auto f = [&](i64 o, i64 kk) {
    const i64 tap = kk / channels;
    return image[static_cast<size_t>(((o / wide + tap / 3) * width + o % wide + tap % 3) * channels + kk % channels)];
  };
  const JoinedWindows<float, float, 16, channels> joined{windows_of<16>(image)};
  return results<Digits, RowBlocks<float, 8, 1, channels>>(high * wide, filters, k, joined, windows_of<8>(image), f, any_floats(filters * k, 2), 1, blocking);
}

/// The error of results for which `counts(line, column)`, in units of 2^-24 as testing::error() has it.
template <class F>
double error_where(const Results& r, const std::vector<float>& actual, F&& counts) {
  double squares = 0, lengths = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const auto o = static_cast<i64>(i) / filters;
    if (!counts(o / wide, o % wide)) continue;
    squares += std::pow(static_cast<double>(actual[i]) - r.exact[i], 2), lengths += r.length[i] * r.length[i];
  }
  return std::sqrt(squares / lengths * k) * 0x1p24;
}

const RowsBlocking kept{.panel_bytes = 256, .strip_bytes = 4096, .pieces = 1};  // strips stay while groups of panels pass

TEST(DigitWindows, BesideBrighterOnesKeepTheirBits) {
  for (const RowsBlocking& blocking : {RowsBlocking{}, kept})
    for (const int exponent : {0, -1, -2, -3, -4, -7, -8, -9, -12, -24})
      for (const bool lower : {false, true}) {
        auto image = any_floats(height * width * channels, 1);
        for (i64 i = 0; i < height * width; ++i)
          for (i64 c = 0; c < channels; ++c)
            if (lower ? i / width >= height / 2 : i % width >= width / 2) {
              float& x = image[static_cast<size_t>(i * channels + c)];
              x = std::ldexp(x, exponent);
            }
        const Results r = convolved(image, blocking);
        EXPECT_LE(error_where(r, r.digits, [&](i64 line, i64 column) { return lower ? line >= height / 2 : column >= width / 2; }), 10)
            << "2^" << exponent << (lower ? " below" : " on the right");
      }
}

TEST(DigitWindows, WithLonePeaksErrNoMoreThanMultiplyAdds) {
  for (const float peak : {10.F, 100.F, 1e4F, 1e12F, 1e30F}) {
    auto image = any_floats(height * width * channels, 3, true);
    for (size_t i = 77; i < image.size(); i += 1501) image[i] *= peak;
    const Results r = convolved(image);
    const auto all = [](i64, i64) { return true; };
    EXPECT_LE(error_where(r, r.digits, all), 2 * error_where(r, r.plain, all) + 4) << peak;
  }
}

TEST(DigitWindows, WithAPeakEachHaveAFourthDigit) {
  auto image = any_floats(height * width * channels, 3);
  for (i64 i = 0; i < height * width; ++i)
    if (i / width % 3 == 0 && i % width % 3 == 0) image[static_cast<size_t>(i * channels)] = 50;
  const Results r = convolved(image);
  EXPECT_GT(0.6 * r.row_peak, 4);
  EXPECT_LE(error_where(r, r.digits, [](i64, i64) { return true; }), 0.6 * r.column_peak + 1) << "columns' digits and the last rounding alone";
}

TEST(DigitWindows, OfAPeakSpareTheOthersTheirBits) {
  for (const float peak : {1e3F, 1e12F}) {
    auto image = any_floats(height * width * channels, 5);
    constexpr i64 line = 31, column = 17;
    image[static_cast<size_t>((line * width + column) * channels)] = peak;
    const Results r = convolved(image);
    // Strips of 16 and their neighbours above and below share a peak's unit, by a fourth digit up to 2^8 of it.
    const auto far = [&](i64 l, i64) { return l + 2 < line || l > line; };
    EXPECT_LE(error_where(r, r.digits, far), 10) << peak;
  }
}

TEST(DigitWindows, WithInfinitiesAndNansAreAsFloatsHaveThem) {
  using Limits = std::numeric_limits<float>;
  for (const float value : {Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN(), Limits::max(), -0x1p127F, 0x1p59F, Limits::denorm_min()}) {
    auto image = any_floats(height * width * channels, 7);
    constexpr i64 line = 31, column = 17;
    image[static_cast<size_t>((line * width + column) * channels + 3)] = value;
    const Results r = convolved(image);
    for (size_t i = 0; i < r.digits.size(); ++i) {
      if (std::isnan(r.plain[i])) {
        EXPECT_TRUE(std::isnan(r.digits[i])) << value;
      } else if (std::isinf(r.plain[i])) {
        EXPECT_EQ(r.digits[i], r.plain[i]) << value;
      } else {
        ASSERT_NEAR(static_cast<double>(r.digits[i]), r.exact[i], r.length[i] * 8 * 0x1p-24) << value << " at " << i / filters;
      }
    }
  }
}

TEST(DigitWindows, AreTheSameForAllTeams) {
  auto image = any_floats(height * width * channels, 9, true);
  for (size_t i = 77; i < image.size(); i += 1501) image[i] *= 1000;
  const JoinedWindows<float, float, 16, channels> joined{windows_of<16>(image)};
  const i64 rows = joined.runs() * Digits::panel_steps(joined.depth());
  std::vector<ByteDigits> digits(static_cast<size_t>((rows + 1) * (filters + 8)));
  const auto weights = any_floats(filters * k, 2);
  pack_digits(digits.data(), filters, joined.runs(), joined.depth(), Digits::columns, Digits::steps,
              [&](i64 j, i64 kk) { return weights[static_cast<size_t>(j * k + kk)]; });
  const auto by = [&](int threads, const RowsBlocking& blocking) {
    return product<Digits>(high * wide, filters, testing::digits_of<Digits>(joined), DigitPanels<Digits::columns>{digits.data(), rows}, threads, blocking);
  };
  const std::vector<float> alone = by(1, {});
  EXPECT_EQ(by(2, {.pieces = 1}), alone);
  EXPECT_EQ(by(5, {.split = RowsBlocking::Split::rows}), alone);
  EXPECT_EQ(by(2, kept), alone);
}

}  // namespace
}  // namespace tile
