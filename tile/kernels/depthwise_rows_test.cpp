#include "tile/kernels/depthwise_rows.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <type_traits>
#include <vector>

#include "tile/testing/teams.h"

namespace tile {
namespace {

/// Sets the output extents: the padding at the end is `after`.
void close(DepthwiseRowsShape& s, int d, i64 after) {
  const i64 room = s.input[d] + s.pad[d] + after - ((s.kernel[d] - 1) * s.dilation[d] + 1);
  s.output[d] = room < 0 ? 0 : room / s.stride[d] + 1;
}

double expected_sum(const DepthwiseRowsShape& s, const auto* x, const auto* weights, i64 image, i64 position, i64 c) {
  double sum = 0;
  for (i64 t = 0; t < s.kernel[0] * s.kernel[1] * s.kernel[2]; ++t) {
    i64 o = position, k = t, from = 0, size = 1;
    bool inside = true;
    for (int d = 2; d >= 0; --d) {
      const i64 p = o % s.output[d] * s.stride[d] - s.pad[d] + k % s.kernel[d] * s.dilation[d];
      inside = inside && p >= 0 && p < s.input[d];
      from += p * size;
      size *= s.input[d], o /= s.output[d], k /= s.kernel[d];
    }
    if (inside) sum += load_as<double>(x[(image * size + from) * s.channels + c]) * static_cast<double>(weights[t * s.channels + c]);
  }
  return sum;
}

template <class X, class Acc, int rows>
void check(const DepthwiseRowsShape& s, int threads, std::mt19937& random) {
  const i64 plane = s.input[0] * s.input[1] * s.input[2], positions = s.output[0] * s.output[1] * s.output[2];
  const i64 taps = s.kernel[0] * s.kernel[1] * s.kernel[2];
  SCOPED_TRACE(::testing::Message() << "input " << s.input[0] << "x" << s.input[1] << "x" << s.input[2] << "x" << s.channels << ", kernel " << s.kernel[0]
                                    << "x" << s.kernel[1] << "x" << s.kernel[2] << ", stride " << s.stride[2] << ", dilation " << s.dilation[2] << ", pad "
                                    << s.pad[2] << ", output width " << s.output[2]);
  // Of exactly their size, so that a sanitizer sees what lies beyond.
  const auto x_count = static_cast<size_t>(s.images * plane * s.channels), w_count = static_cast<size_t>(taps * s.channels);
  const std::unique_ptr<X[]> x(new X[x_count]);
  const std::unique_ptr<Acc[]> weights(new Acc[w_count]);
  std::uniform_int_distribution<int> value(-8, 8);
  for (size_t i = 0; i < x_count; ++i) x[i] = store_as<X>(static_cast<float>(value(random)));
  for (size_t i = 0; i < w_count; ++i) weights[i] = static_cast<Acc>(value(random));
  std::vector<Acc> out(static_cast<size_t>(s.images * positions * s.channels));
  std::vector<int> seen(out.size());
  testing::TestTeam team(threads);
  depthwise_rows<Acc, rows>(
      s, x.get(), weights.get(),
      [&](i64 image, i64 m0, i64 n0, i64 pixels, auto columns, const Acc* tile, i64 ld) {
        for (i64 i = 0; i < pixels; ++i) {
          for (i64 j = 0; j < columns; ++j) {
            const auto at = static_cast<size_t>((image * positions + m0 + i) * s.channels + n0 + j);
            out.at(at) = tile[i * ld + j];
            ++seen[at];
          }
        }
      },
      team.team());
  for (i64 i = 0; i < s.images; ++i) {
    for (i64 m = 0; m < positions; ++m) {
      for (i64 c = 0; c < s.channels; ++c) {
        const auto at = static_cast<size_t>((i * positions + m) * s.channels + c);
        ASSERT_EQ(seen[at], 1) << "image " << i << " position " << m << " channel " << c;
        ASSERT_EQ(static_cast<double>(out[at]), expected_sum(s, x.get(), weights.get(), i, m, c)) << "image " << i << " position " << m << " channel " << c;
      }
    }
  }
}

const int channel_counts[] = {1, 3, 16, 17, 33, 96};

template <class X, class Acc, int rows>
void check_random(int rank, std::mt19937& random) {
  auto pick = [&](int from, int to) { return i64{std::uniform_int_distribution<int>(from, to)(random)}; };
  DepthwiseRowsShape s;
  s.images = pick(0, 3) == 0 ? 3 : 1;
  s.channels = channel_counts[pick(0, 5)];
  for (int d = 3 - rank; d < 3; ++d) {
    s.kernel[d] = pick(1, rank == 3 ? 3 : 7);
    s.stride[d] = pick(1, 3);
    s.dilation[d] = pick(1, 2);
    s.pad[d] = pick(0, 4);
    s.input[d] = pick(1, rank == 1 ? 150 : rank == 2 ? 24 : 7);
    close(s, d, pick(0, 4));
  }
  check<X, Acc, rows>(s, pick(0, 1) == 0 ? 1 : 3, random);
}

TEST(DepthwiseRows, EqualsItsDefinition) {
  std::mt19937 random(1);
  for (int i = 0; i < 60; ++i) {
    for (int rank = 1; rank <= 3; ++rank) check_random<float, float, 8>(rank, random);
    check_random<float, float, 3>(2, random);
    check_random<double, double, 6>(2, random);
  }
}

TEST(DepthwiseRows, SumsEveryWidthOfTheKernelsItKnows) {
  std::mt19937 random(2);
  for (i64 kernel : {1, 3, 5, 7}) {
    for (i64 stride : {1, 2, 3}) {
      for (i64 width = 1; width <= 36; width += width < 20 ? 1 : 5) {
        DepthwiseRowsShape s;
        s.channels = channel_counts[width % 6];
        s.input[1] = 3, s.input[2] = width;
        s.kernel[1] = s.kernel[2] = kernel;
        s.stride[2] = stride;
        s.pad[1] = s.pad[2] = kernel / 2;
        for (int d = 1; d < 3; ++d) close(s, d, kernel / 2);
        check<float, float, 8>(s, 1, random);
      }
    }
  }
}

TEST(DepthwiseRows, SharesOutLinesAndChannelsOfEveryImage) {
  std::mt19937 random(3);
  for (int threads : {1, 3}) {
    for (int channels : channel_counts) {
      for (i64 images : {1, 3}) {
        DepthwiseRowsShape s;
        s.images = images, s.channels = channels * 3;
        for (int d = 1; d < 3; ++d) {
          s.input[d] = 9, s.kernel[d] = 3, s.pad[d] = 1;
          close(s, d, 1);
        }
        check<float, float, 8>(s, threads, random);
      }
    }
  }
}

TEST(DepthwiseRows, ConvertsNarrowStorage) {
  std::mt19937 random(4);
  for (int i = 0; i < 20; ++i) {
    check_random<float16, float, 8>(2, random);
    check_random<bfloat16, float, 8>(2, random);
    check_random<int8_t, int32_t, 8>(2, random);
  }
}

TEST(DepthwiseRows, WholeBlocksHaveConstantColumns) {
  DepthwiseRowsShape s;
  s.channels = 100;
  s.input[2] = s.output[2] = 5;
  const std::vector<float> x(500, 1), weights(100, 2);
  testing::TestTeam team;
  i64 constant = 0, tails = 0;
  depthwise_rows<float, 8>(
      s, x.data(), weights.data(),
      [&](i64, i64, i64, i64 pixels, auto columns, const float*, i64) { (std::is_same_v<decltype(columns), i64> ? tails : constant) += pixels * columns; },
      team.team());
  EXPECT_EQ(tails, 5 * (100 % lanes<float>));
  EXPECT_EQ(constant + tails, 500);
}

TEST(DepthwiseRows, PaddingAloneGivesZeros) {
  std::mt19937 random(5);
  for (int empty = 1; empty < 3; ++empty) {
    DepthwiseRowsShape s;
    s.channels = 17;
    for (int d = 1; d < 3; ++d) {
      s.input[d] = d == empty ? 0 : 4, s.kernel[d] = 3, s.pad[d] = 2;
      close(s, d, 2);
    }
    check<float, float, 8>(s, 1, random);
  }
}

TEST(DepthwiseRows, CallsNothingForEmptyTensors) {
  for (int empty = 0; empty < 3; ++empty) {
    DepthwiseRowsShape s;
    (empty == 0 ? s.images : empty == 1 ? s.channels : s.output[1]) = 0;
    testing::TestTeam team(3);
    depthwise_rows<float, 8>(
        s, static_cast<const float*>(nullptr), static_cast<const float*>(nullptr), [](auto...) { ADD_FAILURE() << "called"; }, team.team());
  }
}

}  // namespace
}  // namespace tile
