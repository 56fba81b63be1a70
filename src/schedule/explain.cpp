#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "schedule/schedule.h"

namespace tilewright::schedule {
namespace {

using pattern::Nest;
using pattern::NestKind;
using pattern::Pattern;

bool is_kind(const Pattern& pattern, NestKind kind) {
  const auto* nest = std::get_if<Nest>(&pattern);
  return nest && pattern::classify(*nest) == kind;
}
bool is_product(const Pattern& pattern) { return is_kind(pattern, NestKind::contract); }

/// Whether a fusion's word still holds for what became of the tensor's writer and reader: later ones may have joined them with others.
bool concerns(const std::string& pass, const Pattern& writer, const Pattern& reader) {
  if (pass == "fuse_maps") return is_kind(writer, NestKind::map);
  if (pass == "fuse_epilogues") return is_kind(reader, NestKind::map);
  if (pass == "fuse_depthwise") return is_product(writer) && is_product(reader);
  return true;
}

std::string text_of(const Pattern& pattern) {
  const auto* nest = std::get_if<Nest>(&pattern);
  if (nest == nullptr) {
    if (std::holds_alternative<pattern::Scatter>(pattern)) return "scatter";
    if (std::holds_alternative<pattern::Cumulate>(pattern)) return "running sum";
    return "selection";
  }
  const Dims kept(nest->space.begin(), nest->space.end() - nest->reduced_rank), reduced(nest->space.end() - nest->reduced_rank, nest->space.end());
  switch (pattern::classify(*nest)) {
    case NestKind::contract: return fmt::format("product of {} results, {} terms each", str(kept), str(reduced));
    case NestKind::reduce: return fmt::format("reduction of {} results, {} elements each", str(kept), str(reduced));
    case NestKind::map: break;
  }
  return fmt::format("map of {} elements", str(kept));
}

class Explainer {
 public:
  explicit Explainer(const Block& block) : block_(block) {
    for (size_t i = 0; i < block.kernels.size(); ++i)
      for (const Pattern& stage : block.kernels[i].stages)
        for (const TensorId id : pattern::writes(stage)) writers_[base(id)].insert(static_cast<int>(i));
  }

  std::string run() const {
    std::string text = summary();
    for (const Step& step : block_.steps) {
      if (const auto* run = std::get_if<RunKernel>(&step)) text += about(run->kernel);
      if (const auto* call = std::get_if<CallIf>(&step)) text += "if\n" + explain(*call->then_block) + "else\n" + explain(*call->else_block) + "end of if\n";
      if (const auto* call = std::get_if<CallLoop>(&step)) text += "loop\n" + explain(*call->body) + "end of loop\n";
    }
    return text;
  }

 private:
  /// The tensor whose bytes it shares.
  TensorId base(TensorId id) const {
    while (placement(id).storage == Storage::alias) id = placement(id).alias_of;
    return id;
  }
  const Placement& placement(TensorId id) const { return block_.placements.at(static_cast<size_t>(id)); }

  std::string summary() const {
    size_t products = 0, joined = 0;
    for (const Kernel& kernel : block_.kernels) {
      joined += kernel.stages.size() > 1;
      products += static_cast<size_t>(std::count_if(kernel.stages.begin(), kernel.stages.end(), is_product));
    }
    return fmt::format("{} kernels with {} products, {} kernels of several stages\n", block_.kernels.size(), products, joined);
  }

  std::string about(int index) const {
    const Kernel& kernel = block_.kernels.at(static_cast<size_t>(index));
    std::string text = fmt::format("{}: {}\n", kernel.name, kernel.source);
    for (const Pattern& stage : kernel.stages) text += fmt::format("  {}\n", text_of(stage));
    if (const std::optional<KernelConfig> config = decided(kernel)) text += fmt::format("  {}\n", print(*config));
    if (!kernel.row_local.empty()) text += fmt::format("  {} tensors pass from stage to stage without a place in memory\n", kernel.row_local.size());
    for (const TensorId id : kernel.tensors) {
      const auto writers = writers_.find(base(id));
      const bool reads = std::any_of(kernel.stages.begin(), kernel.stages.end(), [&](const Pattern& stage) {
        const std::vector<TensorId> read = pattern::reads(stage);
        return std::count(read.begin(), read.end(), id) > 0;
      });
      if (writers == writers_.end() || !reads) continue;
      for (const int writer : writers->second) {
        if (writer == index) continue;
        const Kernel& from = block_.kernels.at(static_cast<size_t>(writer));
        const pattern::TensorInfo& info = block_.program.tensor(id);
        text += fmt::format("  reads '{}' {}{} of {} from memory\n", info.name, name(info.type.dtype), str(info.type.dims), from.name);
        for (const auto& [pass, why] : reasons(id, from, kernel)) text += fmt::format("    {}: {}\n", pass, why);
      }
    }
    return text;
  }

  const Pattern& stage_that(const Kernel& kernel, TensorId id, std::vector<TensorId> (*mentions)(const Pattern&)) const {
    const auto found = std::find_if(kernel.stages.begin(), kernel.stages.end(), [&](const Pattern& stage) {
      const std::vector<TensorId> all = mentions(stage);
      return std::any_of(all.begin(), all.end(), [&](TensorId one) { return base(one) == base(id); });
    });
    return found == kernel.stages.end() ? kernel.stages.front() : *found;
  }

  std::map<std::string, std::string> reasons(TensorId id, const Kernel& from, const Kernel& to) const {
    const Pattern &writer = stage_that(from, id, pattern::writes), &reader = stage_that(to, id, pattern::reads);
    std::map<std::string, std::string> all;
    std::set<TensorId> written;
    for (const Pattern& stage : to.stages)
      for (const TensorId tensor : pattern::writes(stage)) written.insert(tensor);
    for (const TensorId tensor : {id, base(id)})
      for (const auto& [pass, why] : block_.refusals.of(tensor, written))
        if (concerns(pass, writer, reader)) all[pass] = why;
    if (placement(base(id)).storage == Storage::output) all["model"] = "it is a result";
    if (!all.empty()) return all;
    for (const auto& [pass, could] :
         {std::pair("fuse_maps", is_kind(writer, NestKind::map)),
          std::pair("fuse_epilogues", is_kind(reader, NestKind::map) && !is_kind(writer, NestKind::map)),
          std::pair("fuse_rows", !is_product(writer) && !is_product(reader)), std::pair("fuse_depthwise", is_product(writer) && is_product(reader))})
      if (could && block_.refusals.skipped(pass)) all[pass] = "switched off, or not for this target";
    if (!all.empty()) return all;
    return {{"kinds", is_product(writer) && is_product(reader) ? "both are products: only attention and chains with a depthwise convolution share a kernel"
                      : is_product(writer)                     ? "what follows the product is no map of its results alone"
                                                               : "what reads it begins where all of it is there"}};
  }

  const Block& block_;
  std::map<TensorId, std::set<int>> writers_;  ///< kernels, by what shares its bytes with nothing else
};

}  // namespace

std::string explain(const Block& block) { return Explainer(block).run(); }

}  // namespace tilewright::schedule
