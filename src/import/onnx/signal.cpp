#include <cmath>
#include <numbers>
#include <optional>

#include "import/onnx/operators.h"

namespace tilewright::onnx {
namespace {

/// A scalar that tells a size.
Dim size_input(NodeImport& n, int i) {
  const ValueId v = n.in(i);
  n.require(n.b.rank(v) == 0 || n.b.dims(v) == Dims{1}, "input {} is {}; needs a scalar", i, str(n.b.type(v)));
  return n.b.sizes_of(n.b.cast(n.b.reshape(v, {1}), DType::i64)).at(0);
}

/// The discrete Fourier transform of `length` elements along `axis`, the input cut or zero-padded to it.
ValueId transform(Builder& b, ValueId x, int axis, const Dim& length, bool inverse, bool onesided) {
  return b.one("dft", {x}, {{"axis", int64_t{axis}}, {"length", Dims{length}}, {"inverse", int64_t{inverse}}, {"onesided", int64_t{onesided}}});
}

/// The real signal whose spectrum's first half is x: the other half mirrors it conjugated.
ValueId inverse_real(NodeImport& n, Builder& b, ValueId x, int axis, const Dim& length) {
  const int last = b.rank(x) - 1;
  n.require(b.dims(x).back() == Dim(2), "input is {}; a spectrum has 2 elements on its last axis", str(b.type(x)));
  const Dim half = length / Dim(2) + 1, given = b.dims(x)[static_cast<size_t>(axis)];
  if (!(half == given)) {
    Dims before(static_cast<size_t>(b.rank(x)), Dim(0)), after = before;
    after[static_cast<size_t>(axis)] = half - given;
    x = b.pad(x, before, after);
  }
  const Dim mirrored = (length - 1) / Dim(2);
  const ValueId tail = b.slice(x, axis, mirrored, mirrored, -1);
  const ValueId conjugate = b.concat({b.slice(tail, last, 0, 1), b.neg(b.slice(tail, last, 1, 1))}, last);
  return b.slice(transform(b, b.concat({x, conjugate}, axis), axis, length, true, false), last, 0, 1);
}

/// What a DFT node asks for besides the axis.
struct Transform {
  std::optional<Dim> length;  ///< none: the axis decides
  bool inverse, onesided;
};

ValueId transform_along(NodeImport& n, Builder& b, ValueId x, int axis, const Transform& t) {
  const Dim given = b.dims(x)[static_cast<size_t>(axis)];
  const bool to_real = t.inverse && t.onesided;
  const Dim length = t.length ? *t.length : to_real ? (given - 1) * Dim(2) : given;
  return to_real ? inverse_real(n, b, x, axis, length) : transform(b, x, axis, length, t.inverse, t.onesided);
}

/// The axes that a transform may be along: a real signal has more than one frequency, or its length is stated.
std::vector<int> possible_axes(Builder& b, ValueId x, const Transform& t) {
  std::vector<int> axes;
  for (int axis = 0; axis + 1 < b.rank(x); ++axis) {
    const auto given = b.dims(x)[static_cast<size_t>(axis)].as_constant();
    if (!(t.inverse && t.onesided && !t.length && given && *given <= 1)) axes.push_back(axis);
  }
  return axes;
}

/// An axis known only at run time: one branch for each of `axes`.
ValueId transform_along_any(NodeImport& n, Builder& b, ValueId x, ValueId axis, std::span<const int> axes, const Transform& t) {
  if (axes.size() == 1) return transform_along(n, b, x, axes[0], t);
  auto branch = [&](const auto& build) {
    auto graph = std::make_shared<Graph>();
    Builder body(*graph, b);
    const ValueId inner_x = body.input("x", b.type(x)), inner_axis = body.input("axis", b.type(axis));
    body.output(build(body, inner_x, inner_axis));
    return graph;
  };
  const auto here = branch([&](Builder& body, ValueId inner, ValueId) { return transform_along(n, body, inner, axes[0], t); });
  const auto later = branch([&](Builder& body, ValueId inner, ValueId at) { return transform_along_any(n, body, inner, at, axes.subspan(1), t); });
  return b.if_else(b.equal(axis, b.scalar(DType::i64, axes[0])), here, later, {x, axis})[0];
}

/// The axis is an attribute until opset 19, an input from 20 on.
void dft(NodeImport& n) {
  Builder& b = n.b;
  const ValueId x = n.in(0);
  const int rank = b.rank(x);
  n.require(rank >= 2 && (b.dims(x).back() == Dim(1) || b.dims(x).back() == Dim(2)), "input is {}; needs 1 or 2 elements on its last axis", str(b.type(x)));
  Transform t{std::nullopt, n.flag("inverse", false), n.flag("onesided", false)};
  if (n.has(1)) t.length = size_input(n, 1);
  int64_t requested = n.opset() < 20 ? n.integer("axis", 1) : -2;
  if (n.opset() >= 20 && n.has(2)) {
    n.require(product(n.dims(2)) == Dim(1), "the axis is {}; needs a scalar", str(b.type(n.in(2))));
    if (const auto known = n.constant(2)) {
      requested = known->int_at(0);
    } else {
      const ValueId axis = b.cast(b.reshape(n.in(2), {}), DType::i64);
      const ValueId counted = b.add(axis, b.where(b.less(axis, b.scalar(DType::i64, 0)), b.scalar(DType::i64, rank), b.scalar(DType::i64, 0)));
      const std::vector<int> axes = possible_axes(b, x, t);
      n.require(!axes.empty(), "no axis of {} can be transformed", str(b.type(x)));
      n.set(transform_along_any(n, b, x, counted, axes, t));
      return;
    }
  }
  const int axis = n.axis(requested, rank);
  n.require(axis != rank - 1, "axis {} holds the complex numbers' parts", axis);
  n.set(transform_along(n, b, x, axis, t));
}

/// Frames of the signal every `step` elements, weighted by the window and transformed: [batch, frames, bins, 2].
void stft(NodeImport& n) {
  Builder& b = n.b;
  const ValueId signal = n.in(0);
  n.require(b.rank(signal) == 3, "signal is {}; needs [batch, length, 1 or 2]", str(b.type(signal)));
  const Dim length = b.dims(signal)[1], step = size_input(n, 1);
  n.require(!step.is_constant() || step.constant() > 0, "frame_step is {}; needs at least 1", step.str());
  n.require(!n.has(2) || n.rank(2) == 1, "the window is {}; needs a vector", n.has(2) ? str(b.type(n.in(2))) : "");
  const Dim frame = n.has(3) ? size_input(n, 3) : n.has(2) ? n.dims(2)[0] : length;
  const Dim frames = (length - frame) / step + 1;
  n.require(!frames.is_constant() || frames.constant() > 0, "a frame of {} in a signal of {}", frame.str(), length.str());
  const ValueId step_value = b.reshape(b.sizes({step}), {});
  const ValueId start = b.mul(b.iota(DType::i64, {frames, frame}, 0), step_value);
  ValueId framed = b.gather(signal, b.add(start, b.iota(DType::i64, {frames, frame}, 1)), 1);  // [batch, frames, frame, 1 or 2]
  if (n.has(2)) framed = b.mul(framed, b.reshape(n.in(2), {frame, 1}));
  n.set(transform(b, framed, 2, frame, false, n.flag("onesided", true)));
}

/// A sum of cosines of the position: a0 + a1·cos(2πi/N) + a2·cos(4πi/N); N is one less when not periodic.
void window(NodeImport& n, double a0, double a1, double a2) {
  Builder& b = n.b;
  const Dim size = size_input(n, 0);
  const Dim period = n.flag("periodic", true) ? size : size - 1;
  const ValueId divisor = b.cast(b.reshape(b.sizes({period}), {}), DType::f64);
  const ValueId angle = b.div(b.mul(b.iota(DType::f64, {size}, 0), 2 * std::numbers::pi), divisor);
  ValueId y = b.add(b.mul(b.unary("cos", angle), a1), a0);
  if (a2 != 0) y = b.add(y, b.mul(b.unary("cos", b.mul(angle, 2.0)), a2));
  n.set(b.cast(y, n.dtype_attribute("output_datatype", DType::f32)));
}

void hann_window(NodeImport& n) { window(n, 0.5, -0.5, 0); }
void hamming_window(NodeImport& n) { window(n, 25.0 / 46, -21.0 / 46, 0); }
void blackman_window(NodeImport& n) { window(n, 0.42, -0.5, 0.08); }

/// Triangles over the spectrum's bins, their corners evenly spaced in mel = 2595·log10(1 + f/700): [dft_length/2 + 1, num_mel_bins].
void mel_weight_matrix(NodeImport& n) {
  Builder& b = n.b;
  const Dim mels = size_input(n, 0), dft_length = size_input(n, 1);
  const Dim spectrum = dft_length / Dim(2) + 1;
  auto real_input = [&](int i) { return b.cast(b.reshape(n.in(i), {}), DType::f64); };
  const double nepers = 2595 / std::numbers::ln10;
  auto mel = [&](int i) { return b.mul(b.log(b.add(b.mul(real_input(i), 1.0 / 700), 1.0)), nepers); };
  const ValueId low = mel(3), high = mel(4);
  auto size_value = [&](const Dim& d) { return b.cast(b.reshape(b.sizes({d}), {}), DType::f64); };
  const ValueId step = b.div(b.sub(high, low), size_value(mels + 2));
  const ValueId corners = b.add(b.mul(b.iota(DType::f64, {mels + 2}, 0), step), low);
  const ValueId hertz = b.mul(b.add(b.exp(b.mul(corners, 1 / nepers)), -1.0), 700.0);
  const ValueId bins = b.unary("floor", b.div(b.mul(hertz, size_value(dft_length + 1)), real_input(2)));

  const ValueId lower = b.slice(bins, 0, 0, mels), centre = b.slice(bins, 0, 1, mels), upper = b.slice(bins, 0, 2, mels);
  const ValueId bin = b.iota(DType::f64, {spectrum, 1}, 0);
  const ValueId zero = b.scalar(DType::f64, 0), one = b.scalar(DType::f64, 1);
  auto both = [&](ValueId p, ValueId q) { return b.one("and", {p, q}); };
  const ValueId flat = b.equal(centre, lower);
  const ValueId rise = b.where(flat, one, b.div(b.sub(bin, lower), b.where(flat, one, b.sub(centre, lower))));
  const ValueId level = b.equal(upper, centre);
  const ValueId fall = b.div(b.sub(upper, bin), b.where(level, one, b.sub(upper, centre)));
  const ValueId rising = both(b.less_equal(lower, bin), b.less_equal(bin, centre));
  const ValueId falling = both(b.less_equal(centre, bin), b.less(bin, upper));
  const ValueId y = b.where(falling, fall, b.where(rising, rise, zero));
  n.set(b.cast(y, n.dtype_attribute("output_datatype", DType::f32)));
}

constexpr OperatorEntry entries[] = {
    {"", "BlackmanWindow", 17, blackman_window},    {"", "DFT", 17, dft},   {"", "HammingWindow", 17, hamming_window}, {"", "HannWindow", 17, hann_window},
    {"", "MelWeightMatrix", 17, mel_weight_matrix}, {"", "STFT", 17, stft},
};

}  // namespace

std::span<const OperatorEntry> signal_operators() { return entries; }

}  // namespace tilewright::onnx
