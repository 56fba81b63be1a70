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

const std::vector<std::string>* texts(const Node& node, const char* attribute) {
  const auto found = node.attributes.find(attribute);
  return found == node.attributes.end() ? nullptr : std::get_if<std::vector<std::string>>(&found->second);
}

}  // namespace

std::vector<std::string> bound_symbols(const Node& node) {
  for (const char* attribute : {"symbols", "bound_symbols"})
    if (const auto* names = texts(node, attribute)) return *names;
  return {};
}

std::set<std::string> used_symbols(const Graph& graph, const Node& node) {
  std::set<std::string> symbols;
  collect(node, symbols);
  for (const ValueId id : node.outputs) collect(graph.type(id).dims, symbols);
  for (const std::string& own : bound_symbols(node)) symbols.erase(own);
  return symbols;
}

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

namespace {

void require_known(const Dims& dims, const std::set<std::string>& known, const std::string& who) {
  std::set<std::string> used;
  collect(dims, used);
  for (const std::string& symbol : used)
    if (!known.count(symbol)) fail(ErrorKind::internal, "{}: size {} is used before it is known", who, symbol);
}

/// Ids, names, order: `known` are the sizes that the graph around this one knows, and none for a whole model, whose inputs bring theirs.
class Verifier {
 public:
  Verifier(const Graph& graph, std::set<std::string> known) : graph_(graph), known_(std::move(known)), defined_(graph.values.size(), 0) {}

  void run() {
    std::set<std::string> names;
    for (const Value& value : graph_.values)
      if (!names.insert(value.name).second) fail(ErrorKind::internal, "graph '{}': two values are called '{}'", graph_.name, value.name);
    find_made();
    for (const ValueId id : graph_.inputs) define(id, "graph input");
    for (const Node& node : graph_.nodes) check(node);
    for (const ValueId id : graph_.outputs)
      if (!available(id)) fail(ErrorKind::internal, "graph '{}': output {} is not defined", graph_.name, id);
    for (const Value& value : graph_.values) check_constant(value);
  }

 private:
  bool exists(ValueId id) const { return id >= 0 && id < static_cast<int>(graph_.values.size()); }
  void find_made() {
    made_.assign(graph_.values.size(), 0);
    for (const Node& node : graph_.nodes)
      for (const ValueId id : node.outputs)
        if (exists(id)) made_[static_cast<size_t>(id)] = 1;
  }
  void define(ValueId id, const std::string& by) {
    if (!exists(id)) fail(ErrorKind::internal, "{}: value {} does not exist", by, id);
    if (defined_[static_cast<size_t>(id)]) fail(ErrorKind::internal, "{}: '{}' is defined twice", by, graph_.value(id).name);
    defined_[static_cast<size_t>(id)] = 1;
  }
  bool available(ValueId id) const {
    return exists(id) && (defined_[static_cast<size_t>(id)] || (graph_.value(id).constant && !made_[static_cast<size_t>(id)]));
  }

  void check(const Node& node) {
    const std::string who = node.op + " '" + node.name + "'";
    for (const ValueId id : node.inputs)
      if (id != no_value && !available(id))
        fail(ErrorKind::internal, "{}: operand {} is used before it is defined", who, exists(id) ? graph_.value(id).name : std::to_string(id));
    for (const auto& [attribute, value] : node.attributes)
      if (const Dims* dims = std::get_if<Dims>(&value)) require_known(*dims, known_, who);
    for (const auto& body : node.subgraphs) {
      if (!body) fail(ErrorKind::internal, "{}: a body is missing", who);
      std::set<std::string> inner = known_;
      if (const auto* names = texts(node, "body_bound_symbols")) inner.insert(names->begin(), names->end());
      Verifier(*body, std::move(inner)).run();
    }
    for (const std::string& symbol : bound_symbols(node)) known_.insert(symbol);
    for (const ValueId id : node.outputs) {
      define(id, who);
      require_known(graph_.type(id).dims, known_, who);
    }
  }

  static void check_constant(const Value& value) {
    if (!value.constant) return;
    bool agrees = value.constant->dtype() == value.type.dtype && value.constant->rank() == value.type.dims.size();
    for (size_t axis = 0; agrees && axis < value.type.dims.size(); ++axis) agrees = value.type.dims[axis] == Dim(value.constant->dims()[axis]);
    if (!agrees) fail(ErrorKind::internal, "constant '{}' is not {}", value.name, str(value.type));
  }

  const Graph& graph_;
  std::set<std::string> known_;
  std::vector<char> defined_, made_;
};

}  // namespace

void verify(const Graph& graph) {
  std::set<std::string> known;
  for (const ValueId id : graph.inputs)
    if (id >= 0 && id < static_cast<int>(graph.values.size())) collect(graph.type(id).dims, known);
  Verifier(graph, std::move(known)).run();
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
