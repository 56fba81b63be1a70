#include "schedule/place.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "schedule/linear.h"

namespace tilewright::schedule {
namespace {

using pattern::Nest;
using pattern::Program;

size_t at(TensorId id) { return static_cast<size_t>(id); }

/// Follows aliases while they are decided; offsets are in elements of equally sized dtypes.
class Placer {
 public:
  Placer(Block& block, const Options& options) : block_(block), program_(block.program), options_(options) {}

  void run(const std::vector<PlacedView>& views) {
    give_outputs_their_own_tensors();
    block_.placements.assign(program_.tensors.size(), {});
    mark_outside();
    learn_sizes();
    for (const PlacedView& view : views) place_view(view);
    insert_copies();
    measure();
    if (options_.write_in_place) share_in_place();
    settle();
  }

 private:
  struct Copy {
    int before;
    TensorId from, to;
  };

  Placement& of(TensorId id) { return block_.placements[at(id)]; }

  TensorId root(TensorId id) {
    while (of(id).storage == Storage::alias) id = of(id).alias_of;
    return id;
  }

  bool is_input(TensorId id) const { return std::count(program_.inputs.begin(), program_.inputs.end(), id) > 0; }

  /// Every result is one tensor of its own, which neither an input nor a constant nor another result is.
  void give_outputs_their_own_tensors() {
    std::set<TensorId> taken;
    for (TensorId& id : program_.outputs) {
      const bool outside = is_input(id) || program_.tensor(id).constant != nullptr;
      if (!outside && taken.insert(id).second) continue;
      const TensorId own = program_.add_tensor(program_.tensor(id).type, program_.tensor(id).name);
      copies_.push_back({static_cast<int>(block_.steps.size()), id, own});
      id = own;
      taken.insert(own);
    }
  }

  void mark_outside() {
    for (size_t id = 0; id < program_.tensors.size(); ++id)
      if (program_.tensors[id].constant) block_.placements[id].storage = Storage::constant;
    for (const TensorId id : program_.inputs) of(id).storage = Storage::input;
    for (const TensorId id : program_.outputs) of(id).storage = Storage::output;
  }

  void learn_sizes() {
    std::set<std::string> known(block_.entry_symbols.begin(), block_.entry_symbols.end());
    for (const Step& step : block_.steps) {
      known_before_.push_back(known);
      for (const std::string& symbol : step_defines(step)) known.insert(symbol);
    }
    known_before_.push_back(known);
    for (size_t i = 0; i < block_.steps.size(); ++i)
      for (const TensorId id : step_writes(block_, block_.steps[i])) {
        first_write_.emplace(id, static_cast<int>(i));
        if (!std::holds_alternative<RunKernel>(block_.steps[i])) handed_over_.insert(id);
      }
  }

  bool sizes_known(TensorId id, int step) const {
    std::set<std::string> symbols;
    for (const Dim& dim : program_.tensor(id).type.dims) dim.collect_symbols(symbols);
    const std::set<std::string>& known = known_before_[at(step)];
    return std::includes(known.begin(), known.end(), symbols.begin(), symbols.end());
  }

  void alias(TensorId id, TensorId base, const Dim& offset) {
    of(id).storage = Storage::alias;
    of(id).alias_of = base;
    of(id).alias_offset = offset;
  }

  void place_view(const PlacedView& placed) {
    const auto& [view, base, offset] = placed.view;
    const TensorId owner = root(base);
    if (of(view).storage != Storage::output) return alias(view, base, offset);
    // A result's memory comes from outside: what it shows may live there from the start.
    const auto written = first_write_.find(owner);
    const bool whole = offset == Dim(0) && product(program_.tensor(view).type.dims) == product(program_.tensor(owner).type.dims) && only_whole(base);
    if (whole && of(owner).storage == Storage::unused && written != first_write_.end() && handed_over_.count(owner) == 0 && sizes_known(view, written->second))
      return alias(owner, view, 0);
    const TensorId window = program_.add_tensor(program_.tensor(view).type, program_.tensor(view).name);
    block_.placements.push_back({});
    alias(window, base, offset);
    copies_.push_back({placed.step, window, view});
  }

  /// Whether `id` begins where its root does.
  bool only_whole(TensorId id) {
    for (; of(id).storage == Storage::alias; id = of(id).alias_of)
      if (!(of(id).alias_offset == Dim(0))) return false;
    return true;
  }

  void insert_copies() {
    std::stable_sort(copies_.begin(), copies_.end(), [](const Copy& a, const Copy& b) { return a.before < b.before; });
    std::vector<Step> steps;
    std::vector<std::set<std::string>> known;
    size_t next = 0;
    for (size_t i = 0; i <= block_.steps.size(); ++i) {
      for (; next < copies_.size() && copies_[next].before == static_cast<int>(i); ++next) {
        steps.push_back(CopyTensor{copies_[next].from, copies_[next].to});
        known.push_back(known_before_[i]);
      }
      known.push_back(known_before_[i]);
      if (i < block_.steps.size()) steps.push_back(block_.steps[i]);
    }
    block_.steps = std::move(steps);
    known_before_ = std::move(known);
    handed_over_.clear();
    for (const Step& step : block_.steps)
      if (std::holds_alternative<CallIf>(step) || std::holds_alternative<CallLoop>(step))
        for (const TensorId id : step_writes(block_, step)) handed_over_.insert(id);
  }

