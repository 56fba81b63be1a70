#include <algorithm>
#include <set>

#include "schedule/fuse.h"
#include "schedule/linear.h"
#include "schedule/rewrite.h"
#include "schedule/uses.h"

namespace tilewright::schedule {
namespace {

using pattern::Pattern;
using pattern::Store;

size_t at(int i) { return static_cast<size_t>(i); }

/// Beyond these an epilogue holds up the loops before it.
constexpr size_t node_limit = 160, access_limit = 20, output_limit = 4;

/// Where a point of the reduction's kept coordinates lies in the map's space, when the map reads `tensor` at exactly one
/// point for each element.
std::optional<Map> space_of_map(const Nest& map, const Nest& reduction, TensorId tensor, const Program& program) {
  const Store* store = nullptr;
  for (const Store& one : reduction.outputs)
    if (one.tensor == tensor) store = &one;
  if (store == nullptr || !(product(map.space) == product(program.tensor(tensor).type.dims))) return std::nullopt;
  std::optional<Map> found;
  for (const Access& access : map.accesses) {
    if (access.tensor != tensor) continue;
    if (!access.indirect.empty() || access.map.may_be_invalid()) return std::nullopt;
    std::optional<Map> back = access.map.inverted();
    if (is_identity(access.map, map.space)) back = access.map;
    if (!back || extents_of(*back) != program.tensor(tensor).type.dims) return std::nullopt;
    const Map here = compose(store->map, *back);
    if (here.may_be_invalid() || (found && !(*found == here))) return std::nullopt;
    found = here;
  }
  return found;
}

/// `map` computed by `reduction` on its results.
std::optional<Nest> joined(const Nest& reduction, const Nest& map, const Program& program, const std::set<TensorId>& results) {
  std::optional<Map> view;
  for (const TensorId tensor : results) {
    if (std::none_of(map.accesses.begin(), map.accesses.end(), [&](const Access& access) { return access.tensor == tensor; })) continue;
    const std::optional<Map> here = space_of_map(map, reduction, tensor, program);
    if (!here || (view && !(*view == *here))) return std::nullopt;
    view = here;
  }
  if (!view) return std::nullopt;
  // A slice that the reduction writes cannot be read by it.
  for (const Access& access : map.accesses)
    for (const Store& store : reduction.outputs)
      if (access.tensor == store.tensor && results.count(store.tensor) == 0) return std::nullopt;

  NestWriter writer(reduction.space, reduction.reduced_rank);
  writer.nest.source = joined_sources(reduction.source, map.source);
  std::vector<ExprId> roots;
  for (const pattern::Reduction& one : reduction.reductions) roots.push_back(one.value);
  for (const Store& store : reduction.outputs) roots.push_back(store.value);
  const std::vector<ExprId> base = writer.copy(reduction.nodes, reduction.accesses, roots, {identity(reduction.space), {}, true});
  writer.nest.reductions = reduction.reductions;
  for (pattern::Reduction& one : writer.nest.reductions) one.value = base[at(one.value)];
  writer.nest.outputs = reduction.outputs;
  for (Store& store : writer.nest.outputs) store.value = base[at(store.value)];

  const auto stored_value = [&](ExprId id) -> std::optional<ExprId> {
    const ExprNode& node = map.nodes[at(id)];
    if (node.op != ExprOp::load) return std::nullopt;
    for (const Store& store : writer.nest.outputs)
      if (store.tensor == map.accesses[at(static_cast<int>(node.integer))].tensor) return store.value;
    return std::nullopt;
  };
  const Dims reduced(reduction.space.end() - reduction.reduced_rank, reduction.space.end());
  const SpaceView over_space{with_ignored(*view, view->rank_in(), reduced), {}, true};
  std::vector<ExprId> values;
  for (const Store& store : map.outputs) values.push_back(store.value);
  const std::vector<ExprId> copied = writer.copy(map.nodes, map.accesses, values, over_space, stored_value);
  for (const Store& store : map.outputs) {
    Store moved{store.tensor, compose(*view, store.map), copied[at(store.value)]};
    if (moved.map.may_be_invalid()) return std::nullopt;
    writer.nest.outputs.push_back(std::move(moved));
  }
  if (writer.nest.nodes.size() > node_limit || writer.nest.accesses.size() > access_limit) return std::nullopt;
  return std::move(writer.nest);
}

bool defines_sizes(const Pattern& pattern) {
  if (std::holds_alternative<pattern::Bind>(pattern)) return true;
  const auto* branch = std::get_if<pattern::If>(&pattern);
  const auto* loop = std::get_if<pattern::Loop>(&pattern);
  return (branch && !branch->bound.empty()) || (loop && !loop->bound.empty());
}

class EpilogueFusion {
 public:
  EpilogueFusion(Program& program, Refusals* refusals) : program_(program), refusals_(refusals) {}

