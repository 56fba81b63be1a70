// Matrix products: the factors as functions of their indices, what follows the sum as another, and one call of the library.

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "target/simt/kernel_emitters.h"
#include "target/source/contract_shape.h"

namespace tilewright::simt {
namespace {

/// A product with fewer rows or columns wastes most of a tile.
constexpr int64_t least_extent = 8;

/// A sum in parts of `piece` terms; the last may have fewer.
struct SplitSum {
  int64_t parts, piece;
};

class ContractEmitter {
 public:
  ContractEmitter(const KernelText& kernel, const pattern::Nest& nest, ContractShape shape) : kernel_(kernel), source_(nest), shape_(std::move(shape)) {}

  void emit(Function& function) {
    Writer out(Function::body_depth);
    const bool by_matrix = fits_matrix_unit(), splits = kernel_.kernel.workspace >= 0;
    write_extents(splits, out);
    const std::string tiles = by_matrix ? matrix_tiles() : fmt::format("tile::simt::FmaTiles<{}>", value_type(shape_.sum));
    if (by_matrix) {
      elements("left", shape_.left, shape_.m, "m", out);
      elements("right", shape_.right, shape_.n, "n", out);
    } else {
      values("left", shape_.left, shape_.m, "m", out);
      values("right", shape_.right, shape_.n, "n", out);
    }
    std::string arguments = "ex, extents, left, right, store", batch = text(shape_.batch.extent());
    if (splits) {
      arguments = fmt::format("ex, split.of(extents), part_of(split, left), part_of(split, right), store_parts(extents, {})", partial());
      batch = fmt::format("({}) * {}", batch, split_sum()->parts);
    } else {
      store(out);
    }
    if (by_matrix)
      out.line(fmt::format("{}::run({});", tiles, arguments));
    else
      out.line(fmt::format("{}::template run<{}, {}>({});", tiles, runs_along(shape_.left, shape_.k), runs_along(shape_.right, shape_.k), arguments));
    const auto covering = [&](const LoopGroup& group) { return fmt::format("(({}) + {}::tile - 1) / {}::tile", text(group.extent()), tiles, tiles); };
    function.launch(out, {fmt::format("{} * ({}) * ({})", batch, covering(shape_.m), covering(shape_.n)), tiles + "::threads", tiles + "::shared_bytes"});
    if (splits) emit_sum(function);
  }

  /// How the sum is shared out to several blocks, when the tiles alone leave multiprocessors without work: parts of at least `least_terms`.
  std::optional<SplitSum> split_sum() const {
    constexpr int64_t least_terms = 256, most_parts = 32, unit = 64;
    for (const LoopGroup* group : {&shape_.batch, &shape_.m, &shape_.n, &shape_.k})
      if (!group->extent().as_constant()) return std::nullopt;
    const int64_t side = fits_matrix_unit() ? 128 : 64, k = shape_.k.extent().constant();
    const auto tiles_along = [&](const LoopGroup& group) { return (group.extent().constant() + side - 1) / side; };
    const int64_t tiles = std::max<int64_t>(1, shape_.batch.extent().constant() * tiles_along(shape_.m) * tiles_along(shape_.n));
    int64_t parts = std::min({kernel_.target.multiprocessors / tiles, k / least_terms, most_parts});
    if (fits_matrix_unit() && (whole_rows(shape_.left, shape_.m) || whole_rows(shape_.right, shape_.n))) {
      // Rows in memory are cut into equal parts of whole pieces.
      const int64_t piece = 16 / static_cast<int64_t>(size_of(address(shape_.left).dtype));
      while (parts > 1 && k % (parts * piece) != 0) --parts;
      return parts > 1 ? std::optional(SplitSum{parts, k / parts}) : std::nullopt;
    }
    if (parts < 2) return std::nullopt;
    const int64_t piece = ((k + parts - 1) / parts + unit - 1) / unit * unit;
    return SplitSum{(k + piece - 1) / piece, piece};
  }

  std::optional<Workspace> workspace() const {
    const std::optional<SplitSum> split = split_sum();
    if (!split) return std::nullopt;
    return Workspace{shape_.sum, shape_.batch.extent() * shape_.m.extent() * shape_.n.extent() * Dim(split->parts)};
  }

