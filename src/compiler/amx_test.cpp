#include <set>
#include <gtest/gtest.h>

#include <random>

#include "artifact/compare.h"
#include "artifact/run.h"
#include "base/error.h"
#include "base/file.h"
#include "compiler/compile.h"
#include "compiler/testing.h"
#include "op/builder.h"
#include "op/op.h"
#include "op/rounding.h"
#include "pass/pass.h"
#include "pattern/interpreter.h"

/// Small networks on tile registers in emulation, as the estimates choose them, along the whole way.
namespace tilewright::compiler_testing {
namespace {

using Atom = schedule::ProductConfig::Atom;

class AmxModels : public ::testing::Test {
 protected:
  void SetUp() override {
    options.target = "emulator:amx";
    options.build.optimisation = 1;
    if (!runs_here(find_target(options.target))) GTEST_SKIP() << "this machine lacks what " << options.target << " is compiled with";
  }

  Prepared prepared(const Graph& graph) const {
    Prepared model;
    model.name = "model";
    model.imported = model.optimised = graph;
    for (const GraphPass& pass : graph_passes()) pass.run(model.optimised);
    model.block = std::make_shared<schedule::Block>(schedule_model(lower(model.optimised), options));
    return model;
  }

  /// That two at least are of those atoms.
  static void expect_products(const Prepared& model, const std::set<Atom>& atoms) {
    int products = 0;
    std::string all;
    for (const schedule::Kernel& kernel : model.block->kernels)
      for (const schedule::PackedProduct& product : kernel.products) {
        products += atoms.contains(product.config.atom);
        all += schedule::print(product.config) + "\n";
      }
    EXPECT_GE(products, 2) << all;
    if (atoms.contains(Atom::amx_digits)) {
      EXPECT_NE(all.find("atom=amx_digits"), std::string::npos) << all;
    }
  }

  /// The model's result, whose products are of those atoms where they are cheaper.
  Tensor run(const Prepared& model, const std::set<Atom>& atoms, const std::vector<Tensor>& inputs) const {
    const ScratchFolder folder(std::filesystem::temp_directory_path());
    const std::string library = folder.path() / "model.so";
    build_models({model}, library, options);
    expect_products(model, atoms);
    const Model loaded = open_model(library);
    Context context = open_context(loaded, 2);
    return run_model(context, loaded, inputs).at(0);
  }

  static Tensor exact(const Graph& graph, const std::vector<Tensor>& inputs) {
    pattern::InterpreterOptions wide;
    wide.arithmetic = pattern::InterpreterOptions::Arithmetic::float64;
    return pattern::interpret(lower(graph), inputs, wide).at(0);
  }

