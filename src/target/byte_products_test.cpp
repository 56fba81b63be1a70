#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <regex>
#include <set>

#include "base/file.h"
#include "base/process.h"
#include "op/builder.h"
#include "pattern/interpreter.h"
#include "runtime/cpu_features.h"
#include "target/emit_kernel.h"
#include "target/kernel_space.h"
#include "target/testing/run_blocks.h"

// Products of 8-bit integers with weights, as quantised models have them: exactly what the interpreter gives, by each atom.

namespace tilewright {
namespace {

/// A convolution of [images, size, size, channels], or with size 0 rows times weights.
struct Layer {
  std::string name;
  DType x;
  int64_t x_zero;
  DType w;
  int64_t w_zero;
  DType sum;
  int64_t rows, channels, filters, size, kernel = 1, stride = 1, groups = 1;
  bool zero_at_run = false;
  struct Form {
    int64_t images = 1;
    bool named = false;     ///< sizes of the input but for its channels are known at run time alone
    bool planes = false;    ///< the input is a picture [images, channels, size, size]
    bool to_bytes = false;  ///< results are scaled by filter, rounded and stored as the input's type
  } form = {};
};

Tensor random_bytes(DType dtype, const std::vector<int64_t>& dims, unsigned seed) {
  Tensor tensor(dtype, dims);
  std::mt19937 random(seed);
  for (int64_t i = 0; i < tensor.element_count(); ++i) {
    const auto any = static_cast<int64_t>(random() % 5 == 0 ? 0 : random() % 5 == 0 ? 255 : random() % 256);
    tensor.set_int(i, dtype == DType::i8 ? any - 128 : any);
  }
  return tensor;
}

std::vector<int64_t> input_dims(const Layer& layer) {
  if (layer.size == 0) return {layer.rows, layer.channels};
  if (layer.form.planes) return {layer.form.images, layer.channels, layer.size, layer.size};
  return {layer.form.images, layer.size, layer.size, layer.channels};
}

pattern::Program program_of(const Layer& layer) {
  Graph graph;
  Builder b(graph);
  b.set_source(layer.name);
  const auto dims = input_dims(layer);
  const bool image = layer.size > 0;
  Dims asked(dims.begin(), dims.end());
  if (layer.form.named) {
    asked[0] = Dim::symbol("first");
    if (image) asked[layer.form.planes ? 2 : 1] = Dim::symbol("height"), asked[layer.form.planes ? 3 : 2] = Dim::symbol("width");
  }
  ValueId x = b.input("x", {layer.x, asked});
  if (image && !layer.form.planes) x = b.transpose(x, {0, 3, 1, 2});
  const std::vector<int64_t> weight_dims = image ? std::vector<int64_t>{layer.filters, layer.channels / layer.groups, layer.kernel, layer.kernel}
                                                 : std::vector<int64_t>{layer.channels, layer.filters};
  const auto widened = [&](ValueId v, ValueId zero) {
    if (zero == no_value) return layer.sum == DType::f32 ? b.cast(b.cast(v, DType::i32), DType::f32) : v;
    const ValueId integers = b.sub(b.cast(v, DType::i32), b.cast(zero, DType::i32));
    return layer.sum == DType::f32 ? b.cast(integers, DType::f32) : integers;
  };
  const auto scalar = [&](DType dtype, int64_t value) {
    Tensor tensor(dtype, {});
    tensor.set_int(0, value);
    return value == 0 ? no_value : b.constant(tensor);
  };
  const ValueId x_zero = layer.zero_at_run ? b.input("zero", {layer.x, {}}) : scalar(layer.x, layer.x_zero);
  const ValueId w = widened(b.constant(random_bytes(layer.w, weight_dims, 3), "w"), scalar(layer.w, layer.w_zero));
  x = widened(x, x_zero);
  Attributes attributes;
  if (layer.sum == DType::i32) attributes["dtype"] = DType::i32;
  if (image)
    attributes.insert({{"pads", std::vector<int64_t>(4, layer.kernel / 2)}, {"strides", std::vector<int64_t>(2, layer.stride)}, {"groups", layer.groups}});
  ValueId y = b.one(image ? "conv" : "matmul", {x, w}, attributes);
  if (layer.form.to_bytes) {
    // Scales are powers of two, so that quotients are exact and halves are common.
    Tensor scales(DType::f32, image ? std::vector<int64_t>{layer.filters, 1, 1} : std::vector<int64_t>{layer.filters});
    for (int64_t i = 0; i < layer.filters; ++i) scales.set_float(i, i % 3 == 0 ? 0x1p-9 : 0x1p-11);
    const ValueId rounded = b.unary("round", b.mul(b.cast(y, DType::f32), b.constant(scales)));
    y = b.cast(b.add(rounded, layer.x == DType::u8 ? 128.0 : -3.0), layer.x);
  }
  b.output(image && !layer.form.planes ? b.transpose(y, {0, 2, 3, 1}) : y, "y");
  return lower(graph);
}

const schedule::Options options{.choose_layouts = true, .products_of_bytes = true};

const std::vector<Layer>& layers() {
  using enum DType;
  static const std::vector<Layer> all = {
      {"u8 by i8, rows", u8, 0, i8, 0, i32, 13, 66, 70, 0},
      {"with a zero point", u8, 131, i8, 0, i32, 13, 66, 70, 0},
      {"learned at run time", u8, 77, i8, 0, i32, 13, 66, 70, 0, 1, 1, 1, true},
      {"i8 by i8", i8, -3, i8, 0, f32, 13, 64, 70, 0},
      {"weights of u8 around 128", u8, 3, u8, 128, i32, 13, 64, 70, 0},
      {"weights of u8 around 9", u8, 3, u8, 9, i32, 13, 64, 70, 0},
      {"one row", u8, 3, i8, 0, i32, 1, 200, 90, 0},
      {"3x3", u8, 120, i8, 0, i32, 0, 16, 40, 9, 3},
      {"3x3 of floats", u8, 120, i8, 0, f32, 0, 16, 40, 9, 3},
      {"3x3 of i8", i8, -128, i8, 0, f32, 0, 18, 40, 9, 3},
      {"3x3, weights far from zero", i8, 5, u8, 0, i32, 0, 18, 40, 9, 3},
      {"strided, few channels", u8, 255, i8, 0, i32, 0, 3, 20, 17, 5, 2},
      {"groups", u8, 9, i8, 0, i32, 0, 12, 24, 9, 3, 1, 2},
      {"depthwise", u8, 9, i8, 0, i32, 0, 40, 40, 9, 3, 1, 40},
      {"depthwise of floats", i8, 9, i8, 0, f32, 0, 33, 33, 9, 5, 2, 33},
      {"three images", u8, 120, i8, 0, i32, 0, 16, 40, 9, 3, 1, 1, false, {.images = 3}},
      {"named sizes", u8, 120, i8, 0, f32, 0, 16, 40, 9, 3, 1, 1, false, {.images = 2, .named = true}},
      {"rows of a named number", i8, 4, i8, 0, i32, 29, 66, 70, 0, 1, 1, 1, false, {.named = true}},
      {"a picture of planes", u8, 114, i8, 0, i32, 0, 3, 24, 40, 7, 2, 1, false, {.images = 2, .planes = true}},
      {"to u8", u8, 120, i8, 0, i32, 0, 16, 40, 9, 3, 1, 1, false, {.images = 3, .to_bytes = true}},
      {"to i8, of floats", i8, -7, i8, 0, f32, 0, 16, 37, 9, 1, 1, 1, false, {.named = true, .to_bytes = true}},
      {"rows to u8", u8, 120, i8, 0, i32, 13, 66, 70, 0, 1, 1, 1, false, {.to_bytes = true}},
      {"depthwise to u8", u8, 9, i8, 0, i32, 0, 40, 40, 9, 3, 1, 40, false, {.images = 3, .to_bytes = true}},
  };
  return all;
}

std::vector<Tensor> inputs_of(const Layer& layer) {
  std::vector<Tensor> inputs = {random_bytes(layer.x, input_dims(layer), 7)};
  if (layer.zero_at_run) {
    inputs.emplace_back(layer.x, std::vector<int64_t>{});
    inputs.back().set_int(0, layer.x_zero);
  }
  return inputs;
}

std::string test_name(const ::testing::TestParamInfo<const char*>& target) { return std::regex_replace(target.param, std::regex("[:-]"), "_"); }

class ByteProducts : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Targets, ByteProducts, ::testing::Values("emulator:amx", "cpu:sapphirerapids", "cpu:znver4", "cpu:x86-64-v4", "cpu:x86-64-v3"),
                         test_name);

/// The tiles' configuration where a machine has them, whatever it costs there.
PlanOptions on_tiles(const Target& target, schedule::ProductConfig::Atom atom) {
  if (!target.tile_registers) return {};
  return {.choose = [atom](const auto&, const auto&) {
    return schedule::ProductConfig{.block = {32, 2}, .panel_bytes = 1 << 19, .strip_bytes = 3 << 18, .atom = atom};
  }};
}

TEST_P(ByteProducts, AreExactInEveryAtom) {
  const Target& target = find_target(GetParam());
  if (!runs_here(target)) GTEST_SKIP() << "this machine is no " << target.name;
  std::vector<schedule::Block> blocks;
  for (const Layer& layer : layers()) {
    blocks.push_back(schedule::schedule(program_of(layer), {}, options));
    plan_kernels(blocks.back(), target, on_tiles(target, schedule::ProductConfig::Atom::amx8));
    int planned = 0;
    for (const schedule::Kernel& kernel : blocks.back().kernels) {
      if (kernel.products.empty()) continue;
      ++planned;
      const std::string text = emit_kernel(blocks.back(), kernel, target);
      const bool wide = layer.name == "weights of u8 around 9" || layer.name == "3x3, weights far from zero";
      const char* const expected = layer.name.starts_with("depthwise") ? "tile::depthwise_rows<float"
                                   : target.tile_registers && !wide    ? "tile::AmxBlocks<int32_t"
                                   : target.dots_bytes && !wide        ? "tile::ByteQuad"
                                                                       : "tile::ShortPair";
      EXPECT_NE(text.find(expected), std::string::npos) << layer.name << "\n" << text;
    }
    EXPECT_EQ(planned, 1) << layer.name << "\n" << schedule::print(blocks.back());
  }
  const testing::CompiledBlocks compiled(std::move(blocks), GetParam());
  for (size_t i = 0; i < layers().size(); ++i) {
    const Layer& layer = layers()[i];
    const Tensor expected = pattern::interpret(program_of(layer), inputs_of(layer)).at(0), actual = compiled.run(i, inputs_of(layer)).at(0);
    ASSERT_EQ(actual.element_count(), expected.element_count());
    for (int64_t e = 0; e < expected.element_count(); ++e) ASSERT_EQ(actual.float_at(e), expected.float_at(e)) << layer.name << ", element " << e;
  }
}

TEST(ByteProductChoices, SpacesListTheAtomsThatMachinesHave) {
  const schedule::Block block = schedule::schedule(program_of(layers()[0]), {}, options);
  const auto atoms = [&](const char* target) {
    std::set<schedule::ProductConfig::Atom> all;
    for (const schedule::Kernel& kernel : block.kernels)
      if (const auto space = kernel_space(block, kernel, find_target(target), {}))
        for (const auto& config : space->configs) all.insert(std::get<schedule::ProductConfig>(config).atom);
    return all;
  };
  using enum schedule::ProductConfig::Atom;
  EXPECT_FALSE(atoms("cpu:sapphirerapids").count(amx8));
  for (const char* const target : {"cpu:sapphirerapids", "cpu:znver4", "cpu:icelake-server", "cpu:cascadelake"}) {
    EXPECT_TRUE(atoms(target).count(dot8)) << target;
    EXPECT_FALSE(atoms(target).count(fma)) << target;
  }
  EXPECT_EQ(atoms("cpu:x86-64-v3"), std::set{dot16});
  EXPECT_TRUE(atoms("cpu:aarch64").empty());
}

TEST(ByteProductChoices, FloatWeightsThatAreNoIntegersAreLeftToFloats) {
  Graph graph;
  Builder b(graph);
  Tensor weights(DType::f32, {64, 40});
  for (int64_t i = 0; i < weights.element_count(); ++i) weights.set_float(i, static_cast<double>(i % 7) + (i == 900 ? 0.5 : 0));
  b.output(b.matmul(b.cast(b.input("x", {DType::u8, {9, 64}}), DType::f32), b.constant(weights)), "y");
  Tensor filters(DType::f32, {24, 3, 3, 3});
  for (int64_t i = 0; i < filters.element_count(); ++i) filters.set_float(i, static_cast<double>(i % 11) / 8);
  b.output(b.one("conv", {b.cast(b.input("picture", {DType::u8, {1, 3, 40, 40}}), DType::f32), b.constant(filters)}, {{"pads", std::vector<int64_t>(4, 1)}}),
           "z");
  schedule::Block block = schedule::schedule(lower(graph), {}, options);
  plan_kernels(block, find_target("cpu:sapphirerapids"));
  int products = 0;
  for (const schedule::Kernel& kernel : block.kernels) {
    const std::string text = emit_kernel(block, kernel, find_target("cpu:sapphirerapids"));
    EXPECT_EQ(text.find("tile::ByteQuad"), std::string::npos);
    EXPECT_EQ(text.find("tile::contract<"), std::string::npos) << text;
    products += text.find("tile::contract_rows<") != std::string::npos;
  }
  EXPECT_EQ(products, 2);
}

/// A convolution of bfloats with the kernel's atom forced to dots of them, or to tiles.
schedule::Block bfloat_block(bool planes, const Target& target, pattern::Program& program) {
  Graph graph;
  Builder b(graph);
  Tensor weights(DType::bf16, {40, planes ? 3 : 18, 3, 3});
  for (int64_t i = 0; i < weights.element_count(); ++i) weights.set_float(i, static_cast<double>(i * 7 % 13 - 6));
  ValueId x = b.input("x", {DType::bf16, planes ? Dims{2, 3, 40, 40} : Dims{2, 9, 9, 18}});
  if (!planes) x = b.transpose(x, {0, 3, 1, 2});
  const ValueId y = b.one("conv", {x, b.constant(weights)}, {{"pads", std::vector<int64_t>(4, 1)}});
  b.output(planes ? y : b.transpose(y, {0, 2, 3, 1}), "y");
  program = lower(graph);
  schedule::Block block = schedule::schedule(lower(graph), {}, options);
  const schedule::ProductConfig of_bfloats{.block = {6, 2}, .panel_bytes = 1 << 19, .strip_bytes = 3 << 18, .atom = schedule::ProductConfig::Atom::bf16};
  plan_kernels(block, target,
               target.tile_registers ? on_tiles(target, schedule::ProductConfig::Atom::amx_bf16)
                                     : PlanOptions{.choose = [&](const auto&, const auto&) { return of_bfloats; }});
  return block;
}

class BfloatProducts : public ::testing::TestWithParam<const char*> {};

INSTANTIATE_TEST_SUITE_P(Targets, BfloatProducts, ::testing::Values("emulator:amx", "cpu:sapphirerapids", "cpu:znver4"), test_name);

TEST_P(BfloatProducts, OfWindowsAreExactForSmallWholeNumbers) {
  const Target& target = find_target(GetParam());
  std::vector<schedule::Block> blocks;
  std::vector<pattern::Program> programs(2);
  for (const bool planes : {false, true}) {
    blocks.push_back(bfloat_block(planes, target, programs[planes]));
    std::string text;
    for (const schedule::Kernel& kernel : blocks.back().kernels) text += emit_kernel(blocks.back(), kernel, target);
    EXPECT_NE(text.find("tile::BfloatPair"), std::string::npos) << text;
    EXPECT_EQ(text.find("tile::AmxBlocks<float") != std::string::npos, target.tile_registers) << text;
    EXPECT_NE(text.find("tile::WindowRows<tile::bfloat16, tile::bfloat16"), std::string::npos) << text;
  }
  if (!runs_here(target)) GTEST_SKIP() << "this machine is no " << target.name;
  const testing::CompiledBlocks compiled(std::move(blocks), target.name);
  for (size_t planes = 0; planes < 2; ++planes) {
    Tensor x(DType::bf16, planes ? std::vector<int64_t>{2, 3, 40, 40} : std::vector<int64_t>{2, 9, 9, 18});
    for (int64_t i = 0; i < x.element_count(); ++i) x.set_float(i, static_cast<double>(i * 5 % 17 - 8));
    const Tensor expected = pattern::interpret(programs[planes], {x}).at(0), actual = compiled.run(planes, {x}).at(0);
    for (int64_t e = 0; e < expected.element_count(); ++e) ASSERT_EQ(actual.float_at(e), expected.float_at(e)) << planes << ", element " << e;
  }
}

TEST(BfloatChoices, DotsOfThemWhereTheyAreFasterThanMultiplyAdds) {
  for (const auto& [name, dots] : {std::pair{"cpu:znver4", true}, {"cpu:sapphirerapids", false}}) {
    pattern::Program program;
    const Target& target = find_target(name);
    bfloat_block(false, target, program);
    schedule::Block block = schedule::schedule(program, {}, options);  // as the rules choose
    plan_kernels(block, target);
    std::string text;
    for (const schedule::Kernel& kernel : block.kernels) text += emit_kernel(block, kernel, target);
    EXPECT_EQ(text.find("tile::BfloatPair") != std::string::npos, dots) << name << "\n" << text;
  }
}

/// A convolution of `channels` channels of bfloats, 3 x 3, over pictures of 13 x 12, with `filters` for random weights.
pattern::Program bfloat_convolution(int64_t channels, int64_t filters) {
  Graph graph;
  Builder b(graph);
  std::mt19937 random(11);
  std::normal_distribution<double> normal;
  Tensor weights(DType::bf16, {filters, channels, 3, 3});
  for (int64_t i = 0; i < weights.element_count(); ++i) weights.set_float(i, normal(random));
  const ValueId x = b.transpose(b.input("x", {DType::bf16, {1, 13, 12, channels}}), {0, 3, 1, 2});
  const ValueId y = b.one("conv", {x, b.constant(weights)}, {{"pads", std::vector<int64_t>(4, 1)}, {"dtype", DType::f32}});
  b.output(b.transpose(y, {0, 2, 3, 1}), "y");
  return lower(graph);
}

TEST(BfloatChoices, WinogradsMethodByDotsWhereTheyAreFasterThanMultiplyAdds) {
  for (const auto& [name, dots] : {std::pair{"cpu:znver4", true}, {"cpu:sapphirerapids", false}, {"cpu:sapphirerapids-amx", false}}) {
    schedule::Block block = schedule::schedule(bfloat_convolution(128, 128), {}, options);
    plan_kernels(block, find_target(name), {.rounds = true});
    std::string text;
    for (const schedule::Kernel& kernel : block.kernels) text += emit_kernel(block, kernel, find_target(name));
    const size_t at = text.find("tile::winograd<");
    EXPECT_EQ(at != std::string::npos && text.find("tile::BfloatPair", at) != std::string::npos, dots) << name << "\n" << text;
  }
}

/// What a policy did not make bfloats is multiplied as it is.
TEST(BfloatChoices, BfloatsOfTheModelAreNotRoundedAgain) {
  schedule::Block block = schedule::schedule(bfloat_convolution(128, 128), {}, options);
  plan_kernels(block, find_target("cpu:znver4"));
  for (const schedule::Kernel& kernel : block.kernels)
    EXPECT_EQ(emit_kernel(block, kernel, find_target("cpu:znver4")).find("tile::winograd<"), std::string::npos);
}

/// Transformed tiles and filters are rounded: each of the two errs by ε/√12 at most on average, and a tile's 16 sums, of four inputs each, with the transforms'
/// squares added up, make 25/9 times the variance of it in a result (decision 8).
TEST(BfloatChoices, WinogradsMethodByDotsErrsByTwoRoundings) {
  const Target& target = find_target("cpu:znver4");
  if (!runs_here(target)) GTEST_SKIP() << "this machine is no " << target.name;
  const pattern::Program program = bfloat_convolution(96, 40);
  std::vector<schedule::Block> blocks;
  blocks.push_back(schedule::schedule(bfloat_convolution(96, 40), {}, options));
  const schedule::ProductConfig asked{.method = schedule::ProductConfig::Method::winograd, .block = {10, 2}, .atom = schedule::ProductConfig::Atom::bf16};
  plan_kernels(blocks[0], target, {.rounds = true, .choose = [&](const auto&, const auto&) { return asked; }});
  const testing::CompiledBlocks compiled(std::move(blocks), target.name);
  Tensor x(DType::bf16, {1, 13, 12, 96});
  std::mt19937 random(12);
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < x.element_count(); ++i) x.set_float(i, normal(random));
  pattern::InterpreterOptions wide;
  wide.arithmetic = pattern::InterpreterOptions::Arithmetic::float64;
  const Tensor expected = pattern::interpret(program, {x}, wide).at(0), actual = compiled.run(0, {x}).at(0);
  double error = 0, all = 0;
  for (int64_t e = 0; e < expected.element_count(); ++e) {
    error += std::pow(actual.float_at(e) - expected.float_at(e), 2);
    all += std::pow(expected.float_at(e), 2);
  }
  EXPECT_LT(std::sqrt(error / all), 0x1p-7 / std::sqrt(12.0) * std::sqrt(2 * 25 / 9.0));
  EXPECT_GT(std::sqrt(error / all), 0x1p-7 / 10) << "nothing was rounded";
}

