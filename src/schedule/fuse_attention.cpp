#include "schedule/fuse_attention.h"

#include <algorithm>

#include "schedule/linear.h"
#include "schedule/uses.h"

namespace tilewright::schedule {
namespace {

using pattern::Access;
using pattern::ExprId;
using pattern::ExprNode;
using pattern::ExprOp;
using pattern::Nest;
using pattern::NestKind;
using pattern::Program;
using pattern::ReduceOp;

size_t at(int i) { return static_cast<size_t>(i); }

/// The element of `tensor` that `map` leads to from the coordinates of `space`; nothing where it may lead outside.
std::optional<Dim> element(const pattern::Map& map, TensorId tensor, const Dims& space, const Program& program) {
  if (map.rank_in() != static_cast<int>(space.size())) return std::nullopt;  // coordinates from data
  const Bounds bounds = space_bounds(space);
  const LoweredMap lowered = lower_map(map, coordinates_of(space), bounds);
  if (!lowered.guards.empty()) return std::nullopt;
  return simplify(dot(lowered.coordinates, row_major(program.tensor(tensor).type.dims)), bounds);
}

/// A Nest of the chain and what it reads and writes, as elements over its coordinates.
class Stage {
 public:
  Stage(const Nest& nest, const Program& program) : nest_(nest), program_(program) {}

  const Nest& nest() const { return nest_; }
  const ExprNode& node(ExprId id) const { return nest_.nodes[at(id)]; }
  TensorId result() const { return nest_.outputs[0].tensor; }
  Dim stored() const {
    const Dims kept(nest_.space.begin(), nest_.space.end() - nest_.reduced_rank);
    return element(nest_.outputs[0].map, result(), kept, program_).value_or(Dim(-1));
  }

  /// Past conversions between floats.
  ExprId value_of(ExprId id) const {
    while (node(id).op == ExprOp::cast && is_float(node(id).dtype) && is_float(node(node(id).args[0]).dtype)) id = node(id).args[0];
    return id;
  }
  /// Whether node `id` is element `where` of `tensor`.
  bool loads(ExprId id, TensorId tensor, const Dim& where) const {
    const ExprNode& load = node(value_of(id));
    if (load.op != ExprOp::load) return false;
    const Access& access = nest_.accesses[at(static_cast<int>(load.integer))];
    return access.tensor == tensor && element(access.map, tensor, nest_.space, program_) == where;
  }

  /// By node: whether its value differs along coordinate `row`. `quotient`: E / L, which is not a number for all of a row or for nothing of
  /// it: where L is none.
  std::vector<bool> differs_along(int row, ExprId quotient) const {
    std::vector<bool> differs(nest_.nodes.size(), false);
    for (size_t id = 0; id < differs.size(); ++id) {
      const ExprNode& one = nest_.nodes[id];
      if (one.op == ExprOp::is_nan && value_of(one.args[0]) == quotient) continue;
      if (one.op == ExprOp::index) differs[id] = one.integer == row;
      if (one.op == ExprOp::load) {
        const Access& access = nest_.accesses[at(static_cast<int>(one.integer))];
        const std::optional<Dim> where = element(access.map, access.tensor, nest_.space, program_);
        differs[id] = !where || mentions(*where, coordinate_symbol(row));
      }
      for (const ExprId arg : one.args) differs[id] = differs[id] || differs[at(arg)];
    }
    return differs;
  }

 private:
  const Nest& nest_;
  const Program& program_;
};

class Search {
 public:
  explicit Search(const Program& program) : program_(program), uses_(program) {}

  /// The chain whose largest scores pattern `i` finds. `why`: what a product lacks of one whose results less
  /// the largest of their row become powers.
  std::optional<Attention> from_largest(int i, const char*& why) const {
    why = nullptr;
    Attention found;
    found.largest = i;
    const std::optional<Stage> largest = reduction(i, ReduceOp::max);
    if (!largest) return std::nullopt;
    const TensorId scores = largest->nest().accesses[0].tensor;
    found.scores = only(uses_.writers_of(scores));
    if (!is_kind(found.scores, NestKind::contract) || stage(found.scores).nest().outputs.size() != 1) return std::nullopt;
    found.powers = only(uses_.readers_of(largest->result()));
    if (!is_kind(found.powers, NestKind::map)) return std::nullopt;
    const Stage powers = stage(found.powers);
    const Dim n = largest->nest().space.back();
    const std::optional<Dim> row = row_of(powers, n);
    if (!row) return std::nullopt;
    const ExprNode& power = powers.node(powers.value_of(powers.nest().outputs[0].value));
    if (power.op != ExprOp::exp) return std::nullopt;
    const ExprNode& difference = powers.node(powers.value_of(power.args[0]));
    if (difference.op != ExprOp::sub || !powers.loads(difference.args[0], scores, powers.stored()) ||
        !powers.loads(difference.args[1], largest->result(), *row))
      return std::nullopt;

    const auto lacks = [&](const char* reason) {
      why = reason;
      return std::nullopt;
    };
    if (!is_private(scores)) return lacks("the scores are a result of the model");
    if (uses_.readers_of(scores).size() != 2) return lacks("more than a softmax reads the scores");
    if (!is_private(largest->result())) return lacks("the largest scores are a result of the model");
    constexpr const char* no_softmax = "the scores' powers are not what a softmax makes of them";
    if (!is_private(powers.result()) || uses_.readers_of(powers.result()).size() != 2) return lacks(no_softmax);
    for (const int reader : uses_.readers_of(powers.result())) (is_kind(reader, NestKind::reduce) ? found.sum : found.weights) = reader;
    const std::optional<Stage> sum = reduction(found.sum, ReduceOp::sum);
    if (!sum || !is_kind(found.weights, NestKind::map) || !is_private(sum->result()) || only(uses_.readers_of(sum->result())) != found.weights)
      return lacks(no_softmax);

    const Stage weights = stage(found.weights);
    if (!divides(weights, powers.result(), sum->result(), n)) return lacks("more is done to the softmax's results than to clear rows");
    if (!is_private(weights.result())) return lacks("the softmax's results are a result of the model");
    found.values = only(uses_.readers_of(weights.result()));
    if (!is_kind(found.values, NestKind::contract)) return lacks("no product alone reads the softmax's results");
    return found;
  }