  CompileOptions options;
};

Tensor normal_floats(const std::vector<int64_t>& dims, double scale, unsigned seed) {
  Tensor tensor(DType::f32, dims);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  for (int64_t i = 0; i < tensor.element_count(); ++i) tensor.set_float(i, scale * normal(random));
  return tensor;
}

Graph convolutions(DType dtype) {
  Graph graph;
  Builder b(graph);
  ValueId x = b.input("x", {dtype, {2, 32, 20, 32}});
  x = b.max(b.one("conv", {x, b.constant(normal_floats({96, 32, 3, 3}, 0.06, 1).cast_to(dtype))}, {{"strides", std::vector<int64_t>{1, 1}}}), 0.0);
  x = b.max(b.one("conv", {x, b.constant(normal_floats({128, 96, 1, 1}, 0.1, 2).cast_to(dtype))}), 0.0);
  b.output(b.one("conv", {x, b.constant(normal_floats({128, 128, 3, 3}, 0.03, 3).cast_to(dtype))}, {{"strides", std::vector<int64_t>{2, 2}}}), "y");
  return graph;
}

TEST_F(AmxModels, ConvolutionsKeepThePromiseOfFloats) {
  const Graph graph = convolutions(DType::f32);
  const Prepared model = prepared(graph);
  const std::vector<Tensor> inputs = random_inputs(graph);
  const Tensor expected = exact(graph, inputs);
  double largest = 0;
  for (int64_t i = 0; i < expected.element_count(); ++i) largest = std::max(largest, std::abs(expected.float_at(i)));
  const Tensor actual = run(model, {Atom::amx_f32, Atom::amx_digits}, inputs).cast_to(expected.dtype());
  const Comparison result = compare(actual, expected, network_tolerance(DType::f32, rounding_steps(model.optimised), largest));
  EXPECT_TRUE(result.same) << result.reason;
  EXPECT_LT(result.relative_rms, 5e-7);
}

Graph perceptron() {
  Graph graph;
  Builder b(graph);
  const ValueId hidden = b.tanh(b.matmul(b.input("x", {DType::f32, {96, 200}}), b.constant(normal_floats({200, 320}, 0.1, 1))));
  b.output(b.matmul(hidden, b.constant(normal_floats({320, 96}, 0.1, 2))), "y");
  return graph;
}

TEST_F(AmxModels, APerceptronKeepsThePromiseOfFloats) {
  const Graph graph = perceptron();
  const std::vector<Tensor> inputs = {normal_floats({96, 200}, 1, 3)};
  const Tensor expected = exact(graph, inputs);
  const Tensor actual = run(prepared(graph), {Atom::amx_f32, Atom::amx_digits}, inputs).cast_to(expected.dtype());
  const Comparison result = compare(actual, expected, {.relative = 1e-5, .absolute = 1e-5});
  EXPECT_TRUE(result.same) << result.reason;
  EXPECT_LT(result.relative_rms, 5e-7);
}

TEST_F(AmxModels, APerceptronKeepsThePromiseOfTf32) {
  options.precision.policy = Policy::tf32;
  const Graph graph = perceptron();
  const std::vector<Tensor> inputs = {normal_floats({96, 200}, 1, 3)};
  const Prepared model = prepared(graph);
  const Tensor expected = exact(graph, inputs), actual = run(model, {Atom::amx_tf32}, inputs);
  const double error = compare(actual.cast_to(expected.dtype()), expected, {}).relative_rms;
  EXPECT_LT(error, half_errors(model.optimised, 0x1p-10)[static_cast<size_t>(model.optimised.outputs[0])].rms);
  EXPECT_LT(error, 0x1p-15) << "factors err by 2^-17 at most";
  EXPECT_GT(error, 1e-6) << "two parts are no floats";
}

TEST_F(AmxModels, ConvolutionsOfBfloatsRoundWhatTheyStoreAlone) {
  const Graph graph = convolutions(DType::bf16);
  const Prepared model = prepared(graph);
  const std::vector<Tensor> inputs = random_inputs(graph);
  const Tensor expected = exact(graph, inputs);
  // Three layers each store the nearest bfloat, which errs by 2^-9 / sqrt(3) in the mean.
  EXPECT_LT(compare(run(model, {Atom::amx_bf16}, inputs).cast_to(expected.dtype()), expected, {}).relative_rms, 3 * 0x1p-9);
}

/// Two padded layers of planes of so many rows and columns.
Graph small_planes(DType dtype, int64_t side) {
  Graph graph;
  Builder b(graph);
  const Attributes padded = {{"pads", std::vector<int64_t>(4, 1)}};
  const auto weights = [&](const std::vector<int64_t>& dims, unsigned seed) { return b.constant(normal_floats(dims, 0.05, seed).cast_to(dtype)); };
  const ValueId x = b.max(b.one("conv", {b.input("x", {dtype, {2, 64, side, side}}), weights({96, 64, 3, 3}, 1)}, padded), 0.0);
  b.output(b.one("conv", {x, weights({64, 96, 3, 3}, 2)}, padded), "y");
  return graph;
}

bool has_joined_lines(const Prepared& model) {
  for (const schedule::Kernel& kernel : model.block->kernels)
    for (const schedule::PackedProduct& product : kernel.products)
      if (product.config.joined) return true;
  return false;
}

TEST_F(AmxModels, LinesOfSmallPlanesShareStrips) {
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t side : {1, 2, 3, 4, 7}) {
      const Graph graph = small_planes(dtype, side);
      Prepared model = prepared(graph);
      model.disabled_passes = {"winograd"};  // which multiplies the largest
      const std::vector<Tensor> inputs = {normal_floats({2, 64, side, side}, 1, 3).cast_to(dtype)};
      const Tensor expected = exact(graph, inputs);
      const ScratchFolder folder(std::filesystem::temp_directory_path());
      const std::string library = folder.path() / "model.so";
      build_models({model}, library, options);
      EXPECT_EQ(has_joined_lines(model), side >= 4) << side;  // smaller ones have less than a tile's rows
      const Model loaded = open_model(library);
      Context context = open_context(loaded, 2);
      const Tensor actual = run_model(context, loaded, inputs).at(0);
      EXPECT_LT(compare(actual.cast_to(expected.dtype()), expected, {}).relative_rms, dtype == DType::f32 ? 5e-7 : 2 * 0x1p-9) << name(dtype) << " " << side;
    }
}

/// Two padded layers of bytes with a zero point, channels last outside.
Graph quantised(int64_t height, int64_t width) {
  Graph graph;
  Builder b(graph);
  const auto bytes = [](const std::vector<int64_t>& dims, unsigned seed) {
    Tensor tensor(DType::i8, dims);
    std::mt19937 random(seed);
    for (int64_t i = 0; i < tensor.element_count(); ++i) tensor.set_int(i, static_cast<int64_t>(random() % 256) - 128);
    return tensor;
  };
  const auto layer = [&](ValueId x, ValueId zero, const Tensor& weights, int64_t stride) {
    const ValueId centred = b.sub(b.cast(x, DType::i32), b.cast(zero, DType::i32));
    return b.one("conv", {centred, b.cast(b.constant(weights), DType::i32)},
                 {{"dtype", DType::i32}, {"pads", std::vector<int64_t>(4, 1)}, {"strides", std::vector<int64_t>(2, stride)}});
  };
  Tensor zero(DType::u8, {});
  zero.set_int(0, 121);
  const ValueId x = b.transpose(b.input("x", {DType::u8, {1, height, width, 64}}), {0, 3, 1, 2}), zero_value = b.constant(zero);
  const ValueId first = layer(x, zero_value, bytes({96, 64, 3, 3}, 1), 1);
  const ValueId stored = b.cast(b.add(b.unary("round", b.mul(b.cast(first, DType::f32), 0x1p-14)), 121.0), DType::u8);
  b.output(b.transpose(layer(stored, zero_value, bytes({64, 96, 3, 3}, 2), 2), {0, 2, 3, 1}), "y");
  return graph;
}

TEST_F(AmxModels, AQuantisedNetworkIsWhatTheInterpreterMakesOfIt) {
  for (const auto& [height, width] : {std::pair<int64_t, int64_t>{12, 64}, {7, 7}}) {
    const Graph graph = quantised(height, width);
    const Prepared model = prepared(graph);
    Tensor input(DType::u8, {1, height, width, 64});
    std::mt19937 random(3);
    for (int64_t i = 0; i < input.element_count(); ++i) input.set_int(i, random() % 256);
    const Tensor expected = pattern::interpret(lower(graph), {input}).at(0),
                 actual = run(model, width == 7 ? std::set{Atom::amx8, Atom::dot8} : std::set{Atom::amx8}, {input});
    EXPECT_EQ(has_joined_lines(model), width == 7);
    for (int64_t i = 0; i < expected.element_count(); ++i) ASSERT_EQ(actual.int_at(i), expected.int_at(i)) << i;
  }
}

TEST(AmxArtifacts, AreRefusedByMachinesThatLackTheRegisters) {
  CompileOptions options;
  options.target = "cpu:sapphirerapids-amx";
  options.build.optimisation = 0;
  if (runs_here(find_target(options.target))) GTEST_SKIP() << "this machine has them";
  const ScratchFolder folder(std::filesystem::temp_directory_path());
  const std::string library = folder.path() / "digits.so";
  compile(digits(), library, options);
  const Model loaded = open_model(library);
  try {
    open_context(loaded, 1);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::environment);
    EXPECT_NE(std::string(error.what()).find("was compiled for a machine with "), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace tilewright::compiler_testing
