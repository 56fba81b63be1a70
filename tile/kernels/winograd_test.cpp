#include "tile/kernels/winograd.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <vector>

#include "tile/testing/teams.h"

namespace tile {
namespace {

/// A team that counts how often it is given tasks to share out.
class CountedTeam {
 public:
  explicit CountedTeam(int threads)
      : inner_(threads),
        team_{this, threads, [](void* self, i64 tasks, void (*task)(void*, i64, int), void* state) { of(self).run(tasks, task, state); },
              [](void* self, int slot, size_t bytes) { return of(self).inner_.team().scratch(&of(self).inner_, slot, bytes); }} {}
  CountedTeam(const CountedTeam&) = delete;
  CountedTeam& operator=(const CountedTeam&) = delete;
  Team& team() { return team_; }
  int regions() const { return regions_; }

 private:
  static CountedTeam& of(void* self) { return *static_cast<CountedTeam*>(self); }
  void run(i64 tasks, void (*task)(void*, i64, int), void* state) {
    ++regions_;
    inner_.team().run(&inner_, tasks, task, state);
  }

  testing::TestTeam inner_;
  Team team_;
  int regions_ = 0;
};

/// Weights that are multiples of four and small whole inputs: transforms are whole numbers below 128, so all sums are exact in float. Gives how often threads
/// shared tasks out.
template <int rows, int vectors, i64 channels, class X = float, class Panel = float>
int check(i64 images, i64 filters, i64 height, i64 width, i64 pad, int threads, i64 pitch = channels) {
  using Block = RowBlocks<float, rows, vectors, channels, Panel>;
  WinogradShape s{images, channels, filters, {height, width}, {height + 2 * pad - 2, width + 2 * pad - 2}, {pad, pad}, pitch};
  std::mt19937 random(static_cast<unsigned>(height * 31 + width));
  std::uniform_int_distribution<int> in(-8, 8);
  std::vector<X> x(static_cast<size_t>(images * height * width * pitch));
  std::vector<float> w(static_cast<size_t>(filters * 9 * channels));
  for (X& v : x) v = store_as<X>(static_cast<float>(in(random)));
  for (float& v : w) v = static_cast<float>(in(random)*4);
  const i64 panels = (filters + Block::columns - 1) / Block::columns, panel_size = 16 * dot_steps(channels, Block::group) * Block::columns;
  std::vector<Panel> packed(static_cast<size_t>(panels * panel_size));
  for (i64 first = 0; first < filters; first += Block::columns) {
    Panel* const panel = packed.data() + first / Block::columns * panel_size;
    const auto point = [&](i64 column, i64 k) {
      float g[3][3];
      for (int i = 0; i < 9; ++i) g[i / 3][i % 3] = w[static_cast<size_t>(((first + column) * 9 + i) * channels + k % channels)];
      double u[4][4];
      winograd_filter(g, u);
      return static_cast<float>(u[k / channels / 4][k / channels % 4]);
    };
    const i64 used = std::min<i64>(filters - first, Block::columns);
    if constexpr (Block::group > 1) {
      pack_groups(panel, used, 16, channels, Block::columns, [&](i64 column, i64 k) { return store_as<bfloat16>(point(column, k)); });
    } else {
      for (i64 k = 0; k < 16 * channels; ++k)
        for (i64 column = 0; column < used; ++column) panel[k * Block::columns + column] = point(column, k);
    }
  }
  const i64 positions = s.output[0] * s.output[1];
  std::vector<float> out(static_cast<size_t>(images * positions * filters));
  std::vector<std::atomic<int>> seen(out.size());
  CountedTeam team(threads);
  winograd<Block>(
      s, x.data(), packed.data(),
      [&](i64 image, i64 m0, i64 n0, i64 count, auto columns, const float* sums, auto ld) {
        for (i64 i = 0; i < count; ++i) {
          for (i64 j = 0; j < columns; ++j) {
            const auto at = static_cast<size_t>((image * positions + m0 + i) * filters + n0 + j);
            out.at(at) = sums[i * ld + j];
            ++seen[at];
          }
        }
      },
      team.team(), 1 << 20);
  size_t at = 0;
  for (i64 image = 0; image < images; ++image) {
    for (i64 m = 0; m < positions; ++m) {
      for (i64 f = 0; f < filters; ++f, ++at) {
        double expected = 0;
        for (int i = 0; i < 9; ++i) {
          const i64 y = m / s.output[1] + i / 3 - pad, xx = m % s.output[1] + i % 3 - pad;
          if (y < 0 || y >= height || xx < 0 || xx >= width) continue;
          for (i64 c = 0; c < channels; ++c)
            expected += load_as<double>(x[static_cast<size_t>(((image * height + y) * width + xx) * pitch + c)]) *
                        static_cast<double>(w[static_cast<size_t>((f * 9 + i) * channels + c)]);
        }
        EXPECT_EQ(seen[at], 1) << image << " " << m << " " << f;
        EXPECT_EQ(static_cast<double>(out[at]), expected) << image << " " << m << " " << f;
      }
    }
  }
  return team.regions();
}

TEST(Winograd, EqualsTheConvolution) {
  check<4, 2, 16>(1, 16, 8, 8, 1, 1);
  check<4, 2, 16>(2, 40, 7, 9, 1, 3);
  check<6, 1, 32>(1, 5, 13, 6, 0, 1);
  check<6, 2, 32>(3, 33, 4, 30, 1, 2);
  check<4, 1, 16>(1, 8, 3, 3, 0, 1);
  check<4, 1, 16>(1, 8, 1, 1, 1, 1);
  check<4, 2, 16>(1, 20, 5, 5, 2, 2);
}

TEST(Winograd, ReadsSomeOfTheChannels) {
  check<4, 2, 16>(2, 40, 7, 9, 1, 3, 24);
  check<6, 1, 32>(1, 5, 13, 6, 0, 1, 80);
}

TEST(Winograd, PassesLargeFiltersOnce) {
  check<4, 2, 1024>(1, 150, 8, 8, 1, 3);
  check<6, 2, 1024>(1, 200, 12, 24, 1, 1);
  check<6, 2, 1024>(2, 150, 7, 9, 1, 3, 1040);  // several images, a last strip that is not full, odd lines
  check<4, 2, 1024, bfloat16>(1, 150, 8, 7, 1, 3);
}

/// One strip an image for two threads and more: these share out tiles, then points and panels, then sums of an image.
TEST(Winograd, SharesOutTheProductsOfOneStrip) {
  EXPECT_EQ((check<9, 1, 256>(1, 70, 5, 5, 1, 2)), 3);
  EXPECT_EQ((check<9, 1, 512>(2, 40, 6, 5, 1, 5)), 6);
  EXPECT_EQ((check<9, 1, 512>(4, 40, 6, 5, 1, 5)), 1) << "most threads have a strip";
}

TEST(Winograd, MultipliesBfloatsByDots) {
  check<4, 2, 32, bfloat16, BfloatPair>(2, 40, 7, 9, 1, 3);
  check<6, 1, 16, bfloat16, BfloatPair>(1, 5, 13, 6, 0, 1, 48);
  check<5, 2, 48, float, BfloatPair>(1, 33, 12, 12, 1, 2);
  check<6, 2, 1024, bfloat16, BfloatPair>(2, 200, 7, 9, 1, 3, 1040);  // large filters: points one by one
}

TEST(Winograd, TakesInputsOfShortFloats) {
  check<4, 2, 32, bfloat16>(2, 40, 7, 9, 1, 3);
  check<6, 1, 16, float16>(1, 5, 13, 6, 0, 1);
}

}  // namespace
}  // namespace tile