  void touch(TensorId id, int step) {
    for (;; id = of(id).alias_of) {
      Placement& placement = of(id);
      if (placement.first_step < 0 || step < placement.first_step) placement.first_step = step;
      placement.last_step = std::max(placement.last_step, step);
      if (placement.storage != Storage::alias) break;
    }
  }

  void measure() {
    for (Placement& placement : block_.placements) placement.first_step = placement.last_step = -1;
    for (size_t i = 0; i < block_.steps.size(); ++i) {
      for (const TensorId id : step_reads(block_, block_.steps[i])) touch(id, static_cast<int>(i));
      for (const TensorId id : step_writes(block_, block_.steps[i])) touch(id, static_cast<int>(i));
    }
    const int end = std::max(0, static_cast<int>(block_.steps.size()) - 1);
    for (const TensorId id : program_.outputs) touch(id, end);
  }

  /// A kernel that reads each element only to write the same place may write over it when nobody needs it afterwards.
  void share_in_place() {
    for (size_t i = 0; i < block_.steps.size(); ++i) {
      const auto* run = std::get_if<RunKernel>(&block_.steps[i]);
      if (!run) continue;
      const InPlace found = in_place(block_.kernels[at(run->kernel)]);
      const int step = static_cast<int>(i);
      for (const auto& [from, same_place] : found.reads) {
        const TensorId owner = root(from), to = found.output;
        if (!same_place || of(owner).storage != Storage::unused || of(to).storage != Storage::unused || owner == to) continue;
        if (of(owner).last_step != step || of(to).first_step != step || handed_over_.count(owner) || handed_over_.count(to)) continue;
        if (in_arena(owner) != in_arena(to) || !only_whole(from) || !(bytes(owner) == bytes(to))) continue;
        bool read_elsewhere = false;
        for (const auto& [other, same] : found.reads) read_elsewhere |= !same && root(other) == owner;
        if (read_elsewhere) continue;
        alias(to, owner, 0);
        of(owner).last_step = of(to).last_step;
        break;
      }
    }
  }

  /// What a kernel reads, and whether each element is read only where `output` is written.
  struct InPlace {
    TensorId output = -1;
    std::map<TensorId, bool> reads;
  };

  InPlace in_place(const Kernel& kernel) const {
    InPlace found;
    if (kernel.stages.size() != 1) return found;
    if (const auto* scatter = std::get_if<pattern::Scatter>(&kernel.stages[0])) {
      found.output = scatter->output;
      found.reads[scatter->initial] = true;
      for (const pattern::Access& access : scatter->accesses) found.reads[access.tensor] = false;
      return found;
    }
    const auto* nest = std::get_if<Nest>(&kernel.stages[0]);
    if (!nest || nest->reduced_rank > 0 || nest->outputs.size() != 1) return found;
    const pattern::Store& store = nest->outputs[0];
    found.output = store.tensor;
    const Bounds bounds = space_bounds(nest->space);
    const Dims point = coordinates_of(nest->space);
    const auto address = [&](TensorId id, const pattern::Map& map) -> std::optional<Dim> {
      if (map.rank_in() != static_cast<int>(point.size())) return std::nullopt;
      const LoweredMap lowered = lower_map(map, point, bounds);
      if (!lowered.guards.empty()) return std::nullopt;
      return simplify(dot(lowered.coordinates, row_major(program_.tensor(id).type.dims)), bounds);
    };
    const std::optional<Dim> written = address(store.tensor, store.map);
    const bool writes_all = product(nest->space) == product(program_.tensor(store.tensor).type.dims);
    for (const pattern::Access& access : nest->accesses) {
      const bool same = writes_all && access.indirect.empty() && written && address(access.tensor, access.map) == written &&
                        size_of(program_.tensor(access.tensor).type.dtype) == size_of(program_.tensor(store.tensor).type.dtype);
      const auto [entry, added] = found.reads.emplace(access.tensor, same);
      if (!added) entry->second = entry->second && same;
    }
    return found;
  }

  Dim bytes(TensorId id) const {
    const Type& type = program_.tensor(id).type;
    return product(type.dims) * Dim(static_cast<int64_t>(size_of(type.dtype)));
  }

  bool in_arena(TensorId id) const {
    std::set<std::string> symbols;
    for (const Dim& dim : program_.tensor(id).type.dims) dim.collect_symbols(symbols);
    for (const std::string& symbol : symbols)
      if (std::count(block_.entry_symbols.begin(), block_.entry_symbols.end(), symbol) == 0) return false;
    return handed_over_.count(id) == 0;
  }

