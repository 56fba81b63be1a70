#include <algorithm>

#include "op/windows.h"

namespace tilewright {

using pattern::Map;

Windows windows_of(const InferContext& c, Dims kernel) {
  Windows w;
  w.rank = static_cast<int>(kernel.size());
  w.kernel = std::move(kernel);
  const auto filled = [&](std::string_view name, size_t count, const Dim& missing) {
    Dims values = c.sizes(name);
    if (values.empty()) values.assign(count, missing);
    c.require(values.size() == count, "{} has {} entries; needs {}", name, values.size(), count);
    return values;
  };
  const size_t rank = static_cast<size_t>(w.rank);
  w.strides = filled("strides", rank, 1);
  w.dilations = filled("dilations", rank, 1);
  const Dims pads = filled("pads", 2 * rank, 0);
  w.begin.assign(pads.begin(), pads.begin() + w.rank);
  w.end.assign(pads.begin() + w.rank, pads.end());
  for (size_t axis = 0; axis < rank; ++axis) {
    const auto positive = [](const Dim& dim) { return !dim.is_constant() || dim.constant() >= 1; };
    c.require(positive(w.strides[axis]) && positive(w.dilations[axis]) && positive(w.kernel[axis]), "kernel {}, strides {} and dilations {} must be positive",
              str(w.kernel), str(w.strides), str(w.dilations));
  }
  return w;
}

Dim Windows::positions(const InferContext& c, const Dim& size, int axis, bool ceil_mode) const {
  const size_t d = static_cast<size_t>(axis);
  const Dim reach = (kernel[d] - 1) * dilations[d] + 1, padded = size + begin[d] + end[d];
  Dim count = (padded - reach) / strides[d] + 1;
  if (ceil_mode) {
    count = (padded - reach + strides[d] - 1) / strides[d] + 1;
    // The last window must start before the end of the input.
    const Dim latest = (size + begin[d] - 1) / strides[d] + 1;
    count = min(count, latest);
  }
  c.require(!count.is_constant() || count.constant() >= 0, "a window of {} does not fit spatial axis {} of size {} with padding {} and {}", reach.str(), axis,
            size.str(), begin[d].str(), end[d].str());
  return count;
}

Map Windows::view(const Dims& operand, const Dims& counts) const {
  Map map = Map::identity(operand);
  for (int axis = 0; axis < rank; ++axis) {
    const size_t d = static_cast<size_t>(axis);
    const int at = 2 + 2 * axis;
    // What the last window reaches beyond the padding (ceil mode) is padding too.
    const Dim reach = (counts[d] - 1) * strides[d] + (kernel[d] - 1) * dilations[d] + 1;
    const Dim after = reach - begin[d] - operand[d + 2];
    const bool inside = begin[d] == Dim(0) && after.is_constant() && after.constant() <= 0;
    const bool symbolic_inside = begin[d] == Dim(0) && end[d] == Dim(0) && !after.is_constant();
    if (!inside && !symbolic_inside) map = map.padded(at, begin[d], after.is_constant() ? Dim(std::max<int64_t>(after.constant(), 0)) : end[d]);
    map = map.windows(at, counts[d], kernel[d], strides[d], dilations[d]);
  }
  return map;
}

}  // namespace tilewright
