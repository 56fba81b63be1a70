#include "op/index.h"
#include "op/tables.h"

namespace tilewright {
namespace {

using pattern::Expr;
using pattern::Map;
using pattern::NestBuilder;
using pattern::Scatter;

Scatter::Combine combine_of(const InferContext& c) {
  const std::string how = c.text_or("combine", "assign");
  if (how == "assign") return Scatter::Combine::assign;
  if (how == "add") return Scatter::Combine::add;
  if (how == "mul") return Scatter::Combine::mul;
  if (how == "min") return Scatter::Combine::min;
  if (how == "max") return Scatter::Combine::max;
  c.reject("combine '{}' is unknown", how);
}

void check_operands(const InferContext& c) {
  c.require(c.dtype(1) == DType::i64 || c.dtype(1) == DType::i32, "indices are {}; needs i64 or i32", str(c.type(1)));
  c.require(c.dtype(0) == c.dtype(2), "data is {}, updates are {}; dtypes must agree", str(c.type(0)), str(c.type(2)));
  combine_of(c);
}

std::vector<Type> infer_scatter_elements(const InferContext& c) {
  const int64_t axis = c.integer("axis");
  check_operands(c);
  c.require(axis >= 0 && axis < c.rank(0) && c.rank(1) == c.rank(0) && c.rank(2) == c.rank(0),
            "data {}, indices {} and updates {} need one rank, and axis {} within it", str(c.dims(0)), str(c.dims(1)), str(c.dims(2)), axis);
  for (size_t d = 0; d < c.dims(1).size(); ++d) c.require_equal(c.dims(1)[d], c.dims(2)[d], "indices and updates");
  return {c.type(0)};
}

/// Finishes a scatter whose target coordinates are `coordinates`: plain ones come from the space, the others are indirect.
void emit_scatter(Lowering& l, NestBuilder& n, Expr value, const std::vector<int>& plain_axis, const std::vector<std::optional<Expr>>& computed) {
  const Dims target = l.out_type().dims;
  Map::Extents extents;
  for (const Dim& dim : n.space()) extents.push_back(dim);
  Map::Outputs outputs;
  Scatter scatter;
  for (size_t d = 0; d < target.size(); ++d) {
    if (!computed[d]) {
      outputs.push_back(plain_axis[d]);
      continue;
    }
    outputs.push_back(extents.size());
    extents.push_back(target[d]);
    scatter.indirect.push_back(computed[d]->id);
  }
  scatter.source = l.node.name;
  scatter.initial = l.in(0);
  scatter.output = l.out();
  scatter.space = n.space();
  scatter.map = Map::from_parts(extents, {}, {}, {}, outputs);
  scatter.value = value.id;
  scatter.combine = combine_of(l.context());
  pattern::Nest parts = n.finish("");
  scatter.accesses = std::move(parts.accesses);
  scatter.nodes = std::move(parts.nodes);
  l.emit(std::move(scatter));
}

void lower_scatter_elements(Lowering& l) {
  const size_t axis = static_cast<size_t>(l.context().integer("axis"));
  const Type data = l.in_type(0), indices = l.in_type(1), updates = l.in_type(2);
  NestBuilder n(indices.dims);
  const Expr index = wrapped(n, n.load(l.in(1), indices.dtype, Map::identity(indices.dims)), data.dims[axis]);
  const Expr value = n.load(l.in(2), updates.dtype, Map::identity(indices.dims));
  std::vector<int> plain(data.dims.size());
  std::vector<std::optional<Expr>> computed(data.dims.size());
  for (size_t d = 0; d < plain.size(); ++d) plain[d] = static_cast<int>(d);
  computed[axis] = index;
  emit_scatter(l, n, value, plain, computed);
}

std::vector<Type> infer_scatter_nd(const InferContext& c) {
  check_operands(c);
  c.require(c.rank(1) >= 1 && c.dims(1).back().is_constant(), "indices are {}; the size of their last axis must be known", str(c.dims(1)));
  const int64_t depth = c.dims(1).back().constant();
  c.require(depth <= c.rank(0) && c.rank(2) == c.rank(1) - 1 + c.rank(0) - depth, "data {}, indices {} and updates {} do not fit together", str(c.dims(0)),
            str(c.dims(1)), str(c.dims(2)));
  return {c.type(0)};
}

void lower_scatter_nd(Lowering& l) {
  const Type data = l.in_type(0), indices = l.in_type(1), updates = l.in_type(2);
  const int depth = static_cast<int>(indices.dims.back().constant()), index_rank = static_cast<int>(indices.dims.size()) - 1;
  NestBuilder n(updates.dims);
  std::vector<int> plain(data.dims.size(), 0);
  std::vector<std::optional<Expr>> computed(data.dims.size());
  for (int d = 0; d < static_cast<int>(data.dims.size()); ++d) {
    if (d >= depth) {
      plain[static_cast<size_t>(d)] = index_rank + d - depth;
      continue;
    }
    std::vector<Expr> at;
    for (int axis = 0; axis < index_rank; ++axis) at.push_back(n.index(axis));
    at.push_back(n.constant_int(DType::i64, d));
    computed[static_cast<size_t>(d)] = wrapped(n, n.load_at(l.in(1), indices, at), data.dims[static_cast<size_t>(d)]);
  }
  emit_scatter(l, n, n.load(l.in(2), updates.dtype, Map::identity(updates.dims)), plain, computed);
}

constexpr OpDef ops[] = {{"scatter_elements", 3, 3, infer_scatter_elements, lower_scatter_elements}, {"scatter_nd", 3, 3, infer_scatter_nd, lower_scatter_nd}};

}  // namespace

std::span<const OpDef> scatter_ops() { return ops; }

}  // namespace tilewright
