#include "target/cpu/emit_kernel.h"

#include <algorithm>

#include "base/error.h"
#include "target/cpu/kernel_text.h"

namespace tilewright {
namespace cpu {

KernelText::KernelText(const schedule::Block& b, const schedule::Kernel& k, const Target& t) : block(b), kernel(k), target(t) {
  for (size_t i = 0; i < kernel.sizes.size(); ++i) sizes[kernel.sizes[i]] = fmt::format("n{}", i);
  std::set<TensorId> written;
  for (const pattern::Pattern& stage : kernel.stages)
    for (const TensorId id : pattern::writes(stage)) written.insert(id);
  for (size_t i = 0; i < kernel.tensors.size(); ++i) pointers[kernel.tensors[i]] = fmt::format("{}{}", written.count(kernel.tensors[i]) ? 'y' : 'x', i);
}

void KernelText::declare_sizes(Writer& out) const {
  for (size_t i = 0; i < kernel.sizes.size(); ++i) out.line(fmt::format("const i64 n{0} = a.size[{0}];", i));
}

void KernelText::declare_tensors(Writer& out) const {
  for (size_t i = 0; i < kernel.tensors.size(); ++i) {
    const std::string& name = pointers.at(kernel.tensors[i]);
    const std::string type = (name[0] == 'x' ? "const " : "") + storage_type(program().tensor(kernel.tensors[i]).type.dtype);
    out.line(fmt::format("{0}* const {1} = a.at<{0}>({2});", type, name, i));
  }
}

namespace {

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
  return text;
}

}  // namespace
}  // namespace cpu

std::string emit_kernel(const schedule::Block& block, const schedule::Kernel& kernel, const Target& target) {
  using namespace cpu;  // NOLINT: the functions that write bodies
  ensure(!kernel.stages.empty(), "a kernel has stages");
  const KernelText text(block, kernel, target);
  Writer out;
  out.open(fmt::format("void {}(const tile::Args& a)", kernel.name));
  if (kernel.stages.size() > 1) {
    emit_rows(text, out);
  } else if (const auto* nest = std::get_if<pattern::Nest>(&kernel.stages[0])) {
    if (!emit_contract(text, *nest, out)) emit_nest(text, *nest, out);
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
  return (kernel.source.empty() ? "" : header(block, kernel)) + out.text();
}

std::string kernel_includes() {
  std::string text;
  for (const char* header : {"cast", "exec/args", "kernels/contract", "kernels/conv_windows", "kernels/cumulate", "kernels/depthwise", "kernels/select",
                             "kernels/suppress", "math", "reduce"})
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
