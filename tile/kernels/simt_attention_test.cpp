#include "tile/kernels/simt_attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tile/exec/emulator.h"
#include "tile/testing/teams.h"

namespace tile::simt {
namespace {

using detail::infinity;
using detail::quiet_nan;

/// What is added to the scores: (batch, row, key) -> float.
using Bias = float (*)(i64 batch, i64 row, i64 key);
float no_bias(i64, i64, i64) { return 0; }
float causal(i64, i64 row, i64 key) { return key > row + 3 ? -infinity : 0; }
float rows_without_keys(i64, i64 row, i64 key) { return row % 2 == 0 || key < 70 ? -infinity : 0; }
float rising(i64, i64, i64 key) { return static_cast<float>(key) * 0.25f; }
float not_a_number(i64, i64 row, i64 key) { return row == 1 && key == 40 ? quiet_nan : 0; }
float infinite(i64, i64 row, i64 key) { return row == 1 && key == 40 ? infinity : 0; }

/// How vectors lie: one after another; elements of all vectors together; one after another in whole pieces of 16 bytes.
enum class Lie { along, across, whole };

template <class T>
struct Lines {
  i64 lines, length, stride, step, apart;
  std::vector<T> data;

  Lines(i64 batch, i64 lines_, i64 length_, Lie lie, unsigned seed) : lines(lines_), length(length_) {
    stride = lie == Lie::across ? 1 : lie == Lie::along ? length + 3 : length + 8;
    step = lie == Lie::across ? lines + 5 : 1;
    apart = (lie == Lie::across ? step * length : stride * lines) + (lie == Lie::whole ? 16 : 7);
    data.resize(static_cast<size_t>(batch * apart) + 8);
    while (reinterpret_cast<uintptr_t>(begin()) % 16 != 0) ++shift;
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    for (T& x : data) x = store_as<T>(normal(random));
  }
  const T* begin() const { return data.data() + shift; }
  double at(i64 b, i64 line, i64 i) const { return load_as<float>(begin()[b * apart + line * stride + i * step]); }
  template <bool along, bool whole, class Exec>
  auto view(Exec& ex) const {
    const auto from = ex.global(begin(), static_cast<i64>(data.size()) - shift);
    return vectors<along, whole>([from, apart = apart](i64 batch) { return from + batch * apart; }, stride, step);
  }
  i64 shift = 0;
};

struct Sizes {
  i64 batch, rows, keys;
};

enum class Part { all, of_several, combine };

template <class How, class T, Lie lie, Part part = Part::all>
struct Kernel {
  AttentionExtents e;
  i64 parts;
  const Lines<T>*query, *key, *value;
  Bias bias;
  bool nan_is_zero;
  i64 value_head;
  std::vector<float>*out, *partial;
  std::vector<int>* seen;

