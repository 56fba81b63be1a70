#include "tune/selection.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "schedule/product_config.h"

namespace tilewright::tune {
namespace {

const Target& machine() { return find_target("cpu:x86-64-v4"); }

/// A space over blocks and strips' bytes whose estimates ignore what costs most of the time: blocks with odd rows are slow.
KernelSpace made_up_space(int64_t n) {
  KernelSpace space;
  space.signature = "made up";
  space.shape = {{"batch", 1}, {"lines", 1}, {"line", 196}, {"n", n}, {"k", 256}};
  space.operations = 1e8;
  space.weight_bytes = 1 << 20;
  for (int vectors = 1; vectors <= 4; ++vectors)
    for (int rows = 1; rows * vectors + vectors <= 32; ++rows)
      for (const int64_t bytes : {128 << 10, 256 << 10, 512 << 10}) {
        space.configs.push_back(schedule::ProductConfig{.block = {rows, vectors}, .panel_bytes = bytes, .strip_bytes = 1 << 19});
        space.cycles.push_back(1e6 * (1 + 0.01 * std::abs(rows * vectors - 20)));
      }
  return space;
}
double made_up_time(const KernelSpace& space, size_t i) {
  const auto& c = std::get<schedule::ProductConfig>(space.configs[i]);
  return std::log2(space.cycles[i] / space.cycles[0]) + (c.block.rows % 2 == 1 ? 0.3 : 0) - (c.panel_bytes == 256 << 10 ? 0.1 : 0) -
         (c.block.vectors == 3 ? 0.2 : 0);
}

/// Measurements until the best time found is within 2 % of the space's best.
int measurements_needed(const KernelSpace& space, Strategy strategy, unsigned seed) {
  double best = 1e9;
  for (size_t i = 0; i < space.configs.size(); ++i) best = std::min(best, made_up_time(space, i));
  std::mt19937 random(seed);
  Measured measured = {{0, made_up_time(space, 0)}};
  CostModel model(seed);
  std::vector<std::vector<float>> rows;
  std::vector<float> targets;
  while (measured.size() < space.configs.size()) {
    double found = 1e9;
    for (const auto& [config, time] : measured) found = std::min(found, time);
    if (found <= best + std::log2(1.02)) break;
    if (strategy == Strategy::learned) model.fit(rows, targets);
    for (const size_t config : propose(space, measured, model, strategy, 6, machine(), 2, random).configs) {
      measured[config] = made_up_time(space, config);
      rows.push_back(features(space, config, machine(), 2));
      targets.push_back(static_cast<float>(residual(space, config, measured[config])));
    }
  }
  return static_cast<int>(measured.size());
}

TEST(Selection, NeverProposesWhatWasMeasuredAndEndsWithTheSpace) {
  const KernelSpace space = made_up_space(256);
  for (const Strategy strategy : {Strategy::learned, Strategy::analytical, Strategy::random}) {
    std::mt19937 random(1);
    const CostModel model;
    Measured measured;
    std::set<size_t> seen;
    for (;;) {
      const Proposal proposal = propose(space, measured, model, strategy, 10, machine(), 2, random);
      if (proposal.configs.empty()) break;
      ASSERT_LE(proposal.configs.size(), 10U);
      for (const size_t config : proposal.configs) {
        EXPECT_TRUE(seen.insert(config).second);
        measured[config] = 0;
      }
    }
    EXPECT_EQ(seen.size(), space.configs.size());
  }
}

TEST(Selection, AnalyticalFollowsTheEstimates) {
  const KernelSpace space = made_up_space(256);
  std::mt19937 random(1);
  const auto first = propose(space, {}, CostModel(), Strategy::analytical, 3, machine(), 2, random).configs;
  EXPECT_EQ(first, (std::vector<size_t>{0, 1, 2}));
}

TEST(Selection, LearnedNeedsFewerMeasurementsThanRandom) {
  double learned = 0, random = 0;
  for (unsigned seed = 1; seed <= 10; ++seed) {
    learned += measurements_needed(made_up_space(256), Strategy::learned, seed);
    random += measurements_needed(made_up_space(256), Strategy::random, seed);
  }
  EXPECT_LT(learned, random);
}

TEST(Selection, TheExpectedGainFallsAsTheSpaceIsKnown) {
  const KernelSpace space = made_up_space(256);
  CostModel model;
  std::vector<std::vector<float>> rows;
  std::vector<float> targets;
  Measured measured;
  for (size_t i = 0; i < space.configs.size(); ++i) {
    rows.push_back(features(space, i, machine(), 2));
    targets.push_back(static_cast<float>(residual(space, i, made_up_time(space, i))));
    if (i % 2 == 0) measured[i] = made_up_time(space, i);
  }
  std::mt19937 random(1);
  const double before = propose(space, {{0, made_up_time(space, 0)}}, model, Strategy::learned, 4, machine(), 2, random).expected_gain;
  model.fit(rows, targets);
  const double after = propose(space, measured, model, Strategy::learned, 4, machine(), 2, random).expected_gain;
  EXPECT_GT(before, 0.05);
  EXPECT_LT(after, before / 2);
}

TEST(CostModel, LearnsAndKnowsWhatItHasNotSeen) {
  std::vector<std::vector<float>> rows;
  std::vector<float> targets;
  for (int i = 0; i < 200; ++i) {
    const float x = static_cast<float>(i % 20), y = static_cast<float>(i / 20);
    rows.push_back({x, y, 1});
    targets.push_back(x > 9 ? 2 : y > 4 ? 1.0F : 0.0F);
  }
  CostModel model;
  EXPECT_FALSE(model.fitted());
  EXPECT_EQ(model.predict({{1, 2, 3}})[0].deviation, 1);
  model.fit({rows.begin(), rows.begin() + 5}, {targets.begin(), targets.begin() + 5});
  EXPECT_FALSE(model.fitted()) << "five rows teach nothing";
  model.fit(rows, targets);
  const auto predictions = model.predict(rows);
  for (size_t i = 0; i < rows.size(); ++i) EXPECT_NEAR(predictions[i].mean, static_cast<double>(targets[i]), 0.25) << i;
}

}  // namespace
}  // namespace tilewright::tune
