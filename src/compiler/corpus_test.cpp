#include <gtest/gtest.h>

#include <cmath>

#include "artifact/compare.h"
#include "base/error.h"
#include "base/hash.h"
#include "compiler/testing.h"
#include "graph/interface.h"
#include "import/onnx/import.h"
#include "op/op.h"
#include "op/rounding.h"
#include "pass/editor.h"
#include "pass/pass.h"
#include "pattern/interpreter.h"

/// Properties of every graph that real files become, at every stage.
namespace tilewright::compiler_testing {
namespace {

using Constants = std::map<std::string, std::shared_ptr<const Tensor>>;

void collect(const Graph& graph, Constants& constants) {
  for (const Value& value : graph.values)
    if (value.constant) constants.emplace(sha256(value.constant->data(), value.constant->byte_size()), value.constant);
  for (const Node& node : graph.nodes)
    for (const auto& body : node.subgraphs) collect(*body, constants);
}

/// "" when the graph verifies and its text reads back as the same text, of a graph that verifies.
std::string fault_of(const Graph& graph) {
  try {
    verify_types(graph);
    Constants constants;
    collect(graph, constants);
    const std::string text = print(graph);
    const Graph back = parse_graph(text, constants);
    verify_types(back);
    return print(back) == text ? "" : "the text reads back as another graph";
  } catch (const Error& problem) {
    return problem.what();
  }
}

/// Results as written; none when the inputs are no values that the model can take (an index, an axis, a size).
std::optional<std::vector<Tensor>> results_of(const Graph& graph, const std::vector<Tensor>& inputs) {
  pattern::InterpreterOptions options;
  options.point_limit = int64_t{1} << 22;
  try {
    return pattern::interpret(lower(graph), inputs, options);
  } catch (const Error& problem) {
    EXPECT_NE(problem.kind(), ErrorKind::internal) << graph.name << ": " << problem.what();
    return std::nullopt;
  }
}

/// "" when all are the same but for the roundings that folded scales move, and those to 16 bits.
std::string difference(const std::vector<Tensor>& actual, const std::vector<Tensor>& expected, double steps, const std::vector<double>& half = {}) {
  for (size_t i = 0; i < expected.size(); ++i) {
    double scale = 0;
    for (int64_t e = 0; e < expected[i].element_count(); ++e)
      if (const double value = std::abs(expected[i].float_at(e)); std::isfinite(value)) scale = std::max(scale, value);
    Tolerance tolerance = network_tolerance(expected[i].dtype(), steps, scale);
    if (!half.empty() && is_float(expected[i].dtype())) {
      tolerance.relative += half[i];
      tolerance.absolute += half[i] * scale;
    }
    const Comparison result = compare(actual[i], expected[i], tolerance);
    if (!result.same) return result.reason;
  }
  return "";
}

/// The graph as a policy of 16 bits leaves it.
void check_lowered(Graph graph, const std::vector<Tensor>& inputs, const std::optional<std::vector<Tensor>>& expected, const std::filesystem::path& path) {
  const double steps = rounding_steps(graph);
  const std::vector<Type> interface = interface_of(graph);
  for (const GraphPass& pass : graph_passes({.precision = {Policy::bf16, {}}})) pass.run(graph);
  EXPECT_NO_THROW(verify_interface(graph, interface)) << path << " under bf16";
  EXPECT_EQ(fault_of(graph), "") << path << " under bf16";
  if (!expected) return;
  const std::vector<HalfError> errors = half_errors(graph);
  std::vector<double> half;
  for (const ValueId id : graph.outputs) half.push_back(errors[static_cast<size_t>(id)].largest);
  const auto actual = results_of(graph, inputs);
  EXPECT_EQ(actual ? difference(*actual, *expected, steps, half) : "the graph does not run any more", "") << path << " under bf16";
}

/// Imports the model and runs every pass; models that Tilewright does not support count as none.
bool check_every_stage(const std::filesystem::path& path) {
  Graph graph;
  try {
    graph = onnx::import_onnx(path);
  } catch (const Error& problem) {
    EXPECT_EQ(problem.kind(), ErrorKind::unsupported) << path << ": " << problem.what();
    return false;
  }
  EXPECT_EQ(fault_of(graph), "") << path << " imported";
  const std::vector<Tensor> inputs = random_inputs(graph);
  const auto expected = results_of(graph, inputs);
  const double steps = rounding_steps(graph);
  check_lowered(clone(graph), inputs, expected, path);
  for (const GraphPass& pass : graph_passes()) {
    pass.run(graph);
    EXPECT_EQ(fault_of(graph), "") << path << " after " << pass.name;
    if (!expected) continue;
    const auto actual = results_of(graph, inputs);
    EXPECT_EQ(actual ? difference(*actual, *expected, steps) : "the graph does not run any more", "") << path << " after " << pass.name;
  }
  return true;
}

TEST(Corpus, DigitsHoldTogetherAtEveryStage) { EXPECT_TRUE(check_every_stage(digits())); }

TEST(Corpus, ConformanceModelsHoldTogetherAtEveryStage) {
  const auto models = conformance_models();
  if (models.empty()) GTEST_SKIP() << "the package libonnx-testdata is not installed";
  const char* every = std::getenv("TILEWRIGHT_CORPUS_EVERY");  // 1: all of them
  const size_t step = every != nullptr ? static_cast<size_t>(std::max(1, std::atoi(every))) : std::max<size_t>(1, models.size() / 200);
  int checked = 0;
  for (size_t i = 0; i < models.size(); i += step) checked += check_every_stage(models[i]) ? 1 : 0;
  EXPECT_GT(checked, static_cast<int>(models.size() / step / 2));
}

}  // namespace
}  // namespace tilewright::compiler_testing
