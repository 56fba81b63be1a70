#include "tune/measure.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/process.h"
#include "target/build_cache.h"
#include "target/resources.h"
#include "tune/place.h"

namespace tilewright::tune {
namespace fs = std::filesystem;
namespace {

/// Held alone while something is measured, together while candidates are built, so that no two processes of a user measure at once or build
/// into a measurement. The runner inherits it: should it outlive its parent, others still wait for it.
class MeasuringLock {
 public:
  enum class Kind { building, measuring };
  explicit MeasuringLock(Kind kind) {
    std::error_code ignored;
    fs::create_directories(cache_folder(), ignored);
    const fs::path file = cache_folder() / "measuring.lock";
    descriptor_ = open(file.c_str(), O_CREAT | O_RDWR, 0600);
    if (descriptor_ < 0 || flock(descriptor_, kind == Kind::measuring ? LOCK_EX : LOCK_SH) != 0) {
      if (descriptor_ >= 0) close(descriptor_);
      fail(ErrorKind::environment, "cannot lock '{}', which keeps measurements apart", file.string());
    }
  }
  ~MeasuringLock() { close(descriptor_); }
  MeasuringLock(const MeasuringLock&) = delete;
  MeasuringLock& operator=(const MeasuringLock&) = delete;

 private:
  int descriptor_;
};

/// The program that measures, compiled when it is not there yet.
fs::path runner_program(const BuildOptions& build) {
  const BuildCache cache(build.cache, build.use_cache, build.cache_limit_bytes);
  const fs::path sources = cache.resource_folder(), runner = sources / "src/tune/runner/measure.cpp", program = sources / "measure";
  if (fs::exists(program)) return program;
  const CompilerInfo compiler = find_compiler(find_target("native"), build);
  const fs::path beside = sources / fmt::format("measure.{}", getpid());
  const ProcessResult result =
      run_process({compiler.command, "-std=c++20", "-O2", "-w", "-I" + (sources / "include").string(), runner.string(), "-o", beside.string(), "-ldl"});
  if (result.exit_code != 0) fail(ErrorKind::internal, "internal error: the measuring program does not compile:\n{}", result.output.substr(0, 2000));
  fs::rename(beside, program);
  return program;
}

std::string job_text(const std::vector<Trial>& trials, const Target& target, const std::vector<std::vector<std::vector<int64_t>>>& inputs, int threads,
                     double seconds) {
  std::string text = fmt::format("device {}\nthreads {}\nseconds {}\n", device_of(target), threads, seconds);
  size_t model = 0;
  for (size_t t = 0; t < trials.size(); ++t) {
    text += fmt::format("group {} {}\n", model, trials[t].configs.size());
    for (const std::vector<int64_t>& dims : inputs[t]) {
      text += fmt::format("input {}", dims.size());
      for (const int64_t dim : dims) text += fmt::format(" {}", dim);
      text += "\n";
    }
    model += trials[t].configs.size();
  }
  return text;
}

struct Sources {
  EmittedSources emitted;
  std::vector<std::vector<std::vector<int64_t>>> inputs;  ///< dims, by trial
};

Sources emit(const std::vector<Trial>& trials, const Target& target, const SpaceOptions& options, int units) {
  Sources sources;
  std::vector<ModelSource> models;
  for (const Trial& trial : trials) {
    for (const schedule::KernelConfig& config : trial.configs) {
      Candidate candidate = make_candidate(*trial.subject, config, target, options);
      if (&config == &trial.configs.front()) sources.inputs.push_back(candidate.inputs);
      models.push_back(std::move(candidate.model));
    }
  }
  sources.emitted = emit_sources(models, target, units);
  return sources;
}

int64_t sum_length(const KernelSpace& space) {
  for (const auto& [name, value] : space.shape)
    if (name == "k") return value;
  return 1;
}

std::vector<float> features_of(const Subject& subject, const schedule::KernelConfig& config, const Target& target, int threads) {
  const auto& configs = subject.space.configs;
  const auto found = std::find(configs.begin(), configs.end(), config);
  return found == configs.end() ? std::vector<float>() : features(subject.space, static_cast<size_t>(found - configs.begin()), target, threads);
}

bool by_matrix_unit(const schedule::KernelConfig& config) {
  const auto* tiles = std::get_if<schedule::TileConfig>(&config);
  return tiles != nullptr && tiles->unit != schedule::TileConfig::Unit::fma;
}

/// Of sums of integers: nothing, but that a compiler may join what follows them in another way, and an element then round to its neighbour.
double promised_of_exact(DType dtype) { return is_integer(dtype) && size_of(dtype) >= 4 ? 0 : 0x1p-10; }

/// Winograd's method by dots, which rounds what it transforms to bfloats.
bool rounds_transforms(const schedule::KernelConfig& config) {
  const auto* product = std::get_if<schedule::ProductConfig>(&config);
  return product && product->method == schedule::ProductConfig::Method::winograd && product->atom == schedule::ProductConfig::Atom::bf16;
}

/// What a candidate's results may differ by.
double promised_of(const Subject& subject) {
  const schedule::Kernel& kernel = subject.block->kernels.at(static_cast<size_t>(subject.kernel));
  const bool truncates = std::any_of(subject.space.configs.begin(), subject.space.configs.end(), by_matrix_unit);
  double promised = std::any_of(subject.space.configs.begin(), subject.space.configs.end(), rounds_transforms) ? 0x1p-7 : 0;
  for (const pattern::Store& store : std::get<pattern::Nest>(kernel.stages.at(0)).outputs)
    promised =
        std::max(promised, subject.space.exact ? promised_of_exact(subject.block->program.tensor(store.tensor).type.dtype)
                                               : promised_error(sum_length(subject.space), subject.block->program.tensor(store.tensor).type.dtype, truncates));
  return promised;
}

/// One element may be so much further off than all are in the mean.
constexpr double of_one_element = 64;

/// Reads the runner's lines, by model; those that are not whole say nothing. `promised`: by model.
std::map<size_t, Measurement> read_results(const std::string& text, const std::vector<double>& promised) {
  std::map<size_t, Measurement> results;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string kind, ratio, seconds, error, largest, end;
    size_t model = 0;
    if (!(words >> kind >> model)) continue;
    if (kind == "failed") results[model].status = Measurement::Status::failed;
    if (kind != "result") continue;
    Measurement m;
    if (!(words >> ratio >> seconds >> m.rounds >> error >> largest >> end) || end != ".") continue;
    m.ratio = std::strtod(ratio.c_str(), nullptr);
    m.seconds = std::strtod(seconds.c_str(), nullptr);
    m.error = std::strtod(error.c_str(), nullptr);  // "inf" too
    if (!(m.ratio > 0) || !std::isfinite(m.ratio) || !(m.seconds > 0) || m.rounds < 1) continue;
    if (model < promised.size() && !(m.error <= promised[model] && std::strtod(largest.c_str(), nullptr) <= of_one_element * promised[model]))
      m.status = Measurement::Status::wrong;
    results[model] = m;
  }
  return results;
}

/// What prints the line of a version that this_place() knows the compiler by.
const char* version_command(const Target& target) {
  switch (target.kind) {
    case TargetKind::cuda: return "nvcc --version | grep release";
    case TargetKind::hip: return "hipcc --version | head -n 1";
    case TargetKind::cpu:
    case TargetKind::emulator: break;
  }
  return "${CXX:-g++} --version | head -n 1";
}

bool is_cancelled(const MeasureOptions& options) { return options.build.cancelled && options.build.cancelled(); }

/// Builds all in one library and runs it. Results are missing where the library does not build or the runner dies.
std::vector<std::vector<Measurement>> measure_together(const std::vector<Trial>& trials, const Target& target, const MeasureOptions& options) {
  const BuildCache cache(options.build.cache, options.build.use_cache, options.build.cache_limit_bytes);
  const ScratchFolder scratch(cache.scratch_parent());
  const fs::path library = scratch.path() / "candidates.so", job = scratch.path() / "job", program = runner_program(options.build);
  ProcessResult result;
  {
    const Sources sources = emit(trials, target, options.space, 4);
    write_file(job, job_text(trials, target, sources.inputs, options.space.threads, options.seconds));
    const MeasuringLock building(MeasuringLock::Kind::building);
    try {
      build_library(sources.emitted, target, library, options.build);
      result.exit_code = 0;
    } catch (const Error& problem) {
      // A candidate that the compiler refuses is one less; anything else is no fault of a candidate.
      if (problem.kind() != ErrorKind::internal) throw;
    }
  }
  if (result.exit_code == 0) {
    const MeasuringLock measuring(MeasuringLock::Kind::measuring);
    result = run_process({program.string(), library.string(), job.string()});
  }
  std::vector<double> promised;
  for (const Trial& trial : trials) promised.insert(promised.end(), trial.configs.size(), promised_of(*trial.subject));
  const std::map<size_t, Measurement> results = read_results(result.output, promised);
  std::vector<std::vector<Measurement>> all;
  size_t model = 0;
  for (const Trial& trial : trials) {
    all.emplace_back();
    for (const schedule::KernelConfig& config : trial.configs) {
      const auto found = results.find(model++);
      Measurement m = found != results.end() ? found->second : Measurement{};
      m.config = schedule::print(config);
      m.features = features_of(*trial.subject, config, target, options.space.threads);
      all.back().push_back(m);
    }
  }
  return all;
}

bool is_missing(const Measurement& m) { return m.status == Measurement::Status::good && m.rounds == 0; }

}  // namespace

