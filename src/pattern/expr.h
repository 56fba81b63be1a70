#pragma once

#include <string_view>

#include "pattern/pattern.h"

namespace tilewright::pattern {

enum class ExprClass { leaf, unary, binary, compare, ternary, convert };

/// What printers, verifiers and interpreters need to know of an operation; one row each in expr.cpp.
struct ExprInfo {
  ExprOp op;
  std::string_view name;
  int arity;
  ExprClass kind;
};
const ExprInfo& info(ExprOp op);

}  // namespace tilewright::pattern
