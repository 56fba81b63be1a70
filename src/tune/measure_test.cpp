#include "tune/measure.h"

#include <gmock/gmock.h>

#include "base/error.h"
#include "base/file.h"
#include "base/process.h"
#include "target/testing/layers.h"
#include "tune/runner/machine.h"
#include "tune/tuner.h"

namespace tilewright::tune {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::Layer;

class Measuring : public ::testing::Test {
 protected:
  ScratchFolder folder{fs::temp_directory_path()};
  const Target& target = find_target("native");
  TuneOptions options;
  Place place = this_place(target, 2, {});

  Measuring() {
    options.measure.space.threads = 2;
    options.measure.seconds = 0.05;
    options.mode = Mode::fast;
  }

  std::vector<Subject> subjects(const Layer& layer) const {
    return find_subjects(std::make_shared<schedule::Block>(testing::block_of(layer)), target, options.measure.space);
  }
};

TEST_F(Measuring, CandidatesAgreeAndAreTimedAgainstTheDefault) {
  const std::vector<Subject> all = subjects({"layer", 1, 16, 40, 9, 3});
  ASSERT_EQ(all.size(), 1U);
  const auto& configs = all[0].space.configs;
  const auto results = measure({{&all[0], {configs[0], configs[1], configs.back()}}}, target, options.measure);
  ASSERT_EQ(results.size(), 1U);
  ASSERT_EQ(results[0].size(), 3U);
  EXPECT_EQ(results[0][0].ratio, 1);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(results[0][i].status, Measurement::Status::good);
    EXPECT_GE(results[0][i].rounds, 3);
    EXPECT_GT(results[0][i].seconds, 0);
    EXPECT_LE(results[0][i].error, promised_error(144, DType::f32));
    EXPECT_FALSE(results[0][i].features.empty());
  }
  EXPECT_EQ(results[0][2].config, schedule::print(configs.back()));
}

TEST_F(Measuring, ASecondSearchMeasuresNothing) {
  const std::vector<Subject> all = subjects({"layer", 1, 16, 40, 9, 3});
  Database database(folder.path() / "tuning.sqlite");
  const TuneResult first = tune_kernels(all, target, place, database, options), second = tune_kernels(all, target, place, database, options);
  EXPECT_GT(first.measured, 0);
  EXPECT_TRUE(first.finished);
  EXPECT_EQ(second.measured, 0);
  EXPECT_LT(second.seconds, 2);
  ASSERT_EQ(second.kernels.size(), 1U);
  EXPECT_EQ(second.kernels[0].chosen, first.kernels[0].chosen);
  EXPECT_EQ(database.choice(place, key_of(all[0].space))->config, first.kernels[0].chosen);
}

TEST_F(Measuring, AnInterruptKeepsWhatWasLearnedAndTheNextSearchGoesOn) {
  options.measure.space.threads = 1;
  const std::vector<Subject> all = subjects({"layer", 5, 33, 50, 0});
  ASSERT_EQ(all.size(), 1U);
  Database database(folder.path() / "tuning.sqlite");
  bool stop = false;
  options.mode = Mode::all;
  options.measure.build.cancelled = [&] { return stop; };
  options.progress = [&](const Progress& progress) { stop = progress.measured > 0; };
  const TuneResult stopped = tune_kernels(all, target, place, database, options);
  EXPECT_FALSE(stopped.finished);
  const size_t kept = database.all().size();
  EXPECT_GT(kept, 1U);
  EXPECT_LT(kept, all[0].space.configs.size());
  stop = false;
  options.progress = nullptr;
  const TuneResult rest = tune_kernels(all, target, place, database, options);
  EXPECT_TRUE(rest.finished);
  EXPECT_LE(static_cast<size_t>(rest.measured), all[0].space.configs.size() - kept + 2) << "what was measured is not measured again";
  EXPECT_EQ(database.all().size(), all[0].space.configs.size());
}

TEST_F(Measuring, OnlyKernelsThatWereAskedForAreSearched) {
  const std::vector<Subject> all = subjects({"layer", 1, 16, 40, 9, 3});
  Database database(folder.path() / "tuning.sqlite");
  options.kernels = "other";
  EXPECT_EQ(tune_kernels(all, target, place, database, options).kernels.size(), 0U);
  options.kernels = "(";
  EXPECT_THROW(tune_kernels(all, target, place, database, options), Error);
}

