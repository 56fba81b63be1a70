#include "tune/selection.h"

#include <algorithm>
#include <cmath>
#include <tuple>

namespace tilewright::tune {
namespace {

/// Trees that agree may still all be wrong by so much.
constexpr double least_deviation = 0.03;
/// Before anything is known, what an estimate is off by.
constexpr double prior_deviation = 0.2;
/// Of one batch, so many may share a register block or a tile: they teach much the same.
constexpr int of_a_block = 2;

/// E[max(best - X, 0)] for X normal.
double expected_improvement(double best, const Prediction& prediction) {
  const double z = (best - prediction.mean) / prediction.deviation;
  const double density = std::exp(-z * z / 2) / std::sqrt(2 * 3.14159265358979), below = 0.5 * std::erfc(-z / std::sqrt(2.0));
  return prediction.deviation * (z * below + density);
}

/// Method, atom and register block, or unit and tile.
using BlockKey = std::tuple<int, int, int, int>;
BlockKey block_of(const schedule::KernelConfig& config) {
  if (const auto* product = std::get_if<schedule::ProductConfig>(&config))
    return {static_cast<int>(product->method), static_cast<int>(product->atom), product->block.rows, product->block.vectors};
  const auto& tiles = std::get<schedule::TileConfig>(config);
  return {static_cast<int>(tiles.unit), 0, tiles.tile.m, tiles.tile.n};
}

double estimated(const KernelSpace& space, size_t config) { return std::log2(space.cycles[config] / space.cycles[0]); }

}  // namespace

double residual(const KernelSpace& space, size_t config, double log_ratio) { return log_ratio - estimated(space, config); }

Proposal propose(const KernelSpace& space, const Measured& measured, const CostModel& model, Strategy strategy, size_t count, const Target& target, int threads,
                 std::mt19937& random) {
  std::vector<size_t> open;
  for (size_t i = 0; i < space.configs.size(); ++i)
    if (measured.count(i) == 0) open.push_back(i);
  Proposal proposal;
  if (strategy == Strategy::random) std::shuffle(open.begin(), open.end(), random);
  if (strategy == Strategy::random || strategy == Strategy::analytical) {
    // The space is in the order of its estimates.
    proposal.configs.assign(open.begin(), open.begin() + static_cast<std::ptrdiff_t>(std::min(count, open.size())));
    return proposal;
  }
  double best = 0;  // the default's
  for (const auto& [config, log_ratio] : measured) best = std::min(best, log_ratio);
  std::vector<std::vector<float>> rows;
  for (const size_t config : open) rows.push_back(features(space, config, target, threads));
  const std::vector<Prediction> residuals = model.predict(rows);
  std::vector<std::pair<double, size_t>> ranked;
  for (size_t i = 0; i < open.size(); ++i) {
    const double deviation = model.fitted() ? std::max(residuals[i].deviation, least_deviation) : prior_deviation;
    ranked.emplace_back(expected_improvement(best, {residuals[i].mean + estimated(space, open[i]), deviation}), open[i]);
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  proposal.expected_gain = ranked.empty() ? 0 : 1 - std::exp2(-ranked[0].first);
  std::map<BlockKey, int> blocks;
  std::vector<size_t> more;
  for (const auto& [gain, config] : ranked) {
    if (proposal.configs.size() == count) break;
    (++blocks[block_of(space.configs[config])] <= of_a_block ? proposal.configs : more).push_back(config);
  }
  // Where few blocks are left, a batch is filled all the same: it costs a build.
  for (size_t i = 0; i < more.size() && proposal.configs.size() < count; ++i) proposal.configs.push_back(more[i]);
  return proposal;
}

}  // namespace tilewright::tune
