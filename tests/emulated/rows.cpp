// Reductions, and chains of maps and reductions over the same rows.

#include "families.h"

namespace tilewright::emulated {
namespace {

/// Axes of three, at least one.
std::vector<int64_t> some_axes(Draft& d) {
  const size_t picked = 1 + d.choose(7);
  std::vector<int64_t> axes;
  for (int64_t axis = 0; axis < 3; ++axis)
    if ((picked >> axis & 1) != 0) axes.push_back(axis);
  return axes;
}

void reduction(Draft& d, DType dtype) {
  Builder& b = d.build;
  const bool numbers = dtype != DType::boolean;
  const std::string op = numbers ? d.one_of({"reduce_sum", "reduce_max", "reduce_min", "reduce_product", is_float(dtype) ? "reduce_mean" : "reduce_sum"})
                                 : d.one_of({"reduce_max", "reduce_min"});
  const std::vector<int64_t> axes = some_axes(d);
  const bool product = op == "reduce_product";
  const Dims dims = {d.size({1, 2, 5}), d.size(product ? d.draw({1, 3, 7}) : d.draw({0, 1, 3, 17, 33})),
                     d.size(product ? d.draw({1, 2, 11}) : d.draw({1, 2, 31, 127, 128, 129, 1031}))};
  ValueId x = product ? d.input(dtype, dims, 0.75, 1.25) : d.input(dtype, dims);
  if (numbers && d.chance()) x = b.mul(x, x);
  x = b.reduce(op, x, axes, d.chance());
  if (numbers && d.chance()) x = b.add(x, 1.0);
  d.output(x);
}

/// Sums that the lanes of a warp share.
void long_reduction(Draft& d, DType dtype) {
  const ValueId x = d.input(dtype, {d.size({0, 1, 2, 9}), d.size({1, 3, 5}), d.size({128, 129, 191, 257, 1031, 4099})});
  d.output(
      d.build.reduce(d.one_of({"reduce_sum", "reduce_max", "reduce_min", "reduce_sum"}), x, d.chance() ? std::vector<int64_t>{2} : std::vector<int64_t>{1, 2}));
}

void argument(Draft& d, DType dtype) {
  const ValueId x = d.input(dtype, {d.size({0, 1, 4}), d.size({1, 2, 129, 257}), d.size({1, 3, 33})});
  d.output(d.build.one(d.one_of({"arg_max", "arg_min"}), {x}, {{"axis", d.one_of<int64_t>({1, 2})}, {"last", int64_t{d.chance()}}}));
}

void softmax(Draft& d, DType dtype) {
  Builder& b = d.build;
  const ValueId x = d.input(dtype, {d.size({0, 1, 3}), d.size({1, 2, 5, 17}), d.size({1, 2, 31, 64, 127, 129, 257})});
  ValueId y = b.softmax(d.chance() ? b.mul(x, 0.5) : x, d.one_of({1, 2, 2}));
  if (d.chance()) y = b.mul(y, d.input(dtype, {b.dims(y)[2]}));
  d.output(y);
}

/// (x - mean) / √(variance + 1/64) over `axes`.
ValueId normalised(Builder& b, ValueId x, const std::vector<int64_t>& axes) {
  const ValueId centred = b.sub(x, b.reduce("reduce_mean", x, axes));
  const ValueId variance = b.reduce("reduce_mean", b.mul(centred, centred), axes);
  return b.div(centred, b.sqrt(b.add(variance, 1.0 / 64)));
}

void layer_norm(Draft& d, DType dtype) {
  Builder& b = d.build;
  const Dim width = d.size({2, 3, 31, 64, 129, 513, 1031});
  ValueId x = d.input(dtype, {d.size({0, 1, 3}), d.size({1, 2, 7}), width});
  if (d.chance()) x = b.add(x, d.input(dtype, b.dims(x)));
  d.output(b.add(b.mul(normalised(b, x, {2}), d.input(dtype, {width})), d.input(dtype, {width})));
}

void group_norm(Draft& d, DType dtype) {
  Builder& b = d.build;
  const int64_t groups = d.one_of<int64_t>({1, 2, 4}), each = d.one_of<int64_t>({1, 3, 8});
  const ValueId x = d.input(dtype, {d.size({1, 2}), groups * each, d.size({2, 3, 8}), d.size({2, 5, 9})});
  const Dims whole = b.dims(x);
  const ValueId parts = b.reshape(x, {whole[0], groups, each * whole[2] * whole[3]});
  const Dims channel = {groups * each, 1, 1};
  ValueId y = b.reshape(normalised(b, parts, {2}), whole);
  y = b.add(b.mul(y, d.input(dtype, channel)), d.input(dtype, channel));
  d.output(d.chance() ? b.mul(y, b.sigmoid(y)) : y);
}

const std::vector<DType> all = {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64, DType::i32, DType::i8, DType::u8, DType::boolean};
const std::vector<DType> numbers = {all.begin(), all.end() - 1};
const std::vector<DType> floats = {all.begin(), all.begin() + 4};

}  // namespace

std::span<const Family> row_families() {
  static const Family table[] = {{"reduction", all, reduction}, {"long_reduction", numbers, long_reduction}, {"argument", numbers, argument},
                                 {"softmax", floats, softmax},  {"layer_norm", floats, layer_norm},          {"group_norm", floats, group_norm}};
  return table;
}

}  // namespace tilewright::emulated
