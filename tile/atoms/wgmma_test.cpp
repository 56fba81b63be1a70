#include "tile/atoms/wgmma.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "tile/cast.h"
#include "tile/testing/emulation.h"

namespace tile::simt {
namespace {

template <class LeftType, class RightType, int width, Along a = Along::k, Along b = Along::k>
struct Case {
  using Left = LeftType;
  using Right = RightType;
  using Atom = Wgmma<Left, Right, width, a, b>;
  static constexpr Along along_a = a, along_b = b;
};

template <class T>
class WarpgroupAtoms : public ::testing::Test {};
using Cases =
    ::testing::Types<Case<float16, float16, 64>, Case<float16, float16, 256>, Case<bfloat16, bfloat16, 128>, Case<int8_t, int8_t, 64>,
                     Case<int8_t, uint8_t, 128>, Case<uint8_t, int8_t, 128>, Case<uint8_t, uint8_t, 256>, Case<float16, float16, 128, Along::rows, Along::k>,
                     Case<bfloat16, bfloat16, 128, Along::k, Along::rows>, Case<bfloat16, bfloat16, 256, Along::rows, Along::rows>>;
TYPED_TEST_SUITE(WarpgroupAtoms, Cases);

/// Where the instruction set has element (row, k) of a factor with a 128-byte swizzle, in bytes from its beginning: 16-byte pieces p of lines of 128 bytes
/// lie at p ^ line % 8. Along k, a line is a row; along rows, 64 rows of one k, with all 16 k of one group of 64 rows before the next group.
int place(Along along, int row, int k, int bytes) {
  const int line = along == Along::k ? row : row / 64 * 16 + k, byte = (along == Along::k ? k : row % 64) * bytes;
  return line * 128 + ((byte / 16) ^ (line % 8)) * 16 + byte % 16;
}

TYPED_TEST(WarpgroupAtoms, MultiplyMatrices) {
  using Left = typename TypeParam::Left;
  using Right = typename TypeParam::Right;
  using Atom = typename TypeParam::Atom;
  using Sum = typename Atom::Sum;
  constexpr int a_at = 0, b_at = 64 * 128, memory = b_at + Atom::n * 128;
  std::mt19937 random(7);  // NOLINT: the same every time
  const auto draw = [&]<class T>(T) {
    if constexpr (std::is_integral_v<T>)
      return static_cast<T>(random());
    else
      return store_as<T>(std::uniform_real_distribution<float>(-1, 1)(random));
  };
  std::vector<Left> a(static_cast<size_t>(Atom::m * Atom::k));
  std::vector<Right> b(static_cast<size_t>(Atom::n * Atom::k));
  for (Left& x : a) x = draw(Left{});
  for (Right& x : b) x = draw(Right{});
  std::vector<Sum> sums(static_cast<size_t>(Atom::m * Atom::n));
  testing::run({.threads = 128, .shared_bytes = memory}, [&](auto& ex) {
    const auto fill = [&]<class T>(const std::vector<T>& from, Along along, int at) {
      const auto to = ex.template shared<T>(at, memory / static_cast<int>(sizeof(T)) - at / static_cast<int>(sizeof(T)));
      for (int i = ex.thread(); i < static_cast<int>(from.size()); i += 128)
        to[place(along, i / Atom::k, i % Atom::k, sizeof(T)) / static_cast<int>(sizeof(T))] = from[static_cast<size_t>(i)];
    };
    fill(a, TypeParam::along_a, a_at);
    fill(b, TypeParam::along_b, b_at);
    ex.fence_async();
    ex.sync();
    const auto factor = [](uint32_t at, Along along) { return along == Along::k ? Factor{at} : Factor{at, 16 * 128, 8 * 128}; };
    typename std::decay_t<decltype(ex)>::template Sums<Sum, Atom::values> c(ex);
    for (int i = 0; i < Atom::values; ++i) c[i] = 99;
    for (const bool accumulate : {false, true}) {
      ex.fence_products(c);
      Atom::begin(ex, c, factor(a_at, TypeParam::along_a), factor(b_at, TypeParam::along_b), accumulate);
      ex.commit_products();
    }
    ex.template wait_products<0>();
    ex.settle(c);
    for (int i = 0; i < Atom::values; ++i) sums.at(static_cast<size_t>(Atom::row(ex.thread(), i) * Atom::n + Atom::column(ex.thread(), i))) = c[i];
  });
  for (int m = 0; m < Atom::m; ++m)
    for (int n = 0; n < Atom::n; ++n) {
      double sum = 0, size = 0;
      for (int k = 0; k < Atom::k; ++k) {
        const double product = load_as<double>(a[static_cast<size_t>(m * Atom::k + k)]) * load_as<double>(b[static_cast<size_t>(n * Atom::k + k)]);
        sum += 2 * product;
        size += 2 * std::abs(product);
      }
      // Every one of 2 k additions of floats rounds; integers are exact.
      const double tolerance = std::is_integral_v<Sum> ? 0 : size * 2 * Atom::k * 0x1p-24;
      EXPECT_NEAR(static_cast<double>(sums[static_cast<size_t>(m * Atom::n + n)]), sum, tolerance) << m << ", " << n;
    }
}

// PTX ISA, fragment D of wgmma.mma_async .m64nNk16: by warp, g = lane / 4, t = lane % 4.
TEST(WarpgroupAtoms, HoldResultsWhereTheInstructionSetSays) {
  using Atom = Wgmma<float16, float16, 128>;
  for (int thread = 0; thread < 128; ++thread) {
    const int warp = thread / 32, g = thread % 32 / 4, t = thread % 4;
    for (int j = 0; j < 128 / 8; ++j)
      for (int i = 0; i < 4; ++i) {
        EXPECT_EQ(Atom::row(thread, 4 * j + i), 16 * warp + (i < 2 ? g : g + 8));
        EXPECT_EQ(Atom::column(thread, 4 * j + i), 8 * j + 2 * t + (i & 1));
      }
  }
  EXPECT_EQ(Atom::values, 64);
}

// PTX ISA, "Matrix Descriptor Format": start address in bits 0 to 13, leading and stride byte offsets in 16 to 29 and 32 to 45, each without its last four
// bits; 1 in bits 62 to 63 is the 128-byte swizzle.
TEST(WarpgroupAtoms, DescriptorsHaveTheFieldsOfTheInstructionSet) {
  const uint64_t descriptor = Factor{0x12340, 0x2000, 0x400}.descriptor();
  EXPECT_EQ(descriptor & 0x3fff, 0x1234u);
  EXPECT_EQ(descriptor >> 16 & 0x3fff, 0x200u);
  EXPECT_EQ(descriptor >> 32 & 0x3fff, 0x40u);
  EXPECT_EQ(descriptor >> 49 & 7, 0u);
  EXPECT_EQ(descriptor >> 62, 1u);
}

}  // namespace
}  // namespace tile::simt
