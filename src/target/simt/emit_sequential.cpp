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
  // Points that fall on the same element combine in the order they have: one thread.
  Writer points(Function::body_depth);
  write_scatter_points(kernel, scatter, points);
  function.launch(points, {"1", "1"});
}

void emit_cumulate(const KernelText& kernel, const pattern::Cumulate& cumulate, Function& function) {
  const Type& type = kernel.program().tensor(cumulate.input).type;
  const auto axis = type.dims.begin() + cumulate.axis;
  const auto text = [&](const Dim& e) { return print_index(e, kernel.sizes, {}); };
  const Dim outer = product(Dims(type.dims.begin(), axis)), inner = product(Dims(axis + 1, type.dims.end()));
  Writer body(Function::body_depth);
  body.open(fmt::format("for (i64 p = ex.block() * ex.threads() + ex.thread(); p < {}; p += ex.blocks() * ex.threads())", text(outer * inner)));
  body.line(fmt::format("const i64 inner = {}, length = {}, base = p / inner * length * inner + p % inner;", text(inner), text(*axis)));
  body.line(fmt::format("{} running = {};", value_type(type.dtype), literal(type.dtype, cumulate.product ? 1 : 0, cumulate.product ? 1 : 0)));
  body.open("for (i64 i = 0; i < length; ++i)");
  body.line(fmt::format("const i64 at = base + ({}) * inner;", cumulate.reverse ? "length - 1 - i" : "i"));
  body.line(fmt::format("const {} value = {};", value_type(type.dtype), loaded(type.dtype, kernel.pointers.at(cumulate.input) + "[at]")));
  const std::string store = fmt::format("{}[at] = {};", kernel.pointers.at(cumulate.output), stored(type.dtype, "running", false));
  const std::string step = fmt::format("running = tile::wrapping_{}(running, value);", cumulate.product ? "mul" : "add");
  body.line(cumulate.exclusive ? store : step);
  body.line(cumulate.exclusive ? step : store);
  body.close();
  body.close();
  function.launch(body, {text((outer * inner + 255) / Dim(256)), "256"});
}

void emit_select(const KernelText& kernel, const pattern::Select& select, Function& function) {
  Writer lines(1);
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
  function.on_host(lines);
}

}  // namespace tilewright::simt
