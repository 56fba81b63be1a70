#include "schedule/schedule.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "schedule/fuse.h"
#include "schedule/fuse_attention.h"
#include "schedule/fuse_depthwise.h"
#include "schedule/linear.h"
#include "schedule/place.h"
#include "schedule/uses.h"

namespace tilewright::schedule {
namespace {

using pattern::Pattern;
using pattern::Program;

void add_once(std::vector<TensorId>& list, TensorId id) {
  if (std::count(list.begin(), list.end(), id) == 0) list.push_back(id);
}

std::string source_of(const Pattern& pattern) {
  return std::visit([](const auto& p) { return p.source; }, pattern);
}

/// Names the kernel and lists what it is called with.
Kernel finish(Kernel kernel, int number, const Program& program) {
  kernel.name = "kernel_" + std::to_string(number);
  std::set<std::string> symbols;
  for (const Pattern& stage : kernel.stages) {
    const std::string source = source_of(stage);
    kernel.source = joined_sources(kernel.source, source);
    for (const TensorId id : pattern::reads(stage)) add_once(kernel.tensors, id);
    for (const TensorId id : pattern::writes(stage)) add_once(kernel.tensors, id);
    for (const std::string& symbol : pattern::symbols_of(stage)) symbols.insert(symbol);
  }
  for (const TensorId id : kernel.tensors)
    for (const Dim& dim : program.tensor(id).type.dims) dim.collect_symbols(symbols);
  std::erase_if(kernel.tensors, [&](TensorId id) { return std::count(kernel.row_local.begin(), kernel.row_local.end(), id) > 0; });
  for (const std::string& symbol : symbols)
    if (symbol.starts_with(reserved_prefix)) fail(ErrorKind::invalid_input, "size name '{}' begins with a prefix kept for loop indices", symbol);
  kernel.sizes.assign(symbols.begin(), symbols.end());
  return kernel;
}

class Scheduler {
 public:
  Scheduler(Program program, const std::vector<std::string>& entry, const Options& options) : options_(options), known_(entry.begin(), entry.end()) {
    block_.program = std::move(program);
    block_.entry_symbols = entry;
  }

  Block run() {
    for (const auto& [pass, runs] :
         {std::pair("fuse_maps", options_.fuse_maps), std::pair("fuse_epilogues", options_.fuse_epilogues), std::pair("fuse_rows", options_.fuse_rows),
          std::pair("fuse_attention", options_.streams_attention != nullptr), std::pair("fuse_depthwise", options_.chains_depthwise != nullptr)})
      if (!runs) refusals()->note_skipped(pass);
    remove_dead(block_.program);
    inline_constants(block_.program);
    if (options_.fuse_maps) rewrite("fuse_maps", [&](Program& program) { fuse_maps(program, options_.products_of_bytes, refusals()); });
    if (options_.fuse_epilogues) rewrite("fuse_epilogues", [&](Program& program) { fuse_epilogues(program, refusals()); });
    if (options_.drop_roundings) rewrite("drop_roundings", [&](Program& program) { drop_roundings(program, options_.bfloats_stay); });
    rewrite("split_phases", split_phases);
    if (options_.choose_layouts) rewrite("choose_layouts", [&](Program& program) { choose_layouts(program, options_.products_of_bytes); });
    std::vector<RowGroup> groups, rows;
    if (options_.streams_attention) groups = find_attention(block_.program, options_.streams_attention, refusals());
    if (options_.chains_depthwise) {
      const std::vector<RowGroup> chains = find_depthwise_chains(block_.program, options_.chains_depthwise, groups, refusals());
      groups.insert(groups.end(), chains.begin(), chains.end());
    }
    if (options_.fuse_rows) rows = find_row_groups(block_.program, groups, refusals());
    if (options_.row_bytes > 0)
      std::erase_if(rows, [&](const RowGroup& group) {
        if (row_bytes(group).value_or(options_.row_bytes + 1) <= options_.row_bytes) return false;
        for (const TensorId id : row_local(group))
          refusals()->note(id, "fuse_rows", "a row takes more memory than the machine's workers share, or an unknown size");
        return true;
      });
    groups.insert(groups.end(), rows.begin(), rows.end());
    std::vector<const RowGroup*> group_of(block_.program.patterns.size(), nullptr);
    for (const RowGroup& group : groups)
      for (const int member : group.patterns) {
        const RowGroup*& only = group_of[static_cast<size_t>(member)];
        ensure(only == nullptr, "a pattern belongs to one group");
        only = &group;
      }
    for (size_t i = 0; i < block_.program.patterns.size(); ++i) {
      const Pattern& pattern = block_.program.patterns[i];
      if (const RowGroup* group = group_of[i]) {
        if (group->patterns.back() == static_cast<int>(i)) add_rows(*group);
        continue;
      }
      if (options_.alias_views) {
        if (const std::optional<ViewOf> view = as_view(pattern, block_.program); view && written_once(view->view)) {
          views_.push_back({*view, static_cast<int>(block_.steps.size())});
          continue;
        }
      }
      std::visit([&](const auto& p) { add(p); }, pattern);
    }
    place(block_, views_, options_);
    return std::move(block_);
  }

