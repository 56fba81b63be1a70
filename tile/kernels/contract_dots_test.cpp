#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "tile/atoms/amx.h"
#include "tile/kernels/contract_rows.h"
#include "tile/kernels/window_rows.h"
#include "tile/testing/teams.h"

// Products of short numbers, some k a step: against 64-bit integers, and for bf16 against small whole numbers, which are exact.

namespace tile {
namespace {

struct ByVectors {
  static constexpr int side = 0, tile_steps = 1;
  template <class P, int rows, int vectors, i64 stride, class B>
  using Blocks = RowBlocks<P, rows, vectors, stride, B>;
};
template <int steps>
struct ByTiles {
  static constexpr int side = 16, tile_steps = steps;
  template <class P, int rows, int vectors, i64 stride, class B>
  using Blocks = AmxBlocks<P, rows, vectors, stride, B, steps, EmulatedTiles>;
};

template <class T>
std::vector<T> any_bytes(i64 count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<T> v(static_cast<size_t>(count));
  for (T& x : v) x = random() % 4 == 0 ? (random() % 2 ? std::numeric_limits<T>::min() : std::numeric_limits<T>::max()) : static_cast<T>(random());
  return v;
}

/// Compares the product with Σ f(m, k) · g(n, k), for weights of lanes B in panels with sums.
template <class Block, class By, class Left, class F, class G>
void expect_integers(i64 m, i64 n, i64 k, const Left& left, int32_t kept_zero, F f, G g, int threads, const RowsBlocking& blocking) {
  using B = typename Block::panel_type;
  using W = typename Dot<int32_t, B>::weight_type;
  constexpr int width = Block::columns;
  const i64 runs = left.runs(), depth = left.depth(), steps = runs * dot_steps(depth, Block::group);
  ASSERT_EQ(runs * depth, k);
  std::vector<B> weights(static_cast<size_t>((n + width - 1) / width * width * (steps + 1)));
  for (i64 first = 0; first < n; first += width) {
    B* panel = weights.data() + first * (steps + 1);
    for (i64 j = 0; j < width; ++j) {
      int32_t sum = 0;
      for (i64 kk = 0; kk < k && first + j < n; ++kk) sum -= g(first + j, kk);
      std::memcpy(panel + j, &sum, sizeof sum);
    }
    pack_groups(
        panel + width, std::min<i64>(width, n - first), runs, depth, width, [&](i64 j, i64 kk) { return static_cast<W>(g(first + j, kk)); }, By::side,
        By::tile_steps);
  }
  const PackedSums<B, width> right{weights.data(), steps, BatchStride{0}, kept_zero};
  testing::TestTeam team(threads);
  std::vector<int32_t> out(static_cast<size_t>(m * n), 77);
  contract_rows<Block>(
      1, n, left, right,
      [&](i64, i64 m0, i64 n0, i64 rows, auto columns, const int32_t* tile, auto ld) {
        for (i64 i = 0; i < rows; ++i)
          for (i64 j = 0; j < columns; ++j) out.at(static_cast<size_t>((m0 + i) * n + n0 + j)) = tile[i * ld + j];
      },
      team.team(), blocking);
  for (i64 i = 0; i < m; ++i)
    for (i64 j = 0; j < n; ++j) {
      int64_t expected = 0;
      for (i64 kk = 0; kk < k; ++kk) expected += int64_t{f(i, kk)} * int64_t{g(j, kk)};
      ASSERT_EQ(out[static_cast<size_t>(i * n + j)], expected) << i << " " << j << " of " << m << "x" << n << "x" << k;
    }
}

template <class T, class B, int rows, int vectors, i64 stride, class By>
void check_matrix(i64 m, i64 n, i64 k, i64 row_stride, int32_t zero, unsigned seed) {
  using Block = typename By::template Blocks<int32_t, rows, vectors, stride, B>;
  using L = typename Block::left_type;
  const auto a = any_bytes<T>((m - 1) * row_stride + k, seed);
  const auto b = any_bytes<int8_t>(n * k, seed + 1);
  const MatrixRows<T, L, rows, stride> left{a.data(), row_stride, m, k, BatchStride{0}, zero};
  const auto f = [&](i64 i, i64 kk) { return a[static_cast<size_t>(i * row_stride + kk)] - zero; };
  const auto g = [&](i64 i, i64 kk) { return int32_t{b[static_cast<size_t>(i * k + kk)]}; };
  for (int threads : {1, 3})
    for (i64 panel_bytes : {1 << 19, 256}) expect_integers<Block, By>(m, n, k, left, left_zero<L, T>(zero), f, g, threads, {.panel_bytes = panel_bytes});
}

template <class T, class B, class By = ByVectors>
void check_matrices(int32_t zero) {
  check_matrix<T, B, 4, 2, 64, By>(9, 70, 64, 64, zero, 1);
  check_matrix<T, B, 6, 1, 35, By>(13, 20, 35, 35, zero, 3);
  check_matrix<T, B, 4, 1, 40, By>(9, 20, 37, 40, zero, 5);     // rows end before the next begin
  check_matrix<T, B, 4, 1, 3, By>(9, 20, 3, 3, zero, 7);        // less than a group
  check_matrix<T, B, 1, 2, 600, By>(1, 40, 600, 600, zero, 9);  // several sums a step
  check_matrix<T, B, 1, 1, 601, By>(3, 8, 601, 601, zero, 11);
  check_matrix<T, B, 4, 2, 64, By>(9, 40, 64, 70, zero, 13);  // from copies
}

TEST(ContractDots, MatricesOfUnsignedBytes) {
  check_matrices<uint8_t, ByteQuad>(0);
  check_matrices<uint8_t, ByteQuad>(255);
  check_matrices<uint8_t, ShortPair>(117);
}

TEST(ContractDots, MatricesOfSignedBytes) {
  check_matrices<int8_t, ByteQuad>(0);
  check_matrices<int8_t, ByteQuad>(-128);
  check_matrices<int8_t, ShortPair>(127);
}

struct Axis {
  i64 input, kernel, stride = 1, dilation = 1, pad = 0;
  i64 output() const { return (input + 2 * pad - (kernel - 1) * dilation - 1) / stride + 1; }
};

/// A convolution over two dimensions; outside is the zero point.
template <class T, class B, int strip, int vectors, i64 step, class By>
void check_windows(Axis y, Axis x, i64 channels, i64 filters, bool channels_last, int32_t zero, unsigned seed) {
  using Block = typename By::template Blocks<int32_t, strip, vectors, step, B>;
  using L = typename Block::left_type;
  const i64 positions = y.input * x.input, k = y.kernel * x.kernel * channels;
  const auto image = any_bytes<T>(positions * channels, seed);
  const auto w = any_bytes<int8_t>(filters * k, seed + 1);
  WindowRows<T, L, 2, strip, step> left{};
  left.data = image.data();
  left.channels = channels;
  left.channel_stride = channels_last ? 1 : positions;
  left.zero = zero;
  const i64 pitch = channels_last ? channels : 1;
  const Axis* axes[] = {&y, &x};
  for (int d = 0; d < 2; ++d) {
    left.pitch[d] = d == 0 ? x.input * pitch : pitch;
    left.input[d] = axes[d]->input, left.output[d] = axes[d]->output(), left.kernel[d] = axes[d]->kernel;
    left.stride[d] = axes[d]->stride, left.dilation[d] = axes[d]->dilation, left.pad[d] = axes[d]->pad;
  }
  const auto f = [&](i64 o, i64 kk) {
    const i64 tap = kk / channels, row = o / x.output() * y.stride - y.pad + tap / x.kernel * y.dilation,
              column = o % x.output() * x.stride - x.pad + tap % x.kernel * x.dilation;
    if (row < 0 || row >= y.input || column < 0 || column >= x.input) return 0;
    return image[static_cast<size_t>((row * x.input + column) * pitch + kk % channels * left.channel_stride)] - zero;
  };
  const auto g = [&](i64 i, i64 kk) { return int32_t{w[static_cast<size_t>(i * k + kk)]}; };
  for (int threads : {1, 3})
    for (const RowsBlocking& blocking : {RowsBlocking{}, RowsBlocking{.panel_bytes = 256, .strip_bytes = 64}})
      expect_integers<Block, By>(y.output() * x.output(), filters, k, left, left_zero<L, T>(zero), f, g, threads, blocking);
}

template <class T, class B, class By = ByVectors>
void check_all_windows(int32_t zero) {
  check_windows<T, B, 4, 2, 8, By>({9, 3, 1, 1, 1}, {11, 3, 1, 1, 1}, 8, 40, true, zero, 1);
  check_windows<T, B, 4, 1, 5, By>({9, 3, 1, 1, 1}, {11, 3, 1, 1, 1}, 5, 19, true, zero, 3);
  check_windows<T, B, 4, 1, 4, By>({9, 3, 1, 2, 2}, {13, 2, 1, 3, 2}, 4, 19, true, zero, 5);
  check_windows<T, B, 6, 1, 16, By>({14, 3, 2, 1, 1}, {14, 3, 2, 1, 1}, 8, 16, true, zero, 7);
  check_windows<T, B, 4, 1, 6, By>({20, 7, 2, 1, 3}, {20, 7, 2, 1, 3}, 3, 16, false, zero, 9);
  check_windows<T, B, 10, 1, 6, By>({9, 3, 2, 1, 1}, {49, 3, 2, 1, 1}, 3, 16, false, zero, 13);  // a picture's planes, a vector at a time
  check_windows<T, B, 4, 1, 2, By>({5, 1, 1, 1, 0}, {9, 2, 1, 2, 1}, 2, 9, true, zero, 11);      // less than a group
}

TEST(ContractDots, WindowsOfUnsignedBytes) {
  check_all_windows<uint8_t, ByteQuad>(0);
  check_all_windows<uint8_t, ByteQuad>(130);
  check_all_windows<uint8_t, ShortPair>(255);
}

TEST(ContractDots, WindowsOfSignedBytes) {
  check_all_windows<int8_t, ByteQuad>(0);
  check_all_windows<int8_t, ByteQuad>(-37);
  check_all_windows<int8_t, ShortPair>(-128);
}

template <int rows, int vectors, i64 stride, class By = ByVectors>
void check_bfloats(i64 m, i64 n, i64 k, unsigned seed) {
  using Block = typename By::template Blocks<float, rows, vectors, stride, BfloatPair>;
  constexpr int width = Block::columns;
  std::mt19937 random(seed);
  std::vector<bfloat16> a(static_cast<size_t>(m * k)), b(static_cast<size_t>(n * k));
  for (auto* all : {&a, &b})
    for (bfloat16& x : *all) x = store_as<bfloat16>(static_cast<float>(static_cast<int>(random() % 17) - 8));
  const i64 steps = dot_steps(k, 2);
  std::vector<BfloatPair> panels(static_cast<size_t>((n + width - 1) / width * width * steps));
  pack_groups(
      panels.data(), n, 1, k, width, [&](i64 o, i64 kk) { return b[static_cast<size_t>(o * k + kk)]; }, By::side, By::tile_steps);
  testing::TestTeam team(2);
  std::vector<float> out(static_cast<size_t>(m * n), 77);
  contract_rows<Block>(
      1, n, MatrixRows<bfloat16, bfloat16, rows, stride>{a.data(), k, m, k}, Packed<BfloatPair, width>{panels.data(), steps},
      [&](i64, i64 m0, i64 n0, i64 r, auto columns, const float* tile, auto ld) {
        for (i64 i = 0; i < r; ++i)
          for (i64 j = 0; j < columns; ++j) out.at(static_cast<size_t>((m0 + i) * n + n0 + j)) = tile[i * ld + j];
      },
      team.team());
  for (i64 i = 0; i < m; ++i)
    for (i64 j = 0; j < n; ++j) {
      float expected = 0;
      for (i64 kk = 0; kk < k; ++kk) expected += to_float(a[static_cast<size_t>(i * k + kk)]) * to_float(b[static_cast<size_t>(j * k + kk)]);
      ASSERT_EQ(out[static_cast<size_t>(i * n + j)], expected) << i << " " << j << " of " << m << "x" << n << "x" << k;
    }
}

TEST(ContractDots, PairsOfBfloats) {
  check_bfloats<4, 2, 64>(9, 70, 64, 1);
  check_bfloats<6, 1, 35>(13, 20, 35, 3);
  check_bfloats<4, 1, 1>(9, 20, 1, 5);
  check_bfloats<4, 1, 700>(5, 20, 700, 7);  // longer than a chain
}

TEST(ContractTiles, MatricesOfBytes) {
  check_matrices<uint8_t, ByteQuad, ByTiles<16>>(131);
  check_matrices<int8_t, ByteQuad, ByTiles<9>>(-3);
  check_matrix<uint8_t, ByteQuad, 32, 2, 192, ByTiles<16>>(70, 100, 192, 192, 9, 1);
  check_matrix<uint8_t, ByteQuad, 28, 2, 96, ByTiles<12>>(56, 32, 96, 96, 9, 3);  // two tiles of rows, k without rest
  check_matrix<int8_t, ByteQuad, 20, 1, 131, ByTiles<16>>(53, 40, 131, 131, 9, 5);
  check_matrix<int8_t, ByteQuad, 32, 2, 40, ByTiles<16>>(17, 33, 37, 40, -128, 7);
}

TEST(ContractTiles, WindowsOfBytes) {
  check_all_windows<uint8_t, ByteQuad, ByTiles<16>>(130);
  check_all_windows<int8_t, ByteQuad, ByTiles<6>>(-37);
  check_windows<int8_t, ByteQuad, 22, 2, 32, ByTiles<16>>({9, 3, 1, 1, 1}, {22, 3, 1, 1, 1}, 32, 40, true, 7, 1);
}

TEST(ContractTiles, Bfloats) {
  check_bfloats<32, 2, 64, ByTiles<16>>(70, 70, 64, 1);
  check_bfloats<21, 1, 35, ByTiles<16>>(48, 20, 35, 3);
  check_bfloats<17, 2, 1, ByTiles<16>>(40, 20, 1, 5);
  check_bfloats<16, 2, 48, ByTiles<12>>(33, 33, 48, 7);
  check_bfloats<32, 1, 700, ByTiles<15>>(35, 20, 700, 9);
}

}  // namespace
}  // namespace tile
