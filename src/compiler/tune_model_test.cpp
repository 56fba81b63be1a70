#include "compiler/tune_model.h"

#include <gmock/gmock.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "compiler/testing.h"
#include "compiler/tuned_choices.h"

namespace tilewright::compiler_testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

class TunedCompile : public ::testing::Test {
 protected:
  ScratchFolder folder{fs::temp_directory_path()};
  CompileOptions options;

  TunedCompile() {
    { const tune::Database created(folder.path() / "tuning.sqlite"); }
    options.tuning.database = folder.path() / "tuning.sqlite";
    options.tuning.threads = 2;
    options.stop_after = "emit";
  }
  tune::Place place() const { return tune::this_place(find_target("native"), 2, options.build); }

  /// The configurations that a compile with these options plans, by kernel with a choice.
  std::vector<schedule::KernelConfig> planned(CompileReport* report = nullptr) const {
    std::vector<Prepared> models;
    models.push_back(prepare(digits(), options));
    const CompileReport result = build_models(models, folder.path() / "never.so", options);
    if (report != nullptr) *report = result;
    std::vector<schedule::KernelConfig> configs;
    for (const schedule::Kernel& kernel : models[0].block->kernels)
      if (const std::optional<schedule::KernelConfig> config = schedule::decided(kernel)) configs.push_back(*config);
    return configs;
  }

  /// Chooses the second configuration of every kernel.
  void choose_seconds() const {
    tune::Database database(options.tuning.database);
    for (const tune::Subject& subject : tuning_subjects(digits(), options))
      database.choose(place(), tune::key_of(subject.space), {schedule::print(subject.space.configs[1]), 0.9, 1});
  }
};

TEST_F(TunedCompile, TakesWhatTheDatabaseChose) {
  const auto before = planned();
  ASSERT_EQ(before.size(), 3U);
  choose_seconds();
  CompileReport report;
  const auto after = planned(&report);
  ASSERT_EQ(after.size(), 3U);
  for (size_t i = 0; i < 3; ++i) EXPECT_NE(after[i], before[i]);
  EXPECT_EQ(report.tuned, 3);
  EXPECT_EQ(report.untuned, 0);
}

TEST_F(TunedCompile, OtherThreadsAreAnotherMachine) {
  const auto before = planned();
  choose_seconds();
  options.tuning.threads = 1;
  CompileReport report;
  planned(&report);
  EXPECT_EQ(report.tuned, 0);
  EXPECT_EQ(report.untuned, 3);
}

TEST_F(TunedCompile, AMissIsAnErrorWhereAskedFor) {
  options.tuning.must_know = true;
  try {
    planned();
    ADD_FAILURE();
  } catch (const Error& problem) {
    EXPECT_EQ(problem.kind(), ErrorKind::environment);
    EXPECT_THAT(problem.what(), HasSubstr("tilewright tune"));
  }
  choose_seconds();
  EXPECT_EQ(planned().size(), 3U);
}

TEST_F(TunedCompile, AModelThatIsFasterUntunedStaysSo) {
  const auto before = planned();
  choose_seconds();
  tune::Database(options.tuning.database).choose_model(place(), model_key(options, sha256_of_file(digits(), 1 << 30)), {false, "", 1});
  EXPECT_EQ(planned(), before);
}

TEST_F(TunedCompile, PassesThatAModelIsFasterWithoutAreLeftOut) {
  tune::Database(options.tuning.database).choose_model(place(), model_key(options, sha256_of_file(digits(), 1 << 30)), {true, "choose_layouts", 0.9});
  EXPECT_LT(planned().size(), 3U) << "channels first, its convolutions are no products of rows";
}

TEST_F(TunedCompile, TuningMeasuresOnceAndDecidesOnTheWhole) {
  tune::TuneOptions search;
  search.mode = tune::Mode::fast;
  search.measure = {space_options(options), options.build, 0.05};
  tune::Database database(options.tuning.database);
  options.stop_after.clear();
  const ModelTuning first = tune_model(digits(), options, search, database);
  EXPECT_GT(first.search.measured, 0);
  ASSERT_GE(first.variants.size(), 2U);
  EXPECT_EQ(first.variants[0].name, "untuned");
  EXPECT_EQ(first.variants[0].ratio, 1);
  for (const ModelVariant& variant : first.variants) {
    if (variant.name != first.chosen) continue;
    EXPECT_LE(variant.ratio, 1) << "a tuned model is never slower than the untuned one";
  }
  const ModelTuning second = tune_model(digits(), options, search, database);
  EXPECT_EQ(second.search.measured, 0);
  EXPECT_TRUE(second.variants.empty()) << "nothing is measured again";
  options.stop_after = "emit";
  CompileReport report;
  planned(&report);
  EXPECT_EQ(report.untuned, 0);
}

/// A model for a GPU takes what was measured on one, also where there is none.
TEST_F(TunedCompile, AGpusChoicesAreTakenWhereThereIsNoGpu) {
  options.target = "cuda:sm_80";
  if (tune::device_is_here(find_target(options.target))) GTEST_SKIP() << "this machine's own measurements count";
  const auto before = planned();
  ASSERT_EQ(before.size(), 3U);
  {
    tune::Database database(options.tuning.database);
    const tune::Place away{tune::machine_fingerprint("some GPU", find_target(options.target), 2), "nvcc of there"};
    for (const tune::Subject& subject : tuning_subjects(digits(), options)) {
      const tune::Measurement measured{schedule::print(subject.space.configs[1]), tune::Measurement::Status::good, 0.9, 1e-5, 0, 9, {}};
      database.add(away, tune::key_of(subject.space), {measured});
      database.choose(away, tune::key_of(subject.space), {measured.config, 0.9, 1});
    }
  }
  CompileReport report;
  const auto after = planned(&report);
  ASSERT_EQ(after.size(), 3U);
  for (size_t i = 0; i < 3; ++i) EXPECT_NE(after[i], before[i]);
  EXPECT_EQ(report.tuned, 3);
  EXPECT_EQ(report.untuned, 0);
}

TEST_F(TunedCompile, WithoutAGpuNothingIsMeasuredForIt) {
  options.target = "cuda:sm_80";
  if (tune::device_is_here(find_target(options.target))) GTEST_SKIP() << "there is a GPU";
  tune::Database database(options.tuning.database);
  try {
    tune_model(digits(), options, {}, database);
    ADD_FAILURE();
  } catch (const Error& problem) {
    EXPECT_EQ(problem.kind(), ErrorKind::environment);
    EXPECT_THAT(problem.what(), AllOf(HasSubstr("no GPU"), HasSubstr("--emit")));
  }
}

TEST_F(TunedCompile, AMachineThatIsNotThisOneIsTunedAtADistance) {
  options.target = "cpu:aarch64";
  tune::Database database(options.tuning.database);
  try {
    tune_model(digits(), options, {}, database);
    ADD_FAILURE();
  } catch (const Error& problem) {
    EXPECT_EQ(problem.kind(), ErrorKind::unsupported);
    EXPECT_THAT(problem.what(), HasSubstr("--emit"));
  }
}

}  // namespace
}  // namespace tilewright::compiler_testing
