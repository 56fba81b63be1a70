#pragma once

#include <functional>

#include "op/op.h"

namespace tilewright {

/// One of the elements around a place between the elements of an axis: its index there (i64) and its share of the result.
struct Tap {
  pattern::Expr index;
  std::optional<pattern::Expr> weight;  ///< absent: 1
};

/// Taps of one axis as tensors over [tap, places…].
struct TapTables {
  int64_t taps = 1;
  pattern::TensorId index = -1;   ///< i64, may lie outside of the axis
  pattern::TensorId weight = -1;  ///< absent (-1): all weigh 1
};

/// Tables over `places`, filled by one nest; `tap` gives the entry at the nest's coordinates [tap, place…].
TapTables emit_taps(Lowering& l, int64_t taps, const Dims& places, const std::function<Tap(pattern::NestBuilder&)>& tap);

/// Tap 0 or 1 of a linear interpolation at `place` (float, in elements).
Tap linear_tap(pattern::NestBuilder& n, pattern::Expr place, pattern::Expr tap);
/// Tap 0, 1, 2 or 3 of a cubic interpolation, Keys' kernel with parameter `a`.
Tap cubic_tap(pattern::NestBuilder& n, pattern::Expr place, pattern::Expr tap, double a);
/// Keys' cubic convolution kernel at a `distance` >= 0.
pattern::Expr cubic_weight(pattern::NestBuilder& n, pattern::Expr x, double a);

/// An axis of a sampled tensor: its tables, and the coordinates of this point's place in them.
struct SampledAxis {
  TapTables tables;
  std::vector<pattern::Expr> at;
};

enum class Outside { zero, nearest };  ///< what a tap outside of its axis reads

/// x[lead…, an index of each axis] as `dtype` times the weights, over all combinations of taps joined by `combine` (add; max where no weight
/// is negative). Written out, not a reduction: a few gathers side by side, which targets vectorise over the places.
pattern::Expr combined_taps(Lowering& l, pattern::NestBuilder& n, pattern::TensorId x, DType dtype, const std::vector<pattern::Expr>& lead,
                            std::span<const SampledAxis> axes, Outside outside, pattern::ExprOp combine = pattern::ExprOp::add);

/// In which places are computed and taps summed: f64 for f64, otherwise f32.
inline DType sampling_dtype(DType dtype) { return dtype == DType::f64 ? DType::f64 : DType::f32; }

}  // namespace tilewright
