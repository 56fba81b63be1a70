#include "tile/kernels/depthwise_chain.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <vector>

#include "tile/testing/teams.h"

namespace tile {
namespace {

/// A chain over an input x: lines of 2x + 1, filtered, and of those 3y - 2. All values are whole and small, so sums are exact.
class Chain {
 public:
  Chain(const DepthwiseRowsShape& shape, std::mt19937& random) : s_(shape), planes_(shape.images * shape.input[0]) {
    std::uniform_int_distribution<int> value(-4, 4);
    x_.resize(static_cast<size_t>(planes_ * s_.input[1] * in_line()));
    weights_.resize(static_cast<size_t>(s_.kernel[1] * s_.kernel[2] * s_.channels));
    for (float& one : x_) one = static_cast<float>(value(random));
    for (float& one : weights_) one = static_cast<float>(value(random));
  }

  void run(bool computes, bool hands_on, i64 band_bytes, Team& team) {
    out_.assign(static_cast<size_t>(planes_ * s_.output[1] * out_line()), 0);
    std::vector<int> seen(out_.size());
    const auto store = [&](i64 line, i64 at, float value) {
      out_.at(static_cast<size_t>(line * out_line() + at)) = value;
      ++seen.at(static_cast<size_t>(line * out_line() + at));
    };
    const auto before = [&](i64 line, i64 lines, float* to, Team& alone) {
      EXPECT_EQ(alone.size, 1);
      for (i64 i = 0; i < lines * in_line(); ++i) to[i] = 2 * x_.at(static_cast<size_t>(line * in_line() + i)) + 1;
    };
    const auto middle = [&](const DepthwiseRowsShape& band, const float* from, i64 line, float* to, Team& alone) {
      const auto epilogue = [&](i64, i64 m0, i64 c0, i64 pixels, auto columns, const float* sums, i64 ld) {
        for (i64 i = 0; i < pixels; ++i)
          for (i64 j = 0; j < columns; ++j) {
            const i64 at = (m0 + i) * s_.channels + c0 + j;
            if (hands_on)
              to[at] = sums[i * ld + j];
            else
              store(line, at, sums[i * ld + j]);
          }
      };
      depthwise_rows<float, 4>(band, from, weights_.data(), epilogue, alone);
    };
    const auto after = [&](i64 line, i64 lines, const float* from, Team&) {
      for (i64 i = 0; i < lines * out_line(); ++i) store(line, i, 3 * from[i] - 2);
    };
    const float* const x = x_.data();
    if (computes && hands_on) depthwise_chain<float>(s_, before, middle, after, band_bytes, team);
    if (computes && !hands_on) depthwise_chain<float>(s_, before, middle, nullptr, band_bytes, team);
    if (!computes && hands_on) depthwise_chain<float>(s_, x, middle, after, band_bytes, team);
    for (i64 i = 0; i < static_cast<i64>(out_.size()); ++i) {
      ASSERT_EQ(seen[static_cast<size_t>(i)], 1) << "element " << i;
      ASSERT_EQ(out_[static_cast<size_t>(i)], expected(i, computes, hands_on)) << "element " << i;
    }
  }

 private:
  i64 in_line() const { return s_.input[2] * s_.channels; }
  i64 out_line() const { return s_.output[2] * s_.channels; }

  float expected(i64 element, bool computes, bool hands_on) const {
    const i64 c = element % s_.channels, ox = element / s_.channels % s_.output[2], oy = element / out_line() % s_.output[1];
    const i64 plane = element / out_line() / s_.output[1];
    float sum = 0;
    for (i64 ky = 0; ky < s_.kernel[1]; ++ky)
      for (i64 kx = 0; kx < s_.kernel[2]; ++kx) {
        const i64 y = oy * s_.stride[1] - s_.pad[1] + ky * s_.dilation[1], x = ox * s_.stride[2] - s_.pad[2] + kx * s_.dilation[2];
        if (y < 0 || y >= s_.input[1] || x < 0 || x >= s_.input[2]) continue;
        const float read = x_[static_cast<size_t>(((plane * s_.input[1] + y) * s_.input[2] + x) * s_.channels + c)];
        sum += weights_[static_cast<size_t>((ky * s_.kernel[2] + kx) * s_.channels + c)] * (computes ? 2 * read + 1 : read);
      }
    return hands_on ? 3 * sum - 2 : sum;
  }

  DepthwiseRowsShape s_;
  i64 planes_;
  std::vector<float> x_, weights_, out_;
};

TEST(DepthwiseChain, GivesWhatTheStagesGiveOneByOne) {
  std::mt19937 random(3);
  const auto up_to = [&](int most) { return static_cast<i64>(random() % static_cast<unsigned>(most)) + 1; };
  for (int round = 0; round < 150; ++round) {
    DepthwiseRowsShape s;
    s.images = up_to(3);
    s.channels = up_to(40);
    s.input[0] = s.output[0] = up_to(2);
    for (int d : {1, 2}) {
      s.input[d] = up_to(24);
      s.kernel[d] = up_to(5);
      s.stride[d] = up_to(4);
      s.dilation[d] = up_to(2);
      s.pad[d] = static_cast<i64>(random() % 4);
      const i64 room = s.input[d] + s.pad[d] + static_cast<i64>(random() % 4) - ((s.kernel[d] - 1) * s.dilation[d] + 1);
      s.output[d] = room < 0 ? 0 : room / s.stride[d] + 1;
    }
    Chain chain(s, random);
    const i64 a_line = s.input[2] * s.channels * 4;
    for (const int threads : {1, 2, 5})
      for (const i64 band_bytes : {i64{1}, 6 * a_line, i64{1} << 20}) {
        SCOPED_TRACE(::testing::Message() << s.images << "x" << s.input[0] << "x" << s.input[1] << "x" << s.input[2] << "x" << s.channels << ", kernel "
                                          << s.kernel[1] << "x" << s.kernel[2] << ", stride " << s.stride[1] << ", dilation " << s.dilation[1] << ", pad "
                                          << s.pad[1] << ", output height " << s.output[1] << ", " << threads << " threads, bands of " << band_bytes);
        testing::TestTeam team(threads);
        chain.run(true, true, band_bytes, team.team());
        chain.run(true, false, band_bytes, team.team());
        chain.run(false, true, band_bytes, team.team());
        if (::testing::Test::HasFatalFailure()) return;
      }
  }
}

TEST(DepthwiseChain, ComputesEachLineOnceWithoutSeams) {
  DepthwiseRowsShape s{.images = 2, .channels = 8, .input = {1, 30, 9}, .output = {1, 30, 9}, .kernel = {1, 3, 3}, .pad = {0, 1, 1}};
  std::vector<int> computed(60);
  const auto before = [&](i64 line, i64 lines, float* to, Team&) {
    for (i64 i = 0; i < lines * 9 * 8; ++i) to[i] = 0;
    for (i64 i = line; i < line + lines; ++i) ++computed.at(static_cast<size_t>(i));
  };
  const auto middle = [](const DepthwiseRowsShape&, const float*, i64, float*, Team&) {};
  testing::TestTeam team(1);
  depthwise_chain<float>(s, before, middle, nullptr, 7 * 9 * 8 * 4, team.team());
  for (const int times : computed) EXPECT_EQ(times, 1);
}

}  // namespace
}  // namespace tile
