#include "schedule/streams.h"

#include <algorithm>
#include <set>

#include "schedule/place.h"

namespace tilewright::schedule {
namespace {

/// Independent steps further apart than this wait for each other all the same.
constexpr int window = 16;

size_t at(int i) { return static_cast<size_t>(i); }

/// Bytes of a tensor's memory that a step reads or writes.
struct Part {
  TensorId root = -1;
  bool written = false;
  bool whole = true;  ///< else [first, end)
  int64_t first = 0, end = 0;

  bool conflicts(const Part& other) const {
    if (root != other.root || (!written && !other.written)) return false;
    return whole || other.whole || (first < other.end && other.first < end);
  }
};

Part part_of(const Block& block, TensorId id, bool written) {
  Part part{.root = id, .written = written};
  Dim offset = 0;
  while (block.placements[at(part.root)].storage == Storage::alias) {
    const Placement& placement = block.placements[at(part.root)];
    offset += placement.alias_offset * Dim(static_cast<int64_t>(size_of(block.program.tensor(part.root).type.dtype)));
    part.root = placement.alias_of;
  }
  const Type& type = block.program.tensor(id).type;
  const auto first = offset.as_constant(), elements = product(type.dims).as_constant();
  if (!first || !elements) return part;
  part.whole = false;
  part.first = *first;
  part.end = *first + *elements * static_cast<int64_t>(size_of(type.dtype));
  return part;
}

std::vector<Part> parts_of(const Block& block, const Step& step) {
  std::vector<Part> parts;
  for (const TensorId id : step_reads(block, step)) parts.push_back(part_of(block, id, false));
  for (const TensorId id : step_writes(block, step)) parts.push_back(part_of(block, id, true));
  if (const auto* run = std::get_if<RunKernel>(&step))
    if (const TensorId id = block.kernels[at(run->kernel)].workspace; id >= 0) parts.push_back(part_of(block, id, true));
  std::erase_if(parts, [&](const Part& part) { return block.placements[at(part.root)].storage == Storage::constant; });
  return parts;
}

/// The steps that each step must wait for; without those that it waits for through others.
class Planner {
 public:
  Planner(const Block& block, int most_streams) : block_(block), most_streams_(most_streams) {}

  StreamPlan plan() {
    const int count = static_cast<int>(block_.steps.size());
    plan_.steps.resize(block_.steps.size());
    done_.resize(block_.steps.size());
    last_ = {StreamPlan::beginning};
    for (int step = 0; step < count; ++step) place(step, needed(step));
    for (size_t stream = 1; stream < last_.size(); ++stream)
      if (last_[0] < 0 || !knows(last_[0], static_cast<int>(stream), last_[stream])) plan_.joined.push_back(last_[stream]);
    plan_.streams = static_cast<int>(last_.size());
    return std::move(plan_);
  }

 private:
  /// Earlier steps that must be done.
  std::vector<int> needed(int step) {
    parts_.push_back(parts_of(block_, block_.steps[at(step)]));
    alone_.push_back(!runs_on_device(block_, block_.steps[at(step)]));
    std::vector<int> needs;
    if (is_check(step)) return needs;
    for (int other = step - 1; other >= 0; --other) {
      if (is_check(other)) continue;
      const bool conflict = std::any_of(parts_[at(step)].begin(), parts_[at(step)].end(), [&](const Part& mine) {
        return std::any_of(parts_[at(other)].begin(), parts_[at(other)].end(), [&](const Part& part) { return mine.conflicts(part); });
      });
      if (conflict || alone_[at(step)] || alone_[at(other)] || step - other > window) needs.push_back(other);
      // What lies further back is done by then.
      if (alone_[at(other)] || step - other > 3 * window) break;
    }
    return needs;
  }

  /// Steps of the host alone, which take no part.
  bool is_check(int step) const { return std::holds_alternative<CheckSizes>(block_.steps[at(step)]); }

  /// Whether `other`, on `stream`, is done when `step` begins or is `step`.
  bool knows(int step, int stream, int other) const {
    if (plan_.steps[at(step)].stream == stream) return other <= step;
    return stream < static_cast<int>(done_[at(step)].size()) && done_[at(step)][at(stream)] >= other;
  }

