#include <algorithm>
#include <numeric>
#include <optional>
#include <set>

#include "schedule/fuse.h"
#include "schedule/linear.h"
#include "schedule/rewrite.h"
#include "schedule/uses.h"

namespace tilewright::schedule {
namespace {

using pattern::NestKind;
using pattern::Pattern;
using pattern::Store;

size_t at(int i) { return static_cast<size_t>(i); }

/// What a product gains, a multiply-add, when the axis that it sums over or produces lies last; and what an element costs
/// that is moved between layouts, in the same unit.
constexpr double product_gain = 0.25, move_cost = 64;
constexpr double few_filters = 4;
/// Stands for sizes that only a run knows.
constexpr int64_t usual_size = 64;

double elements(const Dims& dims) {
  double all = 1;
  for (const Dim& dim : dims) all *= static_cast<double>(dim.as_constant().value_or(usual_size));
  return all;
}

/// Coordinates of the space with more than one value that an axis of a tensor moves with, by axis.
using Moves = std::vector<std::vector<int>>;

Moves moves_of(const Map& map, const Dims& space) {
  Dims point = coordinates_of(space);
  for (int d = static_cast<int>(space.size()); d < map.rank_in(); ++d) point.push_back(Dim::symbol(indirect_symbol(0, d)));
  const LoweredMap lowered = lower_map(map, point, space_bounds(space));
  Moves moves;
  for (const Dim& coordinate : lowered.coordinates) {
    moves.emplace_back();
    for (size_t d = 0; d < space.size(); ++d)
      if (!(space[d] == Dim(1)) && mentions(coordinate, coordinate_symbol(static_cast<int>(d)))) moves.back().push_back(static_cast<int>(d));
  }
  return moves;
}

bool shares(const std::vector<int>& a, const std::vector<int>& b) {
  return std::any_of(a.begin(), a.end(), [&](int x) { return std::count(b.begin(), b.end(), x) > 0; });
}

/// The one axis that moves with some of `wanted` and with none of `unwanted`.
std::optional<int> only_axis(const Moves& moves, const std::vector<int>& wanted, const std::vector<int>& unwanted) {
  std::optional<int> found;
  for (size_t axis = 0; axis < moves.size(); ++axis) {
    if (!shares(moves[axis], wanted) || shares(moves[axis], unwanted)) continue;
    if (found) return std::nullopt;
    found = static_cast<int>(axis);
  }
  return found;
}

/// Where coordinate `d` is split over several axes and moves them alone: the one whose index it counts in steps of one.
std::optional<int> finest_axis(const Map& map, const Dims& space, int d) {
  const Moves moves = moves_of(map, space);
  const LoweredMap lowered = lower_map(map, coordinates_of(space), space_bounds(space));
  std::map<std::string, Dim> first, second;
  for (size_t i = 0; i < space.size(); ++i) first[coordinate_symbol(static_cast<int>(i))] = 0;
  second = first;
  second[coordinate_symbol(d)] = 1;
  for (size_t axis = 0; axis < moves.size(); ++axis)
    if (moves[axis] == std::vector{d} && lowered.coordinates[axis].substitute(second) - lowered.coordinates[axis].substitute(first) == Dim(1))
      return static_cast<int>(axis);
  return std::nullopt;
}

/// Tensors that want the same layout, as a forest of parents, and what each tree gains from each axis being last.
class Layouts {
 public:
  Layouts(const Program& program, bool of_bytes)
      : program_(program), of_bytes_(of_bytes), uses_(program), parent_(program.tensors.size()), gain_(program.tensors.size()) {
    std::iota(parent_.begin(), parent_.end(), 0);
    for (size_t id = 0; id < program.tensors.size(); ++id) free_.push_back(may_change(static_cast<TensorId>(id)));
    for (const Pattern& pattern : program.patterns)
      if (const auto* nest = std::get_if<Nest>(&pattern)) look_at(*nest);
  }

  /// The axis of `id` that goes last, when that changes anything.
  std::optional<int> last_axis(TensorId id) {
    if (!free_[at(id)]) return std::nullopt;
    const std::map<int, double>& gains = gain_[at(root(id))];
    std::optional<int> best;
    double most = 0;
    for (const auto& [axis, gain] : gains) {
      if (axis < 0) continue;
      const double less = gains.count(-1) ? gains.at(-1) : 0;
      if (gain - less > most) best = axis, most = gain - less;
    }
    if (best && *best + 1 == static_cast<int>(program_.tensor(id).type.dims.size())) return std::nullopt;
    return best;
  }

