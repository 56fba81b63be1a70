#include "op/tables.h"

namespace tilewright {
namespace {

std::vector<Type> infer_cumulate(const InferContext& c) {
  const int64_t axis = c.integer("axis");
  c.require(axis >= 0 && axis < c.rank(0), "axis {} is outside of {}", axis, str(c.dims(0)));
  c.require(c.dtype(0) != DType::boolean, "operand is bool");
  return {c.type(0)};
}

void lower_cumulate(Lowering& l) {
  const InferContext c = l.context();
  const auto flag = [&](std::string_view name) { return c.integer_or(name, 0) != 0; };
  l.emit(pattern::Cumulate{l.node.name, l.in(0), l.out(), static_cast<int>(c.integer("axis")), flag("product"), flag("exclusive"), flag("reverse")});
}

constexpr OpDef ops[] = {{"cumulate", 1, 1, infer_cumulate, lower_cumulate}};

}  // namespace

std::span<const OpDef> cumulate_ops() { return ops; }

}  // namespace tilewright
