// Matrix products: the factors as functions of their indices, what follows the sum as another, and one call of the library.

#include <algorithm>
#include <set>

#include "base/error.h"
#include "target/simt/kernel_emitters.h"
#include "target/simt/tile_product.h"

namespace tilewright::simt {
namespace {

using schedule::TileConfig;
using Unit = TileConfig::Unit;

class ContractEmitter {
 public:
  ContractEmitter(const KernelText& kernel, const pattern::Nest& nest, const TileProduct& product, const TileConfig& config)
      : kernel_(kernel), source_(nest), product_(product), shape_(product.shape), config_(config), split_(usable_split()), boxed_(boxed_result()) {}

  /// `when`: a condition on the arguments, or "".
  void emit(Function& function, const std::string& when) {
    Writer out(Function::body_depth);
    Function::TileLaunch launch{.tiles = tiles(), .tiling = tiling(), .blocks = {}, .maps = {}, .when = when};
    const std::string of_parts = split_ ? fmt::format("{}.of({})", split_text(), extents()) : extents();
    launch.blocks = fmt::format("Tiles::blocks({})", of_parts);
    const auto part = [&](const std::string& factor) { return split_ ? fmt::format("part_of(split, {})", factor) : factor; };
    const std::string run_over = split_ ? "ex, split.of(extents)" : "ex, extents";
    const std::string to = split_ ? fmt::format("store_parts(extents, {})", partial()) : "store";
    write_extents(out);
    if (config_.unit == Unit::wgmma) {
      const BoxMatrix left = boxes(shape_.left, shape_.m), right = boxes(shape_.right, shape_.n);
      launch.maps = {{"left", map("left", left, shape_.left, shape_.m)}, {"right", map("right", right, shape_.right, shape_.n)}};
      launch.blocks = fmt::format("Tiles::blocks({}, tile::simt::processors())", of_parts);
      const auto factor = [&](const char* side, const BoxMatrix& box) {
        return part(fmt::format("tile::simt::Boxes{{&{}, {}}}", side, box.batch_stride == Dim(0) ? 0 : 1));
      };
      out.line(fmt::format("// store={}", boxed_ ? "boxes" : "elements"));
      if (boxed_) {
        launch.maps.emplace_back("result", result_map());
        boxed_value(out);
      } else if (!split_) {
        store(out);
      }
      out.line(fmt::format("Tiles::run({}, {}, {}, {});", run_over, factor("left", left), factor("right", right),
                           boxed_ ? "tile::simt::ResultBoxes{&result, value}" : to));
    } else {
      const auto factor = [&](const char* side, const Factor& of, const LoopGroup& outer, const char* joint) {
        config_.unit == Unit::fma ? values(side, of, outer, joint, out) : elements(side, of, outer, joint, out);
      };
      factor("left", shape_.left, shape_.m, "m");
      factor("right", shape_.right, shape_.n, "n");
      if (!split_) store(out);
      const std::string run =
          config_.unit == Unit::fma ? fmt::format("template run<{}, {}>", runs_along(shape_.left, shape_.k), runs_along(shape_.right, shape_.k)) : "run";
      out.line(fmt::format("Tiles::{}({}, {}, {}, {});", run, run_over, part("left"), part("right"), to));
    }
    function.launch_tiles(out, launch);
    if (split_) emit_sum(function, when);
  }

  /// What must hold of the arguments for the copy engine to take factors and result; "" when it always does.
  std::string boxes_are_possible() const {
    std::string text_of_all;
    const auto also = [&](const std::string& condition) { text_of_all += (text_of_all.empty() ? "" : " && ") + condition; };
    std::set<TensorId> boxed = {address(shape_.left).tensor, address(shape_.right).tensor};
    if (boxed_) boxed.insert(boxed_->tensor);
    for (const TensorId tensor : boxed)
      if (!kernel_.aligned(tensor)) also(fmt::format("reinterpret_cast<uintptr_t>(a.tensor[{}]) % 16 == 0", argument(tensor)));
    for (const LoopGroup* group : {&shape_.batch, &shape_.m, &shape_.n, &shape_.k})
      if (!group->extent().as_constant()) also(fmt::format("({}) > 0", text(group->extent())));
    return text_of_all;
  }

  std::optional<Workspace> workspace() const {
    const std::optional<SplitSum> split = split_of(product_, config_, kernel_.target);
    if (!split) return std::nullopt;
    return Workspace{shape_.sum, shape_.batch.extent() * shape_.m.extent() * shape_.n.extent() * Dim(split->parts)};
  }

