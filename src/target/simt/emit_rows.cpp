// Chains of maps and reductions over the same rows: a block a row, what never leaves the row in shared memory.

#include <algorithm>

#include "base/error.h"
#include "target/simt/kernel_emitters.h"

namespace tilewright::simt {

void emit_rows(const KernelText& kernel, Function& function) {
  const pattern::Program& program = kernel.program();
  const size_t shared = static_cast<size_t>(kernel.kernel.shared_rank);
  const Dims& space = std::get<pattern::Nest>(kernel.kernel.stages.at(0)).space;
  std::vector<Loop> rows;
  Dim count = 1;
  for (size_t i = 0; i < shared; ++i) {
    rows.push_back({schedule::coordinate_symbol(static_cast<int>(i)), space[i], false});
    count *= space[i];
  }
  const Bounds bounds = schedule::space_bounds(Dims(space.begin(), space.begin() + static_cast<std::ptrdiff_t>(shared)));
  const auto text = [&](const Dim& e) { return print_index(e, kernel.sizes, bounds); };

  Writer body(Function::body_depth);
  // Where a row's tensors lie in shared memory. Reading and writing have a name each: the emulator tells them apart.
  std::map<TensorId, std::string> loads = kernel.pointers, stores = kernel.pointers;
  Dim bytes = 0;
  for (size_t i = 0; i < kernel.kernel.row_local.size(); ++i) {
    const TensorId id = kernel.kernel.row_local[i];
    const Type& type = program.tensor(id).type;
    const Dim elements = product(Dims(type.dims.begin() + static_cast<std::ptrdiff_t>(shared), type.dims.end()));
    const std::string storage = storage_type(type.dtype);
    stores[id] = fmt::format("row{}", i);
    loads[id] = fmt::format("row{}_in", i);
    body.line(fmt::format("const auto {} = ex.template shared<{}>({}, {});", stores[id], storage, text(bytes), text(elements)));
    body.line(fmt::format("const auto {} = ex.template shared<const {}>({}, {});", loads[id], storage, text(bytes), text(elements)));
    bytes += (elements * Dim(static_cast<int64_t>(size_of(type.dtype))) + 15) / Dim(16) * Dim(16);
  }
  body.open(fmt::format("for (i64 row = ex.block(); row < {}; row += ex.blocks())", text(count)));
  write_digits(rows, "row", kernel.sizes, bounds, body);
  Names names = kernel.sizes;
  for (const Loop& loop : rows) names[loop.symbol] = loop_name(loop);
  RowContext context;
  context.shared_rank = kernel.kernel.shared_rank;
  context.row_local = {kernel.kernel.row_local.begin(), kernel.kernel.row_local.end()};
  int64_t threads = kernel.target.warp_size;
  constexpr int64_t most_threads = 256;
  for (const pattern::Pattern& stage : kernel.kernel.stages) {
    const auto& nest = std::get<pattern::Nest>(stage);
    const LoweredNest lowered = lower_nest(nest, program, context);
    body.open("");
    const Dim wanted = write_points(kernel, lowered, names, loads, stores, Sharing::block, body);
    body.close();
    body.line("ex.sync();");
    threads = std::max(threads, std::min(wanted.as_constant().value_or(most_threads), most_threads));
  }
  body.close();
  const int64_t warp = kernel.target.warp_size;
  function.launch(body, {fmt::format("tile::min<i64>({}, 65536)", text(count)), std::to_string((threads + warp - 1) / warp * warp), text(bytes)});
}

}  // namespace tilewright::simt
