#include "schedule/rewrite.h"

#include <bit>

#include "base/error.h"
#include "schedule/linear.h"

namespace tilewright::schedule {
namespace {

bool same(const ExprNode& a, const ExprNode& b) {
  return a.op == b.op && a.dtype == b.dtype && a.args == b.args && a.integer == b.integer && std::bit_cast<int64_t>(a.real) == std::bit_cast<int64_t>(b.real) &&
         a.dim == b.dim;
}

Dim dim_of(const Dim::Atom& atom) {
  switch (atom.kind) {
    case Dim::AtomKind::symbol: return Dim::symbol(atom.symbol);
    case Dim::AtomKind::floor_div: return atom.a / atom.b;
    case Dim::AtomKind::mod: return atom.a % atom.b;
    case Dim::AtomKind::min: return min(atom.a, atom.b);
    case Dim::AtomKind::max: return max(atom.a, atom.b);
  }
  return 0;
}

bool mentions_any(const Dim& e, const std::map<std::string, ExprId>& values) {
  std::set<std::string> symbols;
  e.collect_symbols(symbols);
  for (const std::string& symbol : symbols)
    if (values.count(symbol)) return true;
  return false;
}

}  // namespace

NestWriter::NestWriter(Dims space, int reduced_rank) {
  nest.space = std::move(space);
  nest.reduced_rank = reduced_rank;
}

ExprId NestWriter::add(ExprNode node) {
  for (size_t i = 0; i < nest.nodes.size(); ++i)
    if (same(nest.nodes[i], node)) return static_cast<ExprId>(i);
  nest.nodes.push_back(std::move(node));
  return static_cast<ExprId>(nest.nodes.size()) - 1;
}

ExprId NestWriter::load(Access access, DType dtype) {
  size_t index = 0;
  for (; index < nest.accesses.size(); ++index) {
    const Access& a = nest.accesses[index];
    if (a.tensor == access.tensor && a.indirect == access.indirect && a.fill == access.fill && a.map == access.map) break;
  }
  if (index == nest.accesses.size()) nest.accesses.push_back(std::move(access));
  ExprNode node;
  node.op = ExprOp::load;
  node.dtype = dtype;
  node.integer = static_cast<int64_t>(index);
  return add(std::move(node));
}

ExprId NestWriter::constant(DType dtype, double real, int64_t integer) {
  ExprNode node;
  node.dtype = dtype;
  node.real = real;
  node.integer = integer;
  return add(std::move(node));
}

ExprId NestWriter::index(int coordinate) {
  ExprNode node;
  node.op = ExprOp::index;
  node.dtype = DType::i64;
  node.integer = coordinate;
  return add(std::move(node));
}

ExprId NestWriter::size(const Dim& dim) {
  if (dim.is_constant()) return constant(DType::i64, 0, dim.constant());
  ExprNode node;
  node.op = ExprOp::size;
  node.dtype = DType::i64;
  node.dim = dim;
  return add(std::move(node));
}

ExprId NestWriter::binary(ExprOp op, ExprId a, ExprId b, DType dtype) {
  ExprNode node;
  node.op = op;
  node.dtype = dtype;
  node.args = {a, b};
  return add(std::move(node));
}

ExprId NestWriter::select(ExprId condition, ExprId a, ExprId b) {
  ExprNode node;
  node.op = ExprOp::select;
  node.dtype = this->node(a).dtype;
  node.args = {condition, a, b};
  return add(std::move(node));
}

ExprId NestWriter::clamped(ExprId value, const Dim& extent) {
  const ExprId low = binary(ExprOp::max, value, constant(DType::i64, 0, 0), DType::i64);
  return binary(ExprOp::min, low, size(extent - 1), DType::i64);
}

ExprId NestWriter::from_dim(const Dim& e, const std::map<std::string, ExprId>& values) {
  Dim sizes = 0;
  std::optional<ExprId> sum;
  const auto plus = [&](ExprId id) { sum = sum ? binary(ExprOp::add, *sum, id, DType::i64) : id; };
  for (const Dim::Term& term : e.terms()) {
    Dim factor = term.coefficient;
    std::vector<Dim> moving;
    for (const auto& atom : term.atoms) {
      const Dim one = dim_of(*atom);
      if (mentions_any(one, values))
        moving.push_back(one);
      else
        factor = factor * one;
    }
    if (moving.empty()) {
      sizes += factor;
      continue;
    }
    std::optional<ExprId> product;
    size_t at = 0;
    for (const auto& atom : term.atoms) {
      if (!mentions_any(dim_of(*atom), values)) continue;
      ++at;
      ExprId id;
      if (atom->kind == Dim::AtomKind::symbol) {
        id = values.at(atom->symbol);
      } else {
        const ExprOp op = atom->kind == Dim::AtomKind::floor_div ? ExprOp::floor_div
                          : atom->kind == Dim::AtomKind::mod     ? ExprOp::mod
                          : atom->kind == Dim::AtomKind::min     ? ExprOp::min
                                                                 : ExprOp::max;
        const ExprId a = from_dim(atom->a, values);
        id = binary(op, a, from_dim(atom->b, values), DType::i64);
      }
      product = product ? binary(ExprOp::mul, *product, id, DType::i64) : id;
    }
    if (!(factor == Dim(1))) product = binary(ExprOp::mul, *product, size(factor), DType::i64);
    plus(*product);
  }
  if (!sum || !(sizes == Dim(0))) plus(size(sizes));
  return *sum;
}

std::map<std::string, ExprId> NestWriter::view_values(const SpaceView& view) {
  std::map<std::string, ExprId> values;
  for (size_t i = 0; i < nest.space.size(); ++i) values[coordinate_symbol(static_cast<int>(i))] = index(static_cast<int>(i));
  for (size_t k = 0; k < view.indirect.size(); ++k) {
    const int upper = static_cast<int>(nest.space.size() + k);
    values[indirect_symbol(0, static_cast<int>(k))] = view.clamps ? clamped(view.indirect[k], view.map.extent_in(upper)) : view.indirect[k];
  }
  return values;
}

namespace {

/// The view's coordinates over symbols: those of the space, then indirect_symbol(0, k).
LoweredMap lower_view(const SpaceView& view, const Dims& space, Bounds bounds) {
  Dims point = coordinates_of(space);
  for (size_t k = 0; k < view.indirect.size(); ++k) {
    const std::string symbol = indirect_symbol(0, static_cast<int>(k));
    bounds.of[symbol] = {Dim(0), view.map.extent_in(static_cast<int>(space.size() + k)) - 1};
    point.push_back(Dim::symbol(symbol));
  }
  return lower_map(view.map, point, bounds);
}

}  // namespace

std::optional<ExprId> NestWriter::validity(const SpaceView& view) {
  const LoweredMap lowered = lower_view(view, nest.space, space_bounds(nest.space));
  const auto values = view_values(view);
  std::optional<ExprId> all;
  const auto both = [&](ExprId condition) { all = all ? binary(ExprOp::logical_and, *all, condition, DType::boolean) : condition; };
  if (!view.clamps) {
    for (size_t k = 0; k < view.indirect.size(); ++k) {
      both(binary(ExprOp::less_equal, constant(DType::i64, 0, 0), view.indirect[k], DType::boolean));
      both(binary(ExprOp::less, view.indirect[k], size(view.map.extent_in(static_cast<int>(nest.space.size() + k))), DType::boolean));
    }
  }
  for (const Guard& guard : lowered.guards) {
    const ExprId value = from_dim(guard.value, values);
    if (guard.kind == Guard::divisible) {
      both(binary(ExprOp::equal, binary(ExprOp::mod, value, from_dim(guard.high, values), DType::i64), constant(DType::i64, 0, 0), DType::boolean));
      continue;
    }
    if (guard.check_low) both(binary(ExprOp::less_equal, from_dim(guard.low, values), value, DType::boolean));
    if (guard.check_high) both(binary(ExprOp::less, value, from_dim(guard.high, values), DType::boolean));
  }
  return all;
}

std::vector<ExprId> NestWriter::copy(const std::vector<ExprNode>& nodes, const std::vector<Access>& accesses, const std::vector<ExprId>& roots,
                                     const SpaceView& view, const std::function<std::optional<ExprId>(ExprId)>& replace) {
  std::vector<ExprId> copied(nodes.size(), -1);
  std::vector<bool> needed = needed_by(nodes, accesses, roots);
  const bool plain = view.indirect.empty() && is_identity(view.map, nest.space);
  std::optional<LoweredMap> lowered;
  std::map<std::string, ExprId> values;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (!needed[i]) continue;
    if (replace) {
      if (const std::optional<ExprId> given = replace(static_cast<ExprId>(i))) {
        copied[i] = *given;
        continue;
      }
    }
    ExprNode node = nodes[i];
    if (node.op == ExprOp::load) {
      const Access& old = accesses[static_cast<size_t>(node.integer)];
      Access access;
      access.tensor = old.tensor;
      Dims extra;
      const int rank = old.map.rank_in() - static_cast<int>(old.indirect.size());
      for (size_t k = 0; k < old.indirect.size(); ++k) extra.push_back(old.map.extent_in(rank + static_cast<int>(k)));
      access.map = plain ? old.map : compose_with_extra(view.map, old.map, extra);
      access.indirect = view.indirect;
      for (const ExprId id : old.indirect) access.indirect.push_back(copied[static_cast<size_t>(id)]);
      if (old.fill) access.fill = copied[static_cast<size_t>(*old.fill)];
      // A view that may be invalid needs something to read there; what it is does not matter.
      else if (access.map.may_be_invalid())
        access.fill = constant(node.dtype, 0, 0);
      // Where there is a fill, indirect coordinates that have to be clamped must be so beforehand.
      if (access.fill)
        for (size_t k = 0; k < access.indirect.size(); ++k) {
          const bool of_view = k < view.indirect.size();
          if (of_view ? view.clamps : !old.fill)
            access.indirect[k] = clamped(access.indirect[k], access.map.extent_in(static_cast<int>(nest.space.size() + k)));
        }
      copied[i] = load(std::move(access), node.dtype);
      continue;
    }
    if (node.op == ExprOp::index && !plain) {
      if (!lowered) {
        lowered = lower_view(view, nest.space, space_bounds(nest.space));
        values = view_values(view);
      }
      copied[i] = from_dim(lowered->coordinates.at(static_cast<size_t>(node.integer)), values);
      continue;
    }
    for (ExprId& arg : node.args) arg = copied[static_cast<size_t>(arg)];
    copied[i] = add(std::move(node));
  }
  return copied;
}

