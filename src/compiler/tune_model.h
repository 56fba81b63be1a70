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
  std::vector<ModelVariant> variants;  ///< measured ones
  std::string unchecked;               ///< why the whole was not measured, if so
  std::string chosen;                  ///< the name of one of them
  std::string target;
};

/// Tunes the model's kernels, then measures the whole: as the choices have it, without them, and without passes whose gain the
/// estimates leave open; what is fastest is what later compiles of the model do. Everything learned goes to `database`.
/// `check_known`: also where all kernels were known and only the decision on the whole is missing.
ModelTuning tune_model(const std::filesystem::path& model, const CompileOptions& compile, const tune::TuneOptions& search, tune::Database& database,
                       bool check_known = true);

/// The kernels that have a choice, of the model as an untuned compile has it and of the ways that compete with it.
std::vector<tune::Subject> tuning_subjects(const std::filesystem::path& model, const CompileOptions& compile);

}  // namespace tilewright
