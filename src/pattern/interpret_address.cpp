#include "pattern/interpret_address.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace tilewright::pattern {

int64_t element_count(const std::vector<int64_t>& dims) {
  int64_t count = 1;
  bool empty = false;
  for (const int64_t dim : dims) {
    if (dim < 0) fail(ErrorKind::invalid_input, "a tensor would have the negative size {}", dim);
    empty |= dim == 0;
  }
  if (empty) return 0;
  for (const int64_t dim : dims)
    if (__builtin_mul_overflow(count, dim, &count)) fail(ErrorKind::invalid_input, "[{}]: the number of elements overflows 64 bits", fmt::join(dims, ","));
  return count;
}

std::vector<int64_t> row_major_strides(const std::vector<int64_t>& dims) {
  std::vector<int64_t> strides(dims.size(), 1);
  // Of an empty tensor no stride is ever used, and their products may not fit.
  if (std::find(dims.begin(), dims.end(), 0) != dims.end()) return strides;
  for (size_t axis = dims.size(); axis-- > 1;) strides[axis - 1] = strides[axis] * dims[axis];
  return strides;
}

std::vector<int64_t> evaluate(const Dims& dims, const Sizes& sizes) {
  std::vector<int64_t> values;
  values.reserve(dims.size());
  for (const Dim& dim : dims) values.push_back(dim.evaluate(sizes));
  return values;
}

namespace {

// Wrapping: hostile sizes may overflow here; the wrapped coordinates are then checked against the tensor like any others.
int64_t plus(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b)); }
int64_t times(int64_t a, int64_t b) { return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b)); }

}  // namespace

Addressing::Addressing(const Map& map, const Sizes& sizes, const std::vector<int64_t>& extents, const std::vector<int64_t>& dims) : rank_in_(extents.size()) {
  const tile::CoordMap<int64_t> numbers = tilewright::evaluate(map, sizes);
  ensure(numbers.rank_in() == static_cast<int>(extents.size()) && numbers.rank_out() == static_cast<int>(dims.size()), "a map's ranks");
  std::vector<Sum> slots;
  for (size_t d = 0; d < extents.size(); ++d) {
    ranges_.push_back({true, 0, std::max(0.0, static_cast<double>(extents[d]) - 1)});
    slots.push_back(extents[d] == 1 ? Sum{} : Sum{0, {{d, 1}}});
  }
  for (const auto& t : numbers.transforms()) {
    if (t.kind == tile::TransformKind::affine) {
      Sum sum{t.amount, {}};
      for (int i = t.first_term; i < t.first_term + t.term_count; ++i) add(sum, slots[static_cast<size_t>(numbers.terms()[i].slot)], numbers.terms()[i].factor);
      slots.push_back(std::move(sum));
      continue;
    }
    // An empty extent as divisor has no coordinates to divide.
    const Sum second = t.kind == tile::TransformKind::swizzle ? slots[static_cast<size_t>(t.b)] : Sum{};
    derived_.push_back({t.kind, slots[static_cast<size_t>(t.a)], second, t.amount == 0 ? 1 : t.amount, t.shift, t.bits});
    ranges_.push_back(range_of(derived_.back()));
    slots.push_back({0, {{ranges_.size() - 1, 1}}});
  }
  for (const auto& c : numbers.conditions()) {
    const Sum& value = slots[static_cast<size_t>(c.slot)];
    if (c.kind == tile::Condition<int64_t>::divisible)
      divisibilities_.push_back({value, c.high == 0 ? 1 : c.high});
    else if (!inside(value, c.low, c.high))
      conditions_.push_back({value, c.low, c.high});
  }
  const std::vector<int64_t> strides = row_major_strides(dims);
  for (size_t axis = 0; axis < dims.size(); ++axis) {
    const Sum& value = slots[static_cast<size_t>(numbers.outputs()[static_cast<int>(axis)])];
    add(sum_, value, strides[axis]);
    if (!inside(value, 0, dims[axis])) bounds_.push_back({value, 0, dims[axis]});
  }
}

void Addressing::add(Sum& into, const Sum& what, int64_t factor) {
  into.base = plus(into.base, times(factor, what.base));
  for (const auto& [column, old_factor] : what.terms) {
    const auto found = std::find_if(into.terms.begin(), into.terms.end(), [&, at = column](const auto& t) { return t.first == at; });
    if (found != into.terms.end())
      found->second = plus(found->second, times(factor, old_factor));
    else
      into.terms.emplace_back(column, times(factor, old_factor));
  }
  std::erase_if(into.terms, [](const auto& t) { return t.second == 0; });
}

Addressing::Range Addressing::range_of(const Sum& sum) const {
  Range result{true, static_cast<double>(sum.base), static_cast<double>(sum.base)};
  for (const auto& [column, factor] : sum.terms) {
    const Range& of = ranges_[column];
    const double f = static_cast<double>(factor);
    result.known = result.known && of.known;
    result.low += f * (factor > 0 ? of.low : of.high);
    result.high += f * (factor > 0 ? of.high : of.low);
  }
  result.known = result.known && std::abs(result.low) < 0x1p53 && std::abs(result.high) < 0x1p53;
  return result;
}

