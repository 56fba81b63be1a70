// Scatters, running sums, and results whose size depends on data.

#include <algorithm>

#include "base/error.h"
#include "target/simt/kernel_emitters.h"
#include "target/source/sequential_text.h"

namespace tilewright::simt {

void emit_scatter(const KernelText& kernel, const pattern::Scatter& scatter, Function& function) {
  const auto argument = [&](TensorId id) {
    const auto& tensors = kernel.kernel.tensors;
    return std::find(tensors.begin(), tensors.end(), id) - tensors.begin();
  };
  const Dim count = product(kernel.program().tensor(scatter.output).type.dims);
  Writer copy(Function::body_depth);
  copy.open(
      fmt::format("for (i64 p = ex.block() * ex.threads() + ex.thread(); p < {}; p += ex.blocks() * ex.threads())", print_index(count, kernel.sizes, {})));
  copy.line(fmt::format("{}[p] = {}[p];", kernel.pointers.at(scatter.output), kernel.pointers.at(scatter.initial)));
  copy.close();
  function.launch(copy, {fmt::format("tile::min<i64>({}, 1024)", print_index((count + 255) / Dim(256), kernel.sizes, {})), "256"},
                  fmt::format("a.tensor[{}] != a.tensor[{}]", argument(scatter.initial), argument(scatter.output)));
  // Points that fall on the same element combine in the order they have: by one thread.
  const std::set<size_t> apart = axes_apart(scatter);
  std::vector<Loop> shared;
  Dim threads = 1;
  for (const size_t axis : apart) {
    shared.push_back({.symbol = schedule::coordinate_symbol(static_cast<int>(axis)), .extent = scatter.space[axis]});
    threads *= scatter.space[axis];
  }
  Writer points(Function::body_depth);
  points.open(
      fmt::format("for (i64 p = ex.block() * ex.threads() + ex.thread(); p < {}; p += ex.blocks() * ex.threads())", print_index(threads, kernel.sizes, {})));
  write_digits(shared, "p", kernel.sizes, schedule::space_bounds(scatter.space), points);
  write_scatter_points(kernel, scatter, apart, points);
  points.close();
  function.launch(points, {fmt::format("tile::min<i64>({}, 1024)", print_index((threads + 255) / Dim(256), kernel.sizes, {})), "256"});
}

namespace {

/// Few and long ones keep a block busy each; otherwise a thread has one.
constexpr int64_t few_lanes = 4096, long_lane = 256;

}  // namespace

void emit_cumulate(const KernelText& kernel, const pattern::Cumulate& cumulate, Function& function) {
  const Type& type = kernel.program().tensor(cumulate.input).type;
  const auto axis = type.dims.begin() + cumulate.axis;
  const auto text = [&](const Dim& e) { return print_index(e, kernel.sizes, {}); };
  const Dim inner = product(Dims(axis + 1, type.dims.end())), lanes = product(Dims(type.dims.begin(), axis)) * inner;
  const std::string value_name = value_type(type.dtype), identity = literal(type.dtype, cumulate.product ? 1 : 0, cumulate.product ? 1 : 0);
  const std::string combine = cumulate.product ? "tile::wrapping_mul" : "tile::wrapping_add";
  const std::string& y = kernel.pointers.at(cumulate.output);
  const auto declare_lane = [&](Writer& body) {
    body.line(fmt::format("const i64 inner = {}, length = {}, base = p / inner * length * inner + p % inner;", text(inner), text(*axis)));
    body.line(fmt::format("const auto place = [&](i64 i) {{ return base + ({}) * inner; }};", cumulate.reverse ? "length - 1 - i" : "i"));
    body.line(fmt::format("const auto value = [&](i64 i) -> {} {{ return {}; }};", value_name,
                          loaded(type.dtype, kernel.pointers.at(cumulate.input) + "[place(i)]")));
    body.line(fmt::format("const auto store = [&](i64 i, {} running) {{ {}[place(i)] = {}; }};", value_name, y, stored(type.dtype, "running", false)));
  };
  Writer by_threads(Function::body_depth);
  by_threads.open(fmt::format("for (i64 p = ex.block() * ex.threads() + ex.thread(); p < {}; p += ex.blocks() * ex.threads())", text(lanes)));
  declare_lane(by_threads);
  by_threads.line(fmt::format("{} running = {};", value_name, identity));
  by_threads.open("for (i64 i = 0; i < length; ++i)");
  by_threads.line(fmt::format("const {} next = {}(running, value(i));", value_name, combine));
  by_threads.line(fmt::format("store(i, {});", cumulate.exclusive ? "running" : "next"));
  by_threads.line("running = next;");
  by_threads.close();
  by_threads.close();
  Writer by_blocks(Function::body_depth);
  by_blocks.open(fmt::format("for (i64 p = ex.block(); p < {}; p += ex.blocks())", text(lanes)));
  declare_lane(by_blocks);
  by_blocks.line(fmt::format("tile::simt::BlockScan<{0}>::run(ex, length, {1}, {2}, value, store, []({0} a, {0} b) {{ return {3}(a, b); }});", value_name,
                             identity, cumulate.exclusive, combine));
  by_blocks.close();
  const std::string together = fmt::format("({}) < {} && ({}) > {}", text(lanes), few_lanes, text(*axis), long_lane);
  const bool known = lanes.as_constant() && axis->as_constant();
  const bool is_together = known && lanes.constant() < few_lanes && axis->constant() > long_lane;
  if (!known || is_together)
    function.launch(
        by_blocks,
        {text(lanes), fmt::format("tile::simt::BlockScan<{}>::threads", value_name), fmt::format("tile::simt::BlockScan<{}>::shared_bytes", value_name)},
        known ? "" : together);
  if (!is_together) function.launch(by_threads, {text((lanes + 255) / Dim(256)), "256"}, known ? "" : "!(" + together + ")");
}

namespace {

/// Longer lanes are sorted on the host.
constexpr int64_t longest_ranked = 16384;

/// Every element counts those before it.
void emit_top_k(const KernelText& kernel, const pattern::Select& select, const std::string& when, Function& function) {
  const Dims& dims = kernel.program().tensor(select.inputs.at(0)).type.dims;
  const auto axis = dims.begin() + select.ints.at(0);
  const auto text = [&](const Dim& e) { return print_index(e, kernel.sizes, {}); };
  const Dim count = product(dims), kept = kernel.program().tensor(select.outputs.at(0)).type.dims.at(static_cast<size_t>(select.ints.at(0)));
  Writer body(Function::body_depth);
  body.line(fmt::format("const i64 inner = {}, length = {}, kept = {};", text(product(Dims(axis + 1, dims.end()))), text(*axis), text(kept)));
  body.open(fmt::format("for (i64 p = ex.block() * ex.threads() + ex.thread(); p < {}; p += ex.blocks() * ex.threads())", text(count)));
  body.line("const i64 outer = p / inner / length, at = p / inner % length, base = outer * length * inner + p % inner;");
  const std::string& x = kernel.pointers.at(select.inputs.at(0));
  body.line(fmt::format("const i64 rank = tile::simt::rank_of(at, length, {}, [&](i64 i) {{ return {}[base + i * inner]; }});", select.ints.at(1) != 0, x));
  body.line("if (rank >= kept) continue;");
  body.line("const i64 to = (outer * kept + rank) * inner + p % inner;");
  const TensorId values = select.outputs.at(0), positions = select.outputs.at(1);
  if (values >= 0) body.line(fmt::format("{}[to] = {}[p];", kernel.pointers.at(values), x));
  if (positions >= 0) body.line(fmt::format("{}[to] = at;", kernel.pointers.at(positions)));
  body.close();
  function.launch(body, {fmt::format("tile::min<i64>({}, 4096)", text((count + 255) / Dim(256))), "256"}, when);
}

/// Positions of what is not zero: as one index, or as one of each axis.
void emit_positions(const KernelText& kernel, const pattern::Select& select, Function& function) {
  const Type& type = kernel.program().tensor(select.inputs.at(0)).type;
  const bool by_axis = select.kind == pattern::Select::Kind::nonzero;
  const auto text = [&](const Dim& e) { return print_index(e, kernel.sizes, {}); };
  const std::string &x = kernel.pointers.at(select.inputs.at(0)), &y = kernel.pointers.at(select.outputs.at(0));
  Writer body(Function::body_depth);
  body.line(fmt::format("const auto wanted = [&](i64 i) {{ return tile::detail::is_nonzero({}[i]); }};", x));
  body.open("const auto take = [&](i64 number, i64 i)");
  if (by_axis) {
    const Dim pitch = kernel.program().tensor(select.outputs.at(0)).type.dims.at(1);
    Dim below = 1;
    for (size_t axis = type.dims.size(); axis-- > 0; below *= type.dims[axis])
      body.line(fmt::format("{}[i64{{{}}} * {} + number] = i / {} % {};", y, axis, print_factor(pitch, kernel.sizes, {}), print_factor(below, kernel.sizes, {}),
                            print_factor(type.dims[axis], kernel.sizes, {})));
  } else {
    body.line(fmt::format("{}[number] = i;", y));
  }
  body.line("(void)number, (void)i;");
  body.close(";");
  body.line(fmt::format("const i64 all = tile::simt::number_wanted(ex, {}, wanted, take);", text(by_axis ? product(type.dims) : type.dims.at(0))));
  body.line(fmt::format("if (ex.thread() == 0) {}[0] = all;", kernel.pointers.at(select.count)));
  function.launch(body, {"1", "tile::simt::BlockScan<i64>::threads", "tile::simt::BlockScan<i64>::shared_bytes"});
}

}  // namespace

void emit_select(const KernelText& kernel, const pattern::Select& select, Function& function) {
  using Kind = pattern::Select::Kind;
  if (select.count >= 0 && (select.kind == Kind::nonzero || select.kind == Kind::compress)) return emit_positions(kernel, select, function);
  std::string on_host;
  if (select.kind == Kind::top_k) {
    const Dim length = kernel.program().tensor(select.inputs.at(0)).type.dims.at(static_cast<size_t>(select.ints.at(0)));
    const std::string ranked = fmt::format("({}) <= {}", print_index(length, kernel.sizes, {}), longest_ranked);
    if (!length.as_constant() || length.constant() <= longest_ranked) emit_top_k(kernel, select, length.as_constant() ? "" : ranked, function);
    if (length.as_constant() && length.constant() <= longest_ranked) return;
    if (!length.as_constant()) on_host = "if (!(" + ranked + "))";
  }
  Writer lines(1);
  if (!on_host.empty()) lines.open(on_host);
  std::string bytes;
  for (const TensorId id : kernel.kernel.tensors) {
    const Type& type = kernel.program().tensor(id).type;
    bytes += fmt::format("{}{} * i64{{{}}}", bytes.empty() ? "" : ", ", print_factor(product(type.dims), kernel.sizes, {}), size_of(type.dtype));
  }
  // What a kernel reads comes first among its tensors.
  lines.open(fmt::format("tile::simt::on_host(a, {{{}}}, {}, [&](const tile::Args& a)", bytes, pattern::reads(select).size()));
  kernel.declare_tensors(lines);
  write_select(kernel, select, lines);
  lines.close(");");
  if (!on_host.empty()) lines.close();
  function.on_host(lines);
}

}  // namespace tilewright::simt
