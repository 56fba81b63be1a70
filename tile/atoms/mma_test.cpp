#include "tile/atoms/mma.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tile/atoms/mfma.h"
#include "tile/exec/emulator.h"
#include "tile/testing/teams.h"

namespace tile::simt {
namespace {

template <class Left, class Right, class Instruction = Mma<Left, Right>>
struct Case {
  using LeftElement = Left;
  using RightElement = Right;
  using Atom = Instruction;
};

template <class T>
class MatrixAtoms : public ::testing::Test {};
using Cases = ::testing::Types<Case<float16, float16>, Case<bfloat16, bfloat16>, Case<float, float>, Case<int8_t, int8_t>, Case<int8_t, uint8_t>,
                               Case<uint8_t, int8_t>, Case<uint8_t, uint8_t>, Case<float16, float16, Mfma<float16>>, Case<bfloat16, bfloat16, Mfma<bfloat16>>,
                               Case<int8_t, int8_t, Mfma<int8_t>>>;
TYPED_TEST_SUITE(MatrixAtoms, Cases);

/// One warp multiplies whole matrices that lie row by row, k contiguous.
template <class Atom, class Left, class Right>
struct Product {
  const Left* a;
  const Right* b;
  typename Atom::Sum* c;

  template <class Exec>
  void operator()(Exec& ex) const {
    const auto words_of_a = as<const uint32_t>(ex.global(a, Atom::m * Atom::k)), words_of_b = as<const uint32_t>(ex.global(b, Atom::n * Atom::k));
    const auto out = ex.global(c, Atom::m * Atom::n);
    typename Atom::A left;
    typename Atom::B right;
    typename Atom::C sums;
    const int lane = ex.lane();
    for (int i = 0; i < Atom::a_words; ++i) left.word[i] = words_of_a[Atom::a_row(lane, i) * Atom::words + Atom::a_word(lane, i)];
    for (int i = 0; i < Atom::b_words; ++i) right.word[i] = words_of_b[Atom::b_column(lane, i) * Atom::words + Atom::b_word(lane, i)];
    for (int i = 0; i < 4; ++i) sums.value[i] = out[Atom::c_row(lane, i) * Atom::n + Atom::c_column(lane, i)];
    Atom::run(ex, sums, left, right);
    for (int i = 0; i < 4; ++i) out[Atom::c_row(lane, i) * Atom::n + Atom::c_column(lane, i)] = sums.value[i];
  }
};

TYPED_TEST(MatrixAtoms, MultipliesMatrices) {
  using Left = typename TypeParam::LeftElement;
  using Right = typename TypeParam::RightElement;
  using Atom = typename TypeParam::Atom;
  std::mt19937 random(7);  // NOLINT: the same every time
  alignas(16) Left a[Atom::m * Atom::k];
  alignas(16) Right b[Atom::n * Atom::k];
  typename Atom::Sum c[Atom::m * Atom::n], expected[Atom::m * Atom::n];
  // Small integers: every type holds them, and every sum is exact.
  const auto fill = [&]<class T>(T* to, int count) {
    for (int i = 0; i < count; ++i) to[i] = store_as<T>(static_cast<float>(static_cast<int>(random() % 13) - (std::is_unsigned_v<T> ? 0 : 6)));
  };
  fill(a, Atom::m * Atom::k);
  fill(b, Atom::n * Atom::k);
  for (int i = 0; i < Atom::m * Atom::n; ++i) expected[i] = c[i] = static_cast<typename Atom::Sum>(i - 50);
  for (int m = 0; m < Atom::m; ++m)
    for (int n = 0; n < Atom::n; ++n)
      for (int k = 0; k < Atom::k; ++k)
        expected[m * Atom::n + n] += load_as<typename Atom::Sum>(a[m * Atom::k + k]) * load_as<typename Atom::Sum>(b[n * Atom::k + k]);
  testing::TestTeam team;
  launch_emulated<Atom::warp_size>(Product<Atom, Left, Right>{a, b, c}, Launch{.blocks = 1, .threads = Atom::warp_size}, team.team(), 1);
  for (int i = 0; i < Atom::m * Atom::n; ++i) EXPECT_EQ(c[i], expected[i]) << i;
}

// The layouts as the PTX ISA gives them for each type, by element: with g = lane / 4, t = lane % 4.
TEST(MatrixAtoms, HoldElementsWhereTheInstructionSetSays) {
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 8; ++i) {  // m16n8k16, 16-bit elements
      using Atom = Mma<float16>;
      EXPECT_EQ(Atom::a_row(lane, i / 2), (i < 2 || (i >= 4 && i < 6)) ? g : g + 8);
      EXPECT_EQ(Atom::a_word(lane, i / 2) * 2 + i % 2, t * 2 + (i & 1) + (i >= 4 ? 8 : 0));
    }
    for (int i = 0; i < 4; ++i) EXPECT_EQ(Mma<float16>::b_word(lane, i / 2) * 2 + i % 2, t * 2 + (i & 1) + (i >= 2 ? 8 : 0));
    for (int i = 0; i < 4; ++i) {  // m16n8k8, tf32
      EXPECT_EQ(Mma<float>::a_row(lane, i), (i == 0 || i == 2) ? g : g + 8);
      EXPECT_EQ(Mma<float>::a_word(lane, i), i < 2 ? t : t + 4);
    }
    for (int i = 0; i < 16; ++i) {  // m16n8k32, bytes
      using Atom = Mma<int8_t>;
      EXPECT_EQ(Atom::a_row(lane, i / 4), (i < 4 || (i >= 8 && i < 12)) ? g : g + 8);
      EXPECT_EQ(Atom::a_word(lane, i / 4) * 4 + i % 4, t * 4 + (i & 3) + (i >= 8 ? 16 : 0));
    }
    for (int i = 0; i < 8; ++i) EXPECT_EQ(Mma<int8_t>::b_word(lane, i / 4) * 4 + i % 4, t * 4 + (i & 3) + (i >= 4 ? 16 : 0));
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(Mma<float16>::c_row(lane, i), i < 2 ? g : g + 8);
      EXPECT_EQ(Mma<float16>::c_column(lane, i), t * 2 + (i & 1));
    }
    EXPECT_EQ(Mma<float16>::b_column(lane, 0), g);
  }
}

