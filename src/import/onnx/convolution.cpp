#include "import/onnx/convolution.h"

#include "import/onnx/operands.h"
#include "import/onnx/operators.h"
#include "import/onnx/window.h"

namespace tilewright::onnx {
namespace {

/// The spatial sizes of weights [m, c/groups, k…], which must agree with kernel_shape when that is given.
std::vector<int64_t> kernel_of(NodeImport& n, ValueId weights) {
  const Dims dims = n.b.dims(weights);
  n.require(dims.size() >= 3, "its weights must be [m, c, kernel…], not {}", str(n.b.type(weights)));
  std::vector<int64_t> kernel;
  for (size_t i = 2; i < dims.size(); ++i) {
    if (!dims[i].is_constant()) n.unsupported("the kernel's size must be known at compile time, not {}", str(dims));
    kernel.push_back(dims[i].constant());
  }
  const std::vector<int64_t> stated = n.integers("kernel_shape");
  n.require(stated.empty() || stated == kernel, "kernel_shape differs from its weights {}", str(n.b.type(weights)));
  return kernel;
}

int64_t groups_of(NodeImport& n) {
  const int64_t groups = n.integer("group", 1);
  n.require(groups >= 1, "group is {}", groups);
  return groups;
}

Attributes attributes_of(const Window& window, int64_t groups) {
  return {{"strides", window.strides}, {"dilations", window.dilations}, {"pads", window.pads()}, {"groups", groups}};
}

void conv(NodeImport& n) { n.set(convolve(n, n.in(0), n.in(1), n.in_or(2))); }

/// Padding that makes a transposed convolution's result have the wanted size; what padding cannot take away, output padding adds.
void pad_to_output(NodeImport& n, Window& window, std::vector<int64_t>& output_padding, const Dims& spatial, const std::vector<int64_t>& wanted) {
  const bool upper = n.text("auto_pad", "NOTSET") == "SAME_UPPER";
  for (size_t i = 0; i < window.rank(); ++i) {
    if (!spatial[i].is_constant()) n.unsupported("output_shape and auto_pad need a known image size, not {}; give --shape or --size", str(spatial));
    const int64_t natural = ((spatial[i] - 1) * Dim(window.strides[i]) + Dim(window.extent(i) + output_padding[i])).constant();
    int64_t total = natural - wanted[i];
    if (total < 0) {
      output_padding[i] -= total;
      total = 0;
    }
    const int64_t less = total / 2;
    window.before[i] = upper ? less : total - less;
    window.after[i] = upper ? total - less : less;
  }
}

void conv_transpose(NodeImport& n) {
  const ValueId x = n.in(0);
  const ValueId weights = n.in(1);
  const Dims spatial = spatial_dims(n, x);
  Window window = window_without_pads(n, kernel_of(n, weights));
  n.require(window.rank() == spatial.size(), "weights {} do not fit the image {}", str(n.b.type(weights)), str(n.b.type(x)));
  std::vector<int64_t> output_padding = per_axis(n, "output_padding", window.rank(), 0, 0);
  const std::string auto_pad = n.text("auto_pad", "NOTSET");
  if (n.has_attribute("output_shape") && !n.integers("output_shape").empty()) {
    std::vector<int64_t> wanted = n.integers("output_shape");
    // Some models state batch and channels too.
    if (wanted.size() == window.rank() + 2) wanted.erase(wanted.begin(), wanted.begin() + 2);
    n.require(wanted.size() == window.rank(), "output_shape has {} entries for {} spatial dims", wanted.size(), window.rank());
    pad_to_output(n, window, output_padding, spatial, wanted);
  } else if (auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER") {
    std::vector<int64_t> wanted;
    for (size_t i = 0; i < spatial.size(); ++i) {
      if (!spatial[i].is_constant()) n.unsupported("auto_pad needs a known image size, not {}; give --shape or --size", str(spatial));
      wanted.push_back((spatial[i] * Dim(window.strides[i])).constant());
    }
    pad_to_output(n, window, output_padding, spatial, wanted);
  } else {
    const std::vector<int64_t> pads = per_axis(n, "pads", 2 * window.rank(), 0, 0);
    window.before.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(window.rank()));
    window.after.assign(pads.begin() + static_cast<std::ptrdiff_t>(window.rank()), pads.end());
  }
  std::vector<ValueId> inputs = {x, weights};
  if (n.has(2)) inputs.push_back(n.in(2));
  Attributes attributes = attributes_of(window, groups_of(n));
  attributes["output_padding"] = output_padding;
  n.set(n.b.one("conv_transpose", inputs, attributes));
}

/// Each column of x holds one block of the image; blocks that overlap add up. That is a transposed convolution whose weights
/// put element j of a block at place j.
void col2im(NodeImport& n) {
  Builder& b = n.b;
  const Dims dims = n.dims(0);
  const std::vector<int64_t> image = known_integers(n, 1, "image_shape");
  const std::vector<int64_t> block = known_integers(n, 2, "block_shape");
  n.require(dims.size() == 3 && image.size() == block.size() && !image.empty(), "does not fit its input {}", str(n.b.type(n.in(0))));
  Window window = window_without_pads(n, block);
  const std::vector<int64_t> pads = per_axis(n, "pads", 2 * window.rank(), 0, 0);
  window.before.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(window.rank()));
  window.after.assign(pads.begin() + static_cast<std::ptrdiff_t>(window.rank()), pads.end());

  Dims grid = {dims[0], dims[1]};
  std::vector<int64_t> output_padding;
  for (size_t i = 0; i < image.size(); ++i) {
    const int64_t room = image[i] + pads[i] + pads[i + image.size()] - window.extent(i);
    n.require(room >= 0, "a block of {} does not fit into the padded image", window.extent(i));
    grid.emplace_back(room / window.strides[i] + 1);
    output_padding.push_back(room % window.strides[i]);
  }
  const Dim elements = product({block.begin(), block.end()});
  n.require(dims[1].is_constant() && dims[1] % elements == Dim(0), "{} rows do not divide by the block's {}", dims[1].str(), elements.str());
  const Dim channels = dims[1] / elements;
  const ValueId place = b.equal(b.iota(DType::i64, {elements, 1}, 0), b.iota(DType::i64, {1, elements}, 1));
  Dims weights_dims = {dims[1], 1};
  weights_dims.insert(weights_dims.end(), block.begin(), block.end());
  const ValueId weights = b.reshape(b.broadcast(b.cast(place, n.dtype(0)), {channels, elements, elements}), weights_dims);
  Attributes attributes = attributes_of(window, channels.constant());
  attributes["output_padding"] = output_padding;
  n.set(b.one("conv_transpose", {b.reshape(n.in(0), grid), weights}, attributes));
}

constexpr OperatorEntry table[] = {
    {"", "Col2Im", 18, col2im},
    {"", "Conv", 1, conv},
    {"", "ConvTranspose", 1, conv_transpose},
};

}  // namespace

ValueId convolve(NodeImport& n, ValueId x, ValueId weights, ValueId bias, std::optional<DType> result) {
  Window window = window_of(n, spatial_dims(n, x), kernel_of(n, weights));
  if (!window.is_known()) x = padded_image(n, x, window, n.b.scalar(n.b.dtype(x), 0));
  std::vector<ValueId> inputs = {x, weights};
  if (bias != no_value) inputs.push_back(bias);
  Attributes attributes = attributes_of(window, groups_of(n));
  if (result) attributes["dtype"] = *result;
  return n.b.one("conv", inputs, attributes);
}

std::span<const OperatorEntry> convolution_operators() { return table; }

}  // namespace tilewright::onnx
