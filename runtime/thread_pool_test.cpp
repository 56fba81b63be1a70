#include "runtime/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "runtime/failure.h"

namespace tilewright::rt {
namespace {

TEST(thread_pool, every_index_runs_once_whatever_the_number_of_workers) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    tile::Team team = pool.team();
    for (int round = 0; round < 2000; ++round) {
      const tile::i64 tasks = round % 37;
      std::vector<int> hits(static_cast<size_t>(tasks), 0);
      team.for_each(tasks, [&](tile::i64 index, int worker) {
        ASSERT_LT(worker, threads);
        ++hits[static_cast<size_t>(index)];
      });
      for (const int hit : hits) ASSERT_EQ(hit, 1) << "round " << round;
    }
  }
}

TEST(thread_pool, results_are_visible_after_the_region_and_workers_wake_from_sleep) {
  ThreadPool pool(3);
  tile::Team team = pool.team();
  std::vector<tile::i64> squares(1000);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // long enough to fall asleep
    team.for_each(1000, [&](tile::i64 index, int) { squares[static_cast<size_t>(index)] = index * index + round; });
    EXPECT_EQ(std::accumulate(squares.begin(), squares.end(), tile::i64{0}), 332833500 + 1000 * round);
  }
}

TEST(thread_pool, scratch_of_different_slots_is_apart_and_aligned) {
  ThreadPool pool(2);
  tile::Team team = pool.team();
  char* a = static_cast<char*>(team.scratch(team.pool, 0, 100));
  char* b = static_cast<char*>(team.scratch(team.pool, 1, 100));
  char* shared = static_cast<char*>(team.scratch(team.pool, team.shared_slot(), 100));
  for (char* one : {a, b, shared}) EXPECT_EQ(reinterpret_cast<uintptr_t>(one) % 64, 0u);
  EXPECT_NE(a, b);
  EXPECT_NE(b, shared);
  EXPECT_EQ(team.scratch(team.pool, 0, 50), a);
}

TEST(thread_pool, what_a_task_throws_reaches_the_caller_and_the_pool_works_on) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    tile::Team team = pool.team();
    for (const tile::i64 bad : {0, 17, 99}) {
      std::atomic<int> begun{0};
      EXPECT_THROW(team.for_each(100,
                                 [&](tile::i64 index, int) {
                                   ++begun;
                                   if (index == bad) throw Failure{TILEWRIGHT_ENVIRONMENT, "no room"};
                                 }),
                   Failure);
      EXPECT_GT(begun, 0);
      std::atomic<int> done{0};
      team.for_each(100, [&](tile::i64, int) { ++done; });
      EXPECT_EQ(done, 100);
    }
  }
}

TEST(thread_pool, threads_that_cannot_be_started_are_an_error) {
  if (std::getenv("TSAN_OPTIONS") != nullptr) GTEST_SKIP() << "the sanitizer needs the address space that this test takes away";
  EXPECT_EXIT(
      {
        rlimit limit{};
        limit.rlim_cur = limit.rlim_max = rlim_t{1} << 30;
        setrlimit(RLIMIT_AS, &limit);  // room for about a hundred stacks
        try {
          ThreadPool pool(1000);
        } catch (const Failure& failure) {
          std::fprintf(stderr, "%s\n", failure.text.c_str());
          std::_Exit(failure.status);
        }
        std::_Exit(0);
      },
      ::testing::ExitedWithCode(TILEWRIGHT_ENVIRONMENT), "of 1000 threads can be started");
}

TEST(usable_cores, is_at_least_one) { EXPECT_GE(usable_cores(), 1); }

}  // namespace
}  // namespace tilewright::rt
