#include "pass/fold_affine.h"

#include "pass/testing.h"

namespace tilewright::pass_testing {
namespace {

constexpr auto pass = "fold_affine";

/// Stored weights are rounded once more: f32 epsilon, a few terms.
constexpr Agreement close = {false, 1e-6};

/// conv or conv_transpose of %x: f32[N,2,4] with 2 output channels, kernel 1, then `rest` from %a to %y.
std::string after_conv(const std::string& rest, const std::string& constants = "", const std::string& operands = "%x, %w",
                       const std::string& weights = "f32[2,2,1] = {1, 2, 3, 4}", const std::string& conv = "conv") {
  return from_x("f32[N,2,4]", "const %w: " + weights + " " + constants + " %a: f32[N,2,4] = " + conv + "(" + operands + ") ;\"\" " + rest);
}
/// The node `op` alone behind the convolution.
std::string then(const std::string& op, const std::string& constant) {
  return after_conv("%y: f32[N,2,4] = " + op + "(%a, %c) ;\"\"", "const %c: " + constant);
}
/// What is expected of it.
std::string folded(const std::string& weights, const std::string& bias = "", const std::string& conv = "conv") {
  return from_x("f32[N,2,4]", "const %w: f32[2,2,1] = {" + weights + "} " + (bias.empty() ? "" : "const %b: f32[2] = {" + bias + "} ") +
                                  "%y: f32[N,2,4] = " + conv + "(%x, %w" + (bias.empty() ? "" : ", %b") + ") ;\"\"");
}

TEST(FoldAffine, ScalesAndShiftsGoIntoWeightsAndBias) {
  expect_pass(pass, then("mul", "f32[2,1] = {10, 0.5}"), folded("10, 20, 1.5, 2"), close);
  expect_pass(pass, then("mul", "f32[1,2,1] = {10, 0.5}"), folded("10, 20, 1.5, 2"), close);
  expect_pass(pass, then("mul", "f32[] = {-2}"), folded("-2, -4, -6, -8"), close);
  expect_pass(pass, then("div", "f32[2,1] = {2, 4}"), folded("0.5, 1, 0.75, 1"), close);
  expect_pass(pass, then("add", "f32[2,1] = {10, 0.5}"), folded("1, 2, 3, 4", "10, 0.5"), close);
  expect_pass(pass, then("sub", "f32[2,1] = {10, 0.5}"), folded("1, 2, 3, 4", "-10, -0.5"), close);
}

TEST(FoldAffine, CommutingOperatorsTakeTheConstantOnEitherSide) {
  for (const auto& [op, weights, bias] : {std::tuple{"mul", "2, 4, 9, 12", ""}, {"add", "1, 2, 3, 4", "2, 3"}})
    expect_pass(pass, after_conv(std::string("%y: f32[N,2,4] = ") + op + "(%c, %a) ;\"\"", "const %c: f32[2,1] = {2, 3}"), folded(weights, bias), close);
  for (const std::string op : {"sub", "div"}) expect_unchanged(pass, after_conv("%y: f32[N,2,4] = " + op + "(%c, %a) ;\"\"", "const %c: f32[2,1] = {2, 3}"));
}

TEST(FoldAffine, TheBiasIsScaledToo) {
  expect_pass(pass,
              after_conv("%d: f32[N,2,4] = mul(%a, %c) ;\"\" %y: f32[N,2,4] = add(%d, %e) ;\"\"",
                         "const %b: f32[2] = {5, 6} const %c: f32[2,1] = {2, 3} const %e: f32[2,1] = {100, 200}", "%x, %w, %b"),
              folded("2, 4, 9, 12", "110, 218"), close);
  // Shift first: (conv + 1)·3.
  expect_pass(pass, after_conv("%d: f32[N,2,4] = add(%a, %e) ;\"\" %y: f32[N,2,4] = mul(%d, %c) ;\"\"", "const %c: f32[] = {3} const %e: f32[] = {1}"),
              folded("3, 6, 9, 12", "3, 3"), close);
}

TEST(FoldAffine, TransposedConvolutionsScaleTheSecondAxisOfTheirWeights) {
  const std::string weights = "f32[2,2,1] = {1, 2, 3, 4}";  // [input, output, kernel]
  expect_pass(pass, after_conv("%y: f32[N,2,4] = mul(%a, %c) ;\"\"", "const %c: f32[2,1] = {10, 100}", "%x, %w", weights, "conv_transpose"),
              folded("10, 200, 30, 400", "", "conv_transpose"), close);
}

TEST(FoldAffine, GroupsHaveWeightsOfTheirOwn) {
  // 2 groups of one channel each: conv weights [2,1,1], transposed [2,1,1] with output channel = group.
  for (const std::string op : {"conv", "conv_transpose"}) {
    const auto text = [&](const std::string& w, const std::string& rest) { return from_x("f32[N,2,4]", "const %w: f32[2,1,1] = {" + w + "} " + rest); };
    expect_pass(pass, text("3, 5", "const %c: f32[2,1] = {10, 100} %a: f32[N,2,4] = " + op + "(%x, %w) groups=2 ;\"\" %y: f32[N,2,4] = mul(%a, %c) ;\"\""),
                text("30, 500", "%y: f32[N,2,4] = " + op + "(%x, %w) groups=2 ;\"\""), close);
  }
  // Transposed, 2 groups, 2 results each: channel = group·2 + column.
  const auto wide = [](const std::string& w, const std::string& rest) { return from_x("f32[N,2,4]", "const %w: f32[2,2,1] = {" + w + "} " + rest); };
  expect_pass(
      pass,
      wide("1, 2, 3, 4", "const %c: f32[4,1] = {10, 20, 30, 40} %a: f32[N,4,4] = conv_transpose(%x, %w) groups=2 ;\"\" %y: f32[N,4,4] = mul(%a, %c) ;\"\""),
      wide("10, 40, 90, 160", "%y: f32[N,4,4] = conv_transpose(%x, %w) groups=2 ;\"\""), close);
}

TEST(FoldAffine, AFactorThatVariesAlongAnotherAxisStays) {
  expect_unchanged(pass, then("mul", "f32[4] = {1, 2, 3, 4}"));
  expect_unchanged(pass, then("add", "f32[1,1,4] = {1, 2, 3, 4}"));
  expect_unchanged(pass, then("mul", "f32[2,4] = {1, 2, 3, 4, 5, 6, 7, 8}"));
  // Two channels, two positions: [2] belongs to the positions.
  expect_unchanged(pass, from_x("f32[1,2,2]",
                                "const %w: f32[2,2,1] = {1, 2, 3, 4} const %c: f32[2] = {5, 6} %a: f32[1,2,2] = conv(%x, %w) ;\"\" "
                                "%y: f32[1,2,2] = mul(%a, %c) ;\"\""));
  // A constant along the batch.
  expect_unchanged(pass, from_x("f32[2,2,4]",
                                "const %w: f32[2,2,1] = {1, 2, 3, 4} const %c: f32[2,1,1] = {5, 6} %a: f32[2,2,4] = conv(%x, %w) ;\"\" "
                                "%y: f32[2,2,4] = mul(%a, %c) ;\"\""));
}

TEST(FoldAffine, AFactorThatWidensTheResultStays) {
  expect_unchanged(pass, from_x("f32[1,2,4]",
                                "const %w: f32[1,2,1] = {1, 2} const %c: f32[3,1] = {1, 2, 3} %a: f32[1,1,4] = conv(%x, %w) ;\"\" "
                                "%y: f32[1,3,4] = mul(%a, %c) ;\"\""));
  expect_unchanged(pass, from_x("f32[1,2,4]",
                                "const %w: f32[2,2,1] = {1, 2, 3, 4} const %c: f32[1,1,2,1] = {1, 2} %a: f32[1,2,4] = conv(%x, %w) ;\"\" "
                                "%y: f32[1,1,2,4] = mul(%a, %c) ;\"\""));
}

TEST(FoldAffine, AConvolutionWithOtherReadersStays) {
  expect_unchanged(pass, after_conv("%b: f32[N,2,4] = mul(%a, %c) ;\"\" %y: f32[N,2,4] = sub(%b, %a) ;\"\"", "const %c: f32[] = {3}"));
  expect_unchanged(pass, R"(graph "g" (%x: f32[1,2,4]) -> (%y, %a) { const %w: f32[2,2,1] = {1, 2, 3, 4} const %c: f32[] = {3}
    %a: f32[1,2,4] = conv(%x, %w) ;"" %y: f32[1,2,4] = mul(%a, %c) ;"" })");
}

TEST(FoldAffine, WhatIsNotConstantStays) {
  const auto with_inputs = [](const std::string& inputs, const std::string& body) { return "graph \"g\" (" + inputs + ") -> (%y) {" + body + "}"; };
  const std::string nodes = "%a: f32[1,2,4] = conv(%x, %w, %b) ;\"\" %y: f32[1,2,4] = mul(%a, %c) ;\"\"";
  const std::string x = "%x: f32[1,2,4]", w = "f32[2,2,1]", b = "f32[2]", c = "f32[2,1]";
  const std::string kw = "const %w: f32[2,2,1] = {1, 2, 3, 4} ", kb = "const %b: f32[2] = {1, 2} ", kc = "const %c: f32[2,1] = {5, 6} ";
  expect_unchanged(pass, with_inputs(x + ", %w: " + w, kb + kc + nodes));
  expect_unchanged(pass, with_inputs(x + ", %b: " + b, kw + kc + nodes));
  expect_unchanged(pass, with_inputs(x + ", %c: " + c, kw + kb + nodes));
}

TEST(FoldAffine, FactorsThatLeaveTheRangeStay) {
  expect_unchanged(pass, then("div", "f32[2,1] = {1, 0}"));  // x/0 = ±∞, x·(w·∞) may be NaN
  expect_unchanged(pass, then("mul", "f32[2,1] = {1, inf}"));
  expect_unchanged(pass, then("mul", "f32[2,1] = {1, nan}"));
  expect_unchanged(pass, then("add", "f32[2,1] = {1, -inf}"));
  expect_unchanged(pass, then("mul", "f32[2,1] = {1, 3e38}"));  // 4·3e38 overflows, 1e-10·4·3e38 does not
  expect_unchanged(pass, then("div", "f32[2,1] = {1, 1e-45}"));
}

TEST(FoldAffine, NarrowAndWidenedConvolutionsStay) {
  expect_unchanged(pass, from_x("f16[1,2,4]",
                                "const %w: f16[2,2,1] = {1, 2, 3, 4} const %c: f16[] = {3} %a: f16[1,2,4] = conv(%x, %w) ;\"\" "
                                "%y: f16[1,2,4] = mul(%a, %c) ;\"\""));
  expect_unchanged(pass, from_x("u8[1,2,4]",
                                "const %w: u8[2,2,1] = {1, 2, 3, 4} const %c: f32[] = {0.5} %a: f32[1,2,4] = conv(%x, %w) dtype=dtype f32 ;\"\" "
                                "%y: f32[1,2,4] = mul(%a, %c) ;\"\""));
}

TEST(FoldAffine, ABatchNormVanishes) {
  // γ = {2, 4}, β = {1, -1}, mean = {3, 5}, √(variance + ε) = {1, 2}: w·γ/σ, (b − mean)·γ/σ + β, as importers write it.
  expect_pass(
      pass,
      after_conv("%d: f32[N,2,4] = sub(%a, %m) ;\"\" %e: f32[N,2,4] = div(%d, %s) ;\"\" %f: f32[N,2,4] = mul(%e, %g) ;\"\" "
                 "%y: f32[N,2,4] = add(%f, %h) ;\"\"",
                 "const %b: f32[2] = {7, 8} const %m: f32[2,1] = {3, 5} const %s: f32[2,1] = {1, 2} const %g: f32[2,1] = {2, 4} const %h: f32[2,1] = {1, -1}",
                 "%x, %w, %b"),
      folded("2, 4, 6, 8", "9, 5"), close);
}

}  // namespace
}  // namespace tilewright::pass_testing
