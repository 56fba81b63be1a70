#include "runtime/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <numeric>
#include <set>

#include "runtime/cores.h"
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

TEST(thread_pool, of_many_more_threads_than_cores_gives_right_results_in_time) {
  const int threads = std::min(8 * usable_cores(), 256);
  ThreadPool pool(threads);
  tile::Team team = pool.team();
  const tile::i64 tasks = 4 * threads;
  std::vector<tile::i64> results(static_cast<size_t>(tasks));
  const auto start = std::chrono::steady_clock::now();
  for (tile::i64 round = 0; round < 2000; ++round) {
    team.for_each(tasks, [&](tile::i64 index, int) {
      volatile tile::i64 sum = 0;
      for (int i = 0; i < 500; ++i) sum = sum + index + round;  // long enough for sleepers to come
      results[static_cast<size_t>(index)] = sum;
    });
    for (tile::i64 index = 0; index < tasks; ++index) ASSERT_EQ(results[static_cast<size_t>(index)], 500 * (index + round)) << "round " << round;
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));
}

double seconds_of_this_thread() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

TEST(thread_pool, a_caller_that_waits_long_leaves_its_core_to_others) {
  ThreadPool pool(2);
  tile::Team team = pool.team();
  std::atomic<bool> begun{false};
  bool done = false;
  const double before = seconds_of_this_thread();
  team.for_each(2, [&](tile::i64, int worker) {
    if (worker == 0) {
      while (!begun) std::this_thread::yield();
      return;
    }
    begun = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    done = true;
  });
  EXPECT_TRUE(done);
  EXPECT_LT(seconds_of_this_thread() - before, 0.1);
}

/// By worker: the cores that it may run on. Each gets one task, because none ends before all have begun.
std::vector<std::vector<int>> cores_of_workers(ThreadPool& pool) {
  tile::Team team = pool.team();
  std::vector<std::vector<int>> cores(static_cast<size_t>(team.size));
  std::atomic<int> begun{0};
  team.for_each(team.size, [&](tile::i64, int worker) {
    cores[static_cast<size_t>(worker)] = allowed_cores();
    ++begun;
    while (begun < team.size) std::this_thread::yield();
  });
  return cores;
}

TEST(thread_pool, workers_may_run_where_the_caller_may) {
  ThreadPool pool(3);
  for (const std::vector<int>& cores : cores_of_workers(pool)) EXPECT_EQ(cores, allowed_cores());
}

TEST(thread_pool, pinned_workers_have_a_core_each_and_the_caller_is_free) {
  const std::vector<int> allowed = allowed_cores();
  ThreadPool pool(static_cast<int>(std::min<size_t>(allowed.size(), 16)), Pinning::workers);
  const std::vector<std::vector<int>> cores = cores_of_workers(pool);
  EXPECT_EQ(cores[0], allowed);
  std::set<int> taken;
  for (size_t worker = 1; worker < cores.size(); ++worker) {
    ASSERT_EQ(cores[worker].size(), 1u);
    EXPECT_EQ(std::count(allowed.begin(), allowed.end(), cores[worker][0]), 1);
    EXPECT_TRUE(taken.insert(cores[worker][0]).second) << "core " << cores[worker][0] << " twice";
  }
  EXPECT_EQ(allowed_cores(), allowed);
}

TEST(thread_pool, pinned_workers_share_what_few_cores_there_are) {
  std::thread([] {
    const int only = allowed_cores().front();
    bind_to_core(only);
    ThreadPool pool(4, Pinning::workers);
    for (const std::vector<int>& cores : cores_of_workers(pool)) EXPECT_EQ(cores, std::vector<int>{only});
  }).join();
}

}  // namespace
}  // namespace tilewright::rt
