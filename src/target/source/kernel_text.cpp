#include "target/source/kernel_text.h"

#include "base/error.h"

namespace tilewright::source {

KernelText::KernelText(const schedule::Block& b, const schedule::Kernel& k, const Target& t) : block(b), kernel(k), target(t) {
  for (size_t i = 0; i < kernel.sizes.size(); ++i) sizes[kernel.sizes[i]] = fmt::format("n{}", i);
  std::set<TensorId> written;
  for (const pattern::Pattern& stage : kernel.stages)
    for (const TensorId id : pattern::writes(stage)) written.insert(id);
  written.insert(kernel.workspace);
  for (size_t i = 0; i < kernel.tensors.size(); ++i) pointers[kernel.tensors[i]] = fmt::format("{}{}", written.count(kernel.tensors[i]) ? 'y' : 'x', i);
}

bool KernelText::aligned(TensorId id) const {
  using schedule::Storage;
  const schedule::Placement& placement = block.placements.at(static_cast<size_t>(id));
  if (placement.storage == Storage::alias) return placement.alias_offset == Dim(0) && aligned(placement.alias_of);
  return placement.storage == Storage::constant || placement.storage == Storage::arena || placement.storage == Storage::dynamic;
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

}  // namespace tilewright::source
