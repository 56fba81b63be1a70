#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <regex>

#include "artifact/compare.h"
#include "artifact/run.h"
#include "base/file.h"
#include "compiler/compile.h"
#include "op/builder.h"
#include "op/rounding.h"
#include "pass/editor.h"
#include "pattern/interpreter.h"
#include "pass/merge_products.h"
#include "schedule/fuse_attention.h"
#include "target/emit_kernel.h"

namespace tilewright {
namespace {

constexpr double minus_infinity = -std::numeric_limits<double>::infinity();

/// One way to write attention out.
struct Form {
  std::string name;
  Dim batch = 2, heads = 3, key_heads = 3, rows = 17, keys = 23;  ///< key_heads: of keys and values, each shared by heads / key_heads
  int64_t head = 16, value_head = 16;
  enum class Scale { none, queries, both, scores } scale = Scale::scores;
  enum class Mask { none, added, selected, causal, lengths } mask = Mask::none;
  bool heads_apart = true;       ///< queries come as [batch, rows, heads · head] and are split; else [batch, heads, rows, head]
  bool keys_transposed = false;  ///< keys come as [batch, heads, head, keys]
  bool joined_batch = false;     ///< products over [batch · heads, …], as older exports have them
  bool not_a_number_is_zero = false;
  int softmax_axis = 3;
  bool shows_scores = false, shows_probabilities = false;  ///< as results of the model
  DType dtype = DType::f32;
};

ValueId split(Builder& b, ValueId x, const Dim& heads, int64_t head) {
  return b.transpose(b.reshape(x, {b.dims(x)[0], b.dims(x)[1], heads, head}), {0, 2, 1, 3});
}

ValueId masked(Builder& b, const Form& form, ValueId scores) {
  const Dims plane = {1, 1, form.rows, form.keys};
  switch (form.mask) {
    case Form::Mask::none: return scores;
    case Form::Mask::added: return b.add(scores, b.input("bias", {form.dtype, {form.batch, 1, 1, form.keys}}));
    case Form::Mask::selected:
      return b.where(b.input("keep", {DType::boolean, {form.batch, 1, form.rows, form.keys}}), scores, b.scalar(form.dtype, minus_infinity));
    case Form::Mask::causal: {
      const ValueId allowed = b.less_equal(b.iota(DType::i64, plane, 3), b.iota(DType::i64, plane, 2));
      return b.where(allowed, scores, b.scalar(form.dtype, minus_infinity));
    }
    case Form::Mask::lengths: {
      const ValueId inside = b.less(b.iota(DType::i64, plane, 3), b.unsqueeze(b.input("lengths", {DType::i64, {form.batch}}), {1, 2, 3}));
      return b.add(scores, b.where(inside, b.scalar(form.dtype, 0), b.scalar(form.dtype, std::numeric_limits<float>::lowest())));
    }
  }
  return scores;
}

Graph written_out(const Form& form) {
  Graph graph;
  Builder b(graph);
  const auto flat = [&](const Dim& heads, int64_t head) { return Dim(head) * heads; };
  ValueId q = form.heads_apart ? split(b, b.input("query", {form.dtype, {form.batch, form.rows, flat(form.heads, form.head)}}), form.heads, form.head)
                               : b.input("query", {form.dtype, {form.batch, form.heads, form.rows, form.head}});
  ValueId v = split(b, b.input("value", {form.dtype, {form.batch, form.keys, flat(form.key_heads, form.value_head)}}), form.key_heads, form.value_head);
  ValueId k = form.keys_transposed
                  ? b.input("key", {form.dtype, {form.batch, form.key_heads, form.head, form.keys}})
                  : b.transpose(split(b, b.input("key", {form.dtype, {form.batch, form.keys, flat(form.key_heads, form.head)}}), form.key_heads, form.head),
                                {0, 1, 3, 2});
  if (!(form.key_heads == form.heads)) {
    const auto repeated = [&](ValueId x) {
      const Dims dims = b.dims(x);
      return b.reshape(b.broadcast(b.unsqueeze(x, {2}), {dims[0], dims[1], form.heads / form.key_heads, dims[2], dims[3]}),
                       {dims[0], form.heads, dims[2], dims[3]});
    };
    k = repeated(k);
    v = repeated(v);
  }
  const double root = std::sqrt(std::sqrt(static_cast<double>(form.head)));
  if (form.scale == Form::Scale::queries) q = b.mul(q, 1 / (root * root));
  if (form.scale == Form::Scale::both) q = b.mul(q, 1 / root), k = b.mul(k, 1 / root);
  const Dim together = form.batch * form.heads;
  if (form.joined_batch) {
    q = b.reshape(q, {together, form.rows, form.head});
    k = b.reshape(k, {together, form.head, form.keys});
    v = b.reshape(v, {together, form.keys, form.value_head});
  }
  ValueId scores = b.matmul(q, k);
  if (form.joined_batch) scores = b.reshape(scores, {form.batch, form.heads, form.rows, form.keys});
  if (form.scale == Form::Scale::scores) scores = b.div(scores, b.scalar(form.dtype, root * root));
  scores = masked(b, form, scores);
  if (form.shows_scores) b.output(scores, "scores");
  ValueId weights = b.softmax(scores, form.softmax_axis);
  if (form.not_a_number_is_zero) weights = b.where(b.unary("is_nan", weights), b.scalar(form.dtype, 0), weights);
  if (form.shows_probabilities) b.output(weights, "probabilities");
  if (form.joined_batch) weights = b.reshape(weights, {together, form.rows, form.keys});
  ValueId y = b.matmul(weights, v);
  if (form.joined_batch) y = b.reshape(y, {form.batch, form.heads, form.rows, form.value_head});
  b.output(b.reshape(b.transpose(y, {0, 2, 1, 3}), {form.batch, form.rows, Dim(form.value_head) * form.heads}), "y");
  return graph;
}

Prepared scheduled(const Form& form, const CompileOptions& options = {}) {
  Prepared model;
  model.name = form.name;
  model.imported = written_out(form);
  model.optimised = clone(model.imported);
  model.block = std::make_shared<schedule::Block>(schedule_model(lower(model.imported), options));
  return model;
}

int64_t attention_kernels(const Prepared& model) { return std::count_if(model.block->kernels.begin(), model.block->kernels.end(), schedule::is_attention); }

std::vector<Form> recognised() {
  using Scale = Form::Scale;
  using Mask = Form::Mask;
  return {
      {.name = "scale after the product"},
      {.name = "scale on queries", .scale = Scale::queries},
      {.name = "scale on both, added mask", .keys = 130, .scale = Scale::both, .mask = Mask::added},
      {.name = "selected mask, rows without keys", .rows = 29, .mask = Mask::selected},
      {.name = "selected mask, rows without keys become zeros", .rows = 29, .mask = Mask::selected, .not_a_number_is_zero = true},
      {.name = "causal", .rows = 40, .keys = 40, .mask = Mask::causal},
      {.name = "lengths", .head = 40, .value_head = 24, .mask = Mask::lengths, .heads_apart = false},
      {.name = "shared key heads", .heads = 6, .key_heads = 2, .mask = Mask::causal},
      {.name = "one key head", .heads = 4, .key_heads = 1, .rows = 7, .scale = Scale::queries},
      {.name = "one query", .rows = 1, .keys = 150, .mask = Mask::added},
      {.name = "one query, one key head", .heads = 8, .key_heads = 1, .rows = 1, .keys = 150},
      {.name = "keys transposed", .keys_transposed = true},
      {.name = "joined batch", .mask = Mask::added, .joined_batch = true},
      {.name = "batch of one", .batch = 1, .heads = 5, .key_heads = 5, .mask = Mask::selected, .not_a_number_is_zero = true},
      {.name = "named sizes", .batch = Dim::symbol("batch"), .rows = Dim::symbol("rows"), .keys = Dim::symbol("keys"), .mask = Mask::selected},
      {.name = "named sizes, joined", .batch = Dim::symbol("batch"), .rows = Dim::symbol("rows"), .keys = Dim::symbol("keys"), .joined_batch = true},
      {.name = "several blocks of keys", .heads = 2, .key_heads = 2, .rows = 31, .keys = 1100, .mask = Mask::selected},
      {.name = "long heads", .batch = 1, .heads = 2, .key_heads = 2, .head = 130, .value_head = 200},
      {.name = "half precision", .mask = Mask::added, .dtype = DType::f16},
      {.name = "bfloat16", .mask = Mask::causal, .dtype = DType::bf16},
  };
}

std::vector<Form> refused() {
  return {
      {.name = "scores are a result", .shows_scores = true}, {.name = "probabilities are a result", .shows_probabilities = true},
      {.name = "softmax over rows", .softmax_axis = 2},      {.name = "softmax over heads", .softmax_axis = 1},
      {.name = "double precision", .dtype = DType::f64},
  };
}

CompileOptions options_for(const std::string& target) {
  CompileOptions options;
  options.target = target;
  return options;
}

/// Targets that compute attention in one kernel.
class AttentionOn : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Targets, AttentionOn, ::testing::Values("native", "emulator:warp32", "emulator:warp64"),
                         [](const auto& target) { return std::regex_replace(target.param, std::regex(":"), "_"); });

TEST_P(AttentionOn, TakesWhatExportersWrite) {
  for (const Form& form : recognised()) {
    const Prepared model = scheduled(form, options_for(GetParam()));
    EXPECT_EQ(attention_kernels(model), 1) << form.name << "\n" << schedule::print(*model.block);
  }
}

TEST(FuseAttention, LeavesOtherChainsAlone) {
  for (const Form& form : refused()) EXPECT_EQ(attention_kernels(scheduled(form)), 0) << form.name;
}

/// Queries, keys and values of one input, with a scale that values do not have: slices of one product.
TEST(FuseAttention, ReadsSlicesOfOneProduct) {
  Graph graph;
  Builder b(graph);
  const ValueId x = b.input("x", {DType::f32, {1, 24, 32}});
  const auto heads_of = [&](const std::vector<int64_t>& order) {
    Tensor weights(DType::f32, {32, 32});
    for (int64_t i = 0; i < weights.element_count(); ++i) weights.set_float(i, static_cast<double>((i * 7 + order[2]) % 13) / 16 - 0.4);
    return b.transpose(b.reshape(b.matmul(x, b.constant(weights)), {1, 24, 2, 16}), order);
  };
  const ValueId scores = b.matmul(b.mul(heads_of({0, 2, 1, 3}), 0.5), b.mul(heads_of({0, 2, 3, 1}), 0.5));
  b.output(b.matmul(b.softmax(scores, 3), heads_of({0, 2, 1, 3})));
  merge_products(graph, {}, nullptr);
  const schedule::Block block = schedule_model(lower(graph), {});
  EXPECT_EQ(std::count_if(block.kernels.begin(), block.kernels.end(), schedule::is_attention), 1) << schedule::print(block);
  EXPECT_EQ(block.kernels.size(), 2u) << schedule::print(block);
}

TEST(FuseAttention, CanBeSwitchedOff) {
  CompileOptions options;
  options.disabled_passes = {"fuse_attention"};
  EXPECT_EQ(attention_kernels(scheduled({.name = "plain"}, options)), 0);
}

TEST(FuseAttention, GpusLeaveWhatTheirRegistersDoNotHold) {
  EXPECT_EQ(attention_kernels(scheduled({.name = "long values", .value_head = 260})), 1);
  EXPECT_EQ(attention_kernels(scheduled({.name = "long values", .value_head = 260}, options_for("emulator:warp32"))), 0);
}

/// Named sizes take small primes; a mask keeps two keys of three, and none for some rows.
std::vector<Tensor> inputs_of(const Graph& graph, std::mt19937& random) {
  std::vector<Tensor> inputs;
  std::map<std::string, int64_t> sizes = {{"batch", 2}, {"rows", 29}, {"keys", 37}};
  std::normal_distribution<double> normal;
  for (const ValueId id : graph.inputs) {
    std::vector<int64_t> dims;
    for (const Dim& dim : graph.type(id).dims) dims.push_back(dim.evaluate(sizes));
    Tensor tensor(graph.type(id).dtype, dims);
    for (int64_t i = 0; i < tensor.element_count(); ++i) {
      if (is_float(tensor.dtype()))
        tensor.set_float(i, normal(random));
      else if (tensor.dtype() == DType::boolean)
        tensor.set_int(i, i / dims.back() % 5 != 0 && random() % 3 != 0);
      else
        tensor.set_int(i, 1 + static_cast<int64_t>(random() % 23));
    }
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

TEST(FuseAttention, MultipliesBfloatsWhereTheTargetIsFastAtThem) {
  const auto text = [](const Form& form, const std::string& target) {
    const Prepared model = scheduled(form, options_for(target));
    std::string all;
    for (const schedule::Kernel& kernel : model.block->kernels) all += emit_kernel(*model.block, kernel, find_target(target));
    return all;
  };
  const auto on_tiles = [&](const Form& form, const std::string& target) { return text(form, target).find("tile::AmxAttentionBlocks<") != std::string::npos; };
  for (const std::string target : {"emulator:amx", "cpu:sapphirerapids-amx"}) {
    EXPECT_TRUE(on_tiles({.name = "bfloats", .dtype = DType::bf16}, target));
    EXPECT_FALSE(on_tiles({.name = "floats"}, target));
    EXPECT_FALSE(on_tiles({.name = "halves", .dtype = DType::f16}, target));
  }
  EXPECT_FALSE(on_tiles({.name = "bfloats", .dtype = DType::bf16}, "cpu:sapphirerapids"));
  const auto by_dots = [&](const Form& form, const std::string& target) {
    const std::string all = text(form, target);
    return all.find("tile::AttentionBlocks<") != std::string::npos && all.find(", tile::BfloatPair>>({") != std::string::npos;
  };
  EXPECT_TRUE(by_dots({.name = "bfloats", .dtype = DType::bf16}, "cpu:znver4"));
  EXPECT_FALSE(by_dots({.name = "bfloats", .dtype = DType::bf16}, "cpu:sapphirerapids"));
  EXPECT_FALSE(by_dots({.name = "floats"}, "cpu:znver4"));
  EXPECT_FALSE(by_dots({.name = "halves", .dtype = DType::f16}, "cpu:znver4"));
}

/// What `options` makes of the forms, beside the interpreter's results.
void expect_interpreted(const std::vector<Form>& forms, const CompileOptions& options, std::mt19937& random) {
  std::vector<Prepared> prepared;
  for (const Form& form : forms) prepared.push_back(scheduled(form, options));
  const ScratchFolder folder(std::filesystem::temp_directory_path());
  const std::string library = folder.path() / "attention.so";
  build_models(prepared, library, options);
  for (size_t i = 0; i < forms.size(); ++i) {
    const std::vector<Tensor> inputs = inputs_of(prepared[i].imported, random);
    const std::vector<Tensor> expected = pattern::interpret(lower(prepared[i].imported), inputs);
    const Model model = open_model(library, static_cast<int>(i));
    for (const int threads : {1, 3}) {
      Context context = open_context(model, threads);
      const std::vector<Tensor> actual = run_model(context, model, inputs);
      ASSERT_EQ(actual.size(), 1u);
      double scale = 0;
      for (int64_t e = 0; e < expected[0].element_count(); ++e)
        if (!std::isnan(expected[0].float_at(e))) scale = std::max(scale, std::abs(expected[0].float_at(e)));
      const Comparison result = compare(actual[0], expected[0], network_tolerance(forms[i].dtype, rounding_steps(prepared[i].imported), scale));
      EXPECT_TRUE(result.same) << forms[i].name << ": " << result.reason;
    }
  }
}

TEST_P(AttentionOn, GivesWhatTheInterpreterGives) {
  std::mt19937 random(5);
  std::vector<Form> forms = recognised();
  for (int i = 0; i < 8; ++i) {
    Form form{.name = "random " + std::to_string(i)};
    const auto up_to = [&](int most) { return static_cast<int64_t>(random() % static_cast<unsigned>(most)) + 1; };
    form.batch = up_to(3);
    form.key_heads = up_to(3);
    form.heads = form.key_heads * Dim(up_to(3));
    form.rows = up_to(60);
    form.keys = up_to(600);
    form.head = 8 + up_to(90);
    form.value_head = 8 + up_to(90);
    form.scale = static_cast<Form::Scale>(random() % 4);
    form.mask = static_cast<Form::Mask>(random() % 5);
    form.heads_apart = random() % 2 == 0;
    form.keys_transposed = random() % 2 == 0;
    form.joined_batch = random() % 2 == 0;
    form.not_a_number_is_zero = random() % 2 == 0;
    forms.push_back(form);
  }
  expect_interpreted(forms, options_for(GetParam()), random);
}

/// Targets that are fast at bfloats.
class AttentionOfBfloatsOn : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Targets, AttentionOfBfloatsOn, ::testing::Values("emulator:amx", "cpu:sapphirerapids-amx", "cpu:znver4"),
                         [](const auto& target) { return std::regex_replace(target.param, std::regex("[:-]"), "_"); });

TEST_P(AttentionOfBfloatsOn, GivesWhatTheInterpreterGives) {
  if (!runs_here(find_target(GetParam()))) GTEST_SKIP() << "this machine lacks what " << GetParam() << " is compiled with";
  using Mask = Form::Mask;
  const std::vector<Form> forms = {
      {.name = "one block of keys", .mask = Mask::causal, .dtype = DType::bf16},
      {.name = "several blocks of keys", .heads = 1, .key_heads = 1, .rows = 35, .keys = 600, .mask = Mask::selected, .dtype = DType::bf16},
      {.name = "keys transposed, odd heads", .rows = 40, .head = 85, .value_head = 50, .keys_transposed = true, .dtype = DType::bf16},
      {.name = "named sizes", .batch = Dim::symbol("batch"), .rows = Dim::symbol("rows"), .keys = Dim::symbol("keys"), .dtype = DType::bf16},
  };
  CompileOptions options = options_for(GetParam());
  options.build.optimisation = 1;
  std::mt19937 random(6);
  expect_interpreted(forms, options, random);
}

}  // namespace
}  // namespace tilewright
