#pragma once

#include <vector>

#include "schedule/fuse.h"

namespace tilewright::schedule {

/// Two or three products in a row, of which `chains` takes one for a depthwise convolution (an inverted bottleneck: 1 x 1, depthwise, 1 x 1;
/// a separable convolution: depthwise, 1 x 1), as groups that become one kernel; what passes between them nobody else reads. Stands after
/// choose_layouts, because the lines that such a kernel holds are channels last. `taken`: groups whose patterns are none of theirs.
std::vector<RowGroup> find_depthwise_chains(const pattern::Program& program, const ChainsDepthwise& chains, const std::vector<RowGroup>& taken = {},
                                            Refusals* refusals = nullptr);

/// Whether the kernel's stages are such a chain: all of them are products.
bool is_depthwise_chain(const Kernel& kernel);

}  // namespace tilewright::schedule
