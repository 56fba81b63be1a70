#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "base/error.h"
#include "pattern/interpret.h"

namespace tilewright::pattern {
namespace {

/// Total order of elements, NaN last.
bool less_at(const Array& array, int64_t a, int64_t b) {
  if (!array.real()) {
    const int64_t x = array.integers[static_cast<size_t>(a)], y = array.integers[static_cast<size_t>(b)];
    return array.dtype == DType::u64 ? static_cast<uint64_t>(x) < static_cast<uint64_t>(y) : x < y;
  }
  const double x = array.reals[static_cast<size_t>(a)], y = array.reals[static_cast<size_t>(b)];
  if (std::isnan(x) || std::isnan(y)) return !std::isnan(x) && std::isnan(y);
  return x < y;
}

void copy_element(const Array& from, int64_t a, Array& to, int64_t b) {
  from.real() ? to.reals[static_cast<size_t>(b)] = from.reals[static_cast<size_t>(a)]
              : to.integers[static_cast<size_t>(b)] = from.integers[static_cast<size_t>(a)];
}

void nonzero(const Array& x, Array& out, int64_t& count) {
  const int64_t bound = x.count();
  const std::vector<int64_t> strides = row_major_strides(x.dims);
  for (int64_t i = 0; i < bound; ++i) {
    if (x.real() ? x.reals[static_cast<size_t>(i)] == 0 : x.integers[static_cast<size_t>(i)] == 0) continue;
    for (size_t axis = 0; axis < x.dims.size(); ++axis)
      out.integers[axis * static_cast<size_t>(bound) + static_cast<size_t>(count)] = i / strides[axis] % x.dims[axis];
    ++count;
  }
}

/// Ties: the lower index first. NaN is larger than every number.
void top_k(const Array& x, size_t axis, bool largest, Array& values, Array& indices, const std::string& source) {
  const int64_t length = x.dims[axis], k = values.dims[axis], stride = row_major_strides(x.dims)[axis];
  if (k > length) fail(ErrorKind::invalid_input, "{}: the {} largest or smallest are wanted of {} elements", source, k, length);
  if (values.count() == 0) return;
  for (int64_t line = 0; line < x.count() / length; ++line) {
    const int64_t outer = line / stride, inner = line % stride;
    const auto place = [&](int64_t i) { return (outer * length + i) * stride + inner; };
    std::vector<int64_t> order(static_cast<size_t>(length));
    std::iota(order.begin(), order.end(), int64_t{0});
    std::partial_sort(order.begin(), order.begin() + k, order.end(), [&](int64_t a, int64_t b) {
      const int64_t low = largest ? place(b) : place(a), high = largest ? place(a) : place(b);
      return less_at(x, low, high) || (a < b && !less_at(x, high, low));
    });
    for (int64_t i = 0; i < k; ++i) {
      const int64_t to = (outer * k + i) * stride + inner;
      copy_element(x, place(order[static_cast<size_t>(i)]), values, to);
      indices.integers[static_cast<size_t>(to)] = order[static_cast<size_t>(i)];
    }
  }
}

/// Slices along `axis` (or elements, when flat) as units: which unit's element j is where.
void unique(const Array& x, int64_t axis, bool sorted, const std::vector<Array*>& outputs, int64_t& count) {
  const bool flat = axis == -1000;
  const int64_t length = flat ? x.count() : x.dims[static_cast<size_t>(axis)];
  const int64_t stride = flat ? 1 : row_major_strides(x.dims)[static_cast<size_t>(axis)];
  const int64_t width = length == 0 ? 0 : x.count() / length;
  const auto place = [&](int64_t unit, int64_t j) { return flat ? unit : (j / stride * length + unit) * stride + j % stride; };
  const auto before = [&](int64_t a, int64_t b) {
    for (int64_t j = 0; j < width; ++j) {
      if (less_at(x, place(a, j), place(b, j))) return true;
      if (less_at(x, place(b, j), place(a, j))) return false;
    }
    return false;
  };
  std::map<int64_t, int64_t, decltype(before)> seen(before);  // unit → number of its kind, in order of first sight
  std::vector<int64_t> firsts, kind_of(static_cast<size_t>(length));
  for (int64_t unit = 0; unit < length; ++unit) {
    const auto [entry, added] = seen.emplace(unit, static_cast<int64_t>(firsts.size()));
    if (added) firsts.push_back(unit);
    kind_of[static_cast<size_t>(unit)] = entry->second;
  }
  std::vector<int64_t> order(firsts.size()), rank(firsts.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  if (sorted)
    std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return before(firsts[static_cast<size_t>(a)], firsts[static_cast<size_t>(b)]); });
  for (size_t i = 0; i < order.size(); ++i) rank[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
  count = static_cast<int64_t>(firsts.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t first = firsts[static_cast<size_t>(order[static_cast<size_t>(i)])];
    for (int64_t j = 0; j < width; ++j) copy_element(x, place(first, j), *outputs[0], place(i, j));
    outputs[1]->integers[static_cast<size_t>(i)] = first;
  }
  for (int64_t unit = 0; unit < length; ++unit) {
    const int64_t at = rank[static_cast<size_t>(kind_of[static_cast<size_t>(unit)])];
    outputs[2]->integers[static_cast<size_t>(unit)] = at;
    ++outputs[3]->integers[static_cast<size_t>(at)];
  }
}

struct Box {
  double y1, x1, y2, x2;
};

Box box_of(const Array& boxes, int64_t index, bool center) {
  const double* b = boxes.reals.data() + index * 4;
  if (center) return {b[1] - b[3] / 2, b[0] - b[2] / 2, b[1] + b[3] / 2, b[0] + b[2] / 2};
  return {std::min(b[0], b[2]), std::min(b[1], b[3]), std::max(b[0], b[2]), std::max(b[1], b[3])};
}

double overlap(const Box& a, const Box& b) {
  const double height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1), width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1);
  if (height <= 0 || width <= 0) return 0;
  const double both = height * width, either = (a.y2 - a.y1) * (a.x2 - a.x1) + (b.y2 - b.y1) * (b.x2 - b.x1) - both;
  return either <= 0 ? 0 : both / either;
}

