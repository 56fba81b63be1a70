#include "import/onnx/operands.h"
#include "import/onnx/operators.h"

namespace tilewright::onnx {
namespace {

int64_t axis_attribute(NodeImport& n, int64_t otherwise) { return n.axis(n.integer("axis", otherwise), n.rank(0)); }

void gather(NodeImport& n) { n.set(n.b.gather(n.in(0), as_i64(n.b, n.in(1)), static_cast<int>(axis_attribute(n, 0)))); }

void gather_elements(NodeImport& n) { n.set(n.b.one("gather_elements", {n.in(0), as_i64(n.b, n.in(1))}, {{"axis", axis_attribute(n, 0)}})); }

void gather_nd(NodeImport& n) { n.set(n.b.one("gather_nd", {n.in(0), as_i64(n.b, n.in(1))}, {{"batch_dims", n.integer("batch_dims", 0)}})); }

std::string combine_of(NodeImport& n) {
  const std::string reduction = n.text("reduction", "none");
  n.require(reduction == "none" || reduction == "add" || reduction == "mul" || reduction == "min" || reduction == "max", "reduction '{}' is not known",
            reduction);
  return reduction == "none" ? "assign" : reduction;
}

void scatter_elements(NodeImport& n) {
  n.set(n.b.one("scatter_elements", {n.in(0), as_i64(n.b, n.in(1)), n.in(2)}, {{"axis", axis_attribute(n, 0)}, {"combine", combine_of(n)}}));
}

void scatter_nd(NodeImport& n) { n.set(n.b.one("scatter_nd", {n.in(0), as_i64(n.b, n.in(1)), n.in(2)}, {{"combine", combine_of(n)}})); }

void one_hot(NodeImport& n) {
  Builder& b = n.b;
  const ValueId values = n.in(2);
  n.require(b.rank(values) == 1 && b.dims(values)[0] == Dim(2), "its values must be [off, on], not {}", str(b.type(values)));
  const int rank = n.rank(0) + 1;
  const int axis = n.axis(n.integer("axis", -1), rank);
  const Dims depths = b.sizes_of(as_i64(b, n.in(1)));
  n.require(depths.size() == 1, "its depth must be one number");
  const Dim& depth = depths[0];
  const ValueId index = b.unsqueeze(as_i64(b, n.in(0)), {axis});
  const ValueId from_end = b.add(index, b.reshape(b.sizes({depth}), {}));
  const ValueId chosen = b.where(b.less(index, b.scalar(DType::i64, 0)), from_end, index);
  Dims line(static_cast<size_t>(rank), Dim(1));
  line[static_cast<size_t>(axis)] = depth;
  const ValueId off = b.reshape(b.slice(values, 0, 0, 1), {});
  const ValueId on = b.reshape(b.slice(values, 0, 1, 1), {});
  n.set(b.where(b.equal(b.iota(DType::i64, line, axis), chosen), on, off));
}

/// Writes `update` into a cache along its sequence axis, each batch entry from its own position on.
void tensor_scatter(NodeImport& n) {
  Builder& b = n.b;
  const ValueId cache = n.in(0);
  const ValueId update = n.in(1);
  const int rank = b.rank(cache);
  const int axis = n.axis(n.integer("axis", -2), rank);
  const std::string mode = n.text("mode", "linear");
  n.require(mode == "linear" || mode == "circular", "mode '{}' is neither linear nor circular", mode);
  n.require(axis != 0, "axis 0 is the batch");
  const Dims dims = b.dims(update);
  n.require(static_cast<int>(dims.size()) == rank, "cache {} and update {} differ in rank", str(b.type(cache)), str(b.type(update)));
  Dims line(static_cast<size_t>(rank), Dim(1));
  line[static_cast<size_t>(axis)] = dims[static_cast<size_t>(axis)];
  ValueId position = b.iota(DType::i64, line, axis);
  if (n.has(2)) {
    Dims along_batch(static_cast<size_t>(rank), Dim(1));
    along_batch[0] = dims[0];
    position = b.add(position, b.reshape(as_i64(b, n.in(2)), along_batch));
  }
  if (mode == "circular") position = b.one("mod", {position, b.reshape(b.sizes({b.dims(cache)[static_cast<size_t>(axis)]}), {})});
  n.set(b.one("scatter_elements", {cache, b.broadcast(position, dims), update}, {{"axis", int64_t{axis}}, {"combine", std::string("assign")}}));
}

constexpr OperatorEntry table[] = {
    {"", "Gather", 1, gather},         {"", "GatherElements", 11, gather_elements}, {"", "GatherND", 11, gather_nd},
    {"", "OneHot", 9, one_hot},        {"", "Scatter", 9, scatter_elements},        {"", "ScatterElements", 11, scatter_elements},
    {"", "ScatterND", 11, scatter_nd}, {"", "TensorScatter", 24, tensor_scatter},
};

}  // namespace

std::span<const OperatorEntry> index_operators() { return table; }

}  // namespace tilewright::onnx
