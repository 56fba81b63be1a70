#include "pass/share_common.h"

#include "pass/testing.h"

namespace tilewright::pass_testing {
namespace {

constexpr auto pass = "share_common";

/// Two nodes whose sum is %y.
std::string two(const std::string& type, const std::string& first, const std::string& second, const std::string& before = "") {
  return from_x(type, before + " %a: " + type + " = " + first + " ;\"one\" %b: " + type + " = " + second + " ;\"two\" %y: " + type + " = add(%a, %b) ;\"\"");
}
std::string shared(const std::string& type, const std::string& node, const std::string& before = "") {
  return from_x(type, before + " %a: " + type + " = " + node + " ;\"\" %y: " + type + " = add(%a, %a) ;\"\"");
}

TEST(ShareCommon, EqualNodesAreComputedOnce) {
  expect_pass(pass, two("f32[N]", "exp(%x)", "exp(%x)"), shared("f32[N]", "exp(%x)"));
  expect_pass(pass, two("f32[2,2]", "transpose(%x) permutation=ints[1, 0]", "transpose(%x) permutation=ints[1, 0]"),
              shared("f32[2,2]", "transpose(%x) permutation=ints[1, 0]"));
}

TEST(ShareCommon, ChainsAreSharedToTheirEnd) {
  expect_pass(pass, from_x("f32[N]", R"(%a: f32[N] = exp(%x) ;"" %b: f32[N] = exp(%x) ;"" %c: f32[N] = neg(%a) ;"" %d: f32[N] = neg(%b) ;""
    %y: f32[N] = sub(%c, %d) ;"")"),
              from_x("f32[N]", R"(%a: f32[N] = exp(%x) ;"" %c: f32[N] = neg(%a) ;"" %y: f32[N] = sub(%c, %c) ;"")"));
}

TEST(ShareCommon, EqualConstantsAreOne) {
  const std::string constants = "const %c: f32[2] = {1, 2} const %d: f32[2] = {1, 2}";
  expect_pass(pass, two("f32[2]", "mul(%x, %c)", "mul(%x, %d)", constants), shared("f32[2]", "mul(%x, %c)", "const %c: f32[2] = {1, 2}"));
}

TEST(ShareCommon, ConstantsThatDifferInAnyBitStay) {
  for (const std::string other : {"f32[] = {0}", "f32[1] = {-0.0}", "f32[] = {1e-45}"})
    expect_unchanged(pass, two("f32[2]", "mul(%x, %c)", "mul(%x, %d)", "const %c: f32[] = {-0.0} const %d: " + other));
  // The same bytes as another dtype or shape.
  expect_unchanged(pass, from_x("f32[1]", R"(const %c: f32[1] = {1} const %d: i32[1] = {1065353216} %a: f32[1] = mul(%x, %c) ;""
    %e: f32[1] = cast(%d) mode="saturate" to=dtype f32 ;"" %y: f32[1] = add(%a, %e) ;"")"));
}

TEST(ShareCommon, NodesThatDifferStay) {
  expect_unchanged(pass, two("f32[2]", "exp(%x)", "neg(%x)"));
  expect_unchanged(pass, two("f32[2]", "sub(%x, %c)", "sub(%c, %x)", "const %c: f32[2] = {1, 2}"));  // order matters
  expect_unchanged(pass, two("f32[2,2]", "transpose(%x) permutation=ints[1, 0]", "transpose(%x) permutation=ints[0, 1]"));
  expect_unchanged(
      pass, two("f32[2]", "slice(%x) counts=dims[\"2\"] starts=dims[\"0\"] steps=ints[1]", "slice(%x) counts=dims[\"2\"] starts=dims[\"1\"] steps=ints[-1]"));
  expect_unchanged(pass, from_x("f32[2]", R"(%a: i8[2] = cast(%x) mode="saturate" to=dtype i8 ;"" %b: i16[2] = cast(%x) mode="saturate" to=dtype i16 ;""
    %c: f32[2] = cast(%a) mode="saturate" to=dtype f32 ;"" %d: f32[2] = cast(%b) mode="saturate" to=dtype f32 ;"" %y: f32[2] = add(%c, %d) ;"")"));
}

TEST(ShareCommon, SeveralResultsAreSharedTogether) {
  const std::string top = " = top_k(%x) axis=0 k=dims[\"2\"] ;\"\" ";
  expect_pass(pass,
              from_x("f32[4]", "%a: f32[2], %i: i64[2]" + top + "%b: f32[2], %j: i64[2]" + top +
                                   "%s: f32[2] = sub(%a, %b) ;\"\" %g: f32[2] = gather(%s, %j) axis=0 ;\"\" %y: f32[2] = gather(%g, %i) axis=0 ;\"\""),
              from_x("f32[4]", "%a: f32[2], %i: i64[2]" + top +
                                   "%s: f32[2] = sub(%a, %a) ;\"\" %g: f32[2] = gather(%s, %i) axis=0 ;\"\" %y: f32[2] = gather(%g, %i) axis=0 ;\"\""));
}

TEST(ShareCommon, OutputsKeepTheirNames) {
  expect_unchanged(pass, R"(graph "g" (%x: f32[2]) -> (%y, %z) { %y: f32[2] = exp(%x) ;"" %z: f32[2] = exp(%x) ;"" })");
  expect_pass(pass, R"(graph "g" (%x: f32[2]) -> (%y) { %a: f32[2] = exp(%x) ;"" %y: f32[2] = exp(%x) ;"" })",
              R"(graph "g" (%x: f32[2]) -> (%y) { %y: f32[2] = exp(%x) ;"" })");
}

TEST(ShareCommon, BodiesShareAmongThemselvesOnly) {
  const auto text = [](const std::string& body) {
    return R"(graph "g" (%x: f32[1], %flag: bool[]) -> (%y) { %e: f32[1] = exp(%x) ;"" %f: f32[1] = if(%flag, %x) ;"" graph "" (%a: f32[1]) -> (%a) { }
      graph "" (%a: f32[1]) -> (%d) { )" +
           body + R"( } %y: f32[1] = add(%e, %f) ;"" })";
  };
  expect_pass(pass, text("%b: f32[1] = exp(%a) ;\"\" %c: f32[1] = exp(%a) ;\"\" %d: f32[1] = add(%b, %c) ;\"\""),
              text("%b: f32[1] = exp(%a) ;\"\" %d: f32[1] = add(%b, %b) ;\"\""));
}

TEST(ShareCommon, ControlFlowIsNotShared) {
  const std::string branch = R"(= if(%flag, %x) ;"" graph "" (%a: f32[1]) -> (%a) { } graph "" (%a: f32[1]) -> (%b) { %b: f32[1] = neg(%a) ;"" } )";
  expect_unchanged(pass,
                   R"(graph "g" (%x: f32[1], %flag: bool[]) -> (%y) { %p: f32[1] )" + branch + "%q: f32[1] " + branch + R"(%y: f32[1] = add(%p, %q) ;"" })");
}

}  // namespace
}  // namespace tilewright::pass_testing