/// A program that exits with 1 when tiles give anything but what emulation does.
const char* const amx_program = R"(#include "runtime/cpu_features.h"
#include "tile/atoms/amx.h"
template <class P, class B, int rows, int vectors, tile::i64 depth, class Tiles>
void multiply(tile::i64 count, unsigned seed, P (&out)[rows * vectors * 16]) {
  using Blocks = tile::AmxBlocks<P, rows, vectors, depth, B, 16, Tiles>;
  static typename Blocks::left_type a[rows * depth];
  static B b[depth * Blocks::columns];
  P start[Blocks::columns];
  const auto fill = [&](auto& all) {
    auto* const bytes = reinterpret_cast<unsigned char*>(all);
    for (size_t i = 0; i < sizeof all; ++i) {
      seed = seed * 1664525 + 1013904223;
      bytes[i] = sizeof(a[0]) == 2 && i % 2 ? 0x3f + (seed >> 31) * 0x80 : seed >> 24;  // bfloats from a half to two, of either sign
    }
  };
  fill(a), fill(b);
  for (int j = 0; j < Blocks::columns; ++j) start[j] = static_cast<P>(j);
  const tile::i64 nowhere[1] = {0};
  tile::Ahead ahead;
  const auto results = [&](const tile::BlockPlace&, tile::i64 first, tile::i64 rows_of_it, const P* sums) {
    for (tile::i64 i = 0; i < rows_of_it * Blocks::columns; ++i) out[first * Blocks::columns + i] = sums[i];
  };
  Blocks blocks;
  blocks.multiply({}, count, 1, depth, a, nowhere, b, ahead, start, results);
  blocks.finish(results);
}
template <class P, class B, int rows, int vectors, tile::i64 depth>
bool agree(tile::i64 count, unsigned seed) {
  P native[rows * vectors * 16] = {}, emulated[rows * vectors * 16] = {};
  multiply<P, B, rows, vectors, depth, tile::NativeTiles>(count, seed, native);
  multiply<P, B, rows, vectors, depth, tile::EmulatedTiles>(count, seed, emulated);
  return __builtin_memcmp(native, emulated, sizeof native) == 0;
}
int main(int count, char**) {
  if (!tilewright::rt::has_cpu_feature("amx-int8") || !tilewright::rt::has_cpu_feature("amx-bf16")) return 2;
  const bool bytes = agree<int32_t, tile::ByteQuad, 32, 2, 256>(32, 1) && agree<int32_t, tile::ByteQuad, 21, 1, 70>(21, 2) && agree<int32_t, tile::ByteQuad, 7, 2, 33>(5, 3);
  const bool bfloats = agree<float, tile::BfloatPair, 32, 2, 256>(32, 4) && agree<float, tile::BfloatPair, 21, 1, 70>(17, 5) && agree<float, tile::BfloatPair, 7, 2, 33>(7, 6);
  return bytes && bfloats ? 0 : count;
}
)";

