#include <algorithm>
#include <set>

#include "op/builder.h"

namespace tilewright {
namespace {

/// Symbols that a body binds itself: they mean nothing outside.
void collect_inner(const Graph& graph, std::set<std::string>& symbols) {
  for (const Node& node : graph.nodes) {
    for (const char* attribute : {"symbols", "bound_symbols", "body_bound_symbols"})
      if (const auto found = node.attributes.find(attribute); found != node.attributes.end()) {
        const auto& names = std::get<std::vector<std::string>>(found->second);
        symbols.insert(names.begin(), names.end());
      }
    for (const auto& body : node.subgraphs) collect_inner(*body, symbols);
  }
}

bool mentions(const Dim& dim, const std::set<std::string>& symbols) {
  std::set<std::string> used;
  dim.collect_symbols(used);
  return std::any_of(used.begin(), used.end(), [&](const std::string& symbol) { return symbols.count(symbol) > 0; });
}

/// Sizes of results that only running tells, as attributes.
struct Bound {
  std::vector<std::string> symbols;
  std::vector<int64_t> outputs, axes;

  void add(const Dim& symbol, size_t output, size_t axis) {
    symbols.push_back(*symbol.as_symbol());
    outputs.push_back(static_cast<int64_t>(output));
    axes.push_back(static_cast<int64_t>(axis));
  }
  void write(Attributes& attributes, const std::string& prefix) const {
    if (symbols.empty()) return;
    attributes[prefix + "_symbols"] = symbols;
    attributes[prefix + "_outputs"] = outputs;
    attributes[prefix + "_axes"] = axes;
  }
};

void require_bool(const Type& type, const char* what, const std::string& source) {
  if (type.dtype != DType::boolean) fail(ErrorKind::invalid_input, "{} '{}': the condition is {}; needs a bool", what, source, str(type));
}

}  // namespace

std::vector<ValueId> Builder::if_else(ValueId condition, std::shared_ptr<Graph> then_graph, std::shared_ptr<Graph> else_graph, std::vector<ValueId> inputs) {
  ensure(then_graph->outputs.size() == else_graph->outputs.size(), "both branches have the same results");
  require_bool(type(condition), "if", source_);
  std::set<std::string> inner;
  collect_inner(*then_graph, inner);
  collect_inner(*else_graph, inner);
  Bound bound;
  std::vector<Type> types;
  for (size_t i = 0; i < then_graph->outputs.size(); ++i) {
    Type type = then_graph->type(then_graph->outputs[i]);
    const Type& other = else_graph->type(else_graph->outputs[i]);
    if (type.dtype != other.dtype || type.dims.size() != other.dims.size())
      fail(ErrorKind::unsupported, "if '{}': result {} is {} in one branch and {} in the other; dtype and rank must agree", source_, i, str(type), str(other));
    for (size_t axis = 0; axis < type.dims.size(); ++axis) {
      if (type.dims[axis] == other.dims[axis] && !mentions(type.dims[axis], inner)) continue;
      type.dims[axis] = fresh_symbol("branch");
      bound.add(type.dims[axis], i, axis);
    }
    types.push_back(std::move(type));
  }
  Node node{"if", {condition}, {}, {}, {std::move(then_graph), std::move(else_graph)}, source_};
  node.inputs.insert(node.inputs.end(), inputs.begin(), inputs.end());
  bound.write(node.attributes, "bound");
  for (const Type& type : types) node.outputs.push_back(new_value(type, source_));
  graph_.nodes.push_back(node);
  return node.outputs;
}

std::vector<ValueId> Builder::loop(ValueId trip_count, ValueId condition, std::vector<ValueId> carried, std::vector<ValueId> invariants,
                                   const LoopBody& build_body) {
  if (trip_count != no_value) trip_count = reshape(cast(trip_count, DType::i64), {});
  if (condition != no_value) {
    require_bool(type(condition), "loop", source_);
    condition = reshape(condition, {});
  }
  std::vector<Type> carried_types;
  for (const ValueId id : carried) carried_types.push_back(type(id));
  std::shared_ptr<Graph> body;
  Bound body_bound;
  // Sizes that a round changes become symbols; then the body is built again, until nothing changes any more.
  for (bool settled = false; !settled;) {
    body = std::make_shared<Graph>();
    body->name = source_;
    Builder inside(*body, *this);
    const ValueId iteration = inside.input("iteration", {DType::i64, {}}), keep_going = inside.input("condition", {DType::boolean, {}});
    std::vector<ValueId> inner_carried, inner_invariants;
    for (size_t i = 0; i < carried.size(); ++i) inner_carried.push_back(inside.input("carried_" + std::to_string(i), carried_types[i]));
    for (size_t i = 0; i < invariants.size(); ++i) {
      inner_invariants.push_back(inside.input("invariant_" + std::to_string(i), type(invariants[i])));
      body->value(inner_invariants.back()).contents = contents(invariants[i]);
    }
    const std::vector<ValueId> results = build_body(inside, iteration, keep_going, inner_carried, inner_invariants);
    ensure(results.size() >= 1 + carried.size(), "a loop's body gives a condition and every carried value");
    require_bool(inside.type(results[0]), "loop", source_);
    for (size_t i = 0; i < results.size(); ++i) inside.output(i == 0 ? inside.reshape(results[i], {}) : results[i], "result_" + std::to_string(i));
    std::set<std::string> inner;
    collect_inner(*body, inner);
    settled = true;
    for (size_t i = 0; i < carried.size(); ++i) {
      Type& before = carried_types[i];
      const Type& after = body->type(body->outputs[1 + i]);
      if (before.dtype != after.dtype || before.dims.size() != after.dims.size())
        fail(ErrorKind::unsupported, "loop '{}': carried value {} starts as {} and becomes {}; dtype and rank must stay", source_, i, str(before), str(after));
      for (size_t axis = 0; axis < before.dims.size(); ++axis) {
        if (before.dims[axis] == after.dims[axis]) continue;
        const auto symbol = before.dims[axis].as_symbol();
        if (symbol && std::find(body_bound.symbols.begin(), body_bound.symbols.end(), *symbol) != body_bound.symbols.end()) continue;
        before.dims[axis] = fresh_symbol("carried");
        body_bound.add(before.dims[axis], i, axis);
        settled = false;
      }
    }
  }
  std::set<std::string> inner(body_bound.symbols.begin(), body_bound.symbols.end());
  collect_inner(*body, inner);

  Node node{"loop", {trip_count, condition}, {}, {{"carried", static_cast<int64_t>(carried.size())}}, {body}, source_};
  node.inputs.insert(node.inputs.end(), carried.begin(), carried.end());
  node.inputs.insert(node.inputs.end(), invariants.begin(), invariants.end());
  // The number of rounds is known when the count is and the condition is true throughout.
  const auto always = [&](const Graph& graph, ValueId id) { return graph.value(id).constant && graph.value(id).constant->int_at(0) != 0; };
  const auto passes_through = [&] {
    ValueId id = body->outputs[0];
    for (size_t i = body->nodes.size(); i-- > 0;)  // through the reshape to a scalar
      if (!body->nodes[i].outputs.empty() && body->nodes[i].outputs[0] == id && body->nodes[i].op == "reshape") id = body->nodes[i].inputs[0];
    return always(*body, id) || id == body->inputs[1];
  };
  std::optional<Dim> rounds;
  if (trip_count != no_value && (condition == no_value || always(graph_, condition)) && passes_through())
    if (const auto known = contents(trip_count)) rounds = known->at(0).is_constant() ? Dim(std::max<int64_t>(known->at(0).constant(), 0)) : known->at(0);
  if (rounds) node.attributes["trip_size"] = Dims{*rounds};
  Bound bound;
  for (size_t i = 0; i + 1 < body->outputs.size(); ++i) {
    Type type = body->type(body->outputs[1 + i]);
    if (i < carried.size()) type = carried_types[i];
    for (size_t axis = 0; axis < type.dims.size(); ++axis)
      if (mentions(type.dims[axis], inner)) {
        type.dims[axis] = fresh_symbol("final");
        bound.add(type.dims[axis], i, i < carried.size() ? axis : axis + 1);
      }
    if (i >= carried.size()) {
      if (!rounds) bound.add(fresh_symbol("rounds"), i, 0);
      type.dims.insert(type.dims.begin(), rounds ? *rounds : Dim::symbol(bound.symbols.back()));
    }
    node.outputs.push_back(new_value(type, source_));
  }
  body_bound.write(node.attributes, "body_bound");
  bound.write(node.attributes, "bound");
  graph_.nodes.push_back(node);
  return node.outputs;
}

}  // namespace tilewright
