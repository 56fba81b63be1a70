#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>

#include "tile/coord/integer.h"
#include "tile/coord/list.h"

namespace tile {

constexpr int max_rank = 16;  ///< of a map over built-in integers
constexpr int max_transforms = 64;
constexpr int max_terms = 160;
constexpr int max_conditions = 32;

template <class Int>
struct MapTerm {
  int slot = 0;
  Int factor = 0;
  constexpr bool operator==(const MapTerm& o) const { return slot == o.slot && factor == o.factor; }
};

/// One step of a map: computes one new slot from earlier ones.
enum class TransformKind : uint8_t {
  affine,     ///< sum of factor*slot over its terms, plus amount: merge, embed, slice, reverse, freeze
  divide,     ///< floor(a / amount)
  remainder,  ///< a mod amount
  swizzle,    ///< a xor ((b mod 2^bits) << shift)
};

template <class Int>
struct Transform {
  TransformKind kind = TransformKind::affine;
  int first_term = 0, term_count = 0;  ///< affine: a range of the map's terms
  int a = 0, b = 0;                    ///< slots
  int shift = 0, bits = 0;
  Int amount = 0;
};

/// A coordinate is valid when all conditions of its map hold.
template <class Int>
struct Condition {
  enum Kind : uint8_t { range, divisible } kind = range;
  int slot = 0;
  Int low = 0, high = 0;  ///< range: low <= slot < high. divisible: `high` divides slot
  constexpr bool operator==(const Condition& o) const { return kind == o.kind && slot == o.slot && low == o.low && high == o.high; }
};

template <class Int>
class Rewriter;

/// An exact map from the coordinates of a view ("upper", what a kernel loops over) to those of a tensor in memory
/// ("lower"). Slots 0 … rank_in-1 are the upper coordinates; each transform adds a slot; the lower coordinates are some of
/// the slots. With Int = int64_t everything is constexpr; with a symbolic Int the same code derives index expressions.
///
/// Views read like tensor operations in order: `t = identity(dims); t = t.transposed({1,0}); t = t.sliced(0, 1, 2, 5)`.
/// Every result is simplified: merges and unmerges that cancel are gone, affine chains are one sum. Sizes are
/// assumed >= 0, divisors > 0. Lower coordinates of an invalid upper coordinate are unspecified.
template <class Int>
class CoordMap {
 public:
  constexpr CoordMap() = default;
  static constexpr CoordMap identity(std::span<const Int> extents);
  static constexpr CoordMap identity(std::initializer_list<Int> extents) { return identity(listed(extents)); }

  constexpr int rank_in() const { return extents_.size(); }
  constexpr int rank_out() const { return outputs_.size(); }
  constexpr const Int& extent_in(int d) const { return extents_[d]; }

  // Views of this view. Axes are >= 0.
  constexpr CoordMap transposed(std::span<const int> permutation) const;  ///< new axis d is the old axis permutation[d]
  constexpr CoordMap sliced(int axis, Int start, Int stride, Int count) const;
  constexpr CoordMap reversed(int axis) const;
  constexpr CoordMap broadcast_to(std::span<const Int> extents) const;  ///< numpy rules, new leading axes
  constexpr CoordMap reshaped(std::span<const Int> wanted) const;       ///< row-major; same number of elements
  constexpr CoordMap padded(int axis, Int before, Int after) const;     ///< outside the old range is invalid; negative crops
  /// axis -> (position, tap): position*stride + tap*dilation.
  constexpr CoordMap windows(int axis, Int positions, Int kernel, Int stride, Int dilation) const;
  /// x -> x/factor, valid where factor divides x and the result is inside: a tensor with factor-1 gaps between elements.
  constexpr CoordMap undilated(int axis, Int factor, Int extent) const;
  /// x -> (x + offset) mod the old extent: repetition, wrap padding.
  constexpr CoordMap modulo(int axis, Int extent, Int offset = Int(0)) const;
  constexpr CoordMap frozen(int axis, Int value) const;         ///< removes the axis
  constexpr CoordMap inserted(int position, Int extent) const;  ///< a new axis that does not matter
  /// axis_a -> a xor ((b mod 2^bits) << shift): bank-conflict-free shared memory.
  constexpr CoordMap xor_swizzled(int axis_a, int axis_b, int bits, int shift) const;

