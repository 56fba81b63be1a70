#include <algorithm>
#include <limits>
#include <numeric>

#include "import/onnx/operands.h"
#include "import/onnx/operators.h"
#include "import/onnx/runtime_axes.h"

namespace tilewright::onnx {
namespace {

void transpose(NodeImport& n) {
  const ValueId x = n.in(0);
  std::vector<int64_t> permutation = n.integers("perm");
  if (permutation.empty()) {
    permutation.resize(static_cast<size_t>(n.b.rank(x)));
    std::iota(permutation.rbegin(), permutation.rend(), 0);
  }
  for (int64_t& axis : permutation) axis = n.axis(axis, n.b.rank(x));
  n.set(permutation.empty() ? x : n.b.transpose(x, permutation));
}

void concat(NodeImport& n) {
  const std::vector<ValueId> all = n.all_inputs();
  n.set(n.b.concat(all, n.axis(n.opset() < 4 ? n.integer("axis", 1) : n.integer("axis"), n.b.rank(all[0]))));
}

bool proven_negative(const Dim& size) { return proven_nonnegative(-size - 1, {}); }

/// Start and count along one axis of `dim` elements, as ONNX counts, clamps and rounds. Run-time positions are taken to count from
/// the front.
struct Range {
  Dim start, count;
};

Range sliced_range(const Dim& dim, const Dim& start, const Dim& end, int64_t step) {
  // Models write "to the end" as a number near the largest of 32 or 64 bits.
  constexpr int64_t far = (int64_t{1} << 31) - 1;
  const auto from_front = [&](const Dim& at) { return proven_negative(at) ? at + dim : at; };
  const auto clamped = [&](const Dim& at, const Dim& low, const Dim& high) {
    const Dim below = proven_nonnegative(high - at, {}) ? at : proven_nonnegative(at - high, {}) ? high : min(at, high);
    return proven_nonnegative(below - low, {}) ? below : max(below, low);
  };
  const auto is_far = [&](const Dim& at, int sign) { return at.is_constant() && (sign > 0 ? at.constant() >= far : at.constant() <= -far); };
  if (step > 0) {
    const Dim first = is_far(start, 1) ? dim : is_far(start, -1) ? Dim(0) : clamped(from_front(start), 0, dim);
    const Dim last = is_far(end, 1) ? dim : is_far(end, -1) ? Dim(0) : clamped(from_front(end), 0, dim);
    return {first, not_negative(divide_up(last - first, step))};
  }
  const Dim first = is_far(start, 1) ? dim - 1 : is_far(start, -1) ? Dim(0) : clamped(from_front(start), 0, dim - 1);
  const Dim last = is_far(end, 1) ? dim - 1 : is_far(end, -1) ? Dim(-1) : clamped(from_front(end), -1, dim - 1);
  return {first, not_negative(divide_up(first - last, -step))};
}

/// A slice whose positions, axes or steps are known at run time only: they are clamped by the same rules on tensors of one entry an
/// axis, and elements are gathered.
void slice_at_run_time(NodeImport& n) {
  Builder& b = n.b;
  ValueId x = n.in(0);
  const int rank = b.rank(x);
  const Dims count = n.dims(1);
  n.require(count.size() == 1 && n.rank(2) == 1, "starts and ends must be lists");
  const ValueId zero = b.scalar(DType::i64, 0);
  const ValueId one = b.scalar(DType::i64, 1);
  const ValueId size = b.sizes(b.dims(x));
  const ValueId axes = n.has(3) ? as_i64(b, n.in(3)) : b.iota(DType::i64, count, 0);
  const auto input = [&](int i, ValueId otherwise) { return at_axes(b, as_i64(b, n.in(i)), axes, otherwise, rank); };
  const ValueId step = n.has(4) ? input(4, one) : b.broadcast(one, {rank});
  const ValueId forward = b.less(zero, step);
  const auto clamped = [&](ValueId at, ValueId low, ValueId high) { return b.max(b.min(at, high), low); };
  const auto from_front = [&](ValueId at) { return b.where(b.less(at, zero), b.add(at, size), at); };
  const ValueId last = b.sub(size, one);
  const ValueId start = clamped(from_front(input(1, zero)), zero, b.where(forward, size, last));
  const ValueId end = from_front(input(2, size));
  const ValueId bounded = b.where(forward, clamped(end, zero, size), clamped(end, b.neg(one), last));
  const ValueId distance = b.where(forward, b.sub(bounded, start), b.sub(start, bounded));
  const ValueId stride = b.unary("abs", step);
  const ValueId steps = b.div(b.sub(b.add(b.max(distance, zero), stride), one), stride);

  const Dims counts = b.sizes_of(steps);
  for (int axis = 0; axis < rank; ++axis) {
    const auto entry = [&](ValueId list) { return b.slice(list, 0, axis, 1); };
    const ValueId index = b.add(b.mul(b.iota(DType::i64, {counts[static_cast<size_t>(axis)]}, 0), entry(step)), entry(start));
    x = b.gather(x, index, axis);
  }
  n.set(x);
}

bool slice_is_known(NodeImport& n) {
  const auto known = [&](int i) { return !n.has(i) || integers_if_known(n, i).has_value(); };
  const auto sizes = [&](int i) { return n.b.contents(n.in(i)).has_value() || product(n.dims(i)) == Dim(0); };
  return sizes(1) && sizes(2) && known(3) && known(4);
}

void slice(NodeImport& n) {
  if (n.opset() >= 10 && !slice_is_known(n)) return slice_at_run_time(n);
  const ValueId x = n.in(0);
  const int rank = n.b.rank(x);
  Dims starts;
  Dims ends;
  std::vector<int64_t> axes;
  std::vector<int64_t> steps;
  if (n.opset() < 10) {
    for (const int64_t at : n.integers("starts")) starts.emplace_back(at);
    for (const int64_t at : n.integers("ends")) ends.emplace_back(at);
    axes = n.integers("axes");
  } else {
    starts = n.b.sizes_of(n.in(1));
    ends = n.b.sizes_of(n.in(2));
    if (n.has(3)) axes = known_integers(n, 3, "axes");
    if (n.has(4)) steps = known_integers(n, 4, "steps");
  }
  if (axes.empty()) {
    axes.resize(starts.size());
    std::iota(axes.begin(), axes.end(), 0);
  }
  if (steps.empty()) steps.assign(starts.size(), 1);
  n.require(starts.size() == ends.size() && starts.size() == axes.size() && starts.size() == steps.size(),
            "{} starts, {} ends, {} axes and {} steps do not agree in number", starts.size(), ends.size(), axes.size(), steps.size());
  n.axes(axes, rank);

  Dims from(static_cast<size_t>(rank), Dim(0));
  Dims counts = n.b.dims(x);
  std::vector<int64_t> strides(static_cast<size_t>(rank), 1);
  for (size_t i = 0; i < starts.size(); ++i) {
    const auto axis = static_cast<size_t>(n.axis(axes[i], rank));
    n.require(steps[i] != 0 && steps[i] != std::numeric_limits<int64_t>::min(), "step {} is not possible", steps[i]);
    const Range range = sliced_range(counts[axis], starts[i], ends[i], steps[i]);
    from[axis] = range.start;
    counts[axis] = range.count;
    strides[axis] = steps[i];
  }
  n.set(n.b.one("slice", {x}, {{"starts", from}, {"counts", counts}, {"steps", strides}}));
}

void split(NodeImport& n) {
  const ValueId x = n.in(0);
  const int axis = n.axis(n.integer("axis", 0), n.b.rank(x));
  const Dim total = n.b.dims(x)[static_cast<size_t>(axis)];
  const int parts = n.output_count();
  Dims sizes;
  if (n.has(1)) {
    sizes = n.b.sizes_of(n.in(1));
  } else if (n.opset() < 13 && n.has_attribute("split")) {
    for (const int64_t size : n.integers("split")) sizes.emplace_back(size);
  } else {
    n.require(n.opset() < 18 || n.integer("num_outputs", parts) == parts, "num_outputs differs from its {} outputs", parts);
    const Dim chunk = divide_up(total, parts);
    sizes.assign(static_cast<size_t>(parts), chunk);
    if (total.is_constant()) {
      for (int i = 0; i < parts; ++i) {
        const int64_t begin = chunk.constant() * i;
        sizes[static_cast<size_t>(i)] = std::clamp<int64_t>(total.constant() - begin, 0, chunk.constant());
      }
    } else {
      sizes.back() = total - chunk * Dim(parts - 1);
    }
  }
  n.require(static_cast<int>(sizes.size()) == parts, "{} sizes are given for {} outputs", sizes.size(), parts);
  Dim sum = 0;
  for (const Dim& size : sizes) {
    n.require(!size.is_constant() || size.constant() >= 0, "size {} of a part is negative", str(sizes));
    sum += size;
  }
  n.require(!sum.is_constant() || !total.is_constant() || sum == total, "parts {} do not add up to {}", str(sizes), total.str());
  n.b.require_equal(sum, total, fmt::format("parts {} of axis {} of {}", str(sizes), axis, str(n.b.dims(x))));
  const Dim last = sizes.empty() ? Dim(0) : sizes.back();  // what equal parts leave; sizes that are read are checked there
  if (!proven_nonnegative(last))
    n.b.require_equal(last, max(last, 0), fmt::format("what {} equal parts of axis {} of {} leave for the last", parts, axis, str(n.b.dims(x))));
  Dim start = 0;
  for (int i = 0; i < parts; ++i) {
    const Dim& size = sizes[static_cast<size_t>(i)];
    if (n.wants(i)) n.set(i, n.b.slice(x, axis, start, size));
    start += size;
  }
}

void pad(NodeImport& n) {
  const ValueId x = n.in(0);
  const auto rank = static_cast<size_t>(n.b.rank(x));
  Dims amounts;
  std::vector<int64_t> axes(rank);
  std::iota(axes.begin(), axes.end(), 0);
  ValueId value = no_value;
  if (n.opset() < 11) {
    for (const int64_t amount : n.integers(n.opset() < 2 ? "paddings" : "pads")) amounts.emplace_back(amount);
    value = n.b.scalar(n.b.dtype(x), n.real("value", 0));
  } else {
    const Axes given = axes_of_input(n, 3, static_cast<int>(rank));
    if (given.at_run_time == no_value) {
      amounts = n.b.sizes_of(n.in(1));
      if (given.given) axes = given.known;
    } else {
      const Dim count = n.b.dims(given.at_run_time)[0];
      const ValueId all = as_i64(n.b, n.in(1));
      n.require(n.b.dims(all) == Dims{count * Dim(2)}, "pads are {} for {} axes", str(n.b.type(all)), count.str());
      for (const Dim& first : {Dim(0), count}) {
        const ValueId side = n.b.slice(all, 0, first, count);
        const Dims spread = n.b.sizes_of(at_axes(n.b, side, given.at_run_time, n.b.scalar(DType::i64, 0), static_cast<int>(rank)));
        amounts.insert(amounts.end(), spread.begin(), spread.end());
      }
    }
    value = n.in_or(2);
  }
  n.axes(axes, static_cast<int>(rank));
  n.require(amounts.size() == 2 * axes.size(), "{} amounts are given for {} axes", amounts.size(), axes.size());
  Dims before(rank, Dim(0));
  Dims after(rank, Dim(0));
  for (size_t i = 0; i < axes.size(); ++i) {
    const auto axis = static_cast<size_t>(n.axis(axes[i], static_cast<int>(rank)));
    before[axis] = amounts[i];
    after[axis] = amounts[axes.size() + i];
  }
  const std::string mode = n.text("mode", "constant");
  n.require(mode == "constant" || mode == "edge" || mode == "reflect" || mode == "wrap", "mode '{}' is not known", mode);
  if (value != no_value && n.b.rank(value) > 0) value = n.b.reshape(value, {});
  n.set(n.b.pad(x, before, after, mode, mode == "constant" ? value : no_value));
}

void tile(NodeImport& n) {
  const ValueId x = n.in(0);
  const Dims dims = n.b.dims(x);
  Dims repeats(dims.size(), Dim(1));
  if (n.opset() < 6) {
    const std::vector<int64_t> axis = known_integers(n, 2, "axis");
    n.require(axis.size() == 1, "needs one axis");
    const Dims times = n.b.sizes_of(n.in(1));
    n.require(times.size() == 1, "needs one number of tiles");
    repeats[static_cast<size_t>(n.axis(axis[0], n.b.rank(x)))] = times[0];
  } else {
    repeats = n.b.sizes_of(n.in(1));
  }
  n.require(repeats.size() == dims.size(), "{} repeats are given for {}", repeats.size(), str(n.b.type(x)));
  Dims apart;
  Dims repeated;
  Dims merged;
  for (size_t i = 0; i < dims.size(); ++i) {
    n.require(!repeats[i].is_constant() || repeats[i].constant() >= 0, "repeats {} have a negative number", str(repeats));
    if (repeats[i] != Dim(1)) {
      apart.emplace_back(1);
      repeated.push_back(repeats[i]);
    }
    apart.push_back(dims[i]);
    repeated.push_back(dims[i]);
    merged.push_back(repeats[i] * dims[i]);
  }
  if (merged == dims) return n.set(x);
  n.set(n.b.reshape(n.b.broadcast(n.b.reshape(x, apart), repeated), merged));
}

/// Channels, height and width of an image batch, and the block size.
struct Blocks {
  Dim batch, channels, height, width, size;
};

Blocks blocks_of(NodeImport& n) {
  const Dims& dims = n.dims(0);
  n.require(dims.size() == 4, "its input must be [n,c,h,w], not {}", str(n.b.type(n.in(0))));
  const int64_t size = n.integer("blocksize");
  n.require(size > 0, "blocksize {} is not positive", size);
  return {dims[0], dims[1], dims[2], dims[3], size};
}

void depth_to_space(NodeImport& n) {
  const auto [batch, channels, height, width, size] = blocks_of(n);
  const std::string mode = n.text("mode", "DCR");
  n.require(mode == "DCR" || mode == "CRD", "mode '{}' is neither DCR nor CRD", mode);
  n.require(!channels.is_constant() || channels % (size * size) == Dim(0), "{} channels do not divide by {}", channels.str(), (size * size).str());
  const Dim depth = channels / (size * size);
  const bool blocks_first = mode == "DCR";
  ValueId x = n.b.reshape(n.in(0), blocks_first ? Dims{batch, size, size, depth, height, width} : Dims{batch, depth, size, size, height, width});
  x = n.b.transpose(x, blocks_first ? std::vector<int64_t>{0, 3, 4, 1, 5, 2} : std::vector<int64_t>{0, 1, 4, 2, 5, 3});
  n.set(n.b.reshape(x, {batch, depth, height * size, width * size}));
}

void space_to_depth(NodeImport& n) {
  const auto [batch, channels, height, width, size] = blocks_of(n);
  ValueId x = n.b.reshape(n.in(0), {batch, channels, height / size, size, width / size, size});
  x = n.b.transpose(x, {0, 3, 5, 1, 2, 4});
  n.set(n.b.reshape(x, {batch, channels * size * size, height / size, width / size}));
}

void center_crop_pad(NodeImport& n) {
  ValueId x = n.in(0);
  const int rank = n.b.rank(x);
  const Dims wanted = n.b.sizes_of(n.in(1));
  std::vector<int64_t> axes = n.integers("axes");
  if (!n.has_attribute("axes")) {
    axes.resize(static_cast<size_t>(rank));
    std::iota(axes.begin(), axes.end(), 0);
  }
  n.axes(axes, rank);
  n.require(wanted.size() == axes.size(), "{} sizes are given for {} axes", wanted.size(), axes.size());
  Dims before(static_cast<size_t>(rank), Dim(0));
  Dims after = before;
  Dims starts = before;
  Dims counts = n.b.dims(x);
  for (size_t i = 0; i < axes.size(); ++i) {
    const auto axis = static_cast<size_t>(n.axis(axes[i], rank));
    const Dim missing = max(wanted[i] - counts[axis], 0);
    const Dim excess = max(counts[axis] - wanted[i], 0);
    before[axis] = missing / 2;
    after[axis] = missing - missing / 2;
    starts[axis] = excess / 2;
    counts[axis] = wanted[i];
  }
  x = n.b.pad(x, before, after);
  n.set(n.b.one("slice", {x}, {{"starts", starts}, {"counts", counts}, {"steps", std::vector<int64_t>(static_cast<size_t>(rank), 1)}}));
}

void trilu(NodeImport& n) {
  const ValueId x = n.in(0);
  const int rank = n.b.rank(x);
  n.require(rank >= 2, "its input must have two dims or more, not {}", str(n.b.type(x)));
  const Dims dims = n.b.dims(x);
  const Dim& rows = dims[static_cast<size_t>(rank - 2)];
  const Dim& columns = dims[static_cast<size_t>(rank - 1)];
  ValueId diagonal = n.b.iota(DType::i64, {rows, 1}, 0);
  if (n.has(1)) diagonal = n.b.add(diagonal, n.b.reshape(as_i64(n.b, n.in(1)), {}));
  const ValueId column = n.b.iota(DType::i64, {1, columns}, 1);
  const ValueId kept = n.flag("upper", true) ? n.b.less_equal(diagonal, column) : n.b.less_equal(column, diagonal);
  n.set(n.b.where(kept, x, n.b.scalar(n.b.dtype(x), 0)));
}

void reverse_sequence(NodeImport& n) {
  const ValueId x = n.in(0);
  const int rank = n.b.rank(x);
  const int time = n.axis(n.integer("time_axis", 0), rank);
  const int batch = n.axis(n.integer("batch_axis", 1), rank);
  n.require(time != batch, "time_axis and batch_axis are the same");
  const Dims dims = n.b.dims(x);
  Dims along_batch(static_cast<size_t>(rank), Dim(1));
  Dims along_time = along_batch;
  along_batch[static_cast<size_t>(batch)] = dims[static_cast<size_t>(batch)];
  along_time[static_cast<size_t>(time)] = dims[static_cast<size_t>(time)];
  const ValueId length = n.b.reshape(as_i64(n.b, n.in(1)), along_batch);
  const ValueId step = n.b.iota(DType::i64, along_time, time);
  const ValueId mirrored = n.b.sub(n.b.sub(length, step), n.b.scalar(DType::i64, 1));
  const ValueId source = n.b.where(n.b.less(step, length), mirrored, step);
  n.set(n.b.one("gather_elements", {x, n.b.broadcast(source, dims)}, {{"axis", int64_t{time}}}));
}

constexpr OperatorEntry table[] = {
    {"", "CenterCropPad", 18, center_crop_pad},
    {"", "Concat", 1, concat},
    {"", "DepthToSpace", 1, depth_to_space},
    {"", "Pad", 1, pad},
    {"", "ReverseSequence", 10, reverse_sequence},
    {"", "Slice", 1, slice},
    {"", "SpaceToDepth", 1, space_to_depth},
    {"", "Split", 1, split},
    {"", "Tile", 1, tile},
    {"", "Transpose", 1, transpose},
    {"", "Trilu", 14, trilu},
};

}  // namespace

std::span<const OperatorEntry> movement_operators() { return table; }

}  // namespace tilewright::onnx