TEST(AmxBlocks, AreCompiledToTileInstructionsAndRunAsEmulatedWhereAMachineHasThem) {
#if !defined(__x86_64__)
  GTEST_SKIP() << "AMX is x86-64's";
#endif
  const ScratchFolder folder(std::filesystem::temp_directory_path());
  const std::string source = (folder.path() / "amx.cpp").string(), program = (folder.path() / "amx").string();
  write_file(source, amx_program);
  std::vector<std::string> command = {"g++", "-std=c++20",           "-O2",  "-mavx512f", "-mamx-tile", "-mamx-int8", "-mamx-bf16",
                                      "-w",  "-I" TILEWRIGHT_SOURCE, source, "-o"};
  command.push_back(program + ".s");
  command.push_back("-S");
  const ProcessResult assembled = run_process(command);
  ASSERT_EQ(assembled.exit_code, 0) << assembled.output;
  const std::string assembly = read_file(program + ".s");
  for (const char* instruction : {"ldtilecfg", "tileloadd", "tileloaddt1", "tdpbusd", "tdpbf16ps", "tilestored", "tilerelease"})
    EXPECT_NE(assembly.find(instruction), std::string::npos) << instruction;
  if (!rt::has_cpu_feature("amx-int8") || !rt::has_cpu_feature("amx-bf16")) GTEST_SKIP() << "this machine has no AMX to run them on";
  command.pop_back();
  command.back() = program;
  ASSERT_EQ(run_process(command).exit_code, 0);
  EXPECT_EQ(run_process({program}).exit_code, 0);
}

