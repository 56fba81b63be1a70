#pragma once

#include "tile/coord/rewrite.h"

namespace tile {

template <class Int>
constexpr bool CoordMap<Int>::operator==(const CoordMap& o) const {
  if (!(extents_ == o.extents_ && terms_ == o.terms_ && conditions_ == o.conditions_ && outputs_ == o.outputs_)) return false;
  if (transforms_.size() != o.transforms_.size()) return false;
  for (int i = 0; i < transforms_.size(); ++i) {
    const Transform<Int>&x = transforms_[i], &y = o.transforms_[i];
    if (x.kind != y.kind || x.first_term != y.first_term || x.term_count != y.term_count || x.a != y.a || x.b != y.b || x.shift != y.shift ||
        x.bits != y.bits || !(x.amount == y.amount))
      return false;
  }
  return true;
}

template <class Int>
template <class OnCondition>
constexpr void CoordMap<Int>::lower(std::span<const Int> upper, std::span<Int> result, OnCondition&& on_condition) const {
  ListFor<Int, Int, max_rank + max_transforms> values;
  for (int d = 0; d < rank_in(); ++d) values.push_back(upper[static_cast<size_t>(d)]);
  for (const Transform<Int>& t : transforms_) {
    switch (t.kind) {
      case TransformKind::divide: values.push_back(floor_div(values[t.a], t.amount)); break;
      case TransformKind::remainder: values.push_back(floor_mod(values[t.a], t.amount)); break;
      case TransformKind::swizzle: values.push_back(swizzle(values[t.a], values[t.b], t.shift, t.bits)); break;
      case TransformKind::affine: {
        Int sum = t.amount;
        for (int i = 0; i < t.term_count; ++i) sum = sum + terms_[t.first_term + i].factor * values[terms_[t.first_term + i].slot];
        values.push_back(sum);
      }
    }
  }
  for (const Condition<Int>& c : conditions_) {
    if (c.kind == Condition<Int>::range)
      on_condition.range(values[c.slot], c.low, c.high);
    else
      on_condition.divisible(values[c.slot], c.high);
  }
  for (int i = 0; i < outputs_.size(); ++i) result[static_cast<size_t>(i)] = values[outputs_[i]];
}

/// Decides conditions on built-in integers.
struct ValidityCheck {
  bool valid = true;
  constexpr void range(int64_t value, int64_t low, int64_t high) { valid = valid && low <= value && value < high; }
  constexpr void divisible(int64_t value, int64_t by) { valid = valid && floor_mod(value, by) == 0; }
};

template <class Int>
constexpr bool CoordMap<Int>::lower(std::span<const Int> upper, std::span<Int> result) const {
  ValidityCheck check;
  lower(upper, result, check);
  return check.valid;
}

/// How slots move along the last upper coordinate u inside a group of w values that starts at a multiple of w: each slot
/// has a constant step, or the group is refused.
template <class Int>
class GroupSteps {
 public:
  constexpr GroupSteps(const CoordMap<Int>& map, int64_t width) : map_(map), width_(width) {
    for (int d = 0; d < map.rank_in(); ++d) steps_.push_back({true, d == map.rank_in() - 1 ? 1 : 0});
    for (const Transform<Int>& t : map.transforms()) steps_.push_back(step_of(t));
  }

  constexpr bool exists(int slot) const { return steps_[slot].exists; }
  constexpr int64_t operator[](int slot) const { return steps_[slot].step; }

  /// Whether the condition has one answer in each group.
  constexpr bool uniform(const Condition<Int>& c) const {
    const Step s = steps_[c.slot];
    if (!s.exists) return false;
    if (s.step == 0) return true;
    if (c.kind == Condition<Int>::divisible) return known(c.high) && *known(c.high) != 0 && s.step % *known(c.high) == 0;
    // No group straddles a bound when groups stay inside blocks of g and the bounds are block edges.
    const std::optional<int64_t> low = known(c.low), high = known(c.high);
    if (!low || !high) return false;
    const Alignment a = alignment(c.slot, 0);
    return a.exists && stays_inside(a, s.step) && floor_mod(*low - a.offset, a.block) == 0 && floor_mod(*high - a.offset, a.block) == 0 &&
           floor_mod(a.offset, a.block) == 0;
  }

 private:
  struct Step {
    bool exists = false;
    int64_t step = 0;
  };
  /// A slot at the start of a group is offset plus a multiple of block.
  struct Alignment {
    bool exists = false;
    int64_t block = 0, offset = 0;
  };

  constexpr const Transform<Int>* affine_at(int slot) const {
    if (slot < map_.rank_in()) return nullptr;
    const Transform<Int>& t = map_.transforms()[slot - map_.rank_in()];
    return t.kind == TransformKind::affine ? &t : nullptr;
  }

