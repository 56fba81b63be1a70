#include "target/source/lower_nest.h"

#include <algorithm>
#include <functional>

#include "base/error.h"
#include "target/source/print_expr.h"

namespace tilewright::source {

using schedule::affine_in;
using schedule::coordinate_symbol;
using schedule::mentions;

Address lower_access(const pattern::Access& access, int number, const Dims& point, const pattern::Program& program, Bounds& bounds) {
  Address address;
  address.tensor = access.tensor;
  const Type& type = program.tensor(access.tensor).type;
  address.dtype = type.dtype;
  Dims upper = point;
  for (size_t k = 0; k < access.indirect.size(); ++k) {
    Indirect indirect;
    indirect.value = access.indirect[k];
    indirect.symbol = schedule::indirect_symbol(number, static_cast<int>(k));
    indirect.extent = access.map.extent_in(static_cast<int>(point.size() + k));
    indirect.clamp = !access.fill.has_value();
    bounds.of[indirect.symbol] = {Dim(0), indirect.extent - 1};
    upper.push_back(Dim::symbol(indirect.symbol));
    address.indirect.push_back(std::move(indirect));
  }
  schedule::LoweredMap lowered = schedule::lower_map(access.map, upper, bounds);
  address.offset = simplify(schedule::dot(lowered.coordinates, schedule::row_major(type.dims)), bounds);
  address.guards = std::move(lowered.guards);
  address.fill = access.fill.value_or(-1);
  if (!address.guards.empty() && address.fill < 0) fail(ErrorKind::internal, "internal error: an access that may be outside its tensor has no fill");
  return address;
}

int LoweredNest::kept_count() const {
  return static_cast<int>(std::count_if(loops.begin(), loops.end(), [](const Loop& loop) { return !loop.reduced; }));
}

void LoweredNest::substitute(const std::string& symbol, const Dim& by) {
  const std::map<std::string, Dim> change = {{symbol, by}};
  for (std::vector<Address>* addresses : {&loads, &stores})
    for (Address& address : *addresses) {
      address.offset = address.offset.substitute(change);
      for (Guard& guard : address.guards) {
        guard.value = guard.value.substitute(change);
        guard.low = guard.low.substitute(change);
        guard.high = guard.high.substitute(change);
      }
    }
  for (Dim& coordinate : coordinates) coordinate = coordinate.substitute(change);
  reduced_index = reduced_index.substitute(change);
}

bool LoweredNest::has_cut_loops() const {
  std::set<std::string> whole;
  for (size_t i = 0; i < coordinates.size(); ++i) whole.insert(schedule::coordinate_symbol(static_cast<int>(i)));
  return std::any_of(loops.begin(), loops.end(), [&](const Loop& loop) { return whole.count(loop.symbol) == 0; });
}

void LoweredNest::find_symbols() {
  symbols.assign(nodes.size(), {});
  const auto include = [](std::set<std::string>& into, const Dim& e) {
    std::set<std::string> found;
    e.collect_symbols(found);
    for (const std::string& symbol : found)
      if (symbol.starts_with(schedule::reserved_prefix)) into.insert(symbol);
  };
  for (size_t id = 0; id < nodes.size(); ++id) {
    std::set<std::string>& mine = symbols[id];
    const ExprNode& node = nodes[id];
    for (const ExprId arg : node.args) mine.insert(symbols[static_cast<size_t>(arg)].begin(), symbols[static_cast<size_t>(arg)].end());
    if (node.op == ExprOp::index) include(mine, coordinates[static_cast<size_t>(node.integer)]);
    if (node.op != ExprOp::load) continue;
    const Address& address = loads[static_cast<size_t>(node.integer)];
    include(mine, address.offset);
    for (const Guard& guard : address.guards)
      for (const Dim* e : {&guard.value, &guard.low, &guard.high}) include(mine, *e);
    for (const Indirect& indirect : address.indirect) {
      mine.erase(indirect.symbol);
      mine.insert(symbols[static_cast<size_t>(indirect.value)].begin(), symbols[static_cast<size_t>(indirect.value)].end());
    }
    if (address.fill >= 0) mine.insert(symbols[static_cast<size_t>(address.fill)].begin(), symbols[static_cast<size_t>(address.fill)].end());
  }
}

std::vector<bool> closure(const LoweredNest& nest, const std::vector<ExprId>& roots) {
  std::vector<bool> needed(nest.nodes.size(), false);
  std::vector<ExprId> open = roots;
  while (!open.empty()) {
    const ExprId id = open.back();
    open.pop_back();
    if (needed[static_cast<size_t>(id)]) continue;
    needed[static_cast<size_t>(id)] = true;
    const ExprNode& node = nest.nodes[static_cast<size_t>(id)];
    open.insert(open.end(), node.args.begin(), node.args.end());
    if (node.op != ExprOp::load) continue;
    const Address& address = nest.loads[static_cast<size_t>(node.integer)];
    for (const Indirect& indirect : address.indirect) open.push_back(indirect.value);
    if (address.fill >= 0) open.push_back(address.fill);
  }
  return needed;
}

namespace {

/// Brings the loops of a nest into the order and number that loops are written in.
class LoopShaper {
 public:
  explicit LoopShaper(LoweredNest& nest) : nest_(nest) {
    std::vector<ExprId> roots = nest.stored_values;
    for (const pattern::Reduction& reduction : nest.reductions) roots.push_back(reduction.value);
    const std::vector<bool> needed = closure(nest, roots);
    for (size_t id = 0; id < nest.nodes.size(); ++id) {
      if (!needed[id]) continue;
      const ExprNode& node = nest.nodes[id];
      if (node.op == ExprOp::load) used_loads_.insert(static_cast<size_t>(node.integer));
      if (node.op == ExprOp::index) used_coordinates_.insert(static_cast<size_t>(node.integer));
    }
    for (const pattern::Reduction& reduction : nest.reductions) ordered_ |= reduction.op >= pattern::ReduceOp::arg_min;
  }

