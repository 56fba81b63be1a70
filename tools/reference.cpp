#include "reference.h"

#include <cmath>

#include "artifact/run.h"
#include "base/file.h"
#include "op/op.h"
#include "op/rounding.h"
#include "pass/editor.h"
#include "pass/pass.h"
#include "pattern/interpreter.h"

namespace tilewright::tools {
namespace {

/// Index of the first tensor that differs and why.
std::optional<std::pair<size_t, std::string>> first_difference(const std::vector<Tensor>& actual, const std::vector<Tensor>& expected, double steps) {
  for (size_t i = 0; i < actual.size(); ++i)
    if (const Comparison result = compare(actual[i], expected[i], tolerance_for(expected[i], steps)); !result.same) return std::pair{i, result.reason};
  return std::nullopt;
}

std::optional<std::string> first_wrong_pass(const Prepared& model, const CompileOptions& options, const std::vector<Tensor>& inputs) {
  const std::vector<Tensor> expected = interpret_graph(model.imported, inputs, false);
  const double steps = rounding_steps(model.imported);
  if (!first_difference(interpret_graph(model.optimised, inputs, false), expected, steps)) return std::nullopt;
  Graph graph = clone(model.imported);
  for (const GraphPass& pass : graph_passes()) {
    if (options.disabled_passes.count(std::string(pass.name))) continue;
    pass.run(graph);
    if (const auto difference = first_difference(interpret_graph(graph, inputs, false), expected, steps))
      return fmt::format("pass {}: {}", pass.name, difference->second);
  }
  return std::nullopt;
}

std::optional<std::string> first_wrong_node(const Prepared& model, const CompileOptions& options, const std::vector<Tensor>& inputs, int threads) {
  Prepared probe = model;
  std::vector<std::string> nodes;
  probe.optimised.outputs.clear();
  for (const Node& node : model.optimised.nodes)
    for (const ValueId id : node.outputs) {
      probe.optimised.outputs.push_back(id);
      nodes.push_back(fmt::format("{} '{}' → {}", node.op, node.name, model.optimised.value(id).name));
    }
  pattern::Program program = lower(probe.optimised);
  probe.block = std::make_shared<schedule::Block>(schedule_model(std::move(program), options));
  const ScratchFolder folder(std::filesystem::temp_directory_path());
  const std::string library = (folder.path() / "probe.so").string();
  build_models({probe}, library, options);
  const Model loaded = open_model(library);
  Context context = open_context(loaded, threads);
  const auto difference =
      first_difference(run_model(context, loaded, inputs), interpret_graph(probe.optimised, inputs, false), rounding_steps(probe.optimised));
  if (!difference) return std::nullopt;
  return nodes[difference->first] + ": " + difference->second;
}

}  // namespace

std::vector<Tensor> interpret_graph(const Graph& graph, const std::vector<Tensor>& inputs, bool float64) {
  pattern::InterpreterOptions options;
  options.arithmetic = float64 ? pattern::InterpreterOptions::Arithmetic::float64 : pattern::InterpreterOptions::Arithmetic::as_written;
  return pattern::interpret(lower(graph), inputs, options);
}

Tolerance tolerance_for(const Tensor& expected, double steps) {
  double largest = 0;
  for (int64_t i = 0; i < expected.element_count(); ++i)
    if (const double value = std::abs(expected.float_at(i)); std::isfinite(value)) largest = std::max(largest, value);
  return network_tolerance(expected.dtype(), steps, largest);
}

std::string locate_difference(const Prepared& model, const CompileOptions& options, const std::vector<Tensor>& inputs, int threads, bool given) {
  if (const auto pass = first_wrong_pass(model, options, inputs)) return *pass;
  if (const auto node = first_wrong_node(model, options, inputs, threads)) return *node;
  if (given) return "none: compiled now, every node agrees; compile the artifact again";
  return "none: with every result stored, all agree; the difference comes from fusion (try --disable fuse_maps, fuse_epilogues, fuse_attention, "
         "fuse_depthwise, fuse_rows)";
}

}  // namespace tilewright::tools