  /// Lower coordinates of `upper`; tells on_condition.range(value, low, high_exclusive) and .divisible(value, by).
  template <class OnCondition>
  constexpr void lower(std::span<const Int> upper, std::span<Int> result, OnCondition&& on_condition) const;
  /// For built-in integers: whether `upper` is valid.
  constexpr bool lower(std::span<const Int> upper, std::span<Int> result) const;

  constexpr bool may_be_invalid() const { return !conditions_.empty(); }
  constexpr CoordMap simplified() const;
  /// The map back, when this one is a bijection onto a box at the origin and has no conditions. The box is the result's
  /// upper space: compare its extents with the tensor's to know that all of it is covered.
  constexpr std::optional<CoordMap> inverted() const;

  static constexpr int64_t unbounded = INT64_MAX;
  /// The largest proven w such that any w consecutive last coordinates that start at a multiple of w (the last group
  /// may be cut short by the extent) have consecutive addresses sum(stride*lower) and the same validity. The whole extent
  /// when nothing breaks it, `unbounded` if that extent is symbolic.
  constexpr int64_t contiguous_width(std::span<const Int> lower_strides) const;

  constexpr bool operator==(const CoordMap& o) const;

  constexpr CoordMap transposed(std::initializer_list<int> permutation) const { return transposed(listed(permutation)); }
  constexpr CoordMap broadcast_to(std::initializer_list<Int> extents) const { return broadcast_to(listed(extents)); }
  constexpr CoordMap reshaped(std::initializer_list<Int> extents) const { return reshaped(listed(extents)); }

  // The representation, for printers and emitters.
  using Extents = ListFor<Int, Int, max_rank>;
  using Transforms = ListFor<Transform<Int>, Int, max_transforms>;
  using Terms = ListFor<MapTerm<Int>, Int, max_terms>;
  using Conditions = ListFor<Condition<Int>, Int, max_conditions>;
  using Outputs = ListFor<int, Int, max_rank>;
  constexpr const Transforms& transforms() const { return transforms_; }
  constexpr const Terms& terms() const { return terms_; }
  constexpr const Conditions& conditions() const { return conditions_; }
  constexpr const Outputs& outputs() const { return outputs_; }

  /// From a representation whose slots are in order: definitions before uses.
  static constexpr CoordMap from_parts(const Extents& extents, const Transforms& transforms, const Terms& terms, const Conditions& conditions,
                                       const Outputs& outputs) {
    CoordMap map;
    map.extents_ = extents;
    map.transforms_ = transforms;
    map.terms_ = terms;
    map.conditions_ = conditions;
    map.outputs_ = outputs;
    return map;
  }

 private:
  friend class Rewriter<Int>;

  template <class T>
  static constexpr std::span<const T> listed(std::initializer_list<T> values) {
    return {values.begin(), values.size()};
  }

  Extents extents_;
  Transforms transforms_;
  Terms terms_;
  Conditions conditions_;
  Outputs outputs_;
};

/// outer: A -> B, inner: B -> C gives A -> C, valid where both are.
template <class Int>
constexpr CoordMap<Int> compose(const CoordMap<Int>& outer, const CoordMap<Int>& inner);

}  // namespace tile

#include "tile/coord/rewrite.h"  // IWYU pragma: export
#include "tile/coord/views.h"    // IWYU pragma: export
#include "tile/coord/query.h"    // IWYU pragma: export
#include "tile/coord/stepper.h"  // IWYU pragma: export