  void run(Merging merging) {
    drop_unit_loops();
    split();
    sort();
    while (merging == Merging::merge && merge_some()) {
    }
  }

 private:
  void drop_unit_loops() {
    std::erase_if(nest_.loops, [&](const Loop& loop) {
      if (loop.extent.as_constant() != 1) return false;
      nest_.substitute(loop.symbol, 0);
      return true;
    });
  }

  /// Cuts reduced loops in two where that makes addresses even, which a change of layout may have left with digits of a loop's index.
  void split() {
    if (ordered_ || !used_coordinates_.empty()) return;
    int next = static_cast<int>(nest_.coordinates.size());
    for (size_t i = 0; i < nest_.loops.size(); ++i) {
      const Loop loop = nest_.loops[i];
      const std::optional<int64_t> extent = loop.extent.as_constant();
      if (!loop.reduced || !extent) continue;
      std::set<int64_t> steps;
      for (const size_t load : used_loads_) collect_steps(nest_.loads[load].offset, loop.symbol, steps);
      for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
        if (*step <= 1 || *step >= *extent || *extent % *step != 0) continue;
        LoweredNest cut = nest_;
        const std::string outer = schedule::coordinate_symbol(next), inner = schedule::coordinate_symbol(next + 1);
        cut.bounds.of[outer] = {Dim(0), Dim(*extent / *step - 1)};
        cut.bounds.of[inner] = {Dim(0), Dim(*step - 1)};
        cut.substitute(loop.symbol, Dim::symbol(outer) * *step + Dim::symbol(inner));
        for (Address& load : cut.loads) load.offset = simplify(load.offset, cut.bounds);
        if (digits(cut) >= digits(nest_)) continue;
        cut.loops[i] = {inner, *step, true};
        cut.loops.insert(cut.loops.begin() + static_cast<std::ptrdiff_t>(i), {outer, *extent / *step, true});
        nest_ = std::move(cut);
        next += 2;
        --i;  // the outer one may be cut again
        break;
      }
    }
  }