  void place(int step, const std::vector<int>& needs) {
    if (is_check(step)) return;
    const int stream = alone_[at(step)] ? 0 : choose_stream(needs);
    if (stream == static_cast<int>(last_.size())) last_.push_back(StreamPlan::beginning);
    StreamPlan::At& here = plan_.steps[at(step)];
    here.stream = stream;
    std::vector<int>& done = done_[at(step)];
    if (last_[at(stream)] >= 0) done = done_[at(last_[at(stream)])];
    done.resize(last_.size(), StreamPlan::beginning);
    for (const int other : needs) {  // latest first: those imply earlier ones
      const int from = plan_.steps[at(other)].stream;
      if (from == stream || done[at(from)] >= other) continue;
      here.waits.push_back(other);
      done[at(from)] = other;
      for (size_t s = 0; s < done_[at(other)].size(); ++s) done[s] = std::max(done[s], done_[at(other)][s]);
    }
    if (stream != 0 && last_[at(stream)] < 0 && here.waits.empty()) here.waits.push_back(StreamPlan::beginning);
    done[at(stream)] = step;
    last_[at(stream)] = step;
  }

  /// The stream of what it waits for, where that is the stream's last step; one whose work is done by then; a new one.
  int choose_stream(const std::vector<int>& needs) const {
    for (const int other : needs)
      if (last_[at(plan_.steps[at(other)].stream)] == other) return plan_.steps[at(other)].stream;
    const auto idle = [&](int stream) {
      const int last = last_[at(stream)];
      return last < 0 || std::any_of(needs.begin(), needs.end(), [&](int other) { return knows(other, stream, last); });
    };
    const int count = static_cast<int>(last_.size());
    for (int stream = 0; stream < count; ++stream)
      if (idle(stream)) return stream;
    if (count < most_streams_) return count;
    return static_cast<int>(std::min_element(last_.begin(), last_.end()) - last_.begin());
  }

  const Block& block_;
  const int most_streams_;
  StreamPlan plan_;
  std::vector<std::vector<Part>> parts_;  ///< by step
  std::vector<bool> alone_;               ///< by step: waits for all, and all wait for it
  std::vector<std::vector<int>> done_;    ///< by step, by stream: the last step of it that is done when the step is
  std::vector<int> last_;                 ///< by stream
};

}  // namespace

bool runs_on_device(const Block& block, const Step& step) {
  if (const auto* run = std::get_if<RunKernel>(&step)) return !std::holds_alternative<pattern::Select>(block.kernels[at(run->kernel)].stages.at(0));
  return std::holds_alternative<CopyTensor>(step) || std::holds_alternative<CheckSizes>(step);
}

StreamPlan plan_streams(const Block& block, int most_streams) { return Planner(block, most_streams).plan(); }

namespace {

/// By step up to `last`: whether `step` is surely done when it begins.
std::vector<bool> after(const StreamPlan& plan, int step, int last) {
  std::vector<bool> steps(at(last) + 1, false), streams(at(plan.streams), false);
  streams[at(plan.steps[at(step)].stream)] = true;
  steps[at(step)] = true;
  for (int later = step + 1; later <= last; ++later) {
    const StreamPlan::At& here = plan.steps[at(later)];
    if (std::any_of(here.waits.begin(), here.waits.end(), [&](int other) { return other >= 0 && steps[at(other)]; })) streams[at(here.stream)] = true;
    steps[at(later)] = streams[at(here.stream)];
  }
  return steps;
}

}  // namespace

bool before(const StreamPlan& plan, int a, int b) { return a < b && after(plan, a, b)[at(b)]; }

void extend_lifetimes(Block& block, const StreamPlan& plan) {
  if (plan.streams == 1) return;
  const int count = static_cast<int>(block.steps.size());
  // By step: the last one that may run beside it.
  std::vector<int> settled(block.steps.size());
  for (int step = 0; step < count; ++step) {
    settled[at(step)] = step;
    const int most = std::min(count - 1, step + window);
    const std::vector<bool> ordered = after(plan, step, most);
    for (int later = step + 1; later <= most; ++later)
      if (!ordered[at(later)]) settled[at(step)] = later;
  }
  std::vector<int> last(block.placements.size(), -1);
  for (int step = 0; step < count; ++step)
    for (const Part& part : parts_of(block, block.steps[at(step)])) last[at(part.root)] = std::max(last[at(part.root)], settled[at(step)]);
  for (size_t id = 0; id < block.placements.size(); ++id)
    if (block.placements[id].storage == Storage::arena) block.placements[id].last_step = std::max(block.placements[id].last_step, last[id]);
}

}  // namespace tilewright::schedule
