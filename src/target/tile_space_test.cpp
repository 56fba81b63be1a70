#include <gmock/gmock.h>

#include <set>

#include "base/error.h"
#include "pattern/interpreter.h"
#include "target/emit_kernel.h"
#include "target/kernel_space.h"
#include "target/testing/layers.h"
#include "target/testing/run_blocks.h"

namespace tilewright {
namespace {

using schedule::TileConfig;
using testing::Layer;

/// Layers of ResNet-50, BERT-base, GPT-2, Llama and ViT-B/16 as GPUs run them: batches, half precision.
std::vector<Layer> real_layers(DType dtype) {
  std::vector<Layer> layers = {{"ResNet first", 8, 3, 64, 224, 7, 2},     {"ResNet 3x3, 56", 8, 64, 64, 56, 3},     {"ResNet 3x3, 14", 32, 256, 256, 14, 3},
                               {"ResNet 1x1 in", 6272, 1024, 256, 0},     {"ResNet classifier", 32, 2048, 1000, 0}, {"BERT projection", 4096, 768, 768, 0},
                               {"BERT feed forward", 4096, 768, 3072, 0}, {"GPT-2 token", 16, 768, 2304, 0},        {"Llama feed back", 2048, 11008, 4096, 0},
                               {"ViT patches", 1576, 768, 768, 0},        {"square", 8192, 4096, 8192, 0}};
  for (Layer& layer : layers) layer.dtype = dtype;
  return layers;
}

schedule::Block gpu_block(const Layer& layer) { return schedule::schedule(testing::program_of(layer), {}); }

/// Of the block's only product.
std::optional<KernelSpace> space_of(const schedule::Block& block, const char* target) {
  for (const schedule::Kernel& kernel : block.kernels)
    if (auto space = kernel_space(block, kernel, find_target(target), {})) return space;
  return std::nullopt;
}

std::vector<TileConfig> configs_of(const Layer& layer, const char* target) {
  const std::optional<KernelSpace> space = space_of(gpu_block(layer), target);
  std::vector<TileConfig> configs;
  for (const schedule::KernelConfig& config : space.value().configs) configs.push_back(std::get<TileConfig>(config));
  return configs;
}

constexpr const char* gpu_targets[] = {"cuda:sm_80", "cuda:sm_90a", "hip:gfx90a"};

TEST(TileSpace, RealLayersHaveTensToAFewHundredConfigurationsTheGuessFirst) {
  for (const DType dtype : {DType::f16, DType::f32})
    for (const Layer& layer : real_layers(dtype)) {
      const schedule::Block block = gpu_block(layer);
      for (const char* name : gpu_targets) {
        const Target& target = find_target(name);
        const auto space = space_of(block, name);
        ASSERT_TRUE(space) << layer.name;
        std::printf("%-18s %-4s %-12s %4zu configurations, %8.0f cycles by %s\n", layer.name.c_str(), dtype == DType::f16 ? "f16" : "f32", name,
                    space->configs.size(), space->cycles[0], schedule::print(space->configs[0]).c_str());
        EXPECT_GE(space->configs.size(), 5U) << layer.name << " " << name;
        EXPECT_LE(space->configs.size(), 400U) << layer.name << " " << name;
        ASSERT_EQ(space->configs.size(), space->cycles.size());
        std::set<std::string> texts;
        for (size_t i = 0; i < space->configs.size(); ++i) {
          EXPECT_TRUE(texts.insert(schedule::print(space->configs[i])).second) << "listed twice: " << schedule::print(space->configs[i]);
          EXPECT_EQ(schedule::parse_kernel_config(schedule::print(space->configs[i])), space->configs[i]);
          EXPECT_GE(space->cycles[i] * 1.001, space->cycles[0]) << "the guess is the best estimate";
          EXPECT_EQ(features(*space, i, target, 1).size(), feature_count);
        }
        schedule::Block planned = block;
        plan_kernels(planned, target);
        int decided = 0;
        for (const schedule::Kernel& kernel : planned.kernels)
          if (kernel.tiles && ++decided) {
            EXPECT_EQ(schedule::decided(kernel), space->configs[0]) << "the default is what is compiled without a tuner";
          }
        EXPECT_EQ(decided, 1);
      }
    }
}

TEST(TileSpace, HalvesGoToMatrixInstructionsAndFloatsDoNot) {
  for (const char* name : gpu_targets) {
    for (const TileConfig& config : configs_of(real_layers(DType::f16)[5], name)) EXPECT_NE(config.unit, TileConfig::Unit::fma) << schedule::print(config);
    for (const TileConfig& config : configs_of(real_layers(DType::f32)[5], name)) EXPECT_EQ(config.unit, TileConfig::Unit::fma) << schedule::print(config);
  }
}

TEST(TileSpace, WarpgroupsMultiplyWhatBoxesCanBeCopiedFrom) {
  for (const Layer& layer : real_layers(DType::f16)) {
    EXPECT_EQ(configs_of(layer, "cuda:sm_80")[0].unit, TileConfig::Unit::mma) << layer.name;
    const TileConfig::Unit guess = configs_of(layer, "cuda:sm_90a")[0].unit;
    if (layer.size == 0 && layer.images * layer.channels * layer.filters >= 2'000'000'000) {
      EXPECT_EQ(guess, TileConfig::Unit::wgmma) << layer.name;
    }
    if (layer.kernel > 1) {
      EXPECT_EQ(guess, TileConfig::Unit::mma) << layer.name;
    }
  }
  // 75 columns of halves: rows of 150 bytes, which begin at no multiples of 16.
  for (const TileConfig& config : configs_of({"odd", 256, 256, 75, 0, 1, 1, 1, DType::f16}, "cuda:sm_90a"))
    EXPECT_EQ(config.unit, TileConfig::Unit::mma) << schedule::print(config);
}

TEST(TileSpace, WarpgroupsStoreRowsOfWholePiecesByBoxes) {
  const Target& target = find_target("cuda:sm_90a");
  const auto text_of = [&](int64_t columns, DType result) {
    Graph graph;
    Builder b(graph);
    const ValueId x = b.input("x", {DType::f16, {150, 72}}), y = b.input("y", {DType::f16, {columns, 72}});
    b.output(b.cast(b.one("einsum", {x, y}, {{"equation", std::string("mk,nk->mn")}}), result), "z");
    schedule::Block block = schedule::schedule(lower(graph), {});
    plan_kernels(block, target, {.choose = [](const auto&, const auto&) {
                   return schedule::parse_kernel_config("unit=wgmma tile=128x256 warps=8x1 depth=64 stages=4 group=8");
                 }});
    return emit_kernel(block, block.kernels.back(), target);
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(text_of(144, DType::f16), HasSubstr("store=boxes"));
  EXPECT_THAT(text_of(148, DType::f32), HasSubstr("store=boxes"));
  EXPECT_THAT(text_of(148, DType::f16), HasSubstr("store=elements")) << "rows of 296 bytes begin at no multiples of 16";
  EXPECT_THAT(text_of(144, DType::f64), HasSubstr("store=elements"));
  EXPECT_THAT(text_of(144, DType::u8), HasSubstr("store=elements"));
}

TEST(TileSpace, BlocksFitTheMachineAndLargeOnesNeedMostOfIt) {
  for (const char* name : gpu_targets) {
    const Multiprocessors& has = find_target(name).multiprocessors;
    int64_t most_shared = 0;
    for (const TileConfig& c : configs_of(real_layers(DType::f16)[10], name)) {
      const int64_t shared = int64_t{c.stages} * (c.tile.m + c.tile.n) * c.depth * 2;
      EXPECT_LE(shared, has.block_shared_bytes) << schedule::print(c);
      EXPECT_LT(c.tile.count() / (c.warps.count() * find_target(name).warp_size), has.thread_registers) << schedule::print(c);
      most_shared = std::max(most_shared, shared);
    }
    EXPECT_GT(most_shared, 48 << 10) << name << ": more than every block may have";
  }
}

TEST(TileSpace, FewResultsAreCutIntoSmallTiles) {
  // 16 × 2304 results: large tiles would leave most multiprocessors without one.
  EXPECT_LE(configs_of(real_layers(DType::f16)[7], "cuda:sm_80")[0].tile.count(), 64 * 64);
  EXPECT_GE(configs_of(real_layers(DType::f16)[10], "cuda:sm_80")[0].tile.count(), 128 * 128);
}

TEST(TileSpace, PartsOfALongSumRunSideBySide) {
  for (const char* target : {"cuda:sm_80", "hip:gfx90a"}) {
    const auto cycles = [&](int64_t k) { return space_of(gpu_block({"few results", 128, k, 128, 0, 1, 1, 1, DType::f16}), target).value().cycles[0]; };
    EXPECT_LT(cycles(8192), 3 * cycles(1024)) << target;
  }
}

TEST(TileSpace, AChoiceThatTheKernelCannotDoFallsBackToTheRules) {
  const schedule::Block block = gpu_block({"rows", 64, 96, 128, 0, 1, 1, 1, DType::f32});
  const Target& target = find_target("cuda:sm_80");
  const auto expected = space_of(block, "cuda:sm_80")->configs[0];
  for (const char* text : {"unit=mma tile=64x64 warps=2x2 depth=32 stages=3 group=1", "unit=wgmma tile=128x128 warps=8x1 depth=64 stages=4 group=8",
                           "unit=fma tile=64x64 each=3x4 depth=16 stages=1 group=1", "unit=fma tile=256x256 each=8x8 depth=128 stages=2 group=1",
                           "unit=fma tile=64x64 each=4x4 depth=16 stages=3 group=1", "method=rows block=14x2 panels=512K strips=512K"}) {
    schedule::Block planned = block;
    plan_kernels(planned, target, {.choose = [&](const auto&, const auto&) { return schedule::parse_kernel_config(text); }});
    EXPECT_EQ(schedule::decided(planned.kernels.back()), expected) << text;
  }
}

/// The layer's product cut in each of these ways, compiled for an emulator and run.
void expect_right(const Layer& layer, const std::vector<schedule::KernelConfig>& configs, const char* emulator) {
  std::vector<schedule::Block> blocks;
  for (const schedule::KernelConfig& config : configs) {
    blocks.push_back(gpu_block(layer));
    plan_kernels(blocks.back(), find_target(emulator), {.choose = [&](const auto&, const auto&) { return config; }});
    ASSERT_EQ(schedule::decided(blocks.back().kernels.back()), config);
  }
  const testing::CompiledBlocks compiled(std::move(blocks), emulator, "-O0");
  std::vector<int64_t> dims = {layer.images, layer.channels};
  if (layer.size > 0) dims.insert(dims.begin() + 1, 2, layer.size);
  const std::vector<Tensor> inputs = {testing::random_floats(dims, 7, layer.dtype)};
  const Tensor expected = pattern::interpret(testing::program_of(layer), inputs).at(0);
  // Of halves: one step of the largest results, which the order of roundings may tip.
  const double unit = layer.dtype == DType::f16 ? 0x1p-10 : 2e-5;
  for (size_t i = 0; i < configs.size(); ++i) {
    const Tensor actual = compiled.run(i, inputs).at(0);
    for (int64_t e = 0; e < expected.element_count(); ++e)
      ASSERT_NEAR(actual.float_at(e), expected.float_at(e), unit * std::max(1.0, std::abs(expected.float_at(e))))
          << layer.name << ": " << schedule::print(configs[i]);
  }
}

/// Configurations that `target` has for the layer's product, `step` apart, in the emulator of its kind of machine.
void expect_right(const Layer& layer, const char* target, const char* emulator, size_t step) {
  const auto space = space_of(gpu_block(layer), target);
  ASSERT_TRUE(space) << layer.name;
  std::vector<schedule::KernelConfig> configs;
  for (size_t i = 0; i < space->configs.size(); i += step) configs.push_back(space->configs[i]);
  std::printf("%-8s %-12s %4zu of %4zu configurations\n", layer.name.c_str(), target, configs.size(), space->configs.size());
  expect_right(layer, configs, emulator);
}

constexpr std::pair<const char*, const char*> emulated[] = {
    {"cuda:sm_80", "emulator:warp32"}, {"hip:gfx90a", "emulator:warp64"}, {"cuda:sm_90a", "emulator:hopper"}};

TEST(TileSpace, EveryConfigurationOfSmallProductsIsRight) {
  for (const Layer& layer :
       {Layer{"rows", 33, 40, 24, 0, 1, 1, 1, DType::f16}, Layer{"3x3", 1, 16, 24, 5, 3, 1, 1, DType::f16}, Layer{"floats", 20, 33, 28, 0}})
    for (const auto& [name, emulator] : emulated) expect_right(layer, name, emulator, 1);
}

TEST(TileSpace, SomeConfigurationsOfLargerProductsAreRight) {
  for (const DType dtype : {DType::f16, DType::f32})
    for (const auto& [name, emulator] : emulated) expect_right({"larger", 150, 72, 140, 0, 1, 1, 1, dtype}, name, emulator, 40);
}

TEST(TileSpace, WarpgroupsShareOutLongSums) {
  // Parts of 384, 384 and 232 terms.
  const schedule::KernelConfig config = schedule::parse_kernel_config("unit=wgmma tile=64x64 warps=4x1 depth=64 stages=3 group=1");
  const Layer layer = {"long", 40, 1000, 72, 0, 1, 1, 1, DType::f16};
  schedule::Block block = gpu_block(layer);
  plan_kernels(block, find_target("emulator:hopper"), {.choose = [&](const auto&, const auto&) { return config; }});
  const std::string text = emit_kernel(block, block.kernels.back(), find_target("emulator:hopper"));
  EXPECT_THAT(text, ::testing::HasSubstr("part_of(split, tile::simt::Boxes{&left, 0})"));
  EXPECT_THAT(text, ::testing::HasSubstr(".parts = 3, .piece = 384, .k = 1000"));
  EXPECT_THAT(text, ::testing::HasSubstr("store=boxes"));
  expect_right(layer, {config}, "emulator:hopper");
}

}  // namespace
}  // namespace tilewright
