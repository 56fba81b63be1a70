#pragma once

#include <vector>

#include "import/onnx/importer.h"

namespace tilewright::onnx {

/// How a kernel slides over the spatial dims of an image: convolutions and poolings say it with the same attributes.
struct Window {
  std::vector<int64_t> kernel, strides, dilations;
  Dims before, after;  ///< padding; symbolic when "same" padding depends on a run-time size

  size_t rank() const { return kernel.size(); }
  /// Elements of the image that the kernel spans.
  int64_t extent(size_t i) const { return (kernel[i] - 1) * dilations[i] + 1; }
  bool is_known() const;              ///< padding is known and not negative
  std::vector<int64_t> pads() const;  ///< begin…, end…; only when known
};

/// Reads strides, dilations, pads and auto_pad for an image of these spatial dims.
Window window_of(NodeImport& n, const Dims& spatial, std::vector<int64_t> kernel);
/// The same but for padding: ConvTranspose means something else by it.
Window window_without_pads(NodeImport& n, std::vector<int64_t> kernel);
/// A list attribute of one entry an axis; `otherwise` in each place when it is absent. Entries from `low` to 2^31-1.
std::vector<int64_t> per_axis(NodeImport& n, std::string_view attribute, size_t count, int64_t otherwise, int64_t low);

/// The spatial dims of an image batch [n, c, …]; rejects what has none.
Dims spatial_dims(NodeImport& n, ValueId x);
/// The image padded as the window says, with `value` around it; the window then has no padding.
ValueId padded_image(NodeImport& n, ValueId x, Window& window, ValueId value);

}  // namespace tilewright::onnx
