#include <algorithm>
#include <set>

#include "schedule/fuse.h"
#include "schedule/linear.h"
#include "schedule/rewrite.h"
#include "schedule/uses.h"

namespace tilewright::schedule {
namespace {

using pattern::Pattern;

size_t at(int i) { return static_cast<size_t>(i); }

/// A row's intermediate results should stay near the core.
constexpr int64_t row_element_limit = 1 << 17;

bool may_be_stage(const Pattern& pattern) {
  const auto* nest = std::get_if<Nest>(&pattern);
  return nest && pattern::classify(*nest) != pattern::NestKind::contract;
}

size_t kept_rank(const Nest& nest) { return nest.space.size() - static_cast<size_t>(nest.reduced_rank); }

/// Whether the first `shared` coordinates of the tensor are those of the space, and the others do not depend on them.
bool follows_rows(const Map& map, const Dims& space, size_t shared) {
  if (static_cast<size_t>(map.rank_out()) < shared || map.rank_in() != static_cast<int>(space.size())) return false;
  const LoweredMap lowered = lower_map(map, coordinates_of(space), space_bounds(space));
  for (size_t d = 0; d < static_cast<size_t>(map.rank_out()); ++d)
    for (size_t i = 0; i < shared; ++i) {
      const std::string symbol = coordinate_symbol(static_cast<int>(i));
      // A coordinate that is always zero may be written as the number.
      const bool same = lowered.coordinates[d] == Dim::symbol(symbol) || (space[i] == Dim(1) && lowered.coordinates[d] == Dim(0));
      if (d == i ? !same : mentions(lowered.coordinates[d], symbol)) return false;
    }
  for (const Guard& guard : lowered.guards)
    for (size_t i = 0; i < shared; ++i)
      if (mentions(guard.value, coordinate_symbol(static_cast<int>(i)))) return false;
  return true;
}

class RowGrouping {
 public:
  RowGrouping(const Program& program, const std::vector<RowGroup>& taken, Refusals* refusals)
      : program_(program), uses_(program), taken_(program.patterns.size(), false), refusals_(refusals) {
    for (const RowGroup& group : taken)
      for (const int member : group.patterns) taken_[at(member)] = true;
  }

  std::vector<RowGroup> run() {
    std::vector<RowGroup> groups;
    for (size_t i = 0; i < program_.patterns.size(); ++i) {
      const auto* nest = std::get_if<Nest>(&program_.patterns[i]);
      if (taken_[i] || !nest || nest->reductions.empty() || !may_be_stage(program_.patterns[i])) continue;
      const std::optional<RowGroup> group = grow(static_cast<int>(i));
      if (!group) continue;
      for (const int member : group->patterns) taken_[at(member)] = true;
      groups.push_back(*group);
    }
    return groups;
  }

 private:
  const Nest& nest(int i) const { return std::get<Nest>(program_.patterns[at(i)]); }

  /// From a reduction along rows, onwards through what reads the rows' results, and back to maps that only the group reads.
  std::optional<RowGroup> grow(int first) {
    const Nest& start = nest(first);
    const size_t shared = kept_rank(start);
    const char* const hopeless = shared == 0             ? "one row alone is reduced"
                                 : !along_rows(start)    ? "what is summed up does not lie side by side"
                                 : !worth(start, shared) ? "rows are too long to stay near a core, or too few for all cores"
                                                         : nullptr;
    if (hopeless) {
      note(start.outputs, hopeless);
      return std::nullopt;
    }
    rows_ = Dims(start.space.begin(), start.space.begin() + static_cast<std::ptrdiff_t>(shared));
    members_ = {first};
    for (int i = first + 1; i < static_cast<int>(program_.patterns.size()); ++i)
      if (!taken_[at(i)]) {
        if (const char* const why = refusal(i))
          note_read(i, why);
        else
          members_.push_back(i);
      }
    while (members_.size() > 1 && !runs_together()) members_.pop_back();
    if (members_.size() < 2) {
      note(start.outputs, "nothing that follows it goes over the same rows");
      return std::nullopt;
    }
    take_in_map_before(first);
    return RowGroup{members_, static_cast<int>(shared)};
  }

  void note(const std::vector<pattern::Store>& stores, const char* why) {
    for (const pattern::Store& store : stores)
      if (refusals_) refusals_->note(store.tensor, "fuse_rows", why);
  }

  /// Of what pattern `i` reads of the group.
  void note_read(int i, const char* why) {
    for (const TensorId id : pattern::reads(program_.patterns[at(i)]))
      if (refusals_ && written_by_member(id)) refusals_->note(id, "fuse_rows", why, program_.patterns[at(i)]);
  }

  /// A map before the first reduction that only the group reads becomes a stage of it.
  void take_in_map_before(int first) {
    for (const pattern::Access& access : nest(first).accesses) {
      const std::vector<int>& writers = uses_.writers_of(access.tensor);
      if (writers.size() != 1 || uses_.is_result(access.tensor)) continue;
      const int map = writers[0];
      if (taken_[at(map)] || !may_be_stage(program_.patterns[at(map)]) || !nest(map).reductions.empty()) continue;
      const std::vector<int> before = members_;
      members_.insert(members_.begin(), map);
      const std::vector<int>& readers = uses_.readers_of(access.tensor);
      const bool inner = std::all_of(readers.begin(), readers.end(), [&](int reader) { return std::count(members_.begin(), members_.end(), reader) > 0; });
      if (inner && same_rows(nest(map)) && writes_rows(nest(map)) && reads_rows(before, access.tensor) && runs_together()) return;
      members_ = before;
    }
  }

