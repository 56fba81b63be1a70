#include "target/source/contract_shape.h"

#include <algorithm>

#include "base/error.h"
#include "target/source/cpp_text.h"

namespace tilewright::source {

using schedule::Affine;
using schedule::affine_in;
using schedule::mentions;

Dim LoopGroup::extent() const {
  Dim all = 1;
  for (const Loop& loop : loops) all *= loop.extent;
  return all;
}

std::optional<Affine> even_over(const Dim& e, const LoopGroup& group) {
  Dim rest = e, slope = 0, below = 1;
  for (size_t i = group.loops.size(); i-- > 0;) {
    const auto affine = affine_in(rest, group.loops[i].symbol);
    if (!affine) return std::nullopt;
    for (const Loop& loop : group.loops)
      if (mentions(affine->slope, loop.symbol)) return std::nullopt;
    if (i + 1 == group.loops.size())
      slope = affine->slope;
    else if (!(affine->slope == slope * below))
      return std::nullopt;
    below *= group.loops[i].extent;
    rest = affine->at_zero;
  }
  return Affine{slope, rest};
}

Dim flattened(const Dim& e, const LoopGroup& group, const Bounds& bounds) {
  const Dim joint = Dim::symbol(group.symbol);
  if (const auto even = even_over(e, group)) return even->at_zero + even->slope * joint;
  std::map<std::string, Dim> digits;
  Dim below = 1;
  for (size_t i = group.loops.size(); i-- > 0;) {
    Dim digit = joint / below;
    if (i > 0) digit = digit % group.loops[i].extent;
    digits[group.loops[i].symbol] = digit;
    below *= group.loops[i].extent;
  }
  return simplify(e.substitute(digits), bounds);
}

namespace {

const ExprNode& node_at(const LoweredNest& nest, ExprId id) { return nest.nodes[static_cast<size_t>(id)]; }

/// Whether every value of `from` is one of `to`.
bool widens(DType from, DType to) {
  if (from == to) return true;
  if (from == DType::boolean) return true;
  if (is_float(to)) return is_float(from) ? size_of(from) < size_of(to) : size_of(from) < 4 && (to == DType::f32 || to == DType::f64);
  if (is_float(from)) return false;
  return bits_of(from) < bits_of(to) && (is_signed(to) || !is_signed(from));
}

ExprId without_casts(const LoweredNest& nest, ExprId id) {
  while (node_at(nest, id).op == ExprOp::cast && widens(node_at(nest, node_at(nest, id).args[0]).dtype, node_at(nest, id).dtype))
    id = node_at(nest, id).args[0];
  return id;
}

bool same_value(const LoweredNest& nest, ExprId a, ExprId b) {
  a = without_casts(nest, a);
  b = without_casts(nest, b);
  const ExprNode &x = node_at(nest, a), &y = node_at(nest, b);
  return a == b ||
         (x.op == ExprOp::constant && y.op == ExprOp::constant && is_float(x.dtype) == is_float(y.dtype) && x.real == y.real && x.integer == y.integer);
}

Factor describe(const LoweredNest& nest, ExprId value) {
  Factor factor{value, -1, -1, false};
  // Bytes, less a zero point or not, in an integer that holds the difference, are exact in wider ones and in f32.
  ExprId element = without_casts(nest, value);
  if (node_at(nest, element).op == ExprOp::cast && is_float(node_at(nest, element).dtype) && size_of(node_at(nest, element).dtype) >= 4)
    element = node_at(nest, element).args[0];
  const ExprNode& widened = node_at(nest, without_casts(nest, element));
  const bool is_byte = widened.op == ExprOp::load && is_integer(widened.dtype) && size_of(widened.dtype) == 1;
  if (!is_byte && (node_at(nest, element).op != ExprOp::sub || size_of(node_at(nest, element).dtype) < 4)) element = value;
  const ExprNode& difference = node_at(nest, element);
  if (difference.op == ExprOp::sub) {
    const ExprId zero = difference.args[1];
    if (!nest.symbols[static_cast<size_t>(zero)].empty()) return factor;
    element = difference.args[0];
    factor.zero = zero;
  }
  const ExprNode& load = node_at(nest, without_casts(nest, element));
  if (load.op != ExprOp::load) return factor;
  const Address& address = nest.loads[static_cast<size_t>(load.integer)];
  if (!address.indirect.empty()) return factor;
  if (factor.zero >= 0 && (size_of(load.dtype) != 1 || is_float(load.dtype) || load.dtype == DType::boolean || is_float(difference.dtype))) return factor;
  factor.access = static_cast<int>(load.integer);
  factor.direct = true;
  return factor;
}

bool reads_memory(const LoweredNest& nest, ExprId root) {
  const std::vector<bool> needed = closure(nest, {root});
  for (size_t id = 0; id < needed.size(); ++id)
    if (needed[id] && nest.nodes[id].op == ExprOp::load) return true;
  return false;
}

}  // namespace

bool is_inside(const Guard& guard, const Dim& coordinate, const Dim& extent, const std::vector<Loop>& loops) {
  // It may be scaled: 0 <= 2c < 2·extent - 1 is the same.
  if (guard.kind != Guard::range) return false;
  for (const Loop& loop : loops) {
    if (!mentions(coordinate, loop.symbol)) continue;
    const auto mine = affine_in(coordinate, loop.symbol), its = affine_in(guard.value, loop.symbol);
    if (!mine || !its || !mine->slope.is_constant() || !its->slope.is_constant() || mine->slope.constant() <= 0 ||
        its->slope.constant() % mine->slope.constant() != 0)
      return false;
    const Dim scale = its->slope.constant() / mine->slope.constant();
    if (!proven_nonnegative(scale - 1)) return false;
    const Dim shift = guard.value - scale * coordinate;  // low <= scale * coordinate + shift < high
    return (guard.low - shift + scale - 1) / scale == Dim(0) && (guard.high - shift + scale - 1) / scale == extent;
  }
  return false;
}

bool pads_with_nothing(const ContractShape& shape, const Factor& factor, const pattern::Access& access) {
  if (!access.fill) return true;
  const ExprNode& fill = node_at(shape.nest, *access.fill);
  if (factor.zero >= 0) return same_value(shape.nest, *access.fill, factor.zero);
  return fill.op == ExprOp::constant && fill.real == 0 && fill.integer == 0;
}

std::optional<ContractShape> find_product(const pattern::Nest& nest, const pattern::Program& program) {
  if (nest.reductions.size() != 1 || nest.reductions[0].op != pattern::ReduceOp::sum) return std::nullopt;
  ContractShape shape;
  shape.nest = lower_nest(nest, program, {}, Merging::keep);
  const LoweredNest& lowered = shape.nest;
  const DType dtype = nest.reductions[0].dtype;
  shape.sum = is_narrow_float(dtype) ? DType::f32 : dtype;
  if (!is_float(shape.sum) && (!is_integer(shape.sum) || size_of(shape.sum) < 4)) return std::nullopt;
  const ExprNode& product = node_at(lowered, nest.reductions[0].value);
  if (product.op != ExprOp::mul || value_type(product.dtype) != value_type(shape.sum)) return std::nullopt;
  ExprId a = product.args[0], b = product.args[1];
  if (!reads_memory(lowered, a) || !reads_memory(lowered, b)) return std::nullopt;

  const auto uses = [&](ExprId id, const Loop& loop) { return lowered.symbols[static_cast<size_t>(id)].count(loop.symbol) > 0; };
  LoopGroup only_a, only_b;
  for (const Loop& loop : lowered.loops) {
    const bool in_a = uses(a, loop), in_b = uses(b, loop);
    LoopGroup& group = loop.reduced ? shape.k : in_a == in_b ? shape.batch : in_a ? only_a : only_b;
    group.loops.push_back(loop);
  }
  if (only_a.loops.empty() && only_b.loops.empty()) return std::nullopt;
  // Small ones are quicker as plain loops, and to compile.
  Dim work = 1;
  for (const Loop& loop : lowered.loops) work *= loop.extent;
  if (work.is_constant() && work.constant() < 2048) return std::nullopt;

  shape.m = std::move(only_a);
  shape.n = std::move(only_b);
  shape.left = describe(lowered, a);
  shape.right = describe(lowered, b);
  shape.batch.symbol = "tilewright..batch";
  shape.m.symbol = "tilewright..m";
  shape.n.symbol = "tilewright..n";
  shape.k.symbol = "tilewright..k";
  return shape;
}

std::optional<ContractShape> find_contract(const pattern::Nest& nest, const pattern::Program& program) {
  std::optional<ContractShape> shape = find_product(nest, program);
  if (!shape) return std::nullopt;
  // Columns are what lies side by side in the result; a product with one row alone has it as columns.
  bool m_is_right = false;
  for (const Loop& loop : shape->m.loops) {
    const auto affine = affine_in(shape->nest.stores.at(0).offset, loop.symbol);
    m_is_right |= affine && affine->slope == Dim(1);
  }
  if (shape->n.loops.empty()) m_is_right = true;
  if (shape->m.loops.empty()) m_is_right = false;
  if (m_is_right) std::swap(shape->left, shape->right), std::swap(shape->m.loops, shape->n.loops);
  balance(*shape, nest, program);
  return shape;
}

namespace {

std::optional<DenseShape> dense_over(const ContractShape& shape, const Address& address, const LoopGroup& outer, const LoopGroup& inner) {
  if (!address.guards.empty()) return std::nullopt;
  const auto by_outer = even_over(address.offset, outer);
  if (!by_outer) return std::nullopt;
  const auto by_inner = even_over(by_outer->at_zero, inner);
  if (!by_inner) return std::nullopt;
  for (const Loop& loop : shape.nest.loops)
    if (mentions(by_outer->slope, loop.symbol) || mentions(by_inner->slope, loop.symbol)) return std::nullopt;
  return DenseShape{by_outer->slope, by_inner->slope, by_inner->at_zero};
}

}  // namespace

std::optional<DenseShape> find_dense(const ContractShape& shape, const Factor& factor, const LoopGroup& outer) {
  if (!factor.direct) return std::nullopt;
  return dense_over(shape, shape.nest.loads[static_cast<size_t>(factor.access)], outer, shape.k);
}

std::optional<DenseShape> find_dense_result(const ContractShape& shape) {
  const Address& address = shape.nest.stores.at(0);
  if (shape.nest.stores.size() > 1 || !address.indirect.empty()) return std::nullopt;
  return dense_over(shape, address, shape.m, shape.n);
}

void balance(ContractShape& shape, const pattern::Nest& nest, const pattern::Program& program) {
  const auto settle = [&](LoopGroup ContractShape::*group, auto&& fits) {
    ContractShape moved = shape;
    LoopGroup& outer = moved.*group;
    while (!fits(moved, outer)) {
      if (outer.loops.size() <= 1) return false;  // nothing gained
      moved.batch.loops.insert(moved.batch.loops.begin(), outer.loops.front());
      outer.loops.erase(outer.loops.begin());
    }
    shape = std::move(moved);
    return true;
  };
  const auto stores_evenly = [&](const ContractShape& s, const LoopGroup& outer) { return even_over(s.nest.stores.at(0).offset, outer).has_value(); };
  const auto regular = [&](const ContractShape& s, const Factor& factor, const LoopGroup& outer) {
    return find_dense(s, factor, outer) || find_windows(s, factor, outer, nest, program);
  };
  if (!settle(&ContractShape::n, [&](const ContractShape& s, const LoopGroup& outer) { return stores_evenly(s, outer) && regular(s, s.right, outer); }))
    settle(&ContractShape::n, stores_evenly);
  settle(&ContractShape::m, [&](const ContractShape& s, const LoopGroup& outer) { return regular(s, s.left, outer); });
  for (const LoopGroup* group : {&shape.batch, &shape.m, &shape.n, &shape.k}) shape.nest.bounds.of[group->symbol] = {Dim(0), group->extent() - 1};
}

std::optional<WindowShape> find_windows(const ContractShape& shape, const Factor& factor, const LoopGroup& outer, const pattern::Nest& nest,
                                        const pattern::Program& program) {
  if (!factor.direct || shape.nest.has_cut_loops()) return std::nullopt;
  const pattern::Access& access = nest.accesses[static_cast<size_t>(factor.access)];
  if (!pads_with_nothing(shape, factor, access)) return std::nullopt;
  const Dims& dims = program.tensor(access.tensor).type.dims;
  schedule::LoweredMap lowered = schedule::lower_map(access.map, schedule::coordinates_of(nest.space), shape.nest.bounds);
  // Loops of extent 1 are gone; their symbols are 0.
  std::map<std::string, Dim> dropped;
  for (size_t i = 0; i < nest.space.size(); ++i) dropped[schedule::coordinate_symbol(static_cast<int>(i))] = 0;
  for (const Loop& loop : shape.nest.loops) dropped.erase(loop.symbol);
  for (Dim& coordinate : lowered.coordinates) coordinate = coordinate.substitute(dropped);

  // Trailing coordinates that move with the output position or the kernel's are spatial; what k has beyond them is the channel.
  std::vector<Loop> outer_left = outer.loops, k_left = shape.k.loops;
  WindowShape windows;
  Dims spatial;
  size_t axis = dims.size();
  while (axis > 0 && windows.axes.size() < 3 && !outer_left.empty()) {
    const Dim& coordinate = lowered.coordinates[axis - 1];
    // An axis of one element is none.
    if (dims[axis - 1] == Dim(1) && coordinate == Dim(0)) {
      --axis;
      continue;
    }
    WindowShape::Axis found;
    found.input = dims[axis - 1];
    Dim rest = coordinate;
    if (mentions(coordinate, outer_left.back().symbol)) {
      const auto affine = affine_in(coordinate, outer_left.back().symbol);
      if (!affine || !proven_nonnegative(affine->slope - 1)) return std::nullopt;
      found.output = outer_left.back().extent;
      found.stride = affine->slope;
      rest = affine->at_zero;
      outer_left.pop_back();
    }
    if (!k_left.empty() && mentions(rest, k_left.back().symbol)) {
      const auto affine = affine_in(rest, k_left.back().symbol);
      if (!affine || !proven_nonnegative(affine->slope - 1)) return std::nullopt;
      found.kernel = k_left.back().extent;
      found.dilation = affine->slope;
      rest = affine->at_zero;
      k_left.pop_back();
    }
    found.pad = -rest;
    for (const Loop& loop : shape.nest.loops)
      if (mentions(rest, loop.symbol)) return std::nullopt;
    spatial.insert(spatial.begin(), coordinate);
    windows.axes.insert(windows.axes.begin(), found);
    --axis;
  }
  if (windows.axes.empty() || !outer_left.empty() || k_left.size() > 1) return std::nullopt;

  // The rest of the address: batch loops, and the channel one plane apart.
  Dim plane = 1;
  for (const WindowShape::Axis& a : windows.axes) plane *= a.input;
  Dims strides = schedule::row_major(dims);
  Dim start = 0;
  for (size_t i = 0; i < axis; ++i) start += lowered.coordinates[i] * strides[i];
  if (!k_left.empty()) {
    const auto channel = affine_in(start, k_left[0].symbol);
    if (!channel || !(channel->slope == plane) || shape.k.loops[0].symbol != k_left[0].symbol) return std::nullopt;
    start = channel->at_zero;
    windows.has_channel = true;
  }
  for (const LoopGroup* group : {&outer, &shape.k})
    for (const Loop& loop : group->loops)
      if (mentions(start, loop.symbol)) return std::nullopt;
  windows.start = start;

  // Only being inside the spatial extents is asked for, all of which the kernel checks.
  for (Guard guard : lowered.guards) {
    for (Dim* e : {&guard.value, &guard.low, &guard.high}) *e = e->substitute(dropped);
    bool known = false;
    for (size_t i = 0; i < spatial.size(); ++i) known |= is_inside(guard, spatial[i], windows.axes[i].input, shape.nest.loops);
    if (!known) return std::nullopt;
  }
  return windows;
}

std::string epilogue_text(const pattern::Nest& nest, const pattern::Program& program) {
  std::string text;
  for (const pattern::ExprNode& node : nest.nodes) {
    text += fmt::format("{}:{}(", static_cast<int>(node.op), tilewright::name(node.dtype));
    for (const pattern::ExprId arg : node.args) text += fmt::format("{},", arg);
    text += ")";
  }
  for (const pattern::Access& access : nest.accesses) text += fmt::format("|{}", tilewright::name(program.tensor(access.tensor).type.dtype));
  for (const pattern::Store& store : nest.outputs) text += fmt::format(">{}", tilewright::name(program.tensor(store.tensor).type.dtype));
  return text;
}

}  // namespace tilewright::source
