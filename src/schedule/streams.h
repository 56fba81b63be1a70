#pragma once

#include "schedule/schedule.h"

namespace tilewright::schedule {

/// Shares steps out to at most `most_streams` streams: a chain stays on its stream, independent branches get others. Steps that the host takes part in
/// (sizes read from data, branches, loops, selections) wait for all before them, and all after them wait for those; so do steps that are
/// `window` apart, which bounds how much longer memory is held.
StreamPlan plan_streams(const Block& block, int most_streams);

/// Whether step `a` is surely done when step `b` begins.
bool before(const StreamPlan& plan, int a, int b);

/// Lifetimes as one stream has them become what the plan needs: memory is free for others when all later steps wait for its users.
void extend_lifetimes(Block& block, const StreamPlan& plan);

/// Whether a step runs on the device alone, without a look at data by the host.
bool runs_on_device(const Block& block, const Step& step);

}  // namespace tilewright::schedule
