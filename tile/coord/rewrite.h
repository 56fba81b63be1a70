#pragma once

#include <utility>

#include "tile/coord/map.h"

namespace tile {

/// A sum over slots: what the algebra computes with.
template <class Int>
struct Linear {
  ListFor<MapTerm<Int>, Int, 2 * max_rank> terms;  ///< slots ascending, factors not 0
  Int offset = 0;
};

/// Inclusive bounds of a slot over all valid coordinates.
template <class Int>
struct SlotRange {
  bool exists = false;
  Int low = 0, high = 0;
};

/// Builds a map by rules that simplify while they build: sums of sums are one sum, divisions split off whole multiples,
/// what is proven to lie inside a divisor passes through, quotient and remainder rejoin.
template <class Int>
class Rewriter {
 public:
  using Sum = Linear<Int>;
  using Map = CoordMap<Int>;

  constexpr explicit Rewriter(std::span<const Int> extents) {
    for (const Int& e : extents) map_.extents_.push_back(e);
    for (const Int& e : extents) ranges_.push_back({true, Int(0), e - Int(1)});
  }

  /// Goes on from a map: its transforms and conditions are there.
  constexpr explicit Rewriter(Map start) : map_(std::move(start)) {
    for (const Int& e : map_.extents_) ranges_.push_back({true, Int(0), e - Int(1)});
    for (int i = 0; i < map_.transforms_.size(); ++i) ranges_.push_back(range_of_transform(map_.transforms_[i]));
    for (const Condition<Int>& c : map_.conditions_)
      if (c.kind == Condition<Int>::range) learn(expand(c.slot), c.slot, c.low, c.high);
  }

  constexpr Sum coordinate(int slot) const { return one(slot); }
  static constexpr Sum constant(const Int& value) {
    Sum s;
    s.offset = value;
    return s;
  }

  /// The sum that a slot stands for.
  constexpr Sum expand(int slot) const {
    const Transform<Int>* t = transform_at(slot);
    if (t == nullptr || t->kind != TransformKind::affine) return one(slot);
    Sum s = constant(t->amount);
    for (int i = 0; i < t->term_count; ++i) s.terms.push_back(map_.terms_[t->first_term + i]);
    return s;
  }

  /// into += factor * what
  static constexpr void add(Sum& into, const Sum& what, const Int& factor) {
    for (const MapTerm<Int>& t : what.terms) add_term(into, t.slot, t.factor * factor);
    into.offset = into.offset + what.offset * factor;
  }

  static constexpr Sum scaled(const Sum& what, const Int& factor) {
    Sum s;
    add(s, what, factor);
    return s;
  }

  /// floor(x / k)
  constexpr Sum quotient(const Sum& x, const Int& k) {
    if (known(k) == 1) return x;
    auto [whole, rest] = split(x, k);
    if (within(rest, k)) return whole;
    Sum parted, others;
    Int factor = 1;
    if (part(rest, k, parted, others, factor)) {
      add(whole, quotient(parted, floor_div(k, factor)), Int(1));
      return whole;
    }
    if (rest.terms.size() == 1 && rest.terms[0].factor == Int(1)) {
      if (const Transform<Int>* found = transform_at(rest.terms[0].slot)) {
        const Transform<Int> t = *found;
        if (t.kind == TransformKind::divide) {  // floor((floor(a/m) + c)/k) = floor((a + c*m)/(m*k))
          Sum inner = expand(t.a);
          inner.offset = inner.offset + rest.offset * t.amount;
          add(whole, quotient(inner, t.amount * k), Int(1));
          return whole;
        }
        if (t.kind == TransformKind::remainder && rest.offset == Int(0) && is_multiple(t.amount, k)) {
          add(whole, remainder(quotient(expand(t.a), k), floor_div(t.amount, k)), Int(1));
          return whole;
        }
      }
    }
    add(whole, one(append(TransformKind::divide, slot_of(rest), k)), Int(1));
    return whole;
  }

