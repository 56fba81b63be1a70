#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "artifact/compare.h"
#include "artifact/run.h"
#include "base/file.h"
#include "compiler/compile.h"
#include "compiler/testing.h"
#include "op/op.h"
#include "op/rounding.h"
#include "pattern/interpreter.h"
#include "target/target.h"

/// Policies along the whole way, on the bundled classifier.
namespace tilewright::compiler_testing {
namespace {

CompileOptions options_for(Policy policy, const std::string& target = "native") {
  CompileOptions options;
  options.target = target;
  options.precision.policy = policy;
  return options;
}

std::vector<Tensor> interpret(const Graph& graph, const std::vector<Tensor>& inputs, pattern::InterpreterOptions::Arithmetic arithmetic) {
  pattern::InterpreterOptions options;
  options.arithmetic = arithmetic;
  options.point_limit = int64_t{1} << 24;
  return pattern::interpret(lower(graph), inputs, options);
}

/// Compiled without drop_roundings, and without Winograd's method, which rounds what it transforms, the models do what the interpreter does of the same
/// rounded graphs, but for float32's own errors.
void expect_rounded_graphs(const std::vector<std::filesystem::path>& paths, Policy policy) {
  CompileOptions options = options_for(policy);
  options.disabled_passes = {"drop_roundings", "winograd"};
  options.build.optimisation = 1;
  std::vector<Prepared> models;
  for (const std::filesystem::path& path : paths) models.push_back(prepare(path, options));
  const ScratchFolder folder(std::filesystem::temp_directory_path());
  const std::string library = folder.path() / "models.so";
  build_models(models, library, options);
  for (size_t m = 0; m < models.size(); ++m) {
    const Graph& graph = models[m].optimised;
    const std::vector<Tensor> inputs = random_inputs(graph), expected = interpret(graph, inputs, pattern::InterpreterOptions::Arithmetic::as_written);
    const Model loaded = open_model(library, static_cast<int>(m));
    Context context = open_context(loaded, 1);
    const std::vector<Tensor> actual = run_model(context, loaded, inputs);
    const std::vector<HalfError> errors = half_errors(graph);
    for (size_t i = 0; i < expected.size(); ++i) {
      if (!is_float(expected[i].dtype())) continue;
      const double wide = epsilon_of(expected[i].dtype()) * rounding_steps(graph);
      EXPECT_LE(compare(actual[i], expected[i], {}).relative_rms, repeated_error(errors[static_cast<size_t>(graph.outputs[i])], wide))
          << paths[m] << " output " << i << ", " << name(policy);
    }
  }
}

/// ‖y − y64‖ / ‖y64‖ of the compiled classifier, for the images of a batch.
double error_of(const Prepared& model, const CompileOptions& options, std::string* manifest = nullptr) {
  const ScratchFolder folder(std::filesystem::temp_directory_path());
  const std::string library = folder.path() / "digits.so";
  build_models({model}, library, options);
  const Model loaded = open_model(library);
  if (manifest != nullptr) *manifest = loaded.api().manifest;
  const std::vector<Tensor> inputs = random_inputs(model.imported);
  const Tensor expected = interpret(model.imported, inputs, pattern::InterpreterOptions::Arithmetic::float64)[0];
  Context context = open_context(loaded, 1);
  return compare(run_model(context, loaded, inputs)[0].cast_to(expected.dtype()), expected, {}).relative_rms;
}

double promised(const Prepared& model) { return half_errors(model.optimised)[static_cast<size_t>(model.optimised.outputs[0])].rms; }

TEST(Precision, CompiledModelsKeepTheirPromiseAndReallyRound) {
  const double fp32 = error_of(prepare(digits(), options_for(Policy::fp32)), options_for(Policy::fp32));
  EXPECT_LT(fp32, 1e-6);
  for (const Policy policy : {Policy::bf16, Policy::fp16}) {
    const CompileOptions options = options_for(policy);
    const Prepared model = prepare(digits(), options);
    EXPECT_GT(model.precision.lowered, 0);
    std::string manifest;
    const double error = error_of(model, options, &manifest);
    EXPECT_LE(error, promised(model)) << name(policy);
    EXPECT_GT(error, promised(model) / 1000) << name(policy) << ": nothing was rounded";
    EXPECT_THAT(manifest, testing::HasSubstr(fmt::format("\"policy\":\"{}\"", name(policy))));
  }
}

TEST(Precision, CompiledModelsDoWhatTheirRoundedGraphsSay) {
  for (const Policy policy : {Policy::bf16, Policy::fp16}) expect_rounded_graphs({digits()}, policy);
}

TEST(Precision, CompiledOperatorsDoWhatTheirRoundedGraphsSay) {
  std::vector<std::filesystem::path> paths;
  CompileOptions options = options_for(Policy::bf16);
  options.stop_after = "optimise";
  for (const std::filesystem::path& path : conformance_models()) {
    if (paths.size() == 24 || path.string().find("light") != std::string::npos) continue;
    try {
      if (prepare(path, options).precision.lowered > 0) paths.push_back(path);
    } catch (const Error&) {
      continue;  // what is not supported is another test's matter
    }
  }
  if (paths.empty()) GTEST_SKIP() << "the package libonnx-testdata is not installed";
  expect_rounded_graphs(paths, Policy::bf16);
}

/// The classifier's kernels as a source folder for NVIDIA's GPUs has them.
std::string cuda_kernels(Policy policy) {
  const ScratchFolder folder(std::filesystem::temp_directory_path());
  CompileOptions cuda = options_for(policy, "cuda:sm_80");
  cuda.emit_source = folder.path() / "source";
  compile(digits(), "unused.so", cuda);
  std::string kernels;
  for (const auto& file : std::filesystem::directory_iterator(cuda.emit_source))
    if (file.path().filename().string().starts_with("kernels")) kernels += read_file(file.path());
  return kernels;
}

TEST(Precision, MatrixUnitsOfAGpuTakeTheRoundedOperands) {
  const CompileOptions options = options_for(Policy::fp16, "emulator:warp32");
  const Prepared model = prepare(digits(), options);
  EXPECT_LE(error_of(model, options), promised(model));
  EXPECT_THAT(cuda_kernels(Policy::fp16), testing::HasSubstr("MmaTiles<tile::float16, tile::float16, "));
}

TEST(Precision, MatrixUnitsOfAGpuTakeFloatsWithTf32sBits) {
  const CompileOptions options = options_for(Policy::tf32, "emulator:warp32");
  const Prepared model = prepare(digits(), options);
  const double error = error_of(model, options), promise = half_errors(model.optimised, 0x1p-10)[static_cast<size_t>(model.optimised.outputs[0])].rms;
  EXPECT_LE(error, promise);
  EXPECT_GT(error, promise / 1000) << "nothing was rounded";
  EXPECT_THAT(cuda_kernels(Policy::tf32), testing::HasSubstr("MmaTiles<float, float, "));
  EXPECT_THAT(cuda_kernels(Policy::fp32), testing::Not(testing::HasSubstr("MmaTiles<float, float, ")));
}

TEST(Precision, RoundingTakesNoKernelsOfItsOwn) {
  const auto kernels = [](Policy policy, const char* target) { return prepare(digits(), options_for(policy, target)).block->kernels.size(); };
  for (const char* target : {"cpu:x86-64-v4", "cpu:sapphirerapids", "cpu:sapphirerapids-amx", "cpu:znver4"}) {
    const size_t image = find_target(target).multiplies_bfloats() ? 1 : 0;  // rounded for tile registers, and for dots that are fast
    EXPECT_EQ(kernels(Policy::bf16, target), kernels(Policy::fp32, target) + image) << target;
    EXPECT_EQ(kernels(Policy::tf32, target), kernels(Policy::fp32, target)) << target;
  }
}

TEST(Precision, WeightsTakeHalfTheRoom) {
  const auto bytes = [](Policy policy) {
    const ScratchFolder folder(std::filesystem::temp_directory_path());
    CompileOptions options = options_for(policy, "cpu:x86-64-v4");  // tile registers have floats in three bytes
    options.stop_after = "emit";
    return static_cast<double>(compile(digits(), folder.path() / "digits.so", options).weight_bytes);
  };
  EXPECT_LT(bytes(Policy::bf16), 0.6 * bytes(Policy::fp32));
}

}  // namespace
}  // namespace tilewright::compiler_testing
