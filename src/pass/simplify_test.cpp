#include "pass/simplify.h"

#include "pass/testing.h"

namespace tilewright::pass_testing {
namespace {

constexpr auto pass = "simplify";

/// neg(x op constant), or neg(constant op x): the result of the rule is not the graph's own output.
std::string binary(const std::string& op, const std::string& type, const std::string& constant, bool constant_first = false) {
  const std::string operands = constant_first ? "%c, %x" : "%x, %c";
  return from_x(type, "const %c: " + constant + " %a: " + type + " = " + op + "(" + operands + ") ;\"\" %y: " + type + " = neg(%a) ;\"\"");
}
std::string just_neg(const std::string& type) { return from_x(type, "%y: " + type + " = neg(%x) ;\"\""); }

TEST(Simplify, NeutralElementsVanish) {
  for (const std::string dtype : {"f32", "f64", "f16", "bf16", "i64", "i8", "u8"}) {
    const std::string type = dtype + "[N,2]";
    expect_pass(pass, binary("mul", type, dtype + "[] = {1}"), just_neg(type));
    expect_pass(pass, binary("mul", type, dtype + "[2] = {1, 1}", true), just_neg(type));
    expect_pass(pass, binary("div", type, dtype + "[1,2] = {1, 1}"), just_neg(type));
    expect_pass(pass, binary("sub", type, dtype + "[] = {0}"), just_neg(type));
  }
  expect_pass(pass, binary("pow", "f32[2]", "f32[] = {1}"), just_neg("f32[2]"));
  expect_pass(pass, binary("pow", "f32[2]", "i64[] = {1}"), just_neg("f32[2]"));
}

TEST(Simplify, AddingZeroVanishesForIntegersAndNegativeZero) {
  expect_pass(pass, binary("add", "i32[2]", "i32[] = {0}"), just_neg("i32[2]"));
  expect_pass(pass, binary("add", "i32[2]", "i32[] = {0}", true), just_neg("i32[2]"));
  expect_pass(pass, binary("add", "f32[2]", "f32[] = {-0.0}"), just_neg("f32[2]"));
  expect_pass(pass, binary("add", "f32[2]", "f32[2] = {-0.0, -0.0}", true), just_neg("f32[2]"));
}

TEST(Simplify, KeepsWhatChangesSomeValue) {
  expect_unchanged(pass, binary("add", "f32[2]", "f32[] = {0}"));  // -0 + 0 is 0
  expect_unchanged(pass, binary("add", "f32[2]", "f32[] = {0}", true));
  expect_unchanged(pass, binary("add", "f32[2]", "f32[2] = {-0.0, 0}"));
  expect_unchanged(pass, binary("sub", "f32[2]", "f32[] = {-0.0}"));     // -0 - -0 is 0
  expect_unchanged(pass, binary("sub", "i32[2]", "i32[] = {0}", true));  // 0 - x is -x
  expect_unchanged(pass, binary("div", "f32[2]", "f32[] = {1}", true));  // 1/x
  expect_unchanged(pass, binary("pow", "f32[2]", "f32[] = {1}", true));  // 1^x: NaN stays no NaN
  expect_unchanged(pass, binary("pow", "f32[2]", "f32[] = {0}"));
  expect_unchanged(pass, binary("mul", "f32[2]", "f32[] = {0}"));  // NaN·0, -1·0
  expect_unchanged(pass, binary("mul", "f32[2]", "f32[2] = {1, 0.99999994}"));
  expect_unchanged(pass, binary("mul", "f32[2]", "f32[] = {nan}"));
  expect_unchanged(pass, binary("mul", "f32[2]", "f32[] = {-1}"));
  expect_unchanged(pass, binary("pow", "i64[2]", "f64[] = {1}"));  // by way of float64: large integers would be rounded
}

TEST(Simplify, NeutralElementsThatBroadcastStay) {
  const auto broadcasts = [](const std::string& from, const std::string& constant, const std::string& to) {
    return from_x(from, "const %c: " + constant + " %a: " + to + " = mul(%x, %c) ;\"\" %y: " + to + " = neg(%a) ;\"\"");
  };
  expect_unchanged(pass, broadcasts("f32[1]", "f32[3] = {1, 1, 1}", "f32[3]"));
  expect_unchanged(pass, broadcasts("f32[2]", "f32[1,2] = {1, 1}", "f32[1,2]"));
  expect_unchanged(pass, broadcasts("f32[N]", "f32[3] = {1, 1, 1}", "f32[3]"));  // N may be 1
  expect_unchanged(pass, broadcasts("f32[2]", "f32[0,1] = {}", "f32[0,2]"));
}

TEST(Simplify, SquaresAreProducts) {
  expect_pass(pass, from_x("f32[N]", "const %c: f32[] = {2} %y: f32[N] = pow(%x, %c) ;\"\""), from_x("f32[N]", "%y: f32[N] = mul(%x, %x) ;\"\""));
  expect_unchanged(pass, from_x("i32[2]", "const %c: i32[] = {2} %y: i32[2] = pow(%x, %c) ;\"\""));
  expect_unchanged(pass, from_x("f32[2]", "const %c: f32[] = {3} %y: f32[2] = pow(%x, %c) ;\"\""));
  expect_unchanged(pass, from_x("f32[1]", "const %c: f32[2] = {2, 2} %y: f32[2] = pow(%x, %c) ;\"\""));
}

TEST(Simplify, InvolutionsCancel) {
  for (const auto& [op, type] :
       {std::pair<std::string, std::string>{"neg", "f32[N]"}, {"neg", "i8[3]"}, {"neg", "u8[3]"}, {"not", "bool[2]"}, {"bit_not", "i32[2]"}}) {
    const auto chain = [&, op = op, type = type](int length) {
      std::string body, last = "%x";
      for (int i = 1; i <= length; ++i) {
        const std::string next = i == length ? "%y" : "%a" + std::to_string(i);
        body += next + ": " + type + " = " + op + "(" + last + ") ;\"\" ";
        last = next;
      }
      return from_x(type, body);
    };
    expect_pass(pass, chain(3), chain(1));
    expect_pass(pass, chain(5), chain(1));
  }
  expect_unchanged(pass, from_x("f32[2]", "%a: f32[2] = abs(%x) ;\"\" %y: f32[2] = neg(%a) ;\"\""));
}

TEST(Simplify, TransposesJoinAndCancel) {
  const std::string type = "f32[N,2,3]", tail = " ;\"\" ";
  expect_pass(
      pass, from_x(type, "%a: f32[2,3,N] = transpose(%x) permutation=ints[1, 2, 0]" + tail + "%y: f32[3,2,N] = transpose(%a) permutation=ints[1, 0, 2]" + tail),
      from_x(type, "%y: f32[3,2,N] = transpose(%x) permutation=ints[2, 1, 0]" + tail));
  expect_pass(pass,
              from_x(type, "%a: f32[2,3,N] = transpose(%x) permutation=ints[1, 2, 0]" + tail + "%b: f32[N,2,3] = transpose(%a) permutation=ints[2, 0, 1]" +
                               tail + "%y: f32[N,2,3] = neg(%b)" + tail),
              just_neg(type));
  expect_pass(pass, from_x(type, "%a: f32[N,2,3] = transpose(%x) permutation=ints[0, 1, 2]" + tail + "%y: f32[N,2,3] = neg(%a)" + tail), just_neg(type));
  // Square: the type alone does not tell that something moved.
  expect_unchanged(pass, from_x("f32[2,2]", "%a: f32[2,2] = transpose(%x) permutation=ints[1, 0]" + tail + "%y: f32[2,2] = neg(%a)" + tail));
}

TEST(Simplify, JoinedMovementsLeaveTheInnerOneToItsOtherReaders) {
  expect_pass(pass, R"(graph "g" (%x: f32[2,3]) -> (%y, %z) {
    %z: f32[3,2] = transpose(%x) permutation=ints[1, 0] ;""
    %a: f32[6] = reshape(%z) dims=dims["6"] ;""
    %y: f32[2,3] = reshape(%a) dims=dims["2", "3"] ;""
  })",
              R"(graph "g" (%x: f32[2,3]) -> (%y, %z) {
    %z: f32[3,2] = transpose(%x) permutation=ints[1, 0] ;""
    %y: f32[2,3] = reshape(%z) dims=dims["2", "3"] ;""
  })");
}

