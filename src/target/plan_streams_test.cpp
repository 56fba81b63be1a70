#include <gtest/gtest.h>

#include <algorithm>

#include "op/builder.h"
#include "op/op.h"
#include "runtime/memory.h"
#include "schedule/place.h"
#include "schedule/streams.h"
#include "target/simt/kernel_emitters.h"
#include "target/testing/random_program.h"

namespace tilewright::simt {
namespace {

using schedule::Block;
using schedule::Storage;
using schedule::StreamPlan;

const std::map<std::string, int64_t> sizes = {{"N", 5}};

/// Bytes that a step touches, in one space of addresses: the arena as it is laid out, then each tensor that lies elsewhere.
struct Access {
  int64_t first, end;
  bool written;
};

std::vector<std::vector<Access>> accesses_of(const Block& block) {
  std::vector<rt::Lifetime> lifetimes;
  std::vector<int64_t> bytes, begin(block.placements.size(), 0);
  const auto size = [&](size_t id) {
    const Type& type = block.program.tensors[id].type;
    return product(type.dims).evaluate(sizes) * static_cast<int64_t>(size_of(type.dtype));
  };
  for (size_t id = 0; id < block.placements.size(); ++id)
    if (block.placements[id].storage == Storage::arena)
      lifetimes.push_back({block.placements[id].first_step, block.placements[id].last_step}), bytes.push_back(size(id));
  const rt::Layout layout = rt::lay_out(lifetimes.data(), bytes.data(), bytes.size());
  int64_t elsewhere = layout.total;
  size_t next = 0;
  for (size_t id = 0; id < block.placements.size(); ++id) {
    if (block.placements[id].storage == Storage::alias) continue;
    begin[id] = block.placements[id].storage == Storage::arena ? layout.offsets[next++] : elsewhere;
    if (block.placements[id].storage != Storage::arena) elsewhere += size(id) + 64;
  }
  std::vector<std::vector<Access>> all;
  for (const schedule::Step& step : block.steps) {
    std::vector<Access>& here = all.emplace_back();
    const auto touch = [&](int id, bool written) {
      int64_t offset = 0;
      auto root = static_cast<size_t>(id);
      for (; block.placements[root].storage == Storage::alias; root = static_cast<size_t>(block.placements[root].alias_of))
        offset += block.placements[root].alias_offset.evaluate(sizes) * static_cast<int64_t>(size_of(block.program.tensors[root].type.dtype));
      here.push_back({begin[root] + offset, begin[root] + offset + size(static_cast<size_t>(id)), written});
    };
    for (const int id : schedule::step_reads(block, step)) touch(id, false);
    for (const int id : schedule::step_writes(block, step)) touch(id, true);
  }
  return all;
}

/// Pairs of steps that touch the same bytes, one of them writing, with nothing that orders them.
int races(const Block& block, const StreamPlan& plan) {
  const std::vector<std::vector<Access>> accesses = accesses_of(block);
  const size_t count = block.steps.size();
  std::vector<std::vector<bool>> before(count, std::vector<bool>(count, false));
  for (size_t b = 0; b < count; ++b)
    for (size_t a = 0; a < b; ++a) {
      const auto& waits = plan.steps[b].waits;
      if (plan.steps[a].stream != plan.steps[b].stream && std::count(waits.begin(), waits.end(), static_cast<int>(a)) == 0) continue;
      before[a][b] = true;
      for (size_t c = 0; c < a; ++c)
        if (before[c][a]) before[c][b] = true;
    }
  int found = 0;
  for (size_t b = 0; b < count; ++b)
    for (size_t a = 0; a < b; ++a) {
      const bool meet = std::any_of(accesses[a].begin(), accesses[a].end(), [&](const Access& x) {
        return std::any_of(accesses[b].begin(), accesses[b].end(),
                           [&](const Access& y) { return (x.written || y.written) && x.first < y.end && y.first < x.end; });
      });
      found += meet && !before[a][b];
    }
  return found;
}

TEST(PlanStreams, NoTwoStepsRaceForMemory) {
  int several = 0, needed = 0;
  for (unsigned seed = 0; seed < 150; ++seed) {
    testing::RandomProgram random(seed);
    random.make(3 + static_cast<int>(seed % 37));
    const schedule::Options options = seed % 2 == 0 ? schedule::Options{} : schedule::Options{false, false, false, true, true};
    Block block = schedule::schedule(random.program, {"N"}, options);
    const StreamPlan plan = schedule::plan_streams(block, 4);
    schedule::extend_lifetimes(block, plan);
    ASSERT_EQ(races(block, plan), 0) << "seed " << seed << "\n" << schedule::print(block);
    if (plan.streams == 1) continue;
    ++several;
    // Each wait that is left out must be missed.
    for (size_t step = 0; step < plan.steps.size(); ++step)
      for (const int wait : plan.steps[step].waits) {
        if (wait == StreamPlan::beginning) continue;
        StreamPlan lacking = plan;
        std::erase(lacking.steps[step].waits, wait);
        needed += races(block, lacking) > 0;
      }
  }
  EXPECT_GT(several, 20);
  EXPECT_GT(needed, 50);
}

/// Branches of one input, each a chain of products, and their sum.
Block branches(int count, int length) {
  Graph graph;
  Builder b(graph);
  const ValueId x = b.input("x", {DType::f32, {16, 16}});
  std::vector<ValueId> ends;
  for (int i = 0; i < count; ++i) {
    ValueId y = x;
    for (int k = 0; k < length; ++k) y = b.matmul(y, b.constant(Tensor(DType::f32, {16, 16})));
    ends.push_back(y);
  }
  ValueId sum = ends[0];
  for (size_t i = 1; i < ends.size(); ++i) sum = b.matmul(sum, ends[i]);
  b.output(sum);
  return schedule::schedule(lower(graph), {});
}

TEST(PlanStreams, AChainStaysOnOneStream) {
  Block block = branches(1, 8);
  plan_streams(block);
  EXPECT_EQ(block.streams.streams, 1);
  EXPECT_TRUE(block.streams.steps.empty());
}

TEST(PlanStreams, BranchesGetStreamsOfTheirOwn) {
  Block block = branches(3, 3);
  plan_streams(block);
  EXPECT_EQ(block.streams.streams, 3);
  EXPECT_EQ(races(block, block.streams), 0);
  // Within a branch nothing waits.
  int waits = 0;
  for (const auto& step : block.streams.steps) waits += static_cast<int>(step.waits.size());
  EXPECT_LE(waits, 4) << schedule::print(block);
}

TEST(PlanStreams, ASelectionWaitsForAllAndAllForIt) {
  Graph graph;
  Builder b(graph);
  const ValueId x = b.input("x", {DType::f32, {16, 16}}), y = b.input("y", {DType::f32, {16, 16}});
  b.output(b.matmul(x, x));
  b.output(b.node("nonzero", {b.matmul(y, y)}, {}, 1)[0]);
  b.output(b.matmul(b.matmul(x, y), y));
  Block block = schedule::schedule(lower(graph), {});
  plan_streams(block);
  int selections = 0;
  const int count = static_cast<int>(block.steps.size());
  for (int i = 0; i < count; ++i) {
    if (schedule::runs_on_device(block, block.steps[static_cast<size_t>(i)])) continue;
    ++selections;
    for (int other = 0; other < count; ++other) {
      if (other == i) continue;
      EXPECT_TRUE(schedule::before(block.streams, std::min(i, other), std::max(i, other))) << i << " and " << other;
    }
  }
  EXPECT_EQ(selections, 1);
}

}  // namespace
}  // namespace tilewright::simt
