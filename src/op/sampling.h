#pragma once

#include <functional>

#include "op/op.h"

namespace tilewright {

/// One of the elements around a place between the elements of an axis: its index there (i64) and its share of the result.
struct Tap {
  pattern::Expr index;
  std::optional<pattern::Expr> weight;  ///< absent: 1
};

/// Taps of one axis as tensors over [places…, taps].
struct TapTables {
  pattern::TensorId index = -1;   ///< i64, may lie outside of the axis
  pattern::TensorId weight = -1;  ///< absent (-1): all weigh 1
};

/// Tables over `space`, filled by one nest; `tap` gives the entry at the nest's coordinates.
TapTables emit_taps(Lowering& l, const Dims& space, const std::function<Tap(pattern::NestBuilder&)>& tap);

/// Tap 0 or 1 of a linear interpolation at `place` (float, in elements).
Tap linear_tap(pattern::NestBuilder& n, pattern::Expr place, pattern::Expr tap);
/// Tap 0, 1, 2 or 3 of a cubic interpolation, Keys' kernel with parameter `a`.
Tap cubic_tap(pattern::NestBuilder& n, pattern::Expr place, pattern::Expr tap, double a);
/// Keys' cubic convolution kernel at a `distance` >= 0.
pattern::Expr cubic_weight(pattern::NestBuilder& n, pattern::Expr distance, double a);

/// An axis of a sampled tensor: its tables, and where in them this point's tap stands.
struct SampledAxis {
  TapTables tables;
  std::vector<pattern::Expr> at;
};

enum class Outside { zero, nearest };  ///< what a tap outside of its axis reads

/// x[lead…, index of each axis] as `dtype`, times the weights.
pattern::Expr weighted_element(Lowering& l, pattern::NestBuilder& n, pattern::TensorId x, DType dtype, std::vector<pattern::Expr> lead,
                               const std::vector<SampledAxis>& axes, Outside outside);

/// In which places are computed and taps summed: f64 for f64, otherwise f32.
inline DType sampling_dtype(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

}  // namespace tilewright
