#pragma once

#include "target/cpu/rows_product.h"

/// A depthwise convolution and the products of rows around it, as tile/kernels/depthwise_chain.h computes them.
namespace tilewright::cpu {

struct DepthwiseChain {
  /// Products whose results are the convolution's input, and whose rows are its result. Where they have a matrix, their batch runs over
  /// lines and their rows along one; windows are as they were, without a batch.
  std::optional<RowsProduct> before, after;
  RowsProduct middle;
  std::vector<WindowRowsShape::Axis> axes;  ///< of the convolution: depth (images that lie one behind the other), height, width
  Dim channels;

  /// The products by stage.
  std::vector<const RowsProduct*> products() const;
};

/// The chain that the stages are, when the kernel can compute them: floats of 32 bits between them, each tensor dense and channels last.
std::optional<DepthwiseChain> find_depthwise_chain(const std::vector<const pattern::Nest*>& stages, const pattern::Program& program);

}  // namespace tilewright::cpu