Addressing::Range Addressing::range_of(const Derived& derived) const {
  const double amount = static_cast<double>(derived.amount);
  if (derived.kind == tile::TransformKind::remainder) return {derived.amount > 0, 0, amount - 1};
  const Range of = range_of(derived.a);
  if (derived.kind == tile::TransformKind::divide) return {of.known && derived.amount > 0, std::floor(of.low / amount), std::floor(of.high / amount)};
  return {false, 0, 0};
}

bool Addressing::inside(const Sum& sum, int64_t low, int64_t high) const {
  const Range range = range_of(sum);
  return range.known && static_cast<double>(low) <= range.low && range.high < static_cast<double>(high);
}

void Addressing::evaluate_sum(const Sum& sum, size_t count, std::vector<int64_t>& result) const {
  if (result.size() < count) result.resize(count);
  int64_t* out = result.data();
  if (sum.terms.empty()) {
    std::fill_n(out, count, sum.base);
    return;
  }
  bool first = true;
  for (const auto& [column, factor] : sum.terms) {
    const int64_t* in = columns_[column];
    if (first && factor == 1)
      for (size_t p = 0; p < count; ++p) out[p] = plus(sum.base, in[p]);
    else if (first)
      for (size_t p = 0; p < count; ++p) out[p] = plus(sum.base, times(factor, in[p]));
    else if (factor == 1)
      for (size_t p = 0; p < count; ++p) out[p] = plus(out[p], in[p]);
    else
      for (size_t p = 0; p < count; ++p) out[p] = plus(out[p], times(factor, in[p]));
    first = false;
  }
}

void Addressing::compute(const std::vector<const int64_t*>& upper, size_t count, const uint8_t* masked, const std::string& what) {
  columns_ = upper;
  derived_columns_.resize(derived_.size());
  for (size_t i = 0; i < derived_.size(); ++i) {
    const Derived& d = derived_[i];
    evaluate_sum(d.a, count, scratch_);
    if (d.kind == tile::TransformKind::swizzle) evaluate_sum(d.b, count, scratch_b_);
    std::vector<int64_t>& column = derived_columns_[i];
    if (column.size() < count) column.resize(count);
    switch (d.kind) {
      case tile::TransformKind::divide:
        for (size_t p = 0; p < count; ++p) column[p] = tile::floor_div(scratch_[p], d.amount);
        break;
      case tile::TransformKind::remainder:
        for (size_t p = 0; p < count; ++p) column[p] = tile::floor_mod(scratch_[p], d.amount);
        break;
      default:
        for (size_t p = 0; p < count; ++p) column[p] = tile::swizzle(scratch_[p], scratch_b_[p], d.shift, d.bits);
    }
    columns_.push_back(column.data());
  }
  evaluate_sum(sum_, count, address_);

  has_mask_ = masked != nullptr || !conditions_.empty() || !divisibilities_.empty();
  if (has_mask_) {
    if (valid_.size() < count) valid_.resize(count);
    masked != nullptr ? void(std::copy_n(masked, count, valid_.begin())) : void(std::fill_n(valid_.begin(), count, uint8_t{1}));
    for (const Check& c : conditions_) {
      evaluate_sum(c.value, count, scratch_);
      for (size_t p = 0; p < count; ++p) valid_[p] &= static_cast<uint8_t>(c.low <= scratch_[p] && scratch_[p] < c.high);
    }
    for (const Divisibility& c : divisibilities_) {
      evaluate_sum(c.value, count, scratch_);
      for (size_t p = 0; p < count; ++p) valid_[p] &= static_cast<uint8_t>(tile::floor_mod(scratch_[p], c.by) == 0);
    }
    for (size_t p = 0; p < count; ++p) address_[p] = valid_[p] ? address_[p] : 0;
  }
  for (const Check& c : bounds_) {
    evaluate_sum(c.value, count, scratch_);
    for (size_t p = 0; p < count; ++p)
      if ((!has_mask_ || valid_[p]) && (scratch_[p] < c.low || scratch_[p] >= c.high))
        fail(ErrorKind::internal, "internal error: {}: coordinate {} lies outside [0,{})", what, scratch_[p], c.high);
  }
}

void Addressing::mark(const Sum& sum, std::vector<char>& marked) const {
  for (const auto& [column, factor] : sum.terms) {
    if (column < rank_in_) {
      marked[column] = 1;
      continue;
    }
    mark(derived_[column - rank_in_].a, marked);
    mark(derived_[column - rank_in_].b, marked);
  }
}

std::vector<char> Addressing::depends_on(size_t rank) const {
  std::vector<char> marked(std::max(rank, rank_in_), 0);
  mark(sum_, marked);
  for (const Check& c : conditions_) mark(c.value, marked);
  for (const Divisibility& c : divisibilities_) mark(c.value, marked);
  for (const Check& c : bounds_) mark(c.value, marked);
  return marked;
}

}  // namespace tilewright::pattern
