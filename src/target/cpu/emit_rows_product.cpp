// Products of rows and panels: the rows as a view, the panels, the epilogue, and one call of tile/kernels/contract_rows.h.

#include "base/error.h"
#include "target/cpu/kernel_emitters.h"
#include "target/cpu/product_text.h"
#include "target/cpu/rows_product.h"

namespace tilewright::cpu {
namespace {

class RowsEmitter : ProductText {
 public:
  RowsEmitter(const KernelText& kernel, const pattern::Nest& nest, const RowsProduct& product, Writer& out)
      : ProductText(kernel, nest, product.shape, out), product_(product), planned_(kernel.kernel.products.at(0)), config_(planned_.config) {}

  void emit() {
    kernel_.declare_sizes(out_);
    kernel_.declare_tensors(out_);
    using Method = schedule::ProductConfig::Method;
    if (config_.method == Method::depthwise) return depthwise();
    if (config_.method == Method::winograd) return winograd();
    const std::string zero = product_.integers ? zero_point(shape_.left, "left") : "";
    left(zero);
    right(zero);
    const int64_t in_parts = schedule::parts_of(config_.atom);
    if (config_.atom == Atom::amx_digits)
      out_.line(
          fmt::format("const tile::{}<std::remove_const_t<decltype(left)>, {}> parts{{left}};", config_.joined ? "DigitWindows" : "DigitStrips", blocks()));
    else if (in_parts > 1)
      out_.line(fmt::format("const tile::SplitStrips<std::remove_const_t<decltype(left)>, {}, {}> parts{{left}};", product_.step(config_.atom), in_parts));
    else if (config_.joined)
      out_.line(fmt::format("const tile::BundledWindows<std::remove_const_t<decltype(left)>, {}, {}, {}> parts{{left}};", left_element(), config_.block.rows,
                            product_.step(config_.atom)));
    const int64_t panel = config_.block.vectors * lanes_of(product_, kernel_.target);
    const bool fetch = schedule::parts_of(config_.atom) > 1 || product_.right_matrix;
    epilogue(shape_.batch, shape_.m, {.most = panel, .multiple = panel, .fetch = fetch});
    out_.line(fmt::format("tile::contract_rows<{}>({}, {}, {}, right, epilogue, a.team,", blocks(), text(shape_.batch.extent()), text(shape_.n.extent()),
                          in_parts > 1 || config_.joined ? "parts" : "left"));
    out_.line(fmt::format("    {{.panel_bytes = {}, .strip_bytes = {}{}}});", config_.panel_bytes, config_.strip_bytes, blocking(fetch)));
  }

 private:
  /// Fields of tile::RowsBlocking beside the bytes, where they are not the usual ones.
  std::string blocking(bool fetch) const {
    using Split = schedule::ProductConfig::Split;
    std::string fields;
    if (config_.split == Split::panels) fields += ", .split = tile::RowsBlocking::Split::panels";
    if (config_.split == Split::rows) fields += ", .split = tile::RowsBlocking::Split::rows";
    if (!config_.ahead) fields += ", .ahead = false";
    if (schedule::on_tiles(config_.atom)) fields += ", .pieces = 1";
    if (product_.right_matrix) fields += ", .writes_panels = true";
    if (fetch) fields += ", .fetch_results = true";
    return fields;
  }

  void left(const std::string& zero) {
    const Address& address = shape_.nest.loads[static_cast<size_t>(shape_.left.access)];
    const Dim& start = product_.matrix ? product_.matrix->start : product_.windows->start;
    const std::string types = fmt::format("{}, {}", storage_type(address.dtype), left_element());
    const std::string set_zero = zero.empty() ? "" : ", .zero = " + zero;
    const std::string data = pointer(address.tensor, constant_part(start));
    out_.line(fmt::format("const auto left_batch = {};", batch_view(start)));
    if (product_.matrix) {
      out_.line(fmt::format("const tile::MatrixRows<{}, {}, {}, std::remove_const_t<decltype(left_batch)>> left{{", types, config_.block.rows,
                            product_.step(config_.atom)));
      out_.line(fmt::format("    .data = {}, .row_stride = {}, .m = {}, .k = {}, .batch = left_batch{}}};", data, text(product_.matrix->outer_stride),
                            text(shape_.m.extent()), text(shape_.k.extent()), set_zero));
      return;
    }
    const WindowRowsShape& windows = *product_.windows;
    const std::string strips = fmt::format("{}, {}, std::remove_const_t<decltype(left_batch)>>", config_.block.rows, product_.step(config_.atom));
    if (config_.joined) {
      out_.line(fmt::format("const tile::JoinedWindows<{}, {} left{{{{", types, strips));
    } else {
      out_.line(fmt::format("const tile::WindowRows<{}, {}, {} left{{", types, windows.axes.size(), strips));
    }
    out_.line(fmt::format("    .data = {}, .batch = left_batch,", data));
    window_fields(windows, set_zero + (config_.joined ? "}};" : "};"));
  }

