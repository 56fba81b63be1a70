#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "import/onnx/testing.h"

namespace tilewright::onnx {
namespace {

using testing::ElementsAre;
using namespace testing_support;

TEST(Quantize, rounds_half_to_even_then_shifts_and_saturates) {
  const auto out = OneNode("QuantizeLinear", 13)
                       .input(tensor_of(DType::f32, {6}, {-1000, -1, 1, 3, 5, 1000}))
                       .input(tensor_of(DType::f32, {}, {2}))
                       .input(tensor_of(DType::u8, {}, {3}))
                       .run();
  EXPECT_EQ(out[0].dtype(), DType::u8);
  // halves: -0.5 → 0, 0.5 → 0, 1.5 → 2, 2.5 → 2
  EXPECT_THAT(values(out[0]), ElementsAre(0, 3, 3, 5, 5, 255));
}

TEST(Quantize, scales_along_an_axis) {
  const auto out = OneNode("QuantizeLinear", 13)
                       .input(tensor_of(DType::f32, {2, 2}, {4, 4, 8, 8}))
                       .input(tensor_of(DType::f32, {2}, {1, 2}))
                       .input(tensor_of(DType::i8, {2}, {0, 10}))
                       .attribute("axis", int64_t{0})
                       .run();
  EXPECT_THAT(values(out[0]), ElementsAre(4, 4, 14, 14));
}

TEST(Quantize, dequantizes_blocks_the_last_of_which_may_be_short) {
  const auto out = OneNode("DequantizeLinear", 21)
                       .input(tensor_of(DType::u8, {1, 5}, {1, 2, 3, 4, 5}))
                       .input(tensor_of(DType::f32, {1, 3}, {1, 10, 100}))
                       .input(tensor_of(DType::u8, {1, 3}, {0, 1, 2}))
                       .attribute("axis", int64_t{1})
                       .attribute("block_size", int64_t{2})
                       .run();
  EXPECT_THAT(values(out[0]), ElementsAre(1, 2, 20, 30, 300));
}

TEST(Quantize, a_tensor_of_zeros_stays_zeros_when_quantized_dynamically) {
  const auto out = OneNode("DynamicQuantizeLinear", 11).input(Tensor(DType::f32, {3})).run(3);
  EXPECT_THAT(values(out[0]), ElementsAre(0, 0, 0));
  EXPECT_THAT(values(out[2]), ElementsAre(0));
}

TEST(Quantize, integer_products_take_zero_points_of_rows_and_columns) {
  const auto out = OneNode("MatMulInteger", 10)
                       .input(tensor_of(DType::u8, {2, 2}, {1, 2, 3, 4}))
                       .input(tensor_of(DType::i8, {2, 2}, {1, -1, 2, -2}))
                       .input(tensor_of(DType::u8, {2}, {1, 3}))
                       .input(tensor_of(DType::i8, {2}, {0, 1}))
                       .run();
  EXPECT_EQ(out[0].dtype(), DType::i32);
  // rows less their zero points: [0 1], [0 1]; columns: [1 2], [-2 -3]
  EXPECT_THAT(values(out[0]), ElementsAre(2, -3, 2, -3));
}

TEST(Quantize, mismatched_block_counts_are_refused) {
  OneNode n("DequantizeLinear", 21);
  n.input(Tensor(DType::u8, {1, 5})).input(Tensor(DType::f32, {1, 2})).attribute("axis", int64_t{1}).attribute("block_size", int64_t{2});
  try {
    n.import();
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_input);
    EXPECT_THAT(error.what(), testing::HasSubstr("2 blocks of 2 for 5 elements"));
  }
}

}  // namespace
}  // namespace tilewright::onnx
