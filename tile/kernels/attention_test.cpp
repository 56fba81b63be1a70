#include "tile/kernels/attention.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tile/testing/teams.h"

namespace tile {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// How a matrix of `outer` × `k` lies, one batch entry after another.
struct Layout {
  i64 outer_stride, k_stride;
};
Layout by_rows(i64, i64 k) { return {k + 3, 1}; }
Layout one_behind_another(i64, i64 k) { return {k, 1}; }
Layout by_columns(i64 outer, i64) { return {1, outer + 5}; }
Layout scattered(i64, i64 k) { return {2 * k + 1, 2}; }

template <class T>
struct Matrices {
  i64 outer, k, apart;
  Layout layout;
  std::vector<T> data;

  Matrices(i64 batch, i64 outer_, i64 k_, Layout l, unsigned seed) : outer(outer_), k(k_), layout(l) {
    apart = (outer - 1) * l.outer_stride + (k - 1) * l.k_stride + 1 + 7;
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    data.resize(static_cast<size_t>(batch * apart));
    for (T& x : data) x = store_as<T>(normal(random));
  }
  Dense<T> view() const { return {data.data(), layout.outer_stride, layout.k_stride, BatchStride{apart}}; }
  double at(i64 b, i64 o, i64 kk) const { return load_as<float>(*view().at(b, o, kk)); }
};

struct Sizes {
  i64 batch, rows, keys;
};

/// What is added to the scores: (batch, row, key) -> float.
using Bias = float (*)(i64 batch, i64 row, i64 key);
float no_bias(i64, i64, i64) { return 0; }

/// Softmax in double precision, as its formula reads, and how far attention() may be off: rounding of scores of d products, of the power,
/// and of a sum of `keys` values; of powers to bfloats, where tiles multiply them.
template <class Blocks, class T = float>
void expect_attention(const Sizes& s, Layout (*keys_lie)(i64, i64), Layout (*values_lie)(i64, i64), Bias bias, int threads, bool nan_is_zero = false,
                      Layout (*queries_lie)(i64, i64) = by_rows) {
  constexpr i64 head = Blocks::head, width = Blocks::value_head;
  const Matrices<T> query(s.batch, s.rows, head, queries_lie(s.rows, head), 1), key(s.batch, s.keys, head, keys_lie(s.keys, head), 2),
      value(s.batch, width, s.keys, values_lie(width, s.keys), 3);
  testing::TestTeam team(threads);
  std::vector<float> out(static_cast<size_t>(s.batch * s.rows * width), 77.0f);
  std::vector<std::atomic<int>> seen(out.size());
  attention<Blocks>(
      {s.batch, s.rows, s.keys}, query.view(), key.view(), value.view(),
      [&](i64 b, i64 row0, i64 key0, i64 rows, auto columns, const float* sums, auto ld, float* to, i64 to_ld) {
        for (i64 i = 0; i < rows; ++i)
          for (i64 j = 0; j < columns; ++j) to[i * to_ld + j] = sums[i * ld + j] * 0.25f + bias(b, row0 + i, key0 + j);
      },
      [&](i64, i64, float total) { return nan_is_zero && std::isnan(total) ? 0.0f : 1 / total; },
      [&](i64 b, i64 row0, i64 column0, i64 rows, i64 columns, const float* sums, auto ld) {
        for (i64 i = 0; i < rows; ++i)
          for (i64 j = 0; j < columns; ++j) {
            const auto at = static_cast<size_t>((b * s.rows + row0 + i) * width + column0 + j);
            out.at(at) = sums[i * ld + j];
            ++seen[at];
          }
      },
      team.team());
  for (i64 b = 0; b < s.batch; ++b)
    for (i64 i = 0; i < s.rows; ++i) {
      std::vector<double> scores(static_cast<size_t>(s.keys));
      double largest = -infinity, total = 0, magnitude = 0;
      for (i64 n = 0; n < s.keys; ++n) {
        double sum = 0, absolute = 0;
        for (i64 d = 0; d < head; ++d) {
          sum += query.at(b, i, d) * key.at(b, n, d);
          absolute += std::fabs(query.at(b, i, d) * key.at(b, n, d));
        }
        // The model adds the bias in float.
        const double added = bias(b, i, n);
        scores[static_cast<size_t>(n)] = std::fabs(added) > 1e30 ? added : sum * 0.25 + added;
        magnitude = std::max(magnitude, absolute * 0.25);
        largest = std::max(largest, scores[static_cast<size_t>(n)]);
      }
      for (double& score : scores) total += score = std::exp(score - largest);
      for (i64 c = 0; c < width; ++c) {
        double sum = 0, absolute = 0;
        for (i64 n = 0; n < s.keys; ++n) {
          sum += scores[static_cast<size_t>(n)] / total * value.at(b, c, n);
          absolute += std::fabs(scores[static_cast<size_t>(n)] / total * value.at(b, c, n));
        }
        const auto at = static_cast<size_t>((b * s.rows + i) * width + c);
        ASSERT_EQ(seen[at], 1) << "row " << i << " column " << c;
        if (std::isnan(sum)) {
          ASSERT_TRUE(nan_is_zero ? out[at] == 0 : std::isnan(out[at])) << out[at] << " in row " << i;
        } else {
          const double steps =
              std::min<double>(head, 128) * magnitude + std::min<double>(static_cast<double>(s.keys), 128) + static_cast<double>(s.keys) / 128 + 10;
          const double powers = std::is_same_v<typename Blocks::element, bfloat16> ? 0x1p-8 : 0;
          ASSERT_NEAR(out[at], sum, absolute * (steps * 0x1p-24 + powers))
              << "batch " << b << " row " << i << " column " << c << " of " << s.rows << "x" << s.keys;
        }
      }
    }
}

template <class Blocks, class T = float>
void expect_all(const Sizes& sizes, Bias bias, bool nan_is_zero = false) {
  for (const auto keys_lie : {by_rows, by_columns, scattered})
    for (const auto values_lie : {by_rows, by_columns}) expect_attention<Blocks, T>(sizes, keys_lie, values_lie, bias, 1, nan_is_zero);
  expect_attention<Blocks, T>(sizes, by_rows, by_columns, bias, 3, nan_is_zero);
}

TEST(Attention, OneBlockOfKeys) {
  expect_all<AttentionBlocks<64, 64, 197>>({2, 67, 197}, no_bias);
  expect_all<AttentionBlocks<64, 64>>({2, 31, 101}, no_bias);
  expect_all<AttentionBlocks<40, 40, 77>>({3, 25, 77}, no_bias);
  expect_all<AttentionBlocks<7, 3>>({1, 5, 13}, no_bias);
  expect_all<AttentionBlocks<128, 160, 16>>({1, 24, 16}, no_bias);
}

TEST(Attention, SeveralBlocksOfKeys) {
  expect_all<AttentionBlocks<64, 64, 0, 128>>({2, 50, 523}, no_bias);
  expect_all<AttentionBlocks<64, 64, 523, 128>>({2, 50, 523}, no_bias);
  expect_all<AttentionBlocks<8, 20, 0, 64>>({1, 29, 200}, [](i64, i64, i64 key) { return static_cast<float>(key) * 0.5f; });   // ever larger scores
  expect_all<AttentionBlocks<8, 20, 0, 64>>({1, 29, 200}, [](i64, i64, i64 key) { return static_cast<float>(key) * -0.5f; });  // ever smaller ones
}

TEST(Attention, QueriesOneBehindAnotherAreReadInPlace) {
  for (const i64 rows : {48, 67}) expect_attention<AttentionBlocks<64, 64, 197>>({2, rows, 197}, by_rows, by_columns, no_bias, 1, false, one_behind_another);
  expect_attention<AttentionBlocks<40, 40, 0, 64>, float16>({2, 30, 131}, by_rows, by_columns, no_bias, 1, false, one_behind_another);
}

TEST(Attention, LongStretchesOfQueriesAreCut) { expect_attention<AttentionBlocks<16, 16, 0, 64>>({1, 1009, 131}, by_rows, by_columns, no_bias, 3); }

TEST(Attention, FewQueriesReadInPlace) {
  for (const i64 rows : {1, 2, 4}) {
    expect_all<AttentionBlocks<64, 64>>({3, rows, 127}, no_bias);
    expect_all<AttentionBlocks<64, 80, 0, 64>>({2, rows, 1031}, no_bias);
  }
  expect_all<AttentionBlocks<16, 16>>({2, 1, 1}, no_bias);
}

TEST(Attention, MaskedKeysHaveNoWeight) {
  const Bias causal = [](i64, i64 row, i64 key) { return key > row + 3 ? -infinity : 0; };
  const Bias late = [](i64, i64, i64 key) { return key < 130 ? -infinity : 0; };  // whole blocks of nothing first
  const Bias lowest = [](i64 b, i64, i64 key) { return b == 1 || key % 3 == 0 ? std::numeric_limits<float>::lowest() : 0; };
  for (const Bias bias : {causal, late, lowest}) {
    expect_all<AttentionBlocks<16, 24, 0, 64>>({2, 37, 211}, bias);
    expect_all<AttentionBlocks<16, 24, 211, 512>>({2, 37, 211}, bias);
    expect_all<AttentionBlocks<16, 24, 0, 64>>({2, 3, 211}, bias);
  }
}

TEST(Attention, RowsWithoutKeysAreWhatTheModelSays) {
  const Bias some = [](i64, i64 row, i64) { return row % 2 == 0 ? -infinity : 0; };
  for (const bool zero : {false, true}) {
    expect_all<AttentionBlocks<16, 24, 0, 64>>({2, 37, 211}, some, zero);
    expect_all<AttentionBlocks<16, 24, 0, 64>>({2, 3, 211}, some, zero);
  }
}

TEST(Attention, NotANumberSpoilsItsRowAlone) {
  const Bias spoilt = [](i64, i64 row, i64 key) { return row == 1 && key == 70 ? std::numeric_limits<float>::quiet_NaN() : 0; };
  const Bias infinite = [](i64, i64 row, i64 key) { return row == 1 && key == 70 ? infinity : 0; };
  for (const Bias bias : {spoilt, infinite})
    for (const bool zero : {false, true}) {
      expect_all<AttentionBlocks<16, 24, 0, 64>>({1, 29, 150}, bias, zero);
      expect_all<AttentionBlocks<16, 24, 0, 64>>({1, 2, 150}, bias, zero);
    }
}

TEST(Attention, ShortFloatsAreConvertedAsTheyAreRead) {
  expect_all<AttentionBlocks<64, 64>, float16>({2, 31, 101}, no_bias);
  expect_all<AttentionBlocks<64, 64>, bfloat16>({2, 1, 101}, no_bias);
}

struct OnTiles {
  template <i64 head, i64 value_head, i64 keys = 0, i64 limit = 256>
  using Blocks = AmxAttentionBlocks<head, value_head, keys, limit, EmulatedTiles>;
};
struct ByDots {
  template <i64 head, i64 value_head, i64 keys = 0, i64 limit = 256>
  using Blocks = AttentionBlocks<head, value_head, keys, limit, BfloatPair>;
};
template <class Kind>
class AttentionOfBfloats : public ::testing::Test {};
using Kinds = ::testing::Types<OnTiles, ByDots>;
TYPED_TEST_SUITE(AttentionOfBfloats, Kinds);

TYPED_TEST(AttentionOfBfloats, AnyNumberOfRowsKeysAndElements) {
  expect_all<typename TypeParam::template Blocks<64, 64, 197>, bfloat16>({2, 67, 197}, no_bias);
  expect_all<typename TypeParam::template Blocks<64, 64>, bfloat16>({2, 31, 101}, no_bias);
  expect_all<typename TypeParam::template Blocks<40, 40, 77>, bfloat16>({3, 25, 77}, no_bias);
  expect_all<typename TypeParam::template Blocks<80, 80, 0, 64>, bfloat16>({1, 33, 150}, no_bias);
  expect_all<typename TypeParam::template Blocks<7, 3>, bfloat16>({1, 5, 13}, no_bias);
  expect_all<typename TypeParam::template Blocks<128, 160, 16>, bfloat16>({1, 24, 16}, no_bias);
}

TYPED_TEST(AttentionOfBfloats, SeveralBlocksOfKeys) {
  expect_all<typename TypeParam::template Blocks<64, 64, 523, 128>, bfloat16>({2, 50, 523}, no_bias);
  expect_all<typename TypeParam::template Blocks<8, 20, 0, 64>, bfloat16>({1, 29, 200}, [](i64, i64, i64 key) { return static_cast<float>(key) * 0.5f; });
  expect_all<typename TypeParam::template Blocks<8, 20, 0, 64>, bfloat16>({1, 29, 200}, [](i64, i64, i64 key) { return static_cast<float>(key) * -0.5f; });
}

TYPED_TEST(AttentionOfBfloats, QueriesOneBehindAnotherAreReadInPlace) {
  expect_attention<typename TypeParam::template Blocks<64, 64, 197>, bfloat16>({2, 67, 197}, by_rows, by_columns, no_bias, 3, false, one_behind_another);
  expect_attention<typename TypeParam::template Blocks<40, 40>, bfloat16>({2, 30, 131}, by_rows, by_columns, no_bias, 1, false, one_behind_another);
  expect_attention<typename TypeParam::template Blocks<42, 42>, bfloat16>({2, 30, 131}, by_rows, by_columns, no_bias, 1, false, one_behind_another);
  expect_attention<typename TypeParam::template Blocks<42, 42>, bfloat16>({2, 30, 131}, by_rows, by_columns, no_bias, 1, false, scattered);
}

TYPED_TEST(AttentionOfBfloats, LongStretchesOfQueriesAreCut) {
  expect_attention<typename TypeParam::template Blocks<16, 16, 0, 64>, bfloat16>({1, 1409, 131}, by_rows, by_columns, no_bias, 3);
}

TYPED_TEST(AttentionOfBfloats, MaskedKeysAndNotANumber) {
  const Bias causal = [](i64, i64 row, i64 key) { return key > row + 3 ? -infinity : 0; };
  const Bias late = [](i64, i64, i64 key) { return key < 130 ? -infinity : 0; };
  const Bias some = [](i64, i64 row, i64) { return row % 2 == 0 ? -infinity : 0; };
  const Bias spoilt = [](i64, i64 row, i64 key) { return row == 1 && key == 70 ? std::numeric_limits<float>::quiet_NaN() : 0; };
  for (const Bias bias : {causal, late, some, spoilt})
    for (const bool zero : {false, true}) expect_all<typename TypeParam::template Blocks<16, 24, 0, 64>, bfloat16>({2, 37, 211}, bias, zero);
}

TEST(Attention, WithoutKeysResultsAreZero) {
  testing::TestTeam team(1);
  const float nothing = 0;
  const Dense<float> view{&nothing, 0, 1};
  std::vector<float> out(6 * 5, 77.0f);
  attention<AttentionBlocks<4, 5>>(
      {2, 3, 0}, view, view, view, [](auto...) { FAIL(); }, [](i64, i64, float) { return 1.0f; },
      [&](i64 b, i64 row0, i64 column0, i64 rows, i64 columns, const float* sums, i64 ld) {
        for (i64 i = 0; i < rows; ++i)
          for (i64 j = 0; j < columns; ++j) out.at(static_cast<size_t>((b * 3 + row0 + i) * 5 + column0 + j)) = sums[i * ld + j];
      },
      team.team());
  EXPECT_EQ(out, std::vector<float>(30, 0.0f));
}

}  // namespace
}  // namespace tile