 private:
  /// A tensor of the program's own, which Nests alone write and read.
  bool may_change(TensorId id) const {
    const pattern::TensorInfo& tensor = program_.tensor(id);
    if (tensor.constant || tensor.type.dims.size() < 3 || uses_.is_result(id) || uses_.writers_of(id).empty()) return false;
    for (const auto* users : {&uses_.writers_of(id), &uses_.readers_of(id)})
      for (const int user : *users)
        if (!std::holds_alternative<Nest>(program_.patterns[at(user)])) return false;
    return std::count(program_.inputs.begin(), program_.inputs.end(), id) == 0;
  }

  int root(int id) {
    while (parent_[at(id)] != id) id = parent_[at(id)] = parent_[at(parent_[at(id)])];
    return id;
  }

  /// `axis` -1: staying as it is.
  void vote(TensorId id, int axis, double gain) { gain_[at(root(id))][axis] += gain; }

  void join(TensorId a, TensorId b) {
    const int x = root(a), y = root(b);
    if (x == y) return;
    parent_[at(y)] = x;
    for (const auto& [axis, gain] : gain_[at(y)]) gain_[at(x)][axis] += gain;
    gain_[at(y)].clear();
  }

  struct Use {
    TensorId tensor;
    Moves moves;
  };

  void look_at(const Nest& nest) {
    const Dims kept(nest.space.begin(), nest.space.end() - nest.reduced_rank);
    std::vector<Use> together;
    for (const Store& store : nest.outputs) together.push_back({store.tensor, moves_of(store.map, kept)});
    std::vector<size_t> operands;
    if (pattern::classify(nest) == NestKind::contract) operands = look_at_product(nest, together[0]);
    for (size_t i = 0; i < nest.accesses.size(); ++i)
      if (std::count(operands.begin(), operands.end(), i) == 0) together.push_back({nest.accesses[i].tensor, moves_of(nest.accesses[i].map, nest.space)});
    std::erase_if(together, [&](const Use& use) { return apart_.count(use.tensor) > 0; });
    tie(together);
  }

  /// Operands and results of a product with weights want the axis last that they share with the weights. Gives the accesses
  /// that are settled by it.
  std::vector<size_t> look_at_product(const Nest& nest, const Use& result) {
    const ExprNode& product = nest.nodes[at(nest.reductions[0].value)];
    if (product.op != ExprOp::mul) return {};
    std::vector<size_t> accesses;
    bool bytes = false, floats = true;
    for (const ExprId arg : product.args) {
      const ExprNode* load = &nest.nodes[at(arg)];
      while (load->op == ExprOp::cast || load->op == ExprOp::sub) load = &nest.nodes[at(load->args[0])];
      if (load->op != ExprOp::load) return {};
      bytes |= !program_.tensor(nest.accesses[at(static_cast<int>(load->integer))].tensor).constant && (load->dtype == DType::u8 || load->dtype == DType::i8);
      floats &= is_float(load->dtype) && is_float(nest.nodes[at(arg)].dtype) && nest.nodes[at(arg)].op != ExprOp::sub;
      accesses.push_back(static_cast<size_t>(load->integer));
    }
    if (!floats && !(bytes && of_bytes_)) return {};
    const auto is_constant = [&](size_t access) { return program_.tensor(nest.accesses[access].tensor).constant != nullptr; };
    if (is_constant(accesses[0])) std::swap(accesses[0], accesses[1]);
    if (is_constant(accesses[0]) || !is_constant(accesses[1])) return {};
    const Use operand{nest.accesses[accesses[0]].tensor, moves_of(nest.accesses[accesses[0]].map, nest.space)};
    std::vector<int> with_weights, with_operand, others;
    for (const auto& axis : moves_of(nest.accesses[accesses[1]].map, nest.space)) with_weights.insert(with_weights.end(), axis.begin(), axis.end());
    for (const auto& axis : operand.moves) with_operand.insert(with_operand.end(), axis.begin(), axis.end());
    for (const int d : with_operand)
      if (std::count(with_weights.begin(), with_weights.end(), d) == 0) others.push_back(d);
    // Groups of few filters do not fill a vector: they are better off with positions side by side.
    const size_t kept = nest.space.size() - static_cast<size_t>(nest.reduced_rank);
    double filters = 1;
    bool grouped = false;
    for (size_t d = 0; d < kept; ++d) {
      const auto moves = [&](const std::vector<int>& coordinates) { return std::count(coordinates.begin(), coordinates.end(), static_cast<int>(d)) > 0; };
      if (!moves(with_weights)) continue;
      grouped |= moves(with_operand);
      if (!moves(with_operand)) filters *= elements({nest.space[d]});
    }
    if (grouped && filters > 1 && filters < few_filters) return accesses;
    const double gain = elements(nest.space) * product_gain;
    for (const Use* use : {&operand, &result})
      if (const std::optional<int> axis = only_axis(use->moves, with_weights, others); axis && free_[at(use->tensor)]) vote(use->tensor, *axis, gain);
    // Columns split into heads, which products of activations alone read: the elements of a head want to stay together. Such products read any
    // layout as well, so what else they read and give is not tied to it.
    if (!free_[at(result.tensor)] || !only_activations_read(result.tensor)) return accesses;
    const Dims kept_space(nest.space.begin(), nest.space.end() - nest.reduced_rank);
    for (const int d : with_weights) {
      if (std::count(result.moves.begin(), result.moves.end(), std::vector{d}) < 2) continue;
      const std::optional<int> axis = finest_axis(nest.outputs[0].map, kept_space, d);
      if (!axis) continue;
      vote(result.tensor, *axis, gain);
      apart_.insert(result.tensor);
    }
    return accesses;
  }

