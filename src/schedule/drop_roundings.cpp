#include <algorithm>

#include "schedule/fuse.h"
#include "schedule/linear.h"
#include "schedule/rewrite.h"
#include "schedule/uses.h"

namespace tilewright::schedule {
namespace {

using pattern::Pattern;

size_t at(int i) { return static_cast<size_t>(i); }

bool is_half(DType dtype) { return dtype == DType::bf16 || dtype == DType::f16; }

/// A Map that does nothing but round 32-bit floats to 16 bits.
struct Rounding {
  TensorId from = -1, to = -1;
  Map map;  ///< coordinates of `to` → coordinates of `from`
};

std::optional<Rounding> as_rounding(const Pattern& pattern, const Program& program) {
  const auto* nest = std::get_if<Nest>(&pattern);
  if (!nest || !nest->reductions.empty() || nest->reduced_rank > 0 || nest->outputs.size() != 1) return std::nullopt;
  const pattern::Store& store = nest->outputs[0];
  const ExprNode& cast = nest->nodes[at(store.value)];
  if (cast.op != ExprOp::cast || !is_half(cast.dtype)) return std::nullopt;
  const ExprNode& load = nest->nodes[at(cast.args[0])];
  if (load.op != ExprOp::load || load.dtype != DType::f32) return std::nullopt;
  const Access& access = nest->accesses[at(static_cast<int>(load.integer))];
  if (access.fill || !access.indirect.empty()) return std::nullopt;
  const Dims& dims = program.tensor(store.tensor).type.dims;
  std::optional<Map> back = store.map.inverted();
  if (is_identity(store.map, dims)) back = store.map;
  if (!back || extents_of(*back) != dims) return std::nullopt;
  return Rounding{access.tensor, store.tensor, compose(*back, access.map)};
}

/// The product with `rounding`'s operand read as it was before; nullopt where that is no product's factor, or its address would not be even any more.
std::optional<Nest> without(const Nest& nest, const Rounding& rounding) {
  if (pattern::classify(nest) != pattern::NestKind::contract) return std::nullopt;
  NestWriter writer(nest.space, nest.reduced_rank);
  writer.nest.source = nest.source;
  std::vector<ExprId> copied;
  for (ExprNode node : nest.nodes) {
    bool reads_rounded = false;
    for (ExprId& arg : node.args) {
      reads_rounded |= nest.nodes[at(arg)].dtype != writer.node(copied[at(arg)]).dtype;
      arg = copied[at(arg)];
    }
    if (reads_rounded && (node.op != ExprOp::cast || node.dtype != DType::f32)) return std::nullopt;
    if (reads_rounded) {
      copied.push_back(node.args[0]);
      continue;
    }
    if (node.op != ExprOp::load) {
      copied.push_back(writer.add(std::move(node)));
      continue;
    }
    Access access = nest.accesses[at(static_cast<int>(node.integer))];
    for (ExprId& id : access.indirect) id = copied[at(id)];
    if (access.tensor != rounding.to) {
      if (access.fill) access.fill = copied[at(*access.fill)];
      copied.push_back(writer.load(std::move(access), node.dtype));
      continue;
    }
    if (!access.indirect.empty()) return std::nullopt;
    if (access.fill) {
      const ExprNode& fill = nest.nodes[at(*access.fill)];
      if (fill.op != ExprOp::constant || fill.real != 0) return std::nullopt;
      access.fill = writer.constant(DType::f32, 0, 0);
    }
    Map map = compose(access.map, rounding.map);
    if (is_affine(access.map) && !is_affine(map)) return std::nullopt;
    access.tensor = rounding.from;
    access.map = std::move(map);
    copied.push_back(writer.load(std::move(access), DType::f32));
  }
  writer.nest.reductions = nest.reductions;
  for (pattern::Reduction& reduction : writer.nest.reductions) reduction.value = copied[at(reduction.value)];
  writer.nest.outputs = nest.outputs;
  for (pattern::Store& store : writer.nest.outputs) store.value = copied[at(store.value)];
  return compacted(writer.nest);
}

/// Whether the product multiplies the rounded bfloats by weights of bfloats, and `stay` keeps such roundings.
bool stays_rounded(const Nest& product, const Rounding& rounding, const Program& program, BfloatsStay stay) {
  if (stay == BfloatsStay::none || program.tensor(rounding.to).type.dtype != DType::bf16) return false;
  const bool weights = std::any_of(product.accesses.begin(), product.accesses.end(), [&](const Access& access) {
    const pattern::TensorInfo& info = program.tensor(access.tensor);
    return info.constant != nullptr && info.type.dtype == DType::bf16;  // what epilogues read is float32
  });
  Dim terms = 1, elements = 1;
  for (size_t d = product.space.size() - static_cast<size_t>(product.reduced_rank); d < product.space.size(); ++d) terms *= product.space[d];
  for (const Dim& dim : program.tensor(rounding.to).type.dims) elements *= dim;
  return weights && (stay == BfloatsStay::all || !(elements == terms));
}

}  // namespace

void drop_roundings(Program& program, BfloatsStay stay) {
  for (size_t i = 0; i < program.patterns.size(); ++i) {
    const std::optional<Rounding> rounding = as_rounding(program.patterns[i], program);
    if (!rounding) continue;
    const Uses uses(program);
    if (uses.is_result(rounding->to) || uses.writers_of(rounding->to).size() != 1) continue;
    std::vector<std::pair<int, Nest>> readers;
    for (const int reader : uses.readers_of(rounding->to))
      if (const auto* nest = std::get_if<Nest>(&program.patterns[at(reader)]))
        if (std::optional<Nest> product = without(*nest, *rounding)) readers.emplace_back(reader, std::move(*product));
    if (readers.size() != uses.readers_of(rounding->to).size()) continue;
    if (std::any_of(readers.begin(), readers.end(), [&](const auto& reader) { return stays_rounded(reader.second, *rounding, program, stay); })) continue;
    for (auto& [reader, product] : readers) program.patterns[at(reader)] = std::move(product);
  }
  remove_dead(program);
}

}  // namespace tilewright::schedule
