#include <algorithm>

#include "target/cpu/rows_product.h"

namespace tilewright::cpu {

namespace {

/// Where only a run knows how long a line of rows is.
constexpr int64_t usual_line = 56;

struct Cost {
  schedule::ProductBlock block;
  double cycles = 0;
};

/// The register block that takes the fewest cycles for `line` rows, n columns and sums of k, and how many.
Cost cheapest_block(int64_t line, int64_t n, int64_t k, int64_t lanes, const Target& target) {
  // AVX-512 broadcasts from memory as it multiplies; others need a register for it.
  const int registers = target.vector_bytes == 64 ? 32 : target.architecture == "aarch64" ? 31 : 15;
  // Cycles a step of k: two multiply-adds or two loads in each, two for a cache line of weights from the second level; then the sums are stored.
  const auto cycles_of = [&](int64_t rows, int vectors) {
    const auto r = static_cast<double>(rows);
    return rows == 0 ? 0 : static_cast<double>(k) * std::max({r * vectors / 2, (r + vectors) / 2, vectors * 2.0}) + 2 * r * vectors + 30;
  };
  Cost best;
  for (int vectors = 1; vectors <= 8; ++vectors)
    for (int rows = 1; rows * vectors + vectors <= registers && rows <= line; ++rows) {
      const auto panels = static_cast<double>(ceil_div(n, vectors * lanes));
      const double cycles = panels * (static_cast<double>(line / rows) * cycles_of(rows, vectors) + cycles_of(line % rows, vectors));
      if (best.block.rows == 0 || cycles < best.cycles * 0.999) best = {{rows, vectors}, cycles};
    }
  return best;
}

/// What a 3 x 3 convolution takes by Winograd's method, if it can be done so.
std::optional<Cost> winograd_cost(const RowsProduct& product, const Target& target) {
  if (!product.windows || product.depthwise || product.weight_groups > 0 || product.shape.sum != DType::f32) return std::nullopt;
  const WindowRowsShape& windows = *product.windows;
  const ContractShape& shape = product.shape;
  for (const Factor* factor : {&shape.left, &shape.right})
    if (shape.nest.loads[static_cast<size_t>(factor->access)].dtype != DType::f32) return std::nullopt;
  const int64_t lanes = lanes_of(product, target);
  if (windows.axes.size() != 2 || !(windows.channel_stride == Dim(1)) || !windows.channels.is_constant() || windows.channels.constant() % lanes != 0)
    return std::nullopt;
  Dim below = windows.channels;
  for (size_t i = 2; i-- > 0; below *= windows.axes[i].input) {
    const WindowRowsShape::Axis& axis = windows.axes[i];
    if (!(axis.kernel == Dim(3)) || !(axis.stride == Dim(1)) || !(axis.dilation == Dim(1)) || !(axis.pitch == below)) return std::nullopt;
  }
  const auto by_image = even_over(windows.start, shape.batch);
  if (!by_image || (!shape.batch.loops.empty() && !(by_image->slope == below))) return std::nullopt;
  const int64_t tiles = winograd_tiles(windows) > 0 ? winograd_tiles(windows) : usual_line * usual_line / 4;
  const int64_t c = windows.channels.constant(), n = shape.n.extent().constant();
  Cost cost = cheapest_block(tiles, n, c, lanes, target);
  // 16 products; transforms of 4 x 4 inputs and sums, a vector of channels or filters at a time; weights come seven bytes a cycle.
  cost.cycles = 16 * cost.cycles + static_cast<double>(tiles) * static_cast<double>(ceil_div(c, lanes) * 48 + ceil_div(n, lanes) * 45);
  cost.cycles = std::max(cost.cycles, 16.0 * static_cast<double>(c) * static_cast<double>(n) * 4 / 7);
  return cost;
}

}  // namespace

int64_t winograd_tiles(const WindowRowsShape& windows) {
  const auto height = windows.axes[0].output.as_constant(), width = windows.axes[1].output.as_constant();
  return height && width ? ceil_div(*height, 2) * ceil_div(*width, 2) : 0;
}

schedule::PackedProduct choose_method(const RowsProduct& product, const Target& target, bool allow_winograd) {
  using Method = schedule::PackedProduct::Method;
  if (product.depthwise) return {Method::depthwise, {8, 2}};
  const int64_t line = product.line() > 0 ? product.line() : usual_line;
  const Cost rows = cheapest_block(line, product.shape.n.extent().constant(), product.shape.k.extent().constant(), lanes_of(product, target), target);
  const std::optional<Cost> winograd = allow_winograd ? winograd_cost(product, target) : std::nullopt;
  if (winograd) {
    const double lines = static_cast<double>(product.windows->axes[0].output.as_constant().value_or(usual_line));
    if (winograd->cycles < 0.9 * rows.cycles * lines) return {Method::winograd, winograd->block};
  }
  return {Method::rows, rows.block};
}

}  // namespace tilewright::cpu
