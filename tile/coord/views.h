#pragma once

#include "tile/coord/rewrite.h"

namespace tile {

/// A step from a new upper space to an old one: the new extents, then one sum per old axis.
template <class Int>
class ViewStep {
 public:
  using Extents = ListFor<Int, Int, max_rank>;

  constexpr explicit ViewStep(const Extents& extents) : rewriter_(span_of(extents)) {}
  constexpr Rewriter<Int>& rewriter() { return rewriter_; }
  constexpr void push(const Linear<Int>& old_coordinate) { old_.push_back(old_coordinate); }
  constexpr void push_coordinate(int d) { old_.push_back(rewriter_.coordinate(d)); }
  constexpr Linear<Int>& last() { return old_[old_.size() - 1]; }

  /// `map` seen through this step.
  constexpr CoordMap<Int> into(const CoordMap<Int>& map) { return rewriter_.finish(rewriter_.attach(map, old_)); }

 private:
  static constexpr std::span<const Int> span_of(const Extents& e) {
    return e.empty() ? std::span<const Int>() : std::span<const Int>(&e[0], static_cast<size_t>(e.size()));
  }

  Rewriter<Int> rewriter_;
  SumsFor<Int> old_;
};

template <class Int>
constexpr CoordMap<Int> compose(const CoordMap<Int>& outer, const CoordMap<Int>& inner) {
  Rewriter<Int> rewriter(outer);
  SumsFor<Int> middle;
  for (const int slot : outer.outputs()) middle.push_back(rewriter.expand(slot));
  return rewriter.finish(rewriter.attach(inner, middle));
}

template <class Int>
constexpr CoordMap<Int> CoordMap<Int>::identity(std::span<const Int> extents) {
  Rewriter<Int> rewriter(extents);
  SumsFor<Int> outputs;
  for (size_t d = 0; d < extents.size(); ++d) outputs.push_back(rewriter.coordinate(static_cast<int>(d)));
  return rewriter.finish(outputs);
}

template <class Int>
constexpr CoordMap<Int> CoordMap<Int>::simplified() const {
  ViewStep<Int> step(extents_);
  for (int d = 0; d < rank_in(); ++d) step.push_coordinate(d);
  return step.into(*this);
}

template <class Int>
constexpr CoordMap<Int> CoordMap<Int>::transposed(std::span<const int> permutation) const {
  Extents extents;
  for (const int axis : permutation) extents.push_back(extents_[axis]);
  ViewStep<Int> step(extents);
  for (int old = 0; old < rank_in(); ++old)
    for (int d = 0; d < rank_in(); ++d)
      if (permutation[static_cast<size_t>(d)] == old) step.push_coordinate(d);
  return step.into(*this);
}

template <class Int>
constexpr CoordMap<Int> CoordMap<Int>::sliced(int axis, Int start, Int stride, Int count) const {
  Extents extents = extents_;
  extents[axis] = count;
  ViewStep<Int> step(extents);
  for (int d = 0; d < rank_in(); ++d) {
    step.push_coordinate(d);
    if (d != axis) continue;
    step.last() = Rewriter<Int>::scaled(step.last(), stride);
    step.last().offset = start;
  }
  return step.into(*this);
}

template <class Int>
constexpr CoordMap<Int> CoordMap<Int>::reversed(int axis) const {
  return sliced(axis, extents_[axis] - Int(1), Int(-1), extents_[axis]);
}

template <class Int>
constexpr CoordMap<Int> CoordMap<Int>::broadcast_to(std::span<const Int> extents) const {
  Extents wanted;
  for (const Int& e : extents) wanted.push_back(e);
  ViewStep<Int> step(wanted);
  const int leading = wanted.size() - rank_in();
  for (int d = 0; d < rank_in(); ++d) {
    if (known(extents_[d]) == 1)
      step.push(Rewriter<Int>::constant(Int(0)));
    else
      step.push_coordinate(leading + d);
  }
  return step.into(*this);
}

template <class Int>
constexpr CoordMap<Int> CoordMap<Int>::reshaped(std::span<const Int> wanted) const {
  Extents extents;
  for (const Int& e : wanted) extents.push_back(e);
  ViewStep<Int> step(extents);
  SumsFor<Int> old;
  for (int d = 0; d < rank_in(); ++d) old.push_back(Rewriter<Int>::constant(Int(0)));

  // Axes of extent 1 take no part; the others fall into the smallest groups of equal product.
  const int old_rank = rank_in(), new_rank = extents.size();
  int old_at = 0, new_at = 0;
  const auto skip_units = [](const Extents& e, int& at, int rank) {
    while (at < rank && known(e[at]) == 1) ++at;
  };
  for (;;) {
    skip_units(extents_, old_at, old_rank);
    skip_units(extents, new_at, new_rank);
    if (old_at == old_rank || new_at == new_rank) break;
    int old_end = old_rank, new_end = new_rank;
    bool found = false;
    for (int total = 2; total <= old_rank - old_at + new_rank - new_at && !found; ++total) {
      for (int from_old = 1; from_old < total && !found; ++from_old) {
        const int from_new = total - from_old;
        if (old_at + from_old > old_rank || new_at + from_new > new_rank) continue;
        Int old_size = 1, new_size = 1;
        for (int i = 0; i < from_old; ++i) old_size = old_size * extents_[old_at + i];
        for (int i = 0; i < from_new; ++i) new_size = new_size * extents[new_at + i];
        if (!(old_size == new_size)) continue;
        old_end = old_at + from_old;
        new_end = new_at + from_new;
        found = true;
      }
    }
    Linear<Int> flat;
    Int stride = 1;
    for (int d = new_end - 1; d >= new_at; --d) {
      Rewriter<Int>::add(flat, step.rewriter().coordinate(d), stride);
      stride = stride * divisor_of(extents[d]);
    }
    stride = Int(1);
    for (int d = old_end - 1; d >= old_at; --d) {
      const Linear<Int> above = step.rewriter().quotient(flat, stride);
      old[d] = d == old_at ? above : step.rewriter().remainder(above, divisor_of(extents_[d]));
      stride = stride * divisor_of(extents_[d]);
    }
    old_at = old_end;
    new_at = new_end;
  }
  for (const Linear<Int>& s : old) step.push(s);
  return step.into(*this);
}

template <class Int>
constexpr CoordMap<Int> CoordMap<Int>::padded(int axis, Int before, Int after) const {
  Extents extents = extents_;
  extents[axis] = before + extents_[axis] + after;
  ViewStep<Int> step(extents);
  for (int d = 0; d < rank_in(); ++d) {
    step.push_coordinate(d);
    if (d != axis) continue;
    step.last().offset = Int(0) - before;
    step.rewriter().require_range(step.last(), Int(0), extents_[axis]);
  }
  return step.into(*this);
}

template <class Int>
constexpr CoordMap<Int> CoordMap<Int>::windows(int axis, Int positions, Int kernel, Int stride, Int dilation) const {
  Extents extents;
  for (int d = 0; d < rank_in(); ++d) {
    extents.push_back(d == axis ? positions : extents_[d]);
    if (d == axis) extents.push_back(kernel);
  }
  ViewStep<Int> step(extents);
  for (int d = 0; d < rank_in(); ++d) {
    step.push_coordinate(d > axis ? d + 1 : d);
    if (d != axis) continue;
    step.last() = Rewriter<Int>::scaled(step.last(), stride);
    Rewriter<Int>::add(step.last(), step.rewriter().coordinate(d + 1), dilation);
  }
  return step.into(*this);
}

template <class Int>
constexpr CoordMap<Int> CoordMap<Int>::undilated(int axis, Int factor, Int extent) const {
  Extents extents = extents_;
  extents[axis] = extent;
  ViewStep<Int> step(extents);
  for (int d = 0; d < rank_in(); ++d) {
    step.push_coordinate(d);
    if (d != axis) continue;
    step.rewriter().require_divisible(step.last(), factor);
    step.last() = step.rewriter().quotient(step.last(), factor);
    step.rewriter().require_range(step.last(), Int(0), extents_[axis]);
  }
  return step.into(*this);
}

template <class Int>
constexpr CoordMap<Int> CoordMap<Int>::modulo(int axis, Int extent, Int offset) const {
  Extents extents = extents_;
  extents[axis] = extent;
  ViewStep<Int> step(extents);
  for (int d = 0; d < rank_in(); ++d) {
    step.push_coordinate(d);
    if (d != axis) continue;
    step.last().offset = offset;
    step.last() = step.rewriter().remainder(step.last(), divisor_of(extents_[axis]));
  }
  return step.into(*this);
}

template <class Int>
constexpr CoordMap<Int> CoordMap<Int>::frozen(int axis, Int value) const {
  Extents extents = extents_;
  erase_at(extents, axis);
  ViewStep<Int> step(extents);
  for (int d = 0; d < rank_in(); ++d) {
    if (d == axis)
      step.push(Rewriter<Int>::constant(value));
    else
      step.push_coordinate(d > axis ? d - 1 : d);
  }
  return step.into(*this);
}

template <class Int>
constexpr CoordMap<Int> CoordMap<Int>::inserted(int position, Int extent) const {
  Extents extents;
  for (int d = 0; d <= rank_in(); ++d) extents.push_back(d == position ? extent : extents_[d > position ? d - 1 : d]);
  ViewStep<Int> step(extents);
  for (int d = 0; d < rank_in(); ++d) step.push_coordinate(d >= position ? d + 1 : d);
  return step.into(*this);
}

template <class Int>
constexpr CoordMap<Int> CoordMap<Int>::xor_swizzled(int axis_a, int axis_b, int bits, int shift) const {
  ViewStep<Int> step(extents_);
  for (int d = 0; d < rank_in(); ++d) {
    step.push_coordinate(d);
    if (d == axis_a) step.last() = step.rewriter().swizzled(step.last(), step.rewriter().coordinate(axis_b), shift, bits);
  }
  return step.into(*this);
}

}  // namespace tile
