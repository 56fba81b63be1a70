#pragma once

#include <random>
#include <string>
#include <vector>

#include "op/builder.h"
#include "schedule/schedule.h"

/// Layers of known models as one-kernel blocks, for tests of what is chosen for them.
namespace tilewright::testing {

/// A convolution over [images, channels, size, size], or with size 0 a product of [images, channels] rows; then a bias and relu.
struct Layer {
  std::string name;
  int64_t images, channels, filters, size, kernel = 1, stride = 1, groups = 1;
  DType dtype = DType::f32;
};

inline Tensor random_floats(const std::vector<int64_t>& dims, unsigned seed, DType dtype = DType::f32) {
  Tensor tensor(dtype, dims);
  std::mt19937 random(seed);
  for (int64_t i = 0; i < tensor.element_count(); ++i) tensor.set_float(i, static_cast<double>(random() % 2048) / 1024 - 1);
  return tensor;
}

/// The layer alone, its input and result with channels last.
inline pattern::Program program_of(const Layer& layer) {
  Graph graph;
  Builder b(graph);
  b.set_source(layer.name);
  const bool image = layer.size > 0;
  const ValueId x = b.input("x", {layer.dtype, image ? Dims{layer.images, layer.size, layer.size, layer.channels} : Dims{layer.images, layer.channels}});
  const ValueId bias = b.constant(random_floats({layer.filters}, 4, layer.dtype), "bias");
  if (image) {
    const ValueId weights = b.constant(random_floats({layer.filters, layer.channels / layer.groups, layer.kernel, layer.kernel}, 3, layer.dtype), "w");
    const std::vector<int64_t> pads(4, layer.kernel / 2), strides(2, layer.stride);
    const ValueId y = b.one("conv", {b.transpose(x, {0, 3, 1, 2}), weights, bias}, {{"pads", pads}, {"strides", strides}, {"groups", layer.groups}});
    b.output(b.max(b.transpose(y, {0, 2, 3, 1}), 0.0), "y");
  } else {
    b.output(b.max(b.add(b.matmul(x, b.constant(random_floats({layer.channels, layer.filters}, 3, layer.dtype), "w")), bias), 0.0), "y");
  }
  return lower(graph);
}

inline schedule::Block block_of(const Layer& layer) { return schedule::schedule(program_of(layer), {}, {.choose_layouts = true}); }

}  // namespace tilewright::testing
