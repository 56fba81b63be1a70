#include "runner.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>

#include "artifact/compare.h"
#include "artifact/run.h"
#include "base/error.h"
#include "base/file.h"
#include "base/npy.h"
#include "compiler/compile.h"
#include "import/onnx/tensor_file.h"
#include "op/rounding.h"

namespace tilewright::suite {
namespace fs = std::filesystem;
namespace {

Tensor read_tensor(const fs::path& file) { return file.extension() == ".npy" ? read_npy(file) : onnx::read_tensor_file(file); }

/// The ONNX runner's inputs for the `light` networks.
std::vector<Tensor> ramps(const Model& model) {
  std::vector<Tensor> inputs;
  for (int i = 0; i < model.api().input_count; ++i) {
    const tilewright_value& value = model.api().inputs[i];
    std::vector<int64_t> dims(value.dims, value.dims + value.rank);
    for (int64_t& dim : dims) dim = dim < 0 ? 1 : dim;  // as the ONNX runner does
    Tensor tensor(static_cast<DType>(value.dtype), dims);
    for (int64_t k = 0; k < tensor.element_count(); ++k)
      tensor.set_float(k, static_cast<float>(static_cast<double>(k) / static_cast<double>(tensor.element_count())));
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

double largest_magnitude(const Tensor& tensor) {
  double largest = 0;
  for (int64_t i = 0; i < tensor.element_count(); ++i)
    if (const double value = std::abs(tensor.float_at(i)); std::isfinite(value)) largest = std::max(largest, value);
  return largest;
}

/// The least precise float dtype that the graph computes in.
DType weakest_float(const Graph& graph) {
  DType weakest = DType::f64;
  for (const Node& node : graph.nodes)
    for (const ValueId id : node.outputs)
      if (const DType dtype = graph.type(id).dtype; is_float(dtype) && dtype <= DType::bf16) weakest = std::max(weakest, dtype);
  return weakest;
}

/// What results may differ by.
struct Rounding {
  double steps = 0;
  DType weakest = DType::f32;
  std::vector<HalfError> half;  ///< by output, of a policy of 16 bits
};

Rounding rounding_of(const Prepared& model, const Precision& precision) {
  Rounding rounding{rounding_steps(model.imported), weakest_float(model.imported), std::vector<HalfError>(model.optimised.outputs.size())};
  if (!precision.may_lower()) return rounding;
  const std::vector<HalfError> errors = half_errors(model.optimised);
  for (size_t i = 0; i < rounding.half.size(); ++i) rounding.half[i] = errors[static_cast<size_t>(model.optimised.outputs[i])];
  return rounding;
}

/// Without a reason when every data set comes out right.
Verdict run_data(const Case& one, const Model& model, const Rounding& rounding) {
  Verdict verdict{.name = one.name};
  Context context = open_context(model, 1);
  for (const DataSet& data : one.data) {
    std::vector<Tensor> inputs;
    for (const fs::path& file : data.inputs) inputs.push_back(read_tensor(file));
    if (data.generated_inputs) inputs = ramps(model);
    const std::vector<Tensor> outputs = run_model(context, model, inputs);
    if (outputs.size() < data.outputs.size()) {
      verdict.reason = fmt::format("{} outputs, expected {}", outputs.size(), data.outputs.size());
      return verdict;
    }
    for (size_t i = 0; i < data.outputs.size(); ++i) {
      const Tensor expected = read_tensor(data.outputs[i]);
      Tolerance tolerance = conformance_tolerance(expected.dtype());
      const double largest = largest_magnitude(expected);
      if (one.network && is_float(expected.dtype())) tolerance = network_tolerance(std::max(rounding.weakest, expected.dtype()), rounding.steps, largest);
      if (is_float(expected.dtype())) {
        tolerance.relative += rounding.half[i].largest;
        tolerance.absolute += rounding.half[i].largest * largest;
      }
      // Nobody can be asked to agree better with the reference than it agrees with itself.
      if (i < data.allowed_difference.size()) tolerance.absolute = std::max(tolerance.absolute, data.allowed_difference[i]);
      const Comparison result = compare(outputs[i], expected, tolerance);
      // As a whole a tensor keeps a closer promise than its worst element, but for what the reference engine differs from itself by.
      const double promised = rounding.half[i].rms + epsilon_of(rounding.weakest) * rounding.steps;
      if (rounding.half[i].rms > 0 && is_float(expected.dtype())) {
        if (result.relative_rms >= verdict.error) verdict.error = result.relative_rms, verdict.promised = promised;
        const bool excused =
            result.largest_absolute <= tolerance.absolute && i < data.allowed_difference.size() && data.allowed_difference[i] >= tolerance.absolute;
        if (one.network && result.relative_rms > promised && !excused && verdict.reason.empty())
          verdict.reason =
              fmt::format("{}output {}: relative rms {:.3g}, promised {:.3g}", data.name.empty() ? "" : data.name + " ", i, result.relative_rms, promised);
      }
      if (!result.same && verdict.reason.empty()) verdict.reason = fmt::format("{}output {}: {}", data.name.empty() ? "" : data.name + " ", i, result.reason);
    }
  }
  return verdict;
}

class Batch {
 public:
  Batch(std::vector<const Case*> cases, const RunOptions& options, int channel) : cases_(std::move(cases)), options_(options), channel_(channel) {}

  void run() {
    std::vector<const Case*> good;
    std::vector<Prepared> prepared;
    CompileOptions compile_options;
    compile_options.target = options_.target;
    compile_options.precision = options_.precision;
    compile_options.build.jobs = 1;
    compile_options.build.optimisation = options_.optimisation;
    for (const Case* one : cases_) {
      send({{"start", one->name}});
      try {
        prepared.push_back(prepare(one->model, compile_options));
        good.push_back(one);
      } catch (const std::exception& failure) {
        verdict(*one, failure.what());
      }
    }
    build_and_run(good, prepared, compile_options);
  }

 private:
  void send(const nlohmann::json& line) {
    const std::string text = line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    if (write(channel_, text.data(), text.size()) < 0) _exit(3);
  }
  void verdict(const Verdict& one) {
    send({{"name", one.name}, {"reason", one.reason}, {"error", one.error}, {"promised", one.promised}, {"built_seconds", one.built_seconds}});
  }
  void verdict(const Case& one, const std::string& reason) { verdict({.name = one.name, .reason = reason}); }

  void build_and_run(const std::vector<const Case*>& cases, const std::vector<Prepared>& prepared, const CompileOptions& compile_options) {
    if (cases.empty()) return;
    const ScratchFolder folder(fs::temp_directory_path());
    const fs::path library = folder.path() / "models.so";
    send({{"start", cases.size() == 1 ? cases[0]->name : ""}});
    const auto begin = std::chrono::steady_clock::now();
    try {
      build_models(prepared, library, compile_options);
    } catch (const std::exception& failure) {
      if (cases.size() == 1) return verdict(*cases[0], failure.what());
      const auto half = static_cast<std::ptrdiff_t>(cases.size() / 2);  // find the one that does not compile
      build_and_run({cases.begin(), cases.begin() + half}, {prepared.begin(), prepared.begin() + half}, compile_options);
      return build_and_run({cases.begin() + half, cases.end()}, {prepared.begin() + half, prepared.end()}, compile_options);
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    for (size_t i = 0; i < cases.size(); ++i) {
      if (options_.compile_only) {
        verdict({.name = cases[i]->name, .built_seconds = cases.size() == 1 ? seconds : 0});
        continue;
      }
      send({{"start", cases[i]->name}});
      try {
        verdict(run_data(*cases[i], open_model(library.string(), static_cast<int>(i)), rounding_of(prepared[i], options_.precision)));
      } catch (const std::exception& failure) {
        verdict(*cases[i], failure.what());
      }
    }
  }

  std::vector<const Case*> cases_;
  const RunOptions& options_;
  int channel_;
};

struct Process {
  pid_t id = 0;
  int channel = -1;
  std::string pending, current;
  std::map<std::string, const Case*> open;  ///< cases without a verdict
};

Process start(const std::vector<const Case*>& cases, const RunOptions& options) {
  int ends[2];
  if (pipe(ends) != 0) fail(ErrorKind::environment, "cannot make a pipe");
  const pid_t id = fork();
  if (id < 0) fail(ErrorKind::environment, "cannot start a process");
  if (id == 0) {
    close(ends[0]);
    alarm(static_cast<unsigned>(options.timeout_seconds));
    Batch(cases, options, ends[1]).run();
    _exit(0);
  }
  close(ends[1]);
  Process process{id, ends[0], {}, {}, {}};
  for (const Case* one : cases) process.open[one->name] = one;
  return process;
}

}  // namespace

std::vector<Verdict> run_cases(const std::vector<Case>& cases, const RunOptions& options, const std::function<void(const Verdict&)>& on_verdict) {
  std::deque<std::vector<const Case*>> waiting;
  for (size_t i = 0; i < cases.size();) {
    std::vector<const Case*> batch;
    const size_t size = cases[i].network ? 1 : static_cast<size_t>(options.batch);
    for (; batch.size() < size && i < cases.size(); ++i) batch.push_back(&cases[i]);
    waiting.push_back(std::move(batch));
  }
  std::vector<Verdict> verdicts;
  const auto conclude = [&](Process& process, Verdict verdict) {
    if (process.open.erase(verdict.name) == 0) return;
    verdict.passed = verdict.reason.empty();
    verdicts.push_back(std::move(verdict));
    if (on_verdict) on_verdict(verdicts.back());
  };
  std::vector<Process> running;
  while (!waiting.empty() || !running.empty()) {
    while (!waiting.empty() && running.size() < static_cast<size_t>(options.jobs)) {
      running.push_back(start(waiting.front(), options));
      waiting.pop_front();
    }
    std::vector<pollfd> polled;
    for (const Process& process : running) polled.push_back({process.channel, POLLIN, 0});
    poll(polled.data(), polled.size(), -1);
    for (size_t i = running.size(); i-- > 0;) {
      if (polled[i].revents == 0) continue;
      Process& process = running[i];
      char buffer[65536];
      const ssize_t got = read(process.channel, buffer, sizeof buffer);
      if (got > 0) {
        process.pending.append(buffer, static_cast<size_t>(got));
        for (size_t end; (end = process.pending.find('\n')) != std::string::npos; process.pending.erase(0, end + 1)) {
          const nlohmann::json line = nlohmann::json::parse(process.pending.substr(0, end));
          if (line.contains("start"))
            process.current = line.at("start");
          else
            conclude(process, {.name = line.at("name"),
                               .reason = line.at("reason"),
                               .error = line.value("error", 0.0),
                               .promised = line.value("promised", 0.0),
                               .built_seconds = line.value("built_seconds", 0.0)});
        }
        continue;
      }
      int status = 0;
      waitpid(process.id, &status, 0);
      close(process.channel);
      if (!process.open.empty()) {  // it died: blame the case it was at, try the others again
        const std::string how =
            WIFSIGNALED(status) ? (WTERMSIG(status) == SIGALRM ? "timed out" : fmt::format("crashed (signal {})", WTERMSIG(status))) : "the batch ended early";
        std::vector<const Case*> rest;
        const bool known = process.open.count(process.current) > 0;
        if (known) conclude(process, {.name = process.current, .reason = how});
        for (const auto& [name, one] : process.open) rest.push_back(one);
        if (!known && rest.size() == 1)
          conclude(process, {.name = rest[0]->name, .reason = how});
        else if (!known)
          for (const Case* one : rest) waiting.push_back({one});
        else if (!rest.empty())
          waiting.push_back(rest);
      }
      running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  return verdicts;
}

}  // namespace tilewright::suite
