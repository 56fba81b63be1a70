#include "inputs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "base/npy.h"

namespace tilewright::tools {
namespace {

using testing::HasSubstr;

const std::vector<Port> ports = {{"x", DType::f32, {Dim::symbol("N"), Dim(3), Dim::symbol("L")}}, {"mask", DType::boolean, {Dim::symbol("N")}}};

struct Made {
  std::vector<Tensor> tensors;
  std::string said;
};

Made make(const InputChoice& choice) {
  testing::internal::CaptureStderr();
  Made made{make_inputs(ports, choice), ""};
  made.said = testing::internal::GetCapturedStderr();
  return made;
}

std::string refusal(const InputChoice& choice) {
  try {
    make_inputs(ports, choice);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_input) << error.what();
    return error.what();
  }
  return "nothing was refused";
}

TEST(Inputs, SayWhichSizesNothingTells) {
  const Made made = make({});
  EXPECT_EQ(made.tensors[0].dims(), (std::vector<int64_t>{1, 3, 1}));
  EXPECT_EQ(made.said,
            "tilewright: input 'x': using f32[1x3x1] (L, N are 1; set them with --shape x=8x3x8)\n"
            "tilewright: input 'mask': using bool[1] (N is 1; set it with --shape mask=8)\n");
}

TEST(Inputs, ShareTheSizesOfShapesThatAreGiven) {
  const Made made = make({{}, {"x=4x3x2"}});
  EXPECT_EQ(made.tensors[0].dims(), (std::vector<int64_t>{4, 3, 2}));
  EXPECT_EQ(made.tensors[1].dims(), (std::vector<int64_t>{4}));
  EXPECT_EQ(made.said, "");
}

TEST(Inputs, ShareTheSizesOfFiles) {
  const ScratchFolder folder(testing::TempDir());
  const std::string file = (folder.path() / "mask.npy").string();
  write_npy(file, Tensor(DType::boolean, {5}));
  const Made made = make({{"mask=" + file}, {}});
  EXPECT_EQ(made.tensors[0].dims(), (std::vector<int64_t>{5, 3, 1}));
  EXPECT_THAT(made.said, HasSubstr("using f32[5x3x1] (L is 1; set it with --shape x=5x3x8)"));
}

TEST(Inputs, RefuseNamesAndShapesThatAreNotTheModels) {
  EXPECT_THAT(refusal({{}, {"y=1x3x1"}}), HasSubstr("no input 'y'; inputs: x, mask"));
  EXPECT_THAT(refusal({{}, {"x=1x4x1"}}), HasSubstr("[1,4,1] does not fit x[N,3,L]"));
  EXPECT_THAT(refusal({{}, {"x=Nx3x1"}}), HasSubstr("[Nx3x1] does not fit x[N,3,L]"));
}

}  // namespace
}  // namespace tilewright::tools
