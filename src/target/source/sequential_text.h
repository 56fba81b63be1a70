#pragma once

#include "target/source/kernel_text.h"

/// What one thread does in order, whatever the machine.
namespace tilewright::source {

/// The loops of a scatter over its points: later ones win, sums keep theirs. The output holds a copy of `initial` already.
void write_scatter_points(const KernelText& kernel, const pattern::Scatter& scatter, Writer& out);
/// The call of tile/kernels that gives results whose size depends on data.
void write_select(const KernelText& kernel, const pattern::Select& select, Writer& out);

}  // namespace tilewright::source
