#include "tune/database.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <random>

#include "base/error.h"
#include "base/file.h"

namespace tilewright::tune {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

const Place here{"this CPU, cpu:x86-64-v4, 2 threads", "g++ 12"}, there{"another CPU, cpu:x86-64-v4, 2 threads", "g++ 12"};
const KernelKey kernel{"matrix f32", "batch=1 line=56 n=64 k=64"};

const std::vector<float> some_features(feature_count, 0.5F);

Measurement measured(const std::string& config, double ratio) { return {config, Measurement::Status::good, ratio, 1e-3 * ratio, 1e-7, 5, some_features}; }

const std::string six = "method=rows block=6x4 split=automatic panels=512K strips=768K ahead=on", eight = "method=winograd block=8x2";

class TuningDatabase : public ::testing::Test {
 protected:
  ScratchFolder folder{fs::temp_directory_path()};
  fs::path file = folder.path() / "tuning.sqlite";
};

TEST_F(TuningDatabase, KeepsMeasurementsByPlaceAndKernelFastestFirst) {
  {
    Database database(file);
    database.add(here, kernel, {measured(six, 1), measured(eight, 0.8)});
    database.add(there, kernel, {measured(six, 0.5)});
  }
  const Database again(file);
  const auto found = again.measurements(here, kernel);
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].config, eight);
  EXPECT_EQ(found[0].ratio, 0.8);
  EXPECT_EQ(found[0].rounds, 5);
  EXPECT_EQ(found[0].features, some_features);
  EXPECT_EQ(again.measurements({here.machine, "g++ 13"}, kernel).size(), 0U);
  EXPECT_EQ(again.measurements({here.machine, here.compiler, space_version + 1}, kernel).size(), 0U);
}

TEST_F(TuningDatabase, ANewMeasurementReplacesTheOldOne) {
  Database database(file);
  database.add(here, kernel, {measured(six, 1)});
  database.add(here, kernel, {measured(six, 0.9)});
  ASSERT_EQ(database.measurements(here, kernel).size(), 1U);
  EXPECT_EQ(database.measurements(here, kernel)[0].ratio, 0.9);
}

TEST_F(TuningDatabase, NearShapesHelpAndFarOnesDoNot) {
  Database database(file);
  database.choose(here, {"matrix f32", "batch=1 line=56 n=64 k=64"}, {six, 0.9, 1});
  database.choose(here, {"matrix f32", "batch=1 line=56 n=64 k=96"}, {eight, 0.8, 1});
  const auto near = [&](const std::string& shape) { return database.near_choice(here, {"matrix f32", shape}); };
  ASSERT_TRUE(near("batch=1 line=56 n=64 k=64"));
  EXPECT_EQ(near("batch=1 line=56 n=64 k=64")->thoroughness, 1);
  EXPECT_EQ(near("batch=1 line=56 n=64 k=90")->config, eight);
  EXPECT_EQ(near("batch=1 line=56 n=64 k=90")->thoroughness, 0) << "what was measured for another shape is no full search of this one";
  EXPECT_FALSE(near("batch=1 line=56 n=1024 k=1024"));
  EXPECT_FALSE(near("batch=1 line=56 n=64"));
  EXPECT_FALSE(database.near_choice(here, {"windows f32", "batch=1 line=56 n=64 k=64"}));
  EXPECT_FALSE(database.choice(here, {"matrix f32", "batch=1 line=56 n=64 k=90"}));
}

TEST_F(TuningDatabase, ModelsKeepTheirDecision) {
  Database database(file);
  EXPECT_FALSE(database.model_choice(here, "m"));
  database.choose_model(here, "m", {false, "choose_layouts,winograd", 0.9});
  ASSERT_TRUE(database.model_choice(here, "m"));
  EXPECT_FALSE(database.model_choice(here, "m")->tuned);
  EXPECT_EQ(database.model_choice(here, "m")->disabled, "choose_layouts,winograd");
}

TEST_F(TuningDatabase, ExportImportAndMergeGiveTheSameRows) {
  Database database(file);
  database.add(here, kernel, {measured(six, 1), measured(eight, 0.8)});
  database.choose(here, kernel, {eight, 0.8, 0.5});
  database.export_to(folder.path() / "out.jsonl");
  Database imported(folder.path() / "b.sqlite"), merged(folder.path() / "c.sqlite");
  merged.choose(here, kernel, {six, 0.7, 1});
  EXPECT_EQ(imported.import_from(folder.path() / "out.jsonl"), 2);
  EXPECT_EQ(merged.merge(database), 2);
  for (const Database* one : {&imported, &merged}) {
    ASSERT_EQ(one->all().size(), 2U);
    EXPECT_EQ(one->measurements(here, kernel)[0].features, some_features);
  }
  EXPECT_EQ(imported.choice(here, kernel)->config, eight);
  EXPECT_EQ(merged.choice(here, kernel)->config, six) << "the more thorough choice stays";
}

