#include "graph/graph.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace tilewright {
namespace {

/// x: f32[N,2] and c: f32[2] are added, bind learns K from a count, and an if with two bodies follows.
Graph sound() {
  return parse_graph(R"(graph "main" (%"x": f32[N,2], %"flag": bool[], %"count": i64[]) -> (%"z", %"k") {
    const %"c": f32[2] = {1, 2}
    bind(%"count") symbols=texts["K"] ; "learn"
    %"y": f32[N,2] = add(%"x", %"c") ; "sum"
    %"k": f32[K,2] = slice(%"y") counts=dims["K", "2"] starts=dims["0", "0"] steps=ints[1, 1] ; "cut"
    %"z": f32[N,2] = if(%"flag", %"y") ; "choice"
      graph "then" (%"a": f32[N,2]) -> (%"b") {
        %"b": f32[N,2] = neg(%"a") ; "flip"
      }
      graph "else" (%"a": f32[N,2]) -> (%"a") {
      }
  })");
}

ValueId find(const Graph& graph, const std::string& name) {
  for (size_t id = 0; id < graph.values.size(); ++id)
    if (graph.values[id].name == name) return static_cast<ValueId>(id);
  return no_value;
}

std::string fault(const Graph& graph) {
  try {
    verify(graph);
  } catch (const Error& e) {
    return e.kind() == ErrorKind::internal ? e.what() : "another kind";
  }
  return "none";
}

TEST(GraphVerifier, AcceptsASoundGraph) { EXPECT_EQ(fault(sound()), "none"); }

TEST(GraphVerifier, FindsUseBeforeDefinition) {
  Graph g = sound();
  std::swap(g.nodes[1], g.nodes[2]);
  EXPECT_EQ(fault(g), "slice 'cut': operand y is used before it is defined");
  g = sound();
  g.nodes[1].inputs[0] = g.nodes[1].outputs[0];
  EXPECT_EQ(fault(g), "add 'sum': operand y is used before it is defined");
}

TEST(GraphVerifier, FindsASecondDefinition) {
  Graph g = sound();
  g.nodes.push_back(g.nodes[1]);
  EXPECT_EQ(fault(g), "add 'sum': 'y' is defined twice");
  g = sound();
  g.nodes[1].outputs[0] = g.inputs[0];
  EXPECT_EQ(fault(g), "add 'sum': 'x' is defined twice");
  g = sound();
  g.inputs.push_back(g.inputs[0]);
  EXPECT_EQ(fault(g), "graph input: 'x' is defined twice");
}

TEST(GraphVerifier, FindsIdsThatDoNotExist) {
  Graph g = sound();
  g.nodes[1].inputs[1] = 99;
  EXPECT_EQ(fault(g), "add 'sum': operand 99 is used before it is defined");
  g = sound();
  g.nodes[1].outputs[0] = -1;
  EXPECT_EQ(fault(g), "add 'sum': value -1 does not exist");
  g = sound();
  g.inputs[0] = 99;
  EXPECT_EQ(fault(g), "graph input: value 99 does not exist");
}

TEST(GraphVerifier, FindsNamesUsedTwice) {
  Graph g = sound();
  g.value(find(g, "c")).name = "x";
  EXPECT_EQ(fault(g), "graph 'main': two values are called 'x'");
}

TEST(GraphVerifier, FindsConstantsOfAnotherType) {
  Graph g = sound();
  g.value(find(g, "c")).constant = std::make_shared<const Tensor>(DType::f64, std::vector<int64_t>{2});
  EXPECT_EQ(fault(g), "constant 'c' is not f32[2]");
  g.value(find(g, "c")).constant = std::make_shared<const Tensor>(DType::f32, std::vector<int64_t>{2, 1});
  EXPECT_EQ(fault(g), "constant 'c' is not f32[2]");
}

TEST(GraphVerifier, FindsMissingResultsAndBodies) {
  Graph g = sound();
  g.outputs.push_back(no_value);
  EXPECT_EQ(fault(g), "graph 'main': output -1 is not defined");
  g = sound();
  g.nodes[3].subgraphs[0]->nodes.clear();
  EXPECT_EQ(fault(g), "graph 'then': output 1 is not defined");
  g = sound();
  g.nodes[3].subgraphs[1] = nullptr;
  EXPECT_EQ(fault(g), "if 'choice': a body is missing");
}

TEST(GraphVerifier, FindsSizesUsedBeforeTheyAreKnown) {
  Graph g = sound();
  std::swap(g.nodes[0], g.nodes[1]);
  EXPECT_EQ(fault(g), "none");  // the sum does not mention K
  std::swap(g.nodes[1], g.nodes[2]);
  EXPECT_EQ(fault(g), "slice 'cut': size K is used before it is known");
  g = sound();
  g.value(find(g, "y")).type.dims[0] = Dim::symbol("M");
  EXPECT_EQ(fault(g), "add 'sum': size M is used before it is known");
  g = sound();
  Graph& body = *g.nodes[3].subgraphs[0];
  body.value(body.outputs[0]).type.dims[0] = Dim::symbol("M");
  EXPECT_EQ(fault(g), "neg 'flip': size M is used before it is known");
}

TEST(Compact, DropsWhatNobodyUsesAndKeepsBindsOfUsedSizes) {
  Graph g = sound();
  g.outputs = {find(g, "k")};
  compact(g);
  verify(g);
  std::vector<std::string> left;
  for (const Node& node : g.nodes) left.push_back(node.op);
  EXPECT_EQ(left, (std::vector<std::string>{"bind", "add", "slice"}));
  EXPECT_EQ(find(g, "z"), no_value);
  g.outputs = {find(g, "y")};
  compact(g);
  verify(g);
  EXPECT_EQ(g.nodes.size(), 1u);
  EXPECT_EQ(g.inputs.size(), 3u);  // inputs stay, used or not
}

TEST(ReplaceUses, ReachesOperandsAndOutputs) {
  Graph g = sound();
  replace_uses(g, find(g, "y"), find(g, "x"));
  EXPECT_EQ(g.nodes[2].inputs[0], find(g, "x"));
  replace_uses(g, find(g, "z"), find(g, "x"));
  EXPECT_EQ(g.outputs[0], find(g, "x"));
}

}  // namespace
}  // namespace tilewright
