#include "op/rounding.h"

#include <gtest/gtest.h>

#include <cmath>

namespace tilewright {
namespace {

/// Of the graph's first output.
HalfError half_error(const std::string& body, double product_step = 0) {
  const Graph graph = parse_graph("graph \"g\" (%x: f32[8,2]) -> (%y) {\n" + body + "\n}");
  return half_errors(graph, product_step).at(static_cast<size_t>(graph.outputs[0]));
}

const std::string cast = "%h: bf16[8,2] = cast(%x) mode=\"saturate\" to=dtype bf16 ;\"\" ";
constexpr double epsilon = 0x1p-7;

TEST(HalfErrors, Float32HasNone) {
  const HalfError none = half_error("const %w: f32[2,2] = {1, 2, 3, 4} %y: f32[8,2] = matmul(%x, %w) ;\"\"");
  EXPECT_EQ(none.rms, 0);
  EXPECT_EQ(none.largest, 0);
}

TEST(HalfErrors, AProductAddsItsActivationsAndItsWeights) {
  const HalfError two = half_error("const %w: bf16[2,2] = {1, 2, 3, 4} " + cast + "%y: f32[8,2] = matmul(%h, %w) dtype=dtype f32 ;\"\"");
  EXPECT_DOUBLE_EQ(two.rms, epsilon * std::sqrt(2.0));
  EXPECT_DOUBLE_EQ(two.largest, epsilon * 2);
}

TEST(HalfErrors, ProductsMayRoundOperandsOfFloats) {
  const HalfError two = half_error("const %w: f32[2,2] = {1, 2, 3, 4} %y: f32[8,2] = matmul(%x, %w) ;\"\"", 0x1p-10);
  EXPECT_DOUBLE_EQ(two.rms, 0x1p-10 * std::sqrt(2.0));
  EXPECT_DOUBLE_EQ(two.largest, 0x1p-9);
  EXPECT_EQ(half_error("%y: f32[8,2] = mul(%x, %x) ;\"\"", 0x1p-10).rms, 0);
}

TEST(HidesProducts, SumsOfProductsThatBroadcast) {
  const auto hides = [](const std::string& product) {
    return hides_products(parse_graph("graph \"g\" (%x: f32[8,1,2], %z: f32[1,4,2], %v: f32[8,4,2]) -> (%y) {\n" + product +
                                      " %y: f32[8,4] = reduce_sum(%p) axes=ints[2] keep_dims=0 ;\"\"\n}"));
  };
  EXPECT_TRUE(hides("%p: f32[8,4,2] = mul(%x, %z) ;\"\""));
  EXPECT_FALSE(hides("%p: f32[8,4,2] = mul(%v, %v) ;\"\""));  // a norm
  EXPECT_FALSE(hides("%p: f32[8,4,2] = add(%x, %z) ;\"\""));
}

TEST(HalfErrors, MovingAndWideningAddNothing) {
  const HalfError one =
      half_error(cast + "%t: bf16[2,8] = transpose(%h) permutation=ints[1, 0] ;\"\" %y: f32[2,8] = cast(%t) mode=\"saturate\" to=dtype f32 ;\"\"");
  EXPECT_DOUBLE_EQ(one.rms, epsilon);
  EXPECT_DOUBLE_EQ(one.largest, epsilon);
}

TEST(HalfErrors, Float16IsEightTimesFiner) { EXPECT_DOUBLE_EQ(half_error("%y: f16[8,2] = cast(%x) mode=\"saturate\" to=dtype f16 ;\"\"").rms, epsilon / 8); }

TEST(HalfErrors, FromOne16BitFormatToTheOtherIsARounding) {
  const HalfError two = half_error(cast + "%y: f16[8,2] = cast(%h) mode=\"saturate\" to=dtype f16 ;\"\"");
  EXPECT_DOUBLE_EQ(two.largest, epsilon + epsilon / 8);
}

TEST(HalfErrors, OfTwoPathsTheLongerCounts) {
  const HalfError error = half_error(cast +
                                     "%f: f32[8,2] = cast(%h) mode=\"saturate\" to=dtype f32 ;\"\" %n: f32[8,2] = neg(%f) ;\"\" "
                                     "%i: bf16[8,2] = cast(%n) mode=\"saturate\" to=dtype bf16 ;\"\" %y: bf16[16,2] = concat(%h, %i) axis=0 ;\"\"");
  EXPECT_DOUBLE_EQ(error.largest, 2 * epsilon);
}

}  // namespace
}  // namespace tilewright
