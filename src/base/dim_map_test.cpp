#include "base/dim_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <tuple>
#include <vector>

#include "base/error.h"

namespace tilewright {
namespace {

using IntMap = tile::CoordMap<int64_t>;

/// A size as an expression and as its value.
struct Size {
  Dim dim;
  int64_t value;
};

/// The same random chain on a symbolic map and on the map of its values.
class Twins {
 public:
  explicit Twins(unsigned seed) : random_(seed) {
    const int rank = pick(1, 3);
    std::vector<Dim> dims;
    std::vector<int64_t> numbers;
    for (int d = 0; d < rank; ++d) {
      const std::string name(1, static_cast<char>('A' + d));
      values[name] = pick(1, 4);
      const int64_t factor = pick(1, 4);
      sizes_.push_back(pick(0, 2) == 0 ? Size{factor, factor} : Size{factor * Dim::symbol(name), factor * values[name]});
    }
    std::tie(dims, numbers) = split(sizes_);
    symbolic = DimMap::identity(dims);
    plain = IntMap::identity(numbers);
    for (int i = pick(1, 5); i > 0; --i) step();
  }

  void check() {
    std::vector<Dim> at, lower(static_cast<size_t>(symbolic.rank_out()));
    std::map<std::string, int64_t> point = values;
    std::vector<int64_t> where, expected(lower.size());
    for (int d = 0; d < symbolic.rank_in(); ++d) at.push_back(Dim::symbol("i" + std::to_string(d)));
    struct Conditions {
      std::vector<std::array<Dim, 3>> ranges;
      std::vector<std::array<Dim, 2>> divisible_by;
      void range(const Dim& v, const Dim& low, const Dim& high) { ranges.push_back({v, low, high}); }
      void divisible(const Dim& v, const Dim& by) { divisible_by.push_back({v, by}); }
    } conditions;
    symbolic.lower(at, lower, conditions);
    const IntMap evaluated = evaluate(symbolic, values);
    const DimMap parsed = parse_map(str(symbolic));
    ASSERT_EQ(parsed, symbolic) << str(symbolic);
    std::map<std::string, Dim> as_dims;
    for (const auto& [name, v] : values) as_dims.emplace(name, v);
    const IntMap substituted = evaluate(substitute(symbolic, as_dims), {});

    for (int trial = 0; trial < 40; ++trial) {
      where.clear();
      for (int d = 0; d < symbolic.rank_in(); ++d) {
        ASSERT_EQ(symbolic.extent_in(d).evaluate(values), plain.extent_in(d));
        where.push_back(pick(0, static_cast<int>(plain.extent_in(d)) - 1));
        point["i" + std::to_string(d)] = where.back();
      }
      const bool valid = plain.lower(where, expected);
      bool symbolic_valid = true;
      for (const auto& [v, low, high] : conditions.ranges)
        symbolic_valid = symbolic_valid && low.evaluate(point) <= v.evaluate(point) && v.evaluate(point) < high.evaluate(point);
      for (const auto& [v, by] : conditions.divisible_by) symbolic_valid = symbolic_valid && (v % by).evaluate(point) == 0;
      ASSERT_EQ(symbolic_valid, valid) << str(symbolic);
      std::vector<int64_t> other(expected.size());
      ASSERT_EQ(evaluated.lower(where, other), valid);
      ASSERT_TRUE(!valid || other == expected) << str(symbolic);
      ASSERT_EQ(substituted.lower(where, other), valid);
      ASSERT_TRUE(!valid || other == expected) << str(symbolic);
      for (size_t k = 0; k < lower.size() && valid; ++k) ASSERT_EQ(lower[k].evaluate(point), expected[k]) << str(symbolic);
    }
  }

  DimMap symbolic;
  IntMap plain;
  std::map<std::string, int64_t> values;

 private:
  int pick(int low, int high) { return low + static_cast<int>(random_() % static_cast<unsigned>(high - low + 1)); }

  static std::pair<std::vector<Dim>, std::vector<int64_t>> split(const std::vector<Size>& sizes) {
    std::pair<std::vector<Dim>, std::vector<int64_t>> result;
    for (const Size& s : sizes) {
      result.first.push_back(s.dim);
      result.second.push_back(s.value);
    }
    return result;
  }

  template <class F>
  void both(F&& f) {
    symbolic = f(symbolic, [](const Size& s) { return s.dim; });
    plain = f(plain, [](const Size& s) { return s.value; });
  }

  void reshape(std::vector<Size> sizes) {
    const auto [dims, numbers] = split(sizes);
    symbolic = symbolic.reshaped(dims);
    plain = plain.reshaped(numbers);
    sizes_ = std::move(sizes);
  }

