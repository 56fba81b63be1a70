#pragma once

#include "op/op.h"

namespace tilewright {

/// The sliding windows of convolutions and pools over the spatial axes of [n, c, spatial…].
struct Windows {
  int rank = 0;
  Dims kernel, strides, dilations, begin, end;  ///< one entry a spatial axis

  /// Number of windows along an axis of `size`. With `ceil_mode` a last window may hang over the end, if it starts inside the input or
  /// the padding before it.
  Dim positions(const InferContext& c, const Dim& size, int axis, bool ceil_mode) const;

  /// The operand over (n, c, position, tap, position, tap, …); outside of it is invalid. `counts`: windows along each axis.
  pattern::Map view(const Dims& operand, const Dims& counts) const;
};

/// From the attributes strides, dilations and pads (begin…, end…); missing ones are 1, 1 and 0.
Windows windows_of(const InferContext& c, Dims kernel);

}  // namespace tilewright
