#include <algorithm>
#include <cmath>
#include <numeric>

#include "import/onnx/operands.h"
#include "import/onnx/operators.h"
#include "import/onnx/runtime_resize.h"

namespace tilewright::onnx {
namespace {

std::vector<float> known_reals(NodeImport& n, int i, std::string_view what) {
  const Tensor values = n.required_constant(i, what);
  std::vector<float> result;
  for (int64_t k = 0; k < values.element_count(); ++k) result.push_back(static_cast<float>(values.float_at(k)));
  return result;
}

/// floor(size·scale), in single precision as the reference runtimes compute it. A run-time size wants a scale of small terms.
Dim scaled_size(NodeImport& n, const Dim& size, float scale) {
  n.require(scale > 0 && std::isfinite(scale), "scale {} is not positive", scale);
  if (size.is_constant()) {
    const float scaled = std::floor(static_cast<float>(size.constant()) * scale);
    n.require(scaled < 2147483648.0f, "scale {} of {} is too large", scale, size.str());
    return static_cast<int64_t>(scaled);
  }
  for (int64_t divisor = 1; divisor <= 64; ++divisor) {
    const float times = scale * static_cast<float>(divisor);
    if (times == std::round(times) && times < 1048576.0f) return size * Dim(static_cast<int64_t>(times)) / Dim(divisor);
  }
  n.unsupported("scale {} of the run-time size {} is no simple fraction; give --shape or --size", scale, size.str());
}

struct Geometry {
  Dims dims;
  std::vector<double> scales;  ///< 0: the quotient of the sizes
};

Geometry scaled_geometry(NodeImport& n, const std::vector<float>& scales, const std::vector<int64_t>& axes) {
  Geometry geometry{n.dims(0), std::vector<double>(static_cast<size_t>(n.rank(0)), 1.0)};
  n.require(scales.size() == axes.size(), "{} scales are given for {} axes", scales.size(), axes.size());
  for (size_t i = 0; i < axes.size(); ++i) {
    const auto axis = static_cast<size_t>(axes[i]);
    geometry.dims[axis] = scaled_size(n, geometry.dims[axis], scales[i]);
    geometry.scales[axis] = static_cast<double>(scales[i]);
  }
  return geometry;
}

/// Sizes given, with the aspect ratio kept as asked.
Geometry sized_geometry(NodeImport& n, const Dims& sizes, const std::vector<int64_t>& axes) {
  Geometry geometry{n.dims(0), std::vector<double>(static_cast<size_t>(n.rank(0)), 1.0)};
  n.require(sizes.size() == axes.size(), "{} sizes are given for {} axes", sizes.size(), axes.size());
  const std::string policy = n.text("keep_aspect_ratio_policy", "stretch");
  if (policy == "stretch") {
    for (size_t i = 0; i < axes.size(); ++i) {
      const auto axis = static_cast<size_t>(axes[i]);
      geometry.dims[axis] = sizes[i];
      geometry.scales[axis] = 0;
    }
    return geometry;
  }
  n.require(policy == "not_larger" || policy == "not_smaller", "keep_aspect_ratio_policy '{}' is not known", policy);
  double common = 0;
  for (size_t i = 0; i < axes.size(); ++i) {
    const Dim& from = geometry.dims[static_cast<size_t>(axes[i])];
    if (!sizes[i].is_constant() || !from.is_constant()) n.unsupported("keep_aspect_ratio_policy needs known sizes; give --shape or --size");
    n.require(from.constant() > 0, "cannot keep the aspect ratio of {}", str(geometry.dims));
    const double scale = static_cast<double>(sizes[i].constant()) / static_cast<double>(from.constant());
    common = i == 0 ? scale : policy == "not_larger" ? std::min(common, scale) : std::max(common, scale);
  }
  for (const int64_t axis : axes) {
    Dim& dim = geometry.dims[static_cast<size_t>(axis)];
    geometry.scales[static_cast<size_t>(axis)] = common;
    dim = static_cast<int64_t>(std::floor(common * static_cast<double>(dim.constant()) + 0.5));
  }
  return geometry;
}

/// The region of interest for all axes, [starts…, ends…]; whole axes where none is given.
std::vector<double> roi_of(NodeImport& n, int input, const std::vector<int64_t>& axes) {
  const auto rank = static_cast<size_t>(n.rank(0));
  std::vector<double> roi(2 * rank, 0.0);
  std::fill(roi.begin() + static_cast<std::ptrdiff_t>(rank), roi.end(), 1.0);
  const std::vector<float> given = known_reals(n, input, "roi");
  n.require(given.size() == 2 * axes.size(), "{} roi numbers are given for {} axes", given.size(), axes.size());
  for (size_t i = 0; i < axes.size(); ++i) {
    roi[static_cast<size_t>(axes[i])] = static_cast<double>(given[i]);
    roi[static_cast<size_t>(axes[i]) + rank] = static_cast<double>(given[i + axes.size()]);
  }
  return roi;
}

std::string core_mode(NodeImport& n) {
  const std::string mode = n.text("mode", "nearest");
  if (mode == "bilinear") return "linear";
  n.require(mode == "nearest" || mode == "linear" || mode == "cubic", "mode '{}' is not known", mode);
  return mode;
}

std::vector<int64_t> resized_axes(NodeImport& n) {
  std::vector<int64_t> axes = n.integers("axes");
  if (axes.empty()) {
    axes.resize(static_cast<size_t>(n.rank(0)));
    std::iota(axes.begin(), axes.end(), 0);
  }
  for (int64_t& axis : axes) axis = n.axis(axis, n.rank(0));
  n.axes(axes, n.rank(0));
  return axes;
}

bool is_given(NodeImport& n, int i) { return n.has(i) && product(n.dims(i)) != Dim(0); }

void emit(NodeImport& n, const Geometry& geometry, Attributes attributes) {
  attributes["dims"] = geometry.dims;
  attributes["scales"] = geometry.scales;
  attributes["mode"] = core_mode(n);
  n.set(n.b.one("resize", {n.in(0)}, std::move(attributes)));
}

/// Scales, sizes or a region that are known at run time only.
void resize_by_tensors(NodeImport& n, const std::vector<int64_t>& axes, ValueId scales, ValueId sizes, RunTimeResize resize) {
  Builder& b = n.b;
  Dims from;
  for (const int64_t axis : axes) from.push_back(n.dims(0)[static_cast<size_t>(axis)]);
  const ValueId in = b.cast(b.sizes(from), DType::f64);
  const auto count = static_cast<int64_t>(axes.size());
  if (scales != no_value) {
    n.require(b.dims(scales) == Dims{Dim(count)}, "scales are {} for {} axes", str(b.type(scales)), count);
    // Sizes are computed in single precision, as with scales known at compile time.
    resize.sizes = b.cast(b.unary("floor", b.mul(b.cast(b.sizes(from), DType::f32), b.cast(scales, DType::f32))), DType::i64);
    resize.scales = b.cast(scales, DType::f64);
  } else {
    n.require(b.dims(sizes) == Dims{Dim(count)}, "sizes are {} for {} axes", str(b.type(sizes)), count);
    resize.sizes = as_i64(b, sizes);
    resize.scales = b.div(b.cast(sizes, DType::f64), in);
    if (const std::string policy = n.text("keep_aspect_ratio_policy", "stretch"); policy != "stretch") {
      n.require(policy == "not_larger" || policy == "not_smaller", "keep_aspect_ratio_policy '{}' is not known", policy);
      const ValueId common = b.reduce(policy == "not_larger" ? "reduce_min" : "reduce_max", resize.scales, {0});
      resize.scales = b.broadcast(common, {count});
      resize.sizes = b.cast(b.unary("floor", b.add(b.mul(in, resize.scales), 0.5)), DType::i64);
    }
  }
  resize.axes = axes;
  resize.mode = core_mode(n);
  n.set(resize_at_run_time(b, n.in(0), resize));
}

bool known_or_absent(NodeImport& n, int i) { return !is_given(n, i) || n.constant(i); }

void resize(NodeImport& n) {
  if (n.opset() < 11) {
    const std::vector<int64_t> axes = resized_axes(n);
    if (!n.constant(1)) return resize_by_tensors(n, axes, n.in(1), no_value, {.mode = {}, .coordinate = "asymmetric", .nearest = "floor", .axes = {}});
    return emit(n, scaled_geometry(n, known_reals(n, 1, "scales"), axes), {{"coordinate", std::string("asymmetric")}, {"nearest", std::string("floor")}});
  }
  const std::vector<int64_t> axes = resized_axes(n);
  n.require(is_given(n, 2) != is_given(n, 3), "needs either scales or sizes");
  const std::string coordinate = n.text("coordinate_transformation_mode", "half_pixel");
  constexpr std::string_view known[] = {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize"};
  if (std::find(std::begin(known), std::end(known), coordinate) == std::end(known)) {
    n.unsupported("coordinate_transformation_mode '{}' is not supported", coordinate);
  }
  const std::string nearest = n.text("nearest_mode", "round_prefer_floor");
  const bool crops = coordinate == "tf_crop_and_resize";
  n.require(!crops || n.has(1), "coordinate mode tf_crop_and_resize needs a roi");
  const bool keeps_ratio = is_given(n, 3) && n.text("keep_aspect_ratio_policy", "stretch") != "stretch";
  if (!known_or_absent(n, 2) || (crops && !n.constant(1)) || (keeps_ratio && !integers_if_known(n, 3))) {
    if (n.flag("antialias", false)) n.must_be_known(is_given(n, 3) ? 3 : 2, "scales or sizes, with antialias,");
    RunTimeResize resize;
    resize.coordinate = coordinate;
    resize.nearest = nearest;
    resize.cubic_a = n.real("cubic_coeff_a", -0.75);
    resize.exclude_outside = n.flag("exclude_outside", false);
    resize.extrapolation = n.real("extrapolation_value", 0);
    if (crops) {
      n.require(n.dims(1) == Dims{Dim(static_cast<int64_t>(2 * axes.size()))}, "roi is {} for {} axes", str(n.b.type(n.in(1))), axes.size());
      resize.roi = n.b.cast(n.in(1), DType::f64);
    }
    return resize_by_tensors(n, axes, is_given(n, 2) ? n.in(2) : no_value, is_given(n, 2) ? no_value : n.in(3), std::move(resize));
  }
  const Geometry geometry = is_given(n, 2) ? scaled_geometry(n, known_reals(n, 2, "scales"), axes) : sized_geometry(n, n.b.sizes_of(n.in(3)), axes);
  Attributes attributes = {{"coordinate", coordinate},
                           {"nearest", nearest},
                           {"cubic_a", n.real("cubic_coeff_a", -0.75)},
                           {"exclude_outside", n.integer("exclude_outside", 0)},
                           {"extrapolation", n.real("extrapolation_value", 0)},
                           {"antialias", n.integer("antialias", 0)}};
  if (crops) attributes["roi"] = roi_of(n, 1, axes);
  emit(n, geometry, std::move(attributes));
}

void upsample(NodeImport& n) {
  std::vector<float> scales;
  if (n.opset() >= 9) {
    if (!n.constant(1)) {
      return resize_by_tensors(n, resized_axes(n), n.in(1), no_value, {.mode = {}, .coordinate = "asymmetric", .nearest = "floor", .axes = {}});
    }
    scales = known_reals(n, 1, "scales");
  } else if (n.opset() >= 7) {
    scales = n.reals("scales");
  } else {
    scales = {1, 1, static_cast<float>(n.real("height_scale")), static_cast<float>(n.real("width_scale"))};
  }
  emit(n, scaled_geometry(n, scales, resized_axes(n)), {{"coordinate", std::string("asymmetric")}, {"nearest", std::string("floor")}});
}

constexpr OperatorEntry table[] = {
    {"", "Resize", 10, resize},
    {"", "Upsample", 1, upsample},
};

}  // namespace

std::span<const OperatorEntry> resize_operators() { return table; }

}  // namespace tilewright::onnx
