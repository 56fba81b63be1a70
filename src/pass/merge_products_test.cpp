#include "pass/merge_products.h"

#include "pass/testing.h"

namespace tilewright::pass_testing {
namespace {

constexpr auto pass = "merge_products";

/// Matrices [2, columns] of small numbers that differ.
std::string weights(const std::string& name, int columns, int first) {
  std::string elements;
  for (int i = 0; i < 2 * columns; ++i) elements += fmt::format("{}{}", i ? ", " : "", (first + 3 * i) % 11 - 5);
  return fmt::format("const %{}: f32[2,{}] = {{{}}} ", name, columns, elements);
}

std::string slice(const std::string& to, const std::string& from, const std::string& rows, int start, int count) {
  return fmt::format("%{0}: f32[{2},{4}] = slice(%{1}) counts=dims[\"{2}\", \"{4}\"] starts=dims[\"0\", \"{3}\"] steps=ints[1, 1] ;\"\" ", to, from, rows,
                     start, count);
}

/// %x [N, 2] times two matrices, what follows each, and the product of both: %y.
std::string two(const std::string& after_p, const std::string& after_q, const std::string& constants = "") {
  return from_x("f32[N,2]", weights("v", 3, 1) + weights("w", 3, 4) + constants + "%p: f32[N,3] = matmul(%x, %v) ;\"\" %q: f32[N,3] = matmul(%x, %w) ;\"\" " +
                                after_p + after_q + "%t: f32[3,N] = transpose(%b) permutation=ints[1, 0] ;\"\" %y: f32[N,N] = matmul(%a, %t) ;\"\"");
}
const std::string plain = "%a: f32[N,3] = neg(%p) ;\"\" ", plain_too = "%b: f32[N,3] = neg(%q) ;\"\" ";

/// What `two` becomes when all of it follows alike: `after` makes %m of the products %pq.
std::string one(const std::string& after, const std::string& constants = "") {
  return from_x("f32[N,2]", "const %vw: f32[2,6] = {-4, -1, 2, -1, 2, 5, 5, -3, 0, -3, 0, 3} " + constants + "%pq: f32[N,6] = matmul(%x, %vw) ;\"\" " + after +
                                slice("b", "m", "N", 3, 3) + "%t: f32[3,N] = transpose(%b) permutation=ints[1, 0] ;\"\" " + slice("a", "m", "N", 0, 3) +
                                "%y: f32[N,N] = matmul(%a, %t) ;\"\"");
}

/// Whether the pass makes one product of the products in `text`, and no result changes by a bit.
testing::AssertionResult merges(const std::string& text, const ProductCost& cost = {}, MergeReport* report = nullptr) {
  const Graph was = parse_graph(text);
  verify_types(was);
  Graph is = clone(was);
  merge_products(is, cost, report);
  verify_types(is);
  expect_equivalent(was, is);
  const auto products = [](const Graph& graph) {
    return std::count_if(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) { return node.op == "matmul" || node.op == "conv"; });
  };
  return products(is) < products(was) ? testing::AssertionSuccess() : testing::AssertionFailure() << print(is);
}

TEST(MergeProducts, WhatFollowsAlikeIsDoneOnce) { expect_pass(pass, two(plain, plain_too), one("%m: f32[N,6] = neg(%pq) ;\"\" ")); }

TEST(MergeProducts, ConstantsByColumnLieSideBySide) {
  expect_pass(pass, two("%a: f32[N,3] = add(%p, %c) ;\"\" ", "%b: f32[N,3] = add(%q, %d) ;\"\" ", "const %c: f32[3] = {1, 2, 3} const %d: f32[1,1] = {7} "),
              one("%m: f32[N,6] = add(%pq, %cd) ;\"\" ", "const %cd: f32[6] = {1, 2, 3, 7, 7, 7} "));
  // One that all share stays one.
  expect_pass(pass, two("%a: f32[N,3] = mul(%p, %c) ;\"\" ", "%b: f32[N,3] = mul(%q, %d) ;\"\" ", "const %c: f32[] = {2} const %d: f32[] = {2} "),
              one("%m: f32[N,6] = mul(%pq, %c) ;\"\" ", "const %c: f32[] = {2} "));
}

TEST(MergeProducts, ChainsThatReadTheProductTwiceFollow) {
  EXPECT_TRUE(
      merges(two("%g: f32[N,3] = sigmoid(%p) ;\"\" %a: f32[N,3] = mul(%p, %g) ;\"\" ", "%h: f32[N,3] = sigmoid(%q) ;\"\" %b: f32[N,3] = mul(%q, %h) ;\"\" ")));
}

/// Heads of attention as exporters write them: bias, heads apart, and a scale that the values do not have.
TEST(MergeProducts, AFactorBehindMovementsIsOneWhereThereIsNone) {
  std::string text = weights("wq", 4, 1) + weights("wk", 4, 2) + weights("wv", 4, 5) + "const %s: f32[] = {0.5} const %c: f32[4] = {1, 2, 3, 4} ";
  for (const std::string h : {"q", "k", "v"})
    text += fmt::format(
        "%p{0}: f32[3,4] = matmul(%x, %w{0}) ;\"\" %b{0}: f32[3,4] = add(%p{0}, %c) ;\"\" %r{0}: f32[3,2,2] = reshape(%b{0}) dims=dims[\"3\", \"2\", \"2\"] "
        ";\"\" "
        "%h{0}: f32[2,3,2] = transpose(%r{0}) permutation=ints[1, 0, 2] ;\"\" ",
        h);
  text += R"(%sq: f32[2,3,2] = mul(%hq, %s) ;"" %tk: f32[2,2,3] = transpose(%hk) permutation=ints[0, 2, 1] ;"" %sk: f32[2,2,3] = mul(%s, %tk) ;""
    %z: f32[2,3,3] = matmul(%sq, %sk) ;"" %y: f32[2,3,2] = matmul(%z, %hv) ;"")";
  const Graph was = parse_graph(from_x("f32[3,2]", text));
  Graph is = clone(was);
  run_pass(pass, is);
  verify_types(is);
  expect_equivalent(was, is);
  int products = 0, factors = 0;
  for (const Node& node : is.nodes) {
    products += node.op == "matmul";
    factors += node.op == "mul";
  }
  EXPECT_EQ(products, 3) << print(is);
  EXPECT_EQ(factors, 1) << print(is);
}

