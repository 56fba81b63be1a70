#include "target/source/sequential_text.h"

#include <gtest/gtest.h>

#include "op/builder.h"

namespace tilewright {
namespace {

using Axes = std::set<size_t>;

/// Of the only scatter that the graph lowers to.
Axes apart_in(const Graph& graph) {
  for (const pattern::Pattern& pattern : lower(graph).patterns)
    if (const auto* scatter = std::get_if<pattern::Scatter>(&pattern)) return source::axes_apart(*scatter);
  ADD_FAILURE() << "no scatter";
  return {};
}

TEST(AxesApart, SlicesThatAreScatteredWholeHaveTheirs) {
  Graph graph;
  Builder b(graph);
  const ValueId x = b.input("x", {DType::f32, {9, 3, 4}}), at = b.input("at", {DType::i64, {5, 1}}), updates = b.input("updates", {DType::f32, {5, 3, 4}});
  b.output(b.one("scatter_nd", {x, at, updates}, {{"combine", std::string("add")}}), "y");
  EXPECT_EQ(apart_in(graph), (Axes{1, 2})) << "two of the five may name one slice";
}

TEST(AxesApart, ElementsAreApartButForTheAxisTheyAreScatteredAlong) {
  for (const size_t axis : {0, 1, 2}) {
    Graph graph;
    Builder b(graph);
    const ValueId x = b.input("x", {DType::f32, {9, 3, 4}}), at = b.input("at", {DType::i64, {2, 2, 2}}), updates = b.input("updates", {DType::f32, {2, 2, 2}});
    b.output(b.one("scatter_elements", {x, at, updates}, {{"axis", static_cast<int64_t>(axis)}, {"combine", std::string("assign")}}), "y");
    Axes expected = {0, 1, 2};
    expected.erase(axis);
    EXPECT_EQ(apart_in(graph), expected);
  }
}

}  // namespace
}  // namespace tilewright
