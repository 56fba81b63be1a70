#include "import/onnx/runtime_resize.h"

namespace tilewright::onnx {
namespace {

/// One axis: numbers are f64 scalars.
class Axis {
 public:
  Axis(Builder& b, const RunTimeResize& resize, ValueId x, size_t entry, const Dim& out) : b_(b), resize_(resize) {
    axis_ = static_cast<int>(resize.axes[entry]);
    size_ = b.dims(x)[static_cast<size_t>(axis_)];
    in_ = as_number(size_);
    out_ = as_number(out);
    scale_ = number_at(resize.scales, entry);
    length_ = b.mul(scale_, in_);
    if (resize.roi != no_value) {
      start_ = number_at(resize.roi, entry);
      end_ = number_at(resize.roi, entry + resize.axes.size());
    }
    position_ = source_positions(b.iota(DType::f64, {out}, 0));
  }

  ValueId apply(ValueId x) const {
    if (resize_.mode == "nearest") return taken(x, nearest_index());
    const ValueId base = b_.unary("floor", position_);
    const ValueId fraction = b_.sub(position_, base);
    std::vector<ValueId> weights = {b_.sub(number(1), fraction), fraction};
    int first = 0;
    if (resize_.mode == "cubic") {
      first = -1;
      weights = cubic_weights(fraction);
    }
    if (resize_.mode == "cubic" && resize_.exclude_outside) exclude_outside(weights, base, first);
    ValueId sum = no_value;
    for (size_t k = 0; k < weights.size(); ++k) {
      const ValueId index = b_.add(base, number(first + static_cast<double>(k)));
      const ValueId part = b_.mul(taken(x, index), along(b_.cast(weights[k], b_.dtype(x)), b_.rank(x)));
      sum = sum == no_value ? part : b_.add(sum, part);
    }
    return sum;
  }

  /// bool, along the axis: the position lies outside of the input.
  ValueId outside(int rank) const {
    const ValueId low = b_.less(position_, number(0));
    return along(b_.one("or", {low, b_.less(b_.sub(in_, number(1)), position_)}), rank);
  }

 private:
  ValueId number(double value) const { return b_.scalar(DType::f64, value); }
  ValueId as_number(const Dim& size) const { return b_.cast(b_.reshape(b_.sizes({size}), {}), DType::f64); }
  ValueId number_at(ValueId list, size_t entry) const { return b_.reshape(b_.slice(list, 0, static_cast<int64_t>(entry), 1), {}); }

  ValueId along(ValueId line, int rank) const {
    Dims dims(static_cast<size_t>(rank), Dim(1));
    dims[static_cast<size_t>(axis_)] = b_.dims(line)[0];
    return b_.reshape(line, dims);
  }

  ValueId source_positions(ValueId i) const {
    const std::string& mode = resize_.coordinate;
    const ValueId one = number(1);
    const ValueId single = b_.less_equal(out_, one);
    // ONNX measures from corner to corner of the result before its size is rounded down.
    const ValueId distance = b_.where(single, one, b_.sub(length_, one));
    if (mode == "asymmetric") return b_.div(i, scale_);
    if (mode == "align_corners") {
      return b_.where(single, number(0), b_.div(b_.mul(i, b_.sub(in_, one)), distance));
    }
    if (mode == "tf_crop_and_resize") {
      const ValueId last = b_.sub(in_, one);
      const ValueId stride = b_.div(b_.mul(b_.sub(end_, start_), last), distance);
      const ValueId middle = b_.mul(b_.mul(b_.add(start_, end_), last), number(0.5));
      return b_.where(single, middle, b_.add(b_.mul(start_, last), b_.mul(i, stride)));
    }
    const ValueId centred = b_.sub(b_.div(b_.add(i, number(0.5)), scale_), number(0.5));
    if (mode == "pytorch_half_pixel") return b_.where(single, number(0), centred);
    if (mode != "half_pixel_symmetric") return centred;
    // The result's size was rounded down: half of what is lost is left out on each side.
    const ValueId kept = b_.div(out_, length_);
    return b_.add(b_.mul(b_.mul(in_, number(0.5)), b_.sub(one, kept)), centred);
  }

  ValueId nearest_index() const {
    if (resize_.nearest == "floor" || resize_.nearest == "ceil") return b_.unary(resize_.nearest, position_);
    if (resize_.nearest == "round_prefer_floor") return b_.unary("ceil", b_.sub(position_, number(0.5)));
    return b_.unary("floor", b_.add(position_, number(0.5)));
  }

  /// x at the positions of `index` along the axis, those outside clamped.
  ValueId taken(ValueId x, ValueId index) const {
    const ValueId clamped = b_.max(b_.min(index, b_.sub(in_, number(1))), number(0));
    return b_.gather(x, b_.cast(clamped, DType::i64), axis_);
  }

  /// Keys' cubic convolution with coefficient a, for the four neighbours at distances 1+t, t, 1-t and 2-t.
  std::vector<ValueId> cubic_weights(ValueId t) const {
    const double a = resize_.cubic_a;
    const auto near = [&](ValueId d) {  // ((a+2)d - (a+3))d² + 1
      return b_.add(b_.mul(b_.mul(b_.sub(b_.mul(d, a + 2), number(a + 3)), d), d), number(1));
    };
    const auto far = [&](ValueId d) {  // ((a·d - 5a)d + 8a)d - 4a
      return b_.sub(b_.mul(b_.add(b_.mul(b_.sub(b_.mul(d, a), number(5 * a)), d), number(8 * a)), d), number(4 * a));
    };
    const ValueId rest = b_.sub(number(1), t);
    return {far(b_.add(t, number(1))), near(t), near(rest), far(b_.add(rest, number(1)))};
  }

  void exclude_outside(std::vector<ValueId>& weights, ValueId base, int first) const {
    ValueId total = no_value;
    for (size_t k = 0; k < weights.size(); ++k) {
      const ValueId index = b_.add(base, number(first + static_cast<double>(k)));
      const ValueId out = b_.one("or", {b_.less(index, number(0)), b_.less(b_.sub(in_, number(1)), index)});
      weights[k] = b_.where(out, number(0), weights[k]);
      total = total == no_value ? weights[k] : b_.add(total, weights[k]);
    }
    for (ValueId& weight : weights) weight = b_.div(weight, total);
  }

  Builder& b_;
  const RunTimeResize& resize_;
  int axis_ = 0;
  Dim size_;
  ValueId in_ = no_value, out_ = no_value, scale_ = no_value, length_ = no_value, start_ = no_value, end_ = no_value, position_ = no_value;
};

}  // namespace

ValueId resize_at_run_time(Builder& b, ValueId x, const RunTimeResize& resize) {
  const Dims sizes = b.sizes_of(resize.sizes);
  const int rank = b.rank(x);
  ValueId result = x;
  ValueId outside = no_value;
  for (size_t i = 0; i < resize.axes.size(); ++i) {
    const Axis axis(b, resize, x, i, sizes[i]);
    result = axis.apply(result);
    if (resize.coordinate != "tf_crop_and_resize") continue;
    const ValueId beyond = axis.outside(rank);
    outside = outside == no_value ? beyond : b.one("or", {outside, beyond});
  }
  if (outside == no_value) return result;
  return b.where(outside, b.scalar(b.dtype(x), resize.extrapolation), result);
}

}  // namespace tilewright::onnx
