#include "tile/kernels/depthwise.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tile/testing/teams.h"

namespace tile {
namespace {

template <class X, class Acc>
void check(std::mt19937& random, int rank, int low, int high, int32_t x_zero, int32_t w_zero) {
  auto pick = [&](int from, int to) { return i64{std::uniform_int_distribution<int>(from, to)(random)}; };
  DepthwiseShape s;
  s.images = pick(1, 2);
  s.filters = pick(1, 2);
  s.channels = s.filters * pick(1, 4);
  i64 plane = 1, positions = 1, taps = 1;
  for (int d = 3 - rank; d < 3; ++d) {
    s.kernel[d] = pick(1, 5);
    s.stride[d] = pick(1, 3);
    s.dilation[d] = pick(1, 3);
    s.pad[d] = pick(0, 4);
    s.input[d] = pick(1, rank == 1 ? 200 : rank == 2 ? 60 : 9);
    const i64 room = s.input[d] + s.pad[d] + pick(0, 4) - ((s.kernel[d] - 1) * s.dilation[d] + 1);
    s.output[d] = room < 0 ? 0 : room / s.stride[d] + 1;
    plane *= s.input[d], positions *= s.output[d], taps *= s.kernel[d];
  }
  std::uniform_int_distribution<int> value(low, high);
  std::vector<X> x(static_cast<size_t>(s.images * s.channels / s.filters * plane)), w(static_cast<size_t>(s.channels * taps));
  for (X& v : x) v = static_cast<X>(value(random));
  for (X& v : w) v = static_cast<X>(value(random));
  std::vector<Acc> out(static_cast<size_t>(s.images * s.channels * positions));
  std::vector<int> seen(out.size());
  testing::TestTeam team(static_cast<int>(pick(1, 3)));
  depthwise<Acc>(
      s, x.data(), w.data(),
      [&](i64 image, i64 channel, i64 n0, i64, i64 columns, const Acc* row, i64) {
        for (i64 j = 0; j < columns; ++j) {
          const auto at = static_cast<size_t>((image * s.channels + channel) * positions + n0 + j);
          out.at(at) = row[j];
          ++seen[at];
        }
      },
      team.team(), x_zero, w_zero);
  size_t at = 0;
  for (i64 i = 0; i < s.images; ++i) {
    for (i64 c = 0; c < s.channels; ++c) {
      for (i64 n = 0; n < positions; ++n, ++at) {
        double expected = 0;
        for (i64 t = 0; t < taps; ++t) {
          i64 o = n, k = t, from = 0, size = 1;
          bool inside = true;
          for (int d = 2; d >= 0; --d) {
            const i64 p = o % s.output[d] * s.stride[d] - s.pad[d] + k % s.kernel[d] * s.dilation[d];
            inside = inside && p >= 0 && p < s.input[d];
            from += p * size;
            size *= s.input[d], o /= s.output[d], k /= s.kernel[d];
          }
          if (!inside) continue;
          const X v = x[static_cast<size_t>((i * s.channels / s.filters + c / s.filters) * plane + from)];
          expected += (static_cast<double>(v) - x_zero) * (static_cast<double>(w[static_cast<size_t>(c * taps + t)]) - w_zero);
        }
        ASSERT_EQ(seen[at], 1);
        ASSERT_EQ(static_cast<double>(out[at]), expected) << "channel " << c << " position " << n;
      }
    }
  }
}

TEST(Depthwise, EqualsItsDefinition) {
  std::mt19937 random(1);
  for (int i = 0; i < 60; ++i) {
    for (int rank = 1; rank <= 3; ++rank) {
      check<float, float>(random, rank, -8, 8, 0, 0);
      check<uint8_t, int32_t>(random, rank, 0, 255, 128, 7);
    }
    check<double, double>(random, 2, -8, 8, 0, 0);
  }
}

}  // namespace
}  // namespace tile