  /// x mod k
  constexpr Sum remainder(const Sum& x, const Int& k) {
    if (known(k) == 1) return constant(Int(0));
    Sum rest = split(x, k).rest;
    if (within(rest, k)) return rest;
    Sum parted, others;
    Int factor = 1;
    if (part(rest, k, parted, others, factor)) {
      Sum result = scaled(remainder(parted, floor_div(k, factor)), factor);
      add(result, others, Int(1));
      return result;
    }
    if (rest.terms.size() == 1 && rest.terms[0].factor == Int(1)) {
      if (const Transform<Int>* t = transform_at(rest.terms[0].slot); t != nullptr && t->kind == TransformKind::remainder && is_multiple(t->amount, k)) {
        Sum inner = expand(t->a);
        inner.offset = inner.offset + rest.offset;
        return remainder(inner, k);
      }
    }
    return one(append(TransformKind::remainder, slot_of(rest), k));
  }

  constexpr Sum swizzled(const Sum& a, const Sum& b, int shift, int bits) {
    Transform<Int> t;
    t.kind = TransformKind::swizzle;
    t.a = slot_of(a);
    t.b = slot_of(b);
    t.shift = shift;
    t.bits = bits;
    return one(append(t));
  }

  /// Rejoins k*floor(x/k) + x mod k = x, and k*(floor(x/k) mod m) + x mod k = x mod (k*m).
  constexpr void rejoin(Sum& sum) {
    for (bool changed = true; changed;) {
      changed = false;
      for (int i = 0; i < sum.terms.size() && !changed; ++i) {
        const Transform<Int>* t = transform_at(sum.terms[i].slot);
        if (t != nullptr && t->kind == TransformKind::remainder) changed = rejoin_at(sum, i, t->a, t->amount);
      }
    }
  }

  constexpr void require_range(const Sum& value, const Int& low, const Int& high) {
    const SlotRange<Int> r = range_of(value);
    if (r.exists && proven_nonnegative(r.low - low) && proven_nonnegative(high - Int(1) - r.high)) return;
    // The offset goes to the bounds, so that shifted copies of one sum share a slot.
    Sum moved = value;
    Int bound_low = low, bound_high = high;
    if (!moved.terms.empty()) {
      bound_low = low - moved.offset;
      bound_high = high - moved.offset;
      moved.offset = Int(0);
    }
    Condition<Int> c;
    c.slot = slot_of(moved);
    c.low = bound_low;
    c.high = bound_high;
    push_condition(c);
    learn(moved, c.slot, bound_low, bound_high);
  }

  constexpr void require_divisible(const Sum& value, const Int& by) {
    const Sum rest = split(value, by).rest;
    if (rest.terms.empty() && rest.offset == Int(0)) return;
    Condition<Int> c;
    c.kind = Condition<Int>::divisible;
    c.slot = slot_of(rest);
    c.high = by;
    push_condition(c);
  }

  /// Appends `inner`, its upper coordinates being `inputs`; returns its lower coordinates.
  template <class Sums>
  constexpr Sums attach(const CoordMap<Int>& inner, const Sums& inputs) {
    ListFor<Sum, Int, max_rank + max_transforms> values;
    for (const Sum& s : inputs) values.push_back(s);
    for (int i = 0; i < inner.transforms_.size(); ++i) {
      const Transform<Int>& t = inner.transforms_[i];
      if (t.kind == TransformKind::divide) {
        values.push_back(quotient(values[t.a], t.amount));
      } else if (t.kind == TransformKind::remainder) {
        values.push_back(remainder(values[t.a], t.amount));
      } else if (t.kind == TransformKind::swizzle) {
        values.push_back(swizzled(values[t.a], values[t.b], t.shift, t.bits));
      } else {
        Sum s = constant(t.amount);
        for (int j = 0; j < t.term_count; ++j) add(s, values[inner.terms_[t.first_term + j].slot], inner.terms_[t.first_term + j].factor);
        rejoin(s);
        values.push_back(s);
      }
    }
    for (const Condition<Int>& c : inner.conditions_) {
      if (c.kind == Condition<Int>::range)
        require_range(values[c.slot], c.low, c.high);
      else
        require_divisible(values[c.slot], c.high);
    }
    Sums result;
    for (const int slot : inner.outputs_) result.push_back(values[slot]);
    return result;
  }

