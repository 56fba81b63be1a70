#include "tile/kernels/winograd_digits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tile/testing/teams.h"

// Winograd's method by digits: against float64.

namespace tile {
namespace {

struct Convolution {
  WinogradShape shape;
  std::vector<float> x, weights;  ///< weights: [filter, tap, channel]

  Convolution(i64 images, i64 channels, i64 filters, i64 height, i64 width, i64 pad, i64 pitch)
      : shape{images, channels, filters, {height, width}, {height + 2 * pad - 2, width + 2 * pad - 2}, {pad, pad}, pitch} {
    std::mt19937 random(static_cast<unsigned>(height * 31 + width + channels));
    std::normal_distribution<float> normal;
    x.resize(static_cast<size_t>(images * height * width * pitch));
    for (float& value : x) value = std::max(normal(random) + 0.5F, 0.F);
    weights.resize(static_cast<size_t>(filters * 9 * channels));
    for (float& value : weights) value = normal(random);
  }
  i64 positions() const { return shape.output[0] * shape.output[1]; }

  /// each(input, weight) for the terms of a result.
  template <class F>
  void terms(i64 image, i64 position, i64 filter, F&& each) const {
    for (i64 tap = 0; tap < 9; ++tap) {
      const i64 row = position / shape.output[1] + tap / 3 - shape.pad[0], column = position % shape.output[1] + tap % 3 - shape.pad[1];
      if (row < 0 || row >= shape.input[0] || column < 0 || column >= shape.input[1]) continue;
      for (i64 c = 0; c < shape.channels; ++c)
        each(x[static_cast<size_t>(((image * shape.input[0] + row) * shape.input[1] + column) * shape.pitch + c)],
             weights[static_cast<size_t>((filter * 9 + tap) * shape.channels + c)]);
    }
  }
};

/// point(q) of a filter's channel.
void points_of(const Convolution& layer, i64 filter, i64 channel, float (&to)[16]) {
  float taps[3][3];
  for (i64 i = 0; i < 9; ++i) taps[i / 3][i % 3] = layer.weights[static_cast<size_t>((filter * 9 + i) * layer.shape.channels + channel)];
  double points[4][4];
  winograd_filter(taps, points);
  for (i64 q = 0; q < 16; ++q) to[q] = static_cast<float>(points[q / 4][q % 4]);
}

template <class Block>
std::vector<ByteDigits> filters_of(const Convolution& layer) {
  constexpr i64 width = Block::columns;
  const i64 channels = layer.shape.channels, rows = Block::panel_steps(channels) + 1, panels = (layer.shape.filters + width - 1) / width;
  std::vector<ByteDigits> all(static_cast<size_t>(panels * 16 * rows * width));
  for (i64 p = 0; p < panels; ++p)
    for (i64 q = 0; q < 16; ++q)
      pack_digits(all.data() + (p * 16 + q) * rows * width, std::min(width, layer.shape.filters - p * width), 1, channels, static_cast<int>(width),
                  Block::steps, [&](i64 j, i64 c) {
                    float points[16];
                    points_of(layer, p * width + j, c, points);
                    return points[q];
                  });
  return all;
}

/// The largest magnitude of a point over the root of the mean square of its column, at most.
double column_peak(const Convolution& layer) {
  double peak = 0;
  for (i64 f = 0; f < layer.shape.filters; ++f) {
    double largest[16] = {}, squares[16] = {};
    for (i64 c = 0; c < layer.shape.channels; ++c) {
      float points[16];
      points_of(layer, f, c, points);
      for (int q = 0; q < 16; ++q) {
        const double point = std::abs(static_cast<double>(points[q]));
        largest[q] = std::max(largest[q], point), squares[q] += point * point;
      }
    }
    for (int q = 0; q < 16; ++q) peak = std::max(peak, largest[q] / std::sqrt(squares[q] / static_cast<double>(layer.shape.channels)));
  }
  return peak;
}

template <class Block>
std::vector<float> run(const Convolution& layer, int threads) {
  const i64 positions = layer.positions(), filters = layer.shape.filters;
  std::vector<float> out(static_cast<size_t>(layer.shape.images * positions * filters));
  std::vector<std::atomic<int>> seen(out.size());
  const std::vector<ByteDigits> panels = filters_of<Block>(layer);
  testing::TestTeam team(threads);
  winograd<Block>(
      layer.shape, layer.x.data(), panels.data(),
      [&](i64 image, i64 m0, i64 n0, i64 count, auto columns, const float* sums, auto ld) {
        for (i64 i = 0; i < count; ++i)
          for (i64 j = 0; j < columns; ++j) {
            const auto at = static_cast<size_t>((image * positions + m0 + i) * filters + n0 + j);
            out.at(at) = sums[i * ld + j];
            ++seen[at];
          }
      },
      team.team(), 1 << 20);
  for (const std::atomic<int>& times : seen) EXPECT_EQ(times, 1);
  return out;
}

void expect_accuracy(const Convolution& layer, const std::vector<float>& actual) {
  double error = 0, length = 0;
  size_t at = 0;
  for (i64 image = 0; image < layer.shape.images; ++image)
    for (i64 m = 0; m < layer.positions(); ++m)
      for (i64 f = 0; f < layer.shape.filters; ++f, ++at) {
        double exact = 0;
        layer.terms(image, m, f, [&](float a, float b) { exact += static_cast<double>(a) * static_cast<double>(b); });
        error += std::pow(static_cast<double>(actual[at]) - exact, 2), length += exact * exact;
      }
  // Filters' numbers err by 0.6 units of 2^-24 of the largest in the mean; a result of length 3 is made of nine sums, of whose products these errors are, that
  // have length 5. Transforms round, too.
  EXPECT_LE(std::sqrt(error / length) * 0x1p24, 0.6 * column_peak(layer) * 5 / 3 + 1)
      << layer.shape.channels << " channels, " << layer.shape.input[0] << " rows";
}

template <int rows, int vectors, i64 channels, int steps = 16>
void check(i64 images, i64 filters, i64 height, i64 width, i64 pad, int threads, i64 pitch = channels) {
  const Convolution layer(images, channels, filters, height, width, pad, pitch);
  expect_accuracy(layer, run<AmxDigitBlocks<rows, vectors, channels, steps, EmulatedTiles>>(layer, threads));
}

TEST(WinogradDigits, ErrByWhatFiltersNumbersDo) {
  check<16, 2, 64>(1, 40, 8, 8, 1, 1);
  check<16, 1, 32, 8>(2, 33, 7, 9, 1, 3);
  check<7, 2, 16, 4>(1, 5, 13, 6, 0, 1);
  check<16, 1, 80, 10>(3, 17, 4, 30, 1, 2, 96);
  check<16, 2, 272, 14>(1, 32, 3, 3, 0, 1);  // one tile; the last step of channels is not full
  check<16, 1, 16, 4>(1, 20, 21, 34, 1, 1);  // strips in several passes
  check<16, 2, 64>(1, 20, 1, 1, 1, 1);
  check<16, 2, 64>(1, 20, 5, 5, 2, 2);
}

TEST(WinogradDigits, PassLargeFiltersOnce) {
  check<16, 2, 1024>(1, 96, 16, 15, 1, 3);
  check<16, 2, 1024>(2, 70, 13, 15, 1, 1, 1040);
}

TEST(WinogradDigits, HaveFourOfEachInput) {
  // Large inputs that meet no weights take seven bits from the others.
  Convolution layer(1, 64, 20, 10, 9, 1, 64);
  for (size_t i = 0; i < layer.x.size(); i += 64) layer.x[i] *= 128;
  for (size_t i = 0; i < layer.weights.size(); i += 64) layer.weights[i] = 0;
  expect_accuracy(layer, run<AmxDigitBlocks<16, 1, 64, 16, EmulatedTiles>>(layer, 1));
}

TEST(WinogradDigits, OfWholeNumbersAreExact) {
  Convolution layer(1, 32, 20, 10, 9, 1, 32);
  for (float& value : layer.x) value = std::nearbyint(value * 3);
  for (float& value : layer.weights) value = std::nearbyint(value * 2) * 4;
  const std::vector<float> actual = run<AmxDigitBlocks<16, 1, 32, 8, EmulatedTiles>>(layer, 2);
  for (i64 m = 0; m < layer.positions(); ++m)
    for (i64 f = 0; f < 20; ++f) {
      double exact = 0;
      layer.terms(0, m, f, [&](float a, float b) { exact += static_cast<double>(a) * static_cast<double>(b); });
      ASSERT_EQ(static_cast<double>(actual[static_cast<size_t>(m * 20 + f)]), exact) << m << " " << f;
    }
}

TEST(WinogradDigits, LeaveToFloatsWhatTheyDoNotStandFor) {
  using Block = AmxDigitBlocks<16, 1, 64, 16, EmulatedTiles>;
  for (const float odd : {0x1p-120F, 0x1p100F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    Convolution layer(1, 64, 20, 12, 12, 1, 64);
    if (odd < 1) std::fill(layer.x.begin(), layer.x.end(), 0.F);
    const i64 row = 5, column = 7;
    layer.x[static_cast<size_t>((row * 12 + column) * 64 + 3)] = odd;
    const std::vector<float> actual = run<Block>(layer, 1);
    for (i64 m = 0; m < layer.positions(); ++m)
      for (i64 f = 0; f < 20; ++f) {
        const float result = actual[static_cast<size_t>(m * 20 + f)];
        double exact = 0, length = 0;
        layer.terms(0, m, f, [&](float a, float b) {
          const double term = static_cast<double>(a) * static_cast<double>(b);
          exact += term, length += std::abs(term);
        });
        const bool meets = std::abs(m / 12 - row) <= 1 && std::abs(m % 12 - column) <= 1;
        // Tiles overlap: those of results two positions away may hold what these do not meet.
        const bool near = std::abs(m / 12 - row) <= 2 && std::abs(m % 12 - column) <= 2;
        if (!std::isfinite(odd) && meets) {
          EXPECT_FALSE(std::isfinite(result)) << odd << " at " << m;
        } else if (std::isfinite(odd) || !near) {
          // Weights err by 2^-24 of their column's largest, and so do sums that the odd value leaves again.
          const double by_weights = near ? 16 * 0x1p-24 * static_cast<double>(odd) : 0;
          EXPECT_NEAR(result, exact, 0x1p-20 * length + by_weights + 0x1p-149) << odd << " at " << m;
        }
      }
  }
}

}  // namespace
}  // namespace tile
