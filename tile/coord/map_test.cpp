#include "tile/coord/map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <vector>

namespace tile {
namespace {

using Map = CoordMap<int64_t>;

constexpr int64_t invalid = -1;

/// A materialised view: for each coordinate, row-major, the linear index in memory it stands for. Every operation is
/// written on the array itself, as numpy would do it, and shares nothing with the maps.
struct Array {
  std::vector<int64_t> dims;
  std::vector<int64_t> at;

  static Array memory(std::vector<int64_t> dims) {
    Array a{dims, {}};
    a.at.resize(static_cast<size_t>(a.count()));
    for (size_t i = 0; i < a.at.size(); ++i) a.at[i] = static_cast<int64_t>(i);
    return a;
  }
  int64_t count() const {
    int64_t n = 1;
    for (const int64_t d : dims) n *= d;
    return n;
  }
  std::vector<int64_t> coordinate(int64_t flat) const {
    std::vector<int64_t> c(dims.size());
    for (size_t d = dims.size(); d-- > 0; flat /= dims[d]) c[d] = flat % dims[d];
    return c;
  }
  int64_t get(const std::vector<int64_t>& c) const {
    int64_t flat = 0;
    for (size_t d = 0; d < dims.size(); ++d) {
      if (c[d] < 0 || c[d] >= dims[d]) return invalid;
      flat = flat * dims[d] + c[d];
    }
    return at[static_cast<size_t>(flat)];
  }
  template <class From>
  Array gathered(std::vector<int64_t> new_dims, From&& from) const {
    Array a{std::move(new_dims), {}};
    for (int64_t i = 0; i < a.count(); ++i) a.at.push_back(from(a.coordinate(i)));
    return a;
  }
};

struct View {
  Array array;
  Map map;
};

class Chain {
 public:
  explicit Chain(unsigned seed) : random_(seed) {}
  int64_t pick(int64_t low, int64_t high) { return low + static_cast<int64_t>(random_() % static_cast<unsigned>(high - low + 1)); }

  std::vector<int64_t> dims() {
    std::vector<int64_t> d(static_cast<size_t>(pick(1, 4)));
    for (int64_t& e : d) e = std::array<int64_t, 8>{1, 2, 3, 4, 4, 5, 6, 8}[static_cast<size_t>(pick(0, 7))];
    return d;
  }