 private:
  /// The split sum, if the kernel has memory for its parts.
  std::optional<SplitSum> usable_split() const {
    const std::optional<Workspace> wanted = workspace();
    if (!wanted || kernel_.kernel.workspace < 0) return std::nullopt;
    const Dim& has = kernel_.program().tensor(kernel_.kernel.workspace).type.dims.at(0);
    return wanted->elements.constant() <= has.constant() ? split_of(product_, config_, kernel_.target) : std::nullopt;
  }
  /// What leaves by the copy engine: the results, or parts of them, which lie in rows without gaps.
  struct BoxedResult {
    TensorId tensor;
    DType dtype;
    BoxMatrix box;
    int64_t parts;  ///< entries for each of the product's batch
  };
  std::optional<BoxedResult> boxed_result() const {
    if (config_.unit != Unit::wgmma) return std::nullopt;
    if (split_) {
      const Dim n = shape_.n.extent();
      if (n.constant() * static_cast<int64_t>(size_of(shape_.sum)) % 16 != 0) return std::nullopt;
      return BoxedResult{kernel_.kernel.workspace, shape_.sum, {.stride = n, .batch_stride = shape_.m.extent() * n, .start = 0}, split_->parts};
    }
    const Address& result = shape_.nest.stores[0];
    const std::optional<BoxMatrix> box = box_result(shape_);
    return box ? std::optional(BoxedResult{result.tensor, result.dtype, *box, 1}) : std::nullopt;
  }

  void write_extents(Writer& out) {
    out.line(fmt::format("const auto extents = {};", extents()));
    if (split_) out.line(fmt::format("const auto split = {};", split_text()));
  }
  std::string extents() const {
    return fmt::format("tile::simt::Extents{{.batch = {}, .m = {}, .n = {}, .k = {}}}", text(shape_.batch.extent()), text(shape_.m.extent()),
                       text(shape_.n.extent()), text(shape_.k.extent()));
  }
  std::string split_text() const {
    return fmt::format("tile::simt::SplitSum{{.parts = {}, .piece = {}, .k = {}}}", split_->parts, split_->piece, text(shape_.k.extent()));
  }
  const std::string& partial() const { return kernel_.pointers.at(kernel_.kernel.workspace); }

  /// The launch that adds what the parts left.
  void emit_sum(Function& function, const std::string& when) {
    constexpr int threads = 256, most_blocks = 1024;
    Writer out(Function::body_depth);
    write_extents(out);
    store(out);
    out.line(fmt::format("tile::simt::add_parts<{}>(ex, extents, split, {}, store);", value_type(shape_.sum), partial()));
    const Dim results = shape_.batch.extent() * shape_.m.extent() * shape_.n.extent();
    function.launch(out, {fmt::format("tile::min<i64>({}, {})", text((results + (threads - 1)) / Dim(threads)), most_blocks), std::to_string(threads)}, when);
  }

  std::string text(const Dim& e) const { return print_index(e, kernel_.sizes, shape_.nest.bounds); }
  const Address& address(const Factor& factor) const { return shape_.nest.loads[static_cast<size_t>(factor.access)]; }
  std::string stored_type(const Factor& factor) const { return storage_type(address(factor).dtype); }

  /// The tensor's number among the arguments.
  size_t argument(TensorId tensor) const {
    const std::vector<TensorId>& tensors = kernel_.kernel.tensors;
    return static_cast<size_t>(std::find(tensors.begin(), tensors.end(), tensor) - tensors.begin());
  }

  BoxMatrix boxes(const Factor& factor, const LoopGroup& outer) const {
    const std::optional<BoxMatrix> found = box_factor(shape_, factor, outer);
    if (!found) fail(ErrorKind::internal, "internal error: {} multiplies by warpgroups what does not lie in boxes", kernel_.kernel.name);
    return *found;
  }

  /// The tensor map of a factor, on the host.
  std::string map(const std::string& side, const BoxMatrix& box, const Factor& factor, const LoopGroup& outer) const {
    const TensorId tensor = address(factor).tensor;
    return fmt::format("Tiles::{}_map({{{}}})", side, place("const " + stored_type(factor), tensor, box, outer.extent(), shape_.k.extent()));
  }
  std::string result_map() const {
    const std::string type = storage_type(boxed_->dtype);
    return fmt::format("Tiles::result_map(tile::simt::ResultPlace<{}>{{{}}})", type,
                       place(type, boxed_->tensor, boxed_->box, shape_.m.extent(), shape_.n.extent(), boxed_->parts));
  }
  /// The fields of FactorPlace and ResultPlace.
  std::string place(const std::string& type, TensorId tensor, const BoxMatrix& box, const Dim& outer, const Dim& inner, int64_t parts = 1) const {
    const Dim count = product(kernel_.program().tensor(tensor).type.dims);
    return fmt::format("a.at<{}>({}) + {}, {}, {}, {}, {}, {}, {}", type, argument(tensor), text(box.start), text(count - box.start),
                       text(shape_.batch.extent() * Dim(parts)), text(box.batch_stride), text(outer), text(inner), text(box.stride));
  }

  /// The constants of Tiling, as the kernels of tile/kernels read them.
  std::string tiling() const {
    const TileConfig& c = config_;
    const bool fma = c.unit == Unit::fma;
    const schedule::Pair& parts = fma ? c.each : c.warps;
    return fmt::format("static constexpr int m = {}, n = {}, {}_m = {}, {}_n = {}, depth = {}, stages = {}, group = {};", c.tile.m, c.tile.n,
                       fma ? "each" : "warps", parts.m, fma ? "each" : "warps", parts.n, c.depth, c.stages, c.group);
  }

