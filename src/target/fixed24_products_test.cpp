#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>

#include "op/builder.h"
#include "pattern/interpreter.h"
#include "target/emit_kernel.h"
#include "target/emit_program.h"
#include "target/kernel_space.h"
#include "target/testing/run_blocks.h"

// Products of few rows with weights of 24 bits (decision 21), on machines with vectors of either length: against float64.

namespace tilewright {
namespace {

using schedule::ProductConfig;
using enum ProductConfig::Atom;

/// Rows times weights, or with a size a convolution of one window of [channels, size, size].
struct Layer {
  const char* name;
  int64_t rows, channels, filters, size = 0, groups = 1;
  bool named = false;  ///< the number of rows is known at run time alone
};

const Layer layers[] = {
    {"one row", 1, 1021, 1037},   {"two rows", 2, 1100, 999},     {"three rows", 3, 1037, 1021},
    {"four rows", 4, 1024, 1024}, {"one window", 1, 131, 515, 3}, {"a window of groups", 1, 300, 514, 3, 2},
};

const char* const machines[] = {"cpu:sapphirerapids-amx", "cpu:sapphirerapids", "cpu:znver4", "cpu:x86-64-v4", "cpu:x86-64-v3"};

Tensor normal_floats(const std::vector<int64_t>& dims, unsigned seed) {
  Tensor tensor(DType::f32, dims);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < tensor.element_count(); ++i) tensor.set_float(i, normal(random));
  return tensor;
}

std::vector<int64_t> input_dims(const Layer& layer) {
  if (layer.size == 0) return {layer.rows, layer.channels};
  return {1, layer.size, layer.size, layer.channels};
}

/// `odd_weight` takes the place of one of the weights, in the column of the result's element 5.
pattern::Program program_of(const Layer& layer, float odd_weight = 1) {
  Graph graph;
  Builder b(graph);
  const auto dims = input_dims(layer);
  Dims asked(dims.begin(), dims.end());
  if (layer.named) asked[0] = Dim::symbol("rows");
  ValueId x = b.input("x", {DType::f32, asked});
  const bool image = layer.size > 0;
  Tensor weights = normal_floats(
      image ? std::vector<int64_t>{layer.filters, layer.channels / layer.groups, layer.size, layer.size} : std::vector<int64_t>{layer.channels, layer.filters},
      3);
  weights.set_float(5, static_cast<double>(odd_weight));
  if (image) x = b.transpose(x, {0, 3, 1, 2});
  Attributes attributes;
  if (image) attributes.insert({{"groups", layer.groups}});
  b.output(b.one(image ? "conv" : "matmul", {x, b.constant(weights)}, attributes), "y");
  return lower(graph);
}

const schedule::Options options{.choose_layouts = true};

schedule::Block planned(const pattern::Program& program, const char* machine, const PlanOptions& plan = {}) {
  schedule::Block block = schedule::schedule(program, {}, options);
  plan_kernels(block, find_target(machine), plan);
  return block;
}

ProductConfig::Atom chosen(const Layer& layer, const char* machine, float odd_weight = 1, const PlanOptions& plan = {}) {
  for (const schedule::Kernel& kernel : planned(program_of(layer, odd_weight), machine, plan).kernels)
    if (!kernel.products.empty()) return kernel.products[0].config.atom;
  ADD_FAILURE() << layer.name << " has no product with packed weights";
  return fma;
}

std::set<ProductConfig::Atom> offered(const Layer& layer, const char* machine, float odd_weight = 1) {
  const schedule::Block block = schedule::schedule(program_of(layer, odd_weight), {}, options);
  std::set<ProductConfig::Atom> all;
  for (const schedule::Kernel& kernel : block.kernels)
    if (const auto space = kernel_space(block, kernel, find_target(machine), {.winograd = false}))
      for (const auto& config : space->configs) all.insert(std::get<ProductConfig>(config).atom);
  return all;
}

TEST(Fixed24Products, AreOfFewRowsAndManyEvenWeights) {
  const Layer one = {"one row", 1, 1024, 1024}, named = {"a named number of rows", 1, 1024, 1024, 0, 1, true};
  const Layer eight = {"eight rows", 8, 1024, 1024}, small = {"few weights", 1, 256, 256}, flat = {"short sums", 1, 511, 4000};
  for (const char* machine : machines) {
    EXPECT_EQ(chosen(one, machine), fma24) << machine;
    EXPECT_TRUE(offered(one, machine).contains(fma)) << machine << ": a tuner may find that they are as fast";
    EXPECT_EQ(chosen(one, machine, 1, {.tf32 = true}), fma24) << machine;
    // A small weight is one beside others; of one that is large beside its column the others would have too few bits.
    EXPECT_EQ(chosen(one, machine, 0x1p-101F), fma24) << machine;
    for (const float odd : {100.0F, 0x1p70F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
      EXPECT_FALSE(offered(one, machine, odd).contains(fma24)) << machine << ", " << odd;
    for (const Layer* other : {&named, &eight, &small, &flat}) EXPECT_FALSE(offered(*other, machine).contains(fma24)) << machine << ", " << other->name;
  }
  EXPECT_EQ(chosen(one, "cpu:x86-64-v3", 100), fma);
  EXPECT_EQ(chosen(eight, "cpu:sapphirerapids"), fma);
  EXPECT_EQ(chosen(one, "cpu:aarch64"), fma) << "whose vectors are short";
}

void expect_24_bits(const schedule::Block& block, const char* machine) {
  int found = 0;
  for (const schedule::Kernel& kernel : block.kernels)
    for (const schedule::PackedProduct& product : kernel.products) found += product.config.atom == fma24;
  EXPECT_EQ(found, 1) << machine;
}

/// The layers by blocks of two rows, then the first of them as rules have it.
std::unique_ptr<testing::CompiledBlocks> compiled_for(const char* machine) {
  std::vector<schedule::Block> blocks;
  const int vectors = find_target(machine).vector_bytes == 64 ? 5 : 3;
  const ProductConfig config{.block = {2, vectors}, .panel_bytes = 1 << 18, .strip_bytes = 3 << 18, .atom = fma24};
  for (const Layer& layer : layers) blocks.push_back(planned(program_of(layer), machine, {.choose = [&](const auto&, const auto&) { return config; }}));
  blocks.push_back(planned(program_of(layers[0]), machine));
  for (const schedule::Block& block : blocks) expect_24_bits(block, machine);
  return std::make_unique<testing::CompiledBlocks>(std::move(blocks), machine);
}

void expect_close(const Tensor& actual, const Tensor& expected, double odd, const std::string& what) {
  double error = 0, magnitude = 0;
  for (int64_t i = 0; i < expected.element_count(); ++i) {
    const double e = expected.float_at(i), y = actual.float_at(i);
    if (!std::isfinite(e)) {
      ASSERT_EQ(y, e) << what << " at " << i;
      continue;
    }
    // A weight is within 2^-24 of the largest one of its column, which is less than 8.
    const double of_odd = std::abs(e) > 1e6 ? 0x1p-21 * odd : 0;
    ASSERT_NEAR(y, e, 5e-5 + 1e-5 * std::abs(e) + of_odd) << what << " at " << i;
    error += (y - e) * (y - e), magnitude += e * e;
  }
  // A chain of 128 multiply-adds errs by 4.6 units of 2^-24, weights by 0.58 of the largest one, four times their mean.
  if (odd == 1) {
    EXPECT_LT(std::sqrt(error / magnitude), 5.2 * 1.1 * 0x1p-24) << what;
  }
}

TEST(Fixed24Products, AreAsAccurateAsFloats) {
  std::map<std::string, std::unique_ptr<testing::CompiledBlocks>> compiled;
  for (const char* machine : machines)
    if (runs_here(find_target(machine))) compiled[machine] = compiled_for(machine);
  if (compiled.empty()) GTEST_SKIP() << "no machine of these runs here";
  for (size_t at = 0; at < std::size(layers); ++at)
    for (const double odd : {1.0, -HUGE_VAL, 0x1p120, 0x1p-130}) {
      const Layer& layer = layers[at];
      Tensor x = normal_floats(input_dims(layer), 7);
      x.set_float(x.element_count() / 2, odd);
      pattern::InterpreterOptions wide;
      wide.arithmetic = pattern::InterpreterOptions::Arithmetic::float64;
      const Tensor expected = pattern::interpret(program_of(layer), {x}, wide).at(0);
      for (const auto& [machine, blocks] : compiled) {
        const std::string what = fmt::format("{}, {}, {}", machine, layer.name, odd);
        expect_close(blocks->run(at, {x}).at(0), expected, odd, what);
        if (at == 0) expect_close(blocks->run(std::size(layers), {x}).at(0), expected, odd, what);
      }
    }
}

TEST(Fixed24Products, OfTheSameWeightsShareTheirPanels) {
  Graph graph;
  Builder b(graph);
  const ValueId weights = b.constant(normal_floats({1024, 1024}, 3));
  const ValueId x = b.input("x", {DType::f32, {Dim(1), Dim(1024)}});
  b.output(b.one("matmul", {b.one("tanh", {b.one("matmul", {x, weights})}), weights}), "y");
  const char* const machine = "cpu:x86-64-v3";
  const schedule::Block block = planned(lower(graph), machine);
  int products = 0;
  for (const schedule::Kernel& kernel : block.kernels)
    for (const schedule::PackedProduct& product : kernel.products) products += product.config.atom == fma24;
  EXPECT_EQ(products, 2);
  const EmittedSources sources = emit_sources({{"m", "{}", std::make_shared<schedule::Block>(block)}}, find_target(machine), 1);
  EXPECT_LT(sources.weight_bytes, 1024 * (1024 + 48) * 3);
  EXPECT_GE(sources.weight_bytes, 1024 * 1024 * 3);
}

}  // namespace
}  // namespace tilewright