  /// Whether all readers are products of two tensors that only a run knows.
  bool only_activations_read(TensorId id) const {
    return std::all_of(uses_.readers_of(id).begin(), uses_.readers_of(id).end(), [&](int reader) {
      const auto* nest = std::get_if<Nest>(&program_.patterns[at(reader)]);
      if (!nest || pattern::classify(*nest) != NestKind::contract) return false;
      const ExprNode& product = nest->nodes[at(nest->reductions[0].value)];
      return product.op == ExprOp::mul && std::all_of(product.args.begin(), product.args.end(), [&](ExprId arg) {
               const ExprNode& factor = nest->nodes[at(arg)];
               const bool widened = factor.op == ExprOp::cast && is_float(factor.dtype);
               const ExprNode& load = widened ? nest->nodes[at(factor.args[0])] : factor;
               return load.op == ExprOp::load && !program_.tensor(nest->accesses[at(static_cast<int>(load.integer))].tensor).constant;
             });
    });
  }

  /// Tensors of one element-by-element nest: neighbours in one should be neighbours in all.
  void tie(const std::vector<Use>& uses) {
    for (const Use& a : uses) {
      const double elements_of = elements(program_.tensor(a.tensor).type.dims);
      for (const Use& b : uses) {
        if (&a == &b || a.tensor == b.tensor || !free_[at(a.tensor)]) continue;
        if (free_[at(b.tensor)] && alike(a, b))
          join(a.tensor, b.tensor);
        else if (program_.tensor(b.tensor).type.dims.size() > 1 && !program_.tensor(b.tensor).constant && depends_on_order(a, b))
          vote(a.tensor, -1, std::min(elements_of, elements(program_.tensor(b.tensor).type.dims)) * move_cost);
      }
    }
  }

  /// Whether the same coordinates move the same axes, those of one element aside.
  static bool alike(const Use& a, const Use& b) {
    if (a.moves.size() != b.moves.size()) return false;
    bool any = false;
    for (size_t axis = 0; axis < a.moves.size(); ++axis) {
      if (a.moves[axis].empty() || b.moves[axis].empty()) continue;
      if (!shares(a.moves[axis], b.moves[axis])) return false;
      any = true;
    }
    return any;
  }

  /// Whether both move with the same coordinate along their last axes.
  static bool depends_on_order(const Use& a, const Use& b) { return !a.moves.empty() && !b.moves.empty() && shares(a.moves.back(), b.moves.back()); }

  const Program& program_;
  const bool of_bytes_;
  const Uses uses_;
  std::vector<bool> free_;
  std::vector<int> parent_;
  std::vector<std::map<int, double>> gain_;  ///< by root
  std::set<TensorId> apart_;                 ///< tied to no other
};

}  // namespace

void choose_layouts(Program& program, bool of_bytes) {
  Layouts layouts(program, of_bytes);
  std::map<TensorId, Map> moved;  ///< from the old coordinates to the new ones
  for (size_t id = 0; id < program.tensors.size(); ++id) {
    const std::optional<int> last = layouts.last_axis(static_cast<TensorId>(id));
    if (!last) continue;
    Dims& dims = program.tensors[id].type.dims;
    const Dim extent = dims[at(*last)];
    dims.erase(dims.begin() + *last);
    dims.push_back(extent);
    std::vector<int> order;  // old axis d is new axis order[d]
    for (int d = 0; d < static_cast<int>(dims.size()); ++d) order.push_back(d < *last ? d : d == *last ? static_cast<int>(dims.size()) - 1 : d - 1);
    moved.emplace(static_cast<TensorId>(id), identity(dims).transposed(order));
  }
  if (moved.empty()) return;
  for (Pattern& pattern : program.patterns) {
    auto* nest = std::get_if<Nest>(&pattern);
    if (!nest) continue;
    for (Access& access : nest->accesses)
      if (const auto found = moved.find(access.tensor); found != moved.end()) access.map = compose(access.map, found->second);
    for (Store& store : nest->outputs)
      if (const auto found = moved.find(store.tensor); found != moved.end()) store.map = compose(store.map, found->second);
  }
}

}  // namespace tilewright::schedule