/// The assembly of the block's kernels as artifacts for the target are compiled.
std::string assembly_of(const schedule::Block& block, const Target& target) {
  std::string text = kernel_includes(target);
  for (const schedule::Kernel& kernel : block.kernels) text += emit_kernel(block, kernel, target) + "\n";
  const ScratchFolder folder(std::filesystem::temp_directory_path());
  const std::string source = (folder.path() / "kernel.cpp").string(), assembly = (folder.path() / "kernel.s").string();
  write_file(source, text);
  std::vector<std::string> command = {"g++", "-std=c++20", "-O2", "-fopenmp-simd", "-w", "-I" TILEWRIGHT_SOURCE, source, "-S", "-o", assembly};
  command.insert(command.end(), target.compile_flags.begin(), target.compile_flags.end());
  const ProcessResult result = run_process(command);
  EXPECT_EQ(result.exit_code, 0) << result.output;
  return read_file(assembly);
}

TEST(AmxPlans, BecomeTileInstructions) {
#if !defined(__x86_64__)
  GTEST_SKIP() << "AMX is x86-64's";
#endif
  const Target& target = find_target("cpu:sapphirerapids-amx");
  schedule::Block bytes = schedule::schedule(program_of(layers()[7]), {}, options);
  plan_kernels(bytes, target, on_tiles(target, schedule::ProductConfig::Atom::amx8));
  pattern::Program program;
  const schedule::Block bfloats = bfloat_block(false, target, program);
  const std::string of_bytes = assembly_of(bytes, target), of_bfloats = assembly_of(bfloats, target);
  for (const char* instruction : {"ldtilecfg", "tileloadd", "tileloaddt1", "tdpbusd", "tilestored", "tilerelease"})
    EXPECT_NE(of_bytes.find(instruction), std::string::npos) << instruction;
  for (const char* instruction : {"ldtilecfg", "tileloadd", "tdpbf16ps", "tilestored", "tilerelease"})
    EXPECT_NE(of_bfloats.find(instruction), std::string::npos) << instruction;
}

