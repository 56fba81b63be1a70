#include "runner.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "artifact/compare.h"
#include "families.h"
#include "pattern/interpreter.h"
#include "rounding.h"
#include "target/kernel_space.h"
#include "target/testing/run_blocks.h"

namespace tilewright::emulated {
namespace {

/// Choices of sizes that a kernel with run-time sizes is given.
constexpr int draws_at_run_time = 4;

/// One choice of sizes and inputs for a program, and what comes of it.
struct Draw {
  std::string sizes;
  std::vector<Tensor> inputs, expected;
  std::vector<double> errors;  ///< by output, as a part of its size
};

struct Subject {
  std::string name;
  pattern::Program program;
  std::vector<Draw> draws;
  bool fused = true;
};

/// The cases that one library holds.
struct Library {
  const Family* family;
  std::string target;
  int round;
};

std::string sizes_text(const Draft& draft) {
  std::string text;
  for (const auto& [symbol, value] : draft.values()) text += fmt::format("{}{}={}", text.empty() ? "" : " ", symbol, value);
  if (!text.empty()) return text;
  for (const Tensor& input : draft.inputs) text += fmt::format("{}[{}]", text.empty() ? "" : " ", fmt::join(input.dims(), ","));
  return text;
}

Subject make_subject(const Family& family, DType dtype, Sizes sizes, uint64_t seed) {
  Subject subject;
  subject.name = fmt::format("{} {} seed {} {}", family.name, name(dtype), seed, sizes == Sizes::constant ? "constant" : "run_time");
  const uint64_t structure = seed * 2 + (sizes == Sizes::constant ? 0 : 1);
  for (int i = 0; i < (sizes == Sizes::constant ? 1 : draws_at_run_time); ++i) {
    Draft draft(sizes, structure, structure * 64 + static_cast<uint64_t>(i));
    family.build(draft, dtype);
    pattern::Program program = lower(draft.graph);
    pattern::verify(program);
    Draw draw{sizes_text(draft), draft.inputs, pattern::interpret(program, draft.inputs), {}};
    draw.errors = rounding_errors(program, draft.values());
    subject.draws.push_back(std::move(draw));
    subject.fused = draft.fused && seed % 4 != 3;
    if (i == 0) subject.program = std::move(program);
  }
  return subject;
}

/// A product by warpgroups, where it can be one: the space leaves them out of small products, which are better done otherwise.
std::optional<schedule::KernelConfig> by_warpgroups(const pattern::Program& program, const schedule::Kernel& kernel, size_t variant) {
  const auto* nest = std::get_if<pattern::Nest>(&kernel.stages.at(0));
  if (!nest || nest->accesses.empty()) return std::nullopt;
  static constexpr struct { int m, n, stages; } cuts[] = {{64, 64, 2}, {64, 128, 3}, {128, 64, 4}, {128, 128, 3}, {64, 256, 2}, {128, 256, 3}};
  const auto& cut = cuts[variant % std::size(cuts)];
  const int depth = 128 / static_cast<int>(size_of(program.tensor(nest->accesses[0].tensor).type.dtype));
  return schedule::TileConfig{.unit = schedule::TileConfig::Unit::wgmma,
                              .tile = {cut.m, cut.n},
                              .warps = {cut.m / 16, 1},
                              .depth = depth,
                              .stages = cut.stages,
                              .group = variant % 2 == 0 ? 1 : 8};
}

schedule::Block schedule_for(const Subject& subject, const Target& target) {
  std::set<std::string> symbols;
  for (const int id : subject.program.inputs)
    for (const Dim& dim : subject.program.tensor(id).type.dims) dim.collect_symbols(symbols);
  schedule::Options options;
  options.streams_attention = streams_attention(target.kind);
  if (!subject.fused) options = {false, false, false, false, false};
  options.row_bytes = target.shared_bytes;
  schedule::Block block = schedule::schedule(subject.program, {symbols.begin(), symbols.end()}, options);
  // Another configuration a subject.
  plan_kernels(block, target, {.choose = [&](const schedule::Block& whole, const schedule::Kernel& kernel) -> std::optional<schedule::KernelConfig> {
                 const size_t variant = std::hash<std::string>{}(subject.name);
                 if (target.warpgroups) return by_warpgroups(whole.program, kernel, variant);
                 const std::optional<KernelSpace> space = kernel_space(whole, kernel, target, {});
                 return space ? std::optional(space->configs[variant % space->configs.size()]) : std::nullopt;
               }});
  return block;
}

double root_mean_square(const Tensor& tensor) {
  double squares = 0;
  int64_t finite = 0;
  for (int64_t i = 0; i < tensor.element_count(); ++i)
    if (const double value = tensor.float_at(i); std::isfinite(value)) squares += value * value, ++finite;
  return finite == 0 ? 0 : std::sqrt(squares / static_cast<double>(finite));
}

/// Why what a kernel gave is wrong, or "".
std::string fault_of(const std::vector<Tensor>& actual, const Draw& draw) {
  if (actual.size() != draw.expected.size()) return fmt::format("{} outputs instead of {}", actual.size(), draw.expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    constexpr double deviations = 4;  // of a random walk: one element in 10^4 or so goes that far
    const double error = deviations * draw.errors[i];
    const Comparison comparison = compare(actual[i], draw.expected[i], {error, error == 0 ? 0 : error * root_mean_square(draw.expected[i])});
    if (!comparison.same) return fmt::format("output {}: {}", i, comparison.reason);
  }
  return "";
}

std::string run_draw(const testing::CompiledBlocks& compiled, size_t block, const Draw& draw, int interleavings) {
  std::vector<Tensor> first;
  for (int run = 0; run < interleavings; ++run) {
    std::vector<Tensor> actual;
    try {
      actual = compiled.run(block, draw.inputs, 1);
    } catch (const std::exception& failure) {
      return failure.what();
    }
    if (const std::string fault = fault_of(actual, draw); !fault.empty()) return fault;
    if (run == 0) first = actual;
    for (size_t i = 0; i < actual.size(); ++i)
      if (!actual[i].same_bytes(first[i])) return fmt::format("output {} differs between the first interleaving and number {}", i, run + 1);
  }
  return "";
}

class Runner {
 public:
  Runner(const RunOptions& options, const std::function<void(const Verdict&)>& report) : options_(options), report_(report) {}

