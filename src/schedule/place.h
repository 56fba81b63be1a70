#pragma once

#include <optional>

#include "schedule/schedule.h"

namespace tilewright::schedule {

/// A tensor that is nothing but another one's bytes under other dims: element k of `view` is element `offset` + k of `base`.
struct ViewOf {
  TensorId view = -1, base = -1;
  Dim offset = 0;
};

/// The view that a pattern describes, when it only copies one tensor's consecutive elements in order.
std::optional<ViewOf> as_view(const pattern::Pattern&, const pattern::Program&);

/// A view, or a copy where the two cannot share bytes, that takes place before `step`.
struct PlacedView {
  ViewOf view;
  int step = 0;
};

/// Decides for every tensor of `block` where it lives and how long. Views become aliases where both ends may share bytes;
/// where they may not (a result that is a view of an input, say) a CopyTensor step is added.
void place(Block& block, const std::vector<PlacedView>& views, const Options& options);

/// Tensors a step reads and writes.
std::vector<TensorId> step_reads(const Block&, const Step&);
std::vector<TensorId> step_writes(const Block&, const Step&);
/// Named sizes that a step gives values to.
std::vector<std::string> step_defines(const Step&);

}  // namespace tilewright::schedule
