#include "target/source/reduction_text.h"

#include "base/error.h"

namespace tilewright::source {

using pattern::ReduceOp;
using pattern::Reduction;

bool is_arg(ReduceOp op) { return op >= ReduceOp::arg_min; }

DType result_dtype(const Reduction& reduction) { return is_arg(reduction.op) ? DType::i64 : reduction.dtype; }

std::string start_value(const Reduction& reduction) {
  switch (reduction.op) {
    case ReduceOp::sum: return literal(reduction.dtype, 0, 0);
    case ReduceOp::product: return literal(reduction.dtype, 1, 1);
    case ReduceOp::min: return highest(reduction.dtype);
    case ReduceOp::max: return lowest(reduction.dtype);
    default: return "-1";
  }
}

std::string combined(const Reduction& reduction, const std::string& a, const std::string& b) {
  const bool floating = is_float(reduction.dtype);
  switch (reduction.op) {
    case ReduceOp::sum: return floating ? fmt::format("{} + {}", a, b) : fmt::format("tile::wrapping_add({}, {})", a, b);
    case ReduceOp::product: return floating ? fmt::format("{} * {}", a, b) : fmt::format("tile::wrapping_mul({}, {})", a, b);
    case ReduceOp::min: return fmt::format("tile::min({}, {})", a, b);
    default: return fmt::format("tile::max({}, {})", a, b);
  }
}

namespace {

/// The first NaN wins over everything, as in numpy.
std::string better(const Reduction& reduction, const std::string& value, const std::string& best) {
  const bool least = reduction.op == ReduceOp::arg_min || reduction.op == ReduceOp::arg_min_last;
  const bool last = reduction.op == ReduceOp::arg_min_last || reduction.op == ReduceOp::arg_max_last;
  return fmt::format("({} {}{} {})", value, least ? "<" : ">", last ? "=" : "", best);
}

}  // namespace

void write_combine(const LoweredNest& nest, size_t r, const std::string& sum, const std::string& best, NestBody& body) {
  const Reduction& reduction = nest.reductions[r];
  Writer& out = body.out();
  const Operand value = body.value(reduction.value);
  if (!is_arg(reduction.op)) {
    out.line(fmt::format("{} = {};", sum, combined(reduction, sum, converted(value, reduction.dtype))));
    return;
  }
  std::string test = fmt::format("({} < 0) | {}", sum, better(reduction, value.text, best));
  if (is_float(value.dtype)) test = fmt::format("({} == {}) & (({}) | ({} != {}))", best, best, test, value.text, value.text);
  if (is_float(value.dtype)) test = fmt::format("({} < 0) | ({})", sum, test);
  out.line(fmt::format("const bool better{} = {};", r, test));
  out.line(fmt::format("{0} = better{1} ? {2} : {0};", best, r, value.text));
  out.line(fmt::format("{0} = better{1} ? {2} : {0};", sum, r, body.index(nest.reduced_index)));
}

Operand finished(const Reduction& reduction, const std::string& sum) {
  const DType dtype = result_dtype(reduction);
  return {is_arg(reduction.op) ? fmt::format("tile::max<i64>({}, 0)", sum) : sum, dtype, !is_narrow_float(dtype)};
}

}  // namespace tilewright::source
