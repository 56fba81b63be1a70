// Matrix products: the operands as views, the epilogue as a lambda, and one call of the library.

#include <algorithm>

#include "base/error.h"
#include "target/cpu/kernel_emitters.h"
#include "target/cpu/product_text.h"

namespace tilewright::cpu {
namespace {

using schedule::affine_in;
using schedule::mentions;

class ContractEmitter : ProductText {
 public:
  using ProductText::ProductText;

  void emit() {
    kernel_.declare_sizes(out_);
    kernel_.declare_tensors(out_);
    if (depthwise()) return;
    const auto constant = [](const LoopGroup& group) { return group.extent().is_constant() ? std::to_string(group.extent().constant()) : std::string("0"); };
    out_.line(fmt::format("const tile::Extents extents{{.batch = {}, .m = {}, .n = {}, .k = {}}};", text(shape_.batch.extent()), text(shape_.m.extent()),
                          text(shape_.n.extent()), text(shape_.k.extent())));
    operand("left", shape_.left, shape_.m);
    operand("right", shape_.right, shape_.n);
    epilogue(shape_.batch, shape_.m);
    out_.line(
        fmt::format("tile::contract<{}, {}, {}>(extents, left, right, epilogue, a.team);", value_type(shape_.sum), constant(shape_.m), constant(shape_.n)));
  }

 private:
  void operand(const std::string& side, const Factor& factor, const LoopGroup& outer) {
    if (!dense(side, factor, outer) && !windows(side, factor, outer)) mapped(side, factor, outer);
  }

  bool dense(const std::string& side, const Factor& factor, const LoopGroup& outer) {
    const auto found = find_dense(shape_, factor, outer);
    if (!found) return false;
    const std::string zero = zero_point(factor, side);
    out_.line(fmt::format("const auto {} = {};", side, side == "left" ? dense_left(*found, zero) : dense_right(*found, zero)));
    return true;
  }

  bool mentions_any(const Dim& e) const {
    for (const Loop& loop : shape_.nest.loops)
      if (mentions(e, loop.symbol)) return true;
    return false;
  }

  template <class F>
  std::string axes_list(const WindowShape& shape, F&& field) const {
    std::string list;
    for (const WindowShape::Axis& axis : shape.axes) list += (list.empty() ? "" : ", ") + text(field(axis));
    return "{" + list + "}";
  }

  bool windows(const std::string& side, const Factor& factor, const LoopGroup& outer) {
    const auto found = find_windows(shape_, factor, outer, source_, kernel_.program());
    if (!found) return false;
    const TensorId tensor = source_.accesses[static_cast<size_t>(factor.access)].tensor;
    const std::string zero = zero_point(factor, side);
    const std::string type = storage_type(kernel_.program().tensor(tensor).type.dtype);
    const std::string batch = batch_view(found->start);
    out_.line(fmt::format("const auto {}_batch = {};", side, batch));
    out_.line(fmt::format("const tile::ConvWindows<{}, {}, std::remove_const_t<decltype({}_batch)>> {}{{", type, found->axes.size(), side, side));
    out_.line(fmt::format("    .data = {}, .batch = {}_batch, .input = {}, .output = {}, .kernel = {},", pointer(tensor, constant_part(found->start)), side,
                          axes_list(*found, [](const auto& x) { return x.input; }), axes_list(*found, [](const auto& x) { return x.output; }),
                          axes_list(*found, [](const auto& x) { return x.kernel; })));
    out_.line(fmt::format("    .stride = {}, .dilation = {}, .pad = {}, .zero = {}}};", axes_list(*found, [](const auto& x) { return x.stride; }),
                          axes_list(*found, [](const auto& x) { return x.dilation; }), axes_list(*found, [](const auto& x) { return x.pad; }),
                          zero.empty() ? "0" : zero));
    return true;
  }

  /// One call an element: for addresses and prologues that no view describes.
  void mapped(const std::string& side, const Factor& factor, const LoopGroup& outer) {
    const std::string joint = side == "left" ? "m" : "n";
    out_.open(fmt::format("const tile::Mapped {}{{[&](i64 batch, i64 {}, i64 k) -> {}", side, joint, value_type(shape_.sum)));
    NestBody body(shape_.nest, kernel_.sizes, kernel_.pointers, out_);
    digits(shape_.batch, "batch", body);
    digits(outer, joint, body);
    digits(shape_.k, "k", body);
    body.want({factor.value});
    body.write_known();
    out_.line(fmt::format("return {};", converted(body.value(factor.value), shape_.sum)));
    out_.close("};");
  }