/// Two convolutions of %x, what follows both, and a convolution of each.
std::string convolutions(const std::string& how, const std::string& other, const std::string& first_w = "f32[2,2,1] = {1, 2, 3, 4}",
                         const std::string& second_w = "f32[2,2,1] = {5, 6, 7, -8}") {
  const std::string tail = " ;\"\" ";
  return from_x("f32[N,2,5]",
                "const %v: " + first_w + " const %w: " + second_w + " const %b: f32[2] = {1, 2} const %c: f32[2] = {3, 4} const %u: f32[1,2,1] = {1, -1} " +
                    "const %t: f32[1,2,1] = {2, 9} %p: f32[N,2,5] = conv(%x, %v, %b) " + how + tail + "%q: f32[N,2,5] = conv(%x, %w, %c) " + other + tail +
                    "%g: f32[N,1,5] = conv(%p, %u)" + tail + "%h: f32[N,1,5] = conv(%q, %t)" + tail + "%y: f32[N,1,5] = add(%g, %h)" + tail);
}

TEST(MergeProducts, ConvolutionsOfEqualWindowsAreOne) {
  EXPECT_TRUE(merges(convolutions("", "")));
  const std::string wide = "f32[2,2,3] = {1, 2, 3, 4, 5, 6, 7, 8, 9, -1, -2, -3}", wide_too = "f32[2,2,3] = {4, 2, 3, 4, 5, 6, 7, 8, 9, -1, -2, -3}";
  EXPECT_TRUE(merges(convolutions("pads=ints[1, 1]", "pads=ints[1, 1]", wide, wide_too)));
  EXPECT_FALSE(merges(convolutions("pads=ints[1, 1]", "pads=ints[0, 2]", wide, wide_too)));
  EXPECT_FALSE(merges(convolutions("pads=ints[1, 1]", "", wide)));
  EXPECT_FALSE(merges(convolutions("groups=2", "groups=2", "f32[2,1,1] = {1, 2}", "f32[2,1,1] = {3, 4}")));
}

