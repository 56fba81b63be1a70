#include "schedule/fuse_depthwise.h"

#include <algorithm>

#include "schedule/uses.h"

namespace tilewright::schedule {
namespace {

using pattern::Nest;
using pattern::NestKind;

const Nest* product_at(const pattern::Program& program, int i) {
  const auto* nest = i < 0 ? nullptr : std::get_if<Nest>(&program.patterns[static_cast<size_t>(i)]);
  return nest && pattern::classify(*nest) == NestKind::contract ? nest : nullptr;
}

/// The product that alone reads what product `i` writes; -1: there is none.
int next_product(const pattern::Program& program, const Uses& uses, int i) {
  const Nest* nest = product_at(program, i);
  if (nest == nullptr || nest->outputs.size() != 1) return -1;
  const TensorId result = nest->outputs[0].tensor;
  const std::vector<int>& readers = uses.readers_of(result);
  if (uses.is_result(result) || uses.writers_of(result).size() != 1 || readers.size() != 1) return -1;
  return product_at(program, readers[0]) ? readers[0] : -1;
}

}  // namespace

std::vector<RowGroup> find_depthwise_chains(const pattern::Program& program, const ChainsDepthwise& chains, const std::vector<RowGroup>& others,
                                            Refusals* refusals) {
  const Uses uses(program);
  std::vector<bool> taken(program.patterns.size(), false);
  for (const RowGroup& group : others)
    for (const int pattern : group.patterns) taken[static_cast<size_t>(pattern)] = true;
  std::vector<RowGroup> groups;
  const auto take = [&](const std::vector<int>& patterns) {
    std::vector<const Nest*> stages;
    for (const int pattern : patterns) {
      if (pattern < 0 || taken[static_cast<size_t>(pattern)]) return false;
      stages.push_back(product_at(program, pattern));
    }
    if (!chains(stages, program)) return false;
    for (const int pattern : patterns) taken[static_cast<size_t>(pattern)] = true;
    groups.push_back({patterns, 0});
    return true;
  };
  for (int i = 0; i < static_cast<int>(program.patterns.size()); ++i) {
    const int second = next_product(program, uses, i), third = next_product(program, uses, second);
    if (second < 0) continue;
    if (take({i, second, third}) || take({i, second})) continue;
    if (refusals && !taken[static_cast<size_t>(i)])
      refusals->note(product_at(program, i)->outputs[0].tensor, "fuse_depthwise",
                     "neither product is a depthwise convolution, or its lines are too few, its weights too many");
  }
  return groups;
}

bool is_depthwise_chain(const Kernel& kernel) {
  return kernel.stages.size() > 1 && std::all_of(kernel.stages.begin(), kernel.stages.end(), [](const pattern::Pattern& stage) {
           const auto* nest = std::get_if<Nest>(&stage);
           return nest && pattern::classify(*nest) == NestKind::contract;
         });
}

}  // namespace tilewright::schedule
