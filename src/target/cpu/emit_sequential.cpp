// Kernels that are no free loop nests: scatters, running sums, and results whose size depends on data.

#include "base/error.h"
#include "target/cpu/kernel_emitters.h"
#include "target/source/sequential_text.h"

namespace tilewright::cpu {

void emit_scatter(const KernelText& kernel, const pattern::Scatter& scatter, Writer& out) {
  kernel.declare_sizes(out);
  kernel.declare_tensors(out);
  const pattern::Program& program = kernel.program();
  const Type& type = program.tensor(scatter.output).type;
  const std::string x = kernel.pointers.at(scatter.initial), y = kernel.pointers.at(scatter.output);
  Bounds sizes;
  out.line(fmt::format("const i64 bytes = {} * i64{{sizeof *{}}};", print_factor(product(type.dims), kernel.sizes, sizes), y));
  out.open(fmt::format("if ({} != {} && bytes > 0)", y, x));
  out.line("const i64 pieces = (bytes + 65535) / 65536;");
  out.open("a.team.for_range(pieces, 4, [&](i64 begin, i64 end)");
  out.line("const i64 last = end * 65536 < bytes ? end * 65536 : bytes;");
  out.line(
      fmt::format("__builtin_memcpy(reinterpret_cast<char*>({}) + begin * 65536, reinterpret_cast<const char*>({}) + begin * 65536, static_cast<size_t>(last - "
                  "begin * 65536));",
                  y, x));
  out.close(");");
  out.close();

  write_scatter_points(kernel, scatter, {}, out);
}

void emit_cumulate(const KernelText& kernel, const pattern::Cumulate& cumulate, Writer& out) {
  kernel.declare_sizes(out);
  kernel.declare_tensors(out);
  const Dims& dims = kernel.program().tensor(cumulate.input).type.dims;
  const auto text = [&](const Dim& e) { return print_index(e, kernel.sizes, {}); };
  const auto axis = dims.begin() + cumulate.axis;
  out.line(fmt::format("const i64 outer = {}, length = {}, inner = {};", text(product(Dims(dims.begin(), axis))), text(*axis),
                       text(product(Dims(axis + 1, dims.end())))));
  out.line(fmt::format("tile::{}({}, {}, outer, length, inner, {{.exclusive = {}, .reverse = {}}}, a.team);",
                       cumulate.product ? "cumulative_product" : "cumulative_sum", kernel.pointers.at(cumulate.input), kernel.pointers.at(cumulate.output),
                       cumulate.exclusive, cumulate.reverse));
}

void emit_select(const KernelText& kernel, const pattern::Select& select, Writer& out) {
  kernel.declare_sizes(out);
  kernel.declare_tensors(out);
  write_select(kernel, select, out);
}

}  // namespace tilewright::cpu
