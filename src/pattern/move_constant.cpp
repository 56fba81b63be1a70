#include <cstring>
#include <numeric>

#include "pattern/interpret.h"
#include "pattern/interpreter.h"

namespace tilewright::pattern {
namespace {

template <class T>
void copy_elements(void* to, const int64_t* to_address, const void* from, const int64_t* from_address, const uint8_t* valid, size_t count) {
  for (size_t p = 0; p < count; ++p)
    if (valid == nullptr || valid[p]) static_cast<T*>(to)[to_address[p]] = static_cast<const T*>(from)[from_address[p]];
}

void copy_elements(size_t size, void* to, const int64_t* to_address, const void* from, const int64_t* from_address, const uint8_t* valid, size_t count) {
  switch (size) {
    case 1: return copy_elements<uint8_t>(to, to_address, from, from_address, valid, count);
    case 2: return copy_elements<uint16_t>(to, to_address, from, from_address, valid, count);
    case 4: return copy_elements<uint32_t>(to, to_address, from, from_address, valid, count);
    default: return copy_elements<uint64_t>(to, to_address, from, from_address, valid, count);
  }
}

}  // namespace

std::optional<Tensor> move_constant(const Program& program) {
  if (program.patterns.size() != 1 || program.outputs.size() != 1) return std::nullopt;
  const auto* nest = std::get_if<Nest>(&program.patterns[0]);
  if (!nest || nest->reduced_rank > 0 || nest->outputs.size() != 1 || nest->outputs[0].tensor != program.outputs[0]) return std::nullopt;
  const Store& store = nest->outputs[0];
  const ExprNode& value = nest->nodes.at(static_cast<size_t>(store.value));
  if (value.op != ExprOp::load) return std::nullopt;
  const Access& access = nest->accesses.at(static_cast<size_t>(value.integer));
  const std::shared_ptr<const Tensor>& constant = program.tensor(access.tensor).constant;
  if (!constant || access.fill || !access.indirect.empty() || access.map.may_be_invalid()) return std::nullopt;

  const std::vector<int64_t> extents = evaluate(nest->space, {});
  Tensor result(value.dtype, evaluate(program.tensor(store.tensor).type.dims, {}));
  Addressing from(access.map, {}, extents, constant->dims()), to(store.map, {}, extents, result.dims());
  void* bytes = result.mutable_data();
  Points points(extents.size());
  std::vector<size_t> axes(extents.size());
  std::iota(axes.begin(), axes.end(), size_t{0});
  std::vector<const int64_t*> columns;
  for (const std::vector<int64_t>& column : points.coordinates) columns.push_back(column.data());
  const int64_t all = element_count(extents);
  for (int64_t first = 0; first < all; first += Points::capacity) {
    points.enumerate(extents, axes, first, std::min(Points::capacity, all - first));
    const auto count = static_cast<size_t>(points.count);
    from.compute(columns, count, nullptr, nest->source);
    to.compute(columns, count, nullptr, nest->source);
    copy_elements(size_of(value.dtype), bytes, to.addresses(), constant->data(), from.addresses(), to.validity(), count);
  }
  return result;
}

}  // namespace tilewright::pattern
