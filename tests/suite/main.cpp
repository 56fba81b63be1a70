// tilewright-suite: runs folders of reference cases through compiled artifacts. See scripts/models and scripts/conformance.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "runner.h"

using namespace tilewright;

int main(int argc, char** argv) {
  CLI::App app{"Compiles reference models, runs them and compares with the expected outputs."};
  std::string kind, folder, json_file, known_file, filter, policy = "fp32";
  suite::RunOptions options;
  bool list = false;
  app.add_option("kind", kind, "models or conformance")->required()->check(CLI::IsMember({"models", "conformance"}));
  app.add_option("folder", folder, "where the cases are")->required();
  app.add_option("--json", json_file, "write verdicts there");
  app.add_option("--known", known_file, "cases known not to pass, 'name: reason' a line");
  app.add_option("--filter", filter, "only cases whose name contains this");
  app.add_option("--jobs", options.jobs, "batches at once")->check(CLI::Range(1, 64));
  app.add_option("--batch", options.batch, "small models a library")->check(CLI::Range(1, 1000));
  app.add_option("--target", options.target);
  app.add_option("--policy", policy, "precision of products: fp32, tf32, bf16, fp16; errors are printed for the last two");
  app.add_option("-O,--optimisation", options.optimisation, "-O level of the kernels")->check(CLI::Range(0, 3));
  app.add_flag("--compile-only", options.compile_only, "run nothing: a model that compiles has passed, and what it took is printed");
  app.add_flag("--list", list, "list the cases and stop");
  CLI11_PARSE(app, argc, argv);
  try {
    options.precision.policy = parse_policy(policy);
    std::vector<suite::Case> cases = kind == "models" ? suite::model_cases(folder) : suite::conformance_cases(folder);
    std::erase_if(cases, [&](const suite::Case& one) { return one.name.find(filter) == std::string::npos; });
    if (list) {
      for (const suite::Case& one : cases) std::puts(one.name.c_str());
      return 0;
    }
    const auto known = known_file.empty() ? std::map<std::string, std::string>{} : suite::read_known_failures(known_file);
    int passed = 0, failed = 0, skipped = 0;
    nlohmann::json results = nlohmann::json::object();
    std::vector<std::string> surprises;
    const bool terminal = isatty(2);
    suite::run_cases(cases, options, [&](const suite::Verdict& verdict) {
      const auto excuse = known.find(verdict.name);
      const char* word = "passed";
      if (verdict.passed) {
        ++passed;
        if (excuse != known.end() && !options.compile_only) surprises.push_back(verdict.name);
      } else if (excuse != known.end()) {
        ++skipped;
        word = "skipped";
      } else {
        ++failed;
        word = "failed";
        std::printf("FAILED %s: %s\n", verdict.name.c_str(), verdict.reason.c_str());
        std::fflush(stdout);
      }
      if (verdict.promised > 0 && kind == "models") std::printf("%-28s error %.2g, promised %.2g\n", verdict.name.c_str(), verdict.error, verdict.promised);
      if (options.compile_only && verdict.passed && kind == "models")
        std::printf("%-28s %-14s %6.1f s\n", verdict.name.c_str(), options.target.c_str(), verdict.built_seconds);
      results[verdict.name] = {{"verdict", word}, {"reason", excuse != known.end() && !verdict.passed ? excuse->second : verdict.reason}};
      if (verdict.promised > 0) results[verdict.name].update({{"error", verdict.error}, {"promised", verdict.promised}});
      if (options.compile_only) results[verdict.name]["built_seconds"] = verdict.built_seconds;
      if (terminal) std::fprintf(stderr, "\r%d of %zu", passed + failed + skipped, cases.size());
    });
    if (terminal) std::fprintf(stderr, "\n");
    for (const std::string& name : surprises) std::printf("NOW PASSES %s: take it out of %s\n", name.c_str(), known_file.c_str());
    if (!json_file.empty())
      write_file(json_file, nlohmann::json{{"passed", passed}, {"failed", failed}, {"skipped", skipped}, {"results", results}}.dump(
                                1, ' ', false, nlohmann::json::error_handler_t::replace) +
                                "\n");
    std::printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed == 0 && surprises.empty() && passed > 0 ? 0 : 1;
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "tilewright-suite: %s\n", failure.what());
    return 2;
  }
}
