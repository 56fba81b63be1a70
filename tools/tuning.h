#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "compiler/tune_model.h"

/// What `tune` and `compile` share of tuning: its options, and how its course and its result are shown.
namespace tilewright::tools {

struct TuningOptions {
  std::string database, machine;
  int threads = 0;
  std::vector<std::string> runs;
  void add_to(CLI::App& command);
  /// Fills options.tuning but for the database.
  void add_to(CompileOptions& options) const;
  std::filesystem::path path() const;
};

/// One line on a terminal, rewritten; elsewhere a line every ten seconds.
void print_progress(const tune::Progress& progress);
void end_progress();

/// What changed and why, kernel by kernel.
std::string tuning_report(const std::string& model, const ModelTuning& tuning);
std::string tuning_json(const ModelTuning& tuning);
/// The kernels' times before and after as an SVG picture.
std::string tuning_plot(const ModelTuning& tuning);

}  // namespace tilewright::tools
