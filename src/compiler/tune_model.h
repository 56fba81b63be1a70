#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "compiler/compile.h"
#include "tune/tuner.h"

namespace tilewright {

/// A way to compile the whole model, and its time by the untuned one's, run in turns with it.
struct ModelVariant {
  std::string name;  ///< "untuned", "tuned", "tuned, without choose_layouts"
  double ratio = 1;
};

struct ModelTuning {
  tune::TuneResult search;
  std::vector<ModelVariant> variants;  ///< measured ones; empty when the search was interrupted or the model could not be run
  std::string chosen;                  ///< the name of one of them
  std::string target;
};

/// Tunes the model's kernels, then measures the whole: as the choices have it, without them, and without passes whose gain the
/// estimates leave open; what is fastest is what later compiles of the model do. Everything learned goes to `database`.
ModelTuning tune_model(const std::filesystem::path& model, const CompileOptions& compile, const tune::TuneOptions& search, tune::Database& database);

/// The kernels of the model that have a choice, as an untuned compile has them.
std::vector<tune::Subject> tuning_subjects(const std::filesystem::path& model, const CompileOptions& compile);

}  // namespace tilewright
