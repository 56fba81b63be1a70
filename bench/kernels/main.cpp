// Speed of kernels as the compiler makes them, over layers of real networks: each is compiled as a model of its own.

#include <benchmark/benchmark.h>
#include <sched.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <regex>

#include "artifact/run.h"
#include "base/error.h"
#include "base/file.h"
#include "bench/kernels/references.h"
#include "bench/kernels/report.h"
#include "compiler/compile.h"
#include "op/op.h"
#include "pass/pass.h"

namespace tilewright::kernel_bench {
namespace {

struct Choice {
  std::string filter = ".*", json, markdown;
  int repetitions = 7;
  double seconds = 0.03;
};

Prepared prepared(const Layer& layer, const CompileOptions& options) {
  Prepared model;
  model.name = layer.name;
  model.optimised = graph_of(layer);
  for (const GraphPass& pass : graph_passes()) pass.run(model.optimised);
  model.block = std::make_shared<schedule::Block>(schedule_model(lower(model.optimised), options));
  if (model.block->kernels.size() != 1)
    fail(ErrorKind::internal, "{} {} becomes {} kernels; the benchmark measures one", layer.model, layer.name, model.block->kernels.size());
  return model;
}

std::string method_of(const schedule::Kernel& kernel) {
  if (kernel.products.empty()) return "contract";
  const schedule::ProductConfig& config = kernel.products[0].config;
  const std::string atom = config.atom == schedule::ProductConfig::Atom::fma ? "" : fmt::format(" {}", schedule::name(config.atom));
  return fmt::format("{}{} {}×{}", schedule::name(config.method), atom, config.block.rows, config.block.vectors);
}

/// Operations that the method does of each one that the layer's definition has.
double operations_done(const Layer& layer, const schedule::Kernel& kernel) {
  if (kernel.products.empty() || kernel.products[0].config.method != schedule::ProductConfig::Method::winograd) return 1;
  const auto tiles = static_cast<double>((layer.side() + 1) / 2), side = static_cast<double>(layer.side());
  return tiles * tiles * 16 / (side * side * 9);
}

/// A compiled layer with its inputs.
class Subject {
 public:
  Subject(const Layer& layer, double operations_done, const std::string& library, int index)
      : layer_(layer), operations_done_(operations_done), model_(open_model(library, index)), context_(open_context(model_, 1)) {
    const tilewright_model_api& api = model_.api();
    for (int i = 0; i < api.input_count; ++i) {
      Tensor& tensor =
          inputs_.emplace_back(static_cast<DType>(api.inputs[i].dtype), std::vector<int64_t>(api.inputs[i].dims, api.inputs[i].dims + api.inputs[i].rank));
      for (int64_t k = 0; k < tensor.element_count(); ++k)
        is_float(tensor.dtype()) ? tensor.set_float(k, static_cast<double>(k % 13) * 0.1 - 0.6) : tensor.set_int(k, k % 13);
    }
    run_model(context_, model_, inputs_);
  }

  const Layer& layer() const { return layer_; }
  void run() { context_.run(); }
  double work() const { return is_memory() ? layer_.bytes() : layer_.operations(); }
  double work_done() const { return work() * operations_done_; }
  /// The highest rate of work that the core reaches right now.
  template <class Before>
  double possible(const Before& before) {
    if (layer_.dtype == DType::u8) return std::max(vnni_peak(), amx_byte_peak());
    if (!is_memory())
      return layer_.dtype == DType::bf16 ? std::max({float_peak(), bfloat_peak(), amx_bfloat_peak()}) : std::max(float_peak(), amx_float_peak());
    return read_rate(ReadBuffer(static_cast<int64_t>(layer_.bytes())), before);
  }

 private:
  bool is_memory() const { return layer_.memory_bound() && layer_.dtype != DType::u8; }

  Layer layer_;
  double operations_done_;
  Model model_;
  Context context_;
  std::vector<Tensor> inputs_;
};

/// Counters: what was achieved, and what was possible just before and after.
void measure(benchmark::State& state, Subject& subject, bool cold, const ReadBuffer& sweeper) {
  const auto before = [&] {
    if (cold) sweeper.read();
  };
  const auto reference = [&] { return measure_alone([&] { return subject.possible(before); }); };
  const Measured first = reference();
  subject.run();
  std::vector<double> times, disturbed;
  for ([[maybe_unused]] auto _ : state) {
    before();
    const bool was_alone = alone();
    const double start = seconds_now();
    subject.run();
    const double time = seconds_now() - start;
    (was_alone && alone() ? times : disturbed).push_back(time);
    state.SetIterationTime(time);
  }
  const double time = median(times.empty() ? disturbed : times);
  const Measured last = reference();
  const double possible = (first.rate + last.rate) / 2;
  state.counters["achieved"] = subject.work() / time;
  state.counters["possible"] = possible;
  state.counters["share"] = possible > 0 ? subject.work_done() / time / possible : 0;
  state.counters["alone"] = !times.empty() && first.alone && last.alone ? 1 : 0;
}

/// Keeps the medians over repetitions, by the benchmark's name.
class Collector : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.aggregate_name != "median") continue;
      const Rate& rate = rates[run.run_name.function_name] = {run.counters.at("achieved"), run.counters.at("possible"), run.counters.at("share"),
                                                              run.counters.at("alone") == 1};
      fmt::print(stderr, "{:<50} {:8.1f}e9/s {:5.1f} %\n", run.run_name.function_name, rate.achieved * 1e-9, 100 * rate.share);
    }
  }
  std::map<std::string, Rate> rates;
};

