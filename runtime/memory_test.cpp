#include "runtime/memory.h"

#include <gtest/gtest.h>

#include <random>

#include "runtime/failure.h"

namespace tilewright::rt {
namespace {

TEST(layout, tensors_alive_together_never_overlap_and_the_arena_is_near_the_peak) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    const size_t count = 1 + random() % 60;
    std::vector<Lifetime> lifetimes;
    std::vector<i64> bytes;
    for (size_t i = 0; i < count; ++i) {
      const int first = static_cast<int>(random() % 50);
      lifetimes.push_back({first, first + static_cast<int>(random() % 6)});
      bytes.push_back(static_cast<i64>(random() % 5000));
    }
    const Layout layout = lay_out(lifetimes.data(), bytes.data(), count);
    for (size_t a = 0; a < count; ++a) {
      EXPECT_EQ(layout.offsets[a] % tensor_alignment, 0);
      EXPECT_LE(layout.offsets[a] + bytes[a], layout.total);
      for (size_t b = 0; b < a; ++b) {
        const bool together = lifetimes[a].first <= lifetimes[b].last && lifetimes[b].first <= lifetimes[a].last;
        const bool apart = layout.offsets[a] + bytes[a] <= layout.offsets[b] || layout.offsets[b] + bytes[b] <= layout.offsets[a];
        EXPECT_TRUE(!together || apart || bytes[a] == 0 || bytes[b] == 0) << "round " << round << ": " << a << " and " << b;
      }
    }
    const i64 peak = peak_live_bytes(lifetimes.data(), bytes.data(), count);
    EXPECT_GE(layout.total, peak);
    EXPECT_LE(layout.total, peak * 2);  // any first fit of intervals stays within a small factor
  }
}

TEST(layout, a_chain_needs_two_neighbours_only) {
  const Lifetime lifetimes[] = {{0, 1}, {1, 2}, {2, 3}, {3, 4}};
  const i64 bytes[] = {640, 640, 640, 640};
  EXPECT_EQ(lay_out(lifetimes, bytes, 4).total, 1280);
  EXPECT_EQ(peak_live_bytes(lifetimes, bytes, 4), 1280);
}

TEST(arena, remembers_layouts_and_gives_memory_back_when_shapes_shrink) {
  Arena arena;
  const Lifetime lifetimes[] = {{0, 0}};
  i64 large = 64 << 20;
  ASSERT_NE(arena.place(lifetimes, &large, 1)[0], nullptr);
  EXPECT_GE(arena.capacity(), static_cast<size_t>(large));
  for (i64 small = 64; small < 64 * 20; small += 64) arena.place(lifetimes, &small, 1)[0][0] = 1;
  EXPECT_LT(arena.capacity(), static_cast<size_t>(large)) << "the large layout left the list of recent ones";
}

TEST(pool, reuses_what_was_released_and_forgets_what_a_failed_run_left) {
  Pool pool;
  void* first = pool.allocate(1000);
  pool.release(first);
  EXPECT_EQ(pool.allocate(900), first);
  const size_t held = pool.held_bytes();
  pool.finish_run();  // `first` was never released
  EXPECT_EQ(pool.allocate(1000), first);
  EXPECT_EQ(pool.held_bytes(), held);
  pool.release(nullptr);
}

TEST(pool, keeps_at_most_twice_what_the_last_run_needed) {
  Pool pool;
  pool.release(pool.allocate(i64{1} << 24));
  pool.finish_run();
  pool.release(pool.allocate(1 << 10));
  pool.finish_run();
  EXPECT_LE(pool.held_bytes(), size_t{2} << 10);
}

}  // namespace
}  // namespace tilewright::rt