double promised_error(int64_t k, DType dtype, bool truncates) {
  const double step = dtype == DType::f64 ? 0x1p-52 : dtype == DType::f32 ? 0x1p-23 : dtype == DType::f16 ? 0x1p-10 : 0x1p-7;
  // Each of two sums wanders by half a step a product, as the root of their number; Winograd's method has four times the roundings.
  const double additions = 4 + 2 * std::sqrt(static_cast<double>(k)) + (truncates ? static_cast<double>(k) / 8 : 0);
  return dtype == DType::f32 || dtype == DType::f64 ? step * additions : step;
}

std::vector<std::vector<Measurement>> measure(const std::vector<Trial>& trials, const Target& target, const MeasureOptions& options) {
  std::vector<std::vector<Measurement>> all = measure_together(trials, target, options);
  // What a broken neighbour kept from being measured runs alone with its default, and is to blame where the default runs without it.
  const auto alone = [&](const Trial& trial, size_t c) {
    std::vector<Measurement> pair = measure_together({{trial.subject, {trial.configs[0], trial.configs[c]}}}, target, options)[0];
    if (is_missing(pair[1]) && !is_cancelled(options) && !is_missing(measure_together({{trial.subject, {trial.configs[0]}}}, target, options)[0][0]))
      pair[1].status = Measurement::Status::failed;
    return pair;
  };
  for (size_t t = 0; t < trials.size(); ++t)
    for (size_t c = 1; c < trials[t].configs.size() && !is_cancelled(options); ++c)
      if (is_missing(all[t][c])) {
        const std::vector<Measurement> pair = alone(trials[t], c);
        if (is_missing(all[t][0])) all[t][0] = pair[0];
        all[t][c] = pair[1];
        if (is_missing(all[t][0])) break;  // nothing can be said without the default
      }
  return all;
}

