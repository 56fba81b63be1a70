#include "target/kernel_space.h"

#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "pattern/interpreter.h"
#include "target/emit_kernel.h"
#include "target/testing/layers.h"
#include "target/testing/run_blocks.h"

namespace tilewright {
namespace {

using schedule::ProductConfig;
using testing::block_of;
using testing::Layer;

/// Layers of ResNet-50, VGG-16, MobileNetV2, BERT-base, ViT-B/16 and GPT-2.
const std::vector<Layer>& real_layers() {
  static const std::vector<Layer> layers = {{"ResNet first", 1, 3, 64, 224, 7, 2},   {"ResNet 3x3, 56", 1, 64, 64, 56, 3},
                                            {"ResNet 3x3, 14", 1, 256, 256, 14, 3},  {"ResNet 3x3, 7", 1, 512, 512, 7, 3},
                                            {"ResNet 1x1 out", 3136, 64, 256, 0},    {"ResNet 1x1 in", 196, 1024, 256, 0},
                                            {"ResNet classifier", 1, 2048, 1000, 0}, {"VGG 3x3, 224", 1, 64, 64, 224, 3},
                                            {"MobileNet expand", 12544, 16, 96, 0},  {"MobileNet depthwise", 1, 96, 96, 112, 3, 2, 96},
                                            {"BERT projection", 128, 768, 768, 0},   {"BERT feed forward", 128, 768, 3072, 0},
                                            {"BERT feed back", 384, 3072, 768, 0},   {"GPT-2 token", 1, 768, 2304, 0},
                                            {"batch of 8", 25088, 256, 64, 0}};
  return layers;
}

std::optional<KernelSpace> space_of(const schedule::Block& block, const char* target, int threads = 2) {
  for (const schedule::Kernel& kernel : block.kernels)
    if (auto space = kernel_space(block, kernel, find_target(target), {.threads = threads})) return space;
  return std::nullopt;
}

TEST(KernelSpace, RealLayersHaveTensToAFewThousandConfigurationsTheGuessFirst) {
  for (const Layer& layer : real_layers()) {
    const schedule::Block block = block_of(layer);
    for (const char* target : {"cpu:sapphirerapids-amx", "cpu:sapphirerapids", "cpu:znver4", "cpu:x86-64-v3", "cpu:aarch64"}) {
      const auto space = space_of(block, target);
      ASSERT_TRUE(space) << layer.name;
      std::printf("%-22s %-20s %5zu configurations\n", layer.name.c_str(), target, space->configs.size());
      EXPECT_GE(space->configs.size(), 5U) << layer.name << " " << target;
      EXPECT_LE(space->configs.size(), 5000U) << layer.name << " " << target;
      ASSERT_EQ(space->configs.size(), space->cycles.size());
      std::set<std::string> texts;
      for (size_t i = 0; i < space->configs.size(); ++i) {
        EXPECT_TRUE(texts.insert(schedule::print(space->configs[i])).second) << "listed twice: " << schedule::print(space->configs[i]);
        EXPECT_EQ(schedule::parse_kernel_config(schedule::print(space->configs[i])), space->configs[i]);
        if (i > 1) {
          EXPECT_GE(space->cycles[i], space->cycles[i - 1]) << layer.name;
        }
        EXPECT_EQ(features(*space, i, find_target(target), 2).size(), features(*space, 0, find_target(target), 2).size());
      }
      schedule::Block planned = block;
      plan_kernels(planned, find_target(target));
      for (const schedule::Kernel& kernel : planned.kernels) {
        if (kernel.products.empty()) continue;
        EXPECT_EQ(*schedule::decided(kernel), space->configs[0]) << "the default is what is compiled without a tuner";
      }
    }
  }
}

/// Rows that lie a multiple of 4 KiB apart meet in one set of the first level cache, which holds eight lines.
TEST(KernelSpace, BlocksHaveNoMoreRowsThanASetHolds) {
  const auto rows_for = [](const char* target, int64_t channels) {
    Graph graph;
    Builder b(graph);
    Tensor weights(DType::f32, {channels, 512});
    for (int64_t i = 0; i < weights.element_count(); ++i) weights.set_float(i, static_cast<double>(i % 7));
    b.output(b.matmul(b.input("x", {DType::f32, {196, channels}}), b.constant(weights)), "y");
    schedule::Block block = schedule::schedule(lower(graph), {});
    plan_kernels(block, find_target(target));
    return std::get<ProductConfig>(*schedule::decided(block.kernels.at(0))).block.rows;
  };
  EXPECT_LE(rows_for("cpu:znver4", 1024), 8);
  EXPECT_LE(rows_for("cpu:x86-64-v4", 1024), 8);
  EXPECT_GT(rows_for("cpu:x86-64-v4", 1040), 8);
}

TEST(KernelSpace, MapsHaveNone) {
  Graph graph;
  Builder b(graph);
  b.output(b.neg(b.input("x", {DType::f32, {8}})), "y");
  for (const char* target : {"cpu:x86-64-v4", "cuda:sm_80"}) EXPECT_FALSE(space_of(schedule::schedule(lower(graph), {}), target)) << target;
}

TEST(KernelSpace, OneThreadHasNothingToSplit) {
  const auto space = space_of(block_of(real_layers()[4]), "cpu:x86-64-v4", 1);
  ASSERT_TRUE(space);
  for (const schedule::KernelConfig& config : space->configs)
    EXPECT_EQ(std::get<ProductConfig>(config).split, ProductConfig::Split::automatic) << schedule::print(config);
}

TEST(KernelSpace, TheSameLayerOfAnotherModelHasTheSameKey) {
  Layer renamed = real_layers()[4];
  renamed.name = "elsewhere";
  const auto a = space_of(block_of(real_layers()[4]), "cpu:x86-64-v4"), b = space_of(block_of(renamed), "cpu:x86-64-v4"),
             c = space_of(block_of(real_layers()[5]), "cpu:x86-64-v4");
  EXPECT_EQ(a->signature, b->signature);
  EXPECT_EQ(a->shape, b->shape);
  EXPECT_EQ(a->signature, c->signature);
  EXPECT_NE(a->shape, c->shape);
}

TEST(KernelSpace, AChoiceThatTheKernelCannotDoFallsBackToTheRules) {
  schedule::Block block = block_of(real_layers()[1]);
  const Target& target = find_target("cpu:x86-64-v3");
  const auto expected = space_of(block, "cpu:x86-64-v3")->configs[0];
  for (const char* text : {"method=depthwise block=8x2", "method=rows block=14x2 panels=512K strips=512K", "method=rows block=2x2"}) {
    schedule::Block planned = block;
    plan_kernels(planned, target, {.choose = [&](const auto&, const auto&) { return schedule::parse_kernel_config(text); }});
    for (const schedule::Kernel& kernel : planned.kernels) {
      if (kernel.products.empty()) continue;
      EXPECT_EQ(*schedule::decided(kernel), expected) << text;
    }
  }
}

/// Every configuration of small layers of each method, compiled and run.
/// A layer a test: hundreds of kernels are compiled for each.
class ConfigurationsOf : public ::testing::TestWithParam<Layer> {};
INSTANTIATE_TEST_SUITE_P(Layers, ConfigurationsOf,
                         ::testing::Values(Layer{"3x3", 1, 16, 40, 9, 3}, Layer{"strided", 2, 24, 70, 11, 3, 2}, Layer{"depthwise", 1, 40, 40, 9, 3, 1, 40},
                                           Layer{"rows", 13, 33, 50, 0}),
                         [](const auto& layer) { return layer.param.name; });

/// Compiles and runs the configurations of the program's product, one of so many.
void expect_right(const pattern::Program& program, const schedule::Block& block, const std::vector<Tensor>& inputs, size_t of_so_many = 1) {
  const Target& target = find_target("native");
  auto space = space_of(block, "native");
  ASSERT_TRUE(space);
  for (size_t i = 0; i * of_so_many < space->configs.size(); ++i) space->configs[i] = space->configs[i * of_so_many];
  space->configs.resize((space->configs.size() - 1) / of_so_many + 1);
  std::vector<schedule::Block> blocks;
  for (size_t i = 0; i < space->configs.size(); ++i) {
    blocks.push_back(block);
    plan_kernels(blocks.back(), target, {.choose = [&](const auto&, const auto&) { return space->configs[i]; }});
  }
  const testing::CompiledBlocks compiled(std::move(blocks));
  const Tensor expected = pattern::interpret(program, inputs).at(0);
  for (size_t i = 0; i < space->configs.size(); ++i) {
    const Tensor actual = compiled.run(i, inputs).at(0);
    for (int64_t e = 0; e < expected.element_count(); ++e)
      ASSERT_NEAR(actual.float_at(e), expected.float_at(e), 2e-5 * std::max(1.0, std::abs(expected.float_at(e)))) << schedule::print(space->configs[i]);
  }
}

TEST_P(ConfigurationsOf, AreAllRight) {
  const Layer& layer = GetParam();
  std::vector<int64_t> dims = {layer.images, layer.channels};
  if (layer.size > 0) dims.insert(dims.begin() + 1, 2, layer.size);
  expect_right(testing::program_of(layer), block_of(layer), {testing::random_floats(dims, 7)});
}

/// Queries times keys, a matrix a head, each head's rows between others'.
pattern::Program scores_of(int64_t rows, int64_t columns, DType dtype = DType::f32) {
  constexpr int64_t heads = 3, depth = 20;
  Graph graph;
  Builder b(graph);
  const ValueId queries = b.input("queries", {dtype, {rows, heads, depth}}), keys = b.input("keys", {dtype, {columns, heads, depth}});
  b.output(b.matmul(b.transpose(queries, {1, 0, 2}), b.transpose(keys, {1, 2, 0})), "y");
  return lower(graph);
}

/// Scores times values: these are columns' k far apart.
pattern::Program mixture_of(int64_t rows, int64_t columns, int64_t terms) {
  constexpr int64_t heads = 3;
  Graph graph;
  Builder b(graph);
  const ValueId scores = b.input("scores", {DType::f32, {heads, rows, terms}}), values = b.input("values", {DType::f32, {terms, heads, columns}});
  b.output(b.transpose(b.matmul(scores, b.transpose(values, {1, 0, 2})), {1, 0, 2}), "y");
  return lower(graph);
}

TEST(ProductsOfMatrices, AreRightInTheirConfigurations) {
  const pattern::Program scores = scores_of(21, 37), mixture = mixture_of(21, 40, 37);
  expect_right(scores, schedule::schedule(scores, {}), {testing::random_floats({21, 3, 20}, 1), testing::random_floats({37, 3, 20}, 2)}, 7);
  expect_right(mixture, schedule::schedule(mixture, {}), {testing::random_floats({3, 21, 37}, 3), testing::random_floats({37, 3, 40}, 4)}, 7);
}

TEST(ProductsOfMatrices, OfShortFloatsAndDoublesAreRight) {
  for (const DType dtype : {DType::f16, DType::bf16, DType::f64}) {
    const pattern::Program scores = scores_of(21, 37, dtype);
    expect_right(scores, schedule::schedule(scores, {}), {testing::random_floats({21, 3, 20}, 1, dtype), testing::random_floats({37, 3, 20}, 2, dtype)}, 1000);
  }
}

/// Queries of several heads share the keys of one: these are packed once for all.
TEST(ProductsOfMatrices, OfHeadsThatShareKeysAreRight) {
  Graph graph;
  Builder b(graph);
  const ValueId queries = b.input("queries", {DType::f32, {2, 3, 21, 20}}), keys = b.input("keys", {DType::f32, {2, 1, 37, 20}});
  b.output(b.matmul(queries, b.transpose(keys, {0, 1, 3, 2})), "y");
  const pattern::Program program = lower(graph);
  expect_right(program, schedule::schedule(program, {}), {testing::random_floats({2, 3, 21, 20}, 1), testing::random_floats({2, 1, 37, 20}, 2)}, 1000);
}

TEST(ProductsOfMatrices, ArePlannedWhereTheyHaveManyRowsAndColumns) {
  const auto is_planned = [](const pattern::Program& program) {
    schedule::Block block = schedule::schedule(program, {});
    plan_kernels(block, find_target("cpu:x86-64-v4"));
    return !block.kernels.at(0).products.empty();
  };
  EXPECT_TRUE(is_planned(scores_of(16, 16)));
  EXPECT_TRUE(is_planned(scores_of(16, 16, DType::bf16)));
  EXPECT_TRUE(is_planned(mixture_of(16, 16, 16)));
  EXPECT_TRUE(is_planned(mixture_of(16, 16, 1024)));
  EXPECT_FALSE(is_planned(mixture_of(16, 16, 1 << 16))) << "a panel is longer than the cache";
  EXPECT_FALSE(is_planned(scores_of(8, 64)));
  EXPECT_FALSE(is_planned(scores_of(64, 15)));
  EXPECT_FALSE(is_planned(scores_of(16, 16, DType::i32)));
}

}  // namespace
}  // namespace tilewright
