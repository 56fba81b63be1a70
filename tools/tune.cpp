#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "arguments.h"
#include "base/file.h"
#include "commands.h"
#include "common.h"
#include "compiler/tuned_choices.h"
#include "tune/runner/machine.h"
#include "tuning.h"

namespace tilewright::tools {
namespace {

struct Choice {
  CompileChoice compile;
  TuningOptions tuning;
  std::string model, mode = "full", strategy = "learned", kernels, budget, report, plot, emit, ingest;
  int parts = 1, count = 16;
  double seconds = 2;
  bool fresh = false, quiet = false, json = false;
};

const std::map<std::string, tune::Mode> modes = {{"fast", tune::Mode::fast}, {"full", tune::Mode::full}, {"all", tune::Mode::all}};
const std::map<std::string, tune::Strategy> strategies = {
    {"learned", tune::Strategy::learned}, {"analytical", tune::Strategy::analytical}, {"random", tune::Strategy::random}};

/// Splits the kernels over `parts` folders, so that several machines of a kind can measure at once.
int emit(const Choice& choice, const CompileOptions& compile, const tune::TuneOptions& search) {
  const Target& target = find_target(compile.target);
  tune::Database database(choice.tuning.path());
  const tune::Place place = tune::place_of_choices(database, target, tuned_threads(compile.tuning), compile.build);
  const std::vector<tune::Subject> subjects = tuning_subjects(choice.model, compile);
  const std::vector<tune::Trial> trials = tune::trials_for(subjects, target, place, database, search, static_cast<size_t>(choice.count));
  if (trials.empty()) fail(ErrorKind::unsupported, "no kernel of '{}' has a choice for {}", choice.model, target.name);
  for (int part = 0; part < choice.parts; ++part) {
    std::vector<tune::Trial> mine;
    for (size_t i = static_cast<size_t>(part); i < trials.size(); i += static_cast<size_t>(choice.parts)) mine.push_back(trials[i]);
    if (mine.empty()) break;
    const std::filesystem::path folder =
        choice.parts == 1 ? std::filesystem::path(choice.emit) : std::filesystem::path(choice.emit) / fmt::format("part{}", part);
    tune::emit_trials(mine, target, search.measure, folder);
    fmt::print("wrote      {}: {} kernels; run `sh measure.sh` there, then `tilewright tune --ingest results.txt` here\n", folder.string(), mine.size());
  }
  return exit_done;
}

int run(const Choice& choice) {
  CompileOptions compile = choice.compile.finish();
  choice.tuning.add_to(compile);
  compile.tuning.database = choice.tuning.path();
  tune::TuneOptions search;
  search.mode = modes.at(choice.mode);
  search.strategy = strategies.at(choice.strategy);
  search.budget = choice.budget.empty() ? 0 : parse_seconds(choice.budget);
  search.kernels = choice.kernels;
  search.fresh = choice.fresh;
  search.measure = {space_options(compile), compile.build, choice.seconds};
  if (!choice.ingest.empty()) {
    tune::Database database(choice.tuning.path());
    const tune::Ingested taken = tune::ingest(choice.ingest, database);
    fmt::print("took       {} measurements of: {}\n", taken.count, taken.place.machine);
    if (!choice.model.empty()) tune::choose_best(tuning_subjects(choice.model, compile), taken.place, database);
    return exit_done;
  }
  if (choice.model.empty()) fail(ErrorKind::invalid_input, "name a model to tune, or one of: export, import, merge, show, prune; see `tilewright tune --help`");
  if (!choice.emit.empty()) return emit(choice, compile, search);
  const bool talk = !choice.quiet && !choice.json;
  if (talk) search.progress = print_progress;
  tune::Database database(choice.tuning.path());
  const ModelTuning result = tune_model(choice.model, compile, search, database);
  if (talk) end_progress();
  const std::string text = tuning_report(choice.model, result);
  if (!choice.report.empty()) write_file(choice.report, text);
  if (!choice.plot.empty()) write_file(choice.plot, tuning_plot(result));
  if (choice.json)
    std::printf("%s\n", tuning_json(result).c_str());
  else if (talk)
    fmt::print("{}", text);
  if (interrupted()) fail(ErrorKind::environment, "interrupted; what was measured is kept, and the same command goes on from there");
  return exit_done;
}

void show(const tune::Database& database) {
  const std::vector<tune::ChoiceRow> choices = database.choices();
  std::map<std::string, int> measured;
  for (const tune::Row& row : database.all()) ++measured[row.place.machine];
  for (const auto& [machine, count] : measured) fmt::print("{}: {} measurements\n", machine, count);
  for (const tune::ChoiceRow& row : choices)
    fmt::print("{}\n  {}  {}\n    {}  ({:.1f} % of the default's time)\n", row.place.machine, row.kernel.signature, row.kernel.shape, row.choice.config,
               100 * row.choice.ratio);
}

}  // namespace

void add_tune(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("tune", "measure how a model's kernels run fastest here, and remember it for every compile");
  const auto choice = std::make_shared<Choice>();
  command->add_option("model", choice->model, "the .onnx file");
  choice->tuning.add_to(*command);
  command->add_option("--mode", choice->mode, "fast: a few configurations a kernel; full: until no gain is expected; all: every one")
      ->capture_default_str()
      ->check(CLI::IsMember({"fast", "full", "all"}));
  command->add_option("--budget", choice->budget, "time to search: 90s, 5m, 1h (default: as much as it takes); the whole model is measured after it");
  command->add_option("--kernels", choice->kernels, "only kernels whose nodes in the model match this regular expression");
  command->add_option("--strategy", choice->strategy, "what to measure next: learned, or (to compare with) analytical, random")
      ->capture_default_str()
      ->check(CLI::IsMember({"learned", "analytical", "random"}));
  command->add_flag(
      "--resume,!--fresh", [choice](int64_t resume) { choice->fresh = resume < 0; }, "go on with what is known (the default); --fresh measures anew");
  command->add_option("--seconds", choice->seconds, "for a kernel's candidates of one round, at most")->capture_default_str()->check(CLI::Range(0.01, 600.0));
  command->add_option("--report", choice->report, "write what changed and why as text there");
  command->add_option("--plot", choice->plot, "write it as a picture (SVG) there");
  command->add_option("--emit", choice->emit, "write the candidates and a runner as a source folder, to be measured on another machine");
  command->add_option("--count", choice->count, "with --emit: candidates a kernel")->capture_default_str()->check(CLI::Range(1, 10000));
  command->add_option("--parts", choice->parts, "with --emit: folders, for machines that share the work")->capture_default_str()->check(CLI::Range(1, 1000));
  command->add_option("--ingest", choice->ingest, "take the results.txt of such a folder; with a model, decide by it");
  choice->compile.add_to(*command);
  command->add_flag("-q,--quiet", choice->quiet, "say nothing");
  command->add_flag("--json", choice->json, "print the report as JSON");
  command->footer(
      "Examples:\n  tilewright tune resnet50.onnx --budget 5m\n  tilewright tune bert.onnx --size batch=1 --runs sequence=384 --mode fast\n"
      "  tilewright compile resnet50.onnx            # uses what is known, measures nothing\n"
      "  tilewright tune resnet50.onnx --emit folder --target cpu:x86-64-v4\n  tilewright tune resnet50.onnx --ingest folder/results.txt\n"
      "  tilewright tune export measured.jsonl && tilewright tune import measured.jsonl\nWhat is measured is kept in one database "
      "($TILEWRIGHT_TUNING, else tuning.sqlite beside the build cache).");
  command->callback([command, choice, &exit_code] {
    if (command->get_subcommands().empty()) exit_code = run(*choice);
  });
  command->require_subcommand(0, 1);

  const auto file = std::make_shared<std::string>();
  const auto with_file = [&](const char* name, const char* what, auto&& action) {
    CLI::App* one = command->add_subcommand(name, what);
    one->add_option("file", *file)->required();
    one->callback([choice, file, action, &exit_code] {
      tune::Database database(choice->tuning.path());
      action(database, *file);
      exit_code = exit_done;
    });
  };
  with_file("export", "write all measurements as lines of JSON", [](tune::Database& database, const std::string& name) { database.export_to(name); });
  with_file("import", "add the measurements of an exported file",
            [](tune::Database& database, const std::string& name) { fmt::print("took       {} measurements\n", database.import_from(name)); });
  with_file("merge", "add the measurements of another database", [](tune::Database& database, const std::string& name) {
    if (!std::filesystem::exists(name)) fail(ErrorKind::invalid_input, "there is no database '{}'", name);
    fmt::print("took       {} measurements\n", database.merge(tune::Database(name, tune::Database::Access::read)));
  });
  command->add_subcommand("show", "print machines and choices")->callback([choice, &exit_code] {
    show(tune::Database(choice->tuning.path()));
    exit_code = exit_done;
  });
  const auto all_machines = std::make_shared<bool>(false);
  CLI::App* prune = command->add_subcommand("prune", "drop measurements of earlier versions and of other machines");
  prune->add_flag("--all-machines", *all_machines, "keep other machines' measurements");
  prune->callback([choice, all_machines, &exit_code] {
    tune::Database database(choice->tuning.path());
    std::vector<std::string> keep = {*all_machines ? "" : tune::describe_machine()};
    for (const char* gpu : {"cuda", "hip"})
      if (const std::string own = tune::describe_machine(gpu); !own.empty()) keep.push_back(own);
    fmt::print("dropped    {} measurements\n", database.prune(keep));
    exit_code = exit_done;
  });
}

}  // namespace tilewright::tools