 private:
  Stage stage(int i) const { return {std::get<Nest>(program_.patterns[at(i)]), program_}; }

  bool is_kind(int i, NestKind kind) const {
    const auto* nest = i < 0 ? nullptr : std::get_if<Nest>(&program_.patterns[at(i)]);
    return nest && pattern::classify(*nest) == kind && (kind == NestKind::contract || nest->outputs.size() == 1);
  }
  static int only(const std::vector<int>& patterns) { return patterns.size() == 1 ? patterns[0] : -1; }
  bool is_private(TensorId id) const { return !uses_.is_result(id) && uses_.writers_of(id).size() == 1; }

  /// Pattern `i`, when it does nothing but combine each row of one tensor.
  std::optional<Stage> reduction(int i, ReduceOp op) const {
    if (!is_kind(i, NestKind::reduce)) return std::nullopt;
    const Stage found = stage(i);
    const Nest& nest = found.nest();
    if (nest.reduced_rank != 1 || nest.reductions.size() != 1 || nest.reductions[0].op != op || nest.accesses.size() != 1) return std::nullopt;
    if (found.node(found.value_of(nest.outputs[0].value)).op != ExprOp::reduced) return std::nullopt;
    const Dim n = nest.space.back(), along = Dim::symbol(coordinate_symbol(static_cast<int>(nest.space.size()) - 1));
    if (!found.loads(nest.reductions[0].value, nest.accesses[0].tensor, found.stored() * n + along)) return std::nullopt;
    return found;
  }

  /// The row that a map's point lies in, when its last coordinate runs along rows of n elements that it stores one after another.
  std::optional<Dim> row_of(const Stage& map, const Dim& n) const {
    if (map.nest().space.empty() || !(map.nest().space.back() == n)) return std::nullopt;
    const std::string along = coordinate_symbol(static_cast<int>(map.nest().space.size()) - 1);
    Dim row = 0, below = 1;  // of the leading coordinates, row-major
    for (size_t i = map.nest().space.size() - 1; i-- > 0; below *= map.nest().space[i]) row += below * Dim::symbol(coordinate_symbol(static_cast<int>(i)));
    row = simplify(row, space_bounds(map.nest().space));
    if (!(map.stored() == row * n + Dim::symbol(along))) return std::nullopt;
    return row;
  }

  /// Whether the map stores E / L, or zero where a condition of the row says so.
  bool divides(const Stage& map, TensorId powers, TensorId sum, const Dim& n) const {
    const std::optional<Dim> row = row_of(map, n);
    if (!row) return false;
    const Dim here = map.stored();
    std::vector<ExprId> conditions;
    ExprId value = map.value_of(map.nest().outputs[0].value);
    const auto is_zero = [&](ExprId id) { return map.node(id).op == ExprOp::constant && map.node(id).real == 0; };
    while (map.node(value).op == ExprOp::select) {
      const std::vector<ExprId>& args = map.node(value).args;
      conditions.push_back(args[0]);
      if (is_zero(map.value_of(args[1])) == is_zero(map.value_of(args[2]))) return false;
      value = map.value_of(is_zero(map.value_of(args[1])) ? args[2] : args[1]);
    }
    const ExprNode& quotient = map.node(value);
    if (quotient.op != ExprOp::div || !map.loads(quotient.args[0], powers, here) || !map.loads(quotient.args[1], sum, *row)) return false;
    const std::vector<bool> differs = map.differs_along(static_cast<int>(map.nest().space.size()) - 1, value);
    return std::none_of(conditions.begin(), conditions.end(), [&](ExprId condition) { return differs[at(condition)]; });
  }

  const Program& program_;
  Uses uses_;
};

}  // namespace

std::vector<RowGroup> find_attention(const Program& program, const StreamsAttention& streams, Refusals* refusals) {
  std::vector<RowGroup> groups;
  const Search search(program);
  for (size_t i = 0; i < program.patterns.size(); ++i) {
    const char* why = nullptr;
    const std::optional<Attention> found = search.from_largest(static_cast<int>(i), why);
    if (!found && refusals && why) refusals->note(std::get<Nest>(program.patterns[i]).accesses[0].tensor, "fuse_attention", why);
    if (!found) continue;
    std::vector<const Nest*> stages;
    for (const int pattern : found->patterns()) stages.push_back(&std::get<Nest>(program.patterns[at(pattern)]));
    if (!streams(stages, program)) {
      for (const Nest* stage : stages)
        if (refusals && stage != stages.back())
          refusals->note(stage->outputs[0].tensor, "fuse_attention", "the target's kernels take no attention of this form or size");
      continue;
    }
    const int rank = static_cast<int>(stages[1]->space.size()) - 1;
    groups.push_back({found->patterns(), rank});
  }
  return groups;
}

bool is_attention(const Kernel& kernel) {
  if (kernel.stages.size() < 2) return false;
  const auto* first = std::get_if<Nest>(&kernel.stages[0]);
  const auto* second = std::get_if<Nest>(&kernel.stages[1]);
  return first && second && pattern::classify(*first) == NestKind::contract && pattern::classify(*second) == NestKind::reduce;
}

}  // namespace tilewright::schedule
