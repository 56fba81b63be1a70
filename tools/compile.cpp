#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "arguments.h"
#include "base/process.h"
#include "base/units.h"
#include "commands.h"
#include "common.h"
#include "self_check.h"
#include "compiler/tuned_choices.h"
#include "tuning.h"

namespace tilewright::tools {
namespace {

struct Choice {
  CompileChoice compile;
  std::string model, output, emit_source;
  TuningOptions tuning;
  std::string tune = "off", budget;
  bool quiet = false, json = false, explain = false, untuned = false, error_on_miss = false;
};

/// The largest resident set of this process or of a compiler it started.
int64_t peak_compile_bytes() {
  rusage children{};
  getrusage(RUSAGE_CHILDREN, &children);
  return std::max(peak_resident_bytes(), int64_t{children.ru_maxrss} * 1024);
}

/// Measures before the compile; what the database has is not measured again.
void tune_first(const Choice& choice, CompileOptions options, const std::filesystem::path& database, bool talk) {
  options.tuning.database = database;
  tune::TuneOptions search;
  search.mode = choice.tune == "fast" ? tune::Mode::fast : tune::Mode::full;
  search.budget = !choice.budget.empty() ? parse_seconds(choice.budget) : 0;
  search.measure = {space_options(options), options.build};
  if (talk) search.progress = print_progress;
  tune::Database opened(database);
  const ModelTuning result = tune_model(choice.model, options, search, opened, /*check_known=*/false);
  if (!talk) return;
  end_progress();
  fmt::print("{:<10} {:<84} {:6.1f} s\n", "tune",
             fmt::format("{} configurations of {} kernels measured, {:.1f} % of their time saved", result.search.measured, result.search.kernels.size(),
                         100 * tune::gain_of(result.search.kernels)),
             result.search.seconds);
}

int run(const Choice& choice) {
  CompileOptions options = choice.compile.finish();
  const std::filesystem::path output = !choice.output.empty() ? choice.output : std::filesystem::path(choice.model).stem().string() + ".so";
  options.emit_source = choice.emit_source;
  const bool talk = !choice.quiet && !choice.json, terminal = isatty(2);
  if (talk)
    options.on_stage = [&](const std::string& stage, const std::string& result, double seconds) {
      if (terminal) std::fputs("\r\033[K", stderr);
      fmt::print("{:<10} {:<84} {:6.1f} s\n", stage, result, seconds);  // counts code points, not bytes
      std::fflush(stdout);
    };
  if (talk && terminal)
    options.build.progress = [](int done, int total) {
      std::fprintf(stderr, "\rbuild      %d/%d files", done, total);
      std::fflush(stderr);
    };
  choice.tuning.add_to(options);
  const std::filesystem::path database = choice.tuning.path();
  if (choice.tune != "off") tune_first(choice, options, database, talk);
  // Nothing was ever measured: nothing to look up.
  if (!choice.untuned && (choice.error_on_miss || std::filesystem::exists(database))) options.tuning.database = database;
  options.tuning.must_know = choice.error_on_miss;
  options.explain = choice.explain;
  const CompileReport report = compile(choice.model, output, options);
  if (choice.explain && !choice.json) fmt::print("{}", report.explanation);
  std::string reference_by;
  if (!choice.emit_source.empty() && options.stop_after.empty()) reference_by = write_reference(choice.emit_source, choice.model, options);
  if (choice.json) {
    std::printf("%s\n", nlohmann::json{{"output", output.string()},
                                       {"target", report.target},
                                       {"policy", options.precision.str()},
                                       {"kernels", report.kernels},
                                       {"distinct_kernels", report.distinct_kernels},
                                       {"weight_bytes", report.weight_bytes},
                                       {"arena_bytes", report.arena_bytes},
                                       {"peak_live_bytes", report.peak_live_bytes},
                                       {"tuned_kernels", report.tuned},
                                       {"untuned_kernels", report.untuned},
                                       {"files", report.build.units},
                                       {"files_from_cache", report.build.from_cache},
                                       {"artifact_bytes", report.build.file_bytes},
                                       {"peak_compile_bytes", peak_compile_bytes()},
                                       {"explanation", report.explanation}}
                            .dump()
                            .c_str());
  } else if (talk && !options.stop_after.empty()) {
    std::printf("stopped    after %s; nothing was written but dumps\n", options.stop_after.c_str());
  } else if (talk && !choice.emit_source.empty()) {
    std::printf("wrote      %s: run make there; make check compares with %s, make bench measures\n", choice.emit_source.c_str(), reference_by.c_str());
  } else if (talk) {
    fmt::print("wrote      {}, {}, {}, policy {}; peak memory of this compile {}\n", output.string(), megabytes(report.build.file_bytes), report.target,
               options.precision.str(), megabytes(peak_compile_bytes()));
  }
  return 0;
}

}  // namespace

void add_compile(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("compile", "compile an ONNX model into a shared library");
  const auto choice = std::make_shared<Choice>();
  command->add_option("model", choice->model, "the .onnx file")->required();
  command->add_option("-o,--output", choice->output, "the library to write (default: the model's name with .so)");
  command->add_option("--emit-source", choice->emit_source, "write a source folder with a Makefile instead of a library");
  command->add_option("--tune", choice->tune, "measure first: off (what is known is used all the same), fast, full")
      ->capture_default_str()
      ->check(CLI::IsMember({"off", "fast", "full"}));
  command->add_option("--budget", choice->budget, "time to measure for: 90s, 5m");
  CLI::Option* untuned = command->add_flag("--untuned", choice->untuned, "by the target's rules alone, whatever was measured");
  command->add_flag("--error-on-miss", choice->error_on_miss, "an error when a kernel was never measured here: for build servers")->excludes(untuned);
  command->add_option("--machine", choice->tuning.machine, "use measurements of another machine: what its description begins with (tune show names them)");
  choice->tuning.add_to(*command);
  choice->compile.add_to(*command);
  command->add_flag("--explain", choice->explain, "tell what every kernel computes, and why what it reads from memory was not fused into it");
  command->add_flag("-q,--quiet", choice->quiet, "say nothing");
  command->add_flag("--json", choice->json, "print the report as JSON");
  std::string passes =
      "Examples:\n  tilewright compile resnet50.onnx -o resnet50.so\n  tilewright compile bert.onnx --shape input_ids=1x128\n  tilewright compile model.onnx "
      "--size batch=8 --constant axes=axes.npy\n"
      "  tilewright compile resnet50.onnx --policy bf16\n  tilewright compile model.onnx --policy fp16 --policy-for '/decoder/*=fp32'\n  tilewright compile "
      "model.onnx --target cpu:x86-64-v3 --emit-source folder\n  tilewright compile model.onnx --explain --stop-after schedule -q\n  tilewright compile "
      "model.onnx --dump-dir dumps --stop-after "
      "schedule\nPasses:\n";
  for (const auto& [name, summary] : pass_names()) passes += fmt::format("  {:<21} {}\n", name, summary);
  command->footer(passes);
  command->callback([choice, &exit_code] { exit_code = run(*choice); });
}

}  // namespace tilewright::tools
