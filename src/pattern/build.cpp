#include "pattern/build.h"

#include <bit>

#include "base/error.h"
#include "pattern/expr.h"
#include "pattern/interpret_scalar.h"

namespace tilewright::pattern {
namespace {

bool same(const ExprNode& a, const ExprNode& b) {
  return a.op == b.op && a.dtype == b.dtype && a.args == b.args && std::bit_cast<int64_t>(a.real) == std::bit_cast<int64_t>(b.real) && a.integer == b.integer &&
         a.dim == b.dim;
}

Map::Extents extents_of(const Dims& dims) {
  Map::Extents extents;
  for (const Dim& dim : dims) extents.push_back(dim);
  return extents;
}

bool same(const Access& a, const Access& b) { return a.tensor == b.tensor && a.indirect == b.indirect && a.fill == b.fill && a.map == b.map; }

}  // namespace

DType Expr::dtype() const { return nest->nest_.nodes.at(static_cast<size_t>(id)).dtype; }

NestBuilder::NestBuilder(Dims space, int reduced_rank) {
  ensure(reduced_rank >= 0 && reduced_rank <= static_cast<int>(space.size()), "reduced coordinates are part of the space");
  nest_.space = std::move(space);
  nest_.reduced_rank = reduced_rank;
}

Dims NestBuilder::kept() const { return Dims(nest_.space.begin(), nest_.space.end() - nest_.reduced_rank); }

namespace {

/// The value of an operation on constant integers and bools. Floats stay as written: the interpreter's float64 mode and every
/// target decide what their constants are computed in.
std::optional<int64_t> folded(const ExprNode& node, const std::vector<ExprNode>& nodes) {
  if (node.args.empty() || is_float(node.dtype) || node.op == ExprOp::bitcast) return std::nullopt;
  for (const ExprId id : node.args) {
    const ExprNode& arg = nodes[static_cast<size_t>(id)];
    if (arg.op != ExprOp::constant || is_float(arg.dtype)) return std::nullopt;
  }
  const ExprNode& a = nodes[static_cast<size_t>(node.args[0])];
  const int64_t b = nodes[static_cast<size_t>(node.args.back())].integer;
  switch (node.op) {
    case ExprOp::select: return nodes[static_cast<size_t>(node.args[a.integer != 0 ? 1 : 2])].integer;
    case ExprOp::cast: return clamp_integer(a.integer, a.dtype, node.dtype);
    case ExprOp::cast_wrap: return wrap_to(node.dtype, a.integer);
    default: return wrap_to(node.dtype, apply(node.op, a.dtype, a.integer, b));
  }
}

/// The operand that an integer operation leaves as it is: x+0, x-0, x*1, x/1.
std::optional<ExprId> unchanged(const ExprNode& node, const std::vector<ExprNode>& nodes) {
  if (node.args.size() != 2 || !is_integer(node.dtype)) return std::nullopt;
  const auto is = [&](size_t k, int64_t value) {
    const ExprNode& arg = nodes[static_cast<size_t>(node.args[k])];
    return arg.op == ExprOp::constant && arg.integer == value;
  };
  switch (node.op) {
    case ExprOp::add: return is(1, 0) ? std::optional(node.args[0]) : is(0, 0) ? std::optional(node.args[1]) : std::nullopt;
    case ExprOp::sub: return is(1, 0) ? std::optional(node.args[0]) : std::nullopt;
    case ExprOp::mul: return is(1, 1) ? std::optional(node.args[0]) : is(0, 1) ? std::optional(node.args[1]) : std::nullopt;
    case ExprOp::div:
    case ExprOp::floor_div: return is(1, 1) ? std::optional(node.args[0]) : std::nullopt;
    default: return std::nullopt;
  }
}

}  // namespace

Expr NestBuilder::add(ExprNode node) {
  if (const auto value = folded(node, nest_.nodes)) return constant_int(node.dtype, *value);
  if (const auto same_as = unchanged(node, nest_.nodes)) return {this, *same_as};
  for (size_t i = 0; i < nest_.nodes.size(); ++i)
    if (same(nest_.nodes[i], node)) return {this, static_cast<ExprId>(i)};
  nest_.nodes.push_back(std::move(node));
  return {this, static_cast<ExprId>(nest_.nodes.size()) - 1};
}

Expr NestBuilder::constant(DType dtype, double value) {
  ExprNode node;
  node.dtype = dtype;
  if (is_float(dtype))
    node.real = round_to(dtype, value);
  else
    node.integer = wrap_to(dtype, static_cast<int64_t>(value));
  return add(std::move(node));
}

Expr NestBuilder::constant_int(DType dtype, int64_t value) {
  if (is_float(dtype)) return constant(dtype, static_cast<double>(value));
  ExprNode node;
  node.dtype = dtype;
  node.integer = wrap_to(dtype, value);
  return add(std::move(node));
}

Expr NestBuilder::index(int coordinate) {
  ensure(coordinate >= 0 && coordinate < static_cast<int>(nest_.space.size()), "a coordinate of the space");
  ExprNode node;
  node.op = ExprOp::index;
  node.dtype = DType::i64;
  node.integer = coordinate;
  return add(std::move(node));
}

Expr NestBuilder::size(const Dim& dim) {
  if (dim.is_constant()) return constant_int(DType::i64, dim.constant());
  ExprNode node;
  node.op = ExprOp::size;
  node.dtype = DType::i64;
  node.dim = dim;
  return add(std::move(node));
}

Expr NestBuilder::unary(ExprOp op, Expr x) {
  ExprNode node;
  node.op = op;
  node.dtype = op == ExprOp::is_nan || op == ExprOp::is_inf ? DType::boolean : x.dtype();
  node.args = {x.id};
  return add(std::move(node));
}

Expr NestBuilder::binary(ExprOp op, Expr a, Expr b) {
  const bool free_right = op == ExprOp::pow || op == ExprOp::shift_left || op == ExprOp::shift_right;
  ensure(free_right || a.dtype() == b.dtype(), "operands of an expression share a dtype");
  ExprNode node;
  node.op = op;
  node.dtype = info(op).kind == ExprClass::compare ? DType::boolean : a.dtype();
  node.args = {a.id, b.id};
  return add(std::move(node));
}

Expr NestBuilder::select(Expr condition, Expr a, Expr b) {
  ensure(condition.dtype() == DType::boolean && a.dtype() == b.dtype(), "select takes a bool and two values of one dtype");
  ExprNode node;
  node.op = ExprOp::select;
  node.dtype = a.dtype();
  node.args = {condition.id, a.id, b.id};
  return add(std::move(node));
}

Expr NestBuilder::cast(Expr x, DType to, ExprOp how) {
  if (x.dtype() == to) return x;
  ExprNode node;
  node.op = how;
  node.dtype = to;
  node.args = {x.id};
  return add(std::move(node));
}

Expr NestBuilder::load(TensorId tensor, DType dtype, Map map, const std::vector<Expr>& indirect, std::optional<Expr> fill) {
  ensure(map.rank_in() == static_cast<int>(nest_.space.size() + indirect.size()), "an access maps the space and its indirect coordinates");
  ensure(!fill || fill->dtype() == dtype, "fill has the tensor's dtype");
  Access access;
  access.tensor = tensor;
  access.map = std::move(map);
  for (const Expr& one : indirect) {
    ensure(one.dtype() == DType::i64, "indirect coordinates are i64");
    access.indirect.push_back(one.id);
  }
  if (fill) access.fill = fill->id;
  size_t index = 0;
  while (index < nest_.accesses.size() && !same(nest_.accesses[index], access)) ++index;
  if (index == nest_.accesses.size()) nest_.accesses.push_back(std::move(access));
  ExprNode node;
  node.op = ExprOp::load;
  node.dtype = dtype;
  node.integer = static_cast<int64_t>(index);
  return add(std::move(node));
}

Expr NestBuilder::load_at(TensorId tensor, const Type& type, const std::vector<Expr>& coordinates, std::optional<Expr> fill) {
  ensure(coordinates.size() == type.dims.size(), "one coordinate for each axis of the tensor");
  const int rank = static_cast<int>(nest_.space.size());
  Dims extents = nest_.space;
  std::vector<Expr> indirect;
  std::vector<int> slots;  // of each tensor axis, among space + indirect; -1 - k for known position k of `fixed`
  Map::Transforms fixed;
  for (size_t axis = 0; axis < coordinates.size(); ++axis) {
    const ExprNode& node = nest_.nodes.at(static_cast<size_t>(coordinates[axis].id));
    // A plain coordinate over the whole axis needs no check; anything else is bounds-checked as an indirect coordinate.
    const bool plain = node.op == ExprOp::index && nest_.space[static_cast<size_t>(node.integer)] == type.dims[axis];
    if (plain) {
      slots.push_back(static_cast<int>(node.integer));
      continue;
    }
    if (node.op == ExprOp::constant && node.integer >= 0 && type.dims[axis].is_constant() && node.integer < type.dims[axis].constant()) {
      slots.push_back(-1 - static_cast<int>(fixed.size()));
      tile::Transform<Dim> position;
      position.amount = node.integer;
      fixed.push_back(position);
      continue;
    }
    slots.push_back(rank + static_cast<int>(indirect.size()));
    extents.push_back(type.dims[axis]);
    indirect.push_back(coordinates[axis]);
  }
  Map::Outputs outputs;
  for (const int slot : slots) outputs.push_back(slot >= 0 ? slot : static_cast<int>(extents.size()) - 1 - slot);
  return load(tensor, type.dtype, Map::from_parts(extents_of(extents), fixed, {}, {}, outputs), indirect, fill);
}

Expr NestBuilder::load_broadcast(TensorId tensor, const Type& type) {
  const Dims& target = nest_.space;
  const size_t offset = kept().size() - std::min(kept().size(), type.dims.size());
  ensure(type.dims.size() <= kept().size(), "a broadcast operand has no more axes than the result");
  // Aligned with the kept coordinates. A run-time size that may turn out to be 1 repeats: the coordinate modulo the size is the coordinate
  // itself or 0.
  Map::Outputs outputs;
  Map::Transforms transforms;
  for (size_t axis = 0; axis < type.dims.size(); ++axis) {
    if (type.dims[axis] == Dim(1) && !(target[offset + axis] == Dim(1))) {
      transforms.push_back({});  // an affine sum of nothing: 0
      outputs.push_back(static_cast<int>(target.size()) + static_cast<int>(transforms.size()) - 1);
    } else if (!(type.dims[axis] == target[offset + axis]) && !type.dims[axis].is_constant()) {
      tile::Transform<Dim> repeat;
      repeat.kind = tile::TransformKind::remainder;
      repeat.a = static_cast<int>(offset + axis);
      repeat.amount = type.dims[axis];
      transforms.push_back(repeat);
      outputs.push_back(static_cast<int>(target.size()) + static_cast<int>(transforms.size()) - 1);
    } else {
      outputs.push_back(static_cast<int>(offset + axis));
    }
  }
  return load(tensor, type.dtype, Map::from_parts(extents_of(target), transforms, {}, {}, outputs).simplified());
}

Expr NestBuilder::reduce(ReduceOp op, Expr value, DType accumulator) {
  const bool finds = op >= ReduceOp::arg_min;
  nest_.reductions.push_back({op, value.id, finds ? DType::i64 : accumulator});
  ExprNode node;
  node.op = ExprOp::reduced;
  node.dtype = nest_.reductions.back().dtype;
  node.integer = static_cast<int64_t>(nest_.reductions.size()) - 1;
  return add(std::move(node));
}

void NestBuilder::store(TensorId tensor, Expr value) { store(tensor, Map::identity(kept()), value); }

void NestBuilder::store(TensorId tensor, Map map, Expr value) {
  ensure(map.rank_in() == static_cast<int>(kept().size()), "a store maps the kept coordinates");
  nest_.outputs.push_back({tensor, std::move(map), value.id});
}

Nest NestBuilder::finish(std::string source) {
  nest_.source = std::move(source);
  return std::move(nest_);
}

namespace {

Expr number(Expr like, double value) { return like.nest->constant(like.dtype(), value); }

}  // namespace

Expr operator+(Expr a, Expr b) { return a.nest->binary(ExprOp::add, a, b); }
Expr operator-(Expr a, Expr b) { return a.nest->binary(ExprOp::sub, a, b); }
Expr operator*(Expr a, Expr b) { return a.nest->binary(ExprOp::mul, a, b); }
Expr operator/(Expr a, Expr b) { return a.nest->binary(ExprOp::div, a, b); }
Expr operator+(Expr a, double b) { return a + number(a, b); }
Expr operator-(Expr a, double b) { return a - number(a, b); }
Expr operator*(Expr a, double b) { return a * number(a, b); }
Expr operator/(Expr a, double b) { return a / number(a, b); }
Expr operator-(double a, Expr b) { return number(b, a) - b; }
Expr operator/(double a, Expr b) { return number(b, a) / b; }
Expr operator-(Expr a) { return a.nest->unary(ExprOp::neg, a); }

}  // namespace tilewright::pattern
