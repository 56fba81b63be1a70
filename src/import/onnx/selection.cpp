#include <limits>

#include "import/onnx/operands.h"
#include "import/onnx/operators.h"

/// Operators whose results have sizes that depend on data: the core operators give padded results and a count; the count becomes a
/// size, and the padding is cut off.
namespace tilewright::onnx {
namespace {

Dim size_of_count(Builder& b, ValueId count) { return b.sizes_of(count).at(0); }

void nonzero(NodeImport& n) {
  const std::vector<ValueId> found = n.b.node("nonzero", {n.in(0)}, {}, 2);
  n.set(keep_first(n.b, found[0], 1, size_of_count(n.b, found[1])));
}

void compress(NodeImport& n) {
  ValueId x = n.in(0);
  int axis = 0;
  if (n.has_attribute("axis")) {
    axis = n.axis(n.integer("axis"), n.b.rank(x));
  } else {
    x = flat(n.b, x);
  }
  const std::vector<ValueId> found = n.b.node("compress_positions", {n.in(1)}, {}, 2);
  n.set(n.b.gather(x, keep_first(n.b, found[0], 0, size_of_count(n.b, found[1])), axis));
}

void unique(NodeImport& n) {
  Attributes attributes = {{"sorted", n.integer("sorted", 1)}};
  int axis = 0;
  if (n.has_attribute("axis")) {
    axis = n.axis(n.integer("axis"), n.rank(0));
    attributes["axis"] = int64_t{axis};
  }
  const std::vector<ValueId> found = n.b.node("unique", {n.in(0)}, attributes, 5);
  const Dim count = size_of_count(n.b, found[4]);
  n.set(0, keep_first(n.b, found[0], axis, count));
  if (n.wants(1)) n.set(1, keep_first(n.b, found[1], 0, count));
  if (n.wants(2)) n.set(2, found[2]);
  if (n.wants(3)) n.set(3, keep_first(n.b, found[3], 0, count));
}

void top_k(NodeImport& n) {
  const int axis = n.axis(n.integer("axis", -1), n.rank(0));
  const Dims k = n.opset() < 10 ? Dims{n.integer("k")} : n.b.sizes_of(n.in(1));
  n.require(k.size() == 1 && (!k[0].is_constant() || k[0].constant() >= 0), "k is {}; it must be one number, 0 or more", str(k));
  const std::vector<ValueId> found =
      n.b.node("top_k", {n.in(0)}, {{"axis", int64_t{axis}}, {"k", k}, {"largest", n.integer("largest", 1)}, {"sorted", n.integer("sorted", 1)}}, 2);
  n.set(0, found[0]);
  n.set(1, found[1]);
}

void non_max_suppression(NodeImport& n) {
  Builder& b = n.b;
  const auto scalar_input = [&](int i, DType dtype, double otherwise) { return n.has(i) ? b.reshape(b.cast(n.in(i), dtype), {}) : b.scalar(dtype, otherwise); };
  const std::vector<ValueId> found = b.node(
      "non_max_suppression",
      {n.in(0), n.in(1), scalar_input(2, DType::i64, 0), scalar_input(3, DType::f32, 0), scalar_input(4, DType::f32, -std::numeric_limits<double>::infinity())},
      {{"center_point_box", n.integer("center_point_box", 0)}}, 2);
  n.set(keep_first(b, found[0], 0, size_of_count(b, found[1])));
}

constexpr OperatorEntry table[] = {
    {"", "Compress", 9, compress}, {"", "NonMaxSuppression", 10, non_max_suppression}, {"", "NonZero", 9, nonzero}, {"", "TopK", 1, top_k},
    {"", "Unique", 11, unique},
};

}  // namespace

std::span<const OperatorEntry> selection_operators() { return table; }

}  // namespace tilewright::onnx