TEST(Simplify, MovementsThatDoNothingVanish) {
  const auto moved = [](const std::string& type, const std::string& how) {
    return from_x(type, "%a: " + type + " = " + how + " ;\"\" %y: " + type + " = neg(%a) ;\"\"");
  };
  expect_pass(pass, moved("f32[N,2]", "reshape(%x) dims=dims[\"N\", \"2\"]"), just_neg("f32[N,2]"));
  expect_pass(pass, moved("f32[N,2]", "broadcast(%x) dims=dims[\"N\", \"2\"]"), just_neg("f32[N,2]"));
  expect_pass(pass, moved("f32[N,2]", "concat(%x) axis=1"), just_neg("f32[N,2]"));
  expect_pass(pass, moved("f32[N,2]", "slice(%x) counts=dims[\"N\", \"2\"] starts=dims[\"0\", \"0\"] steps=ints[1, 1]"), just_neg("f32[N,2]"));
  expect_pass(pass, moved("f32[N,2]", "cast(%x) to=dtype f32 mode=\"saturate\""), just_neg("f32[N,2]"));
  expect_unchanged(pass, moved("f32[2]", "slice(%x) counts=dims[\"2\"] starts=dims[\"1\"] steps=ints[-1]"));  // reversed
}

TEST(Simplify, ReshapesAndBroadcastsJoin) {
  expect_pass(pass, from_x("f32[4,N]", R"(%a: f32[2,2,N] = reshape(%x) dims=dims["2", "2", "N"] ;"" %y: f32[2,2*N] = reshape(%a) dims=dims["2", "2*N"] ;"")"),
              from_x("f32[4,N]", R"(%y: f32[2,2*N] = reshape(%x) dims=dims["2", "2*N"] ;"")"));
  expect_pass(pass, from_x("f32[1,N]", R"(%a: f32[2,N] = broadcast(%x) dims=dims["2", "N"] ;"" %y: f32[3,2,N] = broadcast(%a) dims=dims["3", "2", "N"] ;"")"),
              from_x("f32[1,N]", R"(%y: f32[3,2,N] = broadcast(%x) dims=dims["3", "2", "N"] ;"")"));
}

