// Attention: where queries, keys and values lie, what the model does to scores and results, and calls of tile/kernels/simt_attention.h.

#include <algorithm>

#include "base/error.h"
#include "target/simt/kernel_emitters.h"
#include "target/source/attention_text.h"

namespace tilewright::simt {
namespace {

// Those of FewRowsAttention.
constexpr int64_t few_rows = 4, most_parts = 16, least_keys = 256;

/// What one of the two products is written from.
class ProductText {
 public:
  ProductText(const KernelText& kernel, const pattern::Nest& nest, const ContractShape& shape, Writer& out)
      : kernel_(kernel), source_(nest), shape_(shape), out_(out) {}

  /// `const auto <name> = …`: the factor's vectors of `length` elements. `line`, `element`: strides.
  void vectors(const std::string& name, const Factor& factor, const Dim& start, const Dim& line, const Dim& element, int64_t length) {
    const Address& address = shape_.nest.loads[static_cast<size_t>(factor.access)];
    const bool along = element == Dim(1);
    out_.open(fmt::format("const auto {} = tile::simt::vectors<{}, {}>([&](i64 batch)", name, along,
                          along && whole(address, start, line) && length * static_cast<int64_t>(size_of(address.dtype)) % piece_bytes == 0));
    out_.line("(void)batch;");
    NestBody body(shape_.nest, kernel_.sizes, kernel_.pointers, out_);
    enter(shape_.batch, "batch", body);
    out_.line(fmt::format("return {} + {};", kernel_.pointers.at(address.tensor), body.factor(start)));
    out_.close(fmt::format(", {}, {});", text(line), text(element)));
  }

  /// `const auto score = …`: what a product becomes.
  void score() {
    out_.open("const auto score = [&](i64 batch, i64 m, i64 n, float sum) -> float");
    out_.line("(void)batch, (void)m, (void)n;");
    NestBody body = finished();
    out_.line(fmt::format("return {};", converted(body.value(shape_.nest.stored_values[0]), DType::f32)));
    out_.close(";");
  }

  /// `const auto store = …`: what a result becomes.
  void store() {
    out_.open("const auto store = [&](i64 batch, i64 m, i64 n, float sum)");
    out_.line("(void)batch, (void)m, (void)n;");
    NestBody body = finished();
    for (size_t i = 0; i < shape_.nest.stores.size(); ++i) body.write_store(i);
    out_.close(";");
  }

 private:
  static constexpr int64_t piece_bytes = 16;

  std::string text(const Dim& e) const { return print_index(e, kernel_.sizes, shape_.nest.bounds); }

  void enter(const LoopGroup& group, const std::string& joint, NestBody& body) {
    write_digits(group.loops, joint, kernel_.sizes, shape_.nest.bounds, out_);
    for (const Loop& loop : group.loops) body.name(loop.symbol, loop_name(loop));
  }

  /// Whether vectors begin at multiples of 16 bytes, for all sizes.
  bool whole(const Address& address, const Dim& start, const Dim& line) const {
    const int64_t piece = piece_bytes / static_cast<int64_t>(size_of(address.dtype));
    const auto is_whole = [&](const Dim& e) { return e.as_constant() && e.constant() % piece == 0; };
    if (!kernel_.aligned(address.tensor) || !is_whole(line)) return false;
    Dim rest = start;
    for (const Loop& loop : shape_.batch.loops) {
      const auto affine = schedule::affine_in(rest, loop.symbol);
      if (!affine || !is_whole(affine->slope)) return false;
      rest = affine->at_zero;
    }
    return is_whole(rest);
  }

  /// What is stored, given the indices and `sum`.
  NestBody finished() {
    NestBody body(shape_.nest, kernel_.sizes, kernel_.pointers, out_);
    enter(shape_.batch, "batch", body);
    enter(shape_.m, "m", body);
    enter(shape_.n, "n", body);
    const DType result = source_.reductions[0].dtype;
    body.set_reduced(0, {"sum", result, !is_narrow_float(result)}, {});
    body.want(shape_.nest.stored_values);
    body.write_known();
    return body;
  }

  const KernelText& kernel_;
  const pattern::Nest& source_;
  const ContractShape& shape_;
  Writer& out_;
};

DType dtype_of(const ContractShape& shape, const Factor& factor) { return shape.nest.loads[static_cast<size_t>(factor.access)].dtype; }

class AttentionEmitter {
 public:
  AttentionEmitter(const KernelText& kernel, Function& function)
      : kernel_(kernel), function_(function), stages_(stages_of(kernel.kernel)), shape_(found()), bounds_(shape_.scores.nest.bounds) {}

  void emit() {
    const Dim rows = shape_.scores.m.extent();
    const std::optional<int64_t> known = rows.as_constant();
    const std::string few = fmt::format("{} <= {}", factor(rows), few_rows);
    if (!known || *known > few_rows) emit_tiles(known ? "" : fmt::format("!({})", few));
    if (!known || *known <= few_rows) emit_few_rows(known ? "" : few);
  }

 private:
  AttentionShape found() const {
    std::optional<AttentionShape> shape = find_attention_shape(stages_, kernel_.program());
    ensure(shape.has_value(), "attention was fused because the target takes it");
    return *std::move(shape);
  }
  std::string text(const Dim& e) const { return print_index(e, kernel_.sizes, bounds_); }
  std::string factor(const Dim& e) const { return print_factor(e, kernel_.sizes, bounds_); }
  std::string extents() const {
    return fmt::format("tile::simt::AttentionExtents{{.batch = {}, .rows = {}, .keys = {}}}", text(shape_.scores.batch.extent()),
                       text(shape_.scores.m.extent()), text(shape_.scores.n.extent()));
  }

