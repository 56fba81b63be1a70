#include "compiler/pipeline.h"

#include "base/error.h"
#include "base/file.h"
#include "op/op.h"
#include "pass/pass.h"

namespace tilewright {
namespace {

struct SchedulePass {
  const char* name;
  const char* summary;
};
constexpr SchedulePass schedule_passes[] = {
    {"fuse_maps", "computes elementwise and movement patterns where they are read"},
    {"fuse_epilogues", "applies what follows a contraction or reduction to its results before they are stored"},
    {"fuse_rows", "runs chains of reductions and maps over the same rows in one kernel"},
    {"alias_views", "gives reshapes and leading slices their source's memory"},
    {"write_in_place", "lets results take the memory of operands that end there"},
};

}  // namespace

std::vector<std::pair<std::string, std::string>> pass_names() {
  std::vector<std::pair<std::string, std::string>> names;
  for (const GraphPass& pass : graph_passes()) names.emplace_back(pass.name, pass.summary);
  for (const SchedulePass& pass : schedule_passes) names.emplace_back(pass.name, pass.summary);
  return names;
}

Pipeline::Pipeline(const CompileOptions& options) : options_(options) {
  std::set<std::string> known;
  std::string list;
  for (const auto& [name, summary] : pass_names()) {
    known.insert(name);
    list += (list.empty() ? "" : ", ") + name;
  }
  for (const std::string& name : options.disabled_passes)
    if (!known.count(name)) fail(ErrorKind::invalid_input, "there is no pass '{}'; passes: {}", name, list);
  known.insert({"import", "optimise", "lower", "schedule", "emit"});
  if (!options.stop_after.empty() && !known.count(options.stop_after))
    fail(ErrorKind::invalid_input, "there is no stage '{}' to stop after; stages: import, {}, lower, schedule, emit", options.stop_after, list);
  if (!options.dump_dir.empty()) {
    std::error_code failure;
    std::filesystem::create_directories(options.dump_dir, failure);
    if (failure) fail(ErrorKind::environment, "cannot create the dump folder '{}': {}", options.dump_dir.string(), failure.message());
  }
}

void Pipeline::run_pass(const std::string& name, void (*pass)(Graph&), Graph& graph) {
  if (stopped_ || !enabled(name)) return;
  pass(graph);
#ifdef NDEBUG
  const bool checking = options_.verify_between_passes;
#else
  const bool checking = true;
#endif
  if (checking) verify_types(graph);
  after(name, "graph", [&] { return print(graph); });
}

void Pipeline::after(const std::string& stage, const std::string& kind, const std::function<std::string()>& text) {
  ++number_;
  if (!options_.dump_dir.empty()) write_file(options_.dump_dir / fmt::format("{:02}_{}.{}", number_, stage, kind), text());
  stopped_ |= stage == options_.stop_after;
}

}  // namespace tilewright
