#include "artifact/compare.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace tilewright {
namespace {

std::string dims_text(const std::vector<int64_t>& dims) { return fmt::format("[{}]", fmt::join(dims, ",")); }

std::string place(const Tensor& tensor, int64_t index) {
  std::vector<int64_t> coordinates(tensor.rank());
  for (size_t axis = tensor.rank(); axis-- > 0; index /= tensor.dims()[axis]) coordinates[axis] = index % tensor.dims()[axis];
  return dims_text(coordinates);
}

/// |a - b| of two integers, rounded once: 0 only when they are equal.
double integer_difference(const Tensor& a, const Tensor& b, int64_t i) {
  const int64_t x = a.int_at(i), y = b.int_at(i);
  const bool less = is_signed(a.dtype()) ? x < y : static_cast<uint64_t>(x) < static_cast<uint64_t>(y);
  const uint64_t forward = static_cast<uint64_t>(x) - static_cast<uint64_t>(y);
  return static_cast<double>(less ? 0 - forward : forward);
}

}  // namespace

double epsilon_of(DType dtype) {
  switch (dtype) {
    case DType::f64: return 0x1p-52;
    case DType::f32: return 0x1p-23;
    case DType::f16: return 0x1p-10;
    case DType::bf16: return 0x1p-7;
    case DType::f8e4m3fn:
    case DType::f8e4m3fnuz: return 0x1p-3;
    case DType::f8e5m2:
    case DType::f8e5m2fnuz: return 0x1p-2;
    case DType::f8e8m0: return 1;
    case DType::f4e2m1: return 0.5;
    default: return 0;
  }
}

Tolerance conformance_tolerance(DType dtype) {
  if (!is_float(dtype)) return {};
  return {std::max(1e-3, epsilon_of(dtype)), 1e-7};
}

Tolerance network_tolerance(DType dtype, double steps, double output_scale) {
  const double error = epsilon_of(dtype) * std::max(steps, 1.0);
  return {error, std::max(error * output_scale, 1e-7)};
}

Comparison compare(const Tensor& actual, const Tensor& expected, const Tolerance& tolerance) {
  Comparison result;
  if (actual.dtype() != expected.dtype()) {
    result.reason = fmt::format("dtype is {}, expected {}", name(actual.dtype()), name(expected.dtype()));
    return result;
  }
  if (actual.dims() != expected.dims()) {
    result.reason = fmt::format("dims are {}, expected {}", dims_text(actual.dims()), dims_text(expected.dims()));
    return result;
  }
  double difference_squares = 0, expected_squares = 0;
  int64_t wrong = 0, first_wrong = -1;
  const bool real = is_float(actual.dtype());
  for (int64_t i = 0; i < actual.element_count(); ++i) {
    bool same = false;
    if (real) {
      const double a = actual.float_at(i), e = expected.float_at(i);
      if (std::isfinite(a) && std::isfinite(e)) {
        const double difference = std::abs(a - e);
        difference_squares += difference * difference;
        expected_squares += e * e;
        result.largest_absolute = std::max(result.largest_absolute, difference);
        result.largest_expected = std::max(result.largest_expected, std::abs(e));
        same = difference <= tolerance.absolute + tolerance.relative * std::abs(e);
      } else {
        same = a == e || (std::isnan(a) && std::isnan(e));
      }
    } else {
      const double difference = integer_difference(actual, expected, i), magnitude = std::abs(expected.float_at(i));
      result.largest_absolute = std::max(result.largest_absolute, difference);
      result.largest_expected = std::max(result.largest_expected, magnitude);
      same = difference <= tolerance.absolute + tolerance.relative * magnitude;
    }
    if (!same && wrong++ == 0) first_wrong = i;
  }
  result.relative_rms = expected_squares > 0 ? std::sqrt(difference_squares / expected_squares) : std::sqrt(difference_squares);
  result.same = wrong == 0;
  if (!result.same)
    result.reason = fmt::format("{} of {} elements differ, the first at {}: {} instead of {} (largest difference {:.3g}, allowed {:.3g} + {:.3g}·|expected|)",
                                wrong, actual.element_count(), place(actual, first_wrong),
                                real ? fmt::format("{:.9g}", actual.float_at(first_wrong)) : std::to_string(actual.int_at(first_wrong)),
                                real ? fmt::format("{:.9g}", expected.float_at(first_wrong)) : std::to_string(expected.int_at(first_wrong)),
                                result.largest_absolute, tolerance.absolute, tolerance.relative);
  return result;
}

}  // namespace tilewright
