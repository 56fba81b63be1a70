#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "target/toolchain.h"
#include "tune/candidate.h"
#include "tune/database.h"

/// Builds candidates, many a library, and runs them against each other in a process of their own (runner/measure.cpp), here or elsewhere.
namespace tilewright::tune {

/// Configurations of one kernel that run interleaved; the first is what the others are compared with.
struct Trial {
  const Subject* subject = nullptr;
  std::vector<schedule::KernelConfig> configs;
};

struct MeasureOptions {
  SpaceOptions space;
  BuildOptions build;
  double seconds = 2;  ///< for a trial, at most
};

/// One list a trial, one entry a configuration, in order. What does not build, run or agree says so in its status; what was not
/// reached (the runner was interrupted) has no rounds.
std::vector<std::vector<Measurement>> measure(const std::vector<Trial>& trials, const Target& target, const MeasureOptions& options);

/// The same models of a library, whole: the median of each one's time by the first one's. Empty when the runner fails.
std::vector<double> measure_models(const std::filesystem::path& library, size_t count, const std::vector<std::vector<int64_t>>& inputs, int threads,
                                   double seconds, const BuildOptions& build);

/// A folder that builds and measures the trials with make and a compiler alone: `sh measure.sh`, whose results.txt ingest() takes.
void emit_trials(const std::vector<Trial>& trials, const Target& target, const MeasureOptions& options, const std::filesystem::path& folder);
/// Adds a results file to the database. Throws invalid_input when it is none. Returns where it was measured, and how many measurements.
struct Ingested {
  Place place;
  int64_t count = 0;
};
Ingested ingest(const std::filesystem::path& results, Database& database);

/// How far a relative RMS difference may come from the order of roundings alone: sums of `k` products, results of `dtype`. `truncates`: sums may be those
/// of matrix instructions, which cut off what does not fit, always towards zero.
double promised_error(int64_t k, DType dtype, bool truncates = false);

}  // namespace tilewright::tune
