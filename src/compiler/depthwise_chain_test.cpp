#include <gtest/gtest.h>

#include <random>

#include "artifact/compare.h"
#include "artifact/run.h"
#include "base/file.h"
#include "compiler/compile.h"
#include "op/builder.h"
#include "op/rounding.h"
#include "pass/editor.h"
#include "pattern/interpreter.h"
#include "schedule/fuse_depthwise.h"

namespace tilewright {
namespace {

/// An inverted bottleneck, or a part of one, of a tensor whose channels are last. `stem`: of a picture's planes, through a 3 x 3 convolution of
/// stride 2 in place of the 1 x 1. `attends`: after attention to keys that are weights, whose last product could be the expansion.
struct Form {
  std::string name;
  Dim batch = 1, height = 17, width = 19;
  int64_t in = 16, channels = 48, out = 16;
  int64_t kernel = 3, stride = 1, dilation = 1;
  bool expands = true, projects = true, residual = false, clipped = true, bias = true;
  bool stem = false, shows_expanded = false, reads_expanded_again = false, attends = false;
  DType dtype = DType::f32;
};

class Writer {
 public:
  explicit Writer(const Form& form) : form_(form), b_(graph_) {}

  Graph write() {
    const Dim channels = form_.expands ? form_.in : form_.channels;
    const ValueId x = form_.stem ? b_.input("image", {form_.dtype, {form_.batch, channels, form_.height, form_.width}})
                                 : b_.transpose(b_.input("image", {form_.dtype, {form_.batch, form_.height, form_.width, channels}}), {0, 3, 1, 2});
    ValueId y = x;
    if (form_.attends) y = attention(y);
    if (form_.expands) y = clipped(conv(y, form_.channels, form_.stem ? 3 : 1, form_.stem ? 2 : 1, 1, 1));
    if (form_.shows_expanded) b_.output(y, "expanded");
    const ValueId expanded = y;
    y = clipped(conv(y, form_.channels, form_.kernel, form_.stride, form_.dilation, form_.channels));
    if (form_.reads_expanded_again) y = b_.add(y, expanded);
    if (form_.projects) y = conv(y, form_.out, 1, 1, 1, 1);
    if (form_.residual) y = b_.add(y, x);
    b_.output(b_.transpose(y, {0, 2, 3, 1}), "y");
    return std::move(graph_);
  }

 private:
  ValueId conv(ValueId x, int64_t filters, int64_t kernel, int64_t stride, int64_t dilation, int64_t groups) {
    const int64_t channels = b_.dims(x)[1].constant() / groups, pad = dilation * (kernel - 1) / 2;
    const auto pair = [](int64_t value) { return std::vector<int64_t>(2, value); };
    std::vector<ValueId> inputs = {x, b_.constant(values({filters, channels, kernel, kernel}))};
    if (form_.bias) inputs.push_back(b_.constant(values({filters})));
    return b_.one("conv", inputs, {{"strides", pair(stride)}, {"dilations", pair(dilation)}, {"pads", std::vector<int64_t>(4, pad)}, {"groups", groups}});
  }
  ValueId attention(ValueId x) {
    const ValueId rows = b_.transpose(x, {0, 2, 3, 1});
    const ValueId scores = b_.matmul(rows, b_.constant(values({b_.dims(x)[1].constant(), 64})));
    const ValueId mixed = b_.matmul(b_.softmax(scores, 3), b_.constant(values({64, form_.channels})));
    return b_.transpose(mixed, {0, 3, 1, 2});
  }
  ValueId clipped(ValueId x) { return form_.clipped ? b_.min(b_.max(x, 0.0), 1.5) : x; }
  Tensor values(const std::vector<int64_t>& dims) {
    Tensor tensor(form_.dtype, dims);
    std::normal_distribution<double> normal(0, 0.4);
    for (int64_t i = 0; i < tensor.element_count(); ++i) tensor.set_float(i, normal(random_));
    return tensor;
  }