  void settle() {
    for (size_t index = 0; index < block_.placements.size(); ++index) {
      Placement& placement = block_.placements[index];
      if (placement.storage != Storage::unused || placement.first_step < 0) continue;
      const TensorId id = static_cast<TensorId>(index);
      placement.storage = in_arena(id) ? Storage::arena : Storage::dynamic;
      if (placement.storage == Storage::dynamic && handed_over_.count(id) == 0 && !sizes_known(id, placement.first_step))
        fail(ErrorKind::internal, "internal error: tensor '{}' {} is written before its sizes are known (block '{}', step {})", program_.tensor(id).name,
             str(program_.tensor(id).type), program_.name, placement.first_step);
    }
  }

  Block& block_;
  Program& program_;
  const Options& options_;
  std::vector<Copy> copies_;
  std::vector<std::set<std::string>> known_before_;  ///< by step
  std::map<TensorId, int> first_write_;
  std::set<TensorId> handed_over_;  ///< written by If or Loop: their memory comes from the called block
};

void append(std::vector<TensorId>& to, const std::vector<TensorId>& from) { to.insert(to.end(), from.begin(), from.end()); }

}  // namespace

std::optional<ViewOf> as_view(const pattern::Pattern& pattern, const Program& program) {
  const auto* nest = std::get_if<Nest>(&pattern);
  if (!nest || nest->reduced_rank > 0 || nest->outputs.size() != 1) return std::nullopt;
  const pattern::Store& store = nest->outputs[0];
  const pattern::ExprNode& value = nest->nodes[at(store.value)];
  if (value.op != pattern::ExprOp::load) return std::nullopt;
  const pattern::Access& access = nest->accesses[static_cast<size_t>(value.integer)];
  const Type& from = program.tensor(access.tensor).type;
  const Type& to = program.tensor(store.tensor).type;
  if (from.dtype != to.dtype || !access.indirect.empty() || !(product(nest->space) == product(to.dims))) return std::nullopt;
  const Bounds bounds = space_bounds(nest->space);
  const Dims point = coordinates_of(nest->space);
  const LoweredMap read = lower_map(access.map, point, bounds), written = lower_map(store.map, point, bounds);
  if (!read.guards.empty() || !written.guards.empty()) return std::nullopt;
  const Dim source = simplify(dot(read.coordinates, row_major(from.dims)), bounds);
  const Dim target = simplify(dot(written.coordinates, row_major(to.dims)), bounds);
  const Dim offset = source - target;
  std::set<std::string> symbols;
  offset.collect_symbols(symbols);
  for (const std::string& symbol : symbols)
    if (symbol.starts_with(reserved_prefix)) return std::nullopt;
  return ViewOf{store.tensor, access.tensor, offset};
}

std::vector<TensorId> step_reads(const Block& block, const Step& step) {
  std::vector<TensorId> ids;
  if (const auto* run = std::get_if<RunKernel>(&step))
    for (const pattern::Pattern& stage : block.kernels[at(run->kernel)].stages) append(ids, pattern::reads(stage));
  if (const auto* bind = std::get_if<BindSizes>(&step)) ids = {bind->bind.tensor};
  if (const auto* call = std::get_if<CallIf>(&step)) ids = pattern::reads(pattern::Pattern(call->pattern));
  if (const auto* call = std::get_if<CallLoop>(&step)) ids = pattern::reads(pattern::Pattern(call->pattern));
  if (const auto* copy = std::get_if<CopyTensor>(&step)) ids = {copy->from};
  if (const auto* run = std::get_if<RunKernel>(&step)) {
    const std::vector<TensorId>& local = block.kernels[at(run->kernel)].row_local;
    std::erase_if(ids, [&](TensorId id) { return std::count(local.begin(), local.end(), id) > 0; });
  }
  return ids;
}

std::vector<TensorId> step_writes(const Block& block, const Step& step) {
  std::vector<TensorId> ids;
  if (const auto* run = std::get_if<RunKernel>(&step)) {
    for (const pattern::Pattern& stage : block.kernels[at(run->kernel)].stages) append(ids, pattern::writes(stage));
    const std::vector<TensorId>& local = block.kernels[at(run->kernel)].row_local;
    std::erase_if(ids, [&](TensorId id) { return std::count(local.begin(), local.end(), id) > 0; });
  }
  if (const auto* call = std::get_if<CallIf>(&step)) ids = call->pattern.outputs;
  if (const auto* call = std::get_if<CallLoop>(&step)) ids = call->pattern.outputs;
  if (const auto* copy = std::get_if<CopyTensor>(&step)) ids = {copy->to};
  return ids;
}

std::vector<std::string> step_defines(const Step& step) {
  if (const auto* bind = std::get_if<BindSizes>(&step)) return bind->bind.symbols;
  std::vector<std::string> symbols;
  const auto* call_if = std::get_if<CallIf>(&step);
  const auto* call_loop = std::get_if<CallLoop>(&step);
  if (call_if)
    for (const pattern::BoundSymbol& bound : call_if->pattern.bound) symbols.push_back(bound.symbol);
  if (call_loop)
    for (const pattern::BoundSymbol& bound : call_loop->pattern.bound) symbols.push_back(bound.symbol);
  return symbols;
}

void place(Block& block, const std::vector<PlacedView>& views, const Options& options) { Placer(block, options).run(views); }

}  // namespace tilewright::schedule
