#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <optional>
#include <random>
#include <set>

#include "op/builder.h"
#include "pattern/interpreter.h"
#include "target/emit_kernel.h"
#include "target/kernel_space.h"
#include "target/testing/run_blocks.h"

// Products of floats by parts on tile registers (decision 16), in emulation: against float64.

namespace tilewright {
namespace {

using schedule::ProductConfig;

/// A convolution of [images, size, size, channels], or with size 0 rows times weights.
struct Layer {
  const char* name;
  int64_t rows, channels, filters, size = 0, kernel = 1, stride = 1, groups = 1;
  bool named = false;   ///< sizes of the input but for its channels are known at run time alone
  bool planes = false;  ///< the input is a picture [images, channels, size, size]
};

const Layer layers[] = {
    {"rows", 29, 66, 70},
    {"rows of a named number", 40, 64, 70, 0, 1, 1, 1, true},
    {"3x3", 2, 16, 40, 9, 3},
    {"5x5, strided", 1, 8, 24, 17, 5, 2},
    {"named sizes", 2, 16, 40, 9, 3, 1, 1, true},
    {"a picture of planes", 2, 3, 24, 40, 7, 2, 1, false, true},
    {"1x1, strided", 1, 32, 48, 18, 1, 2},
};

std::vector<int64_t> input_dims(const Layer& layer) {
  if (layer.size == 0) return {layer.rows, layer.channels};
  if (layer.planes) return {layer.rows, layer.channels, layer.size, layer.size};
  return {layer.rows, layer.size, layer.size, layer.channels};
}

Tensor normal_floats(const std::vector<int64_t>& dims, unsigned seed) {
  Tensor tensor(DType::f32, dims);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < tensor.element_count(); ++i) tensor.set_float(i, normal(random));
  return tensor;
}

/// `odd_weight` takes the place of one of the weights, `odd_filter` of all taps of a filter's channel.
pattern::Program program_of(const Layer& layer, float odd_weight = 1, std::optional<double> odd_filter = {}) {
  Graph graph;
  Builder b(graph);
  const auto dims = input_dims(layer);
  Dims asked(dims.begin(), dims.end());
  if (layer.named) {
    asked[0] = Dim::symbol("first");
    if (layer.size > 0) asked[1] = Dim::symbol("height"), asked[2] = Dim::symbol("width");
  }
  ValueId x = b.input("x", {DType::f32, asked});
  const bool image = layer.size > 0;
  Tensor weights = normal_floats(image ? std::vector<int64_t>{layer.filters, layer.channels / layer.groups, layer.kernel, layer.kernel}
                                       : std::vector<int64_t>{layer.channels, layer.filters},
                                 3);
  weights.set_float(5, static_cast<double>(odd_weight));
  for (int64_t i = 0; odd_filter && i < layer.kernel * layer.kernel; ++i) weights.set_float(i, *odd_filter);
  if (image && !layer.planes) x = b.transpose(x, {0, 3, 1, 2});
  Attributes attributes;
  if (image)
    attributes.insert({{"pads", std::vector<int64_t>(4, layer.kernel / 2)}, {"strides", std::vector<int64_t>(2, layer.stride)}, {"groups", layer.groups}});
  const ValueId y = b.one(image ? "conv" : "matmul", {x, b.constant(weights)}, attributes);
  b.output(image && !layer.planes ? b.transpose(y, {0, 2, 3, 1}) : y, "y");
  return lower(graph);
}

const schedule::Options options{.choose_layouts = true};

schedule::Block planned(const Layer& layer, schedule::ProductBlock shape, ProductConfig::Atom atom,
                        ProductConfig::Method method = ProductConfig::Method::rows) {
  schedule::Block block = schedule::schedule(program_of(layer), {}, options);
  const ProductConfig config{.method = method, .block = shape, .panel_bytes = 1 << 19, .strip_bytes = 3 << 18, .atom = atom};
  plan_kernels(block, find_target("emulator:amx"), {.choose = [&](const auto&, const auto&) { return config; }});
  return block;
}

void check_accuracy(ProductConfig::Atom atom, schedule::ProductBlock first, schedule::ProductBlock second, const char* blocks_of_atom) {
  const Target& target = find_target("emulator:amx");
  if (!runs_here(target)) GTEST_SKIP() << "this machine lacks what " << target.name << " is compiled with";
  std::vector<schedule::Block> blocks;
  for (const Layer& layer : layers)
    for (const schedule::ProductBlock shape : {first, second}) {
      blocks.push_back(planned(layer, shape, atom));
      std::string text;
      for (const schedule::Kernel& kernel : blocks.back().kernels) text += emit_kernel(blocks.back(), kernel, target);
      EXPECT_NE(text.find(blocks_of_atom), std::string::npos) << layer.name << "\n" << text;
    }
  const testing::CompiledBlocks compiled(std::move(blocks), target.name);
  size_t at = 0;
  for (const Layer& layer : layers) {
    const double limit = std::numeric_limits<double>::infinity();
    // Values that have no parts: their rows, and those beside them, are multiplied as floats.
    for (const double odd : {1.0, limit, -limit, std::nan(""), 0x1p120, 0x1p-130}) {
      Tensor x = normal_floats(input_dims(layer), 7);
      x.set_float(x.element_count() / 2, odd);
      pattern::InterpreterOptions wide;
      wide.arithmetic = pattern::InterpreterOptions::Arithmetic::float64;
      const Tensor expected = pattern::interpret(program_of(layer), {x}, wide).at(0);
      for (size_t shape = 0; shape < 2; ++shape) {
        const Tensor actual = compiled.run(at + shape, {x}).at(0);
        double error = 0, magnitude = 0;
        for (int64_t i = 0; i < expected.element_count(); ++i) {
          const double e = expected.float_at(i), y = actual.float_at(i);
          if (!std::isfinite(e)) {
            ASSERT_TRUE(std::isnan(e) ? std::isnan(y) : y == e) << layer.name << ", " << odd << ": " << y << " at " << i << ", not " << e;
          } else {
            // Sums of up to 800 products of magnitude one, and where the odd value is large, of its products, whose weights are less than 4: digits of its
            // row and the weights' columns err by 2^-24 of the largest ones' product, where the result has a part in it.
            const bool large = std::abs(e) > 1e6 && atom == ProductConfig::Atom::amx_digits;
            ASSERT_NEAR(y, e, 1e-5 + 1e-5 * std::abs(e) + (large ? 0x1p-22 * std::abs(odd) : 0)) << layer.name << ", " << odd << " at " << i;
            error += (y - e) * (y - e), magnitude += e * e;
          }
        }
        if (odd == 1) {
          // Numbers of digits err by 0.8 units of 2^-24 of the largest in the mean, which is 3.5 times the others, on both sides.
          EXPECT_LT(std::sqrt(error / magnitude), atom == ProductConfig::Atom::amx_digits ? 0.8 * 3.5 * std::sqrt(2.0) * 0x1p-24 : 2e-7) << layer.name;
        }
      }
    }
    at += 2;
  }
}

TEST(SplitProducts, AreAsAccurateAsFloatsInEveryShapeOfBlock) { check_accuracy(ProductConfig::Atom::amx_f32, {16, 2}, {27, 1}, "tile::AmxSplitBlocks<"); }
TEST(SplitProducts, OfDigitsAreAsAccurateAsFloats) { check_accuracy(ProductConfig::Atom::amx_digits, {16, 1}, {26, 2}, "tile::AmxDigitBlocks<"); }

TEST(SplitProducts, OfDigitsByWinogradsMethodAreAsAccurateAsFloats) {
  const Target& target = find_target("emulator:amx");
  if (!runs_here(target)) GTEST_SKIP() << "this machine lacks what " << target.name << " is compiled with";
  const Layer convolutions[] = {{"3x3", 2, 16, 40, 9, 3}, {"more channels than a step has", 1, 80, 17, 7, 3}, {"named sizes", 2, 32, 40, 9, 3, 1, 1, true}};
  const schedule::ProductBlock shapes[] = {{16, 2}, {9, 1}};
  std::vector<schedule::Block> blocks;
  for (const Layer& layer : convolutions)
    for (const schedule::ProductBlock shape : shapes) {
      blocks.push_back(planned(layer, shape, ProductConfig::Atom::amx_digits, ProductConfig::Method::winograd));
      std::string text;
      for (const schedule::Kernel& kernel : blocks.back().kernels) text += emit_kernel(blocks.back(), kernel, target);
      EXPECT_NE(text.find("tile::winograd<tile::AmxDigitBlocks<"), std::string::npos) << layer.name << "\n" << text;
    }
  const testing::CompiledBlocks compiled(std::move(blocks), target.name);
  size_t at = 0;
  for (const Layer& layer : convolutions) {
    const Tensor x = normal_floats(input_dims(layer), 7);
    pattern::InterpreterOptions wide;
    wide.arithmetic = pattern::InterpreterOptions::Arithmetic::float64;
    const Tensor expected = pattern::interpret(program_of(layer), {x}, wide).at(0);
    for (size_t shape = 0; shape < std::size(shapes); ++shape, ++at) {
      const Tensor actual = compiled.run(at, {x}).at(0);
      double error = 0, magnitude = 0;
      for (int64_t i = 0; i < expected.element_count(); ++i) {
        const double e = expected.float_at(i);
        error += (actual.float_at(i) - e) * (actual.float_at(i) - e), magnitude += e * e;
      }
      // Filters' numbers err by 0.6 units of 2^-24 of the largest in the mean, which is 3.5 times the others, inputs' next to nothing; a result of length 3 is
      // made of nine sums, of whose products these errors are, that have length 5. Transforms round, too.
      EXPECT_LT(std::sqrt(error / magnitude), (0.6 * 3.5 * 5 / 3 + 1) * 0x1p-24) << layer.name;
    }
  }
}

TEST(SplitProducts, OfTwoPartsAreForPlansWithTf32Alone) {
  const Layer rows = {"rows", 128, 768, 768};
  for (const bool tf32 : {false, true}) {
    schedule::Block block = schedule::schedule(program_of(rows), {}, options);
    plan_kernels(block, find_target("cpu:sapphirerapids-amx"), {.tf32 = tf32});
    ASSERT_EQ(block.kernels.at(0).products.size(), 1U);
    EXPECT_STREQ(schedule::name(block.kernels[0].products[0].config.atom), tf32 ? "amx_tf32" : "amx_digits");
  }
}

std::set<ProductConfig::Atom> atoms(const Layer& layer, const char* target, float odd_weight = 1) {
  const schedule::Block block = schedule::schedule(program_of(layer, odd_weight), {}, options);
  std::set<ProductConfig::Atom> all;
  for (const schedule::Kernel& kernel : block.kernels)
    if (const auto space = kernel_space(block, kernel, find_target(target), {.winograd = false}))
      for (const auto& config : space->configs) all.insert(std::get<ProductConfig>(config).atom);
  return all;
}

/// What computes the layer's product, guessed.
ProductConfig guess(const Layer& layer, const char* target, std::optional<double> odd_filter = {}) {
  schedule::Block block = schedule::schedule(program_of(layer, 1, odd_filter), {}, options);
  plan_kernels(block, find_target(target), {});
  for (const schedule::Kernel& kernel : block.kernels)
    if (!kernel.products.empty()) return kernel.products[0].config;
  return {};
}

TEST(SplitProducts, OfDigitsByWinogradsMethodAreForManyChannels) {
  const auto expect = [](const ProductConfig& config, ProductConfig::Method method, ProductConfig::Atom atom) {
    EXPECT_EQ(config.method, method) << print(config);
    EXPECT_EQ(config.atom, atom) << print(config);
  };
  using enum ProductConfig::Atom;
  using enum ProductConfig::Method;
  const Layer many = {"many channels", 1, 256, 256, 14, 3}, strided = {"strided", 1, 256, 256, 14, 3, 2};
  expect(guess(many, "cpu:sapphirerapids-amx"), winograd, amx_digits);
  expect(guess(many, "cpu:sapphirerapids"), winograd, fma);
  expect(guess(strided, "cpu:sapphirerapids-amx"), rows, amx_digits);
  // Taps of 4 are no more uneven than others of a column; of their sum, a point, which is 9 where the others are about 3 / 4, the others' digits would be too
  // few.
  expect(guess(many, "cpu:sapphirerapids-amx", 4), rows, amx_digits);
  // Transforms of few channels and filters take longer than they save.
  expect(guess({"few channels", 1, 16, 16, 56, 3}, "cpu:sapphirerapids-amx"), rows, amx_digits);
}

TEST(SplitProducts, OfPartsAreForWhatGainsMuch) {
  const auto atom = [](const Layer& layer) {
    schedule::Block block = schedule::schedule(program_of(layer, 100), {}, options);
    plan_kernels(block, find_target("cpu:sapphirerapids-amx"), {});
    return block.kernels.at(0).products.at(0).config.atom;
  };
  EXPECT_EQ(atom({"short sums", 3136, 64, 256}), ProductConfig::Atom::fma);
  EXPECT_EQ(atom({"long sums", 384, 768, 768}), ProductConfig::Atom::amx_f32);
}

TEST(SplitProducts, OfWinogradsMethodHaveOneTileOfRows) {
  const Target& target = find_target("cpu:sapphirerapids-amx");
  const Layer layer = {"many channels", 1, 256, 256, 14, 3};
  for (const int rows : {16, 26}) {
    schedule::Block block = schedule::schedule(program_of(layer), {}, options);
    const ProductConfig asked{.method = ProductConfig::Method::winograd, .block = {rows, 1}, .atom = ProductConfig::Atom::amx_digits};
    plan_kernels(block, target, {.choose = [&](const auto&, const auto&) { return asked; }});
    for (const schedule::Kernel& kernel : block.kernels)
      if (!kernel.products.empty()) {
        EXPECT_EQ(kernel.products[0].config == asked, rows == 16) << print(kernel.products[0].config);
      }
  }
}

TEST(SplitProducts, AreChosenWhereTheyAreCheaperAndRight) {
  using enum ProductConfig::Atom;
  const Layer rows = {"rows", 128, 768, 768}, convolution = {"3x3", 1, 64, 64, 56, 3};
  for (const Layer* layer : {&rows, &convolution}) {
    EXPECT_TRUE(atoms(*layer, "cpu:sapphirerapids-amx").contains(amx_digits)) << layer->name;
    EXPECT_FALSE(atoms(*layer, "cpu:sapphirerapids-amx").contains(fma)) << layer->name;
    EXPECT_EQ(atoms(*layer, "cpu:sapphirerapids"), std::set{fma}) << layer->name;
    // Small ones are zeros beside others. Of one that is large beside the rest of its column the others' digits would be too few; parts stand for each alone.
    EXPECT_TRUE(atoms(*layer, "cpu:sapphirerapids-amx", 0x1p-101F).contains(amx_digits)) << layer->name;
    EXPECT_EQ(atoms(*layer, "cpu:sapphirerapids-amx", 100), std::set{amx_f32}) << layer->name;
    for (const float odd : {1e30F, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
      EXPECT_EQ(atoms(*layer, "cpu:sapphirerapids-amx", odd), std::set{fma}) << layer->name << ", " << odd;
  }
  const Layer grouped = {"groups", 1, 128, 128, 28, 3, 1, 2};
  EXPECT_EQ(atoms(grouped, "cpu:sapphirerapids-amx"), std::set{fma}) << "rows of a group have gaps";
  const Layer lone = {"one row", 1, 768, 768};
  EXPECT_EQ(atoms(lone, "cpu:sapphirerapids-amx"), (std::set{fma, fma24})) << "which reads each weight once: parts are larger, digits no smaller";
}

}  // namespace
}  // namespace tilewright
