#include "tile/kernels/cumulate.h"

#include <gtest/gtest.h>

#include <vector>

#include "tile/testing/teams.h"

namespace tile {
namespace {

TEST(Cumulate, SumsAndProductsOfAnyShapeAndDirection) {
  const i64 shapes[][3] = {{1, 5, 1}, {3, 1, 4}, {2, 7, 65}, {4, 3, 200}, {0, 3, 2}, {2, 0, 3}, {50, 301, 3}};
  for (const auto& [outer, length, inner] : shapes) {
    for (int mode = 0; mode < 4; ++mode) {
      const CumulateOptions options{(mode & 1) != 0, (mode & 2) != 0};
      const auto size = static_cast<size_t>(outer * length * inner);
      std::vector<int64_t> x(size), sum(size, -1), product(size, -1);
      for (size_t i = 0; i < size; ++i) x[i] = static_cast<int64_t>(i * 7 % 11) - 5;
      testing::TestTeam team(1 + mode % 3);
      cumulative_sum(x.data(), sum.data(), outer, length, inner, options, team.team());
      cumulative_product(x.data(), product.data(), outer, length, inner, options, team.team());
      for (i64 o = 0; o < outer; ++o) {
        for (i64 j = 0; j < inner; ++j) {
          uint64_t running = 0, times = 1;
          for (i64 i = 0; i < length; ++i) {
            const auto at = static_cast<size_t>((o * length + (options.reverse ? length - 1 - i : i)) * inner + j);
            const uint64_t before = running, times_before = times;
            running += static_cast<uint64_t>(x[at]);
            times *= static_cast<uint64_t>(x[at]);
            ASSERT_EQ(static_cast<uint64_t>(sum[at]), options.exclusive ? before : running);
            ASSERT_EQ(static_cast<uint64_t>(product[at]), options.exclusive ? times_before : times);
          }
        }
      }
    }
  }
}

TEST(Cumulate, WorksInPlaceAndKeepsHalfSumsInFloat) {
  testing::TestTeam team;
  std::vector<float> x{1, 2, 3, 4};
  cumulative_sum(x.data(), x.data(), 1, 4, 1, {true, false}, team.team());
  EXPECT_EQ(x, (std::vector<float>{0, 1, 3, 6}));
  // In float16 itself 2048 + 1 would stay 2048 for ever.
  std::vector<float16> h(4, store_as<float16>(1.0f));
  h[0] = store_as<float16>(2048.0f);
  cumulative_sum(h.data(), h.data(), 1, 4, 1, {}, team.team());
  EXPECT_EQ(load_as<float>(h[2]), 2050.0f);
}

}  // namespace
}  // namespace tile