  void step() {
    const int rank = static_cast<int>(sizes_.size());
    const int axis = pick(0, rank - 1);
    Size& size = sizes_[static_cast<size_t>(axis)];
    switch (pick(0, 7)) {
      case 0: {  // merge neighbours
        if (rank < 2) return;
        const auto first = static_cast<size_t>(pick(0, rank - 2));
        std::vector<Size> next = sizes_;
        next[first] = {next[first].dim * next[first + 1].dim, next[first].value * next[first + 1].value};
        next.erase(next.begin() + static_cast<int>(first) + 1);
        return reshape(next);
      }
      case 1: {  // split off a factor that divides
        const Dim half = size.dim / 2;
        if (!(half * 2 == size.dim) || size.value == 0) return;
        std::vector<Size> next = sizes_;
        next[static_cast<size_t>(axis)] = pick(0, 1) ? Size{half, size.value / 2} : Size{2, 2};
        next.insert(next.begin() + axis + 1, next[static_cast<size_t>(axis)].dim == half ? Size{2, 2} : Size{half, size.value / 2});
        return reshape(next);
      }
      case 2: {
        std::vector<int> order(sizes_.size());
        for (int d = 0; d < rank; ++d) order[static_cast<size_t>(d)] = d;
        std::shuffle(order.begin(), order.end(), random_);
        std::vector<Size> next;
        for (const int d : order) next.push_back(sizes_[static_cast<size_t>(d)]);
        both([&](const auto& m, auto) { return m.transposed(order); });
        sizes_ = next;
        return;
      }
      case 3: {
        const Size before{pick(0, 2), 0}, after{pick(0, 2), 0};
        const Size b{before.dim, before.dim.constant()}, a{after.dim, after.dim.constant()};
        both([&](const auto& m, auto as) { return m.padded(axis, as(b), as(a)); });
        size = {size.dim + b.dim + a.dim, size.value + b.value + a.value};
        return;
      }
      case 4: both([&](const auto& m, auto) { return m.reversed(axis); }); return;
      case 5: {  // positions = (extent - kernel)/stride + 1
        if (size.value < 2) return;
        const Size kernel{2, 2}, stride{2, 2}, one{1, 1};
        const Size positions{(size.dim - 2) / 2 + 1, (size.value - 2) / 2 + 1};
        both([&](const auto& m, auto as) { return m.windows(axis, as(positions), as(kernel), as(stride), as(one)); });
        size = positions;
        sizes_.insert(sizes_.begin() + axis + 1, kernel);
        return;
      }
      case 6: {
        const Size wide{size.dim * 2, size.value * 2}, zero{0, 0};
        both([&](const auto& m, auto as) { return m.modulo(axis, as(wide), as(zero)); });
        size = wide;
        return;
      }
      default: {
        const Size factor{2, 2}, wide{size.dim * 2 - 1, size.value * 2 - 1};
        both([&](const auto& m, auto as) { return m.undilated(axis, as(factor), as(wide)); });
        size = wide;
        return;
      }
    }
  }

  std::mt19937 random_;
  std::vector<Size> sizes_;
};

TEST(DimMap, SymbolicChainsEqualTheMapsOfTheirValues) {
  for (unsigned seed = 0; seed < 1500; ++seed) {
    SCOPED_TRACE(seed);
    Twins twins(seed);
    ASSERT_NO_FATAL_FAILURE(twins.check());
  }
}

TEST(DimMap, SymbolicReshapesCancel) {
  const Dim n = Dim::symbol("N"), h = Dim::symbol("H"), w = Dim::symbol("W");
  const DimMap identity = DimMap::identity({n, h, w, 4});
  EXPECT_EQ(identity.reshaped({n * h * w * 4}).reshaped({n, h, w, 4}), identity);
  EXPECT_EQ(identity.reshaped({n, h * w, 4}).transposed({0, 2, 1}).reshaped({n, 4, h, w}).transposed({0, 2, 3, 1}), identity);
  EXPECT_EQ(identity.reshaped({n, h * w * 4}).reshaped({n * h * w, 2, 2}).reshaped({n, h, w, 4}), identity);
  const DimMap merged = identity.reshaped({n * h, w, 4});
  EXPECT_EQ(str(merged), "[H*N,W,4] -> [$4,$3,$1,$2] with $3=$0%H; $4=$0/H");
  EXPECT_EQ(identity.contiguous_width(std::vector<Dim>{h * w * 4, w * 4, 4, 1}), 4);
  EXPECT_EQ(identity.reshaped({n, h * w * 4}).contiguous_width(std::vector<Dim>{h * w * 4, w * 4, 4, 1}), DimMap::unbounded);
}

TEST(DimMap, BadTextIsInvalidInput) {
  for (const char* text : {"", "[", "[N] -> [$1]", "[N] -> [$0] with $2=$0/2", "[N] -> [$0] with $1=$1/2", "[N] -> [$1] with $1=$0/0", "[N] -> [$0] where $0",
                           "[N] -> [$0] where 0<=$5<N", "[N] -> [$0] more", "[N] -> [$99999999999999]"}) {
    try {
      parse_map(text);
      ADD_FAILURE() << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::invalid_input) << text;
    }
  }
}

}  // namespace
}  // namespace tilewright
