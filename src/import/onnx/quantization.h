#pragma once

#include "import/onnx/importer.h"

/// The arithmetic that the quantized operators share: q = saturate(round(x / scale) + zero_point), x = (q - zero_point)·scale.
namespace tilewright::onnx {

/// A scale or zero point laid so that it broadcasts against `x`: a single element as a scalar, a vector along `axis`, one of x's rank
/// repeated `block` times along `axis`. A block of 0: not blocked.
ValueId lay_parameter(NodeImport& n, ValueId parameter, ValueId x, int64_t axis, int64_t block);

/// x in real numbers as f32. Scale and zero point broadcast already; zero point may be no_value.
ValueId dequantize(Builder& b, ValueId x, ValueId scale, ValueId zero_point);

/// saturate(round(scaled) + zero_point) as `to`, integer or small float; `scaled` is x / scale already. For 8-bit floats `saturate` false
/// lets an overflow become infinite or NaN.
ValueId quantize(Builder& b, ValueId scaled, ValueId zero_point, DType to, bool saturate = true);

/// x - zero_point in i32; x itself, of its own dtype, when the zero point is absent or known to be all zero.
ValueId without_zero_point(Builder& b, ValueId x, ValueId zero_point);

/// An integer result in i32 brought to the output's scale: saturate(round(x·multiplier) + zero_point).
ValueId requantize(Builder& b, ValueId x, ValueId multiplier, ValueId zero_point, DType to);

}  // namespace tilewright::onnx
