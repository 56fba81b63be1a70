#include "import/onnx/operators.h"
#include "import/onnx/window.h"

namespace tilewright::onnx {
namespace {

void roi_align(NodeImport& n) {
  const std::string coordinates = n.opset() < 16 ? "output_half_pixel" : n.text("coordinate_transformation_mode", "half_pixel");
  n.require(coordinates == "half_pixel" || coordinates == "output_half_pixel", "coordinate_transformation_mode is '{}'; needs half_pixel or output_half_pixel",
            coordinates);
  const std::string mode = n.text("mode", "avg");
  n.require(mode == "avg" || mode == "max", "mode is '{}'; needs avg or max", mode);
  Builder& b = n.b;
  const ValueId x = n.in(0), rois = n.in(1);
  n.require(b.rank(x) == 4 && b.rank(rois) == 2, "input is {}, regions are {}; needs [n,c,h,w] and [regions,4]", str(b.type(x)), str(b.type(rois)));
  b.require_equal(b.dims(rois)[1], 4, "a region has 4 coordinates");
  const int64_t height = n.integer("output_height", 1), width = n.integer("output_width", 1), ratio = n.integer("sampling_ratio", 0);
  n.require(height >= 1 && width >= 1 && ratio >= 0, "output is {}x{} with sampling_ratio {}; needs positive sizes", height, width, ratio);
  const bool half_pixel = coordinates == "half_pixel";
  const DType dtype = b.dtype(rois) == DType::f64 ? DType::f64 : DType::f32;
  const auto corner = [&](int64_t across, int64_t down) {  // [regions, 2], rows first
    const ValueId scaled = b.mul(b.cast(b.gather(rois, b.ints({down, across}), 1), dtype), n.real("spatial_scale", 1));
    return half_pixel ? b.add(scaled, -0.5) : scaled;
  };
  const ValueId starts = corner(0, 1), span = b.sub(corner(2, 3), starts);
  const ValueId bins = b.div(half_pixel ? span : b.max(span, 1.0), b.cast(b.ints({height, width}), dtype));
  Dims samples = {ratio, ratio};
  ValueId counts = b.broadcast(b.ints({ratio, ratio}), {b.dims(rois)[0], 2});
  if (ratio == 0) {
    // About one sample an element, as many as the largest bin needs; of a bin much larger than the input only those that can lie inside.
    const ValueId whole = b.min(b.max(b.unary("ceil", bins), 0.0), 0x1p40);
    const ValueId reach = b.cast(b.sizes({b.dims(x)[2] + 1, b.dims(x)[3] + 1}), dtype);
    const ValueId inside = b.add(b.unary("floor", b.div(b.mul(whole, reach), bins)), 4.0);
    counts = b.cast(whole, DType::i64);
    samples = b.sizes_of(b.max(b.reduce("reduce_max", b.cast(b.min(whole, inside), DType::i64), {0}, false), 0.0));
  }
  n.set(b.one("roi_align", {x, b.cast(n.in(2), DType::i64), starts, bins, counts}, {{"dims", Dims{height, width}}, {"samples", samples}, {"mode", mode}}));
}

/// Opset 16 calls the modes bilinear and bicubic, opset 20 linear and cubic.
void grid_sample(NodeImport& n) {
  std::string mode = n.text("mode", "linear");
  if (mode == "bilinear") mode = "linear";
  if (mode == "bicubic") mode = "cubic";
  n.require(mode == "linear" || mode == "nearest" || mode == "cubic", "mode is '{}'; needs linear, nearest or cubic", mode);
  const std::string padding = n.text("padding_mode", "zeros");
  n.require(padding == "zeros" || padding == "border" || padding == "reflection", "padding_mode is '{}'; needs zeros, border or reflection", padding);
  n.set(n.b.one("grid_sample", {n.in(0), n.in(1)}, {{"mode", mode}, {"padding", padding}, {"align_corners", int64_t{n.flag("align_corners", false)}}}));
}

/// grid = theta·(x, y[, z], 1) over normalised positions: [batch, sizes…, 2 or 3], the last axis in the order x, y, z.
void affine_grid(NodeImport& n) {
  Builder& b = n.b;
  const ValueId theta = n.in(0);
  const Dims sizes = b.sizes_of(n.in(1));
  n.require(sizes.size() == 4 || sizes.size() == 5, "size has {} entries; needs 4 or 5", sizes.size());
  const Dims space(sizes.begin() + 2, sizes.end());
  const int64_t rank = static_cast<int64_t>(space.size());
  n.require(b.rank(theta) == 3 && b.dims(theta)[1] == Dim(rank) && b.dims(theta)[2] == Dim(rank + 1), "theta is {}; needs [batch, {}, {}]", str(b.type(theta)),
            rank, rank + 1);
  const bool align = n.flag("align_corners", false);
  const DType dtype = b.dtype(theta);
  auto position = [&](int axis) {  // of each element along `axis` in [-1, 1], laid over the whole space, with a last axis of 1
    const Dim& extent = space[static_cast<size_t>(axis)];
    const ValueId index = b.iota(DType::f64, {extent}, 0);
    auto real = [&](const Dim& d) { return b.cast(b.reshape(b.sizes({d}), {}), DType::f64); };
    const ValueId at =
        align ? b.add(b.div(b.mul(index, 2.0), real(max(extent - 1, Dim(1)))), -1.0) : b.add(b.div(b.add(b.mul(index, 2.0), 1.0), real(extent)), -1.0);
    Dims laid(space.size() + 1, Dim(1)), full = space;
    laid[static_cast<size_t>(axis)] = extent;
    full.push_back(1);
    return b.broadcast(b.reshape(b.cast(at, dtype), laid), full);
  };
  std::vector<ValueId> coordinates;
  for (int64_t axis = rank - 1; axis >= 0; --axis) coordinates.push_back(position(static_cast<int>(axis)));
  Dims ones = space;
  ones.push_back(1);
  coordinates.push_back(b.broadcast(b.scalar(dtype, 1), ones));
  const ValueId base = b.reshape(b.concat(coordinates, static_cast<int>(rank)), {product(space), rank + 1});
  Dims result{b.dims(theta)[0]};
  result.insert(result.end(), space.begin(), space.end());
  result.push_back(rank);
  n.set(b.reshape(b.matmul(base, b.transpose(theta, {0, 2, 1})), result));
}

void deform_conv(NodeImport& n) {
  n.require(n.rank(0) >= 3, "input is {}; needs [batch, channels, positions…]", str(n.b.type(n.in(0))));
  const size_t spatial = static_cast<size_t>(n.rank(0) - 2);
  std::vector<ValueId> operands{n.in(0), n.in(1), n.in(2)};
  if (n.has(3) || n.has(4)) operands.push_back(n.in_or(3));
  if (n.has(4)) operands.push_back(n.in(4));
  n.set(n.b.one("deform_conv", operands,
                {{"strides", per_axis(n, "strides", spatial, 1, 1)},
                 {"dilations", per_axis(n, "dilations", spatial, 1, 1)},
                 {"pads", per_axis(n, "pads", 2 * spatial, 0, 0)},
                 {"groups", n.integer("group", 1)},
                 {"offset_groups", n.integer("offset_group", 1)}}));
}

void det(NodeImport& n) { n.set(n.b.one("det", {n.in(0)})); }

void image_decoder(NodeImport& n) { n.unsupported("compressed images are not decoded inside a model; decode before it"); }

constexpr OperatorEntry entries[] = {
    {"", "AffineGrid", 20, affine_grid},
    {"", "DeformConv", 19, deform_conv},
    {"", "Det", 11, det},
    {"", "GridSample", 16, grid_sample},
    {"com.microsoft", "GridSample", 1, grid_sample},
    {"", "ImageDecoder", 20, image_decoder},
    {"", "RoiAlign", 10, roi_align},
};

}  // namespace

std::span<const OperatorEntry> vision_operators() { return entries; }

}  // namespace tilewright::onnx
