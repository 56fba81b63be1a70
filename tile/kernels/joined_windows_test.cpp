#include "tile/kernels/joined_windows.h"

#include <gtest/gtest.h>

#include <random>
#include <utility>
#include <vector>

#include "tile/atoms/amx.h"
#include "tile/kernels/digit_windows.h"
#include "tile/testing/teams.h"

namespace tile {
namespace {

struct Axis {
  i64 input, kernel, dilation = 1, pad = 0, stride = 1;
  i64 output() const { return (input + 2 * pad - (kernel - 1) * dilation - 1) / stride + 1; }
};

/// Whole numbers, whose sums are exact however they are added up.
struct Layer {
  Axis y, x;
  i64 channels, filters, pitch, batch = 2;
  bool channels_last = true;

  i64 image() const { return y.input * x.input * pitch; }
  i64 k() const { return y.kernel * x.kernel * channels; }
  i64 positions() const { return y.output() * x.output(); }
};

std::vector<float> any_numbers(i64 count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> v(static_cast<size_t>(count));
  for (float& x : v) x = static_cast<float>(static_cast<int>(random() % 15) - 7);
  return v;
}

template <class T, class P, int rows, i64 step>
JoinedWindows<T, P, rows, step> windows_of(const Layer& layer, const T* data) {
  JoinedWindows<T, P, rows, step> joined{};
  auto& windows = joined.windows;
  windows.data = data;
  windows.batch = BatchStride{layer.image()};
  windows.channels = layer.channels;
  windows.channel_stride = layer.channels_last ? 1 : layer.y.input * layer.x.input;
  const Axis* axes[] = {&layer.y, &layer.x};
  for (int d = 0; d < 2; ++d) {
    windows.pitch[d] = (d == 0 ? layer.x.input : 1) * (layer.channels_last ? layer.pitch : 1);
    windows.input[d] = axes[d]->input, windows.output[d] = axes[d]->output(), windows.kernel[d] = axes[d]->kernel;
    windows.stride[d] = axes[d]->stride, windows.dilation[d] = axes[d]->dilation, windows.pad[d] = axes[d]->pad;
  }
  return joined;
}

/// The product by its definition, for images and weights whose layouts windows_of() and the panels have.
std::vector<float> convolved(const Layer& layer, const std::vector<float>& image, const std::vector<float>& weights) {
  std::vector<float> out;
  const i64 pixel = layer.channels_last ? layer.pitch : 1, channel = layer.channels_last ? 1 : layer.y.input * layer.x.input;
  for (i64 b = 0; b < layer.batch; ++b)
    for (i64 o = 0; o < layer.positions(); ++o)
      for (i64 f = 0; f < layer.filters; ++f) {
        float sum = 0;
        for (i64 k = 0; k < layer.k(); ++k) {
          const i64 tap = k / layer.channels, row = o / layer.x.output() * layer.y.stride - layer.y.pad + tap / layer.x.kernel * layer.y.dilation,
                    column = o % layer.x.output() * layer.x.stride - layer.x.pad + tap % layer.x.kernel * layer.x.dilation;
          if (row < 0 || row >= layer.y.input || column < 0 || column >= layer.x.input) continue;
          sum += image[static_cast<size_t>(b * layer.image() + (row * layer.x.input + column) * pixel + k % layer.channels * channel)] *
                 weights[static_cast<size_t>(f * layer.k() + k)];
        }
        out.push_back(sum);
      }
  return out;
}

template <class Block, class Left, class Right>
void expect_product(const Layer& layer, const std::vector<float>& expected, const Left& left, const Right& right) {
  for (const auto& [threads, blocking] : {std::pair<int, RowsBlocking>{1, {}}, {3, {.panel_bytes = 256, .strip_bytes = 64, .fetch_results = true}}}) {
    testing::TestTeam team(threads);
    std::vector<float> out(expected.size(), 77);
    std::vector<int> times(expected.size());
    contract_rows<Block>(
        layer.batch, layer.filters, left, right,
        [&](i64 b, i64 m0, i64 n0, i64 rows, auto columns, const float* tile, auto ld) {
          if (tile == nullptr) return;
          for (i64 i = 0; i < rows; ++i)
            for (i64 j = 0; j < columns; ++j) {
              const auto at = static_cast<size_t>(((b * layer.positions()) + m0 + i) * layer.filters + n0 + j);
              out.at(at) = tile[i * ld + j];
              ++times.at(at);
            }
        },
        team.team(), blocking);
    ASSERT_EQ(out, expected);
    ASSERT_EQ(times, std::vector<int>(expected.size(), 1));
  }
}

template <int rows, i64 step>
void check(const Layer& layer, unsigned seed) {
  const std::vector<float> image = any_numbers(layer.batch * layer.image(), seed), weights = any_numbers(layer.filters * layer.k(), seed + 1);
  const std::vector<float> expected = convolved(layer, image, weights);
  const auto weight = [&](i64 f, i64 k) { return weights[static_cast<size_t>(f * layer.k() + k)]; };

  const auto floats = windows_of<float, float, rows, step>(layer, image.data());
  using Vectors = RowBlocks<float, 8, 1, step>;
  constexpr int width = Vectors::columns;
  std::vector<float> panels(static_cast<size_t>((layer.filters + width - 1) / width * width * layer.k()));
  for (i64 f = 0; f < layer.filters; ++f)
    for (i64 k = 0; k < layer.k(); ++k) panels[static_cast<size_t>((f / width * layer.k() + k) * width + f % width)] = weight(f, k);
  expect_product<Vectors>(layer, expected, windows_of<float, float, 8, step>(layer, image.data()), Packed<float, width>{panels.data(), layer.k()});

  using Digits = AmxDigitBlocks<rows, 1, step, 16, EmulatedTiles>;
  const DigitStrips<decltype(floats), Digits> digits{floats};
  const i64 lines = floats.runs() * Digits::panel_steps(floats.depth());
  std::vector<ByteDigits> digit_panels(static_cast<size_t>((layer.filters + 15) / 16 * 16 * (lines + 1)));
  pack_digits(digit_panels.data(), layer.filters, floats.runs(), floats.depth(), 16, 16, weight);
  expect_product<Digits>(layer, expected, digits, DigitPanels<16>{digit_panels.data(), lines});
  if (layer.channels_last) expect_product<Digits>(layer, expected, DigitWindows<decltype(floats), Digits>{floats}, DigitPanels<16>{digit_panels.data(), lines});

  using Bfloats = AmxBlocks<float, rows, 2, step, BfloatPair, 16, EmulatedTiles>;
  std::vector<bfloat16> short_image;
  for (const float x : image) short_image.push_back(store_as<bfloat16>(x));
  const auto bfloats = windows_of<bfloat16, bfloat16, rows, step>(layer, short_image.data());
  const i64 steps = bfloats.runs() * dot_steps(bfloats.depth(), 2);
  std::vector<BfloatPair> pairs(static_cast<size_t>((layer.filters + 31) / 32 * 32 * steps));
  pack_groups(
      pairs.data(), layer.filters, bfloats.runs(), bfloats.depth(), 32, [&](i64 f, i64 k) { return store_as<bfloat16>(weight(f, k)); }, 16, 16);
  expect_product<Bfloats>(layer, expected, bfloats, Packed<BfloatPair, 32>{pairs.data(), steps});
  expect_product<Bfloats>(layer, expected, BundledWindows<decltype(bfloats), bfloat16, rows, step>{bfloats}, Packed<BfloatPair, 32>{pairs.data(), steps});
}

TEST(JoinedWindows, OfLinesShorterThanAStrip) {
  check<28, 16>({{7, 3, 1, 1}, {7, 3, 1, 1}, 16, 40, 16}, 1);
  check<16, 8>({{14, 3, 1, 1}, {14, 3, 1, 1}, 8, 19, 8}, 3);
  check<16, 8>({{6, 5, 1, 2}, {3, 5, 1, 2}, 8, 9, 8}, 5);  // a strip has several lines
}

TEST(JoinedWindows, OfLinesLongerThanAStrip) {
  check<20, 8>({{4, 3, 1, 1}, {35, 3, 1, 1}, 8, 20, 8}, 7);
  check<16, 4>({{3, 2, 1, 0}, {50, 2, 1, 0}, 4, 9, 4}, 9);  // nothing outside
}

TEST(JoinedWindows, OfAllKernels) {
  check<28, 8>({{9, 7, 1, 3}, {17, 1, 1, 0}, 8, 12, 8}, 11);
  check<28, 8>({{9, 1, 1, 0}, {17, 7, 1, 3}, 8, 12, 8}, 13);
  check<18, 8>({{11, 3, 2, 2}, {13, 3, 3, 3}, 8, 12, 8}, 15);  // holes between
}

TEST(JoinedWindows, WithStrides) {
  check<16, 16>({{14, 3, 1, 1, 2}, {14, 3, 1, 1, 2}, 8, 20, 8}, 21);
  check<20, 16>({{15, 3, 1, 0, 2}, {15, 3, 1, 0, 2}, 8, 20, 8}, 23);    // no padding, odd
  check<16, 16>({{14, 1, 1, 0, 2}, {14, 1, 1, 0, 2}, 8, 20, 8}, 25);    // positions between are skipped
  check<16, 24>({{19, 5, 1, 2, 2}, {20, 4, 1, 1, 3}, 8, 20, 8}, 27);    // unlike each other
  check<16, 16>({{17, 3, 2, 2, 2}, {17, 3, 3, 3, 2}, 8, 20, 8}, 29);    // holes as far apart as windows, and not
  check<16, 24>({{14, 2, 1, 0, 1}, {23, 1, 1, 1, 3}, 8, 9, 8}, 31);     // one column, outside at first
  check<32, 16>({{90, 3, 1, 1, 2}, {30, 3, 1, 1, 2}, 8, 9, 8, 1}, 33);  // several bundles
}

TEST(JoinedWindows, OfChannelsWithGapsAndOfPlanes) {
  check<28, 6>({{9, 3, 1, 1}, {9, 3, 1, 1}, 6, 12, 10}, 17);
  check<28, 3>({{9, 3, 1, 1}, {21, 3, 1, 1}, 3, 12, 3, 2, false}, 19);
}

}  // namespace
}  // namespace tile
