#include "op/tables.h"

namespace tilewright {
namespace {

using pattern::Expr;
using pattern::ExprOp;
using pattern::Map;
using pattern::NestBuilder;
using pattern::Program;
using pattern::ReduceOp;
using pattern::TensorId;

std::vector<Type> infer_det(const InferContext& c) {
  c.require(c.rank(0) >= 2 && is_float(c.dtype(0)), "operand is {}; needs square matrices of floats", str(c.type(0)));
  const Dims& dims = c.dims(0);
  c.require_equal(dims[dims.size() - 2], dims.back(), fmt::format("rows and columns of {}", str(c.type(0))));
  return {{c.dtype(0), Dims(dims.begin(), dims.end() - 2)}};
}

/// Coordinates of the batch axes, then `row` and `column`.
std::vector<Expr> place(NestBuilder& n, size_t batch, std::initializer_list<Expr> last) {
  std::vector<Expr> coordinates;
  for (size_t axis = 0; axis < batch; ++axis) coordinates.push_back(n.index(static_cast<int>(axis)));
  coordinates.insert(coordinates.end(), last);
  return coordinates;
}

/// By expansion along the rows: the minor of the rows from `row` on and of `columns`.
Expr minor_of(NestBuilder& n, const std::vector<std::vector<Expr>>& m, size_t row, const std::vector<size_t>& columns) {
  if (columns.empty()) return n.constant(DType::f64, 1);
  if (columns.size() == 1) return m[row][columns[0]];
  std::optional<Expr> sum;
  for (size_t k = 0; k < columns.size(); ++k) {
    std::vector<size_t> rest = columns;
    rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(k));
    const Expr term = m[row][columns[k]] * minor_of(n, m, row + 1, rest);
    sum = !sum ? term : k % 2 == 0 ? *sum + term : *sum - term;
  }
  return *sum;
}

void lower_small(Lowering& l, size_t size) {
  const Type x = l.in_type(0), out = l.out_type();
  NestBuilder n(out.dims);
  std::vector<std::vector<Expr>> m(size);
  std::vector<size_t> columns;
  for (size_t row = 0; row < size; ++row) {
    columns.push_back(row);
    for (size_t column = 0; column < size; ++column) {
      const auto at = [&](size_t i) { return n.constant_int(DType::i64, static_cast<int64_t>(i)); };
      m[row].push_back(n.cast(n.load_at(l.in(0), x, place(n, out.dims.size(), {at(row), at(column)})), DType::f64));
    }
  }
  n.store(l.out(), n.cast(minor_of(n, m, 0, columns), out.dtype));
  l.emit(n);
}

/// One step of Gaussian elimination with row exchanges. Inputs: step, condition, matrices, products of the pivots; outputs: condition, both updated.
std::shared_ptr<Program> elimination_step(const std::string& source, const Type& matrices, const Type& products) {
  auto body = std::make_shared<Program>();
  body->name = "elimination";
  const Type step_type{DType::i64, {}}, pivot_type{DType::i64, products.dims};
  const TensorId step = body->add_tensor(step_type, "step"), condition = body->add_tensor({DType::boolean, {}}, "condition");
  const TensorId matrix = body->add_tensor(matrices, "matrix"), sofar = body->add_tensor(products, "product");
  const TensorId pivot = body->add_tensor(pivot_type, "pivot");
  const TensorId next = body->add_tensor(matrices, "next_matrix"), longer = body->add_tensor(products, "next_product");
  body->inputs = {step, condition, matrix, sofar};
  body->outputs = {condition, next, longer};
  const size_t batch = products.dims.size();
  const int row_axis = static_cast<int>(batch);

  {  // The row, from the step's on, with the largest element in the step's column.
    Dims space = products.dims;
    space.push_back(matrices.dims.back());
    NestBuilder n(space, 1);
    const Expr row = n.index(row_axis), at = n.load_at(step, step_type, {});
    const Expr size = n.unary(ExprOp::abs, n.load_at(matrix, matrices, place(n, batch, {row, at})));
    const Expr candidate = n.select(n.binary(ExprOp::less, row, at), n.constant(DType::f64, -1), size);
    n.store(pivot, n.reduce(ReduceOp::arg_max, candidate, DType::i64));
    body->patterns.emplace_back(n.finish(source));
  }
  {
    NestBuilder n(products.dims);
    const Expr at = n.load_at(step, step_type, {}), chosen = n.load_at(pivot, pivot_type, place(n, batch, {}));
    const Expr value = n.load_at(matrix, matrices, place(n, batch, {chosen, at})) * n.load_at(sofar, products, place(n, batch, {}));
    n.store(longer, n.select(n.binary(ExprOp::equal, chosen, at), value, -value));
    body->patterns.emplace_back(n.finish(source));
  }
  {  // Both rows change places; the rows below lose their element in the step's column. A zero pivot leaves them: the product is 0 already.
    NestBuilder n(matrices.dims);
    const Expr row = n.index(row_axis), column = n.index(row_axis + 1);
    const Expr at = n.load_at(step, step_type, {}), chosen = n.load_at(pivot, pivot_type, place(n, batch, {}));
    const auto is = [&](Expr a, Expr b) { return n.binary(ExprOp::equal, a, b); };
    const auto element = [&](Expr r, Expr c) { return n.load_at(matrix, matrices, place(n, batch, {r, c})); };
    const Expr from = n.select(is(row, at), chosen, n.select(is(row, chosen), at, row));
    const Expr zero = n.constant(DType::f64, 0), lead = element(chosen, at);
    const Expr divisor = n.select(is(lead, zero), n.constant(DType::f64, 1), lead);
    const Expr share = n.select(n.binary(ExprOp::less, at, row), element(from, at) / divisor, zero);
    n.store(next, element(from, column) - share * element(chosen, column));
    body->patterns.emplace_back(n.finish(source));
  }
  return body;
}

void lower_by_elimination(Lowering& l) {
  const Type x = l.in_type(0), out = l.out_type();
  const Type matrices{DType::f64, x.dims}, products{DType::f64, out.dims};
  const TensorId matrix = l.temporary(matrices, "matrix"), one = l.temporary(products, "one"), steps = l.temporary({DType::i64, {}}, "steps");
  const TensorId rest = l.temporary(matrices, "eliminated"), result = l.temporary(products, "product");
  {
    NestBuilder n(x.dims);
    n.store(matrix, n.cast(n.load(l.in(0), x.dtype, Map::identity(x.dims)), DType::f64));
    l.emit(n);
  }
  {
    NestBuilder n(out.dims);
    n.store(one, n.constant(DType::f64, 1));
    l.emit(n);
  }
  {
    NestBuilder n(Dims{});
    n.store(steps, n.size(x.dims.back()));
    l.emit(n);
  }
  pattern::Loop loop;
  loop.source = l.node.name;
  loop.trip_count = steps;
  loop.carried = {matrix, one};
  loop.outputs = {rest, result};
  loop.body = elimination_step(l.node.name, matrices, products);
  l.emit(std::move(loop));
  NestBuilder n(out.dims);
  n.store(l.out(), n.cast(n.load(result, DType::f64, Map::identity(out.dims)), out.dtype));
  l.emit(n);
}

/// Computed in f64: products of many elements cancel and overflow early.
void lower_det(Lowering& l) {
  const Dim size = l.in_type(0).dims.back();
  if (size.is_constant() && size.constant() <= 4)
    lower_small(l, static_cast<size_t>(size.constant()));
  else
    lower_by_elimination(l);
}

constexpr OpDef ops[] = {{"det", 1, 1, infer_det, lower_det}};

}  // namespace

std::span<const OpDef> determinant_ops() { return ops; }

}  // namespace tilewright
