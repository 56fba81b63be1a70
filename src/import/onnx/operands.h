#pragma once

#include <optional>
#include <vector>

#include "import/onnx/importer.h"

/// Readings of inputs that many operators share.
namespace tilewright::onnx {

/// The second operand of a binary operator before opset 7, where `broadcast` and `axis` line it up with the first: with trailing
/// dims of 1 so that numpy's broadcasting does the same. Later opsets: the operand itself.
ValueId aligned_operand(NodeImport& n, ValueId a, ValueId b);

/// The integers of input i, which must be known at import; unsupported otherwise. `what` names them.
std::vector<int64_t> known_integers(NodeImport& n, int i, std::string_view what);

/// The same, none when they are not known at import.
std::optional<std::vector<int64_t>> integers_if_known(NodeImport& n, int i);

/// Axes as written: from the attribute "axes" or, when it is absent, from input i.
struct Axes {
  bool given = false;
  std::vector<int64_t> known;
  ValueId at_run_time = no_value;  ///< i64 [k] with k known: which they are is known at run time only
};
Axes axes_of(NodeImport& n, int i, int at_most);
/// The same from input i alone; rejects more than `at_most` axes.
Axes axes_of_input(NodeImport& n, int i, int at_most);

/// x as i64.
ValueId as_i64(Builder& b, ValueId x);

/// 0 or more: `size` itself when that is proven for all non-negative symbols, else max(size, 0).
Dim not_negative(const Dim& size);

/// Rounds up. `step` is positive.
Dim divide_up(const Dim& size, int64_t step);

/// Keeps the first `count` along `axis` of a padded result; count is an i64 scalar known at run time.
ValueId keep_first(Builder& b, ValueId padded, int axis, const Dim& count);

/// x with its elements in one row.
ValueId flat(Builder& b, ValueId x);

}  // namespace tilewright::onnx
