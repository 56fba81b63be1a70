#include "base/error.h"
#include "schedule/fuse_attention.h"
#include "schedule/fuse_depthwise.h"
#include "target/cpu/kernel_emitters.h"

namespace tilewright::cpu {

std::span<const std::string_view> headers() {
  static constexpr std::string_view names[] = {"atoms/amx",
                                               "cast",
                                               "exec/args",
                                               "kernels/attention",
                                               "kernels/contract",
                                               "kernels/contract_rows",
                                               "kernels/conv_windows",
                                               "kernels/cumulate",
                                               "kernels/depthwise",
                                               "kernels/depthwise_chain",
                                               "kernels/depthwise_rows",
                                               "kernels/select",
                                               "kernels/split_rows",
                                               "kernels/digit_rows",
                                               "kernels/digit_windows",
                                               "kernels/suppress",
                                               "kernels/joined_windows",
                                               "kernels/window_rows",
                                               "kernels/winograd",
                                               "kernels/winograd_digits",
                                               "math",
                                               "reduce",
                                               "vector_math"};
  return names;
}

std::string emit_function(const KernelText& text) {
  const schedule::Kernel& kernel = text.kernel;
  Writer out;
  out.open(fmt::format("void {}(const tile::Args& a)", kernel.name));
  if (schedule::is_attention(kernel)) {
    emit_attention(text, out);
  } else if (schedule::is_depthwise_chain(kernel)) {
    emit_depthwise_chain(text, out);
  } else if (kernel.stages.size() > 1) {
    emit_rows(text, out);
  } else if (const auto* nest = std::get_if<pattern::Nest>(&kernel.stages[0])) {
    if (!kernel.products.empty())
      emit_rows_product(text, *nest, out);
    else if (!emit_contract(text, *nest, out))
      emit_nest(text, *nest, out);
  } else if (const auto* scatter = std::get_if<pattern::Scatter>(&kernel.stages[0])) {
    emit_scatter(text, *scatter, out);
  } else if (const auto* cumulate = std::get_if<pattern::Cumulate>(&kernel.stages[0])) {
    emit_cumulate(text, *cumulate, out);
  } else if (const auto* select = std::get_if<pattern::Select>(&kernel.stages[0])) {
    emit_select(text, *select, out);
  } else {
    fail(ErrorKind::internal, "internal error: {} holds a pattern that is no kernel", kernel.name);
  }
  out.close();
  return out.text();
}

}  // namespace tilewright::cpu