 private:
  void write_extents(bool splits, Writer& out) {
    out.line(fmt::format("const tile::simt::Extents extents{{.batch = {}, .m = {}, .n = {}, .k = {}}};", text(shape_.batch.extent()), text(shape_.m.extent()),
                         text(shape_.n.extent()), text(shape_.k.extent())));
    if (!splits) return;
    const SplitSum split = *split_sum();
    out.line(fmt::format("const tile::simt::SplitSum split{{.parts = {}, .piece = {}, .k = extents.k}};", split.parts, split.piece));
  }
  const std::string& partial() const { return kernel_.pointers.at(kernel_.kernel.workspace); }

  /// The launch that adds what the parts left.
  void emit_sum(Function& function) {
    constexpr int threads = 256, most_blocks = 1024;
    Writer out(Function::body_depth);
    write_extents(true, out);
    store(out);
    out.line(fmt::format("tile::simt::add_parts<{}>(ex, extents, split, {}, store);", value_type(shape_.sum), partial()));
    const Dim results = shape_.batch.extent() * shape_.m.extent() * shape_.n.extent();
    function.launch(out, {fmt::format("tile::min<i64>({}, {})", text((results + (threads - 1)) / Dim(threads)), most_blocks), std::to_string(threads)});
  }

  std::string text(const Dim& e) const { return print_index(e, kernel_.sizes, shape_.nest.bounds); }
  const Address& address(const Factor& factor) const { return shape_.nest.loads[static_cast<size_t>(factor.access)]; }
  std::string stored_type(const Factor& factor) const { return storage_type(address(factor).dtype); }

  /// Elements that lanes of a matrix instruction can take as they lie in memory.
  bool as_stored(const Factor& factor) const {
    if (!factor.direct || factor.zero >= 0 || factor.access < 0) return false;
    if (address(factor).guards.empty()) return true;
    const ExprNode& fill = shape_.nest.nodes[static_cast<size_t>(address(factor).fill)];
    return fill.op == ExprOp::constant && fill.real == 0 && fill.integer == 0 && !std::signbit(fill.real);
  }

  std::string matrix_tiles() const {
    if (kernel_.target.matrix == Target::Matrix::mfma) return fmt::format("tile::simt::MfmaTiles<{}>", stored_type(shape_.left));
    return fmt::format("tile::simt::MmaTiles<{}, {}>", stored_type(shape_.left), stored_type(shape_.right));
  }

  bool fits_matrix_unit() const {
    constexpr int64_t least = 16;
    for (const LoopGroup* group : {&shape_.m, &shape_.n, &shape_.k})
      if (group->extent().as_constant().value_or(least) < least) return false;
    if (kernel_.target.matrix == Target::Matrix::none || !as_stored(shape_.left) || !as_stored(shape_.right)) return false;
    const DType left = address(shape_.left).dtype, right = address(shape_.right).dtype;
    const auto is_byte = [](DType dtype) { return dtype == DType::i8 || dtype == DType::u8; };
    if (is_byte(left) && is_byte(right))
      return shape_.sum == DType::i32 && (kernel_.target.matrix == Target::Matrix::mma || (left == DType::i8 && right == left));
    return left == right && (left == DType::f16 || left == DType::bf16) && shape_.sum == DType::f32;
  }

  /// Whether neighbouring indices of `group` are neighbours in memory: then neighbouring threads read those.
  bool runs_along(const Factor& factor, const LoopGroup& group) const {
    if (factor.access < 0 || group.loops.empty()) return true;
    const auto affine = schedule::affine_in(shape_.nest.loads[static_cast<size_t>(factor.access)].offset, group.loops.back().symbol);
    return affine && affine->slope == Dim(1);
  }

  void enter(const LoopGroup& group, const std::string& joint, NestBody& body, Writer& out) {
    write_digits(group.loops, joint, kernel_.sizes, shape_.nest.bounds, out);
    for (const Loop& loop : group.loops) body.name(loop.symbol, loop_name(loop));
  }

  /// The factor's elements as they lie in memory: asynchronous copies of rows where those lie evenly, else one by one.
  void elements(const std::string& side, const Factor& factor, const LoopGroup& outer, const std::string& joint, Writer& out) {
    const std::optional<DenseShape> dense = whole_rows(factor, outer);
    if (dense)
      out.open(fmt::format("const auto {} = tile::simt::rows([&](i64 batch, i64 {})", side, joint));
    else
      out.open(fmt::format("const auto {} = tile::simt::elements<{}>([&](i64 batch, i64 {}, i64 k) -> {}", side, runs_along(factor, shape_.k), joint,
                           stored_type(factor)));
    out.line(fmt::format("(void)batch, (void){};", joint));
    NestBody body(shape_.nest, kernel_.sizes, kernel_.pointers, out);
    enter(shape_.batch, "batch", body, out);
    if (dense) {
      out.line(fmt::format("return {} + ({} + {} * {});", kernel_.pointers.at(address(factor).tensor), body.index(dense->start), joint,
                           body.factor(dense->outer_stride)));
    } else {
      enter(outer, joint, body, out);
      enter(shape_.k, "k", body, out);
      out.line(fmt::format("return {};", body.element_or_zero(static_cast<size_t>(factor.access))));
    }
    out.close(");");
  }

