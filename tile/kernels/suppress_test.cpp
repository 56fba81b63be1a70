#include "tile/kernels/suppress.h"

#include <gtest/gtest.h>

#include <vector>

#include "tile/testing/teams.h"

namespace tile {
namespace {

using Rows = std::vector<std::vector<i64>>;

Rows run(const std::vector<float>& boxes, const std::vector<float>& scores, i64 batches, i64 classes, i64 count, const SuppressOptions& options,
         int threads = 1) {
  testing::TestTeam team(threads);
  std::vector<i64> out(static_cast<size_t>(suppress_bound(batches, classes, count, options.most_per_class) * 3) + 1, -7);
  const i64 n = suppress(boxes.data(), scores.data(), batches, classes, count, options, out.data(), team.team());
  EXPECT_EQ(out.back(), -7);
  Rows rows;
  for (i64 i = 0; i < n; ++i) rows.push_back({out[static_cast<size_t>(i * 3)], out[static_cast<size_t>(i * 3 + 1)], out[static_cast<size_t>(i * 3 + 2)]});
  return rows;
}

// Six boxes in three places, each place twice but for the last two; worked out by hand.
const std::vector<float> corners{0, 0, 1, 1, 0, 0.1f, 1, 1.1f, 0, -0.1f, 1, 0.9f, 0, 10, 1, 11, 0, 10.1f, 1, 11.1f, 0, 100, 1, 101};
const std::vector<float> scores{0.9f, 0.75f, 0.6f, 0.95f, 0.5f, 0.3f};

TEST(Suppress, KeepsTheBestOfEachPlace) { EXPECT_EQ(run(corners, scores, 1, 1, 6, {false, 10, 0.5f, false, 0}), (Rows{{0, 0, 3}, {0, 0, 0}, {0, 0, 5}})); }

TEST(Suppress, ScoresMustExceedTheThresholdAndResultsAreLimited) {
  EXPECT_EQ(run(corners, scores, 1, 1, 6, {false, 10, 0.5f, true, 0.3f}), (Rows{{0, 0, 3}, {0, 0, 0}}));
  EXPECT_EQ(run(corners, scores, 1, 1, 6, {false, 1, 0.5f, false, 0}), (Rows{{0, 0, 3}}));
  EXPECT_TRUE(run(corners, scores, 1, 1, 6, {false, 0, 0.5f, false, 0}).empty());
  EXPECT_TRUE(run({}, {}, 1, 1, 0, {false, 5, 0.5f, false, 0}).empty());
}

TEST(Suppress, CornersMayBeSwappedAndCentersGiven) {
  std::vector<float> swapped = corners;
  for (size_t i = 0; i < swapped.size(); i += 8) std::swap(swapped[i], swapped[i + 2]), std::swap(swapped[i + 1], swapped[i + 3]);
  EXPECT_EQ(run(swapped, scores, 1, 1, 6, {false, 10, 0.5f, false, 0}), (Rows{{0, 0, 3}, {0, 0, 0}, {0, 0, 5}}));
  std::vector<float> centers;
  for (size_t i = 0; i < corners.size(); i += 4) {
    const float y0 = corners[i], x0 = corners[i + 1], y1 = corners[i + 2], x1 = corners[i + 3];
    centers.insert(centers.end(), {(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0});
  }
  EXPECT_EQ(run(centers, scores, 1, 1, 6, {true, 10, 0.5f, false, 0}), (Rows{{0, 0, 3}, {0, 0, 0}, {0, 0, 5}}));
}

TEST(Suppress, BatchesAndClassesAreApart) {
  std::vector<float> two_boxes = corners, four_scores;
  two_boxes.insert(two_boxes.end(), corners.begin(), corners.end());
  for (int i = 0; i < 4; ++i) four_scores.insert(four_scores.end(), scores.begin(), scores.end());
  for (int threads : {1, 3}) {
    EXPECT_EQ(run(two_boxes, four_scores, 2, 2, 6, {false, 2, 0.5f, false, 0}, threads),
              (Rows{{0, 0, 3}, {0, 0, 0}, {0, 1, 3}, {0, 1, 0}, {1, 0, 3}, {1, 0, 0}, {1, 1, 3}, {1, 1, 0}}));
  }
}

TEST(Suppress, EqualScoresKeepTheLowerIndexAndEqualBoxesOnlyOne) {
  std::vector<float> same, equal(10, 0.9f);
  for (int i = 0; i < 10; ++i) same.insert(same.end(), {0, 0, 1, 1});
  EXPECT_EQ(run(same, equal, 1, 1, 10, {false, 3, 0.5f, false, 0}), (Rows{{0, 0, 0}}));
  // A threshold of one can never be exceeded.
  EXPECT_EQ(run(same, equal, 1, 1, 10, {false, 3, 1.0f, false, 0}), (Rows{{0, 0, 0}, {0, 0, 1}, {0, 0, 2}}));
}

TEST(Suppress, BoxesWithoutAreaOverlapNothing) {
  EXPECT_EQ(run({0, 0, 0, 0, 0, 0, 0, 0}, {1, 1}, 1, 1, 2, {false, 5, 0, false, 0}), (Rows{{0, 0, 0}, {0, 0, 1}}));
}

}  // namespace
}  // namespace tile