  void run() {
    for (size_t i = 0; i < program_.patterns.size();) {
      const auto* nest = std::get_if<Nest>(&program_.patterns[i]);
      if (nest && !nest->reductions.empty() && try_extend(static_cast<int>(i))) continue;  // whatever stands here now
      ++i;
    }
  }

 private:
  /// Lets reduction `r` take in one map; true when the program changed.
  bool try_extend(int r) {
    const Uses uses(program_);
    const Nest& reduction = std::get<Nest>(program_.patterns[at(r)]);
    std::set<TensorId> results;
    const Dims kept(reduction.space.begin(), reduction.space.end() - reduction.reduced_rank);
    for (const Store& store : reduction.outputs)
      if (uses.writers_of(store.tensor).size() == 1 && product(kept) == product(program_.tensor(store.tensor).type.dims)) results.insert(store.tensor);
    std::set<int> readers, readers_of_all;  // slices of others' tensors count for the order, too
    for (const TensorId tensor : results) readers.insert(uses.readers_of(tensor).begin(), uses.readers_of(tensor).end());
    for (const Store& store : reduction.outputs) readers_of_all.insert(uses.readers_of(store.tensor).begin(), uses.readers_of(store.tensor).end());
    for (const int m : readers) {
      const auto* map = std::get_if<Nest>(&program_.patterns[at(m)]);
      if (!map || map->reduced_rank > 0 || !map->reductions.empty()) continue;
      const auto refuse = [&](const char* why) {
        for (const Access& access : map->accesses)
          if (refusals_ && results.count(access.tensor)) refusals_->note(access.tensor, "fuse_epilogues", why, program_.patterns[at(m)]);
      };
      const bool late = movable_down(r, m, readers_of_all), early = !late && movable_up(r, m, uses);
      if (!late && !early) {
        refuse("the map that reads it needs what is made after it");
        continue;
      }
      std::optional<Nest> fused = joined(reduction, *map, program_, results);
      if (!fused) {
        refuse("the map that reads it does not read each element once, or is too large");
        continue;
      }
      drop_unread(*fused, m, uses);
      if (fused->outputs.size() > output_limit) {
        refuse("too many results are stored already where it is made");
        continue;
      }
      program_.patterns[at(late ? m : r)] = compacted(*fused);
      program_.patterns.erase(program_.patterns.begin() + (late ? r : m));
      return true;
    }
    return false;
  }

  /// Nobody between the two reads what the reduction writes.
  static bool movable_down(int r, int m, const std::set<int>& readers) {
    return std::none_of(readers.begin(), readers.end(), [&](int reader) { return reader > r && reader < m; });
  }

  /// What else the map reads is there before the reduction runs, the sizes it mentions too.
  bool movable_up(int r, int m, const Uses& uses) const {
    for (int i = r + 1; i < m; ++i)
      if (defines_sizes(program_.patterns[at(i)])) return false;
    for (const TensorId id : pattern::reads(program_.patterns[at(m)]))
      for (const int writer : uses.writers_of(id))
        if (writer > r) return false;
    return true;
  }

  /// Results that only the map read need not be stored.
  void drop_unread(Nest& fused, int map, const Uses& uses) const {
    std::erase_if(fused.outputs, [&](const Store& store) {
      if (uses.is_result(store.tensor)) return false;
      const std::vector<int>& readers = uses.readers_of(store.tensor);
      return uses.writers_of(store.tensor).size() == 1 && !readers.empty() &&
             std::all_of(readers.begin(), readers.end(), [&](int reader) { return reader == map; });
    });
    // What is stored last goes first: its layout decides the order of the loops.
    if (fused.outputs.size() > 1) std::rotate(fused.outputs.begin(), fused.outputs.end() - 1, fused.outputs.end());
  }

  Program& program_;
  Refusals* refusals_;
};

}  // namespace

void fuse_epilogues(Program& program, Refusals* refusals) {
  EpilogueFusion(program, refusals).run();
  remove_dead(program);
}

}  // namespace tilewright::schedule