  /// One random operation, done to the array and to the map.
  void step(View& v) {
    const std::vector<int64_t>& dims = v.array.dims;
    const int rank = static_cast<int>(dims.size());
    const Array old = v.array;
    if (rank == 0) {
      v.map = v.map.inserted(0, 3);
      v.array = old.gathered({3}, [&](const auto&) { return old.at[0]; });
      return;
    }
    const int axis = static_cast<int>(pick(0, rank - 1));
    const auto x = static_cast<size_t>(axis);
    const int64_t extent = dims[x];
    std::vector<int64_t> next = dims;
    switch (pick(0, 11)) {
      case 0: {
        std::vector<int> order(dims.size());
        for (int d = 0; d < rank; ++d) order[static_cast<size_t>(d)] = d;
        std::shuffle(order.begin(), order.end(), random_);
        for (size_t d = 0; d < next.size(); ++d) next[d] = dims[static_cast<size_t>(order[d])];
        v.map = v.map.transposed(order);
        v.array = old.gathered(next, [&](const auto& c) {
          std::vector<int64_t> from(c.size());
          for (size_t d = 0; d < c.size(); ++d) from[static_cast<size_t>(order[d])] = c[d];
          return old.get(from);
        });
        return;
      }
      case 1: {
        const int64_t start = pick(0, extent - 1), stride = pick(0, 1) ? pick(1, 3) : -pick(1, 2);
        const int64_t most = stride > 0 ? (extent - 1 - start) / stride + 1 : start / -stride + 1;
        next[x] = pick(1, most);
        v.map = v.map.sliced(axis, start, stride, next[x]);
        v.array = old.gathered(next, [&](auto c) {
          c[x] = start + c[x] * stride;
          return old.get(c);
        });
        return;
      }
      case 2: {
        std::vector<int64_t> wide = dims;
        for (int64_t& e : wide)
          if (e == 1) e = pick(1, 3);
        const bool leading = old.count() < 100 && pick(0, 1);
        if (leading) wide.insert(wide.begin(), 2);
        v.map = v.map.broadcast_to(wide);
        v.array = old.gathered(wide, [&](const auto& c) {
          std::vector<int64_t> from(c.begin() + leading, c.end());
          for (size_t d = 0; d < from.size(); ++d) from[d] = dims[d] == 1 ? 0 : from[d];
          return old.get(from);
        });
        return;
      }
      case 3:
      case 4:
      case 5: {
        next = reshape_target(old.count());
        v.map = v.map.reshaped(next);
        v.array.dims = next;
        return;
      }
      case 6: {
        const int64_t before = pick(0, 3), after = pick(0, 3);
        next[x] += before + after;
        v.map = v.map.padded(axis, before, after);
        v.array = old.gathered(next, [&](auto c) {
          c[x] -= before;
          return old.get(c);
        });
        return;
      }
      case 7: {
        const int64_t kernel = pick(1, extent), dilation = kernel > 1 ? pick(1, (extent - 1) / (kernel - 1)) : 1, stride = pick(1, 2);
        const int64_t positions = (extent - 1 - (kernel - 1) * dilation) / stride + 1;
        next[x] = positions;
        next.insert(next.begin() + axis + 1, kernel);
        v.map = v.map.windows(axis, positions, kernel, stride, dilation);
        v.array = old.gathered(next, [&](auto c) {
          c[x] = c[x] * stride + c[x + 1] * dilation;
          c.erase(c.begin() + axis + 1);
          return old.get(c);
        });
        return;
      }
      case 8: {
        const int64_t factor = pick(1, 3);
        next[x] = (extent - 1) * factor + 1 + pick(0, 2);
        v.map = v.map.undilated(axis, factor, next[x]);
        v.array = old.gathered(next, [&](auto c) {
          if (c[x] % factor != 0) return invalid;
          c[x] /= factor;
          return old.get(c);
        });
        return;
      }
      case 9: {
        const int64_t offset = pick(-3, 3);
        next[x] = extent * pick(1, 2) + pick(0, 1);
        v.map = v.map.modulo(axis, next[x], offset);
        v.array = old.gathered(next, [&](auto c) {
          c[x] = ((c[x] + offset) % extent + extent) % extent;
          return old.get(c);
        });
        return;
      }
      case 10: {
        if (pick(0, 1)) {
          v.map = v.map.reversed(axis);
          v.array = old.gathered(next, [&](auto c) {
            c[x] = extent - 1 - c[x];
            return old.get(c);
          });
          return;
        }
        const int64_t value = pick(0, extent - 1);
        next.erase(next.begin() + axis);
        v.map = v.map.frozen(axis, value);
        v.array = old.gathered(next, [&](auto c) {
          c.insert(c.begin() + axis, value);
          return old.get(c);
        });
        return;
      }
      default: {
        if (extent == 8 && rank > 1) {
          const int other = axis == 0 ? 1 : axis - 1;
          const int shift = static_cast<int>(pick(0, 1));
          v.map = v.map.xor_swizzled(axis, other, 2, shift);
          v.array = old.gathered(next, [&](auto c) {
            c[x] ^= (c[static_cast<size_t>(other)] % 4) << shift;
            return old.get(c);
          });
          return;
        }
        const int position = static_cast<int>(pick(0, rank));
        next.insert(next.begin() + position, 2);
        v.map = v.map.inserted(position, 2);
        v.array = old.gathered(next, [&](auto c) {
          c.erase(c.begin() + position);
          return old.get(c);
        });
        return;
      }
    }
  }

