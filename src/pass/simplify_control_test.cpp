#include "pass/simplify_control.h"

#include "pass/testing.h"

namespace tilewright::pass_testing {
namespace {

constexpr auto pass = "simplify_control";

std::string graph(const std::string& body, const std::string& inputs = "%x: f32[2]") { return "graph \"g\" (" + inputs + ") -> (%y) { " + body + " }"; }

const std::string branches = R"(
  graph "then" (%a: f32[2]) -> (%b) { %b: f32[2] = neg(%a) ;"" }
  graph "else" (%a: f32[2]) -> (%c) { const %two: f32[] = {2} %c: f32[2] = mul(%a, %two) ;"" } )";

TEST(SimplifyControl, KnownConditionsTakeTheirBranch) {
  const std::string choice = "%d: f32[2] = if(%flag, %x) ;\"If_1\"" + branches + "%y: f32[2] = exp(%d) ;\"\"";
  expect_pass(pass, graph("const %flag: bool[] = {1} " + choice), graph("%b: f32[2] = neg(%x) ;\"\" %y: f32[2] = exp(%b) ;\"\""));
  expect_pass(pass, graph("const %flag: bool[1] = {0} " + choice),
              graph("const %two: f32[] = {2} %c: f32[2] = mul(%x, %two) ;\"\" %y: f32[2] = exp(%c) ;\"\""));
}

TEST(SimplifyControl, ATakenBranchThatOnlyPassesOn) {
  expect_pass(pass, graph(R"(const %flag: bool[] = {1} %d: f32[2] = if(%flag, %x) ;"" graph "" (%a: f32[2]) -> (%a) { }
    graph "" (%a: f32[2]) -> (%b) { %b: f32[2] = neg(%a) ;"" } %y: f32[2] = exp(%d) ;"")"),
              graph("%y: f32[2] = exp(%x) ;\"\""));
}

TEST(SimplifyControl, UnknownConditionsKeepBothBranches) {
  expect_unchanged(pass, graph("%y: f32[2] = if(%flag, %x) ;\"\"" + branches, "%x: f32[2], %flag: bool[]"));
}

TEST(SimplifyControl, AResultWhoseSizeTheBranchTellsKeepsTheIf) {
  expect_unchanged(pass, graph(R"(const %flag: bool[] = {1}
    %d: f32[B] = if(%flag, %x) bound_axes=ints[0] bound_outputs=ints[0] bound_symbols=texts["B"] ;""
      graph "" (%a: f32[2]) -> (%a) { }
      graph "" (%a: f32[2]) -> (%b) { %b: f32[1] = slice(%a) counts=dims["1"] starts=dims["0"] steps=ints[1] ;"" }
    %y: f32[B] = neg(%d) ;"")"));
}

TEST(SimplifyControl, BranchesWithinTakenBranches) {
  expect_pass(pass, graph(R"(const %flag: bool[] = {0} %y: f32[2] = if(%flag, %x, %flag) ;""
      graph "" (%a: f32[2], %f: bool[]) -> (%a) { }
      graph "" (%a: f32[2], %f: bool[]) -> (%b) {
        %b: f32[2] = if(%f, %a) ;""
          graph "" (%p: f32[2]) -> (%p) { }
          graph "" (%p: f32[2]) -> (%q) { %q: f32[2] = neg(%p) ;"" }
      })"),
              graph("%y: f32[2] = neg(%x) ;\"\""));
}

TEST(SimplifyControl, SizesLearnedInATakenBranchAreLearnedBeforeTheyAreUsed) {
  // The reader of the result stands before what the branch brings.
  const std::string inputs = "%x: f32[4], %n: i64[]";
  expect_pass(pass,
              graph(R"(const %flag: bool[] = {1} %d: f32[] = if(%flag, %x, %n) ;""
      graph "" (%a: f32[4], %m: i64[]) -> (%s) {
        bind(%m) symbols=texts["K"] ;""
        %c: f32[K] = slice(%a) counts=dims["K"] starts=dims["0"] steps=ints[1] ;""
        %s: f32[] = reduce_sum(%c) axes=ints[0] keep_dims=0 ;""
      }
      graph "" (%a: f32[4], %m: i64[]) -> (%zero) { const %zero: f32[] = {0} }
    %y: f32[4] = add(%x, %d) ;"")",
                    inputs),
              graph(R"(bind(%n) symbols=texts["K"] ;""
    %c: f32[K] = slice(%x) counts=dims["K"] starts=dims["0"] steps=ints[1] ;""
    %s: f32[] = reduce_sum(%c) axes=ints[0] keep_dims=0 ;""
    %y: f32[4] = add(%x, %s) ;"")",
                    inputs),
              {false, 1e-6});
}