TEST_F(TuningDatabase, WhatItKnowsIsNotReplacedByAnImport) {
  Database database(file), other(folder.path() / "b.sqlite");
  database.add(here, kernel, {measured(six, 0.9)});
  other.add(here, kernel, {measured(six, 0.1)});
  database.merge(other);
  EXPECT_EQ(database.measurements(here, kernel)[0].ratio, 0.9);
}

TEST_F(TuningDatabase, ABadLineImportsNothing) {
  Database database(file), other(folder.path() / "b.sqlite");
  other.add(here, kernel, {measured(six, 1), measured(eight, 0.8)});
  other.export_to(folder.path() / "good.jsonl");
  const std::string good = read_file(folder.path() / "good.jsonl");
  for (const std::string& bad :
       {good + "{\"signature\": 3}\n", good + "not json\n", std::string(), std::string("{\"tilewright tuning\": 99}\n"),
        good + R"({"machine":"m","compiler":"c","space":1,"signature":"s","shape":"n=1","form":"","choice":"rm -rf","ratio":1,"thoroughness":1})" + "\n"}) {
    write_file(folder.path() / "bad.jsonl", bad);
    try {
      database.import_from(folder.path() / "bad.jsonl");
      ADD_FAILURE() << bad;
    } catch (const Error& problem) {
      EXPECT_EQ(problem.kind(), ErrorKind::invalid_input);
      EXPECT_THAT(problem.what(), HasSubstr("bad.jsonl"));
    }
    EXPECT_EQ(database.all().size(), 0U);
  }
}

TEST_F(TuningDatabase, RowsThatCannotBeAreRefused) {
  const auto row = [&](auto&& change) {
    Row one{here, kernel, measured(six, 1)};
    change(one.measurement);
    return one;
  };
  EXPECT_NO_THROW(check(row([](Measurement&) {})));
  EXPECT_THROW(check(row([](Measurement& m) { m.ratio = 0; })), Error);
  EXPECT_THROW(check(row([](Measurement& m) { m.ratio = std::nan(""); })), Error);
  EXPECT_THROW(check(row([](Measurement& m) { m.rounds = 0; })), Error);
  EXPECT_THROW(check(row([](Measurement& m) { m.features.pop_back(); })), Error);
  EXPECT_THROW(check(row([](Measurement& m) { m.features[3] = std::nanf(""); })), Error);
  EXPECT_THROW(check(row([](Measurement& m) { m.config = "block=0x0"; })), Error);
  EXPECT_THROW(check(row([](Measurement& m) { m.status = static_cast<Measurement::Status>(7); })), Error);
}

TEST_F(TuningDatabase, ALessThoroughChoiceDoesNotReplaceAMoreThoroughOne) {
  Database database(file);
  database.choose(here, kernel, {six, 0.9, 1});
  database.choose(here, kernel, {eight, 0.5, 0.1});
  EXPECT_EQ(database.choice(here, kernel)->config, six);
  database.choose(here, kernel, {eight, 0.8, 1});
  EXPECT_EQ(database.choice(here, kernel)->config, eight);
}

TEST_F(TuningDatabase, FormsOfOneShapeAreKernelsOfTheirOwn) {
  Database database(file);
  KernelKey warm = kernel;
  warm.form = "warm";
  database.choose(here, warm, {six, 0.9, 1});
  EXPECT_FALSE(database.choice(here, kernel));
  EXPECT_EQ(database.near_choice(here, kernel)->config, six) << "the nearest there is";
}

TEST_F(TuningDatabase, AnotherProgramsDatabaseIsLeftAlone) {
  sqlite3* handle = nullptr;
  sqlite3_open(file.c_str(), &handle);
  sqlite3_exec(handle, "create table places(name text)", nullptr, nullptr, nullptr);
  sqlite3_close(handle);
  const std::string before = read_file(file);
  for (const auto access : {Database::Access::read, Database::Access::write}) {
    try {
      const Database database(file, access);
      ADD_FAILURE();
    } catch (const Error& problem) {
      EXPECT_EQ(problem.kind(), ErrorKind::environment);
      EXPECT_THAT(problem.what(), HasSubstr("no tuning database"));
    }
  }
  EXPECT_EQ(read_file(file), before);
}

TEST_F(TuningDatabase, ReadersDoNotWrite) {
  EXPECT_THROW(Database(file, Database::Access::read), Error) << "there is none";
  EXPECT_FALSE(fs::exists(file));
  Database(file).choose(here, kernel, {six, 0.9, 1});
  EXPECT_EQ(Database(file, Database::Access::read).choice(here, kernel)->config, six);
}

