#include "import/onnx/window.h"

#include <algorithm>
#include <limits>

#include "import/onnx/operands.h"

namespace tilewright::onnx {
namespace {

constexpr int64_t largest_entry = std::numeric_limits<int32_t>::max();

}  // namespace

bool Window::is_known() const {
  const auto known = [](const Dim& pad) { return pad.is_constant() && pad.constant() >= 0; };
  return std::all_of(before.begin(), before.end(), known) && std::all_of(after.begin(), after.end(), known);
}

std::vector<int64_t> Window::pads() const {
  std::vector<int64_t> pads;
  for (const Dim& pad : before) pads.push_back(pad.constant());
  for (const Dim& pad : after) pads.push_back(pad.constant());
  return pads;
}

std::vector<int64_t> per_axis(NodeImport& n, std::string_view attribute, size_t count, int64_t otherwise, int64_t low) {
  std::vector<int64_t> values = n.integers(attribute);
  if (values.empty()) values.assign(count, otherwise);
  n.require(values.size() == count, "attribute '{}' has {} entries; it needs {}", attribute, values.size(), count);
  for (const int64_t value : values) {
    n.require(value >= low && value <= largest_entry, "attribute '{}' has entry {}; it must lie in [{}, {}]", attribute, value, low, largest_entry);
  }
  return values;
}

Window window_without_pads(NodeImport& n, std::vector<int64_t> kernel) {
  Window window;
  for (const int64_t size : kernel) n.require(size >= 1 && size <= largest_entry, "its kernel has size {}", size);
  window.strides = per_axis(n, "strides", kernel.size(), 1, 1);
  window.dilations = per_axis(n, "dilations", kernel.size(), 1, 1);
  window.before.assign(kernel.size(), Dim(0));
  window.after = window.before;
  window.kernel = std::move(kernel);
  return window;
}

Window window_of(NodeImport& n, const Dims& spatial, std::vector<int64_t> kernel) {
  n.require(kernel.size() == spatial.size(), "a kernel of {} dims does not fit an image of {}", kernel.size(), spatial.size());
  Window window = window_without_pads(n, std::move(kernel));
  const std::string auto_pad = n.text("auto_pad", "NOTSET");
  const size_t rank = window.rank();
  if (auto_pad == "NOTSET" || auto_pad.empty()) {
    const std::vector<int64_t> pads = per_axis(n, "pads", 2 * rank, 0, -largest_entry);
    window.before.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(rank));
    window.after.assign(pads.begin() + static_cast<std::ptrdiff_t>(rank), pads.end());
    return window;
  }
  if (auto_pad == "VALID") return window;
  n.require(auto_pad == "SAME_UPPER" || auto_pad == "SAME_LOWER", "auto_pad '{}' is not known", auto_pad);
  for (size_t i = 0; i < rank; ++i) {
    const Dim out = divide_up(spatial[i], window.strides[i]);
    const Dim total = not_negative((out - 1) * Dim(window.strides[i]) + Dim(window.extent(i)) - spatial[i]);
    const Dim less = total / 2;
    window.before[i] = auto_pad == "SAME_UPPER" ? less : total - less;
    window.after[i] = auto_pad == "SAME_UPPER" ? total - less : less;
  }
  return window;
}

Dims spatial_dims(NodeImport& n, ValueId x) {
  const Dims& dims = n.b.dims(x);
  n.require(dims.size() >= 3, "its input must be [batch, channels, spatial…], not {}", str(n.b.type(x)));
  return {dims.begin() + 2, dims.end()};
}

ValueId padded_image(NodeImport& n, ValueId x, Window& window, ValueId value) {
  Dims before(2, Dim(0));
  Dims after(2, Dim(0));
  before.insert(before.end(), window.before.begin(), window.before.end());
  after.insert(after.end(), window.after.begin(), window.after.end());
  window.before.assign(window.rank(), Dim(0));
  window.after = window.before;
  return n.b.pad(x, before, after, "constant", value);
}

}  // namespace tilewright::onnx
