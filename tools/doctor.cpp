#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "artifact/run.h"
#include "base/file.h"
#include "base/process.h"
#include "commands.h"
#include "common.h"
#include "target/toolchain.h"
#include "target/target.h"

namespace tilewright::tools {
namespace {

struct Finding {
  bool good;
  std::string what, advice;
};

Finding check_compiler(const Target& target) {
  const CompilerInfo compiler = find_compiler(target, {});
  if (compiler.version.empty()) {
    const std::string package = target.architecture == "aarch64" ? "g++-aarch64-linux-gnu" : "g++";
    return {false, fmt::format("{}: no compiler '{}'", target.name, compiler.command), "apt-get install " + package};
  }
  if (target.is_gpu()) {
    try {
      const CompilerInfo gpu = find_gpu_compiler(target);
      const size_t number = gpu.version.find_first_of("0123456789", std::min(gpu.version.find("release "), gpu.version.find("HIP version")));
      return {true, fmt::format("{}: {} {}", target.name, gpu.command, gpu.version.substr(number, gpu.version.find_first_of(", \n", number) - number)), ""};
    } catch (const Error& problem) {
      return {false, fmt::format("{}: {}", target.name, problem.what()), "needed for such GPUs alone"};
    }
  }
  return {true, fmt::format("{}: {}{}", target.name, compiler.version, runs_here(target) ? ", runs here" : ", does not run on this machine"), ""};
}

int run(bool json) {
  std::vector<Finding> findings;
  for (const Target& target : all_targets()) findings.push_back(check_compiler(target));
  try {
    findings.push_back({true, "native target: " + find_target("native").name, ""});
    const ScratchFolder folder(std::filesystem::temp_directory_path());
    const std::string library = (folder.path() / "empty.so").string();
    build_library(emit_sources({}, find_target("native"), 1), find_target("native"), library, {});
    findings.push_back({true, "a library can be compiled and linked", ""});
  } catch (const Error& problem) {
    findings.push_back(
        {false, std::string("a library cannot be built: ") + problem.what(), "see the message; the cache folder is set with TILEWRIGHT_CACHE_DIR"});
  }
  bool usable = true;
  nlohmann::json list = nlohmann::json::array();
  for (const Finding& finding : findings) {
    const bool optional =
        finding.what.starts_with("cpu:") || finding.what.starts_with("cuda:") || finding.what.starts_with("hip:") || finding.what.starts_with("emulator:");
    usable &= finding.good || optional;
    list.push_back({{"good", finding.good}, {"what", finding.what}, {"advice", finding.advice}});
    if (!json) std::printf("%s %s%s%s\n", finding.good ? "ok  " : "miss", finding.what.c_str(), finding.advice.empty() ? "" : "; ", finding.advice.c_str());
  }
  if (json) std::printf("%s\n", list.dump().c_str());
  return usable ? exit_done : exit_code_of(ErrorKind::environment);
}

}  // namespace

void add_doctor(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("doctor", "check compilers and targets, and say what to install");
  const auto json = std::make_shared<bool>(false);
  command->add_flag("--json", *json, "print the findings as JSON");
  command->footer("Example:\n  tilewright doctor");
  command->callback([json, &exit_code] { exit_code = run(*json); });
}

}  // namespace tilewright::tools