  /// The finished map, without transforms that nothing uses.
  template <class Sums>
  constexpr Map finish(const Sums& outputs) {
    map_.outputs_.resize(0);
    for (const Sum& s : outputs) map_.outputs_.push_back(slot_of(s));
    return compacted();
  }

  constexpr SlotRange<Int> range_of(const Sum& s) const {
    SlotRange<Int> r{true, s.offset, s.offset};
    for (const MapTerm<Int>& t : s.terms) {
      const SlotRange<Int>& of = ranges_[t.slot];
      const bool rising = proven_nonnegative(t.factor);
      if (!of.exists || (!rising && !proven_nonnegative(Int(0) - t.factor))) return {};
      r.low = r.low + t.factor * (rising ? of.low : of.high);
      r.high = r.high + t.factor * (rising ? of.high : of.low);
    }
    return r;
  }

  constexpr const Map& map() const { return map_; }

 private:
  struct Division {
    Sum whole, rest;
  };

  static constexpr Sum one(int slot) {
    Sum s;
    s.terms.push_back({slot, Int(1)});
    return s;
  }

  constexpr const Transform<Int>* transform_at(int slot) const {
    const int index = slot - map_.rank_in();
    return index < 0 ? nullptr : &map_.transforms_[index];
  }

  static constexpr void add_term(Sum& into, int slot, const Int& factor) {
    if (factor == Int(0)) return;
    int at = 0;
    while (at < into.terms.size() && into.terms[at].slot < slot) ++at;
    if (at < into.terms.size() && into.terms[at].slot == slot) {
      into.terms[at].factor = into.terms[at].factor + factor;
      if (into.terms[at].factor == Int(0)) erase_at(into.terms, at);
      return;
    }
    into.terms.push_back({slot, factor});
    for (int i = into.terms.size() - 1; i > at; --i) {
      const MapTerm<Int> moved = into.terms[i - 1];
      into.terms[i - 1] = into.terms[i];
      into.terms[i] = moved;
    }
  }

  /// x = k*whole + rest with what can be proven a multiple of k in `whole`.
  constexpr Division split(const Sum& x, const Int& k) const {
    Division d;
    const std::optional<int64_t> divisor = known(k);
    for (const MapTerm<Int>& t : x.terms) {
      const std::optional<int64_t> factor = known(t.factor);
      if (is_multiple(t.factor, k)) {
        add_term(d.whole, t.slot, floor_div(t.factor, k));
      } else if (factor && divisor) {
        add_term(d.whole, t.slot, Int(*factor / *divisor));
        add_term(d.rest, t.slot, Int(*factor % *divisor));
      } else {
        add_term(d.rest, t.slot, t.factor);
      }
    }
    if (is_multiple(x.offset, k) || (known(x.offset) && divisor)) {
      d.whole.offset = floor_div(x.offset, k);
      d.rest.offset = x.offset - d.whole.offset * k;
    } else {
      d.rest.offset = x.offset;
    }
    return d;
  }

  constexpr bool within(const Sum& s, const Int& k) const {
    const SlotRange<Int> r = range_of(s);
    return r.exists && proven_nonnegative(r.low) && proven_nonnegative(k - Int(1) - r.high);
  }

