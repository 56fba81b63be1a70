#include <algorithm>

#include "base/error.h"
#include "schedule/schedule.h"

namespace tilewright::schedule {
namespace {

const char* name_of(Storage storage) {
  switch (storage) {
    case Storage::unused: return "unused";
    case Storage::input: return "input";
    case Storage::output: return "output";
    case Storage::constant: return "constant";
    case Storage::arena: return "arena";
    case Storage::dynamic: return "dynamic";
    case Storage::alias: return "alias";
  }
  return "?";
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

std::string indented(const std::string& text, const std::string& by) {
  std::string out = by;
  for (size_t i = 0; i < text.size(); ++i) {
    out += text[i];
    if (text[i] == '\n' && i + 1 < text.size()) out += by;
  }
  if (out.back() != '\n') out += '\n';
  return out;
}

std::string print_step(const Block& block, const Step& step) {
  const auto tensor = [&](TensorId id) { return fmt::format("%{} '{}'", id, block.program.tensor(id).name); };
  if (const auto* run = std::get_if<RunKernel>(&step)) {
    const Kernel& kernel = block.kernels.at(static_cast<size_t>(run->kernel));
    std::string text = fmt::format("{}: {}\n", kernel.name, kernel.source);
    if (kernel.stages.size() > 1) text += fmt::format("  rows over {} shared coordinates, {} row-local tensors\n", kernel.shared_rank, kernel.row_local.size());
    for (const pattern::Pattern& stage : kernel.stages) text += indented(pattern::print(stage, block.program), "  ");
    return text;
  }
  if (const auto* bind = std::get_if<BindSizes>(&step)) return fmt::format("bind {} = {}\n", joined(bind->bind.symbols), tensor(bind->bind.tensor));
  if (const auto* check = std::get_if<CheckSizes>(&step))
    return fmt::format("require {} == {}: {}\n", check->require.lhs.str(), check->require.rhs.str(), check->require.message);
  if (const auto* copy = std::get_if<CopyTensor>(&step)) return fmt::format("copy {} -> {}\n", tensor(copy->from), tensor(copy->to));
  if (const auto* call = std::get_if<CallIf>(&step))
    return fmt::format("if {}\n{}else\n{}", tensor(call->pattern.condition), indented(print(*call->then_block), "    "),
                       indented(print(*call->else_block), "    "));
  const auto& loop = std::get<CallLoop>(step);
  return fmt::format("loop\n{}", indented(print(*loop.body), "    "));
}

}  // namespace

std::string print(const Block& block) {
  std::string text = fmt::format("block '{}' knows [{}]\n", block.program.name, joined(block.entry_symbols));
  for (size_t id = 0; id < block.placements.size(); ++id) {
    const Placement& placement = block.placements[id];
    if (placement.storage == Storage::unused) continue;
    const pattern::TensorInfo& info = block.program.tensors[id];
    text += fmt::format("%{} '{}' {}: {}", id, info.name, str(info.type), name_of(placement.storage));
    if (placement.storage == Storage::alias) text += fmt::format(" of %{} + {}", placement.alias_of, placement.alias_offset.str());
    text += fmt::format(", steps {}..{}\n", placement.first_step, placement.last_step);
  }
  for (size_t i = 0; i < block.steps.size(); ++i) {
    if (block.streams.streams > 1) {
      const StreamPlan::At& at = block.streams.steps.at(i);
      text += fmt::format("on stream {} after [{}], ", at.stream, fmt::join(at.waits, " "));
    }
    text += fmt::format("{}: {}", i, print_step(block, block.steps[i]));
  }
  return text;
}

}  // namespace tilewright::schedule
