// A depthwise convolution and the products of rows around it: what becomes of their sums as lambdas, each stage as a function of some
// lines, and one call of tile/kernels/depthwise_chain.h.

#include "base/error.h"
#include "target/cpu/depthwise_chain.h"
#include "target/cpu/kernel_emitters.h"
#include "target/cpu/product_text.h"

namespace tilewright::cpu {
namespace {

const char* const sums_parameters = "i64 batch, i64 row0, i64 column0, i64 rows, const auto columns, const float* sums, const auto ld";

/// A product of rows, some lines at a time.
class LinesText : ProductText {
 public:
  LinesText(const KernelText& kernel, const pattern::Nest& nest, const RowsProduct& product, const schedule::PackedProduct& planned, Writer& out)
      : ProductText(kernel, nest, product.shape, out), product_(product), planned_(planned), block_(planned.config.block) {}

  void before() {
    results("expanded", shape_.batch, shape_.m, Destination::rows);
    out_.open("const auto before = [&](i64 line, i64 lines, float* to, tile::Team& team)");
    kernel_.declare_sizes(out_);
    kernel_.declare_tensors(out_);
    if (product_.matrix)
      matrix();
    else
      windows();
    out_.close(";");
  }

  void after() {
    results("projected", shape_.batch, shape_.m, Destination::tensors, {.most = block_.vectors * lanes_of(product_, kernel_.target)});
    out_.open("const auto after = [&](i64 line, i64 lines, const float* from, tile::Team& team)");
    kernel_.declare_sizes(out_);
    kernel_.declare_tensors(out_);
    left("float", "from", text(shape_.k.extent()), text(shape_.m.extent() * shape_.k.extent()));
    right();
    call("lines", "projected(line + batch, row0, column0, rows, columns, sums, ld);");
    out_.close(";");
  }

 private:
  std::string panel_type() const { return storage_type(kernel_.program().tensor(planned_.packed).type.dtype); }

  const Address& left_address() const { return shape_.nest.loads[static_cast<size_t>(shape_.left.access)]; }

  void matrix() {
    const auto lines = even_over(product_.matrix->start, shape_.batch);
    const std::string line_step = text(lines->slope);
    left(storage_type(left_address().dtype), fmt::format("{} + line * ({})", pointer(left_address().tensor, lines->at_zero), line_step),
         text(product_.matrix->outer_stride), line_step);
    right();
    const std::string columns = text(shape_.n.extent()), line_rows = print_factor(shape_.m.extent(), kernel_.sizes, shape_.nest.bounds);
    call("lines", fmt::format("expanded(line + batch, row0, column0, rows, columns, sums, ld, to + (batch * {} + row0) * {} + column0, {});", line_rows,
                              columns, columns));
  }

  void windows() {
    const WindowRowsShape& windows = *product_.windows;
    out_.line(fmt::format("const tile::WindowRows<{}, float, {}, {}, {}> left{{", storage_type(left_address().dtype), windows.axes.size(), block_.rows,
                          product_.step(schedule::ProductConfig::Atom::fma)));
    out_.line(fmt::format("    .data = {},", pointer(left_address().tensor, windows.start)));
    window_fields(windows, ", .first_line = line, .lines = lines};");
    right();
    const std::string columns = text(shape_.n.extent()), line_rows = print_factor(windows.axes.back().output, kernel_.sizes, shape_.nest.bounds);
    call("1", fmt::format("expanded(batch, row0, column0, rows, columns, sums, ld, to + (row0 - line * {}) * {} + column0, {});", line_rows, columns, columns));
  }

  void left(const std::string& type, const std::string& data, const std::string& row_stride, const std::string& line_stride) {
    out_.line(fmt::format("const tile::MatrixRows<{}, float, {}, {}> left{{", type, block_.rows, product_.step(schedule::ProductConfig::Atom::fma)));
    out_.line(fmt::format("    .data = {}, .row_stride = {}, .m = {}, .k = {}, .batch = {{{}}}}};", data, row_stride, text(shape_.m.extent()),
                          text(shape_.k.extent()), line_stride));
  }
  void right() {
    out_.line(fmt::format("const tile::Packed<{}, {}, false> right{{{}, {}}};", panel_type(), text(kernel_.program().tensor(planned_.packed).type.dims[3]),
                          kernel_.pointers.at(planned_.packed), text(shape_.k.extent())));
  }
  void call(const std::string& batch, const std::string& result) {
    const int64_t line = product_.line(), rest = line % block_.rows, rows_of_last_strip = line == 0 ? 0 : rest == 0 ? block_.rows : rest;
    out_.open(fmt::format("const auto epilogue = [&]({})", sums_parameters));
    out_.line(result);
    out_.close(";");
    out_.line(fmt::format("tile::contract_rows<tile::RowBlocks<float, {}, {}, {}, {}, {}>>({}, {}, left, right, epilogue, team,", block_.rows, block_.vectors,
                          product_.step(schedule::ProductConfig::Atom::fma), panel_type(), rows_of_last_strip, batch, text(shape_.n.extent())));
    out_.line(fmt::format("    {{.panel_bytes = {}, .strip_bytes = {}}});", planned_.config.panel_bytes, planned_.config.strip_bytes));
  }