  /// The factor as rows of whole 16-byte pieces that begin at multiples of 16 bytes, if it is that for all sizes.
  std::optional<DenseShape> whole_rows(const Factor& factor, const LoopGroup& outer) const {
    const std::optional<DenseShape> dense = find_dense(shape_, factor, outer);
    if (!dense || !(dense->k_stride == Dim(1)) || !kernel_.aligned(address(factor).tensor)) return std::nullopt;
    const int64_t piece = 16 / static_cast<int64_t>(size_of(address(factor).dtype));
    const auto whole = [&](const Dim& e) { return e.as_constant() && e.constant() % piece == 0; };
    if (!whole(shape_.k.extent()) || !whole(dense->outer_stride)) return std::nullopt;
    Dim rest = dense->start;
    for (const Loop& loop : shape_.batch.loops) {
      const auto affine = schedule::affine_in(rest, loop.symbol);
      if (!affine || !whole(affine->slope)) return std::nullopt;
      rest = affine->at_zero;
    }
    return whole(rest) ? dense : std::nullopt;
  }

  void values(const std::string& side, const Factor& factor, const LoopGroup& outer, const std::string& joint, Writer& out) {
    out.open(fmt::format("const auto {} = [&](i64 batch, i64 {}, i64 k) -> {}", side, joint, value_type(shape_.sum)));
    out.line(fmt::format("(void)batch, (void){}, (void)k;", joint));
    NestBody body(shape_.nest, kernel_.sizes, kernel_.pointers, out);
    enter(shape_.batch, "batch", body, out);
    enter(outer, joint, body, out);
    enter(shape_.k, "k", body, out);
    body.want({factor.value});
    body.write_known();
    out.line(fmt::format("return {};", converted(body.value(factor.value), shape_.sum)));
    out.close(";");
  }

  void store(Writer& out) {
    out.open(fmt::format("const auto store = [&](i64 batch, i64 m, i64 n, {} sum)", value_type(shape_.sum)));
    out.line("(void)batch, (void)m, (void)n;");
    NestBody body(shape_.nest, kernel_.sizes, kernel_.pointers, out);
    enter(shape_.batch, "batch", body, out);
    enter(shape_.m, "m", body, out);
    enter(shape_.n, "n", body, out);
    const DType result = source_.reductions[0].dtype;
    body.set_reduced(0, {"sum", result, !is_narrow_float(result)}, {});
    body.want(shape_.nest.stored_values);
    body.write_known();
    for (size_t i = 0; i < shape_.nest.stores.size(); ++i) body.write_store(i);
    out.close(";");
  }

  const KernelText& kernel_;
  const pattern::Nest& source_;
  ContractShape shape_;
};

/// The product that the nest is, when it is worth tiles.
std::optional<ContractShape> find_tiled(const pattern::Nest& nest, const pattern::Program& program) {
  std::optional<ContractShape> shape = find_contract(nest, program);
  if (!shape) return std::nullopt;
  for (const LoopGroup* group : {&shape->m, &shape->n})
    if (group->extent().as_constant().value_or(least_extent) < least_extent) return std::nullopt;
  return shape;
}

}  // namespace

bool emit_contract(const KernelText& kernel, const pattern::Nest& nest, Function& function) {
  std::optional<ContractShape> shape = find_tiled(nest, kernel.program());
  if (!shape) return false;
  ContractEmitter(kernel, nest, std::move(*shape)).emit(function);
  return true;
}

std::optional<Workspace> contract_workspace(const schedule::Block& block, const schedule::Kernel& kernel, const Target& target) {
  const auto* nest = std::get_if<pattern::Nest>(&kernel.stages.front());
  if (!nest || kernel.stages.size() > 1) return std::nullopt;
  std::optional<ContractShape> shape = find_tiled(*nest, block.program);
  const KernelText text(block, kernel, target);
  return shape ? ContractEmitter(text, *nest, std::move(*shape)).workspace() : std::nullopt;
}

}  // namespace tilewright::simt
