#include "tile/atoms/amx.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace tile {
namespace {

template <class B>
struct Operands {
  using Atom = Dot<std::conditional_t<std::is_same_v<B, BfloatPair>, float, int32_t>, B>;
  using L = typename Atom::left_type;
  using W = typename Atom::weight_type;
  std::vector<L> a;
  std::vector<B> panel;
  std::vector<W> weights;  ///< [columns, k]

  /// `rows` rows of `runs` runs side by side; bytes of any value, bfloats of small whole numbers.
  Operands(i64 rows, i64 columns, i64 runs, i64 depth, unsigned seed) {
    std::mt19937 random(seed);
    const auto any = [&]<class T>(T) {
      if constexpr (std::is_same_v<T, bfloat16>) {
        return store_as<bfloat16>(static_cast<float>(static_cast<int>(random() % 17) - 8));
      } else {
        return static_cast<T>(random() % 3 == 0 ? (random() % 2 ? 0x80 : 0xff) : random());
      }
    };
    for (i64 i = 0; i < rows * runs * depth; ++i) a.push_back(any(L{}));
    for (i64 i = 0; i < columns * runs * depth; ++i) weights.push_back(any(W{}));
    panel.resize(static_cast<size_t>(columns * runs * dot_steps(depth, Atom::group)));
    pack_groups(panel.data(), columns, runs, depth, static_cast<int>(columns),
                [&](i64 j, i64 k) { return weights[static_cast<size_t>(j * runs * depth + k)]; });
  }
};

template <class B, int rows, int vectors, i64 runs, i64 depth, class Run>
void check(const Run& run, unsigned seed) {
  const Operands<B> o(rows, 16 * vectors, runs, depth, seed);
  using P = std::conditional_t<std::is_same_v<B, BfloatPair>, float, int32_t>;
  std::vector<i64> offsets;
  for (i64 r = 0; r < runs; ++r) offsets.push_back(r * depth);
  std::vector<P> start;
  for (int j = 0; j < 16 * vectors; ++j) start.push_back(static_cast<P>(j * 3 - 7));
  for (const bool started : {false, true}) {
    std::vector<P> out(static_cast<size_t>(rows * 16 * vectors), P{77});
    run(o, offsets.data(), out.data(), started ? start.data() : nullptr);
    for (i64 i = 0; i < rows; ++i)
      for (i64 j = 0; j < 16 * vectors; ++j) {
        double expected = started ? static_cast<double>(start[static_cast<size_t>(j)]) : 0;
        for (i64 k = 0; k < runs * depth; ++k)
          expected += load_as<double>(o.a[static_cast<size_t>(i * runs * depth + k)]) * load_as<double>(o.weights[static_cast<size_t>(j * runs * depth + k)]);
        ASSERT_EQ(static_cast<double>(out[static_cast<size_t>(i * 16 * vectors + j)]), expected) << rows << "x" << vectors << ": " << i << " " << j;
      }
  }
}

template <class B, int rows, int vectors, i64 runs, i64 depth>
void check_block(unsigned seed) {
  using P = std::conditional_t<std::is_same_v<B, BfloatPair>, float, int32_t>;
  // Without the instructions, multiply() emulates.
  for (const auto multiply : {&AmxBlock<P, rows, vectors, runs * depth, B>::emulate, &AmxBlock<P, rows, vectors, runs * depth, B>::multiply}) {
    check<B, rows, vectors, runs, depth>(
        [&](const Operands<B>& o, const i64* offsets, P* out, const P* start) { multiply(runs, depth, o.a.data(), offsets, o.panel.data(), out, start); },
        seed);
    if (AmxBlock<P, rows, vectors, runs * depth, B>::native) return;  // src/target/byte_products_test.cpp asks whether they may run
  }
}

template <class B>
void check_all() {
  check_block<B, 32, 2, 1, 128>(1);
  check_block<B, 16, 2, 1, 64>(2);
  check_block<B, 16, 1, 3, 64>(3);
  check_block<B, 7, 2, 2, 70>(4);   // fewer rows than a tile, k between tiles
  check_block<B, 21, 1, 1, 33>(5);  // a tile and a piece of one
  check_block<B, 1, 1, 9, 3>(6);
}

TEST(AmxBlock, ReadsPanelsOfBytesAsTheyArePacked) { check_all<ByteQuad>(); }
TEST(AmxBlock, ReadsPanelsOfBfloatsAsTheyArePacked) { check_all<BfloatPair>(); }

}  // namespace
}  // namespace tile