  const RowsProduct& product_;
  const schedule::PackedProduct& planned_;
  const schedule::ProductBlock& block_;
};

/// The convolution in the middle.
class FilterText : ProductText {
 public:
  FilterText(const KernelText& kernel, const pattern::Nest& nest, const DepthwiseChain& chain, const schedule::PackedProduct& planned, Writer& out)
      : ProductText(kernel, nest, chain.middle.shape, out), chain_(chain), planned_(planned) {}

  void emit() {
    const bool hands_on = chain_.after.has_value();
    results("filtered", shape_.batch, shape_.m, hands_on ? Destination::rows : Destination::tensors, {.most = 2 * lanes_of(chain_.middle, kernel_.target)});
    const DType input = chain_.before ? DType::f32 : shape_.nest.loads[static_cast<size_t>(shape_.left.access)].dtype;
    out_.open(fmt::format("const auto middle = [&](const tile::DepthwiseRowsShape& band, const {}* from, i64 line, float* to, tile::Team& team)",
                          storage_type(input)));
    kernel_.declare_sizes(out_);
    kernel_.declare_tensors(out_);
    const Dim lines = chain_.axes[0].output * chain_.axes[1].output;
    const std::string a_batch = print_factor(lines, kernel_.sizes, shape_.nest.bounds),
                      width = print_factor(chain_.axes[2].output, kernel_.sizes, shape_.nest.bounds);
    out_.line(fmt::format("const i64 image = line / {}, first = line % {} * {};", a_batch, a_batch, width));
    out_.open(fmt::format("const auto epilogue = [&]({})", sums_parameters));
    out_.line("(void)batch, (void)to;");
    const std::string channels = text(chain_.channels);
    out_.line(fmt::format("filtered(image, first + row0, column0, rows, columns, sums, ld{});",
                          hands_on ? fmt::format(", to + row0 * {} + column0, {}", channels, channels) : ""));
    out_.close(";");
    out_.line(
        fmt::format("tile::depthwise_rows<float, {}>(band, from, {}, epilogue, team);", planned_.config.block.rows, kernel_.pointers.at(planned_.packed)));
    out_.close(";");
  }

  void call() {
    const auto list = [&](auto&& field) {
      return fmt::format("{{{}, {}, {}}}", text(field(chain_.axes[0])), text(field(chain_.axes[1])), text(field(chain_.axes[2])));
    };
    out_.line(fmt::format("const tile::DepthwiseRowsShape shape{{.images = {}, .channels = {}, .input = {},", text(shape_.batch.extent()),
                          text(chain_.channels), list([](const auto& x) { return x.input; })));
    out_.line(fmt::format("    .output = {}, .kernel = {}, .stride = {}, .dilation = {}, .pad = {}}};", list([](const auto& x) { return x.output; }),
                          list([](const auto& x) { return x.kernel; }), list([](const auto& x) { return x.stride; }),
                          list([](const auto& x) { return x.dilation; }), list([](const auto& x) { return x.pad; })));
    const Address& address = shape_.nest.loads[static_cast<size_t>(shape_.left.access)];
    const std::string before = chain_.before ? "before" : pointer(address.tensor, constant_part(chain_.middle.windows->start));
    // A band takes half of the second level cache.
    out_.line(fmt::format("tile::depthwise_chain<float>(shape, {}, middle, {}, {}, a.team);", before, chain_.after ? "after" : "nullptr",
                          kernel_.target.l2_bytes / 2));
  }

 private:
  const DepthwiseChain& chain_;
  const schedule::PackedProduct& planned_;
};

}  // namespace

void emit_depthwise_chain(const KernelText& kernel, Writer& out) {
  std::vector<const pattern::Nest*> stages;
  for (const pattern::Pattern& stage : kernel.kernel.stages) stages.push_back(&std::get<pattern::Nest>(stage));
  const std::optional<DepthwiseChain> chain = find_depthwise_chain(stages, kernel.program());
  ensure(chain.has_value() && kernel.kernel.products.size() == stages.size(), "convolutions were chained because the target takes them, and planned");
  kernel.declare_sizes(out);
  kernel.declare_tensors(out);
  const std::vector<schedule::PackedProduct>& planned = kernel.kernel.products;
  const size_t middle = chain->before ? 1 : 0;
  if (chain->before) LinesText(kernel, *stages[0], *chain->before, planned[0], out).before();
  FilterText filter(kernel, *stages[middle], *chain, planned[middle], out);
  filter.emit();
  if (chain->after) LinesText(kernel, *stages.back(), *chain->after, planned.back(), out).after();
  filter.call();
}

}  // namespace tilewright::cpu
