#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/process.h"
#include "base/units.h"
#include "commands.h"
#include "common.h"
#include "inputs.h"

namespace tilewright::tools {
namespace {

struct Choice {
  std::string artifact;
  InputChoice input;
  ContextChoice context;
  int iterations = 10;
  double warm_up = 0.2, duration = 3;
  bool profile = false, json = false;
};

using Clock = std::chrono::steady_clock;
double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Statistics {
  double min, max, mean, median, p90, p95, p99, variation;
};

Statistics statistics(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  const auto percentile = [&](double p) {
    const double at = p / 100 * static_cast<double>(samples.size() - 1);
    const size_t low = static_cast<size_t>(at), high = std::min(low + 1, samples.size() - 1);
    return samples[low] + (at - static_cast<double>(low)) * (samples[high] - samples[low]);
  };
  const double mean = std::accumulate(samples.begin(), samples.end(), 0.0) / static_cast<double>(samples.size());
  double squares = 0;
  for (const double sample : samples) squares += (sample - mean) * (sample - mean);
  return {samples.front(), samples.back(), mean,           percentile(50),
          percentile(90),  percentile(95), percentile(99), std::sqrt(squares / static_cast<double>(samples.size())) / mean};
}

void print_profile(const Context& context) {
  auto entries = context.profile();
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
  double total = 0;
  for (const auto& entry : entries) total += entry.seconds;
  std::printf("\n%10s %6s %9s  kernel\n", "ms/call", "share", "calls");
  for (const auto& entry : entries) {
    if (entry.calls == 0) continue;
    std::printf("%10.4f %5.1f%% %9ld  %s: %s\n", entry.seconds * 1e3 / static_cast<double>(entry.calls), 100 * entry.seconds / total,
                static_cast<long>(entry.calls), entry.kernel, entry.source);
  }
}

int run(const Choice& choice) {
  const Model model = open_model(choice.artifact);
  Context context = choice.context.open(model);
  const std::vector<Tensor> inputs = make_inputs(inputs_of(model), choice.input);
  run_model(context, model, inputs);  // checks and binds the inputs
  for (const auto start = Clock::now(); since(start) < choice.warm_up && !interrupted();) context.run();
  if (choice.profile) context.set_profiling(true);
  std::vector<double> samples;
  const auto start = Clock::now();
  while (!interrupted() && (since(start) < choice.duration || samples.size() < static_cast<size_t>(choice.iterations))) {
    const auto one = Clock::now();
    context.run();
    samples.push_back(since(one));
  }
  if (samples.empty()) fail(ErrorKind::environment, "interrupted before the first measurement");
  const Statistics s = statistics(samples);
  const double throughput = static_cast<double>(samples.size()) / std::accumulate(samples.begin(), samples.end(), 0.0);
  const int64_t peak = peak_resident_bytes();
  if (choice.json) {
    std::printf("%s\n", nlohmann::json{{"iterations", samples.size()},
                                       {"throughput_per_second", throughput},
                                       {"latency_ms",
                                        {{"min", s.min * 1e3},
                                         {"max", s.max * 1e3},
                                         {"mean", s.mean * 1e3},
                                         {"median", s.median * 1e3},
                                         {"p90", s.p90 * 1e3},
                                         {"p95", s.p95 * 1e3},
                                         {"p99", s.p99 * 1e3}}},
                                       {"coefficient_of_variation", s.variation},
                                       {"working_memory_bytes", context.memory_bytes()},
                                       {"peak_resident_bytes", peak}}
                            .dump()
                            .c_str());
    return 0;
  }
  std::printf("iterations  %zu in %.2f s, after %.1f s of warm-up\n", samples.size(), since(start), choice.warm_up);
  std::printf("latency     min %.3f  max %.3f  mean %.3f  median %.3f  p90 %.3f  p95 %.3f  p99 %.3f ms\n", s.min * 1e3, s.max * 1e3, s.mean * 1e3,
              s.median * 1e3, s.p90 * 1e3, s.p95 * 1e3, s.p99 * 1e3);
  std::printf("throughput  %.2f runs/s\n", throughput);
  fmt::print("memory      {} working memory, {} peak resident with weights\n", megabytes(static_cast<int64_t>(context.memory_bytes())), megabytes(peak));
  if (s.variation > 0.1)
    std::printf("note        latency varies by %.0f %% (coefficient of variation): the machine is busy; compare medians, or measure longer\n",
                s.variation * 100);
  if (choice.profile) print_profile(context);
  return 0;
}

}  // namespace

void add_bench(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("bench", "measure a compiled model's latency and throughput");
  const auto choice = std::make_shared<Choice>();
  command->add_option("artifact", choice->artifact, "the .so file")->required();
  command->add_option("-i,--input", choice->input.files, "[name=]file.npy; inputs without a file get random values");
  command->add_option("--shape", choice->input.shapes, "sizes of an input without a file: input=2x3x224x224; repeatable");
  choice->context.add_to(*command);
  command->add_option("--warm-up", choice->warm_up, "seconds before measuring")->capture_default_str()->check(CLI::Range(0.0, 3600.0));
  command->add_option("--duration", choice->duration, "seconds to measure at least")->capture_default_str()->check(CLI::Range(0.0, 86400.0));
  command->add_option("--iterations", choice->iterations, "runs to measure at least")->capture_default_str()->check(CLI::Range(1, 1000000000));
  command->add_flag("--profile", choice->profile, "time of each kernel");
  command->add_flag("--json", choice->json, "print the figures as JSON");
  command->footer(
      "Examples:\n  tilewright bench resnet50.so\n  tilewright bench bert.so --shape input_ids=1x128 --threads 1 --duration 10\n  tilewright bench model.so "
      "--profile");
  command->callback([choice, &exit_code] { exit_code = run(*choice); });
}

}  // namespace tilewright::tools