TEST(SimplifyControl, ChecksOfATakenBranchStandBeforeWhatTheyGuard) {
  Graph g = parse_graph(graph(R"(const %flag: bool[] = {1} %d: f32[] = if(%flag, %x) ;""
      graph "" (%a: f32[N]) -> (%s) {
        require() lhs=dims["N"] message="three" rhs=dims["3"] ;""
        %c: f32[3] = reshape(%a) dims=dims["3"] ;""
        %s: f32[] = reduce_sum(%c) axes=ints[0] keep_dims=0 ;""
      }
      graph "" (%a: f32[N]) -> (%zero) { const %zero: f32[] = {0} }
    %y: f32[N] = add(%x, %d) ;"")",
                              "%x: f32[N]"));
  run_pass(pass, g);
  std::vector<std::string> ops;
  for (const Node& node : g.nodes) ops.push_back(node.op);
  EXPECT_EQ(ops, (std::vector<std::string>{"require", "reshape", "reduce_sum", "add"}));
}

TEST(SimplifyControl, ConstantsGoIntoBodies) {
  const std::string inputs = "%x: f32[2], %flag: bool[]";
  expect_pass(pass,
              graph(R"(const %k: f32[] = {3} %y: f32[2] = if(%flag, %x, %k) ;""
      graph "" (%a: f32[2], %c: f32[]) -> (%a) { }
      graph "" (%a: f32[2], %c: f32[]) -> (%b) { %b: f32[2] = mul(%a, %c) ;"" })",
                    inputs),
              graph(R"(%y: f32[2] = if(%flag, %x) ;""
      graph "" (%a: f32[2]) -> (%a) { }
      graph "" (%a: f32[2]) -> (%b) { const %v: f32[] = {3} %b: f32[2] = mul(%a, %v) ;"" })",
                    inputs));
}

TEST(SimplifyControl, WhatOneBranchReadsIsPassedOn) {
  expect_unchanged(pass, graph(R"(%y: f32[2] = if(%flag, %x, %z) ;""
      graph "" (%a: f32[2], %c: f32[2]) -> (%c) { }
      graph "" (%a: f32[2], %c: f32[2]) -> (%b) { %b: f32[2] = neg(%a) ;"" })",
                               "%x: f32[2], %flag: bool[], %z: f32[2]"));
}

TEST(SimplifyControl, ConstantsGoIntoBodiesUnderNamesOfTheirOwn) {
  const std::string inputs = "%x: f32[2], %flag: bool[]";
  Graph g = parse_graph(graph(R"(const %k: f32[] = {3} %y: f32[2] = if(%flag, %x, %k) ;""
      graph "" (%c_value: f32[2], %c: f32[]) -> (%c_value) { }
      graph "" (%c_value: f32[2], %c: f32[]) -> (%b) { %b: f32[2] = mul(%c_value, %c) ;"" })",
                              inputs));
  run_pass(pass, g);
  EXPECT_NO_THROW(verify_types(g));
  run_pass(pass, g);
  EXPECT_NO_THROW(verify_types(g));
}

TEST(SimplifyControl, LoopsTakeInvariantsButNotWhatTheyCarry) {
  expect_pass(pass, graph(R"(const %trips: i64[] = {3} const %k: f32[] = {2} const %start: f32[2] = {1, 1}
    %y: f32[2] = loop(%trips, -, %start, %x, %k, %x) carried=1 ;""
      graph "" (%i: i64[], %go: bool[], %a: f32[2], %unread: f32[2], %c: f32[], %d: f32[2]) -> (%go, %b) {
        %s: f32[2] = mul(%a, %c) ;"" %b: f32[2] = add(%s, %d) ;"" })"),
              graph(R"(const %trips: i64[] = {3} const %start: f32[2] = {1, 1}
    %y: f32[2] = loop(%trips, -, %start, %x) carried=1 ;""
      graph "" (%i: i64[], %go: bool[], %a: f32[2], %d: f32[2]) -> (%go, %b) {
        const %v: f32[] = {2} %s: f32[2] = mul(%a, %v) ;"" %b: f32[2] = add(%s, %d) ;"" })"));
}

TEST(SimplifyControl, AFormalOfAnotherTypeStays) {
  // The body was built for any size of the invariant.
  expect_unchanged(pass, graph(R"(const %trips: i64[] = {2} const %k: f32[2] = {1, 2}
    %y: f32[N] = loop(%trips, -, %x, %k) carried=1 ;""
      graph "" (%i: i64[], %go: bool[], %a: f32[N], %c: f32[N]) -> (%go, %b) { %b: f32[N] = mul(%a, %c) ;"" })",
                               "%x: f32[N]"));
}

}  // namespace
}  // namespace tilewright::pass_testing
