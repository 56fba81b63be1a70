#include "tile/exec/args.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "tile/testing/teams.h"

namespace tile {
namespace {

TEST(Team, RangesCoverEveryIndexOnce) {
  for (int size : {1, 2, 5}) {
    testing::TestTeam threads(size);
    for (i64 count : {0, 1, 2, 7, 64, 1000, 1001}) {
      for (i64 grain : {1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
        std::atomic<int> pieces{0};
        threads.team().for_range(count, grain, [&](i64 begin, i64 end) {
          ++pieces;
          EXPECT_LT(begin, end);
          for (i64 i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
        });
        for (auto& times : seen) EXPECT_EQ(times, 1);
        EXPECT_LE(pieces, 4 * size);
      }
    }
  }
}

TEST(Team, TasksRunOnceWithWorkersInRange) {
  testing::TestTeam threads(3);
  std::vector<std::atomic<int>> seen(100);
  threads.team().for_each(100, [&](i64 index, int worker) {
    EXPECT_GE(worker, 0);
    EXPECT_LT(worker, 3);
    ++seen[static_cast<size_t>(index)];
  });
  for (auto& times : seen) EXPECT_EQ(times, 1);
}

TEST(Args, GivesTypedTensors) {
  testing::TestTeam threads;
  float x = 3;
  void* tensors[] = {&x};
  const i64 sizes[] = {7};
  const Args args{tensors, sizes, threads.team()};
  EXPECT_EQ(*args.at<float>(0), 3);
  EXPECT_EQ(args.size[0], 7);
}

}  // namespace
}  // namespace tile