TEST(MatrixAtoms, FloatsAreRoundedToTheNearestOfTheUnits) {
  const auto rounded = [](float x) { return bit_cast<float>(detail::as_factor<float>(bit_cast<uint32_t>(x))); };
  EXPECT_EQ(rounded(1 + 0x1p-12F), 1.0F);
  EXPECT_EQ(rounded(1 + 0x1p-11F), 1 + 0x1p-10F);  // a half, away from zero
  EXPECT_EQ(rounded(-1 - 0x1p-11F), -1 - 0x1p-10F);
  EXPECT_EQ(rounded(-1 - 0x1.8p-12F), -1.0F);
  EXPECT_EQ(rounded(0x1.fffffep127F), INFINITY);
  EXPECT_EQ(rounded(-INFINITY), -INFINITY);
  EXPECT_TRUE(std::isnan(bit_cast<float>(detail::as_factor<float>(0x7f800001U))));
  // Errors point both ways: chopped, factors would shrink by 0.36 · 2^-10 in the mean.
  std::mt19937 random(3);
  double error = 0;
  constexpr int count = 100000;
  for (int i = 0; i < count; ++i) {
    const float x = 1 + static_cast<float>(random() % (1U << 23)) * 0x1p-23F;
    error += (static_cast<double>(rounded(x)) - static_cast<double>(x)) / static_cast<double>(x);
  }
  EXPECT_LT(std::abs(error / count), 0x1p-10 / 100);
}

}  // namespace
}  // namespace tile::simt