TEST(MergeProducts, WhatIsNotAlikeStays) {
  expect_unchanged(pass, two(plain, "%b: f32[N,3] = exp(%q) ;\"\" "));
  expect_unchanged(pass, two("%a: f32[N,3] = add(%p, %c) ;\"\" ", "%b: f32[N,3] = add(%q, %x3) ;\"\" ",
                             "const %c: f32[3] = {1, 2, 3} const %k: f32[2,3] = {1, 2, 3, 4, 5, 6} %x3: f32[N,3] = matmul(%x, %k) ;\"\" "));
}

TEST(MergeProducts, WhatWouldBeCopiedStays) {
  // A result of the model.
  expect_unchanged(pass, R"(graph "g" (%x: f32[N,2]) -> (%p, %y) { const %v: f32[2,2] = {1, 2, 3, 4} const %w: f32[2,2] = {5, 6, 7, 8}
    %p: f32[N,2] = matmul(%x, %v) ;"" %q: f32[N,2] = matmul(%x, %w) ;"" %y: f32[N,2] = matmul(%q, %v) ;"" })");
  // Gates: what multiplies both results would be a kernel of its own.
  expect_unchanged(pass, from_x("f32[N,2]", weights("v", 2, 1) + weights("w", 2, 4) + R"(%p: f32[N,2] = matmul(%x, %v) ;"" %q: f32[N,2] = matmul(%x, %w) ;""
    %y: f32[N,2] = mul(%p, %q) ;"")"));
  // Concatenated, or joined with other axes to rows.
  expect_unchanged(pass, from_x("f32[N,2]", weights("v", 2, 1) + weights("w", 2, 4) + R"(%p: f32[N,2] = matmul(%x, %v) ;"" %q: f32[N,2] = matmul(%x, %w) ;""
    %y: f32[N,4] = concat(%p, %q) axis=1 ;"")"));
  expect_unchanged(pass, from_x("f32[2,2]", weights("v", 2, 1) + weights("w", 2, 4) + R"(const %m: f32[4,1] = {1, 2, 3, 4}
    %p: f32[2,2] = matmul(%x, %v) ;"" %q: f32[2,2] = matmul(%x, %w) ;"" %f: f32[1,4] = reshape(%p) dims=dims["1", "4"] ;""
    %g: f32[1,4] = reshape(%q) dims=dims["1", "4"] ;"" %h: f32[1,1] = matmul(%f, %m) ;"" %i: f32[1,1] = matmul(%g, %m) ;"" %y: f32[1,1] = add(%h, %i) ;"")"));
}

/// What a product of another operand takes in reads a slice there: the steps of a diffusion model's blocks.
TEST(MergeProducts, AnotherProductsResultsTakeASlice) {
  EXPECT_TRUE(merges(
      R"(graph "g" (%x: f32[1,2], %z: f32[5,2]) -> (%y) { const %v: f32[2,2] = {1, 2, 3, 4} const %w: f32[2,2] = {5, 6, 7, 8} const %k: f32[2,2] = {1, 2, 2, 1}
    %p: f32[1,2] = matmul(%x, %v) ;"" %q: f32[1,2] = matmul(%x, %w) ;"" %a: f32[5,2] = matmul(%z, %k) ;"" %b: f32[5,2] = add(%a, %p) ;""
    %c: f32[5,2] = matmul(%b, %k) ;"" %y: f32[5,2] = add(%c, %q) ;"" })"));
}

TEST(MergeProducts, WeightsThatOthersReadStay) {
  expect_unchanged(pass, from_x("f32[N,2]", R"(const %v: f32[2,2] = {1, 2, 3, 4} const %w: f32[2,2] = {5, 6, 7, 8} %p: f32[N,2] = matmul(%x, %v) ;""
    %q: f32[N,2] = matmul(%x, %w) ;"" %a: f32[N,2] = matmul(%p, %v) ;"" %t: f32[2,N] = transpose(%q) permutation=ints[1, 0] ;"" %y: f32[N,N] = matmul(%a, %t) ;"")"));
}

TEST(MergeProducts, OnlyWhatTakesLessTimeTogetherIsMerged) {
  const std::string text = two(plain, plain_too);
  MergeReport report;
  EXPECT_FALSE(merges(
      text, [](const ProductSize& size) { return static_cast<double>(size.columns); }, &report));
  ASSERT_EQ(report.groups.size(), 1u);
  EXPECT_EQ(report.groups[0].refusal, "it would take 100 % of their time");
  EXPECT_TRUE(merges(
      text, [](const ProductSize& size) { return 1 + static_cast<double>(size.columns); }, &report));
  ASSERT_EQ(report.groups.size(), 2u);
  EXPECT_EQ(report.groups[1].refusal, "");
  // Columns of vectors of four: the narrow two fill one, a third of them is better off alone.
  const std::string three = from_x("f32[7,2]", weights("u", 4, 1) + weights("v", 2, 2) + weights("w", 2, 3) + R"(%p: f32[7,4] = matmul(%x, %u) ;""
    %q: f32[7,2] = matmul(%x, %v) ;"" %r: f32[7,2] = matmul(%x, %w) ;"" %a: f32[2,7] = transpose(%q) permutation=ints[1, 0] ;""
    %b: f32[2,4] = matmul(%a, %p) ;"" %y: f32[7,4] = matmul(%r, %b) ;"")");
  MergeReport some;
  EXPECT_TRUE(merges(
      three,
      [](const ProductSize& size) {
        EXPECT_EQ(size.rows, 7);
        EXPECT_EQ(size.terms, 2);
        return size.columns > 4 ? 100.0 : static_cast<double>((size.columns + 3) / 4);
      },
      &some));
  ASSERT_EQ(some.groups.size(), 2u);
  EXPECT_EQ(some.groups[0].refusal, "the others take less time without it");
}

TEST(MergeProducts, WorksInBodies) {
  const std::string body =
      R"(const %v: f32[2,2] = {1, 2, 3, 4} const %w: f32[2,2] = {5, 6, 7, 8} %p: f32[3,2] = matmul(%a, %v) ;"" %q: f32[3,2] = matmul(%a, %w) ;""
    %t: f32[2,3] = transpose(%q) permutation=ints[1, 0] ;"" %d: f32[3,3] = matmul(%p, %t) ;"")";
  Graph graph = parse_graph(R"(graph "g" (%x: f32[3,2], %flag: bool[]) -> (%y) { %y: f32[3,3] = if(%flag, %x) ;"" graph "" (%a: f32[3,2]) -> (%d) { )" + body +
                            R"( } graph "" (%a: f32[3,2]) -> (%d) { )" + body + " } }");
  const Graph was = clone(graph);
  run_pass(pass, graph);
  verify_types(graph);
  expect_equivalent(was, graph);
  for (const auto& branch : graph.nodes[0].subgraphs)
    EXPECT_EQ(std::count_if(branch->nodes.begin(), branch->nodes.end(), [](const Node& node) { return node.op == "matmul"; }), 2);
}

}  // namespace
}  // namespace tilewright::pass_testing
