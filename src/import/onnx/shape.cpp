#include <algorithm>

#include "import/onnx/operands.h"
#include "import/onnx/operators.h"
#include "import/onnx/runtime_axes.h"

namespace tilewright::onnx {
namespace {

/// More dims than any model has: what a list of axes may be long.
constexpr int largest_rank = 64;

void shape(NodeImport& n) {
  const Dims dims = n.dims(0);
  const auto rank = static_cast<int64_t>(dims.size());
  const auto position = [&](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + rank : at, 0, rank); };
  const int64_t start = position(n.integer("start", 0));
  const int64_t end = std::max(start, position(n.integer("end", rank)));
  n.set(n.b.sizes({dims.begin() + start, dims.begin() + end}));
}

void size(NodeImport& n) { n.set(n.b.reshape(n.b.sizes({product(n.dims(0))}), {})); }

/// The new sizes when `shape` is known at run time only: zeros copy, and one -1 takes what is left.
Dims resolved_at_run_time(NodeImport& n, ValueId x, ValueId shape, bool zero_copies) {
  Builder& b = n.b;
  n.require(b.rank(shape) == 1, "the shape is {}; needs a vector", str(b.type(shape)));
  const Dim count = b.dims(shape)[0];
  if (!count.is_constant()) n.unsupported("the rank of its result must be known at compile time; give --shape or --size");
  n.require(count.constant() <= 64, "a shape of {} axes", count.constant());
  const ValueId zero = b.scalar(DType::i64, 0);
  const ValueId one = b.scalar(DType::i64, 1);
  Dims from = b.dims(x);
  const Dim elements = product(from);
  shape = as_i64(b, shape);
  if (zero_copies) {
    from.resize(static_cast<size_t>(count.constant()), Dim(1));
    shape = b.where(b.equal(shape, zero), b.sizes(from), shape);
  }
  const ValueId open = b.less(shape, zero);
  const ValueId given = b.reduce("reduce_product", b.where(open, one, shape), {0});
  return b.sizes_of(b.where(open, b.div(b.sizes({elements}), given), shape));
}

void reshape(NodeImport& n) {
  const ValueId x = n.in(0);
  Dims dims;
  if (n.opset() < 5) {
    for (const int64_t dim : n.integers("shape")) dims.emplace_back(dim);
  } else if (n.rank(1) == 1 && !n.b.contents(n.in(1)) && n.dims(1)[0] != Dim(0)) {
    return n.set(n.b.reshape(x, resolved_at_run_time(n, x, n.in(1), !n.flag("allowzero", false))));
  } else {
    dims = n.b.sizes_of(n.in(1));
  }
  const Dims from = n.b.dims(x);
  const bool zero_copies = !n.flag("allowzero", false);
  int inferred = -1;
  Dims others;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == Dim(0) && zero_copies) {
      n.require(i < from.size(), "dim {} of the new shape {} copies one that {} does not have", i, str(dims), str(n.b.type(x)));
      dims[i] = from[i];
    }
    if (dims[i] == Dim(-1)) {
      n.require(inferred < 0, "the new shape {} leaves more than one dim open", str(dims));
      inferred = static_cast<int>(i);
    } else {
      n.require(!dims[i].is_constant() || dims[i].constant() >= 0, "the new shape {} has a negative dim", str(dims));
      others.push_back(dims[i]);
    }
  }
  if (inferred >= 0) {
    n.require(product(others) != Dim(0), "the new shape {} leaves a dim open beside a dim of 0", str(dims));
    dims[static_cast<size_t>(inferred)] = product(from) / product(others);
  }
  n.set(n.b.reshape(x, dims));
}

void flatten(NodeImport& n) {
  const ValueId x = n.in(0);
  const Dims dims = n.b.dims(x);
  const auto rank = static_cast<int64_t>(dims.size());
  const int64_t stated = n.integer("axis", 1);
  n.require(stated >= -rank && stated <= rank, "axis {} is outside of [{}, {}]", stated, -rank, rank);
  const int64_t axis = stated < 0 ? stated + rank : stated;
  n.set(n.b.reshape(x, {product({dims.begin(), dims.begin() + axis}), product({dims.begin() + axis, dims.end()})}));
}

void squeeze(NodeImport& n) {
  const ValueId x = n.in(0);
  std::vector<int64_t> axes;
  const Axes stated = axes_of(n, 1, n.b.rank(x));
  if (stated.at_run_time != no_value) return n.set(squeeze_at(n.b, x, stated.at_run_time));
  if (stated.given) {
    axes = n.axes(stated.known, n.b.rank(x));
  } else {
    for (int i = 0; i < n.b.rank(x); ++i) {
      if (n.b.dims(x)[static_cast<size_t>(i)] == Dim(1)) axes.push_back(i);
    }
  }
  n.set(axes.empty() ? x : n.b.squeeze(x, axes));
}

void unsqueeze(NodeImport& n) {
  const ValueId x = n.in(0);
  const Axes stated = axes_of(n, 1, largest_rank);
  n.require(stated.given, "has no axes");
  if (stated.at_run_time != no_value) return n.set(unsqueeze_at(n.b, x, stated.at_run_time));
  const std::vector<int64_t> axes = n.axes(stated.known, n.b.rank(x) + static_cast<int>(stated.known.size()));
  n.set(axes.empty() ? x : n.b.unsqueeze(x, axes));
}

