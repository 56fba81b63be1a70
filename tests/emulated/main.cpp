// tilewright-emulated: kernels of every pattern for SIMT machines, in the emulator, against the interpreter. See scripts/gpu-check.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "runner.h"

using namespace tilewright;

int main(int argc, char** argv) {
  CLI::App app{"Runs random programs of every family of kernels in the emulator of GPUs and compares with the interpreter."};
  emulated::RunOptions options;
  std::string json_file;
  app.add_option("--target", options.targets, "emulated machines; all unless told");
  app.add_option("--rounds", options.rounds, "how often all families are drawn")->check(CLI::Range(1, 100000));
  app.add_option("--interleavings", options.interleavings, "how often each case runs, its threads in another order each time")->check(CLI::Range(1, 1000));
  app.add_option("--seed", options.seed, "of the first round");
  app.add_option("--filter", options.filter, "only cases whose 'family dtype ' contains this");
  app.add_option("--jobs", options.jobs, "libraries at once")->check(CLI::Range(1, 64));
  app.add_option("--json", json_file, "write counts by family there");
  CLI11_PARSE(app, argc, argv);
  try {
    int passed = 0, failed = 0;
    std::map<std::string, std::pair<int, int>> families;
    emulated::run_cases(options, [&](const emulated::Verdict& verdict) {
      auto& [family_passed, family_failed] = families[verdict.name.substr(0, verdict.name.find(' '))];
      if (verdict.failure.empty()) {
        ++passed, ++family_passed;
        return;
      }
      ++failed, ++family_failed;
      std::printf("FAILED %s: %s\n", verdict.name.c_str(), verdict.failure.c_str());
      std::fflush(stdout);
    });
    nlohmann::json counts;
    for (const auto& [family, count] : families) counts[family] = {{"passed", count.first}, {"failed", count.second}};
    if (!json_file.empty()) write_file(json_file, nlohmann::json{{"passed", passed}, {"failed", failed}, {"families", counts}}.dump(1) + "\n");
    std::printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed == 0 && passed > 0 ? 0 : 1;
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "tilewright-emulated: %s\n", failure.what());
    return 2;
  }
}