  void depthwise() {
    const WindowRowsShape& windows = *product_.windows;
    std::vector<WindowRowsShape::Axis> axes = windows.axes;
    while (axes.size() < 3) axes.insert(axes.begin(), WindowRowsShape::Axis{.input = 1, .pitch = 0, .taps = ""});
    const auto list = [&](auto&& field) { return fmt::format("{{{}, {}, {}}}", text(field(axes[0])), text(field(axes[1])), text(field(axes[2]))); };
    out_.line(fmt::format("const tile::DepthwiseRowsShape shape{{.images = {}, .channels = {}, .input = {},", text(shape_.batch.extent()),
                          text(windows.channels), list([](const auto& x) { return x.input; })));
    out_.line(fmt::format("    .output = {}, .kernel = {}, .stride = {}, .dilation = {}, .pad = {}}};", list([](const auto& x) { return x.output; }),
                          list([](const auto& x) { return x.kernel; }), list([](const auto& x) { return x.stride; }),
                          list([](const auto& x) { return x.dilation; }), list([](const auto& x) { return x.pad; })));
    const std::string zero = zero_point(shape_.left, "left");
    epilogue(shape_.batch, shape_.m, {.most = 2 * lanes_of(product_, kernel_.target)});
    const Address& address = shape_.nest.loads[static_cast<size_t>(shape_.left.access)];
    out_.line(fmt::format("tile::depthwise_rows<{}, {}>(shape, {}, {}, epilogue, a.team{});", value_type(shape_.sum), config_.block.rows,
                          pointer(address.tensor, constant_part(windows.start)), kernel_.pointers.at(planned_.packed), zero.empty() ? "" : ", " + zero));
  }

  void winograd() {
    const WindowRowsShape& windows = *product_.windows;
    const auto pair = [&](auto&& field) { return fmt::format("{{{}, {}}}", text(field(windows.axes[0])), text(field(windows.axes[1]))); };
    out_.line(fmt::format("const tile::WinogradShape shape{{.images = {}, .channels = {}, .filters = {},", text(shape_.batch.extent()), text(windows.channels),
                          text(shape_.n.extent())));
    out_.line(fmt::format("    .input = {}, .output = {}, .pad = {}, .pitch = {}}};", pair([](const auto& x) { return x.input; }),
                          pair([](const auto& x) { return x.output; }), pair([](const auto& x) { return x.pad; }), text(windows.axes[1].pitch)));
    const int64_t panel = config_.block.vectors * lanes_of(product_, kernel_.target);
    epilogue(shape_.batch, shape_.m, {.most = panel, .multiple = panel});
    const Address& address = shape_.nest.loads[static_cast<size_t>(shape_.left.access)];
    const std::string data = kernel_.pointers.at(planned_.packed), from = pointer(address.tensor, constant_part(windows.start));
    const std::string filters = config_.atom == Atom::fma ? data : fmt::format("reinterpret_cast<const {}*>({})", lane_type(), data);
    const std::string block = fmt::format("{}, {}, {}", config_.block.rows, config_.block.vectors, text(windows.channels));
    const std::string blocks =
        config_.atom == Atom::amx_digits
            ? fmt::format("tile::AmxDigitBlocks<{}, {}>", block, tile_steps(windows.channels.constant(), config_.atom))
            : fmt::format("tile::RowBlocks<float, {}, {}, {}>", block, config_.atom == Atom::fma ? "float" : lane_type(), tail(winograd_tiles(windows)));
    out_.line(fmt::format("tile::winograd<{}>(shape, {}, {}, epilogue, a.team, {});", blocks, from, filters, kernel_.target.l2_bytes));
  }