/// The core that this runs on, for good.
void stay_here() {
  cpu_set_t here;
  CPU_ZERO(&here);
  CPU_SET(static_cast<size_t>(sched_getcpu()), &here);
  if (sched_setaffinity(0, sizeof here, &here) != 0) fail(ErrorKind::environment, "cannot stay on one core");
}

int run(const Choice& choice) {
  CompileOptions options;
  options.precision.policy = Policy::bf16;  // layers in bfloats are those of a model that it rounded; it changes nothing of others
  const std::regex wanted(choice.filter);
  Report report = empty_report();
  std::vector<Prepared> models;
  for (const Layer& layer : layers()) {
    if (!std::regex_search(std::string(layer.model) + " " + layer.name, wanted)) continue;
    report.rows.push_back({layer, "", {}, {}});
    models.push_back(prepared(layer, options));
  }
  if (models.empty()) fail(ErrorKind::invalid_input, "no layer's name matches '{}'", choice.filter);
  const ScratchFolder folder(std::filesystem::temp_directory_path());
  const std::string library = folder.path() / "layers.so";
  build_models(models, library, options);

  stay_here();
  const long cache = sysconf(_SC_LEVEL2_CACHE_SIZE);
  const ReadBuffer sweeper(4 * (cache > 0 ? cache : 2 << 20));
  std::vector<std::unique_ptr<Subject>> subjects;
  const auto name_of = [](const Layer& layer, bool cold) { return fmt::format("{} {}, {}", layer.model, layer.name, cold ? "cold" : "warm"); };
  for (size_t i = 0; i < models.size(); ++i) {
    Row& row = report.rows[i];
    const schedule::Kernel& kernel = models[i].block->kernels[0];
    row.method = method_of(kernel);
    Subject& subject = *subjects.emplace_back(std::make_unique<Subject>(row.layer, operations_done(row.layer, kernel), library, static_cast<int>(i)));
    for (const bool cold : {false, true})
      benchmark::RegisterBenchmark(name_of(row.layer, cold).c_str(),
                                   [&subject, &sweeper, cold](benchmark::State& state) { measure(state, subject, cold, sweeper); })
          ->UseManualTime()
          ->MinTime(choice.seconds)
          ->Repetitions(choice.repetitions);
  }
  models.clear();  // holds the weights a second time
  Collector collector;
  benchmark::RunSpecifiedBenchmarks(&collector);
  for (Row& row : report.rows) {
    row.warm = collector.rates.at(name_of(row.layer, false));
    row.cold = collector.rates.at(name_of(row.layer, true));
  }
  if (!choice.json.empty()) write_file(choice.json, json(report).dump(1) + "\n");
  if (!choice.markdown.empty()) write_file(choice.markdown, markdown(report));
  fmt::print("{}", markdown(report));
  return 0;
}

}  // namespace
}  // namespace tilewright::kernel_bench

int main(int argc, char** argv) {
  tilewright::kernel_bench::Choice choice;
  CLI::App app("Measures kernels, as the compiler makes them for this machine, beside what one of its cores can do at most.");
  app.add_option("--filter", choice.filter, "a regular expression that `model layer` has to contain");
  app.add_option("--json", choice.json, "write the figures there");
  app.add_option("--markdown", choice.markdown, "write the tables there");
  app.add_option("--repetitions", choice.repetitions, "measurements of each, whose median counts")->capture_default_str()->check(CLI::Range(1, 1000));
  app.add_option("--seconds", choice.seconds, "of each measurement")->capture_default_str()->check(CLI::Range(0.001, 60.0));
  CLI11_PARSE(app, argc, argv);
  try {
    return tilewright::kernel_bench::run(choice);
  } catch (const std::exception& failure) {
    fmt::print(stderr, "{}: {}\n", argv[0], failure.what());
    return 1;
  }
}
