#pragma once

#include <string>

#include "base/tensor.h"

namespace tilewright {

/// |actual - expected| <= absolute + relative × |expected|, element by element; NaN equals NaN, infinities must agree.
struct Tolerance {
  double relative = 0, absolute = 0;
};

struct Comparison {
  bool same = false;
  std::string reason;           ///< "" when same; else the first rule that was broken, with the place and both values
  double largest_absolute = 0;  ///< largest |actual - expected| over elements where both are finite
  double largest_expected = 0;  ///< largest finite |expected|
  double relative_rms = 0;      ///< ‖actual − expected‖ / ‖expected‖
};

Comparison compare(const Tensor& actual, const Tensor& expected, const Tolerance& tolerance);

/// The ONNX backend test's own bounds (relative 1e-3, absolute 1e-7), widened to one rounding step of 16- and 8-bit floats.
Tolerance conformance_tolerance(DType dtype);

/// For a network in which `steps` rounding errors add up (rounding_steps()): relative to each element and to the output's largest one,
/// and never below the ONNX backend test's absolute bound.
Tolerance network_tolerance(DType dtype, double steps, double output_scale);

/// Distance from 1 to the next larger value.
double epsilon_of(DType dtype);

}  // namespace tilewright