  /// Divisors of quotients and remainders of what mentions `symbol`.
  static void collect_steps(const Dim& e, const std::string& symbol, std::set<int64_t>& steps) {
    for (const Dim::Term& term : e.terms())
      for (const auto& atom : term.atoms) {
        if (atom->kind != Dim::AtomKind::floor_div && atom->kind != Dim::AtomKind::mod) continue;
        if (!mentions(atom->a, symbol)) continue;
        if (const auto step = atom->b.as_constant()) steps.insert(*step);
        collect_steps(atom->a, symbol, steps);
      }
  }

  /// Quotients and remainders in what the used loads read.
  int digits(const LoweredNest& nest) const {
    const std::function<int(const Dim&)> count = [&](const Dim& e) {
      int all = 0;
      for (const Dim::Term& term : e.terms())
        for (const auto& atom : term.atoms)
          if (atom->kind != Dim::AtomKind::symbol) all += 1 + count(atom->a);
      return all;
    };
    int all = 0;
    for (const size_t load : used_loads_) all += count(nest.loads[load].offset);
    return all;
  }

  /// Descending distance in memory of what is written; of what is read for reduced loops.
  void sort() {
    const auto order = [&](bool reduced, const Dim& offset) {
      std::vector<size_t> at;
      for (size_t i = 0; i < nest_.loops.size(); ++i)
        if (nest_.loops[i].reduced == reduced) at.push_back(i);
      std::vector<Dim> slopes(nest_.loops.size());
      for (const size_t i : at) {
        const auto affine = affine_in(offset, nest_.loops[i].symbol);
        if (!affine) return;
        slopes[i] = affine->slope;
      }
      // Insertion: only what is proven larger moves outwards.
      for (size_t k = 1; k < at.size(); ++k)
        for (size_t j = k; j > 0; --j) {
          const size_t outer = at[j - 1], inner = at[j];
          if (!proven_nonnegative(slopes[inner] - slopes[outer] - 1) || slopes[outer] == Dim(0)) break;
          std::swap(slopes[inner], slopes[outer]);
          std::swap(nest_.loops[inner], nest_.loops[outer]);
        }
    };
    if (!nest_.stores.empty()) order(false, nest_.stores[0].offset);
    if (ordered_) return;
    for (const size_t load : used_loads_) {
      bool reads_reduced = false;
      for (const Loop& loop : nest_.loops) reads_reduced |= loop.reduced && mentions(nest_.loads[load].offset, loop.symbol);
      if (!reads_reduced) continue;
      order(true, nest_.loads[load].offset);
      break;
    }
  }

  bool merge_some() {
    for (size_t i = 0; i + 1 < nest_.loops.size(); ++i) {
      Loop &outer = nest_.loops[i], &inner = nest_.loops[i + 1];
      if (outer.reduced != inner.reduced || !mergeable(outer, inner)) continue;
      nest_.substitute(outer.symbol, 0);
      inner.extent = outer.extent * inner.extent;
      nest_.bounds.of[inner.symbol] = {Dim(0), inner.extent - 1};
      nest_.loops.erase(nest_.loops.begin() + static_cast<std::ptrdiff_t>(i));
      return true;
    }
    return false;
  }

  bool mergeable(const Loop& outer, const Loop& inner) const {
    for (const size_t c : used_coordinates_)
      if (mentions(nest_.coordinates[c], outer.symbol) || mentions(nest_.coordinates[c], inner.symbol)) return false;
    for (const size_t load : used_loads_)
      if (!even(nest_.loads[load], outer, inner)) return false;
    for (const Address& store : nest_.stores)
      if (!even(store, outer, inner)) return false;
    return !ordered_ || !outer.reduced || even(nest_.reduced_index, outer, inner);
  }

