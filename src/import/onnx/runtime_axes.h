#pragma once

#include <string_view>

#include "op/builder.h"

/// Operators whose axes come from a tensor that is known only at run time: the number of axes is known, which they are is not.
/// `axes` is i64 [k] and may count from the end. Results have sizes that are bound at run time.
namespace tilewright::onnx {

/// x with dims of 1 taken out.
ValueId squeeze_at(Builder& b, ValueId x, ValueId axes);
/// x with dims of 1 put in; the axes are the result's.
ValueId unsqueeze_at(Builder& b, ValueId x, ValueId axes);
/// reduce_sum, reduce_product, reduce_min, reduce_max or reduce_mean over the axes: each element is combined into the place of
/// the result that it belongs to.
ValueId reduce_at(Builder& b, std::string_view core, ValueId x, ValueId axes, bool keep_dims);
/// The reverse of reducing with kept dims: every element of something of x's dims gets what its place in `reduced` holds.
ValueId spread_at(Builder& b, ValueId reduced, ValueId x, ValueId axes);
/// `along[i]` is the result if the axis (one number) is i.
ValueId choose_axis(Builder& b, ValueId axis, const std::vector<ValueId>& along);
/// i64 [rank]: `values` at the positions that `axes` names, `otherwise` (i64, broadcasts to [rank]) elsewhere.
ValueId at_axes(Builder& b, ValueId values, ValueId axes, ValueId otherwise, int rank);

}  // namespace tilewright::onnx