void suppress(const Array& boxes, const Array& scores, int64_t limit, double iou, double threshold, bool center, Array& out, int64_t& count) {
  const int64_t batches = scores.dims[0], classes = scores.dims[1], n = scores.dims[2];
  for (int64_t batch = 0; batch < batches; ++batch)
    for (int64_t cls = 0; cls < classes; ++cls) {
      const double* score = scores.reals.data() + (batch * classes + cls) * n;
      std::vector<int64_t> order;
      for (int64_t i = 0; i < n; ++i)
        if (score[i] > threshold) order.push_back(i);
      std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return score[a] > score[b]; });
      std::vector<int64_t> kept;
      for (const int64_t i : order) {
        if (static_cast<int64_t>(kept.size()) >= limit) break;
        const Box box = box_of(boxes, batch * n + i, center);
        if (std::any_of(kept.begin(), kept.end(), [&](int64_t other) { return overlap(box, box_of(boxes, batch * n + other, center)) > iou; })) continue;
        kept.push_back(i);
        out.integers[static_cast<size_t>(count * 3)] = batch;
        out.integers[static_cast<size_t>(count * 3 + 1)] = cls;
        out.integers[static_cast<size_t>(count * 3 + 2)] = i;
        ++count;
      }
    }
}

}  // namespace

void interpret(Machine& machine, const Select& select) {
  const auto input = [&](size_t i) -> const Array& { return machine.get(select.inputs.at(i)); };
  std::vector<Array*> outputs;
  for (const TensorId id : select.outputs) outputs.push_back(&machine.create(id));
  machine.run.spend(input(0).count(), select.source);
  int64_t count = 0;
  switch (select.kind) {
    case Select::Kind::nonzero: nonzero(input(0), *outputs[0], count); break;
    case Select::Kind::top_k: top_k(input(0), static_cast<size_t>(select.ints.at(0)), select.ints.at(1) != 0, *outputs[0], *outputs[1], select.source); break;
    case Select::Kind::unique: unique(input(0), select.ints.at(0), select.ints.at(1) != 0, outputs, count); break;
    case Select::Kind::compress: {
      const Array& flags = input(0);
      for (size_t i = 0; i < flags.integers.size(); ++i)
        if (flags.integers[i] != 0) outputs[0]->integers[static_cast<size_t>(count++)] = static_cast<int64_t>(i);
      break;
    }
    case Select::Kind::nms:
      suppress(input(0), input(1), input(2).integers.at(0), input(3).reals.at(0), input(4).reals.at(0), select.ints.at(0) != 0, *outputs[0], count);
      break;
  }
  if (select.count >= 0) machine.create(select.count).integers.at(0) = count;
}

}  // namespace tilewright::pattern
