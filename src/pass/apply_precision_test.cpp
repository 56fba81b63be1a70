#include "pass/apply_precision.h"

#include <gmock/gmock.h>

#include "pass/testing.h"

namespace tilewright::pass_testing {
namespace {

constexpr auto pass = "apply_precision";
const Precision bf16{Policy::bf16, {}}, fp16{Policy::fp16, {}};
/// A few roundings to bf16, 2⁻⁸ each.
constexpr Agreement close = {false, 0x1p-5};

const std::string elements = "{1, -2, 0.5, 3, 2, 1, -1, 0.25, 4, -0.5, 1, 1, 2, -3, 1, 0.125}";
std::string weights(const std::string& dtype) { return "const %w: " + dtype + "[4,4] = " + elements + " "; }
std::string half_cast(const std::string& to, const std::string& from, const std::string& dims = "N,4", const std::string& half = "bf16") {
  return "%" + to + ": " + half + "[" + dims + "] = cast(%" + from + ") mode=\"saturate\" to=dtype " + half + " ;\"\" ";
}
std::string float_cast(const std::string& to, const std::string& from, const std::string& dims = "N,4") { return half_cast(to, from, dims, "f32"); }

const std::string product = "matmul(%r, %w) ;\"\" ", wide_product = "matmul(%h, %w) dtype=dtype f32 ;\"\" ";

TEST(ApplyPrecision, WeightsAreRoundedNowActivationsWhereTheyAreMade) {
  for (const auto& [precision, half] : {std::pair{bf16, "bf16"}, std::pair{fp16, "f16"}})
    expect_pass(pass, from_x("f32[N,4]", weights("f32") + "%r: f32[N,4] = abs(%x) ;\"\" %y: f32[N,4] = " + product),
                from_x("f32[N,4]", weights(half) + "%r: f32[N,4] = abs(%x) ;\"\" " + half_cast("h", "r", "N,4", half) + "%y: f32[N,4] = " + wide_product),
                close, precision);
}

TEST(ApplyPrecision, PoliciesOf32BitsChangeNothing) {
  const std::string text = from_x("f32[N,4]", weights("f32") + "%r: f32[N,4] = abs(%x) ;\"\" %y: f32[N,4] = " + product);
  for (const Policy policy : {Policy::fp32, Policy::tf32}) expect_unchanged(pass, text, {policy, {}});
}

TEST(ApplyPrecision, MovementsBetweenAreOf16Bits) {
  expect_pass(
      pass,
      from_x("f32[4,N]", weights("f32") + "%a: f32[4,N] = abs(%x) ;\"\" %r: f32[N,4] = transpose(%a) permutation=ints[1, 0] ;\"\" %y: f32[N,4] = " + product),
      from_x("f32[4,N]", weights("bf16") + "%a: f32[4,N] = abs(%x) ;\"\" " + half_cast("b", "a", "4,N") +
                             "%h: bf16[N,4] = transpose(%b) permutation=ints[1, 0] ;\"\" %y: f32[N,4] = " + wide_product),
      close, bf16);
}

TEST(ApplyPrecision, NothingIsRoundedTwiceBetweenProducts) {
  expect_pass(pass, from_x("f32[N,4]", weights("f32") + "%r: f32[N,4] = neg(%x) ;\"\" %p: f32[N,4] = " + product + "%y: f32[N,4] = matmul(%p, %w) ;\"\""),
              from_x("f32[N,4]", weights("bf16") + "%r: f32[N,4] = neg(%x) ;\"\" " + half_cast("h", "r") + "%p: f32[N,4] = " + wide_product +
                                     half_cast("q", "p") + "%y: f32[N,4] = matmul(%q, %w) dtype=dtype f32 ;\"\""),
              close, bf16);
}

TEST(ApplyPrecision, AWidenedOperandIsReadAsItWas) {
  expect_pass(pass, from_x("bf16[N,4]", weights("f32") + float_cast("r", "x") + "%y: f32[N,4] = " + product),
              from_x("bf16[N,4]", weights("bf16") + "%y: f32[N,4] = matmul(%x, %w) dtype=dtype f32 ;\"\""), close, bf16);
}

TEST(ApplyPrecision, AResidualReadsWhatTheProductReads) {
  expect_pass(pass, from_x("f32[N,4]", weights("f32") + "%r: f32[N,4] = abs(%x) ;\"\" %p: f32[N,4] = " + product + "%y: f32[N,4] = add(%p, %r) ;\"\""),
              from_x("f32[N,4]", weights("bf16") + "%r: f32[N,4] = abs(%x) ;\"\" " + half_cast("h", "r") + float_cast("f", "h") +
                                     "%p: f32[N,4] = " + wide_product + "%y: f32[N,4] = add(%p, %f) ;\"\""),
              close, bf16);
}

TEST(ApplyPrecision, WhatEnlargesErrorsReadsFloat32) {
  for (const char* op : {"exp", "log", "sin", "floor"})
    expect_pass(pass,
                from_x("f32[N,4]", weights("f32") + "%r: f32[N,4] = sigmoid(%x) ;\"\" %p: f32[N,4] = " + product + "%e: f32[N,4] = " + op +
                                       "(%r) ;\"\" %y: f32[N,4] = add(%p, %e) ;\"\""),
                from_x("f32[N,4]", weights("bf16") + "%r: f32[N,4] = sigmoid(%x) ;\"\" " + half_cast("h", "r") + "%p: f32[N,4] = " + wide_product +
                                       "%e: f32[N,4] = " + op + "(%r) ;\"\" %y: f32[N,4] = add(%p, %e) ;\"\""),
                close, bf16);
}

TEST(ApplyPrecision, OutputsKeepTheirDtype) {
  const std::string before = weights("f32") + "%r: f32[N,4] = abs(%x) ;\"\" %y: f32[N,4] = " + product;
  const std::string after = weights("bf16") + "%r: f32[N,4] = abs(%x) ;\"\" " + half_cast("h", "r") + "%y: f32[N,4] = " + wide_product;
  const auto both = [](const std::string& body) { return "graph \"g\" (%x: f32[N,4]) -> (%r, %y) {\n" + body + "\n}"; };
  expect_pass(pass, both(before), both(after), close, bf16);
}

/// A constant of 1,024 rows of 64 elements.
std::string table() {
  std::string text = "const %t: f32[1024,64] = {0.5";
  for (int i = 1; i < 1024 * 64; ++i) text += i % 3 == 0 ? ", 0.3" : ", -0.7";
  return text + "} ";
}

TEST(ApplyPrecision, OutputsThatATableMakesKeepTheirDtype) {
  const std::string gather = "%e: f32[N,64] = gather(%t, %x) axis=0 ;\"\" ";
  for (const std::string& body : {gather, gather + "%w: f32[64,N] = transpose(%e) permutation=ints[1, 0] ;\"\" %y: f32[N,N] = matmul(%e, %w) ;\"\" "}) {
    const bool has_product = body != gather;
    const Graph was = parse_graph(std::string("graph \"g\" (%x: i64[N]) -> (%e") + (has_product ? ", %y" : "") + ") {\n" + table() + body + "\n}");
    Graph is = clone(was);
    run_pass(pass, is, bf16);
    EXPECT_NO_THROW(verify_types(is)) << print(is);
    EXPECT_NO_THROW(verify_interface(is, interface_of(was)));
    const auto gathered = std::find_if(is.nodes.begin(), is.nodes.end(), [](const Node& node) { return node.op == "gather"; });
    ASSERT_NE(gathered, is.nodes.end());
    EXPECT_EQ(is.type(gathered->outputs[0]).dtype, DType::bf16);
    const auto casts = std::count_if(is.nodes.begin(), is.nodes.end(), [](const Node& node) { return node.op == "cast"; });
    EXPECT_EQ(casts, 1);  // into the output; the product reads what was gathered
    expect_equivalent(was, is, close);
  }
}

TEST(ApplyPrecision, OutputsOfABranchKeepTheirDtype) {
  const Graph was = parse_graph("graph \"g\" (%c: bool[], %x: i64[N]) -> (%y) {\n%y: f32[N,64] = if(%c, %x) ;\"\" graph \"then\" (%i: i64[N]) -> (%e) {\n" +
                                table() + "%e: f32[N,64] = gather(%t, %i) axis=0 ;\"\"\n} graph \"else\" (%i: i64[N]) -> (%e) {\n" + table() +
                                "%e: f32[N,64] = gather(%t, %i) axis=0 ;\"\"\n}\n}");
  Graph is = clone(was);
  run_pass(pass, is, bf16);
  EXPECT_NO_THROW(verify_types(is));
  EXPECT_NO_THROW(verify_interface(is, interface_of(was)));
  expect_equivalent(was, is, close);
}

TEST(ApplyPrecision, AMaximumOfWhichThePlaceIsAResultIsSoughtInFloat32) {
  const auto graph = [](const std::string& outputs) {
    return parse_graph("graph \"g\" (%x: f32[N,4,4]) -> (" + outputs + ") {\nconst %w: f32[4,4,1] = " + elements +
                       " %r: f32[N,4,4] = abs(%x) ;\"\" %p: f32[N,4,2], %i: i64[N,4,2] = max_pool(%r) kernel=ints[2] strides=ints[2] ;\"\" "
                       "%y: f32[N,4,2] = conv(%p, %w) ;\"\"\n}");
  };
  const auto pooled = [&](const std::string& outputs) {
    Graph is = graph(outputs);
    run_pass(pass, is, bf16);
    const auto pool = std::find_if(is.nodes.begin(), is.nodes.end(), [](const Node& node) { return node.op == "max_pool"; });
    return is.type(pool->inputs[0]).dtype;
  };
  EXPECT_EQ(pooled("%y"), DType::bf16);
  EXPECT_EQ(pooled("%y, %i"), DType::f32);
}

TEST(ApplyPrecision, ProductsOfPositionsAndAnglesStay) {
  expect_unchanged(pass, from_x("i64[N,4]", weights("f32") + half_cast("r", "x", "N,4", "f32") + "%y: f32[N,4] = " + product), bf16);
  expect_unchanged(pass, from_x("f32[N,4]", weights("f32") + "%r: f32[N,4] = abs(%x) ;\"\" %p: f32[N,4] = " + product + "%y: f32[N,4] = cos(%p) ;\"\""), bf16);
}

TEST(ApplyPrecision, SpectraOfWhichALogarithmIsTakenStayWithTheFiltersBeforeThem) {
  expect_unchanged(pass,
                   from_x("f32[N,4]", weights("f32") + "%r: f32[N,4] = abs(%x) ;\"\" %p: f32[N,4] = " + product +
                                          "%q: f32[N,4] = matmul(%p, %w) ;\"\" %s: f32[N,4] = mul(%q, %q) ;\"\" %y: f32[N,4] = log(%s) ;\"\""),
                   bf16);
}

TEST(ApplyPrecision, SumsOfQuantisedOperandsStay) {
  expect_unchanged(pass,
                   from_x("u8[N,4]", "const %w: i8[4,4] = {1, -2, 0, 3, 2, 1, -1, 0, 4, -5, 1, 1, 2, -3, 1, 0} " + float_cast("r", "x") +
                                         "%v: f32[4,4] = cast(%w) mode=\"saturate\" to=dtype f32 ;\"\" %y: f32[N,4] = matmul(%r, %v) ;\"\""),
                   bf16);
}

TEST(ApplyPrecision, SmallProductsStay) {
  expect_unchanged(pass, from_x("f32[127,4]", weights("f32") + "%r: f32[127,4] = abs(%x) ;\"\" %y: f32[127,4] = matmul(%r, %w) ;\"\""), bf16);
}

/// What apply_precision kept of a product with these sixteen weights.
std::vector<PrecisionReport::Kept> kept_with(const std::string& values, const Precision& precision) {
  Graph graph = parse_graph(from_x("f32[N,4]", "const %w: f32[4,4] = " + values + " %r: f32[N,4] = abs(%x) ;\"\" %y: f32[N,4] = matmul(%r, %w) ;\"layer\""));
  PrecisionReport report;
  apply_precision(graph, precision, &report);
  EXPECT_EQ(report.lowered + report.kept.size(), 1);
  return report.kept;
}

const std::string large = "{1, -2, 0.5, 3, 2, 1, -1, 70000, 4, -0.5, 1, 1, 2, -3, 1, 0.125}";
const std::string tiny = "{1e-8, 2e-8, 3e-8, 1e-8, 2e-8, 1e-8, 1e-8, 3e-8, 1e-8, 2e-8, 3e-8, 1e-8, 2e-8, 1e-8, 1e-8, 3e-8}";

TEST(ApplyPrecision, WeightsThatFloat16CannotHoldKeepTheirProductAndAreReported) {
  const auto beyond = kept_with(large, fp16), below = kept_with(tiny, fp16);
  ASSERT_EQ(beyond.size(), 1u);
  EXPECT_EQ(beyond[0].source, "layer");
  EXPECT_THAT(beyond[0].reason, testing::HasSubstr("7e+04 is beyond f16"));
  ASSERT_EQ(below.size(), 1u);
  EXPECT_THAT(below[0].reason, testing::HasSubstr("too small for f16"));
  EXPECT_TRUE(kept_with(large, bf16).empty());
  EXPECT_TRUE(kept_with(tiny, bf16).empty());
  EXPECT_EQ(kept_with(large, {Policy::fp16, {{"layer", Policy::fp16}}}).size(), 1u);  // no rule helps there
}

TEST(ApplyPrecision, AnOutputChannelTooSmallForFloat16CountsAmongLargeOnes) {
  const std::string column = "{1, -2, 0.5, 1e-8, 2, 1, -1, 2e-8, 4, -0.5, 1, 3e-8, 2, -3, 1, 1e-8}",
                    row = "{1, -2, 0.5, 1, 1e-8, 1e-8, 3e-8, 1e-8, 4, -0.5, 1, 3, 2, -3, 1, 8}";
  EXPECT_EQ(kept_with(column, fp16).size(), 1u);
  EXPECT_TRUE(kept_with(row, fp16).empty());  // one term of every sum
  EXPECT_TRUE(kept_with(column, bf16).empty());
  const auto kept_by_einsum = [](const std::string& values) {
    Graph graph = parse_graph(
        from_x("f32[N,4]", "const %w: f32[4,4] = " + values + " %r: f32[N,4] = abs(%x) ;\"\" %y: f32[N,4] = einsum(%r, %w) equation=\"nj,ij->ni\" ;\"\""));
    PrecisionReport report;
    apply_precision(graph, fp16, &report);
    return report.kept.size();
  };
  EXPECT_EQ(kept_by_einsum(row), 1u);
  EXPECT_EQ(kept_by_einsum(column), 0u);
}

TEST(ApplyPrecision, RulesChooseByNameAndOperatorAndTheLastOneCounts) {
  const auto lowered = [](const Precision& precision) {
    Graph graph = parse_graph(from_x("f32[N,4]", weights("f32") + "%r: f32[N,4] = abs(%x) ;\"\" %y: f32[N,4] = matmul(%r, %w) ;\"norm, /head/fc\""));
    PrecisionReport report;
    apply_precision(graph, precision, &report);
    return report.lowered == 1;
  };
  for (const char* pattern : {"matmul", "MatMul", "/head/*", "/he?d/fc", "norm", "*"}) {
    EXPECT_FALSE(lowered({Policy::bf16, {{pattern, Policy::fp32}}})) << pattern;
    EXPECT_TRUE(lowered({Policy::fp32, {{pattern, Policy::bf16}}})) << pattern;
  }
  EXPECT_TRUE(lowered({Policy::fp32, {{"*", Policy::fp32}, {"/head/*", Policy::fp16}}}));
  EXPECT_FALSE(lowered({Policy::bf16, {{"/head/*", Policy::fp16}, {"matmul", Policy::tf32}}}));
}

TEST(ApplyPrecision, ARuleForNothingIsAnError) {
  Graph graph = parse_graph(from_x("f32[N,4]", weights("f32") + "%r: f32[N,4] = abs(%x) ;\"\" %y: f32[N,4] = matmul(%r, %w) ;\"head\""));
  for (const char* pattern : {"hea", "conv", "abs", ""}) {
    try {
      apply_precision(graph, {Policy::bf16, {{pattern, Policy::fp32}}}, nullptr);
      ADD_FAILURE() << pattern << " matched";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::invalid_input);
      EXPECT_THAT(error.what(), testing::HasSubstr(fmt::format("the policy for '{}' is for no product", pattern)));
    }
  }
}

TEST(ApplyPrecision, ARuleOverridesWhatIsFragile) {
  expect_pass(pass, from_x("i64[N,4]", weights("f32") + float_cast("r", "x") + "%y: f32[N,4] = " + product),
              from_x("i64[N,4]", weights("bf16") + float_cast("r", "x") + half_cast("h", "r") + "%y: f32[N,4] = " + wide_product), close,
              {Policy::fp32, {{"matmul", Policy::bf16}}});
}

TEST(ApplyPrecision, ConvolutionsKeepTheirBiasAndFiltersOfOneChannel) {
  const std::string bias = "const %b: f32[2] = {0.1, 0.3} ";
  expect_pass(pass,
              from_x("f32[N,2,4]", "const %w: f32[2,2,1] = {1, 2, 3, 4} " + bias + "%r: f32[N,2,4] = abs(%x) ;\"\" %y: f32[N,2,4] = conv(%r, %w, %b) ;\"\""),
              from_x("f32[N,2,4]", "const %w: bf16[2,2,1] = {1, 2, 3, 4} " + bias + "%r: f32[N,2,4] = abs(%x) ;\"\" " + half_cast("h", "r", "N,2,4") +
                                       "%y: f32[N,2,4] = conv(%h, %w, %b) dtype=dtype f32 ;\"\""),
              close, bf16);
  expect_pass(pass, from_x("f32[N,2,4]", "const %w: f32[2,1,1] = {1, 2} %r: f32[N,2,4] = abs(%x) ;\"\" %y: f32[N,2,4] = conv(%r, %w) groups=2 ;\"\""),
              from_x("f32[N,2,4]", "const %w: f32[2,1,1] = {1, 2} %r: f32[N,2,4] = abs(%x) ;\"\" " + half_cast("h", "r", "N,2,4") +
                                       "%y: f32[N,2,4] = conv(%h, %w) dtype=dtype f32 groups=2 ;\"\""),
              close, bf16);
}

}  // namespace
}  // namespace tilewright::pass_testing
