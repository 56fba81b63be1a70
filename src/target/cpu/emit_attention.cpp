// Attention: queries, keys and values as views, what the model does to scores and results as lambdas, and one call of
// tile/kernels/attention.h.

#include <algorithm>

#include "base/error.h"
#include "target/cpu/attention_shape.h"
#include "target/cpu/kernel_emitters.h"
#include "target/cpu/product_text.h"

namespace tilewright::cpu {
namespace {

std::vector<const pattern::Nest*> stages_of(const schedule::Kernel& kernel) {
  std::vector<const pattern::Nest*> stages;
  for (const pattern::Pattern& stage : kernel.stages) stages.push_back(&std::get<pattern::Nest>(stage));
  return stages;
}

/// Views of queries and keys, and what becomes of their products.
class ScoresText : ProductText {
 public:
  ScoresText(const KernelText& kernel, const pattern::Nest& nest, const AttentionShape& attention, Writer& out)
      : ProductText(kernel, nest, attention.scores, out), attention_(attention) {}

  void emit() {
    out_.line(fmt::format("const auto query = {};", dense_left(attention_.query)));
    out_.line(fmt::format("const auto key = {};", dense_right(attention_.key)));
    scores(shape_.batch, shape_.m);
  }
  std::string extents() const {
    return fmt::format("{{.batch = {}, .rows = {}, .keys = {}}}", text(shape_.batch.extent()), text(shape_.m.extent()), text(shape_.n.extent()));
  }

 private:
  const AttentionShape& attention_;
};

/// The view of values, and what becomes of results.
class ValuesText : ProductText {
 public:
  ValuesText(const KernelText& kernel, const pattern::Nest& nest, const AttentionShape& attention, Writer& out)
      : ProductText(kernel, nest, attention.values, out), attention_(attention) {}

  void emit() {
    out_.line(fmt::format("const auto value = {};", dense_right(attention_.value)));
    epilogue(shape_.batch, shape_.m);
  }

 private:
  const AttentionShape& attention_;
};

/// `const auto weight = …`: what the softmax's last stage makes of a power, when the power is one: 1 / total, or the zero that stands for it.
void write_weight(const KernelText& kernel, const pattern::Nest& powers, const pattern::Nest& weights, const Dim& rows, Writer& out) {
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
  kernel.declare_sizes(out);
  kernel.declare_tensors(out);
  NestBody body(nest, kernel.sizes, kernel.pointers, out);
  // The last coordinate runs along a row; those before it number the rows.
  const std::string along = schedule::coordinate_symbol(static_cast<int>(weights.space.size()) - 1);
  const std::string joint = fmt::format("(batch * {} + row)", print_factor(rows, kernel.sizes, nest.bounds));
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

}  // namespace

bool streams_attention(const std::vector<const pattern::Nest*>& stages, const pattern::Program& program) {
  // Rows shorter than a vector leave most of a register block empty: half the speed of plain loops.
  constexpr int64_t shortest_row = 16;
  const std::optional<AttentionShape> shape = find_attention_shape(stages, program);
  return shape && shape->scores.n.extent().as_constant().value_or(shortest_row) >= shortest_row;
}

void emit_attention(const KernelText& kernel, Writer& out) {
  const std::vector<const pattern::Nest*> stages = stages_of(kernel.kernel);
  const std::optional<AttentionShape> shape = find_attention_shape(stages, kernel.program());
  ensure(shape.has_value(), "attention was fused because the target takes it");
  kernel.declare_sizes(out);
  kernel.declare_tensors(out);
  ScoresText scores(kernel, *stages[0], *shape, out);
  scores.emit();
  write_weight(kernel, *stages[2], *stages[4], shape->scores.m.extent(), out);
  ValuesText(kernel, *stages[5], *shape, out).emit();
  // Keys and values of a block take half of the second level cache.
  const int64_t limit = std::max<int64_t>(64, kernel.target.l2_bytes / 2 / 4 / (shape->head + shape->value_head) / 64 * 64);
  out.line(fmt::format("tile::attention<tile::AttentionBlocks<{}, {}, {}, {}>>({}, query, key, value, scores, weight, epilogue, a.team);", shape->head,
                       shape->value_head, shape->scores.n.extent().as_constant().value_or(0), std::min<int64_t>(limit, 512), scores.extents()));
}

}  // namespace tilewright::cpu
