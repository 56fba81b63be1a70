// Attention: queries, keys and values as views, what the model does to scores and results as lambdas, and one call of
// tile/kernels/attention.h.

#include <algorithm>

#include "base/error.h"
#include "target/cpu/kernel_emitters.h"
#include "target/cpu/product_text.h"
#include "target/source/attention_text.h"

namespace tilewright::cpu {
namespace {

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

DType dtype_of(const ContractShape& shape, const Factor& factor) { return shape.nest.loads[static_cast<size_t>(factor.access)].dtype; }

/// Whether both products are of bfloats, which the model itself rounds probabilities to, and the target is fast at them.
bool is_of_bfloats(const KernelText& kernel, const AttentionShape& shape, const std::vector<const pattern::Nest*>& stages) {
  return kernel.target.multiplies_bfloats() && dtype_of(shape.scores, shape.scores.left) == DType::bf16 &&
         dtype_of(shape.scores, shape.scores.right) == DType::bf16 && dtype_of(shape.values, shape.values.right) == DType::bf16 &&
         kernel.program().tensor(stages[4]->outputs[0].tensor).type.dtype == DType::bf16;
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
  write_weight(
      kernel, *shape, stages,
      [&] {
        kernel.declare_sizes(out);
        kernel.declare_tensors(out);
      },
      out);
  ValuesText(kernel, *stages[5], *shape, out).emit();
  // Keys and values of a block take half of the second level cache.
  const bool bfloats = is_of_bfloats(kernel, *shape, stages), tiles = bfloats && kernel.target.tile_registers;
  const int64_t limit = std::max<int64_t>(64, kernel.target.l2_bytes / 2 / (bfloats ? 2 : 4) / (shape->head + shape->value_head) / 64 * 64);
  out.line(fmt::format("tile::attention<tile::{}<{}, {}, {}, {}{}>>({}, query, key, value, scores, weight, epilogue, a.team);",
                       tiles ? "AmxAttentionBlocks" : "AttentionBlocks", shape->head, shape->value_head, shape->scores.n.extent().as_constant().value_or(0),
                       std::min<int64_t>(limit, 512), bfloats && !tiles ? ", tile::BfloatPair" : "", scores.extents()));
}

}  // namespace tilewright::cpu
