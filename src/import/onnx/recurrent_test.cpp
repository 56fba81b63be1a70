#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "import/onnx/testing.h"

namespace tilewright::onnx {
namespace {

using testing::ElementsAre;
using namespace testing_support;

/// One hidden element, h' = x + h/2: every value follows by hand. Three steps, two sequences.
OneNode halving_rnn(const char* direction, int64_t directions) {
  OneNode n("RNN", 14);
  n.input(tensor_of(DType::f32, {3, 2, 1}, {1, 8, 2, 16, 4, 32}));
  n.input(tensor_of(DType::f32, {directions, 1, 1}, std::vector<double>(static_cast<size_t>(directions), 1)));
  n.input(tensor_of(DType::f32, {directions, 1, 1}, std::vector<double>(static_cast<size_t>(directions), 0.5)));
  n.attribute("hidden_size", int64_t{1}).attribute("direction", direction);
  n.attribute("activations", std::vector<std::string>(static_cast<size_t>(directions), "Affine"));
  return n;
}

TEST(Recurrent, rnn_carries_its_state_forward) {
  const auto out = halving_rnn("forward", 1).run(2);
  EXPECT_EQ(out[0].dims(), (std::vector<int64_t>{3, 1, 2, 1}));
  EXPECT_THAT(values(out[0]), ElementsAre(1, 8, 2.5, 20, 5.25, 42));
  EXPECT_THAT(values(out[1]), ElementsAre(5.25, 42));
}

TEST(Recurrent, reverse_starts_at_the_last_step_and_keeps_places) {
  const auto out = halving_rnn("reverse", 1).run(2);
  EXPECT_THAT(values(out[0]), ElementsAre(3, 24, 4, 32, 4, 32));
  EXPECT_THAT(values(out[1]), ElementsAre(3, 24));
}

TEST(Recurrent, bidirectional_puts_both_directions_beside_each_other) {
  const auto out = halving_rnn("bidirectional", 2).run(2);
  EXPECT_EQ(out[0].dims(), (std::vector<int64_t>{3, 2, 2, 1}));
  EXPECT_THAT(values(out[0]), ElementsAre(1, 8, 3, 24, 2.5, 20, 4, 32, 5.25, 42, 4, 32));
  EXPECT_THAT(values(out[1]), ElementsAre(5.25, 42, 3, 24));
}

TEST(Recurrent, a_sequence_that_ended_keeps_its_state_and_gives_zeros) {
  const auto out = halving_rnn("forward", 1).omitted().input(tensor_of(DType::i32, {2}, {2, 3})).run(2);
  EXPECT_THAT(values(out[0]), ElementsAre(1, 8, 2.5, 20, 0, 42));
  EXPECT_THAT(values(out[1]), ElementsAre(2.5, 42));
}

TEST(Recurrent, a_short_sequence_reversed_starts_at_its_own_end) {
  const auto out = halving_rnn("reverse", 1).omitted().input(tensor_of(DType::i32, {2}, {2, 3})).run(2);
  EXPECT_THAT(values(out[0]), ElementsAre(2, 24, 2, 32, 0, 32));
  EXPECT_THAT(values(out[1]), ElementsAre(2, 24));
}

TEST(Recurrent, clip_bounds_what_enters_the_activation) {
  const auto out = halving_rnn("forward", 1).attribute("clip", 4.0f).run(1);
  EXPECT_THAT(values(out[0]), ElementsAre(1, 4, 2.5, 4, 4, 4));
}

TEST(Recurrent, an_unknown_activation_is_refused_by_name) {
  OneNode n("RNN", 14);
  n.input(Tensor(DType::f32, {1, 1, 1})).input(Tensor(DType::f32, {1, 1, 1})).input(Tensor(DType::f32, {1, 1, 1}));
  n.attribute("activations", std::vector<std::string>{"Swish"});
  try {
    n.import();
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_input);
    EXPECT_THAT(error.what(), testing::HasSubstr("swish"));
  }
}

/// With zero weights all gates are σ(0) = 1/2 and candidates tanh(0) = 0: the cell halves.
TEST(Recurrent, lstm_forgets_by_its_gate) {
  OneNode n("LSTM", 14);
  n.input(Tensor(DType::f32, {2, 1, 3})).input(Tensor(DType::f32, {1, 4, 3})).input(Tensor(DType::f32, {1, 4, 1}));
  n.omitted().omitted().omitted().input(tensor_of(DType::f32, {1, 1, 1}, {8}));
  n.attribute("hidden_size", int64_t{1}).attribute("activations", std::vector<std::string>{"Sigmoid", "Tanh", "Affine"});
  const auto out = n.run(3);
  EXPECT_THAT(values(out[0]), ElementsAre(2, 1));
  EXPECT_THAT(values(out[2]), ElementsAre(2));
}

}  // namespace
}  // namespace tilewright::onnx
