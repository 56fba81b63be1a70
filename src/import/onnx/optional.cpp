#include "import/onnx/operators.h"

/// Whether an optional holds something is known at import: a value of the model either is there or is omitted.
namespace tilewright::onnx {
namespace {

void make_optional(NodeImport& n) {
  if (n.has(0))
    n.set(0, n.operand(0));
  else
    n.set(0, Operand{Operand::Kind::nothing, no_value, {}});
}

void optional_has_element(NodeImport& n) {
  const bool holds = n.has(0) && n.operand(0).kind != Operand::Kind::nothing;
  n.set(n.b.scalar(DType::boolean, holds ? 1 : 0));
}

void optional_get_element(NodeImport& n) {
  n.require(n.operand(0).kind != Operand::Kind::nothing, "its input is an optional that holds nothing");
  n.set(0, n.operand(0));
}

constexpr OperatorEntry entries[] = {
    {"", "Optional", 15, make_optional},
    {"", "OptionalGetElement", 15, optional_get_element},
    {"", "OptionalHasElement", 15, optional_has_element},
};

}  // namespace

std::span<const OperatorEntry> optional_operators() { return entries; }

}  // namespace tilewright::onnx
