#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "import/onnx/testing.h"

namespace tilewright::onnx {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using namespace testing_support;

Tensor floats(std::vector<int64_t> dims, const std::vector<double>& elements) { return tensor_of(DType::f32, std::move(dims), elements); }
Tensor filled(std::vector<int64_t> dims, double value) {
  Tensor t(DType::f32, std::move(dims));
  for (int64_t i = 0; i < t.element_count(); ++i) t.set_float(i, value);
  return t;
}
/// 0, 1, 2, …
Tensor counted(std::vector<int64_t> dims) {
  Tensor t(DType::f32, std::move(dims));
  for (int64_t i = 0; i < t.element_count(); ++i) t.set_float(i, static_cast<double>(i));
  return t;
}

std::string refusal(OneNode n) {
  try {
    n.run();
  } catch (const Error& error) {
    return error.kind() == ErrorKind::invalid_input ? error.what() : std::string("another kind: ") + error.what();
  }
  return "accepted";
}

/// Of one row of elements at `columns` in [-1, 1].
OneNode row_sample(const std::vector<double>& row, const std::vector<double>& columns, const char* mode, const char* padding, int64_t aligned) {
  std::vector<double> grid;
  for (const double column : columns) grid.insert(grid.end(), {column, 0});
  OneNode n("GridSample", 20);
  n.input(floats({1, 1, 1, static_cast<int64_t>(row.size())}, row)).input(floats({1, 1, static_cast<int64_t>(columns.size()), 2}, grid));
  n.attribute("mode", mode).attribute("padding_mode", padding).attribute("align_corners", aligned);
  return n;
}

TEST(GridSample, weighs_the_four_elements_around_a_place) {
  const Tensor x = floats({1, 1, 2, 2}, {1, 2, 3, 4}), grid = floats({1, 1, 3, 2}, {0, 0, 0.5, 0, -1, -1});
  const auto edges = OneNode("GridSample", 20).input(x).input(grid).run();
  EXPECT_THAT(values(edges[0]), ElementsAre(2.5, 3, 0.25));  // -1 is half an element outside: three of its four elements are 0
  const auto centres = OneNode("GridSample", 20).input(x).input(grid).attribute("align_corners", int64_t{1}).run();
  EXPECT_THAT(values(centres[0]), ElementsAre(2.5, 2.75, 1));
}

TEST(GridSample, padding_says_what_lies_outside) {
  const double infinity = HUGE_VAL;
  const std::vector<double> row = {0, 10, 20}, far = {-2, 1.25, infinity, -1e30};  // places -1 and 2.25
  EXPECT_THAT(values(row_sample(row, far, "linear", "zeros", 1).run()[0]), ElementsAre(0, 15, 0, 0));
  EXPECT_THAT(values(row_sample(row, far, "linear", "border", 1).run()[0]), ElementsAre(0, 20, 20, 0));
  EXPECT_THAT(values(row_sample(row, {-2, 1.5, 3}, "linear", "reflection", 1).run()[0]), ElementsAre(10, 15, 0));    // at elements: 1, 1.5, 0
  EXPECT_THAT(values(row_sample(row, {-2, 1.25, 3}, "nearest", "reflection", 0).run()[0]), ElementsAre(10, 20, 0));  // at edges: 1, 2, 0
  EXPECT_THAT(values(row_sample({7}, {-2, 0, 5}, "linear", "reflection", 1).run()[0]), Each(7));
}

TEST(GridSample, nearest_takes_the_even_one_of_two) {
  EXPECT_THAT(values(row_sample({0, 10, 20}, {-0.5, 0.5}, "nearest", "zeros", 1).run()[0]), ElementsAre(0, 20));  // places 0.5 and 1.5
}

TEST(GridSample, cubic_weighs_four_elements_along_an_axis) {
  // Half way between two elements Keys' weights at -0.75 are -3/32, 19/32, 19/32, -3/32.
  EXPECT_THAT(values(row_sample({32, 64, 96, -32}, {0}, "cubic", "zeros", 1).run()[0]), ElementsAre(-3 + 38 + 57 + 3));
  // Half an element beyond the last one: the elements outside repeat it.
  EXPECT_THAT(values(row_sample({0, 0, 0, 0, 32}, {1.25}, "cubic", "border", 1).run()[0]), ElementsAre(19 + 19 - 3));
}

TEST(GridSample, places_name_the_innermost_axis_first) {
  const auto out = OneNode("GridSample", 20)
                       .input(counted({1, 1, 2, 2, 2}))
                       .input(floats({1, 1, 1, 3, 3}, {1, -1, -1, -1, 1, -1, -1, -1, 1}))
                       .attribute("align_corners", int64_t{1})
                       .run();
  EXPECT_THAT(values(out[0]), ElementsAre(1, 2, 4));
}

TEST(GridSample, an_input_without_elements_is_zero_or_refused) {
  const Tensor x(DType::f32, {1, 2, 0, 3});
  const auto out = OneNode("GridSample", 20).input(x).input(counted({1, 2, 2, 2})).run();
  EXPECT_EQ(out[0].dims(), (std::vector<int64_t>{1, 2, 2, 2}));
  EXPECT_THAT(values(out[0]), Each(0));
  OneNode border("GridSample", 20);
  border.input(x).input(counted({1, 2, 2, 2})).attribute("padding_mode", "border");
  EXPECT_THAT(refusal(border), HasSubstr("x is f32[1,2,0,3]; padding border needs elements"));
}

TEST(GridSample, a_grid_of_another_rank_is_refused) {
  OneNode flat("GridSample", 20);
  flat.input(counted({1, 1, 2, 2})).input(counted({1, 2, 2}));
  EXPECT_THAT(refusal(flat), HasSubstr("x is f32[1,1,2,2], grid is f32[1,2,2]; needs [n,c,spatial…] and [n,places…,spatial rank]"));
  OneNode deep("GridSample", 20);
  deep.input(counted({1, 1, 2, 2})).input(counted({1, 1, 1, 3}));
  EXPECT_THAT(refusal(deep), HasSubstr("coordinates of a place in grid [1,1,1,3] and spatial axes of x [1,1,2,2]: 3 is not 2"));
}

/// All regions lie in batch 0.
OneNode regions(Tensor x, const std::vector<double>& corners, const char* mode, const char* coordinates) {
  const int64_t count = static_cast<int64_t>(corners.size()) / 4;
  OneNode n("RoiAlign", 16);
  n.input(std::move(x)).input(floats({count, 4}, corners)).input(Tensor(DType::i64, {count}));
  n.attribute("mode", mode).attribute("coordinate_transformation_mode", coordinates);
  return n;
}

TEST(RoiAlign, averages_samples_between_elements) {
  OneNode n = regions(floats({1, 1, 2, 2}, {1, 2, 3, 4}), {0, 0, 2, 2}, "avg", "half_pixel");
  EXPECT_THAT(values(n.attribute("sampling_ratio", int64_t{1}).run()[0]), ElementsAre(2.5));
}

TEST(RoiAlign, takes_about_one_sample_an_element_of_each_region) {
  // Region 0: columns 0.5, 1.5, 2.5, 3 (cut to the last) and rows 0.5, 1 of x = column + 4·row. Region 1: one sample at (0.5, 0.5).
  const auto out = regions(counted({1, 1, 2, 4}), {0, 0, 4, 2, 0, 0, 1, 1}, "avg", "output_half_pixel").run();
  EXPECT_THAT(values(out[0]), ElementsAre(1.875 + 4 * 0.75, 0.5 + 4 * 0.5));
}

TEST(RoiAlign, the_largest_is_of_weighted_elements_and_of_counted_samples) {
  const auto positive = regions(counted({1, 1, 2, 4}), {0, 0, 1, 1}, "max", "output_half_pixel").run();
  EXPECT_THAT(values(positive[0]), ElementsAre(0.25 * 5));
  // The second region has fewer samples than the first; what it has not must not count as 0.
  const auto negative = regions(filled({1, 1, 2, 4}, -4), {0, 0, 3, 1, 0, 0, 1, 1}, "max", "output_half_pixel").run();
  EXPECT_THAT(values(negative[0]), ElementsAre(-1, -1));
}

TEST(RoiAlign, a_region_reads_nothing_beside_it) {
  Tensor x = filled({1, 1, 2, 4}, 1);
  x.set_float(0, HUGE_VAL);  // beside region 0, which has one sample where region 1 has three
  const auto out = regions(std::move(x), {2, 0, 3, 1, 1, 0, 4, 1}, "avg", "output_half_pixel").run();
  EXPECT_THAT(values(out[0]), ElementsAre(1, 1));
}

TEST(RoiAlign, a_region_far_larger_than_the_input_samples_what_is_inside) {
  // 2000 samples an axis at -999.5, -998.5, …; those at -0.5, 0.5 and 1.5 are inside or within an element of it.
  const auto out = regions(filled({1, 1, 2, 2}, 1), {-1000, -1000, 1000, 1000}, "avg", "output_half_pixel").run();
  EXPECT_FLOAT_EQ(static_cast<float>(out[0].float_at(0)), 9.0f / 4e6f);
}

TEST(RoiAlign, inverted_regions_are_zero_and_no_regions_give_no_results) {
  EXPECT_THAT(values(regions(counted({1, 1, 2, 4}), {3, 2, 1, 1}, "avg", "half_pixel").run()[0]), ElementsAre(0));
  EXPECT_THAT(values(regions(counted({1, 1, 2, 4}), {3, 2, 1, 1}, "max", "half_pixel").run()[0]), ElementsAre(0));
  EXPECT_EQ(regions(counted({1, 3, 2, 4}), {}, "avg", "half_pixel").run()[0].dims(), (std::vector<int64_t>{0, 3, 1, 1}));
}

TEST(RoiAlign, operands_that_do_not_fit_are_refused) {
  OneNode three("RoiAlign", 16);
  three.input(counted({1, 1, 2, 2})).input(counted({1, 3})).input(Tensor(DType::i64, {1}));
  EXPECT_THAT(refusal(three), HasSubstr("a region has 4 coordinates: 3 is not 4"));
  OneNode fewer("RoiAlign", 16);
  fewer.input(counted({1, 1, 2, 2})).input(counted({2, 4})).input(Tensor(DType::i64, {1}));
  EXPECT_THAT(refusal(fewer), HasSubstr("regions of starts and batch indices: 2 is not 1"));
}

/// A 2x2 kernel of ones over a 3x3 input 1 … 9; `down`: what every tap is moved by.
OneNode moved(double down) {
  Tensor offset(DType::f32, {1, 8, 2, 2});  // (row, column) of each tap
  for (int64_t channel = 0; channel < 8; channel += 2)
    for (int64_t i = 0; i < 4; ++i) offset.set_float(channel * 4 + i, down);
  OneNode n("DeformConv", 19);
  n.input(floats({1, 1, 3, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9})).input(filled({1, 1, 2, 2}, 1)).input(std::move(offset));
  return n;
}

TEST(DeformConv, without_offsets_is_a_convolution) { EXPECT_THAT(values(moved(0).run()[0]), ElementsAre(12, 16, 24, 28)); }

TEST(DeformConv, reads_between_elements_and_zero_outside) {
  // Rows 0.5 and 1.5 are 2.5 3.5 4.5 and 5.5 6.5 7.5; row 2.5 is half of the last: 3.5 4 4.5.
  EXPECT_THAT(values(moved(0.5).run()[0]), ElementsAre(18, 22, 19.5, 22.5));
}

TEST(DeformConv, masks_the_taps_and_adds_a_bias) {
  EXPECT_THAT(values(moved(0).input(floats({1}, {10})).input(filled({1, 4, 2, 2}, 0.5)).run()[0]), ElementsAre(16, 18, 22, 24));
  EXPECT_THAT(values(moved(0).omitted().input(filled({1, 4, 2, 2}, 0.5)).run()[0]), ElementsAre(6, 8, 12, 14));
}

TEST(DeformConv, each_offset_group_moves_its_channels) {
  Tensor offset(DType::f32, {1, 16, 2, 2});
  for (int64_t i = 32; i < 64; ++i) offset.set_float(i, 100);  // the second group's taps lie outside
  const Tensor x = floats({1, 2, 3, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  OneNode n("DeformConv", 19);
  n.input(x).input(filled({1, 2, 2, 2}, 1)).input(std::move(offset)).attribute("offset_group", int64_t{2});
  EXPECT_THAT(values(n.run()[0]), ElementsAre(12, 16, 24, 28));
}

TEST(DeformConv, an_offset_that_does_not_fit_is_refused) {
  OneNode n("DeformConv", 19);
  n.input(counted({1, 1, 3, 3})).input(counted({1, 1, 2, 2})).input(counted({1, 4, 2, 2}));
  EXPECT_THAT(refusal(n), HasSubstr("channels of offset [1,4,2,2]: 4 is not 8"));
  OneNode small("DeformConv", 19);
  small.input(counted({1, 1, 3, 3})).input(counted({1, 1, 2, 2})).input(counted({1, 8, 1, 2}));
  EXPECT_THAT(refusal(small), HasSubstr("positions of offset [1,8,1,2] and result [1,1,2,2]: 1 is not 2"));
}

}  // namespace
}  // namespace tilewright::onnx
