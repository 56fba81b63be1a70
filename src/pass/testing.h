#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "graph/interface.h"
#include "op/op.h"
#include "pass/editor.h"
#include "pass/pass.h"
#include "pattern/interpreter.h"

/// Tests of passes are texts: what a graph was, what it becomes.
namespace tilewright::pass_testing {

inline void run_pass(std::string_view name, Graph& graph, const Precision& precision = {}) {
  for (const GraphPass& pass : graph_passes({.precision = precision}))
    if (pass.name == name) return pass.run(graph);
  fail(ErrorKind::internal, "there is no pass '{}'", name);
}

/// The graph without what a pass is free to choose: names of nodes and inner values, order of constants.
inline Graph normalised(const Graph& graph) {
  Graph result;
  result.name = graph.name;
  std::vector<ValueId> here(graph.values.size(), no_value);
  const auto bring = [&](ValueId id, bool keeps_name) {
    if (id == no_value) return id;
    ValueId& mapped = here[static_cast<size_t>(id)];
    if (mapped != no_value) return mapped;
    mapped = static_cast<ValueId>(result.values.size());
    result.values.push_back(graph.value(id));
    if (!keeps_name) result.values.back().name = "." + std::to_string(mapped);
    result.values.back().contents.reset();
    return mapped;
  };
  for (const ValueId id : graph.inputs) result.inputs.push_back(bring(id, true));
  for (const ValueId id : graph.outputs) result.outputs.push_back(bring(id, !graph.value(id).constant));
  for (const Node& node : graph.nodes) {
    Node copy = node;
    copy.name.clear();
    for (ValueId& id : copy.inputs) id = bring(id, false);
    for (ValueId& id : copy.outputs) id = bring(id, false);
    for (auto& body : copy.subgraphs) body = std::make_shared<Graph>(normalised(*body));
    result.nodes.push_back(std::move(copy));
  }
  return result;
}

/// How far results may lie apart after a pass.
struct Agreement {
  bool exact = true;    ///< to the bit, NaNs of any payload being one, also for infinities, NaNs and -0 among the inputs
  double relative = 0;  ///< else: of the largest expected magnitude
};

inline Tensor random_input(const Type& type, const std::map<std::string, int64_t>& sizes, bool specials, std::mt19937& random) {
  std::vector<int64_t> dims;
  for (const Dim& dim : type.dims) dims.push_back(dim.evaluate(sizes));
  Tensor tensor(type.dtype, dims);
  constexpr double special[] = {0.0, -0.0, HUGE_VAL, -HUGE_VAL, std::numeric_limits<double>::quiet_NaN(), 1e-40, 3e38};
  std::uniform_real_distribution<double> uniform(-2, 2);
  for (int64_t i = 0; i < tensor.element_count(); ++i) {
    if (type.dtype == DType::boolean)
      tensor.set_int(i, random() % 2);
    else if (!is_float(type.dtype))
      tensor.set_int(i, static_cast<int64_t>(random() % 4));
    else
      tensor.set_float(i, specials && random() % 2 == 0 ? special[random() % std::size(special)] : uniform(random));
  }
  return tensor;
}

inline void expect_same(const Tensor& actual, const Tensor& expected, const Agreement& agreement) {
  ASSERT_EQ(actual.dtype(), expected.dtype());
  ASSERT_EQ(actual.dims(), expected.dims());
  double scale = 0;
  for (int64_t i = 0; i < expected.element_count(); ++i) scale = std::max(scale, std::abs(expected.float_at(i)));
  for (int64_t i = 0; i < actual.element_count(); ++i) {
    if (!is_float(actual.dtype())) {
      EXPECT_EQ(actual.int_at(i), expected.int_at(i)) << "element " << i;
      continue;
    }
    const double a = actual.float_at(i), e = expected.float_at(i);
    if (agreement.exact)
      EXPECT_TRUE((std::isnan(a) && std::isnan(e)) || (a == e && std::signbit(a) == std::signbit(e))) << "element " << i << ": " << a << " instead of " << e;
    else
      EXPECT_NEAR(a, e, agreement.relative * scale) << "element " << i;
  }
}

/// Both graphs give the same results for random inputs, as written and in float64; every named size takes a few values.
inline void expect_equivalent(const Graph& before, const Graph& after, const Agreement& agreement = {}) {
  const pattern::Program old = lower(before), now = lower(after);
  std::set<std::string> symbols;
  for (const ValueId id : before.inputs)
    for (const Dim& dim : before.type(id).dims) dim.collect_symbols(symbols);
  std::mt19937 random(1);
  for (int round = 0; round < 12; ++round) {
    std::map<std::string, int64_t> sizes;
    int64_t size = 1 + round % 4;
    for (const std::string& symbol : symbols) sizes[symbol] = size++;
    std::vector<Tensor> inputs;
    for (const ValueId id : before.inputs) inputs.push_back(random_input(before.type(id), sizes, agreement.exact, random));
    using Arithmetic = pattern::InterpreterOptions::Arithmetic;
    for (const Arithmetic arithmetic : {Arithmetic::as_written, Arithmetic::float64}) {
      pattern::InterpreterOptions options;
      options.arithmetic = arithmetic;
      const auto expected = pattern::interpret(old, inputs, options), actual = pattern::interpret(now, inputs, options);
      ASSERT_EQ(actual.size(), expected.size());
      for (size_t i = 0; i < actual.size(); ++i) expect_same(actual[i], expected[i], agreement);
    }
  }
}

/// The pass makes `after` out of `before` (up to inner names), keeps the names of inputs and outputs, and changes no result.
inline void expect_pass(std::string_view pass, const std::string& before, const std::string& after, const Agreement& agreement = {},
                        const Precision& precision = {}) {
  const Graph was = parse_graph(before);
  verify_types(was);
  Graph is = clone(was);
  run_pass(pass, is, precision);
  EXPECT_NO_THROW(verify_types(is)) << print(is);
  EXPECT_NO_THROW(verify_interface(is, interface_of(was))) << print(is);
  EXPECT_EQ(print(normalised(is)), print(normalised(parse_graph(after))));
  expect_equivalent(was, is, agreement);
}

inline void expect_unchanged(std::string_view pass, const std::string& text, const Precision& precision = {}) {
  Graph graph = parse_graph(text);
  verify_types(graph);
  run_pass(pass, graph, precision);
  EXPECT_EQ(print(normalised(graph)), print(normalised(parse_graph(text))));
}

/// A graph from %x of that type to %y.
inline std::string from_x(const std::string& type, const std::string& body) { return "graph \"g\" (%x: " + type + ") -> (%y) {\n" + body + "\n}"; }

}  // namespace tilewright::pass_testing
