#pragma once

#include <string>
#include <vector>

#include "op/builder.h"

namespace tilewright::onnx {

/// Resize whose scales or region of interest are known at run time only: coordinates are computed as tensors, an axis at a time, and
/// elements gathered and blended.
struct RunTimeResize {
  std::string mode;        ///< nearest, linear or cubic
  std::string coordinate;  ///< coordinate_transformation_mode
  std::string nearest;     ///< round_prefer_floor, round_prefer_ceil, floor or ceil
  double cubic_a = -0.75;
  bool exclude_outside = false;
  double extrapolation = 0;
  std::vector<int64_t> axes;
  ValueId scales = no_value;  ///< f64 [axes]
  ValueId sizes = no_value;   ///< i64 [axes]: of the result
  ValueId roi = no_value;     ///< f64 [2·axes]: starts, then ends; for tf_crop_and_resize
};
ValueId resize_at_run_time(Builder& b, ValueId x, const RunTimeResize& resize);

}  // namespace tilewright::onnx