  View run(const std::vector<int64_t>& memory, int steps) {
    View v{Array::memory(memory), Map::identity(memory)};
    for (int i = 0; i < steps && v.array.count() < 3000 && v.array.dims.size() < 7; ++i) step(v);
    return v;
  }

  std::vector<int64_t> reshape_target(int64_t count) {
    std::vector<int64_t> dims;
    while (count > 1 && dims.size() < 4) {
      int64_t d = pick(2, 12);
      while (count % d != 0) d = d > 2 ? d - 1 : count;
      if (pick(0, 4) == 0) d = 1;
      dims.push_back(d);
      count /= d;
    }
    if (count > 1 || dims.empty()) dims.push_back(count);
    std::shuffle(dims.begin(), dims.end(), random_);
    return dims;
  }

 private:
  std::mt19937 random_;
};

int64_t linear(const std::vector<int64_t>& lower, const std::vector<int64_t>& memory) {
  int64_t flat = 0;
  for (size_t d = 0; d < memory.size(); ++d) {
    EXPECT_TRUE(0 <= lower[d] && lower[d] < memory[d]);
    flat = flat * memory[d] + lower[d];
  }
  return flat;
}

void expect_same(const Map& map, const Array& array, const std::vector<int64_t>& memory) {
  ASSERT_EQ(map.rank_in(), static_cast<int>(array.dims.size()));
  ASSERT_EQ(map.rank_out(), static_cast<int>(memory.size()));
  for (int d = 0; d < map.rank_in(); ++d) ASSERT_EQ(map.extent_in(d), array.dims[static_cast<size_t>(d)]);
  std::vector<int64_t> lower(memory.size());
  bool some_invalid = false;
  for (int64_t i = 0; i < array.count(); ++i) {
    const bool valid = map.lower(array.coordinate(i), lower);
    const int64_t expected = array.at[static_cast<size_t>(i)];
    some_invalid |= expected == invalid;
    ASSERT_EQ(valid, expected != invalid);
    if (valid) {
      ASSERT_EQ(linear(lower, memory), expected);
    }
  }
  if (some_invalid) {
    ASSERT_TRUE(map.may_be_invalid());
  }
}

constexpr unsigned chains = 4000;

TEST(CoordMap, RandomChainsEqualTheMaterialisedArrays) {
  for (unsigned seed = 0; seed < chains; ++seed) {
    SCOPED_TRACE(seed);
    Chain chain(seed);
    const std::vector<int64_t> memory = chain.dims();
    const View v = chain.run(memory, static_cast<int>(chain.pick(1, 6)));
    ASSERT_NO_FATAL_FAILURE(expect_same(v.map, v.array, memory));
    ASSERT_NO_FATAL_FAILURE(expect_same(v.map.simplified(), v.array, memory));
  }
}

TEST(CoordMap, ComposeOfRandomChainsIsOneAfterTheOther) {
  for (unsigned seed = 0; seed < chains; ++seed) {
    SCOPED_TRACE(seed);
    Chain chain(seed + 100000);
    const std::vector<int64_t> memory = chain.dims();
    const View inner = chain.run(memory, 3);
    const View outer = chain.run(inner.array.dims, 3);
    const Array expected = outer.array.gathered(outer.array.dims, [&](const auto& c) {
      const int64_t middle = outer.array.get(c);
      return middle == invalid ? invalid : inner.array.at[static_cast<size_t>(middle)];
    });
    ASSERT_NO_FATAL_FAILURE(expect_same(compose(outer.map, inner.map), expected, memory));
  }
}

TEST(CoordMap, InverseUndoesTheMapBothWays) {
  int inverted = 0, whole = 0;
  for (unsigned seed = 0; seed < chains; ++seed) {
    SCOPED_TRACE(seed);
    Chain chain(seed + 200000);
    const std::vector<int64_t> memory = chain.dims();
    View v{Array::memory(memory), Map::identity(memory)};
    for (int i = 0; i < 3; ++i) {
      const auto pick = chain.pick(0, 2);
      if (pick == 0) {
        v.array.dims = chain.reshape_target(v.array.count());
        v.map = v.map.reshaped(v.array.dims);
      } else if (pick == 1 && !v.array.dims.empty()) {
        v.map = v.map.reversed(0);
        v.array = v.array.gathered(v.array.dims, [&, old = v.array](auto c) {
          c[0] = old.dims[0] - 1 - c[0];
          return old.get(c);
        });
      } else {
        chain.step(v);
      }
    }
    const std::optional<Map> back = v.map.inverted();
    if (!back) continue;
    ++inverted;
    std::vector<int64_t> box;
    for (int d = 0; d < back->rank_in(); ++d) box.push_back(back->extent_in(d));
    const Array lower = Array::memory(box);
    ASSERT_EQ(v.array.count(), lower.count());
    whole += box == memory;
    std::vector<int64_t> upper(v.array.dims.size());
    for (int64_t i = 0; i < lower.count(); ++i) {
      const std::vector<int64_t> at = lower.coordinate(i);
      ASSERT_TRUE(back->lower(at, upper));
      ASSERT_EQ(v.array.get(upper), linear(at, memory));
    }
  }
  EXPECT_GT(inverted, 300);
  EXPECT_GT(whole, 300);
}

TEST(CoordMap, ContiguousGroupsReallyAre) {
  int wide = 0;
  for (unsigned seed = 0; seed < chains; ++seed) {
    SCOPED_TRACE(seed);
    Chain chain(seed + 300000);
    const std::vector<int64_t> memory = chain.dims();
    const View v = chain.run(memory, static_cast<int>(chain.pick(0, 5)));
    if (v.array.dims.empty()) continue;
    std::vector<int64_t> strides(memory.size());
    int64_t stride = 1;
    for (size_t d = memory.size(); d-- > 0; stride *= memory[d]) strides[d] = stride;
    const int64_t width = v.map.contiguous_width(strides);
    ASSERT_GE(width, 1);
    ASSERT_LE(width, v.array.dims.back());
    wide += width > 1;
    const int64_t row = v.array.dims.back();
    for (int64_t i = 0; i < v.array.count(); ++i) {
      const int64_t here = i % row;
      if (here % width == 0) continue;
      const int64_t last = v.array.at[static_cast<size_t>(i - 1)], now = v.array.at[static_cast<size_t>(i)];
      ASSERT_EQ(now, last == invalid ? invalid : last + 1) << "width " << width << " at " << i;
    }
  }
  EXPECT_GT(wide, 300);
}

TEST(CoordMap, StepperEqualsLoweringAfresh) {
  for (unsigned seed = 0; seed < chains; ++seed) {
    SCOPED_TRACE(seed);
    Chain chain(seed + 400000);
    const std::vector<int64_t> memory = chain.dims();
    const View v = chain.run(memory, 4);
    if (v.array.dims.empty()) continue;
    std::vector<int64_t> at(v.array.dims.size(), 0), lower(memory.size());
    Stepper<int64_t> stepper(v.map, at);
    for (int i = 0; i < 30; ++i) {
      const auto d = static_cast<size_t>(chain.pick(0, static_cast<int64_t>(at.size()) - 1));
      const int64_t to = chain.pick(0, v.array.dims[d] - 1);
      stepper.move(static_cast<int>(d), to - at[d]);
      at[d] = to;
      const bool valid = v.map.lower(at, lower);
      ASSERT_EQ(stepper.valid(), valid);
      for (size_t k = 0; k < lower.size(); ++k) ASSERT_EQ(stepper.lower(static_cast<int>(k)), lower[k]);
    }
  }
}

TEST(CoordMap, ReshapesAndTransposesThatCancelLeaveTheIdentity) {
  const Map identity = Map::identity({4, 6, 10});
  EXPECT_EQ(identity.reshaped({240}).reshaped({4, 6, 10}), identity);
  EXPECT_EQ(identity.reshaped({24, 10}).reshaped({8, 3, 10}).reshaped({4, 60}).reshaped({4, 6, 10}), identity);
  EXPECT_EQ(identity.transposed({2, 0, 1}).transposed({1, 2, 0}), identity);
  EXPECT_EQ(identity.reversed(1).reversed(1), identity);
  EXPECT_EQ(identity.padded(0, 2, 3).sliced(0, 2, 1, 4), identity);
  EXPECT_EQ(identity.inserted(1, 7).frozen(1, 3), identity);
  EXPECT_EQ(identity.undilated(2, 3, 30).sliced(2, 0, 3, 10), identity);
  Map many = identity;
  for (int i = 0; i < 50; ++i) many = many.reshaped({24, 10}).transposed({1, 0}).reshaped({10, 4, 6}).transposed({1, 2, 0});
  EXPECT_EQ(many, identity);
}

TEST(CoordMap, ReshapeTouchesOnlyAxesThatMix) {
  const Map map = Map::identity({2, 3, 4, 5}).reshaped({2, 12, 5});
  EXPECT_EQ(map.outputs()[0], 0);
  EXPECT_EQ(map.outputs()[3], 2);
  EXPECT_EQ(map.transforms().size(), 2);
}

TEST(CoordMap, WidthIsFoundWhereItMatters) {
  const std::array<int64_t, 3> row_major{1024, 64, 1};
  const Map memory = Map::identity({8, 16, 64});
  EXPECT_EQ(memory.contiguous_width(row_major), 64);
  EXPECT_EQ(memory.reshaped({8 * 16 * 64}).contiguous_width(row_major), 8 * 16 * 64);
  EXPECT_EQ(memory.transposed({0, 2, 1}).contiguous_width(row_major), 1);
  EXPECT_EQ(memory.transposed({1, 0, 2}).reshaped({16, 512}).contiguous_width(row_major), 64);
  EXPECT_EQ(memory.sliced(2, 3, 1, 40).contiguous_width(row_major), 40);
  EXPECT_EQ(memory.padded(2, 8, 8).contiguous_width(row_major), 8);
  EXPECT_EQ(memory.padded(1, 1, 1).contiguous_width(row_major), 64);
  EXPECT_EQ(memory.modulo(2, 128).contiguous_width(row_major), 64);
  EXPECT_EQ(memory.xor_swizzled(2, 1, 3, 3).contiguous_width(row_major), 8);
  EXPECT_EQ(memory.reversed(2).contiguous_width(row_major), 1);
  EXPECT_EQ(memory.padded(1, 1, 1).windows(1, 16, 3, 1, 1).transposed({0, 1, 2, 3}).reshaped({8 * 16, 3 * 64}).contiguous_width(row_major), 64);
}

TEST(CoordMap, IsConstexpr) {
  static constexpr Map map = Map::identity({4, 8}).transposed({1, 0}).sliced(0, 1, 2, 3).reshaped({12});
  constexpr auto lowered = [] {
    std::array<int64_t, 2> result{};
    const std::array<int64_t, 1> at{5};
    map.lower(at, result);
    return result;
  }();
  static_assert(lowered[0] == 1 && lowered[1] == 3);  // row 5/4 = 1 of the slice is column 1+2*1
  static_assert(!map.may_be_invalid());
}

TEST(CoordMap, EmptyExtentsAreNoTrouble) {
  const Map map = Map::identity({0, 3}).reshaped({3, 0}).reshaped({0}).padded(0, 1, 1);
  EXPECT_EQ(map.extent_in(0), 2);
  std::array<int64_t, 2> lower{};
  EXPECT_FALSE(map.lower(std::array<int64_t, 1>{0}, lower));
}

}  // namespace
}  // namespace tile
