#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "pattern/pattern.h"

/// What each scalar operation means, for one value and for a block of them. Floats are computed in float64 and everything else
/// in int64 (u64: the same bits); the caller rounds or wraps to the dtype.
namespace tilewright::pattern {

/// Operations on floats; comparisons give 0 or 1. A unary one ignores `b`.
double apply(ExprOp op, double a, double b);
/// Operations on integers and bools of dtype `operands`, not wrapped.
int64_t apply(ExprOp op, DType operands, int64_t a, int64_t b);

/// Float → integer or bool: truncates, NaN is 0. What does not fit gives the nearest limit or, when `wrap`, the low bits of the
/// truncated value (of -2^63 where 64 bits do not hold it).
int64_t to_integer(double value, DType to, bool wrap);
/// Integer → integer or bool, the nearest limit where it does not fit.
int64_t clamp_integer(int64_t value, DType from, DType to);
/// The integer as a float, not rounded to any dtype but float64.
inline double to_real(int64_t value, DType from) { return from == DType::u64 ? static_cast<double>(static_cast<uint64_t>(value)) : static_cast<double>(value); }

int64_t lowest_integer(DType dtype);
int64_t largest_integer(DType dtype);  ///< u64: all bits set, which reads as -1

/// Values of one expression over a block of points; which of the two holds them follows from the dtype.
struct Column {
  std::vector<double> reals;
  std::vector<int64_t> integers;
};

/// Computes a unary, binary, comparison, conversion or select node over the first `count` values. `rounds`: round floats to the dtype.
void apply_block(const ExprNode& node, const std::vector<DType>& dtypes, const std::vector<const Column*>& args, Column& result, size_t count, bool rounds);

void round_block(DType dtype, double* values, size_t count);
void wrap_block(DType dtype, int64_t* values, size_t count);

}  // namespace tilewright::pattern
