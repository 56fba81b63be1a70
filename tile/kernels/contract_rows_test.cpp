#include "tile/kernels/contract_rows.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <vector>

#include "tile/kernels/window_rows.h"
#include "tile/testing/teams.h"

namespace tile {
namespace {

template <class T>
T number(int v) {
  if constexpr (is_storage_float<T>) {
    return store_as<T>(static_cast<float>(v));
  } else {
    return static_cast<T>(v);
  }
}

/// Small whole numbers: all products and sums are exact, so results can be compared for equality.
template <class T>
std::vector<T> whole_numbers(i64 count, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> in(-8, 8);
  std::vector<T> v(static_cast<size_t>(count));
  for (T& x : v) x = number<T>(in(random));
  return v;
}

/// Runs contract_rows() and compares with the sum over f(batch, m, k) · g(batch, n, k), each output seen once. Panels are stored as B.
template <class Block, class B = typename Block::panel_type, class Left, class F, class G>
void expect_product(i64 batch, i64 m, i64 n, i64 k, const Left& left, F f, G g, int threads, const RowsBlocking& blocking = {}) {
  using P = typename Block::sum_type;
  constexpr int width = Block::columns;
  const i64 panel_size = packed_size(n, k, width);
  std::vector<B> weights(static_cast<size_t>(batch * panel_size));
  for (i64 b = 0; b < batch; ++b) pack(weights.data() + b * panel_size, n, k, width, [&](i64 o, i64 kk) { return number<B>(static_cast<int>(g(b, o, kk))); });
  using Panels = std::conditional_t<std::is_same_v<B, typename Block::panel_type>, Packed<B, width>, WidenedPanels<B, width>>;
  const Panels right{weights.data(), k, BatchStride{panel_size}};
  testing::TestTeam team(threads);
  std::vector<P> out(static_cast<size_t>(batch * m * n), P{77});
  std::vector<std::atomic<int>> seen(out.size());
  contract_rows<Block>(
      batch, n, left, right,
      [&](i64 b, i64 m0, i64 n0, i64 rows, auto columns, const P* tile, auto ld) {
        for (i64 i = 0; i < rows; ++i) {
          for (i64 j = 0; j < columns; ++j) {
            const auto at = static_cast<size_t>((b * m + m0 + i) * n + n0 + j);
            out.at(at) = tile[i * ld + j];
            ++seen[at];
          }
        }
      },
      team.team(), blocking);
  size_t at = 0;
  for (i64 b = 0; b < batch; ++b) {
    for (i64 i = 0; i < m; ++i) {
      for (i64 j = 0; j < n; ++j, ++at) {
        double expected = 0;
        for (i64 kk = 0; kk < k; ++kk) expected += static_cast<double>(f(b, i, kk)) * static_cast<double>(g(b, j, kk));
        ASSERT_EQ(seen[at], 1) << b << " " << i << " " << j << " of " << m << "x" << n << "x" << k;
        ASSERT_EQ(static_cast<double>(out[at]), expected) << b << " " << i << " " << j << " of " << m << "x" << n << "x" << k;
      }
    }
  }
}

/// Blocks take panels of B, which are stored as Stored.
template <class T, class P, int rows, int vectors, i64 stride, class B = P, class Stored = B>
void check_matrix(i64 m, i64 n, i64 k, i64 row_stride, unsigned seed) {
  for (i64 batch : {1, 3}) {
    const i64 apart = row_stride < 0 ? -row_stride : row_stride, size = m * apart + k, first = row_stride < 0 ? (m - 1) * apart : 0;
    const auto a = whole_numbers<T>(batch * size, seed);
    const auto b = whole_numbers<P>(batch * n * k, seed + 1);
    const MatrixRows<T, P, rows, stride> left{a.data() + first, row_stride, m, k, BatchStride{size}};
    auto f = [&](i64 i, i64 o, i64 kk) { return load_as<P>(a[static_cast<size_t>(i * size + first + o * row_stride + kk)]); };
    auto g = [&](i64 i, i64 o, i64 kk) { return b[static_cast<size_t>((i * n + o) * k + kk)]; };
    for (int threads : {1, 3}) {
      expect_product<RowBlocks<P, rows, vectors, stride, B>, Stored>(batch, m, n, k, left, f, g, threads);
      expect_product<RowBlocks<P, rows, vectors, stride, B>, Stored>(batch, m, n, k, left, f, g, threads, {.panel_bytes = 256});
      for (const auto split : {RowsBlocking::Split::panels, RowsBlocking::Split::rows})
        expect_product<RowBlocks<P, rows, vectors, stride, B>, Stored>(batch, m, n, k, left, f, g, threads,
                                                                       {.panel_bytes = 256, .strip_bytes = 1 << 10, .split = split, .ahead = threads == 1});
    }
  }
}

TEST(ContractRows, MatricesInPlace) {
  check_matrix<float, float, 4, 1, 8>(1, 1, 8, 8, 1);
  check_matrix<float, float, 4, 2, 70>(37, 100, 70, 70, 3);
  check_matrix<float, float, 4, 2, 90>(37, 100, 70, 90, 4);
  check_matrix<float, float, 6, 2, 600>(13, 33, 600, 600, 5);  // longer than a chain
  check_matrix<float, float, 1, 2, 530>(5, 95, 530, 530, 7);   // several sums a step
  check_matrix<float, float, 2, 1, 9>(5, 7, 9, 9, 9);
  check_matrix<double, double, 4, 2, 40>(9, 21, 40, 40, 11);
  check_matrix<float, float, 4, 2, 0>(3, 20, 5, 0, 13);   // one row for all
  check_matrix<float, float, 4, 2, 2>(11, 20, 9, 2, 15);  // rows overlap
}

TEST(ContractRows, MatricesFromCopies) {
  check_matrix<float, float, 4, 2, 64>(10, 40, 64, 70, 1);
  check_matrix<float, float, 4, 2, 64>(10, 40, 64, -64, 2);  // rows in reverse
  check_matrix<float16, float, 4, 2, 64>(10, 40, 64, 64, 3);
  check_matrix<float16, float, 2, 2, 64>(10, 40, 64, -64, 4);
  check_matrix<bfloat16, float, 6, 1, 17>(11, 19, 17, 3, 5);
}

TEST(ContractRows, ALoneStripFromEitherEnd) {
  check_matrix<float, float, 1, 2, 40>(1, 700, 40, 40, 1);
  check_matrix<float, float, 4, 1, 24>(3, 301, 24, 24, 3);
}

TEST(ContractRows, PanelsOfShortFloats) {
  check_matrix<float, float, 4, 2, 70, float16>(13, 50, 70, 70, 1);
  check_matrix<bfloat16, float, 4, 2, 70, bfloat16>(13, 50, 70, 70, 3);
}

TEST(ContractRows, PanelsOfShortFloatsWidenedForAllStrips) {
  check_matrix<float, float, 4, 2, 70, float, float16>(13, 50, 70, 70, 1);
  check_matrix<bfloat16, float, 4, 2, 70, float, bfloat16>(37, 100, 70, 70, 3);
  check_matrix<bfloat16, float, 6, 1, 17, float, bfloat16>(11, 19, 17, 3, 5);
  check_matrix<float, float, 2, 2, 300, float, bfloat16>(61, 33, 300, 300, 7);
}

TEST(ContractRows, WidenedPanelsServeABatch) {
  constexpr i64 batch = 3, m = 9, n = 70, k = 40;
  using Block = RowBlocks<float, 4, 2, k>;
  const auto a = whole_numbers<float>(batch * m * k, 1), b = whole_numbers<float>(n * k, 2);
  std::vector<bfloat16> weights(static_cast<size_t>(packed_size(n, k, Block::columns)));
  pack(weights.data(), n, k, Block::columns, [&](i64 o, i64 kk) { return store_as<bfloat16>(b[static_cast<size_t>(o * k + kk)]); });
  const MatrixRows<float, float, 4, k> left{a.data(), k, m, k, BatchStride{m * k}};
  for (const int threads : {1, 2, 5}) {
    testing::TestTeam team(threads);
    std::vector<float> out(static_cast<size_t>(batch * m * n));
    contract_rows<Block>(batch, n, left, WidenedPanels<bfloat16, Block::columns>{weights.data(), k},
                         [&](i64 e, i64 m0, i64 n0, i64 rows, auto columns, const float* tile, auto ld) {
                           for (i64 i = 0; i < rows; ++i)
                             for (i64 j = 0; j < columns; ++j) out.at(static_cast<size_t>((e * m + m0 + i) * n + n0 + j)) = tile[i * ld + j];
                         },
                         team.team(), {.panel_bytes = 4096});
    for (i64 at = 0; at < batch * m * n; ++at) {
      float expected = 0;
      for (i64 kk = 0; kk < k; ++kk) expected += a[static_cast<size_t>(at / n * k + kk)] * b[static_cast<size_t>(at % n * k + kk)];
      ASSERT_EQ(out[static_cast<size_t>(at)], expected) << at << ", " << threads << " threads";
    }
  }
}

/// The right operand is a matrix in memory: columns `outer` elements apart, their k `inner` apart. Rows of Left other than floats are copied.
template <class T, int rows, int vectors, class Left = float>
void check_written_panels(i64 batch, i64 m, i64 n, i64 k, i64 outer, i64 inner, i64 right_apart, unsigned seed) {
  constexpr i64 stride = 24;
  using Block = RowBlocks<float, rows, vectors, stride>;
  const auto a = whole_numbers<Left>(batch * m * stride, seed);
  const auto b = whole_numbers<T>((batch - 1) * right_apart + n * outer + k * inner, seed + 1);
  const MatrixRows<Left, float, rows, stride> left{a.data(), stride, m, k, BatchStride{m * stride}};
  const auto matrix = dense_right(b.data(), inner, outer, BatchStride{right_apart});
  const WrittenPanels<Block::columns, Dense<T>> right{matrix, n, k};
  for (const int threads : {1, 3})
    for (const i64 panel_bytes : {i64{64}, i64{1} << 18})
      for (const auto split : {RowsBlocking::Split::automatic, RowsBlocking::Split::panels, RowsBlocking::Split::rows}) {
        testing::TestTeam team(threads);
        std::vector<float> out(static_cast<size_t>(batch * m * n), 77);
        contract_rows<Block>(batch, n, left, right,
                             [&](i64 e, i64 m0, i64 n0, i64 count, auto columns, const float* tile, auto ld) {
                               for (i64 i = 0; i < count; ++i)
                                 for (i64 j = 0; j < columns; ++j) out.at(static_cast<size_t>((e * m + m0 + i) * n + n0 + j)) = tile[i * ld + j];
                             },
                             team.team(), {.panel_bytes = panel_bytes, .strip_bytes = 64, .split = split, .ahead = false, .writes_panels = true});
        for (i64 at = 0; at < batch * m * n; ++at) {
          const i64 e = at / n / m, j = at % n;
          float expected = 0;
          for (i64 kk = 0; kk < k; ++kk)
            expected +=
                load_as<float>(a[static_cast<size_t>(at / n * stride + kk)]) * load_as<float>(b[static_cast<size_t>(e * right_apart + j * outer + kk * inner)]);
          ASSERT_EQ(out[static_cast<size_t>(at)], expected) << at << ", " << threads << " threads";
        }
      }
}

TEST(ContractRows, PanelsWrittenFromMatrices) {
  check_written_panels<float, 4, 2>(3, 13, 50, 20, 1, 60, 1300, 1);     // rows of k side by side
  check_written_panels<float, 4, 2>(3, 13, 50, 20, 23, 1, 1300, 3);     // columns of k
  check_written_panels<float, 6, 1>(1, 9, 17, 24, 7, 130, 0, 5);        // neither
  check_written_panels<bfloat16, 4, 2>(2, 13, 50, 20, 23, 1, 1300, 7);  // shorter floats
  check_written_panels<float16, 4, 2, bfloat16>(2, 13, 50, 20, 23, 1, 1300, 8);
  // The last panel of an entry begins where the first one of the next does.
  check_written_panels<float, 4, 1>(3, 10, lanes<float> + 3, 24, 24, 1, 24 * lanes<float>, 10);
  check_written_panels<float, 4, 2>(4, 10, 33, 24, 24, 1, 0, 9);  // one for the whole batch
}

TEST(ContractRows, NothingToAddGivesZeros) {
  check_matrix<float, float, 4, 2, 4>(6, 40, 0, 4, 1);
  check_matrix<float, float, 4, 2, 4>(0, 40, 4, 4, 1);
  check_matrix<float, float, 4, 2, 4, float, bfloat16>(6, 40, 0, 4, 1);
}

struct Axis {
  i64 input, kernel, stride = 1, dilation = 1, pad = 0;
  i64 output() const { return (input + 2 * pad - (kernel - 1) * dilation - 1) / stride + 1; }
};

/// A convolution of `groups` over channels-last (or -first) data, each group's channels a batch entry.
template <class T, int strip, int vectors, i64 step, int rank>
void check_windows(const Axis (&axes)[rank], i64 channels, i64 groups, i64 filters, bool channels_last, unsigned seed) {
  i64 positions = 1, taps = 1, m = 1;
  for (const Axis& axis : axes) positions *= axis.input, taps *= axis.kernel, m *= axis.output();
  const i64 all_channels = channels * groups, k = taps * channels;
  const auto x = whole_numbers<T>(positions * all_channels, seed);
  const auto w = whole_numbers<float>(groups * filters * k, seed + 1);
  WindowRows<T, float, rank, strip, step> left{};
  left.data = x.data();
  left.batch = BatchStride{channels_last ? channels : channels * positions};
  left.channels = channels;
  left.channel_stride = channels_last ? 1 : positions;
  i64 below = channels_last ? all_channels : 1;
  for (int d = rank - 1; d >= 0; --d) {
    left.pitch[d] = below;
    below *= axes[d].input;
    left.input[d] = axes[d].input, left.output[d] = axes[d].output(), left.kernel[d] = axes[d].kernel;
    left.stride[d] = axes[d].stride, left.dilation[d] = axes[d].dilation, left.pad[d] = axes[d].pad;
  }
  auto f = [&](i64 group, i64 o, i64 kk) {
    const i64 channel = kk % channels;
    i64 tap = kk / channels, at = 0;
    for (int d = rank - 1; d >= 0; --d) {
      const i64 p = o % left.output[d] * left.stride[d] - left.pad[d] + tap % left.kernel[d] * left.dilation[d];
      o /= left.output[d];
      tap /= left.kernel[d];
      if (p < 0 || p >= left.input[d]) return 0.0F;
      at += p * left.pitch[d];
    }
    return load_as<float>(x[static_cast<size_t>(left.batch(group) + at + channel * left.channel_stride)]);
  };
  auto g = [&](i64 group, i64 o, i64 kk) { return w[static_cast<size_t>((group * filters + o) * k + kk)]; };
  for (int threads : {1, 3}) {
    expect_product<RowBlocks<float, strip, vectors, step>>(groups, m, filters, k, left, f, g, threads);
    // Groups of a panel; strips that are kept while they pass, several or one at a time.
    for (i64 left_bytes : {1 << 13, 64}) expect_product<RowBlocks<float, strip, vectors, step>>(groups, m, filters, k, left, f, g, threads, {256, left_bytes});
  }
}

TEST(ContractRows, WindowsOfAnyKind) {
  check_windows<float, 4, 2, 5>({{9, 3, 1, 1, 1}, {11, 3, 1, 1, 1}}, 5, 1, 40, true, 1);
  check_windows<float, 6, 1, 16>({{14, 3, 2, 1, 1}, {14, 3, 2, 1, 1}}, 8, 1, 16, true, 3);
  check_windows<float, 4, 2, 4>({{9, 3, 1, 2, 2}, {13, 2, 1, 3, 2}}, 4, 1, 19, true, 5);
  check_windows<float, 4, 1, 6>({{9, 3, 1, 1, 1}, {9, 3, 1, 1, 1}}, 3, 2, 10, true, 7);  // groups: channels apart from their neighbours
  check_windows<float, 4, 1, 12>({{9, 5, 2, 1, 2}, {9, 5, 2, 1, 2}}, 3, 2, 10, true, 9);
  check_windows<float, 4, 2, 6>({{20, 7, 2, 1, 3}, {20, 7, 2, 1, 3}}, 3, 1, 33, false, 11);     // channels first: read from copies
  check_windows<float, 14, 1, 6>({{21, 3, 2, 1, 1}, {45, 3, 2, 1, 1}}, 3, 1, 33, false, 23);    // a picture's planes, a vector at a time
  check_windows<float16, 14, 1, 6>({{21, 3, 2, 1, 1}, {45, 3, 2, 1, 1}}, 3, 1, 33, false, 27);  // of short floats
  check_windows<float, 10, 1, 3>({{9, 5, 1, 1, 2}, {31, 5, 1, 1, 2}}, 3, 1, 16, false, 25);
  check_windows<float, 6, 1, 7>({{29, 4, 1, 1, 3}}, 7, 1, 8, true, 13);
  check_windows<float, 3, 1, 4>({{5, 2, 1, 1, 0}, {5, 3, 2, 1, 1}, {6, 2, 1, 2, 1}}, 4, 1, 9, true, 15);
  check_windows<float16, 4, 2, 5>({{9, 3, 1, 1, 1}, {11, 3, 1, 1, 1}}, 5, 1, 40, true, 17);
  check_windows<float, 6, 2, 5>({{3, 3, 1, 1, 1}, {3, 3, 1, 1, 1}}, 5, 1, 20, true, 19);  // a row shorter than a strip
  check_windows<float, 4, 1, 5>({{4, 3, 1, 1, 6}, {4, 3, 1, 1, 6}}, 5, 1, 8, true, 21);   // windows wholly outside
}

}  // namespace
}  // namespace tile