 private:
  template <class Pass>
  void rewrite(const char* name, Pass&& pass) {
    pass(block_.program);
    pattern::verify(block_.program);
    if (options_.after) options_.after(name, block_.program);
  }

  Refusals* refusals() { return &block_.refusals; }

  bool written_once(TensorId id) const {
    int writers = 0;
    for (const Pattern& pattern : block_.program.patterns)
      for (const TensorId written : pattern::writes(pattern)) writers += written == id;
    return writers == 1;
  }

  /// Tensors that nothing outside of the group reads.
  std::vector<TensorId> row_local(const RowGroup& group) const {
    std::vector<TensorId> local;
    const Uses uses(block_.program);
    for (const int member : group.patterns)
      for (const TensorId id : pattern::writes(block_.program.patterns[static_cast<size_t>(member)])) {
        const std::vector<int>& readers = uses.readers_of(id);
        const bool inside = !readers.empty() && std::all_of(readers.begin(), readers.end(),
                                                            [&](int reader) { return std::count(group.patterns.begin(), group.patterns.end(), reader) > 0; });
        if (inside && !uses.is_result(id)) add_once(local, id);
      }
    return local;
  }

  /// What one row of them takes, each rounded up to 16 bytes; nothing when that depends on sizes learned later.
  std::optional<int64_t> row_bytes(const RowGroup& group) const {
    int64_t total = 0;
    for (const TensorId id : row_local(group)) {
      const Type& type = block_.program.tensor(id).type;
      const auto elements = product(Dims(type.dims.begin() + group.shared_rank, type.dims.end())).as_constant();
      if (!elements) return std::nullopt;
      total += (*elements * static_cast<int64_t>(size_of(type.dtype)) + 15) / 16 * 16;
    }
    return total;
  }

  void add_rows(const RowGroup& group) {
    Kernel kernel;
    kernel.shared_rank = group.shared_rank;
    kernel.row_local = row_local(group);
    for (const int member : group.patterns) kernel.stages.push_back(block_.program.patterns[static_cast<size_t>(member)]);
    add_kernel(std::move(kernel));
  }

  void add_kernel(Pattern stage) {
    Kernel kernel;
    kernel.stages.push_back(std::move(stage));
    add_kernel(std::move(kernel));
  }

  void add_kernel(Kernel kernel) {
    block_.steps.push_back(RunKernel{static_cast<int>(block_.kernels.size())});
    block_.kernels.push_back(finish(std::move(kernel), static_cast<int>(block_.kernels.size()), block_.program));
  }

  void add(const pattern::Nest& nest) { add_kernel(nest); }
  void add(const pattern::Scatter& scatter) { add_kernel(scatter); }
  void add(const pattern::Cumulate& cumulate) { add_kernel(cumulate); }
  void add(const pattern::Select& select) { add_kernel(select); }

  void add(const pattern::Bind& bind) {
    block_.steps.push_back(BindSizes{bind});
    known_.insert(bind.symbols.begin(), bind.symbols.end());
  }

  void add(const pattern::Require& require) { block_.steps.push_back(CheckSizes{require}); }

  std::shared_ptr<Block> inner(const Program& program, const std::vector<pattern::BoundSymbol>& bound) const {
    std::set<std::string> entry = known_;
    for (const pattern::BoundSymbol& one : bound) entry.insert(one.symbol);
    return std::make_shared<Block>(schedule(program, {entry.begin(), entry.end()}, options_));
  }

  void add(const pattern::If& branch) {
    CallIf call{branch, inner(*branch.then_program, {}), inner(*branch.else_program, {})};
    call.pattern.then_program = call.pattern.else_program = nullptr;  // the blocks hold what is left of them
    block_.steps.push_back(std::move(call));
    for (const pattern::BoundSymbol& one : branch.bound) known_.insert(one.symbol);
  }

  void add(const pattern::Loop& loop) {
    CallLoop call{loop, inner(*loop.body, loop.body_bound)};
    call.pattern.body = nullptr;
    block_.steps.push_back(std::move(call));
    for (const pattern::BoundSymbol& one : loop.bound) known_.insert(one.symbol);
  }

  const Options& options_;
  Block block_;
  std::set<std::string> known_;
  std::vector<PlacedView> views_;
};

}  // namespace

Block schedule(Program program, const std::vector<std::string>& entry_symbols, const Options& options) {
  return Scheduler(std::move(program), entry_symbols, options).run();
}

}  // namespace tilewright::schedule
