#pragma once

#include "schedule/schedule.h"
#include "target/source/contract_shape.h"
#include "target/target.h"

/// Products with weights whose other operand has channels side by side, or few of them: what tile/kernels/contract_rows.h, winograd.h
/// and depthwise_rows.h take.
namespace tilewright::cpu {

using namespace source;  // NOLINT: the text that all targets' kernels are made of

/// The windows of a convolution, spatial axes in the order that the result runs over them. One kernel position is
/// `channels` elements, `channel_stride` apart.
struct WindowRowsShape {
  struct Axis {
    Dim input, output = 1, kernel = 1;
    Dim stride = 1, dilation = 1, pad = 0;
    Dim pitch;         ///< elements between neighbouring positions
    std::string taps;  ///< symbol of the loop over kernel positions, if there is one
  };
  std::vector<Axis> axes;
  Dim channels = 1, channel_stride = 1;
  std::string channel;  ///< symbol of the loop over channels, if there is one
  Dim start;            ///< over the batch loops' symbols
};

struct RowsProduct {
  ContractShape shape;       ///< right: the weights; batch: loops of the weights' groups last, loops of the rows before them
  size_t weight_groups = 0;  ///< how many of the last batch loops move the weights
  std::optional<DenseShape> matrix;
  std::optional<WindowRowsShape> windows;
  std::vector<std::string> k_order;  ///< symbols of the summed loops as rows hold them
  /// One filter a channel, no sums over channels: n runs over the channels of both factors, windows over kernel positions alone.
  bool depthwise = false;

  /// Elements from one row of a strip to the next, in the operand's own memory where it is read in place.
  int64_t step() const;
  /// Rows that lie in one line, 0 where only a run knows.
  int64_t line() const;
};

/// When `nest` is such a product.
std::optional<RowsProduct> find_rows_product(const pattern::Nest& nest, const pattern::Program& program);

/// How the product is best computed on `target`, as far as is known without a measurement.
schedule::ProductConfig choose_method(const RowsProduct& product, const Target& target, bool allow_winograd);

/// Whether the product has what the configuration's method asks for, and the target registers for its block.
bool can_compute(const RowsProduct& product, const schedule::ProductConfig& config, const Target& target);

/// The weights' panels for the method: [groups, panels, k, width], for Winograd's [1, panels, 16 · channels, width].
Tensor packed_weights(const RowsProduct& product, const Tensor& weights, const schedule::ProductConfig& config, const Target& target);

/// Elements that sums are computed in, a vector.
inline int64_t lanes_of(const RowsProduct& product, const Target& target) { return target.vector_bytes / static_cast<int64_t>(size_of(product.shape.sum)); }
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Tiles of 2 × 2 results that an image has; 0 where only a run knows.
int64_t winograd_tiles(const WindowRowsShape& windows);

}  // namespace tilewright::cpu
