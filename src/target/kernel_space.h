#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "schedule/schedule.h"
#include "target/target.h"

/// What a tuner chooses from: for one kernel, the configurations that its target can run and that may pay.
namespace tilewright {

/// Grows when configurations mean something else than before, or kernels changed so much that old measurements mislead.
inline constexpr int space_version = 8;

/// What the choice depends on beside the kernel and its target.
struct SpaceOptions {
  int threads = 1;
  bool winograd = true;
  bool rounds = false;                        ///< as PlanOptions has it
  std::map<std::string, int64_t> sizes = {};  ///< of named sizes, as a run is expected to have them; for others see usual_size()

  /// `sizes`, and what `symbols` of them leave open.
  std::map<std::string, int64_t> complete(const std::set<std::string>& symbols) const;
  /// Of a size, at least 1.
  int64_t value(const Dim& dim) const;
};

/// What a size of that name often is: 1 for batches, 128 for the rest.
int64_t usual_size(std::string_view symbol);

struct KernelSpace {
  std::string signature;                               ///< what is computed, less its sizes
  std::vector<std::pair<std::string, int64_t>> shape;  ///< the sizes, by name
  std::string form;                                    ///< tells apart what signature and sizes do not: where operands lie, the best guess, `cold`
  bool cold = true;                                    ///< whether its weights are out of a core's own caches when it runs
  double operations = 0;                               ///< multiplications and additions of a plain computation
  int64_t weight_bytes = 0;
  bool exact = false;                           ///< sums are of integers: every configuration gives the same
  int64_t lanes = 1, weight_element = 4;        ///< of a CPU's vectors of sums; bytes of a weight
  std::vector<schedule::KernelConfig> configs;  ///< the best guess first
  std::vector<double> cycles;                   ///< of a core, or of a GPU's clock, that each is expected to take
};

/// nullopt: there is nothing to choose. For kernels that plan_kernels() has not seen.
std::optional<KernelSpace> kernel_space(const schedule::Block& block, const schedule::Kernel& kernel, const Target& target, const SpaceOptions& options);

/// A core's cycles that the whole block is expected to take: a rough figure, for comparing ways to schedule a model.
double expected_cycles(const schedule::Block& block, const Target& target, const SpaceOptions& options);

/// The same kernel's numbers and a configuration's as a learner sees them: about the logarithms of sizes, costs and remainders.
inline constexpr size_t feature_count = 25;
std::vector<float> features(const KernelSpace& space, size_t config, const Target& target, int threads);

}  // namespace tilewright
