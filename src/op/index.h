#pragma once

#include "pattern/build.h"

namespace tilewright {

/// The index as i64, negative ones counted from the end of an axis of `size`.
inline pattern::Expr wrapped(pattern::NestBuilder& n, pattern::Expr index, const Dim& size) {
  const pattern::Expr i = n.cast(index, DType::i64);
  return n.select(n.binary(pattern::ExprOp::less, i, n.constant_int(DType::i64, 0)), i + n.size(size), i);
}

}  // namespace tilewright
