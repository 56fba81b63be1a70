#include "op/tables.h"

namespace tilewright {
namespace {

using pattern::Select;

const Type count_type{DType::i64, {}};

std::vector<Type> infer_nonzero(const InferContext& c) { return {{DType::i64, {Dim(c.rank(0)), product(c.dims(0))}}, count_type}; }

std::vector<Type> infer_top_k(const InferContext& c) {
  const int64_t axis = c.integer("axis");
  c.require(axis >= 0 && axis < c.rank(0), "axis {} is outside of {}", axis, str(c.dims(0)));
  const Dim k = c.sizes("k").at(0), size = c.dims(0)[static_cast<size_t>(axis)];
  c.require(!k.is_constant() || !size.is_constant() || (k.constant() >= 0 && k.constant() <= size.constant()), "k is {}; axis {} of {} has fewer elements",
            k.str(), axis, str(c.dims(0)));
  Dims dims = c.dims(0);
  dims[static_cast<size_t>(axis)] = k;
  return {{c.dtype(0), dims}, {DType::i64, dims}};
}

std::vector<Type> infer_unique(const InferContext& c) {
  const bool flat = !c.node().attributes.count("axis");
  const int64_t axis = c.integer_or("axis", 0);
  c.require(flat || (axis >= 0 && axis < c.rank(0)), "axis {} is outside of {}", axis, str(c.dims(0)));
  const Dim bound = flat ? product(c.dims(0)) : c.dims(0)[static_cast<size_t>(axis)];
  const Type positions{DType::i64, {bound}};
  return {{c.dtype(0), flat ? Dims{bound} : c.dims(0)}, positions, positions, positions, count_type};
}

std::vector<Type> infer_compress(const InferContext& c) {
  c.require(c.dtype(0) == DType::boolean && c.rank(0) == 1, "operand is {}; needs bool [n]", str(c.type(0)));
  return {{DType::i64, c.dims(0)}, count_type};
}

std::vector<Type> infer_suppression(const InferContext& c) {
  c.require(c.rank(0) == 3 && c.rank(1) == 3 && c.dtype(0) == DType::f32 && c.dtype(1) == DType::f32,
            "boxes are {}, scores {}; needs f32 [b,n,4] and f32 [b,c,n]", str(c.type(0)), str(c.type(1)));
  c.require_equal(c.dims(0)[2], 4, "coordinates of a box");
  c.require_equal(c.dims(0)[0], c.dims(1)[0], "batches of boxes and scores");
  c.require_equal(c.dims(0)[1], c.dims(1)[2], "boxes and scores");
  return {{DType::i64, {product(c.dims(1)), Dim(3)}}, count_type};
}

template <Select::Kind kind>
void lower_select(Lowering& l) {
  const InferContext c = l.context();
  Select select;
  select.kind = kind;
  select.source = l.node.name;
  select.inputs = l.inputs;
  select.outputs = l.outputs;
  if constexpr (kind != Select::Kind::top_k) {
    select.count = select.outputs.back();
    select.outputs.pop_back();
  }
  if constexpr (kind == Select::Kind::top_k) select.ints = {c.integer("axis"), c.integer_or("largest", 1), c.integer_or("sorted", 1)};
  if constexpr (kind == Select::Kind::unique) select.ints = {c.integer_or("axis", -1000), c.integer_or("sorted", 1)};
  if constexpr (kind == Select::Kind::nms) select.ints = {c.integer_or("center_point_box", 0)};
  l.emit(std::move(select));
}

constexpr OpDef ops[] = {
    {"compress_positions", 1, 1, infer_compress, lower_select<Select::Kind::compress>},
    {"non_max_suppression", 5, 5, infer_suppression, lower_select<Select::Kind::nms>},
    {"nonzero", 1, 1, infer_nonzero, lower_select<Select::Kind::nonzero>},
    {"top_k", 1, 1, infer_top_k, lower_select<Select::Kind::top_k>},
    {"unique", 1, 1, infer_unique, lower_select<Select::Kind::unique>},
};

}  // namespace

std::span<const OpDef> select_ops() { return ops; }

}  // namespace tilewright
