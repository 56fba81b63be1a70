// Kernels with a thread a point: maps and views, casts, gathers, scatters, pools, resizes.

#include "families.h"

namespace tilewright::emulated {
namespace {

/// A view of `x`, of three axes like it.
ValueId moved(Draft& d, ValueId x) {
  Builder& b = d.build;
  const Dims dims = b.dims(x);
  switch (d.choose(6)) {
    case 0: return b.transpose(x, {2, 0, 1});
    case 1: return b.pad(x, {1, 0, 2}, {0, 1, 0}, "constant", b.dtype(x) == DType::boolean ? no_value : b.scalar(b.dtype(x), 3));
    case 2: return b.concat({x, x}, static_cast<int>(d.choose(3)));
    case 3: return b.reshape(x, {dims[2], dims[0] * dims[1], 1});
    case 4: return b.slice(x, 1, dims[1] - 1, dims[1], -1);
    default: return b.transpose(x, {1, 0, 2});
  }
}

ValueId combined(Draft& d, ValueId x, ValueId y) {
  Builder& b = d.build;
  const DType dtype = b.dtype(x);
  if (dtype == DType::boolean) return b.one(d.one_of({"and", "or", "xor", "equal", "less"}), {x, y});
  switch (d.choose(is_float(dtype) ? 9 : 8)) {
    case 0: return b.add(x, y);
    case 1: return b.mul(x, y);
    case 2: return b.max(x, b.neg(y));
    case 3: return b.where(b.less(x, y), b.sub(y, x), x);
    case 4: return is_float(dtype) ? b.add(b.tanh(x), y) : b.one("bit_and", {x, y});
    case 5: return is_float(dtype) ? b.mul(b.exp(b.min(x, 1.0)), y) : b.one("bit_xor", {x, y});
    case 6: return is_float(dtype) ? b.add(b.sigmoid(x), y) : b.div(x, y);
    case 7: return is_float(dtype) ? b.div(x, b.add(b.unary("abs", y), 1.0)) : b.one("mod", {x, y});
    default: return b.add(b.unary("erf", x), b.sqrt(b.unary("abs", y)));
  }
}

void map(Draft& d, DType dtype) {
  Builder& b = d.build;
  ValueId x = d.input(dtype, {d.size({1, 2, 3, 13}), d.size({1, 5, 16, 17}), d.size({0, 1, 8, 31, 67})});
  const size_t steps = 1 + d.choose(4);
  for (size_t step = 0; step < steps; ++step) {
    if (d.chance()) x = moved(d, x);
    const Dims dims = b.dims(x);
    const size_t shape = d.choose(4);
    x = combined(d, x, d.input(dtype, shape == 0 ? dims : shape == 1 ? Dims{dims[2]} : shape == 2 ? Dims{dims[1], 1} : Dims{}));
  }
  d.output(x);
}

void cast(Draft& d, DType dtype) {
  const ValueId x = is_float(dtype) ? d.input(dtype, {d.size({0, 1, 63, 257})}, -300, 300)
                                    : d.integers(dtype, {d.size({0, 1, 63, 257})}, is_signed(dtype) ? -128 : 0,
                                                 dtype == DType::boolean ? 1
                                                 : is_signed(dtype)      ? 127
                                                                         : 255);
  for (const DType to : {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64, DType::i32, DType::i8, DType::u8, DType::boolean})
    if (to != dtype) d.output(d.build.cast(x, to, is_integer(to) && d.chance() ? "wrap" : "saturate"));
}

void gather(Draft& d, DType dtype) {
  Builder& b = d.build;
  const Dims dims = {d.size({1, 2, 5}), d.size({1, 3, 17}), d.size({1, 4, 33})};
  const ValueId x = d.input(dtype, dims);
  const size_t axis = d.choose(3);
  const int64_t below = d.value(dims[axis]);
  const DType index = d.one_of({DType::i64, DType::i32});
  switch (d.choose(3)) {
    case 0: return d.output(b.gather(x, d.integers(index, {d.size({0, 1, 7}), 2}, -below, below - 1), static_cast<int>(axis)));
    case 1: {
      Dims picked = dims;
      picked[axis] = d.size({0, 1, 6});
      return d.output(b.one("gather_elements", {x, d.integers(index, picked, -below, below - 1)}, {{"axis", static_cast<int64_t>(axis)}}));
    }
    default: return d.output(b.one("gather_nd", {x, d.integers(index, {d.size({0, 1, 9}), 1}, -d.value(dims[0]), d.value(dims[0]) - 1)}));
  }
}

void scatter(Draft& d, DType dtype) {
  Builder& b = d.build;
  const Dims dims = {d.size({1, 2, 7}), d.size({1, 3, 16}), d.size({1, 4, 9})};
  const ValueId x = d.input(dtype, dims);
  const std::string combine = dtype == DType::boolean ? "assign" : d.one_of({"assign", "add", "mul", "min", "max"});
  const DType index = d.one_of({DType::i64, DType::i32});
  const size_t axis = d.choose(3);
  Dims updates = dims;
  const double low = combine == "mul" ? 0.75 : -2, high = combine == "mul" ? 1.25 : 2;
  if (d.chance()) {
    updates[axis] = d.size({0, 1, 5});
    const int64_t below = d.value(dims[axis]);
    const ValueId at = d.integers(index, updates, -below, below - 1);
    return d.output(b.one("scatter_elements", {x, at, d.input(dtype, updates, low, high)}, {{"axis", static_cast<int64_t>(axis)}, {"combine", combine}}));
  }
  updates[0] = d.size({0, 1, 6});
  const ValueId at = d.integers(index, {updates[0], 1}, 0, d.value(dims[0]) - 1);
  d.output(b.one("scatter_nd", {x, at, d.input(dtype, updates, low, high)}, {{"combine", combine}}));
}

void pool(Draft& d, DType dtype) {
  std::vector<int64_t> kernel, strides, pads;
  Dims dims = {d.size({0, 1, 2}), d.size({1, 3, 8})};
  const int rank = d.one_of({1, 2, 2, 3});
  for (int axis = 0; axis < rank; ++axis) {
    kernel.push_back(d.one_of<int64_t>({1, 2, 3}));
    strides.push_back(d.one_of<int64_t>({1, 2, 3}));
    pads.push_back(kernel.back() / 2);
    dims.push_back(d.size(kernel.back() + d.draw({0, 1, 4, 9})));
  }
  pads.insert(pads.end(), pads.begin(), pads.begin() + rank);
  const ValueId x = d.input(dtype, dims);
  const bool average = is_float(dtype) && d.chance();
  Attributes attributes = {{"kernel", kernel}, {"strides", strides}, {"pads", pads}};
  if (average) return d.output(d.build.one("average_pool", {x}, [&] { return attributes["include_pad"] = int64_t{d.chance()}, attributes; }()));
  for (const ValueId result : d.build.node("max_pool", {x}, attributes, 2)) d.output(result);
}

void resize(Draft& d, DType dtype) {
  Builder& b = d.build;
  const Dims in = {d.size({1, 2}), 2, d.size({1, 2, 7, 9}), d.size({1, 3, 8, 16})};
  const Dims target = {d.size({1, 3, 8, 13}), d.size({1, 5, 16, 17})};
  const ValueId x = d.input(dtype, in);
  d.input(DType::boolean, target);  // where a size given at run time comes from
  const std::string mode = is_float(dtype) ? d.one_of({"nearest", "linear", "cubic"}) : "nearest";
  d.output(b.one("resize", {x},
                 {{"dims", Dims{in[0], in[1], target[0], target[1]}},
                  {"mode", mode},
                  {"coordinate", std::string(d.one_of({"half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"}))},
                  {"nearest", std::string(d.one_of({"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"}))}}));
}

const std::vector<DType> all = {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64, DType::i32, DType::i8, DType::u8, DType::boolean};
const std::vector<DType> numbers = {all.begin(), all.end() - 1};

}  // namespace

std::span<const Family> point_families() {
  static const Family table[] = {{"map", all, map},         {"cast", all, cast},     {"gather", all, gather},
                                 {"scatter", all, scatter}, {"pool", numbers, pool}, {"resize", all, resize}};
  return table;
}

}  // namespace tilewright::emulated
