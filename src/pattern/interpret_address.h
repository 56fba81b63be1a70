#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "pattern/pattern.h"

namespace tilewright::pattern {

using Sizes = std::map<std::string, int64_t>;

std::vector<int64_t> row_major_strides(const std::vector<int64_t>& dims);
/// Throws invalid_input when a dim is negative or the product overflows.
int64_t element_count(const std::vector<int64_t>& dims);
std::vector<int64_t> evaluate(const Dims& dims, const Sizes& sizes);

/// A coordinate map in the form that computes addresses for whole blocks of points: sums over a basis of columns (the upper
/// coordinates, then the results of divisions and remainders).
class Addressing {
 public:
  /// `extents`: how far each upper coordinate really goes (0 … extent-1); `dims`: of the tensor.
  Addressing(const Map& map, const Sizes& sizes, const std::vector<int64_t>& extents, const std::vector<int64_t>& dims);

  /// Addresses of `count` points given columns of their upper coordinates. A valid point outside the tensor is our bug: throws
  /// internal naming `what`. `masked` (may be null) says which points the caller has ruled out already.
  void compute(const std::vector<const int64_t*>& upper, size_t count, const uint8_t* masked, const std::string& what);
  const int64_t* addresses() const { return address_.data(); }  ///< 0 where not valid
  /// Null when all points are valid.
  const uint8_t* validity() const { return has_mask_ ? valid_.data() : nullptr; }

  /// Which upper coordinates the address or its validity depends on.
  std::vector<char> depends_on(size_t rank) const;

 private:
  struct Sum {
    int64_t base = 0;
    std::vector<std::pair<size_t, int64_t>> terms;  ///< basis column, factor
  };
  struct Derived {
    tile::TransformKind kind;
    Sum a, b;
    int64_t amount;
    int shift, bits;
  };
  struct Range {
    bool known;
    double low, high;  ///< inclusive; exact below 2^53
  };
  struct Check {
    Sum value;
    int64_t low, high;  ///< low <= value < high
  };
  struct Divisibility {
    Sum value;
    int64_t by;
  };

  static void add(Sum& into, const Sum& what, int64_t factor);
  Range range_of(const Sum& sum) const;
  Range range_of(const Derived& derived) const;
  bool inside(const Sum& sum, int64_t low, int64_t high) const;
  void evaluate_sum(const Sum& sum, size_t count, std::vector<int64_t>& result) const;
  void mark(const Sum& sum, std::vector<char>& marked) const;

  size_t rank_in_;
  std::vector<Range> ranges_;  ///< of the basis
  std::vector<Derived> derived_;
  std::vector<Check> conditions_, bounds_;  ///< conditions make a point invalid; bounds must hold for valid ones
  std::vector<Divisibility> divisibilities_;
  Sum sum_;

  std::vector<const int64_t*> columns_;
  std::vector<std::vector<int64_t>> derived_columns_;
  std::vector<int64_t> address_, scratch_, scratch_b_;
  std::vector<uint8_t> valid_;
  bool has_mask_ = false;
};

}  // namespace tilewright::pattern