/// %y: slices of %x along axis 1, [start, end), concatenated.
std::string slices_of_x(const std::vector<std::pair<int, int>>& ranges, int rows = 2) {
  std::string text, operands;
  int columns = 0;
  for (const auto& [start, end] : ranges) {
    const std::string name = "%s" + std::to_string(start) + "_" + std::to_string(end);
    text += fmt::format("{}: f32[{},{}] = slice(%x) counts=dims[\"{}\", \"{}\"] starts=dims[\"0\", \"{}\"] steps=ints[1, 1] ;\"\" ", name, rows, end - start,
                        rows, end - start, start);
    operands += (operands.empty() ? "" : ", ") + name;
    columns += end - start;
  }
  return from_x("f32[2,6]", text + fmt::format("%y: f32[{},{}] = concat({}) axis=1 ;\"\"", rows, columns, operands));
}

TEST(Simplify, NeighbouringSlicesAreConcatenatedAsOne) {
  expect_pass(pass, slices_of_x({{4, 6}, {2, 3}, {0, 1}, {1, 4}}), slices_of_x({{4, 6}, {2, 3}, {0, 4}}));
  // All of it is what they were slices of.
  expect_pass(pass, from_x("f32[N,6]", R"(%a: f32[N,2] = slice(%x) counts=dims["N", "2"] starts=dims["0", "0"] steps=ints[1, 1] ;""
    %b: f32[N,4] = slice(%x) counts=dims["N", "4"] starts=dims["0", "2"] steps=ints[1, 1] ;"" %n: f32[N,2] = neg(%a) ;""
    %y: f32[N,8] = concat(%a, %b, %n) axis=1 ;"")"),
              from_x("f32[N,6]", R"(%a: f32[N,2] = slice(%x) counts=dims["N", "2"] starts=dims["0", "0"] steps=ints[1, 1] ;"" %n: f32[N,2] = neg(%a) ;""
    %y: f32[N,8] = concat(%x, %n) axis=1 ;"")"));
}

TEST(Simplify, OtherSlicesAreConcatenatedOneByOne) {
  expect_unchanged(pass, slices_of_x({{0, 2}, {3, 6}}));     // a gap
  expect_unchanged(pass, slices_of_x({{3, 6}, {0, 3}}));     // turned round
  expect_unchanged(pass, slices_of_x({{0, 3}, {3, 6}}, 1));  // of some rows
  expect_unchanged(pass, from_x("f32[2,6]", R"(%a: f32[2,2] = slice(%x) counts=dims["2", "2"] starts=dims["0", "0"] steps=ints[1, 2] ;""
    %b: f32[2,2] = slice(%x) counts=dims["2", "2"] starts=dims["0", "2"] steps=ints[1, 1] ;"" %y: f32[2,4] = concat(%a, %b) axis=1 ;"")"));
}

TEST(Simplify, CastsDoNotJoin) {
  expect_unchanged(pass, from_x("f32[2]", R"(%a: i8[2] = cast(%x) mode="saturate" to=dtype i8 ;"" %y: f32[2] = cast(%a) mode="saturate" to=dtype f32 ;"")"));
}

TEST(Simplify, AnOutputThatWouldBeAnInputStays) { expect_unchanged(pass, from_x("f32[2]", "const %c: f32[] = {1} %y: f32[2] = mul(%x, %c) ;\"\"")); }

TEST(Simplify, AnOutputTakesTheNameOfTheValueThatStandsForIt) {
  expect_pass(pass, from_x("f32[2]", "const %c: f32[] = {1} %a: f32[2] = neg(%x) ;\"\" %y: f32[2] = mul(%a, %c) ;\"\""), just_neg("f32[2]"));
  // Both are outputs: each keeps its name.
  const std::string both = R"(graph "g" (%x: f32[2]) -> (%a, %y) { const %c: f32[] = {1} %a: f32[2] = neg(%x) ;"" %y: f32[2] = mul(%a, %c) ;"" })";
  expect_unchanged(pass, both);
}

TEST(Simplify, WorksInBodies) {
  const std::string head = R"(graph "g" (%x: f32[1], %flag: bool[]) -> (%y) { %y: f32[1] = if(%flag, %x) ;"" graph "" (%a: f32[1]) -> (%a) { } )";
  expect_pass(pass, head + R"(graph "" (%a: f32[1]) -> (%d) { %b: f32[1] = neg(%a) ;"" %c: f32[1] = neg(%b) ;"" %d: f32[1] = neg(%c) ;"" } })",
              head + R"(graph "" (%a: f32[1]) -> (%d) { %d: f32[1] = neg(%a) ;"" } })");
}

}  // namespace
}  // namespace tilewright::pass_testing
