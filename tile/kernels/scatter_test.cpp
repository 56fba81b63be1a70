#include "tile/kernels/scatter.h"

#include <gtest/gtest.h>

#include <vector>

namespace tile {
namespace {

TEST(ScatterElements, ReplacesTheCoordinateOfTheAxis) {
  // The two examples of the ONNX specification.
  std::vector<float> y(9, 0.0f);
  const std::vector<int64_t> indices{1, 0, 2, 0, 2, 1};
  const std::vector<float> updates{1.0f, 1.1f, 1.2f, 2.0f, 2.1f, 2.2f};
  const i64 shape[] = {3, 3}, update_shape[] = {2, 3};
  EXPECT_TRUE((scatter_elements<ScatterReduction::none>(y.data(), indices.data(), updates.data(), 2, shape, update_shape, 0)));
  EXPECT_EQ(y, (std::vector<float>{2.0f, 1.1f, 0.0f, 1.0f, 0.0f, 2.2f, 0.0f, 2.1f, 1.2f}));
  std::vector<float> z{1, 2, 3, 4, 5};
  const std::vector<int32_t> along{1, -2};
  const std::vector<float> new_values{1.1f, 2.1f};
  const i64 row[] = {1, 5}, two[] = {1, 2};
  EXPECT_TRUE((scatter_elements<ScatterReduction::none>(z.data(), along.data(), new_values.data(), 2, row, two, 1)));
  EXPECT_EQ(z, (std::vector<float>{1, 1.1f, 3, 2.1f, 5}));
}

TEST(ScatterElements, DuplicatesReduceInOrderAndShapesMayBeSmaller) {
  const i64 shape[] = {2, 4, 3}, update_shape[] = {1, 5, 2};
  const std::vector<int64_t> indices{0, 0, 0, 1, 3, 1, -1, 1, 0, 3};
  const std::vector<int32_t> updates{1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  auto expect = [&](auto reduction, auto combine) {
    std::vector<int32_t> y(24), expected;
    for (int i = 0; i < 24; ++i) y[static_cast<size_t>(i)] = i - 5;
    expected = y;
    for (i64 a = 0; a < 5; ++a) {
      for (i64 b = 0; b < 2; ++b) {
        const i64 index = indices[static_cast<size_t>(a * 2 + b)];
        int32_t& to = expected[static_cast<size_t>((index < 0 ? index + 4 : index) * 3 + b)];
        to = combine(to, updates[static_cast<size_t>(a * 2 + b)]);
      }
    }
    EXPECT_TRUE(scatter_elements<decltype(reduction)::value>(y.data(), indices.data(), updates.data(), 3, shape, update_shape, 1));
    EXPECT_EQ(y, expected);
  };
  expect(std::integral_constant<ScatterReduction, ScatterReduction::none>{}, [](int, int b) { return b; });
  expect(std::integral_constant<ScatterReduction, ScatterReduction::add>{}, [](int a, int b) { return a + b; });
  expect(std::integral_constant<ScatterReduction, ScatterReduction::multiply>{}, [](int a, int b) { return a * b; });
  expect(std::integral_constant<ScatterReduction, ScatterReduction::min>{}, [](int a, int b) { return a < b ? a : b; });
  expect(std::integral_constant<ScatterReduction, ScatterReduction::max>{}, [](int a, int b) { return a > b ? a : b; });
}

TEST(Scatter, IndicesOutsideWriteNothing) {
  std::vector<float> y(4, 0.0f);
  const std::vector<int64_t> indices{4, -5, 1};
  const std::vector<float> updates{1, 2, 3};
  const i64 shape[] = {4}, update_shape[] = {3};
  EXPECT_FALSE((scatter_elements<ScatterReduction::add>(y.data(), indices.data(), updates.data(), 1, shape, update_shape, 0)));
  EXPECT_EQ(y, (std::vector<float>{0, 3, 0, 0}));
  EXPECT_FALSE((scatter_slices<ScatterReduction::add>(y.data(), indices.data(), updates.data(), 3, 1, shape, 1)));
  EXPECT_EQ(y, (std::vector<float>{0, 6, 0, 0}));
}

TEST(ScatterSlices, WritesTheSlicesThatTuplesName) {
  std::vector<float> y(12, 0.0f);
  const i64 shape[] = {2, 3, 2};
  const std::vector<int64_t> indices{0, 1, -1, 2, 0, 1};
  const std::vector<float> updates{1, 2, 3, 4, 5, 6};
  EXPECT_TRUE((scatter_slices<ScatterReduction::add>(y.data(), indices.data(), updates.data(), 3, 2, shape, 2)));
  EXPECT_EQ(y, (std::vector<float>{0, 0, 6, 8, 0, 0, 0, 0, 0, 0, 3, 4}));
}

}  // namespace
}  // namespace tile