std::vector<double> measure_models(const fs::path& library, size_t count, const std::vector<std::vector<int64_t>>& inputs, int threads, double seconds,
                                   const BuildOptions& build) {
  const BuildCache cache(build.cache, build.use_cache, build.cache_limit_bytes);
  const ScratchFolder scratch(cache.scratch_parent());
  std::string text = fmt::format("threads {}\nseconds {}\ngroup 0 {}\nwhole\n", threads, seconds, count);
  for (const std::vector<int64_t>& dims : inputs) {
    text += fmt::format("input {}", dims.size());
    for (const int64_t dim : dims) text += fmt::format(" {}", dim);
    text += "\n";
  }
  write_file(scratch.path() / "job", text);
  const fs::path program = runner_program(build);
  const MeasuringLock measuring(MeasuringLock::Kind::measuring);
  const ProcessResult result = run_process({program.string(), library.string(), (scratch.path() / "job").string()});
  const std::map<size_t, Measurement> results = read_results(result.output, {});
  std::vector<double> ratios;
  for (size_t i = 0; i < count; ++i) {
    const auto found = results.find(i);
    if (found == results.end() || found->second.status != Measurement::Status::good) return {};
    ratios.push_back(found->second.ratio);
  }
  return ratios;
}

void emit_trials(const std::vector<Trial>& trials, const Target& target, const MeasureOptions& options, const fs::path& folder) {
  const Sources sources = emit(trials, target, options.space, target.is_gpu() ? 16 : 8);
  write_source_folder(sources.emitted, target, folder, options.build);
  write_file(folder / "job.txt", job_text(trials, target, sources.inputs, options.space.threads, options.seconds));
  nlohmann::json models = nlohmann::json::array();
  for (const Trial& trial : trials)
    for (const schedule::KernelConfig& config : trial.configs) {
      const KernelKey key = key_of(trial.subject->space);
      models.push_back({{"signature", key.signature},
                        {"shape", key.shape},
                        {"form", key.form},
                        {"config", schedule::print(config)},
                        {"features", features_of(*trial.subject, config, target, options.space.threads)},
                        {"promised", promised_of(*trial.subject)}});
    }
  const nlohmann::json header = {
      {"tilewright trials", 1}, {"target", target.name}, {"threads", options.space.threads}, {"space", space_version}, {"models", models}};
  write_file(folder / "trials.json", header.dump() + "\n");
  write_file(folder / "measure.sh",
             "#!/bin/sh\n# Builds the candidates, measures them, and writes results.txt, which `tilewright tune --ingest results.txt` takes.\nset -e\n"
             "cd \"$(dirname \"$0\")\"\nmake -j\n${CXX:-g++} -std=c++20 -O2 -Iinclude src/tune/runner/measure.cpp -o measure -ldl\n" +
                 fmt::format("{{ cat trials.json; echo \"compiler $({})\"; ./measure ./model.so job.txt; }} > results.part\n", version_command(target)) +
                 "mv results.part results.txt\n");
}

