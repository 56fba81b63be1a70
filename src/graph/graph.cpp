#include "graph/graph.h"

#include <algorithm>
#include <set>

#include "base/error.h"

namespace tilewright {

std::string str(const Type& type) { return std::string(name(type.dtype)) + str(type.dims); }

void replace_uses(Graph& graph, ValueId from, ValueId to) {
  for (Node& node : graph.nodes) std::replace(node.inputs.begin(), node.inputs.end(), from, to);
  std::replace(graph.outputs.begin(), graph.outputs.end(), from, to);
}

namespace {

void collect(const Dims& dims, std::set<std::string>& symbols) {
  for (const Dim& dim : dims) dim.collect_symbols(symbols);
}

/// Named sizes that a node's attributes and bodies mention, beside those of its results' types.
void collect(const Node& node, std::set<std::string>& symbols);

void collect(const Graph& graph, std::set<std::string>& symbols) {
  for (const Value& value : graph.values) collect(value.type.dims, symbols);
  for (const Node& node : graph.nodes) collect(node, symbols);
}

void collect(const Node& node, std::set<std::string>& symbols) {
  for (const auto& [attribute, value] : node.attributes)
    if (const Dims* dims = std::get_if<Dims>(&value)) collect(*dims, symbols);
  for (const auto& body : node.subgraphs) collect(*body, symbols);
}

std::vector<std::string> bound_symbols(const Node& node) {
  for (const char* attribute : {"symbols", "bound_symbols"})
    if (const auto found = node.attributes.find(attribute); found != node.attributes.end()) return std::get<std::vector<std::string>>(found->second);
  return {};
}

}  // namespace

void compact(Graph& graph) {
  std::vector<char> used(graph.values.size(), 0);
  std::set<std::string> symbols;
  const auto use = [&](ValueId id) {
    if (id == no_value || used[static_cast<size_t>(id)]) return;
    used[static_cast<size_t>(id)] = 1;
    collect(graph.type(id).dims, symbols);
  };
  for (const ValueId id : graph.outputs) use(id);
  for (const ValueId id : graph.inputs) use(id);
  std::vector<char> kept(graph.nodes.size(), 0);
  for (size_t i = graph.nodes.size(); i-- > 0;) {
    const Node& node = graph.nodes[i];
    bool needed = node.op == "require";
    for (const ValueId id : node.outputs) needed |= used[static_cast<size_t>(id)] != 0;
    for (const std::string& symbol : bound_symbols(node)) needed |= symbols.count(symbol) > 0;
    if (!needed) continue;
    kept[i] = 1;
    for (const ValueId id : node.inputs) use(id);
    for (const ValueId id : node.outputs) use(id);
    collect(node, symbols);
  }
  std::vector<Node> nodes;
  for (size_t i = 0; i < graph.nodes.size(); ++i)
    if (kept[i]) nodes.push_back(std::move(graph.nodes[i]));
  graph.nodes = std::move(nodes);

  std::vector<ValueId> renumbered(graph.values.size(), no_value);
  std::vector<Value> values;
  for (size_t id = 0; id < graph.values.size(); ++id) {
    if (!used[id]) continue;
    renumbered[id] = static_cast<ValueId>(values.size());
    values.push_back(std::move(graph.values[id]));
  }
  graph.values = std::move(values);
  const auto renumber = [&](std::vector<ValueId>& ids) {
    for (ValueId& id : ids)
      if (id != no_value) id = renumbered[static_cast<size_t>(id)];
  };
  renumber(graph.inputs);
  renumber(graph.outputs);
  for (Node& node : graph.nodes) {
    renumber(node.inputs);
    renumber(node.outputs);
  }
}

void verify(const Graph& graph) {
  const int count = static_cast<int>(graph.values.size());
  std::set<std::string> names;
  for (const Value& value : graph.values)
    if (!names.insert(value.name).second) fail(ErrorKind::internal, "graph '{}': two values are called '{}'", graph.name, value.name);
  std::vector<char> defined(graph.values.size(), 0);
  const auto define = [&](ValueId id, const std::string& by) {
    if (id < 0 || id >= count) fail(ErrorKind::internal, "{}: value {} does not exist", by, id);
    if (defined[static_cast<size_t>(id)]) fail(ErrorKind::internal, "{}: '{}' is defined twice", by, graph.value(id).name);
    defined[static_cast<size_t>(id)] = 1;
  };
  for (const ValueId id : graph.inputs) define(id, "graph input");
  std::vector<char> made(graph.values.size(), 0);
  for (const Node& node : graph.nodes)
    for (const ValueId id : node.outputs)
      if (id >= 0 && id < count) made[static_cast<size_t>(id)] = 1;
  const auto available = [&](ValueId id) {
    return id >= 0 && id < count && (defined[static_cast<size_t>(id)] || (graph.value(id).constant && !made[static_cast<size_t>(id)]));
  };
  for (const Node& node : graph.nodes) {
    const std::string who = node.op + " '" + node.name + "'";
    for (const ValueId id : node.inputs)
      if (id != no_value && !available(id))
        fail(ErrorKind::internal, "{}: operand {} is used before it is defined", who, id >= 0 && id < count ? graph.value(id).name : std::to_string(id));
    for (const ValueId id : node.outputs) define(id, who);
    for (const auto& body : node.subgraphs) {
      if (!body) fail(ErrorKind::internal, "{}: a body is missing", who);
      verify(*body);
    }
  }
  for (const ValueId id : graph.outputs)
    if (!available(id)) fail(ErrorKind::internal, "graph '{}': output {} is not defined", graph.name, id);
  for (const Value& value : graph.values) {
    if (!value.constant) continue;
    bool agrees = value.constant->dtype() == value.type.dtype && value.constant->rank() == value.type.dims.size();
    for (size_t axis = 0; agrees && axis < value.type.dims.size(); ++axis) agrees = value.type.dims[axis] == Dim(value.constant->dims()[axis]);
    if (!agrees) fail(ErrorKind::internal, "constant '{}' is not {}", value.name, str(value.type));
  }
}

std::string joined_sources(const std::string& first, const std::string& second) {
  std::string joined = first;
  for (size_t from = 0; from < second.size();) {
    const size_t comma = std::min(second.find(", ", from), second.size());
    const std::string name = second.substr(from, comma - from);
    if ((", " + joined + ", ").find(", " + name + ", ") == std::string::npos) joined += (joined.empty() ? "" : ", ") + name;
    from = comma + 2;
  }
  return joined;
}

}  // namespace tilewright
