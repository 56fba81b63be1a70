#include "target/source/attention_text.h"

#include <algorithm>

#include "base/error.h"

#include "target/source/nest_body.h"

namespace tilewright::source {

std::vector<const pattern::Nest*> stages_of(const schedule::Kernel& kernel) {
  std::vector<const pattern::Nest*> stages;
  for (const pattern::Pattern& stage : kernel.stages) stages.push_back(&std::get<pattern::Nest>(stage));
  return stages;
}

void write_weight(const KernelText& kernel, const AttentionShape& shape, const std::vector<const pattern::Nest*>& stages, const std::function<void()>& declare,
                  Writer& out) {
  const pattern::Nest &powers = *stages[2], &weights = *stages[4];
  LoweredNest nest = lower_nest(weights, kernel.program(), {}, Merging::keep);
  for (ExprNode& node : nest.nodes) {
    if (is_narrow_float(node.dtype)) node.dtype = DType::f32;
    if (node.op != ExprOp::load) continue;
    const TensorId tensor = nest.loads[static_cast<size_t>(node.integer)].tensor;
    if (tensor == powers.outputs[0].tensor)
      node = {.op = ExprOp::constant, .dtype = DType::f32, .args = {}, .real = 1, .integer = 0, .dim = 0};
    else if (std::count(kernel.kernel.row_local.begin(), kernel.kernel.row_local.end(), tensor) > 0)
      node = {.op = ExprOp::reduced, .dtype = DType::f32, .args = {}, .real = 0, .integer = 0, .dim = 0};
  }
  nest.find_symbols();
  out.open("const auto weight = [&](i64 batch, i64 row, float total) -> float");
  out.line("(void)batch, (void)row;");
  declare();
  NestBody body(nest, kernel.sizes, kernel.pointers, out);
  // The last coordinate runs along a row; those before it number the rows.
  const std::string along = schedule::coordinate_symbol(static_cast<int>(weights.space.size()) - 1);
  const std::string joint = fmt::format("(batch * {} + row)", print_factor(shape.scores.m.extent(), kernel.sizes, nest.bounds));
  Dim below = 1;
  for (size_t i = nest.loops.size(); i-- > 0;) {
    if (nest.loops[i].symbol == along) continue;
    body.name(nest.loops[i].symbol, fmt::format("({} / {} % {})", joint, print_factor(below, kernel.sizes, nest.bounds),
                                                print_factor(nest.loops[i].extent, kernel.sizes, nest.bounds)));
    below *= nest.loops[i].extent;
  }
  body.want(nest.stored_values);
  body.set_reduced(0, {"total", DType::f32, true}, {});
  body.write_known();
  out.line(fmt::format("return {};", body.value(nest.stored_values[0]).text));
  out.close(";");
}

}  // namespace tilewright::source