/// The wider of two dims that broadcast to each other.
Dim broadcast_dim(const Dim& have, const Dim& wanted) {
  if (wanted == Dim(1) || wanted == have) return have;
  if (have == Dim(1) || wanted.is_constant()) return wanted;
  return have.is_constant() ? have : max(have, wanted);
}

void expand(NodeImport& n) {
  const ValueId x = n.in(0);
  Dims wanted = n.b.sizes_of(n.in(1));
  const Dims& have = n.b.dims(x);
  while (wanted.size() < have.size()) wanted.insert(wanted.begin(), Dim(1));
  const size_t lead = wanted.size() - have.size();
  for (size_t i = 0; i < have.size(); ++i) wanted[lead + i] = broadcast_dim(have[i], wanted[lead + i]);
  n.set(n.b.broadcast(x, wanted));
}

void constant(NodeImport& n) {
  Tensor value;
  if (n.has_attribute("value")) {
    value = n.tensor("value");
  } else if (n.has_attribute("sparse_value")) {
    value = n.sparse_tensor("sparse_value");
  } else if (n.has_attribute("value_float")) {
    value = Tensor::scalar(DType::f32, n.real("value_float"));
  } else if (n.has_attribute("value_floats")) {
    const std::vector<float> values = n.reals("value_floats");
    value = Tensor::from_floats(values, {static_cast<int64_t>(values.size())});
  } else if (n.has_attribute("value_int")) {
    value = Tensor::from_ints({n.integer("value_int")}).reshaped({});
  } else if (n.has_attribute("value_ints")) {
    value = Tensor::from_ints(n.integers("value_ints"));
  } else if (n.has_attribute("value_string") || n.has_attribute("value_strings")) {
    n.unsupported("strings are not supported");
  } else {
    n.reject("has no value");
  }
  n.set(n.b.constant(value, n.proto().output_size() ? n.proto().output(0) : ""));
}

void constant_of_shape(NodeImport& n) {
  Tensor value = n.has_attribute("value") ? n.tensor("value") : Tensor::scalar(DType::f32, 0);
  n.require(value.element_count() == 1, "attribute 'value' must hold one element");
  const Dims dims = n.b.sizes_of(n.in(0));
  for (const Dim& dim : dims) n.require(!dim.is_constant() || dim.constant() >= 0, "the shape {} has a negative dim", str(dims));
  n.set(n.b.broadcast(n.b.constant(value.reshaped({})), dims));
}

void eye_like(NodeImport& n) {
  const Dims dims = n.dims(0);
  n.require(dims.size() == 2, "its input must be a matrix, not {}", str(n.b.type(n.in(0))));
  const ValueId row = n.b.iota(DType::i64, {dims[0], 1}, 0);
  const ValueId column = n.b.iota(DType::i64, {1, dims[1]}, 1);
  const ValueId offset = n.b.constant(Tensor::from_ints({n.integer("k", 0)}).reshaped({}));
  n.set(n.b.cast(n.b.equal(n.b.add(row, offset), column), n.dtype_attribute("dtype", n.dtype(0))));
}

/// The number of steps when start, limit and delta are known sizes and delta a known number.
std::optional<Dim> known_steps(NodeImport& n) {
  Dims ends[3];
  for (int i = 0; i < 3; ++i) {
    const std::optional<Dims> value = n.b.contents(n.in(i));
    if (!value || value->size() != 1) return std::nullopt;
    ends[i] = *value;
  }
  if (!ends[2][0].is_constant()) return std::nullopt;
  const int64_t delta = ends[2][0].constant();
  n.require(delta != 0, "its step is 0");
  const Dim distance = delta > 0 ? ends[1][0] - ends[0][0] : ends[0][0] - ends[1][0];
  return not_negative(divide_up(distance, delta > 0 ? delta : -delta));
}

void range(NodeImport& n) {
  Builder& b = n.b;
  ValueId ends[3];
  for (int i = 0; i < 3; ++i) {
    n.require(n.rank(i) == 0 || product(n.dims(i)) == Dim(1), "input {} must be a scalar", i);
    ends[i] = n.rank(i) == 0 ? n.in(i) : b.reshape(n.in(i), {});
  }
  const auto [start, limit, delta] = ends;
  const DType dtype = b.dtype(start);
  std::optional<Dim> steps = is_float(dtype) ? std::nullopt : known_steps(n);
  if (!steps) {
    // Integers up to 2^53 divide exactly in f64.
    const ValueId ratio = b.div(b.sub(b.cast(limit, DType::f64), b.cast(start, DType::f64)), b.cast(delta, DType::f64));
    steps = b.sizes_of(b.cast(b.max(b.unary("ceil", ratio), 0.0), DType::i64))[0];
  }
  n.set(b.add(b.mul(b.iota(dtype, {*steps}, 0), delta), start));
}

void identity(NodeImport& n) { n.set(0, n.operand(0)); }

constexpr OperatorEntry table[] = {
    {"", "Constant", 1, constant}, {"", "ConstantOfShape", 9, constant_of_shape},
    {"", "Expand", 8, expand},     {"", "EyeLike", 9, eye_like},
    {"", "Flatten", 1, flatten},   {"", "Identity", 1, identity},
    {"", "Range", 11, range},      {"", "Reshape", 1, reshape},
    {"", "Shape", 1, shape},       {"", "Size", 1, size},
    {"", "Squeeze", 1, squeeze},   {"", "Unsqueeze", 1, unsqueeze},
};

}  // namespace

std::span<const OperatorEntry> shape_operators() { return table; }

}  // namespace tilewright::onnx
