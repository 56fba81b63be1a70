#include <gtest/gtest.h>

#include "op/builder.h"
#include "pattern/interpreter.h"
#include "target/emit_kernel.h"
#include "target/testing/run_blocks.h"

// Results of a product that go to several places: heads of attention, each a matrix of its own, which panels of columns cut anywhere.

namespace tilewright {
namespace {

using schedule::ProductConfig;

/// Rows of `heads` times `size` results, stored as [heads, rows, size] in `stored`; with a bias, so that a column is asked for by its number, too.
pattern::Program heads_of(int64_t rows, int64_t heads, int64_t size, DType stored) {
  Graph graph;
  Builder b(graph);
  Tensor weights(DType::f32, {20, heads * size}), bias(DType::f32, {heads * size});
  for (int64_t i = 0; i < weights.element_count(); ++i) weights.set_float(i, static_cast<double>(i * 7 % 11 - 5));
  for (int64_t i = 0; i < bias.element_count(); ++i) bias.set_float(i, static_cast<double>(i % 13 - 6));
  const ValueId y = b.add(b.matmul(b.input("x", {DType::f32, {rows, 20}}), b.constant(weights)), b.constant(bias));
  b.output(b.cast(b.transpose(b.reshape(y, {rows, heads, size}), {1, 0, 2}), stored), "y");
  return lower(graph);
}

TEST(EpiloguePieces, HeadsAreStoredWherePanelsCutThem) {
  const Target& target = find_target("native");
  struct Case {
    int64_t rows, heads, size;
    DType stored;
    int vectors;
    bool pieces;
  };
  const int64_t lanes = target.vector_bytes / 4;
  std::vector<Case> cases;
  for (const DType stored : {DType::f32, DType::bf16, DType::f16, DType::i8})
    for (const int64_t size : {lanes / 2, 2 * lanes, 5 * lanes / 2, 4 * lanes})
      for (const int vectors : {1, 2, 3}) {
        const int64_t width = vectors * lanes;
        cases.push_back({11, 3, size, stored, vectors, size >= lanes && size % width != 0});
      }
  std::vector<schedule::Block> blocks;
  for (const Case& one : cases) {
    blocks.push_back(schedule::schedule(heads_of(one.rows, one.heads, one.size, one.stored), {}, {}));
    const ProductConfig config{.block = {3, one.vectors}, .panel_bytes = 1 << 18, .strip_bytes = 1 << 18};
    plan_kernels(blocks.back(), target, {.choose = [&](const auto&, const auto&) { return config; }});
    ASSERT_EQ(blocks.back().kernels.size(), 1U) << schedule::print(blocks.back());
    const std::string text = emit_kernel(blocks.back(), blocks.back().kernels[0], target);
    EXPECT_EQ(text.find("piece = ") != std::string::npos, one.pieces) << one.size << " by " << one.vectors << "\n" << text;
  }
  const testing::CompiledBlocks compiled(std::move(blocks));
  for (size_t i = 0; i < cases.size(); ++i) {
    const Case& one = cases[i];
    Tensor x(DType::f32, {one.rows, 20});
    for (int64_t e = 0; e < x.element_count(); ++e) x.set_float(e, static_cast<double>(e * 5 % 9 - 4) / 4);
    const Tensor expected = pattern::interpret(heads_of(one.rows, one.heads, one.size, one.stored), {x}).at(0), actual = compiled.run(i, {x}).at(0);
    ASSERT_EQ(actual.element_count(), expected.element_count());
    for (int64_t e = 0; e < expected.element_count(); ++e)
      ASSERT_EQ(actual.float_at(e), expected.float_at(e))
          << name(one.stored) << ", heads of " << one.size << " by " << one.vectors << " vectors, element " << e;
  }
}

}  // namespace
}  // namespace tilewright