Dims extents_of(const Map& map) {
  Dims dims;
  for (int d = 0; d < map.rank_in(); ++d) dims.push_back(map.extent_in(d));
  return dims;
}

Map compose_with_extra(const Map& outer, const Map& inner, const Dims& extra) {
  Dims extents = extents_of(outer);
  extents.insert(extents.end(), extra.begin(), extra.end());
  tile::Rewriter<Dim> rewriter{std::span<const Dim>(extents)};
  tile::SumsFor<Dim> upper;
  for (int d = 0; d < outer.rank_in(); ++d) upper.push_back(rewriter.coordinate(d));
  tile::SumsFor<Dim> middle = rewriter.attach(outer, upper);
  for (size_t k = 0; k < extra.size(); ++k) middle.push_back(rewriter.coordinate(outer.rank_in() + static_cast<int>(k)));
  return rewriter.finish(rewriter.attach(inner, middle));
}

Map with_ignored(const Map& map, int at, const Dims& extra) {
  Map result = map;
  for (size_t k = 0; k < extra.size(); ++k) result = result.inserted(at + static_cast<int>(k), extra[k]);
  return result;
}

Map identity(const Dims& dims) { return Map::identity(std::span<const Dim>(dims)); }

bool is_identity(const Map& map, const Dims& dims) {
  if (map.may_be_invalid() || map.rank_in() != map.rank_out() || map.rank_in() != static_cast<int>(dims.size())) return false;
  for (int d = 0; d < map.rank_in(); ++d)
    if (map.outputs()[d] != d || !(map.extent_in(d) == dims[static_cast<size_t>(d)])) return false;
  return true;
}

