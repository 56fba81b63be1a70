#include <algorithm>

#include "base/error.h"
#include "target/cpu/kernel_emitters.h"

namespace tilewright::cpu {

namespace {

/// Row buffers up to this size lie on the stack.
constexpr int64_t stack_bytes = 16 << 10;

}  // namespace

void emit_rows(const KernelText& kernel, Writer& out) {
  const pattern::Program& program = kernel.program();
  const auto& first = std::get<pattern::Nest>(kernel.kernel.stages.at(0));
  const size_t shared = static_cast<size_t>(kernel.kernel.shared_rank);
  const Dims rows(first.space.begin(), first.space.begin() + static_cast<std::ptrdiff_t>(shared));
  Bounds bounds = schedule::space_bounds(rows);
  const auto text = [&](const Dim& e) { return print_index(e, kernel.sizes, bounds); };

  RowContext context;
  context.shared_rank = kernel.kernel.shared_rank;
  context.row_local = {kernel.kernel.row_local.begin(), kernel.kernel.row_local.end()};
  Dim cost = 1;
  for (const pattern::Pattern& stage : kernel.kernel.stages) {
    const LoweredNest nest = lower_nest(std::get<pattern::Nest>(stage), program, context);
    std::vector<ExprId> roots = nest.stored_values;
    for (const pattern::Reduction& reduction : nest.reductions) roots.push_back(reduction.value);
    Dim work = point_cost(nest, roots);
    for (const Loop& loop : nest.loops) work *= loop.extent;
    cost += work;
  }

  // Buffers of one row: on the stack where they are small, in the worker's scratch otherwise.
  const auto elements = [&](TensorId id) {
    const Dims& dims = program.tensor(id).type.dims;
    return product(Dims(dims.begin() + static_cast<std::ptrdiff_t>(shared), dims.end()));
  };
  std::vector<TensorId> on_stack, in_scratch;
  int64_t stack = 0;
  for (const TensorId id : kernel.kernel.row_local) {
    const auto count = elements(id).as_constant();
    const int64_t bytes = count ? *count * static_cast<int64_t>(size_of(program.tensor(id).type.dtype)) : stack_bytes + 1;
    const bool small = bytes <= stack_bytes - stack;
    if (small) stack += bytes;
    (small ? on_stack : in_scratch).push_back(id);
  }

  std::map<TensorId, std::string> pointers = kernel.pointers;
  kernel.declare_sizes(out);
  out.line(fmt::format("const i64 count = {};", text(product(rows))));
  out.line(fmt::format("const i64 per_task = {};", cost.is_constant() ? std::to_string(std::max<int64_t>(1, (1 << 15) / cost.constant()))
                                                                      : fmt::format("{} / ({}) + 1", 1 << 15, text(cost))));
  out.open("a.team.for_each(count > 0 ? (count - 1) / per_task + 1 : 0, [&](i64 task, int worker)");
  out.line("(void)worker;");
  kernel.declare_sizes(out);
  kernel.declare_tensors(out);
  for (const TensorId id : on_stack) {
    pointers[id] = fmt::format("row{}", std::find(kernel.kernel.row_local.begin(), kernel.kernel.row_local.end(), id) - kernel.kernel.row_local.begin());
    out.line(fmt::format("alignas(64) {} {}[{}];", storage_type(program.tensor(id).type.dtype), pointers[id], std::max<int64_t>(1, elements(id).constant())));
  }
  if (!in_scratch.empty()) {
    std::string total;
    for (const TensorId id : in_scratch) {
      const std::string name =
          fmt::format("row{}", std::find(kernel.kernel.row_local.begin(), kernel.kernel.row_local.end(), id) - kernel.kernel.row_local.begin());
      pointers[id] = name;
      out.line(fmt::format("const i64 {}_bytes = ({} * {} + 63) / 64 * 64;", name, print_factor(elements(id), kernel.sizes, bounds),
                           size_of(program.tensor(id).type.dtype)));
      total += (total.empty() ? "" : " + ") + name + "_bytes";
    }
    out.line(fmt::format("char* scratch = a.team.scratch_as<char>(worker, {});", total));
    for (const TensorId id : in_scratch) {
      out.line(fmt::format("auto* const {} = reinterpret_cast<{}*>(scratch);", pointers[id], storage_type(program.tensor(id).type.dtype)));
      out.line(fmt::format("scratch += {}_bytes;", pointers[id]));
    }
  }
  out.line("const i64 begin = task * per_task, end = tile::min<i64>(begin + per_task, count);");
  out.open("for (i64 row = begin; row < end; ++row)");
  Names shared_names;
  Dim below = 1;
  std::vector<std::string> lines;
  for (size_t i = shared; i-- > 0;) {
    const std::string name = fmt::format("i{}", i);
    shared_names[schedule::coordinate_symbol(static_cast<int>(i))] = name;
    std::string digit = below == Dim(1) ? "row" : fmt::format("row / {}", print_factor(below, kernel.sizes, bounds));
    if (i > 0) digit += " % " + print_factor(rows[i], kernel.sizes, bounds);
    lines.insert(lines.begin(), fmt::format("const i64 {} = {};", name, digit));
    below *= rows[i];
  }
  for (const std::string& line : lines) out.line(line);
  for (const pattern::Pattern& stage : kernel.kernel.stages) {
    out.open("");
    emit_stage(kernel, std::get<pattern::Nest>(stage), context, shared_names, pointers, out);
    out.close();
  }
  out.close();
  out.close(");");
}

}  // namespace tilewright::cpu