TEST_F(TuningDatabase, WrongResultsAreExportedToo) {
  Database database(file), imported(folder.path() / "b.sqlite");
  Measurement wrong = measured(six, 0.5);
  wrong.status = Measurement::Status::wrong;
  wrong.error = INFINITY;
  database.add(here, kernel, {wrong});
  database.choose_model(here, "m", {false, "winograd", 1});
  database.export_to(folder.path() / "out.jsonl");
  imported.import_from(folder.path() / "out.jsonl");
  EXPECT_EQ(imported.measurements(here, kernel).at(0).status, Measurement::Status::wrong);
  EXPECT_EQ(imported.model_choice(here, "m")->disabled, "winograd");
}

TEST_F(TuningDatabase, PruneDropsOtherMachinesAndOldSpaces) {
  Database database(file);
  database.add(here, kernel, {measured(six, 1)});
  database.add(there, kernel, {measured(six, 1), measured(eight, 1)});
  database.add({here.machine, here.compiler, space_version - 1}, kernel, {measured(eight, 1)});
  EXPECT_EQ(database.prune({""}), 1);
  EXPECT_EQ(database.prune({"another GPU", "this CPU"}), 2);
  ASSERT_EQ(database.all().size(), 1U);
  EXPECT_EQ(database.all()[0].place.machine, here.machine);
}

TEST_F(TuningDatabase, LaterFormatsAndOtherFilesAreRefused) {
  { const Database database(file); }
  sqlite3* handle = nullptr;
  sqlite3_open(file.c_str(), &handle);
  sqlite3_exec(handle, "pragma user_version=99", nullptr, nullptr, nullptr);
  sqlite3_close(handle);
  EXPECT_THROW(Database{file}, Error);
  write_file(folder.path() / "text.sqlite", std::string(5000, 'x'));
  try {
    const Database database(folder.path() / "text.sqlite");
    ADD_FAILURE();
  } catch (const Error& problem) {
    EXPECT_EQ(problem.kind(), ErrorKind::environment);
  }
}

/// Writes batches of five until killed.
[[noreturn]] void write_forever(const fs::path& file, int who) {
  Database database(file);
  for (int batch = 0;; ++batch) {
    std::vector<Measurement> five;
    for (int i = 0; i < 5; ++i) five.push_back(measured(six + " " + std::to_string(i), 1));
    database.add(here, {"writer " + std::to_string(who), "n=" + std::to_string(batch)}, five);
  }
}

TEST_F(TuningDatabase, SurvivesFiftyKillsOfTwoWritersAtRandomMoments) {
  { const Database database(file); }
  std::mt19937 random(5);
  size_t before = 0;
  for (int kill_number = 0; kill_number < 50; ++kill_number) {
    std::vector<pid_t> writers;
    for (int who = 0; who < 2; ++who) {
      const pid_t child = fork();
      ASSERT_GE(child, 0);
      if (child == 0) write_forever(file, kill_number * 2 + who);
      writers.push_back(child);
    }
    usleep(10000 + random() % 20000);
    for (const pid_t writer : writers) kill(writer, SIGKILL);
    for (const pid_t writer : writers) waitpid(writer, nullptr, 0);
    const Database database(file);
    std::map<std::string, int> batches;
    const std::vector<Row> rows = database.all();
    for (const Row& row : rows) ++batches[row.kernel.signature + row.kernel.shape];
    for (const auto& [batch, count] : batches) ASSERT_EQ(count, 5) << "a batch is there or is not: " << batch;
    ASSERT_GE(rows.size(), before) << "nothing that was there is lost";
    before = rows.size();
  }
  EXPECT_GT(before, 50U) << "the writers did write";
  sqlite3* handle = nullptr;
  sqlite3_open(file.c_str(), &handle);
  std::string verdict;
  sqlite3_exec(
      handle, "pragma integrity_check",
      [](void* to, int, char** values, char**) {
        *static_cast<std::string*>(to) += values[0];
        return 0;
      },
      &verdict, nullptr);
  sqlite3_close(handle);
  EXPECT_EQ(verdict, "ok");
}

TEST(ShapeDistance, CountsDoublings) {
  EXPECT_DOUBLE_EQ(distance("n=64 k=64", "n=128 k=16").value(), 3);
  EXPECT_DOUBLE_EQ(distance("n=64", "n=64").value(), 0);
  EXPECT_FALSE(distance("n=64", "m=64"));
  EXPECT_FALSE(distance("n=64 k=1", "n=64"));
}

}  // namespace
}  // namespace tilewright::tune
