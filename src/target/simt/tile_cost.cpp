// What a product costs by each configuration, as far as is known without a measurement, and which is the best guess.

#include <algorithm>
#include <cmath>

#include "target/simt/tile_product.h"

namespace tilewright::simt {
namespace {

using schedule::TileConfig;
using Unit = TileConfig::Unit;

/// Cycles from asking memory or the shared cache to having it; until all threads of a block have met.
constexpr double memory_latency = 700, meeting = 60;
/// Cycles that one more launch in a graph takes.
constexpr double launch_cycles = 3000;
/// Instructions for the address and the bounds of an element that is asked for alone: of a matrix, of other things (windows of images).
constexpr double plain_address = 10, other_address = 30;

/// What things take that go on at once: the longest of them, and more where others are nearly as long, since no two overlap wholly.
double together(std::initializer_list<double> cycles) {
  double sum = 0;
  for (const double one : cycles) sum += one * one * one * one;
  return std::sqrt(std::sqrt(sum));
}

/// A product and a way to cut it, as numbers.
class Estimate {
 public:
  Estimate(const TileProduct& product, const TileConfig& config, const Target& target, const TileSizes& sizes)
      : product_(product),
        config_(config),
        target_(target),
        has_(target.multiprocessors),
        sizes_(sizes),
        demand_(demand_of(product, config, target)),
        rows_(ceil_div(sizes.m, config.tile.m)),
        columns_(ceil_div(sizes.n, config.tile.n)),
        split_(split_of(product, config, target)),
        steps_(ceil_div(split_ ? split_->piece : sizes.k, config.depth)) {
    const int64_t by_registers = has_.registers / (int64_t{demand_.registers} * demand_.threads);
    const int64_t by_shared = has_.shared_bytes / std::max<int64_t>(demand_.shared_bytes + 1024, 1);
    resident_ = std::max<int64_t>(std::min({by_registers, by_shared, int64_t{has_.threads / demand_.threads}, int64_t{has_.blocks}}), 1);
  }

  double cycles() const {
    const int64_t blocks = sizes_.batch * rows_ * columns_ * (split_ ? split_->parts : 1), at_once = has_.count * resident_;
    const int64_t whole = blocks / at_once, rest = blocks % at_once;
    const double computing = static_cast<double>(whole) * wave(resident_) + (rest > 0 ? wave(ceil_div(rest, has_.count)) : 0);
    return together({computing, memory_bytes() / (has_.memory_rate * has_.count)}) + adding_parts();
  }

 private:
  /// The launch that adds what the parts of a sum left in memory, which the shared cache holds.
  double adding_parts() const {
    if (!split_) return 0;
    const auto elements = static_cast<double>(sizes_.batch * sizes_.m * sizes_.n);
    return launch_cycles + elements * static_cast<double>((split_->parts + 1) * size_of(product_.shape.sum)) / (has_.l2_rate * has_.count);
  }

  double left_bytes() const { return static_cast<double>(product_.left.bytes()); }
  double right_bytes() const { return static_cast<double>(product_.right.bytes()); }

  double multiply_adds() const {
    if (config_.unit == Unit::wgmma) return has_.warpgroup_multiply_adds * (product_.left.bytes() == 1 ? 2 : 1);
    if (config_.unit == Unit::mma && product_.left.bytes() == 1) return has_.byte_matrix_multiply_adds;
    if (config_.unit == Unit::mma) return has_.matrix_multiply_adds / (product_.left.bytes() == 4 ? 2 : 1);
    return size_of(product_.shape.sum) == 8 ? has_.multiply_adds / 2 : has_.multiply_adds;
  }

  /// Instructions of a step that find and move elements, counted by lanes.
  double instructions_to_fetch() const {
    if (config_.unit == Unit::wgmma) return 0;  // the copy engine's work
    const auto of = [&](const Source& source, int rows) {
      const double elements = static_cast<double>(rows) * config_.depth;
      if (config_.unit != Unit::fma && source.rows) return elements * static_cast<double>(source.bytes()) / 16 * plain_address;
      return elements * (source.dense ? plain_address : other_address);
    };
    return of(product_.left, config_.tile.m) + of(product_.right, config_.tile.n);
  }