  /// One filter a channel: the batch loops end with the channel, the sum runs over the kernel's positions alone.
  bool depthwise() {
    if (shape_.batch.loops.empty() || shape_.m.loops.size() > 1) return false;
    const auto found = find_windows(shape_, shape_.right, shape_.n, source_, kernel_.program());
    // Matrices whose rows lie one behind the other are windows that never slide.
    const auto slides = [](const WindowShape::Axis& axis) { return !(axis.output == Dim(1)) && !(axis.kernel == Dim(1)); };
    if (found && !shape_.m.loops.empty() && std::none_of(found->axes.begin(), found->axes.end(), slides)) return false;
    if (!found || found->has_channel || !shape_.left.direct || !shape_.nest.loads[static_cast<size_t>(shape_.left.access)].guards.empty()) return false;
    const Address& weights = shape_.nest.loads[static_cast<size_t>(shape_.left.access)];
    LoopGroup images{{shape_.batch.loops.begin(), shape_.batch.loops.end() - 1}, "tilewright..images"};
    LoopGroup channels{{shape_.batch.loops.back()}, "tilewright..channels"};
    const Loop channel = shape_.batch.loops.back();
    const Dim filters = shape_.m.extent();
    channels.loops.insert(channels.loops.end(), shape_.m.loops.begin(), shape_.m.loops.end());
    Dim plane = 1, taps = 1;
    for (const WindowShape::Axis& axis : found->axes) plane *= axis.input, taps *= axis.kernel;
    const auto by_channel = affine_in(found->start, channel.symbol);
    if (!by_channel || !(by_channel->slope == plane)) return false;
    const auto by_image = even_over(by_channel->at_zero, images);
    if (!by_image || mentions_any(by_image->at_zero) || (!images.loops.empty() && !(by_image->slope == plane * channel.extent))) return false;
    const auto by_tap = even_over(weights.offset, shape_.k);
    if (!by_tap || (!shape_.k.loops.empty() && !(by_tap->slope == Dim(1)))) return false;
    const auto by_filter = even_over(by_tap->at_zero, channels);
    if (!by_filter || !(by_filter->slope == taps) || mentions_any(by_filter->at_zero)) return false;

    const std::string x_zero = zero_point(shape_.right, "x"), w_zero = zero_point(shape_.left, "w");
    WindowShape three = *found;
    while (three.axes.size() < 3) three.axes.insert(three.axes.begin(), WindowShape::Axis{.input = 1});
    out_.line(fmt::format("const tile::DepthwiseShape shape{{.images = {}, .channels = {}, .filters = {}, .input = {},", text(images.extent()),
                          text(channels.extent()), text(filters), axes_list(three, [](const auto& x) { return x.input; })));
    out_.line(fmt::format("    .output = {}, .kernel = {}, .stride = {}, .dilation = {}, .pad = {}}};",
                          axes_list(three, [](const auto& x) { return x.output; }), axes_list(three, [](const auto& x) { return x.kernel; }),
                          axes_list(three, [](const auto& x) { return x.stride; }), axes_list(three, [](const auto& x) { return x.dilation; }),
                          axes_list(three, [](const auto& x) { return x.pad; })));
    epilogue(images, channels);
    const TensorId input = source_.accesses[static_cast<size_t>(shape_.right.access)].tensor;
    out_.line(fmt::format("tile::depthwise<{}>(shape, {}, {}, epilogue, a.team, {}, {});", value_type(shape_.sum), pointer(input, by_image->at_zero),
                          pointer(weights.tensor, by_filter->at_zero), x_zero.empty() ? "0" : x_zero, w_zero.empty() ? "0" : w_zero));
    return true;
  }
};

}  // namespace

bool emit_contract(const KernelText& kernel, const pattern::Nest& nest, Writer& out) {
  std::optional<ContractShape> shape = find_contract(nest, kernel.program());
  if (!shape) return false;
  ContractEmitter(kernel, nest, std::move(*shape), out).emit();
  return true;
}

}  // namespace tilewright::cpu
