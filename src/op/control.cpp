#include "op/tables.h"

namespace tilewright {
namespace {

using pattern::BoundSymbol;

std::vector<std::string> texts(const Node& node, const std::string& name) {
  const auto found = node.attributes.find(name);
  return found == node.attributes.end() ? std::vector<std::string>{} : std::get<std::vector<std::string>>(found->second);
}

std::vector<BoundSymbol> bound_symbols(const InferContext& c, const std::string& prefix) {
  const auto symbols = texts(c.node(), prefix + "_symbols");
  const auto outputs = c.integers(prefix + "_outputs"), axes = c.integers(prefix + "_axes");
  ensure(outputs.size() == symbols.size() && axes.size() == symbols.size(), "bound sizes name a symbol, an output and an axis each");
  std::vector<BoundSymbol> bound;
  for (size_t i = 0; i < symbols.size(); ++i) bound.push_back({symbols[i], static_cast<int>(outputs[i]), static_cast<int>(axes[i])});
  return bound;
}

/// The type with the dims that `bound` names for result `index` replaced.
Type with_bound(Type type, int index, const std::vector<BoundSymbol>& bound) {
  for (const BoundSymbol& one : bound)
    if (one.output == index) type.dims.at(static_cast<size_t>(one.axis)) = Dim::symbol(one.symbol);
  return type;
}

std::vector<Type> infer_bind(const InferContext& c) {
  c.require(c.dtype(0) == DType::i64 && c.rank(0) <= 1, "sizes come from {}; needs i64 [n]", str(c.type(0)));
  c.require_equal(product(c.dims(0)), static_cast<int64_t>(texts(c.node(), "symbols").size()), "number of sizes");
  return {};
}

void lower_bind(Lowering& l) { l.emit(pattern::Bind{l.node.name, l.in(0), texts(l.node, "symbols")}); }

std::vector<Type> infer_require(const InferContext&) { return {}; }

void lower_require(Lowering& l) {
  const InferContext c = l.context();
  l.emit(pattern::Require{l.node.name, c.sizes("lhs").at(0), c.sizes("rhs").at(0), c.text_or("message", "")});
}

std::vector<Type> infer_if(const InferContext& c) {
  c.require(c.dtype(0) == DType::boolean && product(c.dims(0)) == Dim(1), "condition is {}; needs one bool", str(c.type(0)));
  ensure(c.node().subgraphs.size() == 2, "an if has two bodies");
  const Graph& body = *c.node().subgraphs[0];
  const auto bound = bound_symbols(c, "bound");
  std::vector<Type> types;
  for (size_t i = 0; i < body.outputs.size(); ++i) types.push_back(with_bound(body.type(body.outputs[i]), static_cast<int>(i), bound));
  return types;
}

void lower_if(Lowering& l) {
  pattern::If branch;
  branch.source = l.node.name;
  branch.condition = l.in(0);
  branch.inputs.assign(l.inputs.begin() + 1, l.inputs.end());
  branch.outputs = l.outputs;
  branch.bound = bound_symbols(l.context(), "bound");
  branch.then_program = std::make_shared<pattern::Program>(lower(*l.node.subgraphs[0]));
  branch.else_program = std::make_shared<pattern::Program>(lower(*l.node.subgraphs[1]));
  l.emit(std::move(branch));
}

std::vector<Type> infer_loop(const InferContext& c) {
  ensure(c.node().subgraphs.size() == 1, "a loop has one body");
  const Graph& body = *c.node().subgraphs[0];
  const size_t carried = static_cast<size_t>(c.integer("carried"));
  const auto bound = bound_symbols(c, "bound");
  const auto known = c.node().attributes.find("trip_size");
  std::vector<Type> types;
  for (size_t i = 0; i + 1 < body.outputs.size(); ++i) {
    Type type = body.type(body.outputs[i + 1]);
    if (i >= carried) type.dims.insert(type.dims.begin(), known == c.node().attributes.end() ? Dim(0) : std::get<Dims>(known->second).at(0));
    types.push_back(with_bound(std::move(type), static_cast<int>(i), bound));
  }
  return types;
}

void lower_loop(Lowering& l) {
  const InferContext c = l.context();
  const auto carried = static_cast<std::ptrdiff_t>(c.integer("carried"));
  pattern::Loop loop;
  loop.source = l.node.name;
  loop.trip_count = l.inputs.at(0);
  loop.condition = l.inputs.at(1);
  loop.carried.assign(l.inputs.begin() + 2, l.inputs.begin() + 2 + carried);
  loop.invariants.assign(l.inputs.begin() + 2 + carried, l.inputs.end());
  loop.outputs = l.outputs;
  loop.bound = bound_symbols(c, "bound");
  loop.body_bound = bound_symbols(c, "body_bound");
  loop.body = std::make_shared<pattern::Program>(lower(*l.node.subgraphs[0]));
  l.emit(std::move(loop));
}

constexpr OpDef ops[] = {
    {"bind", 1, 1, infer_bind, lower_bind},
    {"if", 1, -1, infer_if, lower_if},
    {"loop", 2, -1, infer_loop, lower_loop},
    {"require", 0, 0, infer_require, lower_require},
};

}  // namespace

std::span<const OpDef> control_ops() { return ops; }

}  // namespace tilewright
