#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "import/onnx/import.h"
#include "pass/pass.h"
#include "schedule/schedule.h"
#include "target/toolchain.h"
#include "target/target.h"

namespace tilewright {

inline constexpr const char* compiler_version = "0.1.0";

/// Where configurations of kernels come from beside the target's rules.
struct TuningChoice {
  std::filesystem::path database;        ///< of measurements; empty: none is read
  int threads = 0;                       ///< that runs will use; 0: all cores
  std::map<std::string, int64_t> sizes;  ///< that runs will have, by name
  std::string machine;                   ///< whose measurements: what its description begins with; empty: this one's
  bool must_know = false;                ///< whether a kernel that was never measured is an error
};

struct CompileOptions {
  onnx::ImportOptions import;  ///< --shape, limits
  std::string target = "native";
  Precision precision;                    ///< what products promise
  std::set<std::string> disabled_passes;  ///< by name; unknown names are invalid_input
  std::filesystem::path dump_dir;         ///< every stage as a numbered text file, when not empty
  std::string stop_after;                 ///< a stage's name: nothing after it runs (and no library is written)
  bool verify_between_passes = false;
  TuningChoice tuning;
  bool explain = false;               ///< the report tells what was fused, and why the rest was not
  std::filesystem::path emit_source;  ///< write the source folder there instead of building
  BuildOptions build;
  /// Called after each stage with its name, a one-line result and its seconds.
  std::function<void(const std::string& stage, const std::string& result, double seconds)> on_stage;
};

struct CompileReport {
  int imported_nodes = 0, optimised_nodes = 0, kernels = 0, distinct_kernels = 0;
  int64_t weight_bytes = 0, arena_bytes = 0, peak_live_bytes = 0;
  int tuned = 0, untuned = 0;  ///< kernels that have a choice: those whose was measured, and the others
  BuildReport build;
  std::string target;
  std::string explanation;  ///< for people; empty unless asked for
};

/// One model on its way: what `inspect` and `verify` look at.
struct Prepared {
  std::string name;
  std::string source_hash;
  Graph imported, optimised;
  PrecisionReport precision;
  MergeReport merges;
  std::shared_ptr<schedule::Block> block;  ///< null when stopped before
  int imported_nodes = 0;
  std::set<std::string> disabled_passes;      ///< the options', and those that this model was measured to be faster without
  std::shared_ptr<class TunedChoices> tuned;  ///< null: rules alone
};

/// What the graph's passes are told of the options; without reports.
PassOptions pass_options(const CompileOptions& options);

/// Import, passes, lowering and scheduling; no code yet.
Prepared prepare(const std::filesystem::path& path, const CompileOptions& options);

/// Fuses and places for the options' target, less what they switch off. `after`: see schedule::Options.
schedule::Block schedule_model(pattern::Program program, const CompileOptions& options,
                               std::function<void(const char* pass, const pattern::Program& program)> after = {});

/// Compiles one ONNX file into the shared library `output`. Throws Error.
CompileReport compile(const std::filesystem::path& model, const std::filesystem::path& output, const CompileOptions& options);

/// Several prepared models in one library (model i is tilewright_model(i)); for test suites of many small models.
CompileReport build_models(const std::vector<Prepared>& models, const std::filesystem::path& output, const CompileOptions& options);

/// Names of all passes, graph's and schedule's, in order, with their summaries.
std::vector<std::pair<std::string, std::string>> pass_names();

}  // namespace tilewright
