#include "target/emit_kernel.h"

#include "base/error.h"
#include "schedule/fuse_attention.h"
#include "schedule/fuse_depthwise.h"
#include "target/cpu/kernel_emitters.h"
#include "target/simt/kernel_emitters.h"

namespace tilewright {
namespace {

using source::one_line;

struct Description {
  std::string operator()(const pattern::Nest& nest) const {
    switch (pattern::classify(nest)) {
      case pattern::NestKind::map: return "map over " + str(nest.space);
      case pattern::NestKind::reduce: return fmt::format("reduce over {}, the last {} reduced", str(nest.space), nest.reduced_rank);
      case pattern::NestKind::contract: return fmt::format("contract over {}, the last {} reduced", str(nest.space), nest.reduced_rank);
    }
    return "";
  }
  std::string operator()(const pattern::Scatter&) const { return "scatter"; }
  std::string operator()(const pattern::Cumulate&) const { return "cumulate"; }
  std::string operator()(const auto&) const { return "select"; }
};

std::string what(const schedule::Kernel& kernel) {
  if (schedule::is_attention(kernel)) return "attention over " + str(std::get<pattern::Nest>(kernel.stages[0]).space);
  if (schedule::is_depthwise_chain(kernel)) return "depthwise chain to " + str(std::get<pattern::Nest>(kernel.stages.back()).space);
  if (kernel.stages.size() > 1) return fmt::format("rows of {} stages", kernel.stages.size());
  return std::visit(Description{}, kernel.stages.at(0));
}

std::string header(const schedule::Block& block, const schedule::Kernel& kernel) {
  std::string text = fmt::format("// {}: {}\n// from: {}\n", kernel.name, one_line(what(kernel)), one_line(kernel.source));
  for (size_t i = 0; i < kernel.tensors.size(); ++i) {
    const pattern::TensorInfo& info = block.program.tensor(kernel.tensors[i]);
    text += fmt::format("//   tensor {}: {} {}\n", i, one_line(info.name), one_line(str(info.type)));
  }
  for (size_t i = 0; i < kernel.sizes.size(); ++i) text += fmt::format("//   size {}: {}\n", i, kernel.sizes[i]);
  for (const schedule::PackedProduct& product : kernel.products) text += fmt::format("//   {}\n", schedule::print(product.config));
  if (kernel.tiles) text += fmt::format("//   {}\n", schedule::print(*kernel.tiles));
  return text;
}

}  // namespace

void plan_kernels(schedule::Block& block, const Target& target, const PlanOptions& options) {
  if (target.kind == TargetKind::cpu) return cpu::plan_products(block, target, options);
  simt::plan_products(block, target, options);
  simt::plan_workspaces(block, target);
  if (options.streams && block.streams.steps.empty()) simt::plan_streams(block);
}

schedule::StreamsAttention streams_attention(TargetKind kind) { return kind == TargetKind::cpu ? cpu::streams_attention : simt::streams_attention; }

schedule::ChainsDepthwise chains_depthwise(const Target& target) {
  if (target.kind != TargetKind::cpu) return nullptr;
  return [&target](const auto& stages, const pattern::Program& program) { return cpu::chains_depthwise(stages, program, target); };
}

ProductCost product_cost(const Target& target) {
  if (target.kind == TargetKind::cpu) return [&target](const ProductSize& size) { return cpu::product_cycles(size, target); };
  // Streams run products of one operand beside each other.
  return [](const ProductSize& size) { return static_cast<double>(size.columns); };
}

std::string emit_kernel(const schedule::Block& block, const schedule::Kernel& kernel, const Target& target) {
  ensure(!kernel.stages.empty(), "a kernel has stages");
  const source::KernelText text(block, kernel, target);
  return (kernel.source.empty() ? "" : header(block, kernel)) + (target.kind == TargetKind::cpu ? cpu::emit_function(text) : simt::emit_function(text));
}

std::string kernel_includes(const Target& target) {
  std::string text;
  for (const std::string_view header : target.kind == TargetKind::cpu ? cpu::headers() : simt::headers(target))
    text += fmt::format("#include \"tile/{}.h\"\n", header);
  return text + "\nusing tile::i64;\n";
}

std::string kernel_signature(const schedule::Block& block, const schedule::Kernel& kernel, const Target& target) {
  schedule::Kernel anonymous = kernel;
  anonymous.name = "kernel_@";
  anonymous.source = "";
  return emit_kernel(block, anonymous, target);
}

}  // namespace tilewright
