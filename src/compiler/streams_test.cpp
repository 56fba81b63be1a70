#include <gtest/gtest.h>

#include <random>

#include "artifact/compare.h"
#include "artifact/run.h"
#include "base/file.h"
#include "compiler/compile.h"
#include "op/builder.h"
#include "op/op.h"
#include "op/rounding.h"
#include "pass/editor.h"
#include "pattern/interpreter.h"

namespace tilewright {
namespace {

/// Branches of two inputs, each a chain of products, into slices of one tensor; and a product of that.
Graph branches(const Dim& rows) {
  Graph graph;
  Builder b(graph);
  std::mt19937 random(5);
  const auto weights = [&](int64_t in, int64_t out) {
    Tensor tensor(DType::f32, {in, out});
    for (int64_t i = 0; i < tensor.element_count(); ++i) tensor.set_float(i, static_cast<double>(random() % 17) / 16 - 0.5);
    return b.constant(tensor);
  };
  const ValueId x = b.input("x", {DType::f32, {rows, 24}}), y = b.input("y", {DType::f32, {rows, 24}});
  std::vector<ValueId> ends;
  for (int i = 0; i < 5; ++i) {
    ValueId z = i % 2 == 0 ? x : y;
    for (int k = 0; k <= i % 3; ++k) z = b.max(b.matmul(z, weights(24, 24)), 0.0);
    ends.push_back(z);
  }
  const ValueId joined = b.one("concat", ends, {{"axis", int64_t{0}}});
  b.output(b.matmul(joined, weights(24, 16)));
  b.output(b.matmul(ends[1], weights(24, 8)));
  return graph;
}

Prepared prepared(const Dim& rows, const CompileOptions& options) {
  Prepared model;
  model.name = "branches";
  model.imported = branches(rows);
  model.optimised = clone(model.imported);
  model.block = std::make_shared<schedule::Block>(schedule_model(lower(model.imported), options));
  return model;
}

Tensor random_tensor(int64_t rows, std::mt19937& random) {
  Tensor tensor(DType::f32, {rows, 24});
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < tensor.element_count(); ++i) tensor.set_float(i, normal(random));
  return tensor;
}

/// The emulated device runs streams in another order each time; runs after the second are replayed while pointers stay.
TEST(Streams, BranchesGiveWhatTheInterpreterGivesInEveryOrder) {
  CompileOptions options;
  options.target = "emulator:warp32";
  options.build.optimisation = 1;
  const std::vector<Prepared> models = {prepared(20, options), prepared(Dim::symbol("rows"), options)};
  const ScratchFolder folder(std::filesystem::temp_directory_path());
  const std::string library = (folder.path() / "branches.so").string();
  build_models(models, library, options);
  std::mt19937 random(7);
  for (size_t m = 0; m < models.size(); ++m) {
    EXPECT_GE(models[m].block->streams.streams, 2);
    const Model model = open_model(library, static_cast<int>(m));
    Context context = open_context(model, 1);
    for (const int64_t rows : m == 0 ? std::vector<int64_t>{20, 20} : std::vector<int64_t>{20, 33, 20}) {
      std::vector<Tensor> inputs = {random_tensor(rows, random), random_tensor(rows, random)};
      for (int run = 0; run < 6; ++run) {
        for (Tensor& input : inputs) input.set_float(run, input.float_at(run) + 1);
        const std::vector<Tensor> expected = pattern::interpret(lower(models[m].imported), inputs), actual = run_model(context, model, inputs);
        for (size_t i = 0; i < expected.size(); ++i) {
          const Comparison result = compare(actual[i], expected[i], network_tolerance(DType::f32, rounding_steps(models[m].imported), 10));
          ASSERT_TRUE(result.same) << "model " << m << ", " << rows << " rows, run " << run << ", output " << i << ": " << result.reason;
        }
      }
    }
  }
}

TEST(Streams, CanBeSwitchedOff) {
  CompileOptions options;
  options.target = "emulator:warp32";
  options.stop_after = "emit";
  for (const bool off : {false, true}) {
    Prepared model = prepared(20, options);
    if (off) model.disabled_passes = {"streams"};
    build_models({model}, "", options);
    EXPECT_EQ(model.block->streams.streams == 1, off);
  }
}

}  // namespace
}  // namespace tilewright
