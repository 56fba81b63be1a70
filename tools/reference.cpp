#include "reference.h"

#include <cmath>
#include <map>

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
std::optional<std::pair<size_t, std::string>> first_difference(const std::vector<Tensor>& actual, const std::vector<Tensor>& expected, double steps,
                                                               const std::vector<HalfError>& half) {
  for (size_t i = 0; i < actual.size(); ++i)
    if (const Comparison result = compare(actual[i], expected[i], tolerance_for(expected[i], steps, half[i])); !result.same) return std::pair{i, result.reason};
  return std::nullopt;
}

std::optional<std::string> first_wrong_pass(const Prepared& model, const CompileOptions& options, const std::vector<Tensor>& inputs) {
  const std::vector<Tensor> expected = interpret_graph(model.imported, inputs, false);
  const double steps = rounding_steps(model.imported);
  const auto difference_of = [&](const Graph& graph) {
    return first_difference(interpret_graph(graph, inputs, false), expected, steps, promised_half_errors(graph, options.precision));
  };
  if (!difference_of(model.optimised)) return std::nullopt;
  Graph graph = clone(model.imported);
  for (const GraphPass& pass : graph_passes(pass_options(options))) {
    if (options.disabled_passes.count(std::string(pass.name))) continue;
    pass.run(graph);
    if (const auto difference = difference_of(graph)) return fmt::format("pass {}: {}", pass.name, difference->second);
  }
  return std::nullopt;
}

/// The graph with every node's results as its results.
Graph with_all_results(Graph graph) {
  graph.outputs.clear();
  for (const Node& node : graph.nodes) graph.outputs.insert(graph.outputs.end(), node.outputs.begin(), node.outputs.end());
  return graph;
}

std::vector<Tensor> run_compiled(const Prepared& model, Graph graph, const CompileOptions& options, const std::vector<Tensor>& inputs, int threads) {
  Prepared probe = model;
  probe.optimised = std::move(graph);
  probe.block = std::make_shared<schedule::Block>(schedule_model(lower(probe.optimised), options));
  const ScratchFolder folder(std::filesystem::temp_directory_path());
  const std::string library = (folder.path() / "probe.so").string();
  build_models({probe}, library, options);
  const Model loaded = open_model(library);
  Context context = open_context(loaded, threads);
  return run_model(context, loaded, inputs);
}

std::optional<std::string> first_wrong_node(const Prepared& model, const CompileOptions& options, const std::vector<Tensor>& inputs, int threads) {
  const Graph probe = with_all_results(model.optimised);
  std::vector<std::string> nodes;
  for (const Node& node : probe.nodes)
    for (const ValueId id : node.outputs) nodes.push_back(fmt::format("{} '{}' → {}", node.op, node.name, probe.value(id).name));
  const auto difference = first_difference(run_compiled(model, probe, options, inputs, threads), interpret_graph(probe, inputs, false), rounding_steps(probe),
                                           promised_half_errors(probe, options.precision));
  if (!difference) return std::nullopt;
  return nodes[difference->first] + ": " + difference->second;
}

}  // namespace

std::vector<Tensor> interpret_graph(const Graph& graph, const std::vector<Tensor>& inputs, bool float64) {
  pattern::InterpreterOptions options;
  options.arithmetic = float64 ? pattern::InterpreterOptions::Arithmetic::float64 : pattern::InterpreterOptions::Arithmetic::as_written;
  return pattern::interpret(lower(graph), inputs, options);
}

Tolerance tolerance_for(const Tensor& expected, double steps, const HalfError& half) {
  double largest = 0;
  for (int64_t i = 0; i < expected.element_count(); ++i)
    if (const double value = std::abs(expected.float_at(i)); std::isfinite(value)) largest = std::max(largest, value);
  Tolerance tolerance = network_tolerance(expected.dtype(), steps, largest);
  if (!is_float(expected.dtype())) return tolerance;
  tolerance.relative += half.largest;
  tolerance.absolute += half.largest * largest;
  return tolerance;
}

std::vector<HalfError> promised_half_errors(const Graph& compiled, const Precision& precision) {
  const double product_step = precision.policy == Policy::tf32 ? 0x1p-10 : 0;
  if (!precision.may_lower() && product_step == 0) return std::vector<HalfError>(compiled.outputs.size());
  const std::vector<HalfError> all = half_errors(compiled, product_step);
  std::vector<HalfError> of_outputs;
  for (const ValueId id : compiled.outputs) of_outputs.push_back(all[static_cast<size_t>(id)]);
  return of_outputs;
}

std::vector<TensorError> tensor_errors(const Prepared& model, const CompileOptions& options, const std::filesystem::path& path,
                                       const std::vector<Tensor>& inputs, int threads) {
  CompileOptions plain = options;
  plain.precision = {};
  plain.on_stage = nullptr;
  const Graph exact = with_all_results(prepare(path, plain).optimised), graph = with_all_results(model.optimised);
  const std::vector<Tensor> expected = interpret_graph(exact, inputs, true), actual = run_compiled(model, graph, options, inputs, threads);
  std::map<std::string, size_t> by_name;
  for (size_t i = 0; i < exact.outputs.size(); ++i) by_name[exact.value(exact.outputs[i]).name] = i;
  const std::vector<HalfError> half = promised_half_errors(graph, options.precision);
  const double steps = rounding_steps(exact);
  std::vector<TensorError> errors;
  size_t i = 0;
  for (const Node& node : graph.nodes)
    for (const ValueId id : node.outputs) {
      const size_t here = i++;
      const auto found = by_name.find(graph.value(id).name);
      if (found == by_name.end() || !is_float(actual[here].dtype())) continue;
      const Tensor& right = expected[found->second];
      if (!is_float(right.dtype())) continue;
      errors.push_back({graph.value(id).name, node.op, compare(actual[here].cast_to(right.dtype()), right, {}).relative_rms,
                        half[here].rms + epsilon_of(exact.type(exact.outputs[found->second]).dtype) * steps});
    }
  return errors;
}

std::string locate_difference(const Prepared& model, const CompileOptions& options, const std::vector<Tensor>& inputs, int threads, bool given) {
  if (const auto pass = first_wrong_pass(model, options, inputs)) return *pass;
  if (const auto node = first_wrong_node(model, options, inputs, threads)) return *node;
  if (given) return "none: compiled now, every node agrees; compile the artifact again";
  return "none: with every result stored, all agree; the difference comes from fusion (try --disable fuse_maps, fuse_epilogues, fuse_attention, "
         "fuse_depthwise, fuse_rows)";
}

}  // namespace tilewright::tools
