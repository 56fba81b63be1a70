#include "schedule/linear.h"

#include "base/error.h"

namespace tilewright::schedule {

std::string coordinate_symbol(int i) { return reserved_prefix + ("i" + std::to_string(i)); }
std::string indirect_symbol(int access, int k) { return reserved_prefix + ("v" + std::to_string(access) + "." + std::to_string(k)); }

Bounds space_bounds(const Dims& space) {
  Bounds bounds;
  for (size_t i = 0; i < space.size(); ++i) bounds.of[coordinate_symbol(static_cast<int>(i))] = {Dim(0), space[i] - 1};
  return bounds;
}

Dims coordinates_of(const Dims& space) {
  Dims symbols;
  for (size_t i = 0; i < space.size(); ++i) symbols.push_back(Dim::symbol(coordinate_symbol(static_cast<int>(i))));
  return symbols;
}

std::vector<Guard> unproven(std::vector<Guard> guards, const Bounds& bounds) {
  std::vector<Guard> left;
  for (Guard& guard : guards) {
    guard.value = simplify(guard.value, bounds);
    if (guard.kind == Guard::divisible) {
      const Dim rest = simplify(guard.value % guard.high, bounds);
      if (rest == Dim(0)) continue;
    } else {
      guard.check_low = guard.check_low && !proven_nonnegative(guard.value - guard.low, bounds);
      guard.check_high = guard.check_high && !proven_less(guard.value, guard.high, bounds);
      if (!guard.check_low && !guard.check_high) continue;
    }
    left.push_back(std::move(guard));
  }
  return left;
}

LoweredMap lower_map(const pattern::Map& map, const Dims& upper, const Bounds& bounds) {
  ensure(static_cast<int>(upper.size()) == map.rank_in(), "a map is lowered with one expression per upper coordinate");
  LoweredMap lowered;
  lowered.coordinates.resize(static_cast<size_t>(map.rank_out()));
  struct Collect {
    std::vector<Guard>& guards;
    void range(const Dim& value, const Dim& low, const Dim& high) { guards.push_back({Guard::range, value, low, high, true, true}); }
    void divisible(const Dim& value, const Dim& by) { guards.push_back({Guard::divisible, value, 0, by, true, true}); }
  };
  std::vector<Guard> guards;
  map.lower(std::span<const Dim>(upper), std::span<Dim>(lowered.coordinates), Collect{guards});
  for (Dim& coordinate : lowered.coordinates) coordinate = simplify(coordinate, bounds);
  lowered.guards = unproven(std::move(guards), bounds);
  return lowered;
}

Dims row_major(const Dims& dims) {
  Dims strides(dims.size(), Dim(1));
  for (size_t i = dims.size(); i-- > 1;) strides[i - 1] = strides[i] * dims[i];
  return strides;
}

Dim dot(const Dims& a, const Dims& b) {
  Dim sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

bool mentions(const Dim& e, const std::string& symbol) {
  std::set<std::string> symbols;
  e.collect_symbols(symbols);
  return symbols.count(symbol) > 0;
}

std::optional<Affine> affine_in(const Dim& e, const std::string& symbol) {
  if (!mentions(e, symbol)) return Affine{0, e};
  const Dim at_zero = e.substitute({{symbol, Dim(0)}});
  const Dim slope = e.substitute({{symbol, Dim(1)}}) - at_zero;
  if (!(at_zero + slope * Dim::symbol(symbol) == e)) return std::nullopt;
  return Affine{slope, at_zero};
}

}  // namespace tilewright::schedule
