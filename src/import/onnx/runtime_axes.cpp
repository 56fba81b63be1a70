#include "import/onnx/runtime_axes.h"

#include <limits>

namespace tilewright::onnx {
namespace {

ValueId one_number(Builder& b, int64_t value) { return b.constant(Tensor::from_ints({value}).reshaped({})); }

ValueId from_front(Builder& b, ValueId axes, int rank) { return b.where(b.less(axes, one_number(b, 0)), b.add(axes, one_number(b, rank)), axes); }

/// bool [rank]: true where `axes` names the position.
ValueId named(Builder& b, ValueId axes, int rank) {
  const ValueId row = b.unsqueeze(from_front(b, axes, rank), {0});
  return b.reduce("reduce_max", b.equal(b.iota(DType::i64, {rank, 1}, 0), row), {1}, false);
}

int64_t count_of(Builder& b, ValueId axes) { return b.dims(axes).at(0).constant(); }

/// The sizes of x that `axes` leaves.
Dims remaining_sizes(Builder& b, const Dims& dims, ValueId axes) {
  const auto rank = static_cast<int>(dims.size());
  const int64_t left = rank - count_of(b, axes);
  if (left <= 0) return {};
  const ValueId positions = b.node("compress_positions", {b.logical_not(named(b, axes, rank))}, {}, 2)[0];
  return b.sizes_of(b.gather(b.sizes(dims), b.slice(positions, 0, 0, left), 0));
}

/// What combining starts from: the value that changes nothing.
ValueId neutral(Builder& b, std::string_view core, DType dtype) {
  Tensor value(dtype, {});
  const bool largest = core == "reduce_min";
  if (core == "reduce_product") {
    value.set_int(0, 1);
  } else if (core != "reduce_min" && core != "reduce_max") {
    value.set_int(0, 0);
  } else if (is_float(dtype)) {
    value.set_float(0, largest ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity());
  } else {
    const int bits = bits_of(dtype);
    const int64_t top = is_signed(dtype) ? std::numeric_limits<int64_t>::max() >> (64 - bits) : static_cast<int64_t>(~uint64_t{0} >> (64 - bits));
    value.set_int(0, largest ? top : is_signed(dtype) ? -top - 1 : 0);
  }
  return b.constant(value);
}

/// i64 [dims]: where an element goes when the axes that `reduced` marks are reduced to 1: its coordinates times the result's
/// strides, those of reduced axes being 0.
ValueId reduced_places(Builder& b, const Dims& dims, const Dims& kept, ValueId reduced) {
  const size_t rank = dims.size();
  Dims strides(rank, Dim(1));
  for (size_t i = rank - 1; i > 0; --i) strides[i - 1] = strides[i] * kept[i];
  const ValueId steps = b.where(reduced, one_number(b, 0), b.sizes(strides));
  ValueId place = one_number(b, 0);
  for (size_t axis = 0; axis < rank; ++axis) {
    Dims line(rank, Dim(1));
    line[axis] = dims[axis];
    const ValueId step = b.reshape(b.slice(steps, 0, static_cast<int64_t>(axis), 1), {});
    place = b.add(place, b.mul(b.iota(DType::i64, line, static_cast<int>(axis)), step));
  }
  return b.broadcast(place, dims);
}

std::string combine_of(std::string_view core) {
  if (core == "reduce_product") return "mul";
  if (core == "reduce_min") return "min";
  return core == "reduce_max" ? "max" : "add";
}

}  // namespace

ValueId squeeze_at(Builder& b, ValueId x, ValueId axes) {
  const Dims dims = b.dims(x);
  return b.reshape(x, remaining_sizes(b, dims, axes));
}

ValueId unsqueeze_at(Builder& b, ValueId x, ValueId axes) {
  const int rank = b.rank(x) + static_cast<int>(count_of(b, axes));
  const ValueId added = named(b, axes, rank);
  // Position p of the result is dim number (kept positions before p) of x; one entry more for added positions behind the last.
  const ValueId kept = b.cast(b.logical_not(added), DType::i64);
  const ValueId source = b.one("cumulate", {kept}, {{"axis", int64_t{0}}, {"product", int64_t{0}}, {"exclusive", int64_t{1}}, {"reverse", int64_t{0}}});
  Dims dims = b.dims(x);
  dims.emplace_back(1);
  return b.reshape(x, b.sizes_of(b.where(added, one_number(b, 1), b.gather(b.sizes(dims), source, 0))));
}

ValueId reduce_at(Builder& b, std::string_view core, ValueId x, ValueId axes, bool keep_dims) {
  const DType dtype = b.dtype(x);
  if (dtype == DType::boolean) return b.cast(reduce_at(b, core, b.cast(x, DType::u8), axes, keep_dims), dtype);
  const Dims dims = b.dims(x);
  const ValueId reduced = named(b, axes, b.rank(x));
  const Dims kept = b.sizes_of(b.where(reduced, one_number(b, 1), b.sizes(dims)));
  const Dim elements = product(dims);
  const Dim results = product(kept);
  const ValueId place = b.reshape(reduced_places(b, dims, kept, reduced), {elements});
  ValueId result = b.one("scatter_elements", {b.broadcast(neutral(b, core, dtype), {results}), place, b.reshape(x, {elements})},
                         {{"axis", int64_t{0}}, {"combine", combine_of(core)}});
  if (core == "reduce_mean") {
    const auto as_number = [&](const Dim& size) { return b.cast(b.reshape(b.sizes({size}), {}), dtype); };
    result = b.div(result, b.div(as_number(elements), as_number(results)));
  }
  return b.reshape(result, keep_dims ? kept : remaining_sizes(b, dims, axes));
}

ValueId spread_at(Builder& b, ValueId reduced, ValueId x, ValueId axes) {
  const Dims dims = b.dims(x);
  const Dims kept = b.dims(reduced);
  const ValueId places = reduced_places(b, dims, kept, named(b, axes, b.rank(x)));
  return b.gather(b.reshape(reduced, {product(kept)}), places, 0);
}

ValueId at_axes(Builder& b, ValueId values, ValueId axes, ValueId otherwise, int rank) {
  return b.one("scatter_elements", {b.broadcast(otherwise, {rank}), from_front(b, axes, rank), values},
               {{"axis", int64_t{0}}, {"combine", std::string("assign")}});
}

ValueId choose_axis(Builder& b, ValueId axis, const std::vector<ValueId>& along) {
  const ValueId wanted = from_front(b, b.reshape(axis, {}), static_cast<int>(along.size()));
  ValueId chosen = along.at(0);
  for (size_t i = 1; i < along.size(); ++i) chosen = b.where(b.equal(wanted, one_number(b, static_cast<int64_t>(i))), along[i], chosen);
  return chosen;
}

}  // namespace tilewright::onnx
