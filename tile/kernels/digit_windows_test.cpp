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

struct Axis {
  i64 input, kernel, dilation = 1, pad = 0, stride = 1;
  i64 output() const { return (input + 2 * pad - (kernel - 1) * dilation - 1) / stride + 1; }
};

/// Convolutions of two pictures, whose halves have unlike magnitudes, one with an infinity: results are as near as those of floats to what float64 gives.
template <int rows, i64 channels_, i64 stride>
void check_pictures(Axis y, Axis x, float scale, float corner, unsigned seed) {
  constexpr i64 step = channels_ * stride, batch = 2, columns = 20;
  const i64 picture = y.input * x.input * channels_, results = y.output() * x.output(), terms = y.kernel * x.kernel * channels_;
  auto image = any_floats(batch * picture, seed, seed % 4 == 1);
  for (i64 i = 0; i < batch * picture; ++i)
    if (i / channels_ % (y.input * x.input) >= y.input * x.input / 2) image[static_cast<size_t>(i)] *= scale;
  image[static_cast<size_t>(picture - 1)] = corner;
  const auto weights = any_floats(columns * terms, seed + 1);

  using Block = AmxDigitBlocks<rows, 1, step, 16, EmulatedTiles>;
  const JoinedWindows<float, float, rows, step> joined{{.data = image.data(),
                                                        .batch = {picture},
                                                        .channels = channels_,
                                                        .channel_stride = 1,
                                                        .pitch = {x.input * channels_, channels_},
                                                        .input = {y.input, x.input},
                                                        .output = {y.output(), x.output()},
                                                        .kernel = {y.kernel, x.kernel},
                                                        .stride = {y.stride, x.stride},
                                                        .dilation = {y.dilation, x.dilation},
                                                        .pad = {y.pad, x.pad}}};
  const i64 lines = joined.runs() * Block::panel_steps(joined.depth());
  std::vector<ByteDigits> digits(static_cast<size_t>((lines + 1) * 32));
  pack_digits(digits.data(), columns, joined.runs(), joined.depth(), 16, 16, [&](i64 j, i64 t) { return weights[static_cast<size_t>(j * terms + t)]; });
  for (const RowsBlocking& blocking : {RowsBlocking{}, kept}) {
    const std::vector<float> out =
        product<Block>(results, columns, testing::digits_of<Block>(joined), DigitPanels<16>{digits.data(), lines}, 1, blocking, batch);
    for (i64 o = 0; o < batch * results; ++o)
      for (i64 j = 0; j < columns; ++j) {
        double sum = 0, lengths = 0, row = 0, column = 0;
        for (i64 t = 0; t < terms; ++t) {
          const i64 tap = t / channels_, line = o % results / x.output() * y.stride - y.pad + tap / x.kernel * y.dilation,
                    position = o % x.output() * x.stride - x.pad + tap % x.kernel * x.dilation;
          if (line < 0 || line >= y.input || position < 0 || position >= x.input) continue;
          const auto a = static_cast<double>(image[static_cast<size_t>(o / results * picture + (line * x.input + position) * channels_ + t % channels_)]);
          const auto b = static_cast<double>(weights[static_cast<size_t>(j * terms + t)]);
          sum += a * b, row += a * a, column += b * b;
        }
        lengths = std::sqrt(row * column);
        const auto actual = static_cast<double>(out[static_cast<size_t>(o * columns + j)]);
        if (std::isfinite(sum)) {
          ASSERT_NEAR(actual, sum, lengths * 8 * 0x1p-24) << "result " << o << " of filter " << j;
        } else {
          ASSERT_FALSE(std::isfinite(actual)) << "result " << o << " of filter " << j;
        }
      }
  }
}

TEST(DigitWindows, OfAllKindsAreAsNearAsFloats) {
  for (const float corner : {1.F, std::numeric_limits<float>::infinity()})
    for (const float scale : {1.F, 0x1p-3F, 0x1p-11F}) {
      check_pictures<32, 64, 2>({14, 5, 1, 2, 2}, {14, 5, 1, 2, 2}, scale, corner, 1);
      check_pictures<32, 24, 2>({15, 3, 1, 0, 2}, {15, 3, 1, 0, 2}, scale, corner, 3);
      check_pictures<16, 40, 2>({20, 7, 1, 3, 2}, {14, 7, 1, 3, 2}, scale, corner, 5);
      check_pictures<28, 48, 1>({14, 3, 1, 1, 1}, {14, 3, 1, 1, 1}, scale, corner, 7);
      check_pictures<16, 72, 1>({13, 3, 2, 2, 1}, {11, 3, 3, 3, 1}, scale, corner, 9);
      check_pictures<32, 64, 2>({16, 1, 1, 0, 2}, {16, 1, 1, 0, 2}, scale, corner, 11);
      check_pictures<16, 64, 3>({17, 4, 1, 1, 2}, {19, 1, 1, 1, 3}, scale, corner, 13);
      check_pictures<32, 64, 1>({9, 1, 1, 0, 1}, {17, 7, 1, 3, 1}, scale, corner, 15);
    }
}

TEST(DigitWindows, WithLonePeaksKeepTheBitsOfTheOthers) {
  for (const float peak : {10.F, 100.F, 1e4F, 1e12F, 1e30F}) {
    auto image = any_floats(height * width * channels, 3, true);
    for (size_t i = 77; i < image.size(); i += 1501) image[i] *= peak;
    const Results r = convolved(image);
    const auto all = [](i64, i64) { return true; };
    // Three digits are for rows with peaks of 6 at most, in units of twice their own.
    EXPECT_LE(error_where(r, r.digits, all), std::hypot(0.6 * 2 * 6, 0.6 * r.column_peak) + 1) << peak;
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