  void right(const std::string& zero) {
    if (product_.right_matrix) {
      out_.line(fmt::format("const auto matrix = {};", dense_right(*product_.right_matrix)));
      out_.line(fmt::format("const tile::WrittenPanels<{}, std::remove_const_t<decltype(matrix)>> right{{matrix, {}, {}}};",
                            config_.block.vectors * lanes_of(product_, kernel_.target), text(shape_.n.extent()), text(shape_.k.extent())));
      return;
    }
    const pattern::TensorInfo& info = kernel_.program().tensor(planned_.packed);
    const Dims& dims = info.type.dims;  // groups, panels, steps of k, width
    const Dim width = dims[3] / schedule::lane_elements(config_.atom);
    const std::string group = text(dims[1] * dims[2] * width);
    const bool all = product_.weight_groups == shape_.batch.loops.size();
    if (dims[0] == Dim(1))
      out_.line("const tile::BatchStride right_batch{0};");
    else if (all)
      out_.line(fmt::format("const tile::BatchStride right_batch{{{}}};", group));
    else
      out_.line(fmt::format("const auto right_batch = [](i64 batch) {{ return batch % {} * {}; }};", text(dims[0]), group));
    std::string data = kernel_.pointers.at(planned_.packed);
    if (config_.atom != Atom::fma) data = fmt::format("reinterpret_cast<const {}*>({})", lane_type(), data);
    if (config_.widened) {
      out_.line(fmt::format("const tile::WidenedPanels<{}, {}, std::remove_const_t<decltype(right_batch)>> right{{{}, {}, right_batch}};", lane_type(),
                            text(width), data, text(dims[2])));
      return;
    }
    if (config_.atom == Atom::amx_digits) {
      out_.line(fmt::format("const tile::DigitPanels<{}, std::remove_const_t<decltype(right_batch)>> right{{{}, {}, right_batch}};", text(width), data,
                            text(dims[2] - 1)));
      return;
    }
    if (config_.atom == Atom::fma24) {
      out_.line(fmt::format("const tile::Fixed24Panels<{}, std::remove_const_t<decltype(right_batch)>> right{{{}, {}, right_batch}};", text(width), data,
                            text(shape_.k.extent())));
      return;
    }
    if (!product_.integers) {
      out_.line(fmt::format("const tile::Packed<{}, {}, false, std::remove_const_t<decltype(right_batch)>> right{{{}, {}, right_batch}};", lane_type(),
                            text(width), data, text(dims[2])));
      return;
    }
    const Address& left = shape_.nest.loads[static_cast<size_t>(shape_.left.access)];
    out_.line(fmt::format("const tile::PackedSums<{}, {}, std::remove_const_t<decltype(right_batch)>> right{{{}, {}, right_batch,", lane_type(), text(width),
                          data, text(dims[2] - 1)));
    out_.line(fmt::format("    tile::left_zero<{}, {}>({})}};", left_element(), storage_type(left.dtype), zero.empty() ? "0" : zero));
  }

  std::string blocks() const {
    const std::string block = fmt::format("{}, {}, {}, {}, {}", value_type(shape_.sum), config_.block.rows, config_.block.vectors, product_.step(config_.atom),
                                          config_.widened ? value_type(shape_.sum) : lane_type());
    if (!schedule::on_tiles(config_.atom)) return fmt::format("tile::RowBlocks<{}, {}>", block, tail(product_.line()));
    const int64_t depth = shape_.k.extent().constant() / product_.runs(config_.atom);
    if (config_.atom == Atom::amx_digits)
      return fmt::format("tile::AmxDigitBlocks<{}, {}, {}, {}>", config_.block.rows, config_.block.vectors, product_.step(config_.atom),
                         tile_steps(depth, config_.atom));
    if (const int64_t parts = schedule::parts_of(config_.atom); parts > 1)
      return fmt::format("tile::AmxSplitBlocks<{}, {}, {}, {}, {}>", config_.block.rows, config_.block.vectors, product_.step(config_.atom), parts,
                         tile_steps(depth, config_.atom));
    return fmt::format("tile::AmxBlocks<{}, {}>", block, tile_steps(depth, config_.atom));
  }

  /// Rows of the last strip of `all`: known ones get a block of their own size alone.
  int64_t tail(int64_t all) const {
    const int64_t rows = config_.block.rows;
    return all == 0 ? 0 : all % rows == 0 ? rows : all % rows;
  }
  using Atom = schedule::ProductConfig::Atom;
  std::string left_element() const {
    const DType type = left_type(config_.atom, shape_.sum);
    return config_.atom == Atom::fma ? value_type(type) : storage_type(type);
  }
  /// What a panel holds of a column for a step of k.
  std::string lane_type() const {
    switch (config_.atom) {
      case Atom::fma:
        if (product_.right_matrix) return value_type(shape_.sum);
        break;
      case Atom::dot8:
      case Atom::amx8: return "tile::ByteQuad";
      case Atom::dot16: return "tile::ShortPair";
      case Atom::bf16:
      case Atom::amx_bf16: return "tile::BfloatPair";
      case Atom::amx_f32: return "tile::BfloatParts<3>";
      case Atom::amx_tf32: return "tile::BfloatParts<2>";
      case Atom::amx_digits: return "tile::ByteDigits";
      case Atom::fma24: return "tile::Fixed24";
    }
    return storage_type(kernel_.program().tensor(planned_.packed).type.dtype);
  }

  const RowsProduct& product_;
  const schedule::PackedProduct& planned_;
  const schedule::ProductConfig& config_;
};

}  // namespace

void emit_rows_product(const KernelText& kernel, const pattern::Nest& nest, Writer& out) {
  const std::optional<RowsProduct> product = find_rows_product(nest, kernel.program());
  ensure(product.has_value(), "a planned product is one");
  RowsEmitter(kernel, nest, *product, out).emit();
}

}  // namespace tilewright::cpu