  /// The kernel of tile/kernels, over Tiling.
  std::string tiles() const {
    switch (config_.unit) {
      case Unit::fma: return fmt::format("tile::simt::FmaTiles<{}, Tiling>", value_type(shape_.sum));
      case Unit::mma:
        if (kernel_.target.matrix == Target::Matrix::mfma) return fmt::format("tile::simt::MfmaTiles<{}, Tiling>", stored_type(shape_.left));
        return fmt::format("tile::simt::MmaTiles<{}, {}, Tiling>", stored_type(shape_.left), stored_type(shape_.right));
      case Unit::wgmma: {
        const auto along = [&](const Factor& factor, const LoopGroup& outer) { return boxes(factor, outer).along_rows ? "rows" : "k"; };
        return fmt::format("tile::simt::WgmmaTiles<{}, {}, Tiling, tile::simt::Along::{}, tile::simt::Along::{}, {}>", stored_type(shape_.left),
                           stored_type(shape_.right), along(shape_.left, shape_.m), along(shape_.right, shape_.n),
                           boxed_ ? storage_type(boxed_->dtype) : "void");
      }
    }
    fail(ErrorKind::internal, "internal error: a unit has no tiles");
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
    const std::optional<DenseShape> dense = kernel_.aligned(address(factor).tensor) ? whole_rows(shape_, factor, outer) : std::nullopt;
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
    from_sum("store", "", out, [&](NestBody& body) {
      for (size_t i = 0; i < shape_.nest.stores.size(); ++i) body.write_store(i);
    });
  }
  /// What results that leave by boxes are; parts are sums.
  void boxed_value(Writer& out) {
    if (split_) return out.line(fmt::format("const auto value = [](i64, i64, i64, {} sum) {{ return sum; }};", value_type(shape_.sum)));
    from_sum("value", " -> " + storage_type(boxed_->dtype), out, [&](NestBody& body) { out.line(fmt::format("return {};", body.stored_text(0))); });
  }
  /// A function of a result's place and its sum.
  template <class Finish>
  void from_sum(const char* name, const std::string& returns, Writer& out, Finish&& finish) {
    out.open(fmt::format("const auto {} = [&](i64 batch, i64 m, i64 n, {} sum){}", name, value_type(shape_.sum), returns));
    out.line("(void)batch, (void)m, (void)n;");
    NestBody body(shape_.nest, kernel_.sizes, kernel_.pointers, out);
    enter(shape_.batch, "batch", body, out);
    enter(shape_.m, "m", body, out);
    enter(shape_.n, "n", body, out);
    const DType dtype = source_.reductions[0].dtype;
    body.set_reduced(0, {"sum", dtype, !is_narrow_float(dtype)}, {});
    body.want(shape_.nest.stored_values);
    body.write_known();
    finish(body);
    out.close(";");
  }

  const KernelText& kernel_;
  const pattern::Nest& source_;
  const TileProduct& product_;
  const ContractShape& shape_;
  const TileConfig& config_;
  const std::optional<SplitSum> split_;
  const std::optional<BoxedResult> boxed_;
};

}  // namespace

namespace {

/// What was decided stands: floats on matrix units have TF32's bits.
bool on_matrix_unit(const schedule::Kernel& kernel) { return kernel.tiles && kernel.tiles->unit == Unit::mma; }

}  // namespace

bool emit_contract(const KernelText& kernel, const pattern::Nest& nest, Function& function) {
  const std::optional<TileProduct> product = find_tile_product(nest, kernel.program(), kernel.target, on_matrix_unit(kernel.kernel));
  if (!product) return false;
  const TileConfig config = kernel.kernel.tiles ? *kernel.kernel.tiles : choose_tiles(*product, kernel.target);
  ContractEmitter emitter(kernel, nest, *product, config);
  const std::string possible = config.unit == Unit::wgmma ? emitter.boxes_are_possible() : "";
  emitter.emit(function, possible);
  if (!possible.empty()) {
    TileProduct by_threads = *product;
    std::erase(by_threads.units, Unit::wgmma);
    const TileConfig otherwise = choose_tiles(by_threads, kernel.target);
    ContractEmitter(kernel, nest, by_threads, otherwise).emit(function, "!(" + possible + ")");
  }
  return true;
}

std::optional<Workspace> contract_workspace(const schedule::Block& block, const schedule::Kernel& kernel, const Target& target) {
  const auto* nest = std::get_if<pattern::Nest>(&kernel.stages.front());
  if (!nest || kernel.stages.size() > 1 || !kernel.tiles) return std::nullopt;
  const std::optional<TileProduct> product = find_tile_product(*nest, block.program, target, on_matrix_unit(kernel));
  const KernelText text(block, kernel, target);
  return product ? ContractEmitter(text, *nest, *product, *kernel.tiles).workspace() : std::nullopt;
}

}  // namespace tilewright::simt
