#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "pattern/pattern.h"

/// Coordinates of a Nest as symbols, and the memory addresses they lead to.
namespace tilewright::schedule {

/// The symbol that stands for coordinate `i` of an iteration space in derived expressions. No named size may begin so.
std::string coordinate_symbol(int i);
/// The symbol for indirect coordinate `k` of access `access`.
std::string indirect_symbol(int access, int k);
inline constexpr const char* reserved_prefix = "tilewright..";

/// Bounds of the coordinates of `space`.
Bounds space_bounds(const Dims& space);

/// A condition on a point, over the coordinates' symbols.
struct Guard {
  enum Kind { range, divisible } kind = range;
  Dim value, low, high;                      ///< low <= value < high; or `high` divides `value`
  bool check_low = true, check_high = true;  ///< what is left to check
};

/// Lower coordinates of a map and what must hold for them to be valid.
struct LoweredMap {
  Dims coordinates;
  std::vector<Guard> guards;
};

/// `upper`: an expression for each of the map's upper coordinates.
LoweredMap lower_map(const pattern::Map& map, const Dims& upper, const Bounds& bounds);
/// Guards that `bounds` do not prove.
std::vector<Guard> unproven(std::vector<Guard> guards, const Bounds& bounds);

/// Row-major strides.
Dims row_major(const Dims& dims);
Dim dot(const Dims& a, const Dims& b);

/// e = at_zero + slope * symbol, when e is affine in `symbol`.
struct Affine {
  Dim slope, at_zero;
};
std::optional<Affine> affine_in(const Dim& e, const std::string& symbol);
bool mentions(const Dim& e, const std::string& symbol);

/// Symbols of the space's coordinates, 0 … rank-1.
Dims coordinates_of(const Dims& space);

}  // namespace tilewright::schedule