  /// 16-bit floats that the model itself rounds probabilities to.
  bool fits_matrix_unit() const {
    const DType query = dtype_of(shape_.scores, shape_.scores.left);
    return kernel_.target.matrix != Target::Matrix::none && (query == DType::f16 || query == DType::bf16) &&
           dtype_of(shape_.scores, shape_.scores.right) == query && dtype_of(shape_.values, shape_.values.right) == query &&
           kernel_.program().tensor(stages_[4]->outputs[0].tensor).type.dtype == query;
  }

  std::string tiles() const {
    const std::string heads = fmt::format("{}, {}", shape_.head, shape_.value_head);
    if (!fits_matrix_unit()) return fmt::format("tile::simt::FmaAttention<{}>", heads);
    return fmt::format("tile::simt::{}Attention<{}, {}>", kernel_.target.matrix == Target::Matrix::mfma ? "Mfma" : "Mma",
                       storage_type(dtype_of(shape_.scores, shape_.scores.left)), heads);
  }

  void write_inputs(Writer& out) {
    ProductText scores(kernel_, *stages_[0], shape_.scores, out);
    scores.vectors("query", shape_.scores.left, shape_.query.start, shape_.query.outer_stride, shape_.query.k_stride, shape_.head);
    scores.vectors("key", shape_.scores.right, shape_.key.start, shape_.key.outer_stride, shape_.key.k_stride, shape_.head);
    scores.score();
    ProductText(kernel_, *stages_[5], shape_.values, out)
        .vectors("value", shape_.values.right, shape_.value.start, shape_.value.k_stride, shape_.value.outer_stride, shape_.value_head);
  }
  void write_results(Writer& out) {
    write_weight(
        kernel_, shape_, stages_, [] {}, out);
    ProductText(kernel_, *stages_[5], shape_.values, out).store();
  }

  void emit_tiles(const std::string& when) {
    Writer out(Function::body_depth);
    write_inputs(out);
    write_results(out);
    out.line(fmt::format("{}::run(ex, {}, query, key, value, score, weight, store);", tiles(), extents()));
    function_.launch(out, {fmt::format("{}::blocks({})", tiles(), extents()), tiles() + "::threads", tiles() + "::shared_bytes"}, when);
  }

  void emit_few_rows(const std::string& when) {
    const std::string kind = fmt::format("tile::simt::FewRowsAttention<{}, {}>", shape_.head, shape_.value_head);
    const bool cut = kernel_.kernel.workspace >= 0;
    const std::string parts = cut ? fmt::format("{}::parts({}, {})", kind, extents(), kernel_.target.multiprocessors.count) : "i64{1}";
    const std::string partial = cut ? kernel_.pointers.at(kernel_.kernel.workspace) : "static_cast<float*>(nullptr)";
    const std::string lines = text(shape_.scores.batch.extent() * shape_.scores.m.extent());
    Writer out(Function::body_depth);
    write_inputs(out);
    write_results(out);
    out.line(fmt::format("{}::run(ex, {}, {}, query, key, value, score, weight, store, {});", kind, extents(), parts, partial));
    function_.launch(out, {fmt::format("({}) * {}", lines, parts), kind + "::threads", kind + "::shared_bytes"}, when);
    if (!cut) return;
    Writer after(Function::body_depth);
    write_results(after);
    after.line(fmt::format("{}::combine(ex, {}, {}, weight, store, {});", kind, extents(), parts, partial));
    function_.launch(after, {lines, kind + "::threads"}, fmt::format("{}{} > 1", when.empty() ? "" : when + " && ", parts));
  }

  const KernelText& kernel_;
  Function& function_;
  const std::vector<const pattern::Nest*> stages_;
  const AttentionShape shape_;
  const Bounds& bounds_;
};

}  // namespace

bool streams_attention(const std::vector<const pattern::Nest*>& stages, const pattern::Program& program) {
  // Tiles of 64 keys would be nearly empty; sums of longer values do not fit the registers.
  constexpr int64_t shortest_row = 16, longest_value = 256;
  const std::optional<AttentionShape> shape = find_attention_shape(stages, program);
  return shape && shape->scores.n.extent().as_constant().value_or(shortest_row) >= shortest_row && shape->value_head <= longest_value;
}

std::optional<Workspace> attention_workspace(const schedule::Block& block, const schedule::Kernel& kernel, const Target& target) {
  const std::optional<AttentionShape> shape = find_attention_shape(stages_of(kernel), block.program);
  ensure(shape.has_value(), "attention was fused because the target takes it");
  const Dim batch = shape->scores.batch.extent(), rows = shape->scores.m.extent(), keys = shape->scores.n.extent();
  if (rows.as_constant().value_or(0) > few_rows) return std::nullopt;
  if (keys.as_constant().value_or(2 * least_keys) <= least_keys) return std::nullopt;
  // One part is enough when all rows fill the machine.
  if (batch.as_constant() && batch.constant() * rows.as_constant().value_or(1) >= 2 * target.multiprocessors.count) return std::nullopt;
  return Workspace{DType::f32, batch * Dim(rows.as_constant().value_or(few_rows) * most_parts * (shape->value_head + 2))};
}

void emit_attention(const KernelText& kernel, Function& function) { AttentionEmitter(kernel, function).emit(); }

}  // namespace tilewright::simt