  const Form& form_;
  Graph graph_;
  Builder b_;
  std::mt19937 random_{11};
};

Prepared scheduled(const Form& form, const CompileOptions& options = {}) {
  Prepared model;
  model.name = form.name;
  model.imported = Writer(form).write();
  model.optimised = clone(model.imported);
  model.block = std::make_shared<schedule::Block>(schedule_model(lower(model.imported), options));
  return model;
}

/// Stages of the chains among the model's kernels.
std::vector<size_t> chains_of(const Prepared& model) {
  std::vector<size_t> stages;
  for (const schedule::Kernel& kernel : model.block->kernels)
    if (schedule::is_depthwise_chain(kernel)) stages.push_back(kernel.stages.size());
  return stages;
}

std::vector<Form> whole() {
  return {
      {.name = "stride 1, residual", .residual = true},
      {.name = "stride 2, even and odd", .height = 30, .width = 29, .stride = 2},
      {.name = "batch of three, channels that fill no vector", .batch = 3, .in = 5, .channels = 37, .out = 11},
      {.name = "few channels", .in = 4, .channels = 7, .out = 9},
      {.name = "five by five", .height = 33, .width = 30, .channels = 32, .kernel = 5, .stride = 2},
      {.name = "dilated, nothing clipped", .height = 21, .width = 14, .dilation = 2, .clipped = false, .bias = false},
      {.name = "named sizes", .batch = Dim::symbol("batch"), .height = Dim::symbol("height"), .width = Dim::symbol("width"), .residual = true},
      {.name = "named sizes, stride 2", .batch = Dim::symbol("batch"), .height = Dim::symbol("height"), .width = Dim::symbol("width"), .stride = 2},
      {.name = "stem", .height = 46, .width = 43, .in = 3, .channels = 32, .stem = true},
      {.name = "stem, batch of two", .batch = 2, .height = 63, .width = 75, .in = 3, .channels = 24, .stride = 2, .stem = true},
      {.name = "stem, named sizes", .batch = Dim::symbol("batch"), .height = Dim::symbol("height"), .width = Dim::symbol("width"), .in = 3, .stem = true},
      {.name = "half precision", .residual = true, .dtype = DType::f16},
      {.name = "many lines", .height = 150, .width = 14, .in = 24, .channels = 160, .out = 24, .residual = true},
  };
}

std::vector<Form> parts() {
  return {
      {.name = "depthwise and projection", .expands = false},
      {.name = "depthwise and projection of short lines", .batch = 2, .height = 7, .width = 8, .expands = false},
      {.name = "depthwise and projection after attention", .expands = false, .attends = true},
      {.name = "expansion and depthwise", .batch = 2, .height = 40, .width = 28, .stride = 2, .projects = false},
  };
}

std::vector<Form> refused() {
  return {
      {.name = "few lines", .height = 7, .projects = false},
      {.name = "the expanded tensor is a result", .projects = false, .shows_expanded = true},
      {.name = "double precision", .dtype = DType::f64},
      {.name = "the expanded tensor is added", .projects = false, .reads_expanded_again = true},
  };
}

TEST(FuseDepthwise, TakesInvertedBottlenecks) {
  for (const Form& form : whole())
    EXPECT_EQ(chains_of(scheduled(form)), std::vector<size_t>{3}) << form.name << "\n" << schedule::print(*scheduled(form).block);
}

TEST(FuseDepthwise, TakesPartsOfThem) {
  for (const Form& form : parts())
    EXPECT_EQ(chains_of(scheduled(form)), std::vector<size_t>{2}) << form.name << "\n" << schedule::print(*scheduled(form).block);
}

TEST(FuseDepthwise, LeavesTheProjectionToShortLines) {
  EXPECT_EQ(chains_of(scheduled({.name = "seven lines", .height = 7, .width = 7})), std::vector<size_t>{2});
}

TEST(FuseDepthwise, LeavesOtherProductsAlone) {
  for (const Form& form : refused()) EXPECT_EQ(chains_of(scheduled(form)), std::vector<size_t>{}) << form.name;
}

TEST(FuseDepthwise, CanBeSwitchedOff) {
  CompileOptions options;
  options.disabled_passes = {"fuse_depthwise"};
  EXPECT_EQ(chains_of(scheduled({.name = "plain"}, options)), std::vector<size_t>{});
}

TEST(FuseDepthwise, IsForCpus) {
  CompileOptions options;
  options.target = "emulator:warp32";
  EXPECT_EQ(chains_of(scheduled({.name = "plain"}, options)), std::vector<size_t>{});
}

TEST(FuseDepthwise, ReadsTheBiasOfGroupsWhereItLies) {
  const Form form{.name = "plain"};
  for (const pattern::Pattern& one : lower(Writer(form).write()).patterns) {
    const auto& nest = std::get<pattern::Nest>(one);
    for (const pattern::Access& access : nest.accesses) EXPECT_TRUE(access.indirect.empty()) << nest.source;
  }
}

void expect_what_the_interpreter_gives(const std::vector<Form>& forms, const std::string& target) {
  if (!runs_here(find_target(target))) GTEST_SKIP() << "this machine cannot run " << target;
  CompileOptions options;
  options.target = target;
  std::vector<Prepared> prepared;
  for (const Form& form : forms) prepared.push_back(scheduled(form, options));
  const ScratchFolder folder(std::filesystem::temp_directory_path());
  const std::string library = folder.path() / "chains.so";
  build_models(prepared, library, options);
  std::mt19937 random(5);
  std::normal_distribution<double> normal;
  const std::map<std::string, int64_t> sizes = {{"batch", 2}, {"height", 23}, {"width", 18}};
  for (size_t i = 0; i < forms.size(); ++i) {
    const Graph& graph = prepared[i].imported;
    std::vector<int64_t> dims;
    for (const Dim& dim : graph.type(graph.inputs[0]).dims) dims.push_back(dim.evaluate(sizes));
    Tensor input(graph.type(graph.inputs[0]).dtype, dims);
    for (int64_t e = 0; e < input.element_count(); ++e) input.set_float(e, normal(random));
    const std::vector<Tensor> expected = pattern::interpret(lower(graph), {input});
    double scale = 0;
    for (int64_t e = 0; e < expected[0].element_count(); ++e) scale = std::max(scale, std::abs(expected[0].float_at(e)));
    const Model model = open_model(library, static_cast<int>(i));
    for (const int threads : {1, 2, 5}) {
      Context context = open_context(model, threads);
      const std::vector<Tensor> actual = run_model(context, model, {input});
      ASSERT_EQ(actual.size(), 1u);
      const Comparison result = compare(actual[0], expected[0], network_tolerance(forms[i].dtype, rounding_steps(graph), scale));
      EXPECT_TRUE(result.same) << forms[i].name << ", " << threads << " threads: " << result.reason;
    }
  }
}

TEST(FuseDepthwise, GivesWhatTheInterpreterGives) {
  std::vector<Form> forms = whole();
  for (const Form& form : parts()) forms.push_back(form);
  expect_what_the_interpreter_gives(forms, "native");
}

TEST(FuseDepthwise, GivesWhatTheInterpreterGivesWithShorterVectors) {
  const std::vector<Form> forms = whole();
  expect_what_the_interpreter_gives({forms[0], forms[1], forms[2], forms[7]}, "cpu:x86-64-v3");
}

}  // namespace
}  // namespace tilewright
