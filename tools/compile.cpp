#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/process.h"
#include "base/units.h"
#include "commands.h"
#include "common.h"

namespace tilewright::tools {
namespace {

struct Choice {
  CompileChoice compile;
  std::string model, output, emit_source;
  bool quiet = false, json = false;
};

/// The largest resident set of this process or of a compiler it started.
int64_t peak_compile_bytes() {
  rusage children{};
  getrusage(RUSAGE_CHILDREN, &children);
  return std::max(peak_resident_bytes(), int64_t{children.ru_maxrss} * 1024);
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
  const CompileReport report = compile(choice.model, output, options);
  if (choice.json) {
    std::printf("%s\n", nlohmann::json{{"output", output.string()},
                                       {"target", report.target},
                                       {"policy", options.policy},
                                       {"kernels", report.kernels},
                                       {"distinct_kernels", report.distinct_kernels},
                                       {"weight_bytes", report.weight_bytes},
                                       {"arena_bytes", report.arena_bytes},
                                       {"peak_live_bytes", report.peak_live_bytes},
                                       {"files", report.build.units},
                                       {"files_from_cache", report.build.from_cache},
                                       {"artifact_bytes", report.build.file_bytes},
                                       {"peak_compile_bytes", peak_compile_bytes()}}
                            .dump()
                            .c_str());
  } else if (talk && !options.stop_after.empty()) {
    std::printf("stopped    after %s; nothing was written but dumps\n", options.stop_after.c_str());
  } else if (talk && !choice.emit_source.empty()) {
    std::printf("wrote      %s: run make there\n", choice.emit_source.c_str());
  } else if (talk) {
    fmt::print("wrote      {}, {}, {}, policy {}; peak memory of this compile {}\n", output.string(), megabytes(report.build.file_bytes), report.target,
               options.policy, megabytes(peak_compile_bytes()));
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
  choice->compile.add_to(*command);
  command->add_flag("-q,--quiet", choice->quiet, "say nothing");
  command->add_flag("--json", choice->json, "print the report as JSON");
  std::string passes =
      "Examples:\n  tilewright compile resnet50.onnx -o resnet50.so\n  tilewright compile bert.onnx --shape input_ids=1x128\n  tilewright compile model.onnx "
      "--size batch=8 --constant axes=axes.npy\n"
      "  tilewright compile model.onnx --target cpu:x86-64-v3 --emit-source folder\n  tilewright compile model.onnx --dump-dir dumps --stop-after "
      "schedule\nPasses:\n";
  for (const auto& [name, summary] : pass_names()) passes += fmt::format("  {:<21} {}\n", name, summary);
  command->footer(passes);
  command->callback([choice, &exit_code] { exit_code = run(*choice); });
}

}  // namespace tilewright::tools
