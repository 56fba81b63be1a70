#include "arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"
#include "base/file.h"
#include "base/npy.h"

namespace tilewright::tools {
namespace {

using testing::HasSubstr;

std::string shape(const std::string& text) {
  const auto [name, dims] = parse_shape(text);
  return name + " " + str(dims);
}

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_input) << error.what();
    return error.what();
  }
  return "nothing was refused";
}

TEST(Arguments, ReadPoliciesOfNodes) {
  const PolicyRule rule = parse_policy_rule("/a=b/*=fp16");
  EXPECT_EQ(rule.pattern, "/a=b/*");
  EXPECT_EQ(rule.policy, Policy::fp16);
  EXPECT_THAT(refusal([] { parse_policy_rule("head"); }), HasSubstr("--policy-for wants NAME=VALUE"));
  EXPECT_THAT(refusal([] { parse_policy_rule("head=half"); }), HasSubstr("there is no policy 'half'; policies: fp32, tf32, bf16, fp16"));
}

TEST(Arguments, APrecisionGoesThroughAManifestAndIsShownAsOptions) {
  const Precision precision =
      promised_precision(R"({"policy": "bf16", "policy_for": [{"pattern": "head*", "policy": "fp32"}, {"pattern": "conv", "policy": "fp16"}]})");
  EXPECT_EQ(policy_options(precision), "--policy bf16 --policy-for 'head*=fp32' --policy-for 'conv=fp16'");
  EXPECT_EQ(policy_options(promised_precision("{}")), "--policy fp32");
}

TEST(Arguments, ReadShapesOfNumbersAndNames) {
  EXPECT_EQ(shape("x=1x3x224x224"), "x [1,3,224,224]");
  EXPECT_EQ(shape("x=1,3,224"), "x [1,3,224]");
  EXPECT_EQ(shape("ids=batch,max_len"), "ids [batch,max_len]");
  EXPECT_EQ(shape("x=max_len"), "x [max_len]");
  EXPECT_EQ(shape("x=0"), "x [0]");
  EXPECT_EQ(shape("x=[]"), "x []");
  EXPECT_EQ(shape("a=b=2,3"), "a=b [2,3]");
}

TEST(Arguments, RefuseShapesThatAreNone) {
  for (const auto& [text, problem] : std::vector<std::pair<std::string, std::string>>{{"1x3", "wants NAME=VALUE"},
                                                                                      {"=1x3", "wants NAME=VALUE"},
                                                                                      {"x=", "a size is missing"},
                                                                                      {"x=1xx8", "a size is missing"},
                                                                                      {"x=1x8x", "a size is missing"},
                                                                                      {"x=batch,,8", "a size is missing"},
                                                                                      {"x=-1,8", "size -1 is negative"},
                                                                                      {"x=1xbatch", "'1xbatch' is neither a number nor a name"},
                                                                                      {"x=batch,2x3", "separated by ','"},
                                                                                      {"x=99999999999999999999", "neither a number"}})
    EXPECT_THAT(refusal([&, &given = text] { parse_shape(given); }), HasSubstr(problem)) << text;
}

TEST(Arguments, ReadSizes) {
  EXPECT_EQ(parse_size("batch=8"), std::pair(std::string("batch"), int64_t{8}));
  EXPECT_THAT(refusal([] { parse_size("batch=-8"); }), HasSubstr("'-8' is no size"));
  EXPECT_THAT(refusal([] { parse_size("batch=8x"); }), HasSubstr("'8x' is no size"));
  EXPECT_THAT(refusal([] { parse_size("8"); }), HasSubstr("as in batch=8"));
}

TEST(Arguments, ReadConstants) {
  EXPECT_EQ(std::get<int64_t>(parse_constant("axis=-1").second), -1);
  EXPECT_EQ(std::get<double>(parse_constant("scale=0.5").second), 0.5);
  const ScratchFolder folder(testing::TempDir());
  const std::string file = (folder.path() / "a=b.npy").string();
  write_npy(file, Tensor::from_ints({1, 2}));
  const auto [name, value] = parse_constant("axes=" + file);
  EXPECT_EQ(name, "axes");
  EXPECT_EQ(std::get<Tensor>(value).ints(), (std::vector<int64_t>{1, 2}));
  EXPECT_THAT(refusal([] { parse_constant("axis=one"); }), HasSubstr("'one' is neither a number nor a .npy or .pb file"));
  EXPECT_THAT(refusal([] { parse_constant("axis"); }), HasSubstr("wants NAME=VALUE"));
}

}  // namespace
}  // namespace tilewright::tools
