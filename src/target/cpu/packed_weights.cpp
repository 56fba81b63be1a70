#include <algorithm>

#include "target/cpu/rows_product.h"
#include "tile/kernels/winograd.h"

namespace tilewright::cpu {

using schedule::affine_in;

namespace {

/// Offsets of all combinations of the loops' values in the weights, the last loop fastest.
std::vector<int64_t> offsets_over(const std::vector<Loop>& loops, const Dim& offset) {
  std::vector<int64_t> all = {0};
  for (const Loop& loop : loops) {
    const int64_t slope = affine_in(offset, loop.symbol)->slope.constant(), extent = loop.extent.constant();
    std::vector<int64_t> next;
    next.reserve(all.size() * static_cast<size_t>(extent));
    for (const int64_t base : all)
      for (int64_t i = 0; i < extent; ++i) next.push_back(base + i * slope);
    all = std::move(next);
  }
  return all;
}

/// Transformed filters; k runs over three rows, three columns, channels.
Tensor transformed_filters(const float* from, const std::vector<int64_t>& by_n, const std::vector<int64_t>& by_k, int64_t width) {
  const auto n = static_cast<int64_t>(by_n.size()), channels = static_cast<int64_t>(by_k.size()) / 9, panels = ceil_div(n, width);
  Tensor packed(DType::f32, {1, panels, 16 * channels, width});
  auto* const to = static_cast<float*>(packed.mutable_data());
  for (int64_t f = 0; f < n; ++f)
    for (int64_t c = 0; c < channels; ++c) {
      float taps[3][3];
      for (int64_t i = 0; i < 9; ++i) taps[i / 3][i % 3] = from[by_n[static_cast<size_t>(f)] + by_k[static_cast<size_t>(i * channels + c)]];
      double points[4][4];
      tile::winograd_filter(taps, points);
      for (int64_t q = 0; q < 16; ++q) to[((f / width * 16 + q) * channels + c) * width + f % width] = static_cast<float>(points[q / 4][q % 4]);
    }
  return packed;
}

}  // namespace

Tensor packed_weights(const RowsProduct& product, const Tensor& weights, const schedule::ProductConfig& config, const Target& target) {
  using Method = schedule::ProductConfig::Method;
  const ContractShape& shape = product.shape;
  const Address& address = shape.nest.loads[static_cast<size_t>(shape.right.access)];
  std::vector<Loop> k_loops;
  for (const std::string& symbol : product.k_order)
    for (const Loop& loop : shape.k.loops)
      if (loop.symbol == symbol) k_loops.push_back(loop);
  const std::vector<Loop> groups(shape.batch.loops.end() - static_cast<std::ptrdiff_t>(product.weight_groups), shape.batch.loops.end());
  Dim start = address.offset;
  for (const Loop& loop : shape.nest.loops) start = start.substitute({{loop.symbol, Dim(0)}});
  const std::vector<int64_t> by_group = offsets_over(groups, address.offset), by_n = offsets_over(shape.n.loops, address.offset),
                             by_k = offsets_over(k_loops, address.offset);
  const auto n = static_cast<int64_t>(by_n.size()), k = static_cast<int64_t>(by_k.size());
  const int64_t width = config.method == Method::depthwise ? n : config.block.vectors * lanes_of(product, target);
  if (config.method == Method::winograd) return transformed_filters(weights.as<float>() + start.constant(), by_n, by_k, width);
  const int64_t panels = ceil_div(n, width);
  Tensor packed(weights.dtype(), {static_cast<int64_t>(by_group.size()), panels, k, width});
  const auto write = [&]<class T>(T* to, const T* from) {
    for (const int64_t group : by_group)
      for (int64_t panel = 0; panel < panels; ++panel) {
        const int64_t first = panel * width, used = std::min(width, n - first);
        for (const int64_t at_k : by_k) {
          for (int64_t j = 0; j < used; ++j) to[j] = from[start.constant() + group + at_k + by_n[static_cast<size_t>(first + j)]];
          to += width;
        }
      }
  };
  // Elements keep their bits.
  switch (size_of(weights.dtype())) {
    case 2: write(static_cast<uint16_t*>(packed.mutable_data()), weights.as<uint16_t>()); break;
    case 4: write(static_cast<uint32_t*>(packed.mutable_data()), weights.as<uint32_t>()); break;
    default: write(static_cast<uint64_t*>(packed.mutable_data()), weights.as<uint64_t>());
  }
  return packed;
}

}  // namespace tilewright::cpu
