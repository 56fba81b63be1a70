// Matrix products: the factors as functions of their indices, what follows the sum as another, and one call of the library.

#include "base/error.h"
#include "target/simt/kernel_emitters.h"
#include "target/source/contract_shape.h"

namespace tilewright::simt {
namespace {

/// A product with fewer rows or columns wastes most of a tile.
constexpr int64_t least_extent = 8;

class ContractEmitter {
 public:
  ContractEmitter(const KernelText& kernel, const pattern::Nest& nest, ContractShape shape) : kernel_(kernel), source_(nest), shape_(std::move(shape)) {}

  void emit(Function& function) {
    Writer out(Function::body_depth);
    out.line(fmt::format("const tile::simt::Extents extents{{.batch = {}, .m = {}, .n = {}, .k = {}}};", text(shape_.batch.extent()), text(shape_.m.extent()),
                         text(shape_.n.extent()), text(shape_.k.extent())));
    factor("left", shape_.left, shape_.m, "m", out);
    factor("right", shape_.right, shape_.n, "n", out);
    store(out);
    out.line(fmt::format("{}::run<{}, {}>(ex, extents, left, right, store);", tiles(), runs_along(shape_.left, shape_.k), runs_along(shape_.right, shape_.k)));
    const std::string blocks = text(shape_.batch.extent() * ((shape_.m.extent() + 63) / Dim(64)) * ((shape_.n.extent() + 63) / Dim(64)));
    function.launch(out, {blocks, tiles() + "::threads", tiles() + "::shared_bytes"});
  }

 private:
  std::string text(const Dim& e) const { return print_index(e, kernel_.sizes, shape_.nest.bounds); }
  std::string tiles() const { return fmt::format("tile::simt::FmaTiles<{}>", value_type(shape_.sum)); }

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

  void factor(const std::string& side, const Factor& factor, const LoopGroup& outer, const std::string& joint, Writer& out) {
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

}  // namespace

bool emit_contract(const KernelText& kernel, const pattern::Nest& nest, Function& function) {
  std::optional<ContractShape> shape = find_contract(nest, kernel.program());
  if (!shape) return false;
  for (const LoopGroup* group : {&shape->m, &shape->n})
    if (group->extent().as_constant().value_or(least_extent) < least_extent) return false;
  ContractEmitter(kernel, nest, std::move(*shape)).emit(function);
  return true;
}

}  // namespace tilewright::simt