  /// Bytes that a step moves to and from shared memory. Values of multiply-adds are read by whole warps, of which many want the same ones.
  double shared_bytes() const {
    const double sum = static_cast<double>(size_of(product_.shape.sum)), depth = config_.depth, m = config_.tile.m, n = config_.tile.n;
    if (config_.unit == Unit::fma) return depth * sum * (m + n + demand_.threads * static_cast<double>(config_.each.m + config_.each.n));
    // Each warpgroup of 64 rows reads all columns.
    if (config_.unit == Unit::wgmma) return depth * left_bytes() * (2 * m + n * (1 + m / 64));
    return depth * left_bytes() * (m * (1 + config_.warps.n) + n * (1 + config_.warps.m));
  }

  /// Cycles that a step of a block takes a multiprocessor from others.
  double busy() const {
    const double products = static_cast<double>(config_.tile.count()) * config_.depth;
    const double instructions = instructions_to_fetch() + (config_.unit == Unit::fma ? products : 0);
    const double fetched = config_.depth * (config_.tile.m * left_bytes() + config_.tile.n * right_bytes());
    return together({products / multiply_adds(), instructions / has_.issued, shared_bytes() / has_.shared_rate, fetched / has_.l2_rate});
  }

  /// Cycles from a step of a block to its next one, with nothing else on the multiprocessor.
  double alone(double busy) const {
    // Who copies runs ahead of who multiplies: they never all meet.
    if (config_.unit == Unit::wgmma) return std::max(busy, memory_latency / (config_.stages - 1));
    const bool past_registers = config_.unit != Unit::fma && has_.copies_asynchronously;
    if (past_registers) return together({busy, memory_latency / (config_.stages - 1)}) + meeting;
    // Two stages ask first and multiply while they wait; one waits.
    if (config_.stages > 1) return together({busy, memory_latency}) + meeting;
    return busy + memory_latency + 2 * meeting;
  }

  /// So many blocks on each multiprocessor.
  double wave(int64_t blocks) const {
    const double one = busy(), count = static_cast<double>(blocks);
    const double stored = config_.tile.count() * static_cast<double>(size_of(product_.result)) / has_.l2_rate;
    return static_cast<double>(steps_) * together({count * one, alone(one)}) + memory_latency + count * stored;
  }

  /// Bytes that come from memory: each element once, and more often what the shared cache does not keep from wave to wave.
  double memory_bytes() const {
    const auto bytes = [&](int64_t rows, int64_t columns) {
      return static_cast<double>(sizes_.k) * (static_cast<double>(rows) * left_bytes() + static_cast<double>(columns) * right_bytes());
    };
    const double factors = static_cast<double>(sizes_.batch) * bytes(sizes_.m, sizes_.n);
    const double results = static_cast<double>(sizes_.batch * sizes_.m * sizes_.n) * static_cast<double>(size_of(product_.result));
    const int64_t at_once = has_.count * resident_, of_entry = rows_ * columns_;
    if (factors <= static_cast<double>(target_.l2_bytes) / 2 || of_entry <= at_once) return factors + results;
    const int64_t height = std::min<int64_t>(config_.group, rows_), columns = std::min(columns_, ceil_div(at_once, height));
    const int64_t rows = std::min(rows_, height * ceil_div(at_once, height * columns_));
    const double waves = static_cast<double>(sizes_.batch) * static_cast<double>(of_entry) / static_cast<double>(at_once);
    return std::max(factors, waves * bytes(rows * config_.tile.m, columns * config_.tile.n)) + results;
  }

  const TileProduct& product_;
  const TileConfig& config_;
  const Target& target_;
  const Multiprocessors& has_;
  const TileSizes& sizes_;
  const Demand demand_;
  const int64_t rows_, columns_;
  const std::optional<SplitSum> split_;
  const int64_t steps_;
  int64_t resident_;  ///< blocks on a multiprocessor
};

}  // namespace

double tile_cycles(const TileProduct& product, const TileConfig& config, const Target& target, const TileSizes& sizes) {
  return Estimate(product, config, target, sizes).cycles();
}

TileConfig choose_tiles(const TileProduct& product, const Target& target) {
  const TileSizes sizes(product, SpaceOptions());
  TileConfig best;
  double least = 0;
  for (const TileConfig& config : all_tiles(product, target, sizes)) {
    const double cycles = tile_cycles(product, config, target, sizes);
    if (best.depth == 0 || cycles < least * 0.999) best = config, least = cycles;
  }
  return best;
}

}  // namespace tilewright::simt
