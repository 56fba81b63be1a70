#include <algorithm>
#include <set>

#include "schedule/fuse_attention.h"
#include "target/simt/kernel_emitters.h"

namespace tilewright::simt {
namespace {

/// Memory that only kernel `index` uses, for as long as it runs.
void add_workspace(schedule::Block& block, size_t index, const Workspace& wanted) {
  schedule::Kernel& kernel = block.kernels[index];
  schedule::Placement placement;
  for (size_t step = 0; step < block.steps.size(); ++step)
    if (const auto* run = std::get_if<schedule::RunKernel>(&block.steps[step]); run && run->kernel == static_cast<int>(index))
      placement.first_step = placement.last_step = static_cast<int>(step);
  std::set<std::string> symbols;
  wanted.elements.collect_symbols(symbols);
  const std::set<std::string> known(block.entry_symbols.begin(), block.entry_symbols.end());
  placement.storage = std::includes(known.begin(), known.end(), symbols.begin(), symbols.end()) ? schedule::Storage::arena : schedule::Storage::dynamic;
  kernel.workspace = block.program.add_tensor({wanted.dtype, {wanted.elements}}, "parts of " + kernel.name);
  block.placements.resize(block.program.tensors.size());
  block.placements.back() = placement;
  kernel.tensors.push_back(kernel.workspace);
  for (const std::string& symbol : symbols)
    if (std::find(kernel.sizes.begin(), kernel.sizes.end(), symbol) == kernel.sizes.end()) kernel.sizes.push_back(symbol);
}

}  // namespace

void plan_workspaces(schedule::Block& block, const Target& target) {
  for (size_t i = 0; i < block.kernels.size(); ++i) {
    const schedule::Kernel& kernel = block.kernels[i];
    if (kernel.workspace >= 0) continue;
    const std::optional<Workspace> wanted =
        schedule::is_attention(kernel) ? attention_workspace(block, kernel, target) : contract_workspace(block, kernel, target);
    if (wanted) add_workspace(block, i, *wanted);
  }
  for (schedule::Step& step : block.steps) {
    if (auto* call = std::get_if<schedule::CallIf>(&step))
      for (const auto& branch : {call->then_block, call->else_block}) plan_workspaces(*branch, target);
    if (auto* call = std::get_if<schedule::CallLoop>(&step)) plan_workspaces(*call->body, target);
  }
}

}  // namespace tilewright::simt