  /// Modulo k; k = 0 means exactly.
  constexpr Alignment alignment(int slot, const Int& k) const {
    Alignment a{true, known(k).value_or(0), 0};
    const auto join = [&](int of, const Int& factor) {
      if (known(k) != 0 && is_multiple(factor, k)) return;
      const std::optional<int64_t> f = known(factor);
      if (!f) {
        a.block = 1;
        return;
      }
      int64_t multiple = *f;
      if (of == map_.rank_in() - 1 && __builtin_mul_overflow(*f, width_, &multiple)) multiple = *f;
      a.block = std::gcd(a.block, multiple);
    };
    if (const Transform<Int>* t = affine_at(slot)) {
      for (int i = 0; i < t->term_count; ++i) join(map_.terms()[t->first_term + i].slot, map_.terms()[t->first_term + i].factor);
      const std::optional<int64_t> offset = known(t->amount);
      if (offset)
        a.offset = *offset;
      else if (!(known(k) != 0 && is_multiple(t->amount, k)))
        return {};
    } else {
      join(slot, Int(1));
    }
    return a;
  }

  /// Steps from a group's start never leave the block the start lies in.
  constexpr bool stays_inside(const Alignment& a, int64_t step) const {
    if (a.block <= 0) return false;
    int64_t reach = 0;
    if (__builtin_mul_overflow(step, width_ - 1, &reach)) return false;
    const int64_t start = floor_mod(a.offset, a.block);
    return start + reach >= 0 && reach < a.block - start;
  }

  constexpr Step step_of(const Transform<Int>& t) const {
    if (t.kind == TransformKind::affine) {
      int64_t sum = 0;
      for (int i = 0; i < t.term_count; ++i) {
        const MapTerm<Int>& term = map_.terms()[t.first_term + i];
        const Step s = steps_[term.slot];
        if (!s.exists) return {};
        if (s.step == 0) continue;
        const std::optional<int64_t> factor = known(term.factor);
        if (!factor) return {};
        sum += *factor * s.step;
      }
      return {true, sum};
    }
    const Step a = steps_[t.a];
    if (!a.exists) return {};
    if (t.kind == TransformKind::swizzle) {
      const Step b = steps_[t.b];
      if (!b.exists || b.step != 0) return {};
      if (a.step == 0) return {true, 0};
      return {a.step > 0 && stays_inside(alignment(t.a, Int(int64_t{1} << t.shift)), a.step), a.step};
    }
    if (a.step == 0) return {true, 0};
    const std::optional<int64_t> k = known(t.amount);
    const bool divides = t.kind == TransformKind::divide;
    if (k && *k > 0 && a.step % *k == 0) return {true, divides ? a.step / *k : 0};
    if (!k) return {};
    const Alignment at = alignment(t.a, t.amount);
    if (!at.exists || !stays_inside(at, a.step)) return {};
    return {true, divides ? 0 : a.step};
  }