  bool even(const Address& address, const Loop& outer, const Loop& inner) const {
    for (const Guard& guard : address.guards)
      for (const Dim* e : {&guard.value, &guard.low, &guard.high})
        if (mentions(*e, outer.symbol) || mentions(*e, inner.symbol)) return false;
    return even(address.offset, outer, inner);
  }

  static bool even(const Dim& offset, const Loop& outer, const Loop& inner) {
    const auto by_outer = affine_in(offset, outer.symbol), by_inner = affine_in(offset, inner.symbol);
    return by_outer && by_inner && by_outer->slope == by_inner->slope * inner.extent && !mentions(by_inner->slope, outer.symbol);
  }

  LoweredNest& nest_;
  std::set<size_t> used_loads_, used_coordinates_;
  bool ordered_ = false;  ///< the order of the reduced coordinates matters
};

/// What is stored as `dtype`: a value that is rounded to that on its way needs no rounding of its own.
ExprId without_rounding(const pattern::Nest& nest, ExprId value, DType dtype) {
  const ExprNode& node = nest.nodes[static_cast<size_t>(value)];
  const bool rounds = (dtype == DType::bf16 || dtype == DType::f16) && node.dtype == dtype && (node.op == ExprOp::cast || node.op == ExprOp::cast_unsaturated);
  return rounds && nest.nodes[static_cast<size_t>(node.args[0])].dtype == DType::f32 ? node.args[0] : value;
}

}  // namespace

LoweredNest lower_nest(const pattern::Nest& nest, const pattern::Program& program, const RowContext& row, Merging merging) {
  LoweredNest lowered;
  lowered.nodes = nest.nodes;
  lowered.reductions = nest.reductions;
  lowered.bounds = schedule::space_bounds(nest.space);
  lowered.coordinates = schedule::coordinates_of(nest.space);
  const size_t rank = nest.space.size(), kept = rank - static_cast<size_t>(nest.reduced_rank), shared = static_cast<size_t>(row.shared_rank);
  for (size_t i = shared; i < rank; ++i) lowered.loops.push_back({coordinate_symbol(static_cast<int>(i)), nest.space[i], i >= kept});
  const Dims kept_point(lowered.coordinates.begin(), lowered.coordinates.begin() + static_cast<std::ptrdiff_t>(kept));
  for (size_t i = kept; i < rank; ++i) lowered.reduced_index = lowered.reduced_index * nest.space[i] + lowered.coordinates[i];

  const auto within_row = [&](Address& address) {
    if (row.row_local.count(address.tensor) == 0) return;
    for (size_t i = 0; i < shared; ++i) address.offset = address.offset.substitute({{coordinate_symbol(static_cast<int>(i)), Dim(0)}});
  };
  for (size_t i = 0; i < nest.accesses.size(); ++i) {
    lowered.loads.push_back(lower_access(nest.accesses[i], static_cast<int>(i), lowered.coordinates, program, lowered.bounds));
    within_row(lowered.loads.back());
  }
  for (const pattern::Store& store : nest.outputs) {
    pattern::Access place;
    place.tensor = store.tensor;
    place.map = store.map;
    lowered.stores.push_back(lower_access(place, 0, kept_point, program, lowered.bounds));
    within_row(lowered.stores.back());
    lowered.stored_values.push_back(without_rounding(nest, store.value, lowered.stores.back().dtype));
  }
  LoopShaper(lowered).run(merging);
  lowered.find_symbols();
  return lowered;
}

int64_t point_cost(const LoweredNest& nest, const std::vector<ExprId>& roots) {
  const std::vector<bool> needed = closure(nest, roots);
  int64_t cost = 0;
  for (size_t id = 0; id < needed.size(); ++id)
    if (needed[id]) cost += cost_of(nest.nodes[id]);
  return std::max<int64_t>(cost, 1);
}

}  // namespace tilewright::source