  void run(const Library& library) {
    const std::vector<Subject> subjects = subjects_of(library);
    if (subjects.empty()) return;
    const Target& target = find_target(library.target);
    std::vector<schedule::Block> blocks;
    for (const Subject& subject : subjects) blocks.push_back(schedule_for(subject, target));
    std::optional<testing::CompiledBlocks> compiled;
    std::string failure;
    try {
      compiled.emplace(std::move(blocks), library.target, "-O1");  // they run often
    } catch (const std::exception& error) {
      failure = error.what();
    }
    for (size_t i = 0; i < subjects.size(); ++i)
      for (const Draw& draw : subjects[i].draws) {
        const std::string fault = compiled ? run_draw(*compiled, i, draw, options_.interleavings) : failure;
        const std::lock_guard lock(guard_);
        report_({fmt::format("{} ({}) {}", subjects[i].name, draw.sizes, library.target), fault});
      }
  }

 private:
  std::vector<Subject> subjects_of(const Library& library) {
    std::vector<Subject> subjects;
    for (const DType dtype : library.family->dtypes)
      for (const Sizes sizes : {Sizes::constant, Sizes::run_time}) {
        const uint64_t seed = options_.seed + static_cast<uint64_t>(library.round);
        if (fmt::format("{} {} ", library.family->name, name(dtype)).find(options_.filter) == std::string::npos) continue;
        // Each dtype has variants of its own.
        subjects.push_back(make_subject(*library.family, dtype, sizes, seed * 100 + static_cast<uint64_t>(dtype)));
      }
    return subjects;
  }

  const RunOptions& options_;
  const std::function<void(const Verdict&)>& report_;
  std::mutex guard_;
};

}  // namespace

void run_cases(const RunOptions& options, const std::function<void(const Verdict&)>& report) {
  const std::vector<Family> all = families();
  const std::span<const Family> products = product_families();
  std::vector<Library> libraries;
  for (int round = 0; round < options.rounds; ++round)
    for (const Family& family : all)
      for (const std::string& target : options.targets) {
        // Machines with warpgroups differ from those without in their products.
        if (find_target(target).warpgroups && std::none_of(products.begin(), products.end(), [&](const Family& f) { return f.name == family.name; })) continue;
        libraries.push_back({&family, target, round});
      }
  Runner runner(options, report);
  std::atomic<size_t> next{0};
  std::exception_ptr failure;
  std::mutex guard;
  const auto work = [&] {
    for (size_t i = next++; i < libraries.size(); i = next++) {
      try {
        runner.run(libraries[i]);
      } catch (...) {
        const std::lock_guard lock(guard);
        if (!failure) failure = std::current_exception();
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < options.jobs; ++i) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace tilewright::emulated