/// What another machine does: make, a compiler and the folder alone. Then its results are taken, and a wrong one is not chosen.
TEST_F(Measuring, ResultsFromElsewhereAreTakenAndWrongOnesRefused) {
  const std::vector<Subject> all = subjects({"layer", 13, 33, 50, 0});
  ASSERT_EQ(all.size(), 1U);
  Database database(folder.path() / "tuning.sqlite");
  const std::vector<Trial> trials = trials_for(all, target, place, database, options, 3);
  emit_trials(trials, target, options.measure, folder.path() / "away");
  const ProcessResult built = run_process({"sh", (folder.path() / "away/measure.sh").string()});
  ASSERT_EQ(built.exit_code, 0) << built.output;
  const std::string results = read_file(folder.path() / "away/results.txt");
  const Ingested taken = ingest(folder.path() / "away/results.txt", database);
  EXPECT_EQ(taken.count, 4);
  EXPECT_EQ(taken.place.machine, place.machine);
  EXPECT_EQ(database.measurements(place, key_of(all[0].space)).size(), 4U) << "this machine is that machine, so it is found here";

  // The second model's error is far from rounding.
  std::string spoilt = results;
  const size_t line = spoilt.find("\nresult 1 ");
  ASSERT_NE(line, std::string::npos);
  const size_t end = spoilt.find('\n', line + 1);
  write_file(folder.path() / "spoilt.txt", spoilt.substr(0, line) + "\nresult 1 0.1 0.000001 9 0.01 0.5 ." + spoilt.substr(end));
  Database other(folder.path() / "other.sqlite");
  ingest(folder.path() / "spoilt.txt", other);
  int wrong = 0;
  for (const Measurement& m : other.measurements(place, key_of(all[0].space))) wrong += m.status == Measurement::Status::wrong ? 1 : 0;
  EXPECT_EQ(wrong, 1);
  choose_best(all, place, other);
  ASSERT_TRUE(other.choice(place, key_of(all[0].space)));
  EXPECT_NE(other.choice(place, key_of(all[0].space))->ratio, 0.1) << "a wrong result is never chosen, however fast";

  for (const std::string& bad : {std::string("hello\n"), std::string(), results.substr(0, results.find('\n') + 1), results + "result 99 1 1 1 0 0 .\n"}) {
    write_file(folder.path() / "bad.txt", bad);
    EXPECT_THROW(ingest(folder.path() / "bad.txt", other), Error) << bad;
  }
}

/// What kernels for GPUs go through, here in their emulator.
TEST(MeasuringSimt, CandidatesRunInTheEmulatorAndAgree) {
  const Target& target = find_target("emulator:warp32");
  MeasureOptions options;
  options.seconds = 0.05;
  const Layer layer{"layer", 40, 48, 64, 0, 1, 1, 1, DType::f16};
  const auto all = find_subjects(std::make_shared<schedule::Block>(schedule::schedule(testing::program_of(layer), {})), target, options.space);
  ASSERT_EQ(all.size(), 1U);
  const auto& configs = all[0].space.configs;
  const auto results = measure({{&all[0], {configs[0], configs[1], configs.back()}}}, target, options);
  for (const Measurement& m : results.at(0)) {
    EXPECT_EQ(m.status, Measurement::Status::good) << m.config;
    EXPECT_GE(m.rounds, 3);
    EXPECT_EQ(m.features.size(), feature_count);
  }
  EXPECT_EQ(results[0][2].config, schedule::print(configs.back()));
}

/// The folder for a GPU's machine, results as its runner would write them, and where they are found again.
TEST(MeasuringSimt, AGpusResultsComeFromElsewhere) {
  const Target& target = find_target("cuda:sm_80");
  const ScratchFolder folder(fs::temp_directory_path());
  const Layer layer{"layer", 256, 512, 512, 0, 1, 1, 1, DType::f16};
  TuneOptions options;
  options.measure.space.threads = 2;
  const auto all = find_subjects(std::make_shared<schedule::Block>(schedule::schedule(testing::program_of(layer), {})), target, options.measure.space);
  ASSERT_EQ(all.size(), 1U);
  Database database(folder.path() / "tuning.sqlite");
  const std::vector<Trial> trials = trials_for(all, target, this_place(target, 2, {}), database, options, 2);
  ASSERT_EQ(trials.at(0).configs.size(), 3U);
  emit_trials(trials, target, options.measure, folder.path() / "away");
  EXPECT_THAT(read_file(folder.path() / "away/Makefile"), HasSubstr("nvcc"));
  EXPECT_THAT(read_file(folder.path() / "away/job.txt"), HasSubstr("device cuda\n"));
  EXPECT_THAT(read_file(folder.path() / "away/measure.sh"), HasSubstr("nvcc --version"));

  const std::string header = read_file(folder.path() / "away/trials.json");
  const std::string results =
      "compiler release 12\nmachine NVIDIA A100, 108 multiprocessors, 1410 MHz, driver 12040\n"
      "result 0 1.00000 0.000010 9 0 0 .\nresult 1 0.80000 0.000008 9 1e-5 1e-3 .\nresult 2 1.20000 0.000012 9 1e-5 1e-3 .\n";
  write_file(folder.path() / "results.txt", header + results);
  const Ingested taken = ingest(folder.path() / "results.txt", database);
  EXPECT_EQ(taken.count, 3);
  EXPECT_EQ(taken.place.machine, "NVIDIA A100, 108 multiprocessors, 1410 MHz, driver 12040, cuda:sm_80");
  choose_best(all, taken.place, database);
  const auto choice = database.choice(taken.place, key_of(all[0].space));
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->config, schedule::print(trials[0].configs[1]));
  if (device_is_here(target)) GTEST_SKIP() << "a machine with such a GPU is its own place";
  EXPECT_EQ(place_of_choices(database, target, 2, {}).machine, taken.place.machine);
  EXPECT_EQ(place_of_choices(database, target, 7, {}).machine, taken.place.machine) << "a GPU's kernels do not depend on the host's threads";
  EXPECT_EQ(place_of_choices(database, find_target("cuda:sm_90a"), 2, {}).machine, "no GPU, cuda:sm_90a") << "another target's measurements are none of its";
}

TEST(Fingerprint, NamesMachineTargetAndThreads) {
  const std::string text = machine_fingerprint("some CPU, caches 48K 2M 32M", find_target("cpu:x86-64-v3"), 4);
  EXPECT_EQ(text, "some CPU, caches 48K 2M 32M, cpu:x86-64-v3, 4 threads");
  EXPECT_THAT(describe_machine(), HasSubstr("caches"));
}

}  // namespace
}  // namespace tilewright::tune
