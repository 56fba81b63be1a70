#include "pass/fold_constants.h"

#include "pass/testing.h"

namespace tilewright::pass_testing {
namespace {

constexpr auto pass = "fold_constants";

TEST(FoldConstants, ComputesWhatDependsOnConstantsOnly) {
  expect_pass(pass, from_x("f32[2]", R"(const %a: f32[2] = {1, 2}
    const %b: f32[1] = {0.5}
    %c: f32[2] = mul(%a, %b) ;""
    %d: f32[2] = neg(%c) ;""
    %y: f32[2] = add(%x, %d) ;"")"),
              from_x("f32[2]", "const %d: f32[2] = {-0.5, -1} %y: f32[2] = add(%x, %d) ;\"\""));
}

TEST(FoldConstants, RoundsAsTheGraphSays) {
  // 2²⁴ + 1 is no float32; 1/3 in bfloat16 is 0x3eab
  expect_pass(pass, from_x("f32[1]", R"(const %a: f32[1] = {16777216} const %b: f32[1] = {1}
    %c: f32[1] = add(%a, %b) ;""
    %y: f32[1] = mul(%x, %c) ;"")"),
              from_x("f32[1]", "const %c: f32[1] = {16777216} %y: f32[1] = mul(%x, %c) ;\"\""), {false, 1e-6});
  expect_pass(pass, from_x("bf16[1]", R"(const %a: bf16[1] = {1} const %b: bf16[1] = {3}
    %c: bf16[1] = div(%a, %b) ;""
    %y: bf16[1] = mul(%x, %c) ;"")"),
              from_x("bf16[1]", "const %c: bf16[1] = {0x3eab} %y: bf16[1] = mul(%x, %c) ;\"\""), {false, 0x1p-8});
}

TEST(FoldConstants, KeepsTheSignOfZeroAndWrapsIntegers) {
  expect_pass(pass, from_x("f32[1]", "const %a: f32[1] = {0} %b: f32[1] = neg(%a) ;\"\" %y: f32[1] = add(%x, %b) ;\"\""),
              from_x("f32[1]", "const %b: f32[1] = {-0.0} %y: f32[1] = add(%x, %b) ;\"\""));
  expect_pass(pass, from_x("u8[1]", "const %a: u8[1] = {200} %b: u8[1] = add(%a, %a) ;\"\" %y: u8[1] = add(%x, %b) ;\"\""),
              from_x("u8[1]", "const %b: u8[1] = {144} %y: u8[1] = add(%x, %b) ;\"\""));
}

TEST(FoldConstants, TurnsKnownContentsIntoConstants) {
  // One element of the shape [N,3]: the operand is no constant, the result is.
  expect_pass(pass, from_x("i64[N,1]", R"(%s: i64[2] {N, 3} = dims() sizes=dims["N", "3"] ;""
    %t: i64[1] {3} = slice(%s) counts=dims["1"] starts=dims["1"] steps=ints[1] ;""
    %y: i64[N,1] = add(%x, %t) ;"")"),
              from_x("i64[N,1]", "const %t: i64[1] = {3} %y: i64[N,1] = add(%x, %t) ;\"\""));
}

TEST(FoldConstants, LeavesContentsThatFloatsMayHaveRounded) {
  // As sizes, contents say 16777217 and 0; the float32 values are 16777216 and may be -0.
  for (const std::string contents : {"16777217", "0"})
    expect_unchanged(pass, from_x("f32[1]", "%t: f32[1] {" + contents + "} = neg(%x) ;\"\" %y: f32[1] = neg(%t) ;\"\""));
}

TEST(FoldConstants, LeavesWhatRunTimeSizesOrInputsEnter) {
  expect_unchanged(pass, from_x("f32[N]", "const %a: f32[1] = {2} %b: f32[N] = broadcast(%a) dims=dims[\"N\"] ;\"\" %y: f32[N] = add(%x, %b) ;\"\""));
  expect_unchanged(pass, from_x("f32[2]", "const %a: f32[2] = {1, 2} %b: f32[2] = mul(%x, %a) ;\"\" %y: f32[2] = add(%b, %a) ;\"\""));
}

TEST(FoldConstants, LeavesResultsMuchLargerThanTheirOperands) {
  const std::string at_limit = "f32[16384]", above = "f32[16385]";  // 64 KiB, and an element more
  const auto filled = [](const std::string& type, const std::string& dim) {
    return from_x(type, "const %a: f32[] = {2} %b: " + type + " = broadcast(%a) dims=dims[\"" + dim + "\"] ;\"\" %y: " + type + " = mul(%x, %b) ;\"\"");
  };
  expect_unchanged(pass, filled(above, "16385"));
  Graph small = parse_graph(filled(at_limit, "16384"));
  fold_constants(small);
  EXPECT_EQ(small.nodes.size(), 1u);
}

TEST(FoldConstants, WorksInBodiesAndKeepsAConstantOutput) {
  expect_pass(pass, R"(graph "g" (%x: f32[1], %flag: bool[]) -> (%y, %z) {
    const %c: f32[1] = {2}
    %z: f32[1] = neg(%c) ;""
    %y: f32[1] = if(%flag, %x) ;""
      graph "" (%a: f32[1]) -> (%e) { const %b: f32[1] = {3} %d: f32[1] = neg(%b) ;"" %e: f32[1] = mul(%a, %d) ;"" }
      graph "" (%a: f32[1]) -> (%a) { }
  })",
              R"(graph "g" (%x: f32[1], %flag: bool[]) -> (%y, %z) {
    const %z: f32[1] = {-2}
    %y: f32[1] = if(%flag, %x) ;""
      graph "" (%a: f32[1]) -> (%e) { const %d: f32[1] = {-3} %e: f32[1] = mul(%a, %d) ;"" }
      graph "" (%a: f32[1]) -> (%a) { }
  })");
}

}  // namespace
}  // namespace tilewright::pass_testing