  /// Finds a divisor g of k with x = g*parted + others, 0 <= others < g: then x/k = parted/(k/g), and x mod k =
  /// g*(parted mod (k/g)) + others.
  constexpr bool part(const Sum& x, const Int& k, Sum& parted, Sum& others, Int& g) const {
    for (const MapTerm<Int>& candidate : x.terms) {
      const std::optional<int64_t> factor = known(candidate.factor), divisor = known(k);
      g = factor && divisor ? Int(std::gcd(*factor, *divisor)) : candidate.factor;
      if (g == Int(1) || !is_multiple(k, g)) continue;
      if (!proven_nonnegative(g)) continue;
      parted = Sum{};
      others = Sum{};
      for (const MapTerm<Int>& t : x.terms) {
        if (is_multiple(t.factor, g))
          add_term(parted, t.slot, floor_div(t.factor, g));
        else
          add_term(others, t.slot, t.factor);
      }
      if (is_multiple(x.offset, g) || (known(x.offset) && known(g))) {
        parted.offset = floor_div(x.offset, g);
        others.offset = x.offset - parted.offset * g;
      } else {
        others.offset = x.offset;
      }
      if (within(others, g)) return true;
    }
    return false;
  }

  constexpr bool rejoin_at(Sum& sum, int i, int operand, Int k) {
    const Int factor = sum.terms[i].factor;
    const Int wanted = factor * k;
    bool candidate = false;
    for (const MapTerm<Int>& t : sum.terms) candidate = candidate || t.factor == wanted;
    if (!candidate) return false;

    const int transforms = map_.transforms_.size(), terms = map_.terms_.size();
    const Sum above = quotient(expand(operand), k);
    const int above_slot = slot_of(above);
    for (int j = 0; j < sum.terms.size(); ++j) {
      if (j == i || !(sum.terms[j].factor == wanted)) continue;
      const Transform<Int>* t = transform_at(sum.terms[j].slot);
      Sum joined;
      if (sum.terms[j].slot == above_slot) {
        joined = expand(operand);
      } else if (t != nullptr && t->kind == TransformKind::remainder && t->a == above_slot) {
        joined = remainder(expand(operand), k * t->amount);
      } else {
        continue;
      }
      erase_at(sum.terms, i > j ? i : j);
      erase_at(sum.terms, i > j ? j : i);
      add(sum, joined, factor);
      return true;
    }
    map_.transforms_.resize(transforms);
    map_.terms_.resize(terms);
    ranges_.resize(map_.rank_in() + transforms);
    return false;
  }

  constexpr int slot_of(const Sum& s) {
    if (s.terms.size() == 1 && s.terms[0].factor == Int(1) && s.offset == Int(0)) return s.terms[0].slot;
    for (int i = 0; i < map_.transforms_.size(); ++i) {
      const Transform<Int>& t = map_.transforms_[i];
      if (t.kind != TransformKind::affine || t.term_count != s.terms.size() || !(t.amount == s.offset)) continue;
      bool same = true;
      for (int j = 0; j < t.term_count; ++j) same = same && map_.terms_[t.first_term + j] == s.terms[j];
      if (same) return map_.rank_in() + i;
    }
    Transform<Int> t;
    t.first_term = map_.terms_.size();
    t.term_count = s.terms.size();
    t.amount = s.offset;
    for (const MapTerm<Int>& term : s.terms) map_.terms_.push_back(term);
    map_.transforms_.push_back(t);
    ranges_.push_back(range_of(s));
    return map_.rank_in() + map_.transforms_.size() - 1;
  }

  constexpr int append(TransformKind kind, int a, const Int& amount) {
    Transform<Int> t;
    t.kind = kind;
    t.a = a;
    t.amount = amount;
    return append(t);
  }

  constexpr int append(const Transform<Int>& t) {
    for (int i = 0; i < map_.transforms_.size(); ++i) {
      const Transform<Int>& u = map_.transforms_[i];
      if (u.kind == t.kind && u.a == t.a && u.b == t.b && u.shift == t.shift && u.bits == t.bits && u.amount == t.amount) return map_.rank_in() + i;
    }
    map_.transforms_.push_back(t);
    ranges_.push_back(range_of_transform(t));
    return map_.rank_in() + map_.transforms_.size() - 1;
  }

