#pragma once

#include <functional>
#include <optional>
#include <string>

#include "pass/merge_products.h"
#include "schedule/schedule.h"
#include "target/target.h"

namespace tilewright {

struct PlanOptions {
  bool winograd = true;  ///< fewer multiplications for 3 x 3 convolutions, with roundings of their own
  bool streams = true;   ///< independent branches run beside each other, where the target has streams
  bool tf32 = false;     ///< products of floats may have TF32's accuracy
  bool rounds = false;   ///< products of bfloats may round what they compute on the way: a policy made them bfloats
  /// What was measured to be best for a kernel; where it gives nothing, or is not set, or names what the kernel cannot do, rules decide.
  std::function<std::optional<schedule::KernelConfig>(const schedule::Block&, const schedule::Kernel&)> choose = {};
};

/// Decides what a target leaves open in the block's kernels, and lays out constants and memory for them: methods and register blocks
/// of products with weights, and the weights in their panels; on GPUs, tiles of products and the memory that parts of results pass through.
void plan_kernels(schedule::Block& block, const Target& target, const PlanOptions& options = {});

/// Which attention machines of this kind compute in one kernel: what schedule::Options asks.
schedule::StreamsAttention streams_attention(TargetKind kind);
/// Which depthwise convolutions machines of this kind compute together with their neighbours: what schedule::Options asks.
schedule::ChainsDepthwise chains_depthwise(const Target& target);

/// What products take on the target, as far as is known before anything is fused: what PassOptions asks.
ProductCost product_cost(const Target& target);

/// The C++ text of one function `void <kernel.name>(const tile::Args& a)` that runs the kernel's stages: `a.tensor[i]` is
/// kernel.tensors[i], `a.size[i]` is kernel.sizes[i]. Kernels that do the same to tensors of the same shapes have the same
/// text but for the name and the comment above it; without a source there is no comment.
std::string emit_kernel(const schedule::Block& block, const schedule::Kernel& kernel, const Target& target);

/// What every file of kernels begins with.
std::string kernel_includes(const Target& target);

/// What two kernels must share to be served by one function.
std::string kernel_signature(const schedule::Block& block, const schedule::Kernel& kernel, const Target& target);

}  // namespace tilewright
