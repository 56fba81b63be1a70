#include "runtime/memory.h"
#include "schedule/streams.h"
#include "target/simt/kernel_emitters.h"

namespace tilewright::simt {
namespace {

constexpr int most_streams = 4;
/// Streams must not make the arena more than so many times larger, but for a few bytes.
constexpr double most_growth = 1.5;
constexpr int64_t few_bytes = 32 << 20;

/// Of tensors whose size is known; others count as one size.
int64_t arena_bytes(const schedule::Block& block) {
  std::vector<rt::Lifetime> lifetimes;
  std::vector<int64_t> bytes;
  for (size_t id = 0; id < block.placements.size(); ++id) {
    const schedule::Placement& placement = block.placements[id];
    if (placement.storage != schedule::Storage::arena) continue;
    const Type& type = block.program.tensors[id].type;
    constexpr int64_t some = 4096;
    lifetimes.push_back({placement.first_step, placement.last_step});
    bytes.push_back(product(type.dims).as_constant().value_or(some) * static_cast<int64_t>(size_of(type.dtype)));
  }
  return rt::lay_out(lifetimes.data(), bytes.data(), bytes.size()).total;
}

}  // namespace

void plan_streams(schedule::Block& block) {
  for (const schedule::Placement& placement : block.placements)
    if (placement.storage == schedule::Storage::dynamic) return;  // memory changes hands while the host runs ahead
  const schedule::StreamPlan plan = schedule::plan_streams(block, most_streams);
  if (plan.streams == 1) return;
  const std::vector<schedule::Placement> placements = block.placements;
  const int64_t before = arena_bytes(block);
  schedule::extend_lifetimes(block, plan);
  const int64_t after = arena_bytes(block);
  if (after - before > few_bytes && static_cast<double>(after) > most_growth * static_cast<double>(before)) {
    block.placements = placements;
    return;
  }
  block.streams = plan;
}

}  // namespace tilewright::simt
