#include "schedule/fuse.h"
#include "schedule/rewrite.h"

namespace tilewright::schedule {
namespace {

/// The number that a load of a constant of one element gives; nullopt where it may give its fill instead.
std::optional<ExprNode> loaded_number(const ExprNode& node, const Nest& nest, const Program& program) {
  if (node.op != ExprOp::load) return std::nullopt;
  const Access& access = nest.accesses[static_cast<size_t>(node.integer)];
  const std::shared_ptr<const Tensor>& constant = program.tensor(access.tensor).constant;
  if (!constant || constant->element_count() != 1 || access.fill || access.map.may_be_invalid()) return std::nullopt;
  ExprNode number;
  number.dtype = node.dtype;
  if (is_float(node.dtype))
    number.real = constant->float_at(0);
  else
    number.integer = constant->int_at(0);
  return number;
}

}  // namespace

void inline_constants(Program& program) {
  for (pattern::Pattern& one : program.patterns) {
    auto* nest = std::get_if<Nest>(&one);
    if (!nest) continue;
    bool changed = false;
    for (ExprNode& node : nest->nodes) {
      if (std::optional<ExprNode> number = loaded_number(node, *nest, program)) {
        node = std::move(*number);
        changed = true;
      }
    }
    if (changed) *nest = compacted(*nest);
  }
}

}  // namespace tilewright::schedule