Ingested ingest(const fs::path& results, Database& database) {
  const std::string text = read_file(results, int64_t{1} << 30);
  const auto refuse = [&](const std::string& why) {
    fail(ErrorKind::invalid_input, "'{}' is no results.txt of a folder that `tilewright tune --emit` wrote: {}", results.string(), why);
  };
  const size_t end = text.find('\n');
  if (end == std::string::npos) refuse("it has no lines");
  Place place;
  struct Model {
    KernelKey kernel;
    std::string config;
    std::vector<float> features;
  };
  std::vector<Model> models;
  std::vector<double> promised;
  std::string target_name;
  int threads = 0;
  try {
    const nlohmann::json header = nlohmann::json::parse(text.substr(0, end));
    if (header.at("tilewright trials").get<int>() != 1) refuse("another version wrote it");
    place.space = header.at("space");
    threads = header.at("threads");
    target_name = header.at("target");
    for (const nlohmann::json& model : header.at("models")) {
      schedule::parse_kernel_config(model.at("config").get<std::string>());
      models.push_back({{model.at("signature"), model.at("shape"), model.at("form")}, model.at("config"), model.at("features")});
      promised.push_back(model.at("promised"));
    }
  } catch (const nlohmann::json::exception& problem) {
    refuse(problem.what());
  }
  std::string machine;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("machine ")) machine = line.substr(8);
    if (line.starts_with("compiler ")) place.compiler = line.substr(9);
  }
  if (machine.empty() || place.compiler.empty()) refuse("the machine or the compiler is not named");
  place.machine = machine_fingerprint(machine, find_target(target_name), threads);
  std::map<KernelKey, std::vector<Measurement>> by_kernel;
  int64_t count = 0;
  for (auto& [model, measurement] : read_results(text, promised)) {
    if (model >= models.size()) refuse(fmt::format("there is no model {}", model));
    Measurement m = measurement;
    m.config = models[model].config;
    m.features = models[model].features;
    check(Row{place, models[model].kernel, m});
    by_kernel[models[model].kernel].push_back(m);
    ++count;
  }
  if (count == 0) refuse("it has no results");
  for (const auto& [kernel, measurements] : by_kernel) database.add(place, kernel, measurements);
  return {place, count};
}

}  // namespace tilewright::tune
