#include "tune/candidate.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "pattern/build.h"
#include "target/emit_kernel.h"
#include "tune/database.h"

namespace tilewright::tune {
namespace {

using pattern::ExprOp;
using pattern::NestBuilder;
using pattern::Program;
using pattern::TensorId;

/// Copies of one kernel's tensors and patterns.
class Extraction {
 public:
  Extraction(const Subject& subject, const Target& target, const SpaceOptions& options) : subject_(subject), target_(target), options_(options) {}

  Program program() {
    const auto& nest = std::get<pattern::Nest>(kernel().stages.at(0));
    program_.name = kernel().name;
    learn_sizes(nest);
    pattern::Nest copy = nest;
    for (pattern::Access& access : copy.accesses) access.tensor = tensor(access.tensor);
    for (pattern::Store& store : copy.outputs) store.tensor = tensor(store.tensor);
    if (subject_.space.cold) sweep();
    std::set<TensorId> written;
    for (const pattern::Store& store : copy.outputs) written.insert(store.tensor);
    for (pattern::Access& access : copy.accesses)
      if (!program_.tensor(access.tensor).constant && written.count(access.tensor) == 0) produce(access.tensor);
    for (const TensorId id : written) program_.outputs.insert(program_.outputs.begin(), id);
    program_.patterns.emplace_back(std::move(copy));
    return std::move(program_);
  }

  std::vector<std::string> symbols() const { return {symbols_.begin(), symbols_.end()}; }

 private:
  const schedule::Kernel& kernel() const { return subject_.block->kernels.at(static_cast<size_t>(subject_.kernel)); }

  /// An input for each named size, which tells it by its only dim.
  void learn_sizes(const pattern::Nest& nest) {
    for (const std::string& symbol : pattern::symbols_of(nest)) symbols_.insert(symbol);
    for (const TensorId id : kernel().tensors)
      for (const Dim& dim : subject_.block->program.tensor(id).type.dims) dim.collect_symbols(symbols_);
    for (const std::string& symbol : symbols_) program_.inputs.push_back(program_.add_tensor({DType::boolean, {Dim::symbol(symbol)}}, "size of " + symbol));
  }

  TensorId tensor(TensorId id) {
    const auto [entry, added] = ids_.try_emplace(id, -1);
    if (added) {
      const pattern::TensorInfo& info = subject_.block->program.tensor(id);
      entry->second = program_.add_tensor(info.type, info.name, info.constant);
    }
    return entry->second;
  }

  /// Reads twice as much as the second level caches of all cores hold, or the one of a GPU.
  void sweep() {
    const int64_t caches = target_.is_simt() ? 1 : options_.threads;
    const int64_t parts = target_.is_simt() ? 4 * target_.multiprocessors.count : 16 * options_.threads, part = 2 * target_.l2_bytes * caches / 4 / parts;
    const Type all{DType::f32, {parts, part}}, sums{DType::f32, {parts}};
    const TensorId from = program_.add_tensor(all, "swept"), to = program_.add_tensor(sums, "sweep");
    NestBuilder builder({parts, part}, 1);
    builder.store(to, builder.reduce(pattern::ReduceOp::max, builder.load(from, DType::f32, pattern::Map::identity(all.dims)), DType::f32));
    program_.patterns.emplace_back(builder.finish("sweep"));
    program_.inputs.push_back(from);
    program_.outputs.push_back(to);
  }

  /// What the kernel reads was written just before, as in the model.
  void produce(TensorId& id) {
    const auto [entry, added] = produced_.try_emplace(id, -1);
    if (added) {
      const Type type = program_.tensor(id).type;
      const TensorId from = program_.add_tensor(type, "given");
      NestBuilder builder(type.dims, 0);
      const pattern::Expr value = builder.load_broadcast(from, type);
      builder.store(id, type.dtype == DType::boolean ? builder.binary(ExprOp::logical_and, value, value) : builder.binary(ExprOp::max, value, value));
      program_.patterns.emplace_back(builder.finish("produce"));
      program_.inputs.push_back(from);
      entry->second = id;
    }
    id = entry->second;
  }

  const Subject& subject_;
  const Target& target_;
  const SpaceOptions& options_;
  Program program_;
  std::set<std::string> symbols_;
  std::map<TensorId, TensorId> ids_, produced_;
};

void collect(const std::shared_ptr<const schedule::Block>& block, const Target& target, const SpaceOptions& options, std::map<KernelKey, size_t>& seen,
             std::vector<Subject>& subjects) {
  for (size_t i = 0; i < block->kernels.size(); ++i) {
    std::optional<KernelSpace> space = kernel_space(*block, block->kernels[i], target, options);
    if (!space || space->configs.size() < 2) continue;
    const KernelKey key = key_of(*space);
    const auto [entry, added] = seen.try_emplace(key, subjects.size());
    if (added)
      subjects.push_back({block, static_cast<int>(i), 1, std::move(*space), block->kernels[i].source});
    else
      ++subjects[entry->second].uses;
  }
  for (const schedule::Step& step : block->steps) {
    if (const auto* call = std::get_if<schedule::CallIf>(&step))
      for (const auto& branch : {call->then_block, call->else_block}) collect(branch, target, options, seen, subjects);
    if (const auto* call = std::get_if<schedule::CallLoop>(&step)) collect(call->body, target, options, seen, subjects);
  }
}

}  // namespace

std::vector<Subject> find_subjects(const std::shared_ptr<const schedule::Block>& main, const Target& target, const SpaceOptions& options) {
  std::map<KernelKey, size_t> seen;
  std::vector<Subject> subjects;
  collect(main, target, options, seen, subjects);
  return subjects;
}

Candidate make_candidate(const Subject& subject, const schedule::KernelConfig& config, const Target& target, const SpaceOptions& options) {
  Extraction extraction(subject, target, options);
  Program program = extraction.program();
  Candidate candidate;
  const std::vector<std::string> symbols = extraction.symbols();
  const std::map<std::string, int64_t> sizes = options.complete({symbols.begin(), symbols.end()});
  for (const TensorId id : program.inputs) {
    std::vector<int64_t> dims;
    for (const Dim& dim : program.tensor(id).type.dims) dims.push_back(dim.evaluate(sizes));
    candidate.inputs.push_back(std::move(dims));
  }
  const schedule::Options plain{.fuse_maps = false, .fuse_epilogues = false, .fuse_rows = false, .alias_views = false, .write_in_place = false};
  auto block = std::make_shared<schedule::Block>(schedule::schedule(std::move(program), symbols, plain));
  plan_kernels(*block, target, {.rounds = true, .choose = [&](const auto&, const auto&) { return config; }});
  ensure(!block->kernels.empty() && schedule::decided(block->kernels.back()) == config, "a candidate is what it was made for");
  candidate.model.name = "candidate";
  candidate.model.manifest = "{}";
  candidate.model.main = std::move(block);
  return candidate;
}

}  // namespace tilewright::tune