/// Layers of which tiles are the cheapest guess, and one whose rows are too few for them.
TEST(AmxPlans, TakeTilesWhereTheyAreCheaper) {
  const auto atom = [](const Layer& layer, const char* target) {
    schedule::Block block = schedule::schedule(program_of(layer), {}, options);
    plan_kernels(block, find_target(target));
    for (const schedule::Kernel& kernel : block.kernels)
      if (!kernel.products.empty()) return kernel.products[0].config.atom;
    return schedule::ProductConfig::Atom::fma;
  };
  using enum DType;
  using Atom = schedule::ProductConfig::Atom;
  const Layer rows = {"rows", u8, 3, i8, 0, i32, 128, 768, 768, 0}, conv = {"conv", u8, 3, i8, 0, i32, 0, 64, 64, 56, 3};
  const Layer picture = {"picture", u8, 114, i8, 0, i32, 0, 3, 24, 40, 3, 2, 1, false, {.planes = true}};
  for (const Layer* layer : {&rows, &conv}) {
    EXPECT_EQ(atom(*layer, "cpu:sapphirerapids-amx"), Atom::amx8) << layer->name;
    EXPECT_EQ(atom(*layer, "cpu:sapphirerapids"), Atom::dot8) << layer->name;
  }
  EXPECT_EQ(atom(picture, "cpu:sapphirerapids-amx"), Atom::dot8) << "nine bytes a run leave tiles empty";
}

}  // namespace
}  // namespace tilewright