  const CoordMap<Int>& map_;
  int64_t width_;
  ListFor<Step, Int, max_rank + max_transforms> steps_;
};

template <class Int>
constexpr int64_t CoordMap<Int>::contiguous_width(std::span<const Int> lower_strides) const {
  if (rank_in() == 0) return 1;
  // The address as one more coordinate, so that unmerged coordinates with matching strides rejoin.
  Rewriter<Int> rewriter(*this);
  Linear<Int> address;
  for (int i = 0; i < outputs_.size(); ++i) Rewriter<Int>::add(address, rewriter.expand(outputs_[i]), lower_strides[static_cast<size_t>(i)]);
  rewriter.rejoin(address);
  SumsFor<Int> only;
  only.push_back(address);
  const CoordMap addressed = rewriter.finish(only);

  const auto holds = [&](int64_t width) {
    const GroupSteps<Int> steps(addressed, width);
    const int slot = addressed.outputs_[0];
    if (!steps.exists(slot) || steps[slot] != 1) return false;
    for (const Condition<Int>& c : addressed.conditions_)
      if (!steps.uniform(c)) return false;
    return true;
  };

  const std::optional<int64_t> extent = known(extents_[rank_in() - 1]);
  if (extent && *extent <= 1) return 1;
  const int64_t most = extent.value_or(unbounded);
  // A width w with no blocks in the way holds for every w; blocks come from divisors, bounds and swizzles.
  if (holds(most)) return most;
  int64_t best = 1;
  const auto consider = [&](int64_t width) {
    if (width > best && width <= most && holds(width)) best = width;
  };
  for (int bit = 1; bit <= 20; ++bit) consider(int64_t{1} << bit);
  const auto consider_divisors = [&](int64_t of) {
    if (of < 0) of = of == INT64_MIN ? 0 : -of;
    for (int64_t d = 1; d <= 64 && d <= of; ++d) {
      if (of % d != 0) continue;
      consider(d);
      consider(of / d);
    }
  };
  if (extent) consider_divisors(*extent);
  for (const Transform<Int>& t : addressed.transforms_) consider_divisors(known(t.amount).value_or(0));
  for (const Condition<Int>& c : addressed.conditions_) {
    consider_divisors(known(c.low).value_or(0));
    consider_divisors(known(c.high).value_or(0));
    if (known(c.low) && known(c.high)) consider_divisors(std::gcd(*known(c.low), *known(c.high)));
  }
  return best;
}

/// One digit of an upper coordinate: floor(coordinate / weight) mod base.
template <class Int>
struct Digit {
  int coordinate = 0;
  Int weight = 1, base = 1;
  int output = 0;         ///< the lower coordinate it is found in …
  Int place = 1;          ///< … as floor(lower / place) mod base,
  bool mirrored = false;  ///< counted from the other end
  bool placed = false, used = false;
};

template <class Int>
constexpr std::optional<CoordMap<Int>> CoordMap<Int>::inverted() const {
  if (may_be_invalid()) return std::nullopt;
  using Digits = ListFor<Digit<Int>, Int, 2 * max_rank>;
  Rewriter<Int> reader(*this);
  Digits digits;
  Extents lower_extents;

  const auto digit_of = [&](int slot) -> std::optional<Digit<Int>> {
    Digit<Int> d;
    bool has_base = false;
    if (slot >= rank_in() && transforms_[slot - rank_in()].kind == TransformKind::remainder) {
      d.base = transforms_[slot - rank_in()].amount;
      has_base = true;
      slot = transforms_[slot - rank_in()].a;
    }
    if (slot >= rank_in() && transforms_[slot - rank_in()].kind == TransformKind::divide) {
      d.weight = transforms_[slot - rank_in()].amount;
      slot = transforms_[slot - rank_in()].a;
    }
    if (slot >= rank_in()) return std::nullopt;
    d.coordinate = slot;
    if (!has_base) {
      if (!is_multiple(extents_[slot], d.weight)) return std::nullopt;
      d.base = floor_div(extents_[slot], d.weight);
    }
    return d;
  };

  // Each lower coordinate must be a number in mixed radix whose digits are digits of upper coordinates.
  for (int i = 0; i < outputs_.size(); ++i) {
    Linear<Int> sum = reader.expand(outputs_[i]);
    Int next = 1;
    while (!sum.terms.empty()) {
      bool found = false;
      for (int j = 0; j < sum.terms.size() && !found; ++j) {
        const Int factor = sum.terms[j].factor;
        const bool mirrored = factor == Int(0) - next;
        if (!(factor == next) && !mirrored) continue;
        std::optional<Digit<Int>> d = digit_of(sum.terms[j].slot);
        if (!d || known(d->base) == 0) return std::nullopt;
        d->output = i;
        d->place = next;
        d->mirrored = mirrored;
        if (mirrored) sum.offset = sum.offset - (d->base - Int(1)) * next;
        digits.push_back(*d);
        next = next * d->base;
        erase_at(sum.terms, j);
        found = true;
      }
      if (!found) return std::nullopt;
    }
    if (!(sum.offset == Int(0))) return std::nullopt;
    lower_extents.push_back(next);
  }

  // The digits of each upper coordinate must make it up, each once.
  ViewStep<Int> step(lower_extents);
  SumsFor<Int> upper;
  for (int c = 0; c < rank_in(); ++c) {
    Linear<Int> sum;
    Int weight = 1;
    while (!(weight == extents_[c])) {
      bool found = false;
      for (Digit<Int>& d : digits) {
        if (d.used || d.coordinate != c || !(d.weight == weight) || known(d.base) == 1) continue;
        Linear<Int> value = step.rewriter().quotient(step.rewriter().coordinate(d.output), d.place);
        value = step.rewriter().remainder(value, d.base);
        if (d.mirrored) {
          value = Rewriter<Int>::scaled(value, Int(-1));
          value.offset = value.offset + d.base - Int(1);
        }
        Rewriter<Int>::add(sum, value, weight);
        weight = weight * d.base;
        d.used = true;
        found = true;
        break;
      }
      if (!found) return std::nullopt;
    }
    step.rewriter().rejoin(sum);
    upper.push_back(sum);
  }
  for (const Digit<Int>& d : digits)
    if (!d.used && !(d.base == Int(1))) return std::nullopt;
  return step.rewriter().finish(upper);
}

}  // namespace tile