bool is_affine(const Map& map) {
  for (const auto& transform : map.transforms())
    if (transform.kind != tile::TransformKind::affine) return false;
  return true;
}

std::vector<bool> needed_by(const std::vector<ExprNode>& nodes, const std::vector<Access>& accesses, const std::vector<ExprId>& roots) {
  std::vector<bool> needed(nodes.size(), false);
  for (const ExprId root : roots) needed[static_cast<size_t>(root)] = true;
  for (size_t i = nodes.size(); i-- > 0;) {
    if (!needed[i]) continue;
    for (const ExprId arg : nodes[i].args) needed[static_cast<size_t>(arg)] = true;
    if (nodes[i].op != ExprOp::load) continue;
    const Access& access = accesses[static_cast<size_t>(nodes[i].integer)];
    for (const ExprId id : access.indirect) needed[static_cast<size_t>(id)] = true;
    if (access.fill) needed[static_cast<size_t>(*access.fill)] = true;
  }
  return needed;
}

Nest compacted(const Nest& nest) {
  NestWriter writer(nest.space, nest.reduced_rank);
  writer.nest.source = nest.source;
  std::vector<ExprId> stored;
  for (const pattern::Store& store : nest.outputs) stored.push_back(store.value);
  // Reductions in use, under new numbers.
  std::map<int64_t, int64_t> numbers;
  std::vector<ExprId> roots = stored;
  const std::vector<bool> needed = needed_by(nest.nodes, nest.accesses, stored);
  for (size_t i = 0; i < nest.nodes.size(); ++i)
    if (needed[i] && nest.nodes[i].op == ExprOp::reduced) numbers.emplace(nest.nodes[i].integer, 0);
  std::vector<ExprNode> nodes = nest.nodes;
  for (auto& [old, number] : numbers) {
    number = static_cast<int64_t>(writer.nest.reductions.size());
    writer.nest.reductions.push_back(nest.reductions[static_cast<size_t>(old)]);
    roots.push_back(nest.reductions[static_cast<size_t>(old)].value);
  }
  for (ExprNode& node : nodes)
    if (node.op == ExprOp::reduced && numbers.count(node.integer)) node.integer = numbers.at(node.integer);
  const std::vector<ExprId> copied = writer.copy(nodes, nest.accesses, roots, {identity(nest.space), {}, true});
  for (pattern::Reduction& reduction : writer.nest.reductions) reduction.value = copied[static_cast<size_t>(reduction.value)];
  writer.nest.outputs = nest.outputs;
  for (pattern::Store& store : writer.nest.outputs) store.value = copied[static_cast<size_t>(store.value)];
  return std::move(writer.nest);
}

}  // namespace tilewright::schedule
