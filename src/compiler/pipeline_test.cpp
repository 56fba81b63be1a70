#include "compiler/pipeline.h"

#include <gmock/gmock.h>

#include "artifact/compare.h"
#include "artifact/run.h"
#include "base/error.h"
#include "base/file.h"
#include "compiler/testing.h"
#include "pass/pass.h"
#include "op/op.h"
#include "op/rounding.h"
#include "pattern/interpreter.h"

namespace tilewright::compiler_testing {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::string error_of(const CompileOptions& options) {
  try {
    prepare(digits(), options);
  } catch (const Error& problem) {
    return problem.kind() == ErrorKind::invalid_input ? problem.what() : std::string("another kind: ") + problem.what();
  }
  return "no error";
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(Passes, UnknownNamesAreRefusedWithTheListOfThose) {
  CompileOptions options;
  options.disabled_passes = {"simplify", "spin"};
  const std::string message = error_of(options);
  EXPECT_THAT(message, HasSubstr("there is no pass 'spin'"));
  for (const auto& [name, summary] : pass_names()) EXPECT_THAT(message, HasSubstr(name));
  options.disabled_passes = {"import"};  // a stage, but none that can be left out
  EXPECT_THAT(error_of(options), HasSubstr("there is no pass 'import'"));
}

TEST(Passes, HaveDistinctNamesAndASummary) {
  std::set<std::string> seen;
  for (const auto& [name, summary] : pass_names()) {
    EXPECT_TRUE(seen.insert(name).second) << name;
    EXPECT_NE(summary, "") << name;
  }
}

TEST(Stages, BeforeTheScheduleThereAreNoKernelsToExplain) {
  CompileOptions options;
  options.explain = true;
  for (const char* stage : {"import", "optimise", "lower"}) {
    options.stop_after = stage;
    EXPECT_THAT(compile(digits(), "", options).explanation, HasSubstr("nothing more to explain before 'schedule'")) << stage;
  }
  options.stop_after = "schedule";
  EXPECT_THAT(compile(digits(), "", options).explanation, testing::Not(HasSubstr("nothing more")));
}

TEST(Stages, UnknownNamesAreRefusedWithTheListOfThose) {
  CompileOptions options;
  options.stop_after = "later";
  const std::string message = error_of(options);
  EXPECT_THAT(message, HasSubstr("there is no stage 'later'"));
  for (const char* stage : {"import", "optimise", "simplify", "lower", "schedule", "emit"}) EXPECT_THAT(message, HasSubstr(stage));
  EXPECT_THAT(message, testing::Not(HasSubstr("fuse_maps")));  // scheduling is one stage
  options.stop_after = "fuse_maps";
  EXPECT_THAT(error_of(options), HasSubstr("there is no stage 'fuse_maps'"));
}

/// Files of a dump of everything but `off`, up to and with stage `last`.
std::vector<std::string> dumps_until(const std::string& last, const std::string& off = "") {
  std::vector<std::string> files;
  bool reached = false;
  const auto add = [&](const std::string& stage, const char* kind) {
    if (!reached && stage != off) files.push_back(fmt::format("{:02}_{}.{}", files.size() + 1, stage, kind));
    reached |= stage == last;
  };
  add("import", "graph");
  for (const GraphPass& one : graph_passes()) add(std::string(one.name), "graph");
  reached |= last == "optimise";
  add("lower", "patterns");
  for (const char* rewrite : {"fuse_maps", "fuse_epilogues", "drop_roundings", "split_phases", "choose_layouts"}) add(rewrite, "patterns");
  add("schedule", "schedule");
  return files;
}

TEST(Stages, NothingRunsBehindTheOneToStopAfter) {
  const auto stopped = [](const std::string& stage) {
    const ScratchFolder folder(fs::temp_directory_path());
    CompileOptions options;
    options.dump_dir = folder.path();
    options.stop_after = stage;
    const Prepared model = prepare(digits(), options);
    EXPECT_EQ(model.block != nullptr, stage == "schedule") << stage;
    return names_in(folder.path());
  };
  for (const char* stage : {"import", "simplify_control", "optimise", "lower", "schedule"}) EXPECT_EQ(stopped(stage), dumps_until(stage));
}

TEST(Stages, APassThatIsSwitchedOffIsNoPlaceToStopAfter) {
  CompileOptions options;
  options.stop_after = "simplify";
  options.disabled_passes = {"simplify"};
  EXPECT_THAT(error_of(options), HasSubstr("'simplify' is switched off"));
}

TEST(Dumps, AreNumberedTextsThatReadBack) {
  const ScratchFolder folder(fs::temp_directory_path());
  CompileOptions options;
  options.dump_dir = folder.path() / "deep" / "er";
  options.disabled_passes = {"fold_affine"};
  prepare(digits(), options);
  const std::vector<std::string> files = dumps_until("schedule", "fold_affine");
  EXPECT_EQ(names_in(options.dump_dir), files);
  EXPECT_THAT(read_file(options.dump_dir / "01_import.graph"), testing::StartsWith("graph \""));
  EXPECT_THAT(read_file(options.dump_dir / files.at(files.size() - 2)), testing::StartsWith("program \""));
}

TEST(Dumps, AFolderThatCannotBeMadeIsTheEnvironmentsFault) {
  CompileOptions options;
  options.dump_dir = digits() / "below_a_file";
  EXPECT_THAT(error_of(options), HasSubstr("another kind: cannot create the dump folder"));
}

/// A compiled model beside what the interpreter makes of the imported graph.
struct Checked {
  std::string what;
  Graph imported;
  std::vector<Tensor> inputs, expected;
};

/// One library of every model with every pass off alone, and with all off; kernels that are equal are built once.
TEST(Passes, EachCanBeSwitchedOffAlone) {
  std::vector<fs::path> models = {digits()};
  for (const char* name : {"node/test_loop11", "node/test_layer_normalization_3d_axis1_epsilon_expanded"})
    if (const fs::path model = conformance_data() / name / "model.onnx"; fs::exists(model)) models.push_back(model);
  std::vector<std::set<std::string>> choices(1);
  for (const auto& [name, summary] : pass_names()) {
    choices.push_back({name});
    choices[0].insert(name);
  }
  std::vector<Prepared> prepared;
  std::vector<Checked> checked;
  for (const fs::path& model : models)
    for (const std::set<std::string>& disabled : choices) {
      CompileOptions options;
      options.disabled_passes = disabled;
      options.verify_between_passes = true;
      prepared.push_back(prepare(model, options));
      Checked one{fmt::format("{} without {}", model.parent_path().filename().string(), fmt::join(disabled, ", ")), prepared.back().imported, {}, {}};
      one.inputs = random_inputs(one.imported);
      one.expected = pattern::interpret(lower(one.imported), one.inputs);
      checked.push_back(std::move(one));
    }
  const ScratchFolder folder(fs::temp_directory_path());
  const std::string library = folder.path() / "models.so";
  build_models(prepared, library, {});
  for (size_t i = 0; i < checked.size(); ++i) {
    const Model model = open_model(library, static_cast<int>(i));
    Context context = open_context(model, 1);
    const std::vector<Tensor> actual = run_model(context, model, checked[i].inputs);
    ASSERT_EQ(actual.size(), checked[i].expected.size()) << checked[i].what;
    const double steps = rounding_steps(checked[i].imported);
    for (size_t k = 0; k < actual.size(); ++k) {
      double scale = 0;
      for (int64_t e = 0; e < checked[i].expected[k].element_count(); ++e) scale = std::max(scale, std::abs(checked[i].expected[k].float_at(e)));
      const Comparison result = compare(actual[k], checked[i].expected[k], network_tolerance(actual[k].dtype(), steps, scale));
      EXPECT_TRUE(result.same) << checked[i].what << ": " << result.reason;
    }
  }
}

}  // namespace
}  // namespace tilewright::compiler_testing
