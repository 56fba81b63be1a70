#include <algorithm>

#include "base/error.h"
#include "pattern/expr.h"
#include "pattern/interpret.h"

namespace tilewright::pattern {
namespace {

constexpr int64_t rows = 4, columns = 8;             // of sums held at once
constexpr int64_t tile_elements = int64_t{1} << 19;  // of one operand's tile

/// What products are rounded to before they are added, and how they are added.
template <class T>
struct Sum {
  using type = double;
};
template <>
struct Sum<int64_t> {
  using type = uint64_t;
};  // wraps

/// sums[r][c] = Σk a[r][k]·b[k][c] in the order of k; rows of `a` are `depth` long, `b` is packed 8 columns a row.
template <class T>
void multiply(const T* const* a, const T* b, int64_t depth, typename Sum<T>::type (*sums)[columns]) {
  using S = typename Sum<T>::type;
  S total[rows][columns] = {};
  for (int64_t k = 0; k < depth; ++k, b += columns)
    for (int64_t r = 0; r < rows; ++r) {
      const T left = a[r][k];
      for (int64_t c = 0; c < columns; ++c) {
        if constexpr (std::is_same_v<T, int64_t>)
          total[r][c] += static_cast<uint64_t>(left) * static_cast<uint64_t>(b[c]);
        else
          total[r][c] += static_cast<S>(left * b[c]);
      }
    }
  for (int64_t r = 0; r < rows; ++r) std::copy_n(total[r], columns, sums[r]);
}

/// The coordinates by the factors that depend on them.
struct Shape {
  std::vector<size_t> batch, m, n, k;
  int64_t batches, rows_m, columns_n, depth;
  ExprId left, right;
};

int64_t product_over(const std::vector<int64_t>& extents, const std::vector<size_t>& axes) {
  std::vector<int64_t> dims;
  for (const size_t axis : axes) dims.push_back(extents[axis]);
  return element_count(dims);
}

std::vector<size_t> joined(std::vector<size_t> a, const std::vector<size_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// Offsets of row-major kept points along some of their axes.
std::vector<int64_t> offsets(const std::vector<int64_t>& extents, const std::vector<size_t>& axes, const std::vector<int64_t>& strides) {
  std::vector<int64_t> result{0};
  for (const size_t axis : axes) {
    std::vector<int64_t> longer;
    longer.reserve(result.size() * static_cast<size_t>(extents[axis]));
    for (const int64_t base : result)
      for (int64_t i = 0; i < extents[axis]; ++i) longer.push_back(base + i * strides[axis]);
    result = std::move(longer);
  }
  return result;
}

template <class T>
class Product {
 public:
  Product(Machine& machine, const Nest& nest, const std::vector<int64_t>& extents, const Shape& shape)
      : extents_(extents),
        shape_(shape),
        left_(machine, nest.source, nest.accesses, nest.nodes, extents, {shape.left}),
        right_(machine, nest.source, nest.accesses, nest.nodes, extents, {shape.right}),
        points_(extents.size()) {}

  template <class Put>
  void compute(Put&& put) {
    const int64_t depth = shape_.depth;
    const int64_t tile_m = std::clamp(tile_elements / depth, rows, std::max(rows, shape_.rows_m));
    const int64_t tile_n = std::clamp(tile_elements / depth / columns * columns, columns, std::max(columns, shape_.columns_n));
    const std::vector<size_t> left_axes = joined(joined(shape_.batch, shape_.m), shape_.k), right_axes = joined(joined(shape_.batch, shape_.n), shape_.k);
    std::vector<T> a(static_cast<size_t>(tile_m * depth)), b(static_cast<size_t>((tile_n + columns - 1) / columns * columns * depth));
    for (int64_t batch = 0; batch < shape_.batches; ++batch)
      for (int64_t n = 0; n < shape_.columns_n; n += tile_n) {
        const int64_t n_count = std::min(tile_n, shape_.columns_n - n);
        std::fill(b.begin(), b.end(), T(0));
        fill(right_, shape_.right, right_axes, (batch * shape_.columns_n + n) * depth, n_count * depth, [&](int64_t i, T value) {
          const int64_t column = i / depth, k = i % depth;
          b[static_cast<size_t>((column / columns * depth + k) * columns + column % columns)] = value;
        });
        for (int64_t m = 0; m < shape_.rows_m; m += tile_m) {
          const int64_t m_count = std::min(tile_m, shape_.rows_m - m);
          fill(left_, shape_.left, left_axes, (batch * shape_.rows_m + m) * depth, m_count * depth,
               [&](int64_t i, T value) { a[static_cast<size_t>(i)] = value; });
          tile(a, b, m_count, n_count, [&](int64_t row, int64_t column, auto sum) { put(batch, m + row, n + column, sum); });
        }
      }
  }

 private:
  /// Evaluates a factor at `count` points of the space of `axes`, from number `first` on.
  template <class Put>
  void fill(Evaluator& evaluator, ExprId factor, const std::vector<size_t>& axes, int64_t first, int64_t count, Put&& put) {
    const Column& values = evaluator.value(factor);
    const bool real = is_float(evaluator.dtype(factor));
    for (int64_t done = 0; done < count; done += Points::capacity) {
      points_.enumerate(extents_, axes, first + done, std::min(Points::capacity, count - done));
      evaluator.evaluate(points_);
      for (int64_t p = 0; p < points_.count; ++p)
        put(done + p, real ? static_cast<T>(values.reals[static_cast<size_t>(p)]) : static_cast<T>(values.integers[static_cast<size_t>(p)]));
    }
  }

  template <class Put>
  void tile(const std::vector<T>& a, const std::vector<T>& b, int64_t m_count, int64_t n_count, Put&& put) {
    typename Sum<T>::type sums[rows][columns];
    for (int64_t n = 0; n < n_count; n += columns)
      for (int64_t m = 0; m < m_count; m += rows) {
        const T* row[rows];  // the last one again where there are fewer
        for (int64_t r = 0; r < rows; ++r) row[r] = a.data() + std::min(m + r, m_count - 1) * shape_.depth;
        multiply(row, b.data() + n * shape_.depth, shape_.depth, sums);
        for (int64_t r = 0; r < std::min(rows, m_count - m); ++r)
          for (int64_t c = 0; c < std::min(columns, n_count - n); ++c) put(m + r, n + c, sums[r][c]);
      }
  }

  const std::vector<int64_t>& extents_;
  const Shape& shape_;
  Evaluator left_, right_;
  Points points_;
};

/// Sorts the coordinates; nothing where a matrix product would not share work.
std::optional<Shape> shape_of(Machine& machine, const Nest& nest, const std::vector<int64_t>& extents) {
  const ExprNode& product = nest.nodes.at(static_cast<size_t>(nest.reductions[0].value));
  Shape shape;
  shape.left = product.args[0];
  shape.right = product.args[1];
  const Evaluator both(machine, nest.source, nest.accesses, nest.nodes, extents, product.args);
  const std::vector<char> left = both.depends_on(shape.left), right = both.depends_on(shape.right);
  const size_t kept_rank = extents.size() - static_cast<size_t>(nest.reduced_rank);
  for (size_t axis = 0; axis < extents.size(); ++axis) {
    if (axis >= kept_rank)
      shape.k.push_back(axis);
    else if (left[axis] && !right[axis])
      shape.m.push_back(axis);
    else if (right[axis] && !left[axis])
      shape.n.push_back(axis);
    else
      shape.batch.push_back(axis);
  }
  shape.rows_m = product_over(extents, shape.m);
  shape.columns_n = product_over(extents, shape.n);
  if (shape.rows_m > shape.columns_n) {
    std::swap(shape.left, shape.right);
    std::swap(shape.m, shape.n);
    std::swap(shape.rows_m, shape.columns_n);
  }
  shape.batches = product_over(extents, shape.batch);
  shape.depth = product_over(extents, shape.k);
  if (shape.columns_n < columns || shape.depth == 0 || shape.depth > tile_elements || shape.batches == 0 || shape.rows_m == 0) return std::nullopt;
  return shape;
}

}  // namespace

bool contract_in_tiles(Machine& machine, const Nest& nest, const std::vector<int64_t>& extents, Array& sums) {
  if (nest.reductions.size() != 1 || nest.reductions[0].op != ReduceOp::sum) return false;
  const ExprNode& product = nest.nodes.at(static_cast<size_t>(nest.reductions[0].value));
  if (product.op != ExprOp::mul) return false;
  const DType dtype = product.dtype, into = nest.reductions[0].dtype;
  if (dtype == DType::boolean) return false;
  const bool in_float32 = dtype == DType::f32 && machine.run.rounds();
  if (is_float(dtype) && !in_float32 && dtype != DType::f64 && machine.run.rounds()) return false;
  // Sums of products modulo 2^bits are the same whether each product wraps or the sum does.
  if (!is_float(dtype) && bits_of(dtype) < bits_of(into)) return false;
  const auto shape = shape_of(machine, nest, extents);
  if (!shape) return false;

  const std::vector<int64_t> kept(extents.begin(), extents.end() - nest.reduced_rank);
  const int64_t kept_count = element_count(kept);
  // Tiles do about eight products in the time of one point of the general way.
  machine.run.spend(kept_count / 8 <= INT64_MAX / shape->depth ? kept_count / 8 * shape->depth : INT64_MAX, nest.source);
  const std::vector<int64_t> strides = row_major_strides(kept);
  const std::vector<int64_t> of_batch = offsets(extents, shape->batch, strides), of_m = offsets(extents, shape->m, strides),
                             of_n = offsets(extents, shape->n, strides);
  const auto at = [&](int64_t batch, int64_t m, int64_t n) {
    return static_cast<size_t>(of_batch[static_cast<size_t>(batch)] + of_m[static_cast<size_t>(m)] + of_n[static_cast<size_t>(n)]);
  };
  sums = {into, {kept_count}, {}, {}};
  const size_t count = static_cast<size_t>(kept_count);
  if (is_float(dtype)) {
    sums.reals.resize(count);
    const auto put = [&](int64_t batch, int64_t m, int64_t n, double sum) { sums.reals[at(batch, m, n)] = sum; };
    if (in_float32)
      Product<float>(machine, nest, extents, *shape).compute(put);
    else
      Product<double>(machine, nest, extents, *shape).compute(put);
    if (machine.run.rounds()) round_block(into, sums.reals.data(), count);
  } else {
    sums.integers.resize(count);
    Product<int64_t>(machine, nest, extents, *shape).compute([&](int64_t batch, int64_t m, int64_t n, uint64_t sum) {
      sums.integers[at(batch, m, n)] = static_cast<int64_t>(sum);
    });
    wrap_block(into, sums.integers.data(), count);
  }
  return true;
}

}  // namespace tilewright::pattern