  template <class Exec>
  void operator()(Exec& ex) const {
    constexpr bool along = lie != Lie::across, whole = lie == Lie::whole;
    const auto q = query->template view<along, whole>(ex);
    const auto k = key->template view<along, whole>(ex);
    const auto v = value->template view<along, whole>(ex);
    const auto to = ex.global(out->data(), static_cast<i64>(out->size()));
    const auto left_behind = ex.global(partial->data(), static_cast<i64>(partial->size()));
    const auto score = [&](i64 b, i64 row, i64 n, float sum) { return sum * 0.25f + bias(b, row, n); };
    const auto weight = [&](i64, i64, float total) { return nan_is_zero && total != total ? 0.0f : 1 / total; };
    const auto store = [&](i64 b, i64 row, i64 column, float x) {
      const i64 at = (b * e.rows + row) * value_head + column;
      to[at] = x;
      ++(*seen)[static_cast<size_t>(at)];
    };
    if constexpr (part == Part::all)
      How::run(ex, e, q, k, v, score, weight, store);
    else if constexpr (part == Part::of_several)
      How::run(ex, e, parts, q, k, v, score, weight, store, left_behind);
    else
      How::combine(ex, e, parts, weight, store, left_behind);
  }
};

/// Softmax in double precision, as its formula reads, and how far a kernel may be off: rounding of scores of d products, of the power (`power_unit`:
/// of what powers are rounded to before they meet the values), and of a sum of `keys` values.
template <class How, class T, Lie lie, int warp = 32, bool few = false>
void check(int head, int width, const Sizes& s, Bias bias, double power_unit = 0, bool nan_is_zero = false, i64 multiprocessors = 1) {
  const Lines<T> query(s.batch, s.rows, head, lie, 1), key(s.batch, s.keys, head, lie, 2), value(s.batch, s.keys, width, lie, 3);
  testing::TestTeam team(1);
  std::vector<float> first;
  for (const uint64_t seed : {1, 2}) {
    std::vector<float> out(static_cast<size_t>(s.batch * s.rows * width), 77.0f);
    std::vector<int> seen(out.size());
    const AttentionExtents e{s.batch, s.rows, s.keys};
    if constexpr (few) {
      const i64 parts = How::parts(e, multiprocessors);
      std::vector<float> partial(static_cast<size_t>(s.batch * s.rows * parts * How::part_floats), 77.0f);
      launch_emulated<warp>(Kernel<How, T, lie, Part::of_several>{e, parts, &query, &key, &value, bias, nan_is_zero, width, &out, &partial, &seen},
                            Launch{s.batch * s.rows * parts, How::threads, How::shared_bytes}, team.team(), seed);
      if (parts > 1)
        launch_emulated<warp>(Kernel<How, T, lie, Part::combine>{e, parts, &query, &key, &value, bias, nan_is_zero, width, &out, &partial, &seen},
                              Launch{s.batch * s.rows, How::threads, 0}, team.team(), seed);
    } else {
      static_assert(How::fits);
      std::vector<float> none;
      launch_emulated<warp>(Kernel<How, T, lie>{e, 1, &query, &key, &value, bias, nan_is_zero, width, &out, &none, &seen},
                            Launch{How::blocks(e), How::threads, How::shared_bytes}, team.team(), seed);
    }
    for (const int times : seen) ASSERT_EQ(times, 1);
    if (first.empty()) first = out;
    for (size_t i = 0; i < out.size(); ++i) ASSERT_EQ(bit_cast<uint32_t>(out[i]), bit_cast<uint32_t>(first[i])) << "the order of threads matters";
  }
  for (i64 b = 0; b < s.batch; ++b)
    for (i64 i = 0; i < s.rows; ++i) {
      std::vector<double> powers(static_cast<size_t>(s.keys));
      double largest = -infinity, total = 0, magnitude = 0;
      for (i64 n = 0; n < s.keys; ++n) {
        double sum = 0, absolute = 0;
        for (i64 d = 0; d < head; ++d) {
          sum += query.at(b, i, d) * key.at(b, n, d);
          absolute += std::fabs(query.at(b, i, d) * key.at(b, n, d));
        }
        powers[static_cast<size_t>(n)] = sum * 0.25 + bias(b, i, n);
        magnitude = std::max(magnitude, absolute * 0.25);
        largest = std::max(largest, powers[static_cast<size_t>(n)]);
      }
      for (double& power : powers) total += power = std::exp(power - largest);
      for (i64 c = 0; c < width; ++c) {
        double sum = 0, absolute = 0, magnitudes = 0;
        for (i64 n = 0; n < s.keys; ++n) {
          sum += powers[static_cast<size_t>(n)] / total * value.at(b, n, c);
          absolute += std::fabs(powers[static_cast<size_t>(n)] / total * value.at(b, n, c));
          magnitudes += std::fabs(value.at(b, n, c)) / total;
        }
        const float got = first[static_cast<size_t>((b * s.rows + i) * width + c)];
        if (std::isnan(sum)) {
          ASSERT_TRUE(nan_is_zero ? got == 0 : std::isnan(got)) << got << " in row " << i;
        } else {
          const double steps = head * magnitude + static_cast<double>(s.keys) + 10;
          // Powers below the normal half floats are rounded to multiples of 2^-24.
          ASSERT_NEAR(got, sum, absolute * (steps * 0x1p-24 + power_unit) + (power_unit > 0 ? magnitudes * 0x1p-25 : 0))
              << "batch " << b << " row " << i << " column " << c << " of " << s.rows << "x" << s.keys;
        }
      }
    }
}

TEST(SimtAttention, StreamsByMultiplyAdd) {
  check<FmaAttention<64, 64>, float, Lie::along>(64, 64, {2, 67, 130}, no_bias);
  check<FmaAttention<64, 64>, float, Lie::across, 64>(64, 64, {1, 5, 70}, causal);
  check<FmaAttention<7, 3>, float, Lie::along>(7, 3, {3, 64, 64}, causal);
  check<FmaAttention<128, 128>, float, Lie::along>(128, 128, {1, 17, 65}, no_bias);
  check<FmaAttention<130, 200>, float, Lie::along, 64>(130, 200, {1, 9, 40}, no_bias);
  check<FmaAttention<16, 24>, float16, Lie::across>(16, 24, {2, 33, 100}, rising);
}

constexpr double half = 0x1p-11, brain = 0x1p-8;

TEST(SimtAttention, StreamsByMatrixInstructions) {
  check<MmaAttention<float16, 64, 64>, float16, Lie::along>(64, 64, {2, 67, 130}, no_bias, half);
  check<MmaAttention<float16, 64, 64>, float16, Lie::whole>(64, 64, {2, 67, 130}, causal, half);
  check<MmaAttention<bfloat16, 128, 128>, bfloat16, Lie::whole>(128, 128, {1, 65, 70}, no_bias, brain);
  check<MmaAttention<bfloat16, 40, 24>, bfloat16, Lie::across>(40, 24, {1, 3, 33}, rising, brain);
  check<MmaAttention<float16, 17, 3>, float16, Lie::along>(17, 3, {1, 20, 65}, causal, half);
  check<MmaAttention<float16, 192, 128>, float16, Lie::whole>(192, 128, {1, 16, 40}, no_bias, half);
}

TEST(SimtAttention, StreamsByMatrixInstructionsOfWavefronts) {
  check<MfmaAttention<float16, 64, 64>, float16, Lie::along, 64>(64, 64, {2, 67, 130}, no_bias, half);
  check<MfmaAttention<float16, 64, 64>, float16, Lie::whole, 64>(64, 64, {2, 67, 130}, causal, half);
  check<MfmaAttention<bfloat16, 128, 128>, bfloat16, Lie::whole, 64>(128, 128, {1, 65, 70}, no_bias, brain);
  check<MfmaAttention<float16, 40, 24>, float16, Lie::across, 64>(40, 24, {1, 3, 33}, rising, half);
}

TEST(SimtAttention, FewRowsShareTheirKeysAmongBlocks) {
  for (const i64 multiprocessors : {1, 40}) {
    check<FewRowsAttention<64, 64>, float, Lie::along, 32, true>(64, 64, {2, 1, 700}, no_bias, 0, false, multiprocessors);
    check<FewRowsAttention<64, 64>, float, Lie::across, 64, true>(64, 64, {2, 3, 513}, rising, 0, false, multiprocessors);
    check<FewRowsAttention<7, 200>, float, Lie::along, 64, true>(7, 200, {1, 4, 300}, causal, 0, false, multiprocessors);
    check<FewRowsAttention<128, 128>, bfloat16, Lie::along, 32, true>(128, 128, {1, 1, 1100}, no_bias, 0, false, multiprocessors);
  }
  EXPECT_EQ((FewRowsAttention<64, 64>::parts({2, 1, 700}, 40)), 3);
  EXPECT_EQ((FewRowsAttention<64, 64>::parts({32, 1, 4096}, 132)), 9);
  EXPECT_EQ((FewRowsAttention<64, 64>::parts({1, 1, 1 << 20}, 132)), 16);
  EXPECT_EQ((FewRowsAttention<64, 64>::parts({1, 1, 0}, 132)), 1);
}

TEST(SimtAttention, RowsWithoutKeysAreWhatTheModelSays) {
  for (const bool zero : {false, true}) {
    check<FmaAttention<16, 24>, float, Lie::along>(16, 24, {1, 37, 140}, rows_without_keys, 0, zero);
    check<MmaAttention<float16, 16, 24>, float16, Lie::along>(16, 24, {1, 37, 140}, rows_without_keys, half, zero);
    check<MfmaAttention<float16, 16, 24>, float16, Lie::along, 64>(16, 24, {1, 37, 140}, rows_without_keys, half, zero);
    check<FewRowsAttention<16, 24>, float, Lie::along, 32, true>(16, 24, {1, 3, 520}, rows_without_keys, 0, zero, 40);
  }
}

TEST(SimtAttention, NotANumberSpoilsItsRowAlone) {
  for (const Bias bias : {not_a_number, infinite}) {
    check<FmaAttention<16, 24>, float, Lie::along>(16, 24, {1, 20, 140}, bias);
    check<MmaAttention<float16, 16, 24>, float16, Lie::along>(16, 24, {1, 20, 140}, bias, half);
    check<MfmaAttention<float16, 16, 24>, float16, Lie::along, 64>(16, 24, {1, 20, 140}, bias, half);
    check<FewRowsAttention<16, 24>, float, Lie::along, 32, true>(16, 24, {1, 3, 520}, bias, 0, false, 40);
  }
}

template <class How, Part part>
std::vector<float> results_without_keys(i64 blocks) {
  const Lines<float16> some(1, 3, 24, Lie::along, 1);
  std::vector<float> out(3 * 24, 77.0f), none;
  std::vector<int> seen(out.size());
  testing::TestTeam team(1);
  launch_emulated<32>(Kernel<How, float16, Lie::along, part>{{1, 3, 0}, 1, &some, &some, &some, no_bias, false, 24, &out, &none, &seen},
                      Launch{blocks, How::threads, How::shared_bytes}, team.team(), 1);
  return out;
}

TEST(SimtAttention, WithoutKeysResultsAreZero) {
  const std::vector<float> zeros(3 * 24, 0.0f);
  EXPECT_EQ((results_without_keys<FmaAttention<16, 24>, Part::all>(1)), zeros);
  EXPECT_EQ((results_without_keys<MmaAttention<float16, 16, 24>, Part::all>(1)), zeros);
  EXPECT_EQ((results_without_keys<FewRowsAttention<16, 24>, Part::of_several>(3)), zeros);
}

}  // namespace
}  // namespace tile::simt
