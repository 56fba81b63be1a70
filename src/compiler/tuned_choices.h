#pragma once

#include <set>
#include <string>
#include <vector>

#include "compiler/compile.h"
#include "tune/database.h"

namespace tilewright {

/// What the tuning database knows for one model's compile.
class TunedChoices {
 public:
  /// Opens options.tuning.database. `source_hash`: of the model's file.
  TunedChoices(const CompileOptions& options, const std::string& source_hash);

  /// Passes that this model was measured to be faster without.
  const std::set<std::string>& disabled_passes() const { return disabled_; }
  /// What was measured to be best for the kernel, or for one near it; nullopt when nothing was.
  std::optional<schedule::KernelConfig> choose(const schedule::Block& block, const schedule::Kernel& kernel);
  /// Counts into the report. Throws environment when a kernel was never measured and the options ask for that.
  void add_to(CompileReport& report) const;

 private:
  const Target& target_;
  SpaceOptions space_;
  bool must_know_;
  tune::Database database_;
  tune::Place place_;
  bool use_ = true;
  std::set<std::string> disabled_;
  int known_ = 0;
  std::vector<std::string> missing_;
};

/// Threads that runs will use: the options', or one a core that this process may use.
int tuned_threads(const TuningChoice& tuning);
/// The model with what fixes its sizes and passes: what a decision on the whole is kept under.
std::string model_key(const CompileOptions& options, const std::string& source_hash);
SpaceOptions space_options(const CompileOptions& options);

}  // namespace tilewright
