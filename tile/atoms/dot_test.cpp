#include "tile/atoms/dot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace tile {
namespace {

/// The atom's step for one lane of each vector, with lanes of zeros beside it.
template <class P, class B>
P stepped(P sum, const typename Dot<P, B>::left_type* left, const B& weights) {
  using Atom = Dot<P, B>;
  B panel[lanes<P>] = {};
  panel[lanes<P> - 1] = weights;
  vec<P> sums = broadcast(P{});
  sums[lanes<P> - 1] = sum;
  Atom::add(sums, Atom::broadcast(left), Atom::load_lanes(panel));
  if constexpr (std::is_integral_v<P>) {  // infinities times the zeros beside them are NaN
    for (int j = 0; j + 1 < lanes<P>; ++j) EXPECT_EQ(sums[j], P{}) << "lane " << j;
  }
  return sums[lanes<P> - 1];
}

template <class B>
void expect_exact_integers() {
  using Atom = Dot<int32_t, B>;
  using L = typename Atom::left_type;
  using W = typename Atom::weight_type;
  std::mt19937 random(1);
  const auto any = [&]<class T>(T) {
    const T extremes[] = {std::numeric_limits<T>::min(), std::numeric_limits<T>::max(), 0, 1, static_cast<T>(-1)};
    return random() % 3 == 0 ? extremes[random() % 5] : static_cast<T>(random());
  };
  for (int i = 0; i < 20000; ++i) {
    L left[Atom::group];
    B weights;
    int64_t expected = i % 2 ? static_cast<int32_t>(random()) : 0;
    const auto sum = static_cast<int32_t>(expected);
    for (int e = 0; e < Atom::group; ++e) {
      left[e] = any(L{}), weights.of[e] = any(W{});
      expected += int64_t{left[e]} * int64_t{weights.of[e]};
    }
    ASSERT_EQ(Atom::emulate(sum, left, weights.of), static_cast<int32_t>(static_cast<uint64_t>(expected)));
    ASSERT_EQ(stepped(sum, left, weights), static_cast<int32_t>(static_cast<uint64_t>(expected)));
  }
}

/// test_native compiles this file for the machine that builds it, and says what that lacks.
TEST(Dot, BytesAreMultipliedByTheMachinesInstruction) {
#if !defined(__AVX512VNNI__)
  GTEST_SKIP() << "compiled for a machine without vpdpbusd";
#endif
}
TEST(Dot, BfloatsAreMultipliedByTheMachinesInstruction) {
#if !defined(__AVX512BF16__)
  GTEST_SKIP() << "compiled for a machine without vdpbf16ps";
#endif
}

TEST(Dot, BytesNeverSaturate) { expect_exact_integers<ByteQuad>(); }
TEST(Dot, ShortsNeverSaturate) { expect_exact_integers<ShortPair>(); }

TEST(Dot, TheLargestBytesOfEachSign) {
  const uint8_t left[4] = {255, 255, 255, 255};
  EXPECT_EQ(stepped<int32_t>(7, left, ByteQuad{{-128, -128, -128, -128}}), 7 - 4 * 255 * 128);
  EXPECT_EQ(stepped<int32_t>(7, left, ByteQuad{{127, 127, 127, 127}}), 7 + 4 * 255 * 127);
}

bfloat16 bits(uint32_t value) { return {static_cast<uint16_t>(value)}; }

TEST(Dot, BfloatsAreWithinARoundingOfEachProduct) {
  using Atom = Dot<float, BfloatPair>;
  std::mt19937 random(1);
  std::uniform_real_distribution<float> in(-2, 2);
  for (int i = 0; i < 20000; ++i) {
    const bfloat16 left[2] = {store_as<bfloat16>(in(random)), store_as<bfloat16>(in(random))};
    const BfloatPair weights{{store_as<bfloat16>(in(random)), store_as<bfloat16>(in(random))}};
    const float sum = in(random);
    double exact = sum, magnitude = std::abs(sum);
    for (int e = 0; e < 2; ++e) {
      const double term = static_cast<double>(to_float(left[e])) * static_cast<double>(to_float(weights.of[e]));
      exact += term, magnitude += std::abs(term);
    }
    ASSERT_NEAR(stepped(sum, left, weights), exact, 2 * magnitude * 0x1p-24);
    ASSERT_NEAR(Atom::emulate(sum, left, weights.of), exact, 2 * magnitude * 0x1p-24);
  }
}

TEST(Dot, BfloatsOfAnyBitsAreWhatEmulationSays) {
  using Atom = Dot<float, BfloatPair>;
  std::mt19937 random(2);
  for (int i = 0; i < 200000; ++i) {
    const bfloat16 left[2] = {bits(random()), bits(random())};
    const BfloatPair weights{{bits(random()), bits(random())}};
    const float sum = bit_cast<float>(static_cast<uint32_t>(random()));
    const float expected = Atom::emulate(sum, left, weights.of), got = stepped(sum, left, weights);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(got));
    } else {
      ASSERT_EQ(bit_cast<uint32_t>(got), bit_cast<uint32_t>(expected)) << i;
    }
  }
}

