#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tune/measure.h"
#include "tune/place.h"
#include "tune/selection.h"

/// Searches the spaces of a model's kernels until nothing better is expected, or the time is over.
namespace tilewright::tune {

enum class Mode {
  fast,  ///< a few configurations a kernel
  full,  ///< until no gain is expected of the rest
  all,   ///< every configuration
};

struct Progress {
  int kernels = 0, decided = 0;  ///< of the model, and of them those that are done
  int measured = 0;              ///< configurations, in this call
  double seconds = 0;            ///< spent
  double left = 0;               ///< expected to be spent still
  double gain = 0;               ///< of the time in these kernels, so far
};

struct TuneOptions {
  Mode mode = Mode::full;
  Strategy strategy = Strategy::learned;
  double budget = 0;    ///< seconds; 0: no limit
  std::string kernels;  ///< a regular expression over the kernels' names in the model; empty: all
  bool fresh = false;   ///< measures again what the database knows
  MeasureOptions measure;
  std::function<void(const Progress&)> progress;
};

struct KernelResult {
  std::string name;
  KernelKey key;
  int uses = 1;
  size_t space = 0;             ///< configurations
  int known = 0, measured = 0;  ///< of them: from the database, in this call
  std::string standard, chosen;
  double ratio = 1;     ///< expected time of the choice by the default's
  double seconds = 0;   ///< the default's
  std::string trouble;  ///< why it could not be measured, if so
};

struct TuneResult {
  std::vector<KernelResult> kernels;
  int measured = 0;
  double seconds = 0;
  bool finished = true;  ///< false: the budget or an interrupt ended it
};

/// Measures and writes measurements and choices to the database as they come.
TuneResult tune_kernels(const std::vector<Subject>& subjects, const Target& target, const Place& place, Database& database, const TuneOptions& options);

/// Subjects and what to measure of them elsewhere: the default and the most promising ones, `count` a kernel.
std::vector<Trial> trials_for(const std::vector<Subject>& subjects, const Target& target, const Place& place, Database& database, const TuneOptions& options,
                              size_t count);

/// Chooses from what is measured, without measuring: for results that came from elsewhere.
void choose_best(const std::vector<Subject>& subjects, const Place& place, Database& database);

/// Time in the kernels that their choices save, as a share of the defaults' time.
double gain_of(const std::vector<KernelResult>& kernels);

}  // namespace tilewright::tune