  bool reads_rows(const std::vector<int>& members, TensorId tensor) const {
    for (const int member : members)
      for (const pattern::Access& access : nest(member).accesses)
        if (access.tensor == tensor && (!access.indirect.empty() || !follows_rows(access.map, nest(member).space, rows_.size()))) return false;
    return true;
  }

  /// The reduced coordinates lie side by side in memory; otherwise neighbouring rows are better handled together.
  bool along_rows(const Nest& reduction) const {
    const std::string inner = coordinate_symbol(static_cast<int>(reduction.space.size()) - 1);
    for (const pattern::Access& access : reduction.accesses) {
      if (!access.indirect.empty()) continue;
      const LoweredMap lowered = lower_map(access.map, coordinates_of(reduction.space), space_bounds(reduction.space));
      const auto affine = affine_in(dot(lowered.coordinates, row_major(program_.tensor(access.tensor).type.dims)), inner);
      if (affine && affine->slope == Dim(1)) return true;
    }
    return false;
  }

  static bool worth(const Nest& reduction, size_t shared) {
    Dim row = 1, rows = 1;
    for (size_t i = 0; i < reduction.space.size(); ++i) (i < shared ? rows : row) *= reduction.space[i];
    if (row.is_constant() && row.constant() > row_element_limit) return false;
    // Few long rows would leave the other cores idle.
    return !(rows.is_constant() && row.is_constant() && rows.constant() < 4 && row.constant() > (1 << 14));
  }

  bool same_rows(const Nest& other) const {
    if (kept_rank(other) < rows_.size()) return false;
    return std::equal(rows_.begin(), rows_.end(), other.space.begin());
  }

  bool writes_rows(const Nest& other) const {
    const Dims kept(other.space.begin(), other.space.begin() + static_cast<std::ptrdiff_t>(kept_rank(other)));
    return std::all_of(other.outputs.begin(), other.outputs.end(), [&](const pattern::Store& store) { return follows_rows(store.map, kept, rows_.size()); });
  }

  /// Why pattern `i` does not join the group: null where it reads, row by row, something that the group writes.
  const char* refusal(int i) const {
    if (!may_be_stage(program_.patterns[at(i)])) return "what reads it is a product, or takes whole tensors";
    const Nest& other = nest(i);
    if (!reads_member(other)) return "what reads it does so otherwise";
    if (!same_rows(other)) return "what reads it goes over other rows";
    if (other.reduced_rank > 0 && (kept_rank(other) != rows_.size() || !along_rows(other))) return "what reads it sums up more or less than rows";
    for (const pattern::Access& access : other.accesses)
      if (written_by_member(access.tensor) && (!access.indirect.empty() || !follows_rows(access.map, other.space, rows_.size())))
        return "what reads it needs other rows, too";
    // The last stage may write anywhere; what later stages read must be rows.
    for (const int member : members_)
      for (const pattern::Store& store : nest(member).outputs) {
        const Dims kept(nest(member).space.begin(), nest(member).space.begin() + static_cast<std::ptrdiff_t>(kept_rank(nest(member))));
        const bool read =
            std::any_of(other.accesses.begin(), other.accesses.end(), [&](const pattern::Access& access) { return access.tensor == store.tensor; });
        if (read && !follows_rows(store.map, kept, rows_.size())) return "it is not stored row by row";
      }
    return nullptr;
  }

  bool written_by_member(TensorId id) const {
    return std::any_of(members_.begin(), members_.end(), [&](int member) {
      return std::any_of(nest(member).outputs.begin(), nest(member).outputs.end(), [&](const pattern::Store& store) { return store.tensor == id; });
    });
  }

  bool reads_member(const Nest& other) const {
    return std::any_of(other.accesses.begin(), other.accesses.end(), [&](const pattern::Access& access) { return written_by_member(access.tensor); });
  }

  /// All members can run where the last one stands: nobody else between them reads what they write.
  bool runs_together() const {
    for (int i = members_.front() + 1; i < members_.back(); ++i) {
      if (std::count(members_.begin(), members_.end(), i)) continue;
      for (const TensorId id : pattern::reads(program_.patterns[at(i)]))
        if (written_by_member(id)) return false;
    }
    // A tensor that others write, too (slices), belongs to no row.
    for (const int member : members_)
      for (const pattern::Access& access : nest(member).accesses)
        if (written_by_member(access.tensor) && uses_.writers_of(access.tensor).size() != 1) return false;
    return true;
  }

  const Program& program_;
  Uses uses_;
  std::vector<bool> taken_;
  Refusals* refusals_;
  Dims rows_;
  std::vector<int> members_;
};

}  // namespace

std::vector<RowGroup> find_row_groups(const Program& program, const std::vector<RowGroup>& taken, Refusals* refusals) {
  return RowGrouping(program, taken, refusals).run();
}

}  // namespace tilewright::schedule
