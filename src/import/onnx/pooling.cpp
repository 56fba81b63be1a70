#include <cmath>
#include <limits>
#include <numeric>

#include "import/onnx/operands.h"
#include "import/onnx/operators.h"
#include "import/onnx/window.h"

namespace tilewright::onnx {
namespace {

Window pool_window(NodeImport& n) {
  const std::vector<int64_t> kernel = n.integers("kernel_shape");
  n.require(!kernel.empty(), "attribute 'kernel_shape' is missing");
  return window_of(n, spatial_dims(n, n.in(0)), kernel);
}

void require_known(NodeImport& n, const Window& window) {
  if (!window.is_known()) n.unsupported("its padding depends on a size known only at run time, or is negative; give --shape or --size");
}

Attributes attributes_of(NodeImport& n, const Window& window) {
  return {{"kernel", window.kernel},
          {"strides", window.strides},
          {"dilations", window.dilations},
          {"pads", window.pads()},
          {"ceil_mode", n.integer("ceil_mode", 0)}};
}

void max_pool(NodeImport& n) {
  const Window window = pool_window(n);
  require_known(n, window);
  Attributes attributes = attributes_of(n, window);
  attributes["column_major"] = n.integer("storage_order", 0);
  const std::vector<ValueId> pooled = n.b.node("max_pool", {n.in(0)}, attributes, n.wants(1) ? 2 : 1);
  for (size_t i = 0; i < pooled.size(); ++i) n.set(static_cast<int>(i), pooled[i]);
}

void average_pool(NodeImport& n) {
  const Window window = pool_window(n);
  require_known(n, window);
  Attributes attributes = attributes_of(n, window);
  attributes["include_pad"] = n.integer("count_include_pad", 0);
  n.set(n.b.one("average_pool", {n.in(0)}, attributes));
}

/// |x|^p
ValueId power(Builder& b, ValueId x, double p) {
  if (p == 2) return b.mul(x, x);
  x = b.unary("abs", x);
  return p == 1 ? x : b.pow(x, b.scalar(b.dtype(x), p));
}

ValueId root(Builder& b, ValueId x, double p) {
  if (p == 2) return b.sqrt(x);
  return p == 1 ? x : b.pow(x, b.scalar(b.dtype(x), 1 / p));
}

/// An integer from opset 2 on, a float before.
double norm_of(NodeImport& n) {
  const double p = n.opset() < 2 ? n.real("p", 2) : static_cast<double>(n.integer("p", 2));
  n.require(p > 0, "p is {}", p);
  return p;
}

/// Padding behind the image that a rounded-up number of windows needs.
void pad_to_ceil(NodeImport& n, Window& window, const Dims& spatial) {
  for (size_t i = 0; i < window.rank(); ++i) {
    const Dim room = spatial[i] + window.before[i] + window.after[i] - Dim(window.extent(i));
    if (!room.is_constant()) n.unsupported("ceil_mode needs a known image size, not {}; give --shape or --size", str(spatial));
    const int64_t begin = (spatial[i] + window.before[i]).constant();
    int64_t last = divide_up(room, window.strides[i]).constant();
    // A window that would start behind the image does not count.
    if (last * window.strides[i] >= begin) --last;
    window.after[i] += max(Dim(last * window.strides[i]) - room, 0);
  }
}

/// (Σ |x|^p)^(1/p) over each window; the sum is a convolution with ones on each channel apart.
void lp_pool(NodeImport& n) {
  Builder& b = n.b;
  const Dims dims = n.dims(0);
  const Dims spatial = spatial_dims(n, n.in(0));
  const double p = norm_of(n);
  Window window = pool_window(n);
  require_known(n, window);
  if (n.flag("ceil_mode", false)) pad_to_ceil(n, window, spatial);
  Dims apart = {dims[0] * dims[1], 1};
  apart.insert(apart.end(), spatial.begin(), spatial.end());
  Dims ones = {1, 1};
  ones.insert(ones.end(), window.kernel.begin(), window.kernel.end());
  const ValueId sums = b.one("conv", {b.reshape(power(b, n.in(0), p), apart), b.broadcast(b.scalar(n.dtype(0), 1), ones)},
                             {{"strides", window.strides}, {"dilations", window.dilations}, {"pads", window.pads()}, {"groups", int64_t{1}}});
  Dims together = b.dims(sums);
  together[0] = dims[0];
  together[1] = dims[1];
  n.set(root(b, b.reshape(sums, together), p));
}

std::vector<int64_t> spatial_axes(NodeImport& n) {
  std::vector<int64_t> axes(spatial_dims(n, n.in(0)).size());
  std::iota(axes.begin(), axes.end(), 2);
  return axes;
}

void global_average_pool(NodeImport& n) { n.set(n.b.reduce("reduce_mean", n.in(0), spatial_axes(n))); }
void global_max_pool(NodeImport& n) { n.set(n.b.reduce("reduce_max", n.in(0), spatial_axes(n))); }

void global_lp_pool(NodeImport& n) {
  const double p = norm_of(n);
  n.set(root(n.b, n.b.reduce("reduce_sum", power(n.b, n.in(0), p), spatial_axes(n)), p));
}

/// Puts each element back to where its index says, zeros elsewhere. Indices count in the result that the window implies; an
/// output_shape beyond that adds zeros behind.
void max_unpool(NodeImport& n) {
  Builder& b = n.b;
  const Dims in = n.dims(0);
  const std::vector<int64_t> kernel = n.integers("kernel_shape");
  const Dims spatial = spatial_dims(n, n.in(0));
  n.require(kernel.size() == spatial.size(), "kernel_shape has {} entries for {} spatial dims", kernel.size(), spatial.size());
  const Window window = window_of(n, spatial, kernel);
  Dims out = {in[0], in[1]};
  for (size_t i = 0; i < kernel.size(); ++i) {
    out.push_back((spatial[i] - 1) * Dim(window.strides[i]) + Dim(kernel[i]) - window.before[i] - window.after[i]);
  }
  const ValueId zeros = b.broadcast(b.scalar(n.dtype(0), 0), {product(out)});
  const ValueId placed =
      b.one("scatter_elements", {zeros, flat(b, as_i64(b, n.in(1))), flat(b, n.in(0))}, {{"axis", int64_t{0}}, {"combine", std::string("assign")}});
  ValueId result = b.reshape(placed, out);
  if (n.has(2)) {
    const Dims wanted = b.sizes_of(n.in(2));
    n.require(wanted.size() == in.size(), "output_shape {} does not fit its input {}", str(wanted), str(b.type(n.in(0))));
    Dims behind;
    for (size_t i = 0; i < out.size(); ++i) behind.push_back(wanted[i] - out[i]);
    result = b.pad(result, Dims(out.size(), Dim(0)), behind);
  }
  n.set(result);
}

constexpr OperatorEntry table[] = {
    {"", "AveragePool", 1, average_pool},
    {"", "GlobalAveragePool", 1, global_average_pool},
    {"", "GlobalLpPool", 1, global_lp_pool},
    {"", "GlobalMaxPool", 1, global_max_pool},
    {"", "LpPool", 1, lp_pool},
    {"", "MaxPool", 1, max_pool},
    {"", "MaxUnpool", 9, max_unpool},
};

}  // namespace

std::span<const OperatorEntry> pooling_operators() { return table; }

}  // namespace tilewright::onnx
