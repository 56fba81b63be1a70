#include "compiler/pipeline.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "graph/interface.h"
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
    {"drop_roundings", "lets products read 32-bit floats where rounding them would take a kernel of its own (CPUs)"},
    {"choose_layouts", "puts channels last where products with weights gain from it (CPUs)"},
    {"fuse_attention", "computes products, their softmax and products with it in one kernel, without storing scores"},
    {"fuse_depthwise", "computes depthwise convolutions and the products before and after them in one kernel, a few lines at a time (CPUs)"},
    {"fuse_rows", "runs chains of reductions and maps over the same rows in one kernel"},
    {"alias_views", "gives reshapes and leading slices their source's memory"},
    {"write_in_place", "lets results take the memory of operands that end there"},
    {"streams", "runs independent branches beside each other (GPUs)"},
    {"winograd", "computes 3 x 3 convolutions with fewer multiplications where that is faster (CPUs)"},
};

}  // namespace

std::vector<std::pair<std::string, std::string>> pass_names() {
  std::vector<std::pair<std::string, std::string>> names;
  for (const GraphPass& pass : graph_passes()) names.emplace_back(pass.name, pass.summary);
  for (const SchedulePass& pass : schedule_passes) names.emplace_back(pass.name, pass.summary);
  return names;
}

Pipeline::Pipeline(const CompileOptions& options) : options_(options) {
  std::vector<std::string> passes, stages = {"import"};
  for (const auto& [name, summary] : pass_names()) passes.push_back(name);
  for (const GraphPass& pass : graph_passes()) stages.emplace_back(pass.name);
  stages.insert(stages.end(), {"optimise", "lower", "schedule", "emit"});
  const auto holds = [](const std::vector<std::string>& names, const std::string& name) { return std::find(names.begin(), names.end(), name) != names.end(); };
  for (const std::string& name : options.disabled_passes)
    if (!holds(passes, name)) fail(ErrorKind::invalid_input, "there is no pass '{}'; passes: {}", name, fmt::join(passes, ", "));
  if (!options.stop_after.empty() && !holds(stages, options.stop_after))
    fail(ErrorKind::invalid_input, "there is no stage '{}' to stop after; stages: {}", options.stop_after, fmt::join(stages, ", "));
  if (options.disabled_passes.count(options.stop_after))
    fail(ErrorKind::invalid_input, "'{}' is switched off, so nothing can stop after it", options.stop_after);
  if (!options.dump_dir.empty()) {
    std::error_code failure;
    std::filesystem::create_directories(options.dump_dir, failure);
    if (failure) fail(ErrorKind::environment, "cannot create the dump folder '{}': {}", options.dump_dir.string(), failure.message());
  }
}

void Pipeline::run_pass(const std::string& name, const std::function<void(Graph&)>& pass, Graph& graph) {
  if (stopped_ || !enabled(name)) return;
  const std::vector<Type> interface = interface_of(graph);
  pass(graph);
  verify_interface(graph, interface);
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
  reached(stage);
}

}  // namespace tilewright
