#pragma once

#include <set>

#include "target/source/kernel_text.h"

/// What one thread does in order, whatever the machine.
namespace tilewright::source {

/// The loops of a scatter over its points: later ones win, sums keep theirs. The output holds a copy of `initial` already. Axes in `given` have no loop:
/// their indices are `i0` for axis 0 and so on around it.
void write_scatter_points(const KernelText& kernel, const pattern::Scatter& scatter, const std::set<size_t>& given, Writer& out);
/// Axes whose points with different indices never fall on the same element.
std::set<size_t> axes_apart(const pattern::Scatter& scatter);
/// The call of tile/kernels that gives results whose size depends on data.
void write_select(const KernelText& kernel, const pattern::Select& select, Writer& out);

}  // namespace tilewright::source