  constexpr SlotRange<Int> range_of_transform(const Transform<Int>& t) const {
    if (t.kind == TransformKind::remainder) return {true, Int(0), t.amount - Int(1)};
    if (t.kind == TransformKind::divide) {
      const SlotRange<Int>& r = ranges_[t.a];
      if (!r.exists) return {};
      return {true, floor_div(r.low, t.amount), floor_div(r.high, t.amount)};
    }
    if (t.kind == TransformKind::swizzle) {
      const std::optional<int64_t> high = ranges_[t.a].exists ? known(ranges_[t.a].high) : std::nullopt;
      if (!high || *high < 0) return {};
      int64_t top = (int64_t{1} << (t.shift + t.bits)) - 1;
      while (top < *high) top = top * 2 + 1;
      return {true, Int(0), Int(top)};
    }
    Sum s = constant(t.amount);
    for (int i = 0; i < t.term_count; ++i) s.terms.push_back(map_.terms_[t.first_term + i]);
    return range_of(s);
  }

  /// Later rules may use a condition: where it fails the coordinate is invalid whatever they compute.
  constexpr void learn(const Sum& value, int slot, const Int& low, const Int& high) {
    narrow(slot, low, high - Int(1));
    if (value.terms.size() == 1 && value.terms[0].factor == Int(1)) narrow(value.terms[0].slot, low - value.offset, high - Int(1) - value.offset);
  }

  constexpr void narrow(int slot, const Int& low, const Int& high) {
    SlotRange<Int>& r = ranges_[slot];
    if (!r.exists) {
      r = {true, low, high};
      return;
    }
    if (proven_nonnegative(low - r.low)) r.low = low;
    if (proven_nonnegative(r.high - high)) r.high = high;
  }

  constexpr void push_condition(const Condition<Int>& c) {
    for (const Condition<Int>& other : map_.conditions_)
      if (other == c) return;
    map_.conditions_.push_back(c);
  }

  constexpr Map compacted() const {
    const int rank = map_.rank_in(), count = map_.transforms_.size();
    ListFor<int, Int, max_rank + max_transforms> renamed;
    renamed.resize(rank + count);
    for (const int slot : map_.outputs_) renamed[slot] = 1;
    for (const Condition<Int>& c : map_.conditions_) renamed[c.slot] = 1;
    for (int i = count - 1; i >= 0; --i) {
      if (renamed[rank + i] == 0) continue;
      const Transform<Int>& t = map_.transforms_[i];
      if (t.kind == TransformKind::affine) {
        for (int j = 0; j < t.term_count; ++j) renamed[map_.terms_[t.first_term + j].slot] = 1;
      } else {
        renamed[t.a] = 1;
        if (t.kind == TransformKind::swizzle) renamed[t.b] = 1;
      }
    }
    Map result;
    result.extents_ = map_.extents_;
    for (int d = 0; d < rank; ++d) renamed[d] = d;
    for (int i = 0; i < count; ++i) {
      if (renamed[rank + i] == 0) continue;
      Transform<Int> t = map_.transforms_[i];
      if (t.kind == TransformKind::affine) {
        const int first = t.first_term;
        t.first_term = result.terms_.size();
        for (int j = 0; j < t.term_count; ++j) result.terms_.push_back({renamed[map_.terms_[first + j].slot], map_.terms_[first + j].factor});
      } else {
        t.a = renamed[t.a];
        t.b = t.kind == TransformKind::swizzle ? renamed[t.b] : 0;
      }
      renamed[rank + i] = rank + result.transforms_.size();
      result.transforms_.push_back(t);
    }
    for (Condition<Int> c : map_.conditions_) {
      c.slot = renamed[c.slot];
      result.conditions_.push_back(c);
    }
    for (const int slot : map_.outputs_) result.outputs_.push_back(renamed[slot]);
    return result;
  }

  Map map_;
  ListFor<SlotRange<Int>, Int, max_rank + max_transforms> ranges_;
};

template <class Int>
using SumsFor = ListFor<Linear<Int>, Int, max_rank>;

}  // namespace tile
