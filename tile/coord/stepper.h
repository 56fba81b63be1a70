#pragma once

#include "tile/coord/map.h"

namespace tile {

/// A position in a map over built-in integers that moves along one upper coordinate at a time. Only slots that depend on
/// that coordinate are touched; divisions are redone only when a remainder leaves its divisor.
template <class Int>
class Stepper {
 public:
  constexpr Stepper(const CoordMap<Int>& map, std::span<const Int> upper) : map_(&map) {
    for (int d = 0; d < map.rank_in(); ++d) {
      values_.push_back(upper[static_cast<size_t>(d)]);
      rests_.push_back(0);
    }
    for (const Transform<Int>& t : map.transforms()) {
      values_.push_back(0);
      rests_.push_back(0);
      compute(t, values_.size() - 1);
    }
  }

  /// upper[d] += step
  constexpr void move(int d, Int step) {
    ListFor<Int, Int, max_rank + max_transforms> change;
    change.resize(values_.size());
    change[d] = step;
    values_[d] += step;
    const int rank = map_->rank_in();
    for (int i = 0; i < map_->transforms().size(); ++i) {
      const Transform<Int>& t = map_->transforms()[i];
      const int slot = rank + i;
      const Int before = values_[slot];
      if (t.kind == TransformKind::affine) {
        for (int j = 0; j < t.term_count; ++j) {
          const MapTerm<Int>& term = map_->terms()[t.first_term + j];
          values_[slot] += term.factor * change[term.slot];
        }
      } else if (t.kind == TransformKind::swizzle) {
        if (change[t.a] != 0 || change[t.b] != 0) compute(t, slot);
      } else if (change[t.a] != 0) {
        const Int rest = rests_[slot] + change[t.a];
        if (0 <= rest && rest < t.amount) {
          rests_[slot] = rest;
          if (t.kind == TransformKind::remainder) values_[slot] = rest;
        } else {
          compute(t, slot);
        }
      }
      change[slot] = values_[slot] - before;
    }
  }

  constexpr Int lower(int i) const { return values_[map_->outputs()[i]]; }
  constexpr bool valid() const {
    for (const Condition<Int>& c : map_->conditions()) {
      const Int v = values_[c.slot];
      if (c.kind == Condition<Int>::range ? v < c.low || v >= c.high : floor_mod(v, c.high) != 0) return false;
    }
    return true;
  }

 private:
  constexpr void compute(const Transform<Int>& t, int slot) {
    switch (t.kind) {
      case TransformKind::affine:
        values_[slot] = t.amount;
        for (int j = 0; j < t.term_count; ++j) values_[slot] += map_->terms()[t.first_term + j].factor * values_[map_->terms()[t.first_term + j].slot];
        break;
      case TransformKind::divide:
        values_[slot] = floor_div(values_[t.a], t.amount);
        rests_[slot] = values_[t.a] - values_[slot] * t.amount;
        break;
      case TransformKind::remainder: values_[slot] = rests_[slot] = floor_mod(values_[t.a], t.amount); break;
      case TransformKind::swizzle: values_[slot] = swizzle(values_[t.a], values_[t.b], t.shift, t.bits); break;
    }
  }

  const CoordMap<Int>* map_;  ///< not owned; outlives the stepper
  ListFor<Int, Int, max_rank + max_transforms> values_, rests_;
};

}  // namespace tile
