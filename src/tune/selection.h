#pragma once

#include <map>
#include <random>
#include <vector>

#include "target/kernel_space.h"
#include "tune/cost_model.h"

/// Which configurations of a kernel to measure next.
namespace tilewright::tune {

enum class Strategy {
  learned,     ///< where the trees expect the largest gain, given how unsure they are
  analytical,  ///< in the order of the target's own estimate
  random,      ///< any; what others are compared with
};

/// Times measured of a space's configurations, by index, as binary logarithms of their ratio to the default's.
using Measured = std::map<size_t, double>;

/// What the trees learn: by how much a configuration's measured ratio differs from its estimated one.
double residual(const KernelSpace& space, size_t config, double log_ratio);

struct Proposal {
  std::vector<size_t> configs;  ///< most promising first; fewer than asked when the space has no more
  double expected_gain = 1;     ///< of the best one: share of the best time so far
};

/// Up to `count` configurations that are not in `measured`.
Proposal propose(const KernelSpace& space, const Measured& measured, const CostModel& model, Strategy strategy, size_t count, const Target& target, int threads,
                 std::mt19937& random);

}  // namespace tilewright::tune
