#include <algorithm>

#include "pattern/interpret.h"

namespace tilewright::pattern {
namespace {

/// base + Σ stride·coordinate, and ranges of such sums outside of which the element counts as 0.
struct Affine {
  int64_t base = 0;
  std::vector<int64_t> strides;

  int64_t at(const std::vector<int64_t>& point) const {
    int64_t value = base;
    for (size_t d = 0; d < strides.size(); ++d) value += strides[d] * point[d];
    return value;
  }
};

struct Strided {
  const double* data = nullptr;
  Affine address;
  struct Range { Affine value; int64_t low, high; };
  std::vector<Range> ranges;
};

/// The access in strided form; nothing when it divides, gathers, fills with other than 0 or reads no floats.
std::optional<Strided> strided(Machine& machine, const Nest& nest, ExprId factor, const std::vector<int64_t>& extents) {
  const ExprNode& node = nest.nodes.at(static_cast<size_t>(factor));
  if (node.op != ExprOp::load || !is_float(node.dtype)) return std::nullopt;
  const Access& access = nest.accesses.at(static_cast<size_t>(node.integer));
  if (!access.indirect.empty()) return std::nullopt;
  if (access.fill) {
    const ExprNode& fill = nest.nodes.at(static_cast<size_t>(*access.fill));
    if (fill.op != ExprOp::constant || fill.real != 0) return std::nullopt;
  }
  const auto map = evaluate(access.map, machine.sizes);
  const Array& array = machine.get(access.tensor);
  std::vector<Affine> slots;
  for (size_t d = 0; d < extents.size(); ++d) {
    slots.push_back({0, std::vector<int64_t>(extents.size(), 0)});
    slots.back().strides[d] = 1;
  }
  for (const auto& transform : map.transforms()) {
    if (transform.kind != tile::TransformKind::affine) return std::nullopt;
    Affine sum{transform.amount, std::vector<int64_t>(extents.size(), 0)};
    for (int t = transform.first_term; t < transform.first_term + transform.term_count; ++t) {
      const Affine& slot = slots[static_cast<size_t>(map.terms()[t].slot)];
      sum.base += map.terms()[t].factor * slot.base;
      for (size_t d = 0; d < extents.size(); ++d) sum.strides[d] += map.terms()[t].factor * slot.strides[d];
    }
    slots.push_back(std::move(sum));
  }
  Strided result;
  result.data = array.reals.data();
  result.address = {0, std::vector<int64_t>(extents.size(), 0)};
  const std::vector<int64_t> strides = row_major_strides(array.dims);
  for (int axis = 0; axis < map.rank_out(); ++axis) {
    const Affine& slot = slots[static_cast<size_t>(map.outputs()[axis])];
    result.address.base += strides[static_cast<size_t>(axis)] * slot.base;
    for (size_t d = 0; d < extents.size(); ++d) result.address.strides[d] += strides[static_cast<size_t>(axis)] * slot.strides[d];
  }
  for (const auto& condition : map.conditions()) {
    if (condition.kind != tile::Condition<int64_t>::range) return std::nullopt;
    result.ranges.push_back({slots[static_cast<size_t>(condition.slot)], condition.low, condition.high});
  }
  return result;
}

/// Narrows [low, high) of the run coordinate to where value(start + k·stride) lies in the range.
void narrow(const Strided::Range& range, const std::vector<int64_t>& point, size_t axis, int64_t& low, int64_t& high) {
  const int64_t start = range.value.at(point), step = range.value.strides[axis];
  if (step == 0) {
    if (start < range.low || start >= range.high) high = low;
    return;
  }
  const auto divide_up = [](int64_t a, int64_t b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); };
  if (step > 0) {
    low = std::max(low, divide_up(range.low - start, step));
    high = std::min(high, divide_up(range.high - start, step));
  } else {
    low = std::max(low, divide_up(start - range.high + 1, -step));
    high = std::min(high, divide_up(start - range.low + 1, -step));
  }
}

bool next(std::vector<int64_t>& point, const std::vector<int64_t>& extents, size_t begin, size_t end) {
  for (size_t axis = end; axis-- > begin;) {
    if (++point[axis] < extents[axis]) return true;
    point[axis] = 0;
  }
  return false;
}

}  // namespace

bool contract_strided(Machine& machine, const Nest& nest, const std::vector<int64_t>& extents, std::vector<double>& sums) {
  const ExprNode& product = nest.nodes.at(static_cast<size_t>(nest.reductions[0].value));
  if (!is_float(product.dtype)) return false;
  const auto a = strided(machine, nest, product.args[0], extents), b = strided(machine, nest, product.args[1], extents);
  if (!a || !b) return false;
  const size_t kept_rank = extents.size() - static_cast<size_t>(nest.reduced_rank);
  const std::vector<int64_t> kept(extents.begin(), extents.begin() + static_cast<std::ptrdiff_t>(kept_rank));
  sums.assign(static_cast<size_t>(element_count(kept)), 0.0);
  if (element_count(extents) == 0) return true;
  // Runs go along the last kept coordinate unless it is short, then along the last reduced one.
  const bool along_kept = kept_rank > 0 && (kept.back() >= 8 || nest.reduced_rank == 0 || kept.back() >= extents.back());
  const size_t run = along_kept ? kept_rank - 1 : extents.size() - 1;
  std::vector<int64_t> point(extents.size(), 0);
  const int64_t step_a = a->address.strides[run], step_b = b->address.strides[run];
  const std::vector<int64_t> strides = row_major_strides(kept);
  do {
    double* sum = sums.data();
    for (size_t d = 0; d < kept_rank; ++d) sum += strides[d] * point[d];
    do {
      int64_t low = 0, high = extents[run];
      for (const auto* operand : {&*a, &*b})
        for (const Strided::Range& range : operand->ranges) narrow(range, point, run, low, high);
      const double* left = a->data + a->address.at(point);
      const double* right = b->data + b->address.at(point);
      if (along_kept) {
        for (int64_t k = low; k < high; ++k) sum[k] += left[k * step_a] * right[k * step_b];
      } else {
        double total = 0;
        for (int64_t k = low; k < high; ++k) total += left[k * step_a] * right[k * step_b];
        *sum += total;
      }
    } while (next(point, extents, kept_rank, along_kept ? extents.size() : extents.size() - 1));
  } while (next(point, extents, 0, along_kept ? kept_rank - 1 : kept_rank));
  return true;
}

}  // namespace tilewright::pattern