TEST(Dot, BfloatInfinitiesAndNansComeThrough) {
  const bfloat16 infinite[2] = {bits(0x7f80), bits(0x3f80)}, nan[2] = {bits(0x3f80), bits(0x7fc0)};
  const BfloatPair ones{{bits(0x3f80), bits(0x3f80)}}, opposite{{bits(0xbf80), bits(0x3f80)}}, zeros{};
  EXPECT_EQ(stepped(1.0F, infinite, ones), INFINITY);
  EXPECT_EQ(stepped(1.0F, infinite, opposite), -INFINITY);
  EXPECT_TRUE(std::isnan(stepped(1.0F, infinite, zeros)));
  EXPECT_TRUE(std::isnan(stepped(1.0F, nan, ones)));
}

TEST(Dot, BfloatSubnormalsCountAsZeros) {
  const bfloat16 tiny[2] = {bits(0x0040), bits(0x807f)};
  const BfloatPair large{{bits(0x7f00), bits(0x7f00)}};
  EXPECT_EQ(stepped(0.0F, tiny, large), 0.0F);
}

TEST(Dot, TheRestOfARunReadsNothingBehindIt) {
  for (i64 rest = 1; rest < 4; ++rest)
    for (i64 before : {0, 1, 2, 9}) {
      std::vector<uint8_t> row(static_cast<size_t>(before + rest));  // its end is what AddressSanitizer guards
      for (size_t i = 0; i < row.size(); ++i) row[i] = static_cast<uint8_t>(200 + i);
      const auto word = static_cast<uint32_t>(Dot<int32_t, ByteQuad>::broadcast_rest(row.data() + row.size(), rest, before)[0]);
      for (i64 e = 0; e < 4; ++e) EXPECT_EQ(word >> 8 * e & 0xff, e < rest ? static_cast<uint32_t>(200 + before + e) : 0U) << rest << " " << before << " " << e;
    }
  const std::vector<bfloat16> row = {bits(5), bits(6), bits(7)};
  EXPECT_EQ((Dot<float, BfloatPair>::broadcast_rest(row.data() + 3, 1, 2)[0]), 7U);
  EXPECT_EQ((Dot<float, BfloatPair>::broadcast_rest(row.data() + 1, 1, 0)[0]), 5U);
}

TEST(Dot, GroupsArePackedRunByRun) {
  std::vector<ByteQuad> panels(static_cast<size_t>(2 * 2 * 2 * 2));
  pack_groups(panels.data(), 3, 2, 5, 2, [](i64 outer, i64 k) { return static_cast<int8_t>(10 * outer + k); });
  const auto at = [&](size_t i) { return std::vector<int>(panels[i].of, panels[i].of + 4); };
  EXPECT_EQ(at(0), (std::vector<int>{0, 1, 2, 3}));
  EXPECT_EQ(at(1), (std::vector<int>{10, 11, 12, 13}));
  EXPECT_EQ(at(2), (std::vector<int>{4, 0, 0, 0}));
  EXPECT_EQ(at(4), (std::vector<int>{5, 6, 7, 8}));  // the second run
  EXPECT_EQ(at(8), (std::vector<int>{20, 21, 22, 23}));
  EXPECT_EQ(at(9), (std::vector<int>{0, 0, 0, 0}));  // no fourth column
}

}  // namespace
}  // namespace tile
