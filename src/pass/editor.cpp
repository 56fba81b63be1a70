#include "pass/editor.h"

#include <map>
#include <set>

#include "base/error.h"

namespace tilewright {

Editor::Editor(Graph& graph) : graph_(graph), builder_(graph), original_nodes_(graph.nodes.size()) {
  index_new_nodes();
  for (const ValueId id : graph_.outputs) ++uses_[static_cast<size_t>(id)];
}

void Editor::index_new_nodes() const {
  const size_t count = graph_.values.size();
  for (size_t id = stands_for_.size(); id < count; ++id) stands_for_.push_back(static_cast<ValueId>(id));
  producer_.resize(count, -1);
  uses_.resize(count, 0);
  for (; indexed_ < graph_.nodes.size(); ++indexed_) {
    const Node& node = graph_.nodes[indexed_];
    for (const ValueId id : node.outputs) producer_[static_cast<size_t>(id)] = static_cast<int>(indexed_);
    for (const ValueId id : node.inputs)
      if (id != no_value) ++uses_[static_cast<size_t>(resolve(id))];
  }
}

ValueId Editor::resolve(ValueId id) const {
  if (id == no_value) return id;
  if (static_cast<size_t>(id) >= stands_for_.size()) index_new_nodes();
  ValueId root = id;
  while (stands_for_[static_cast<size_t>(root)] != root) root = stands_for_[static_cast<size_t>(root)];
  while (stands_for_[static_cast<size_t>(id)] != root) {
    const ValueId next = stands_for_[static_cast<size_t>(id)];
    stands_for_[static_cast<size_t>(id)] = root;
    id = next;
  }
  return root;
}

const Node* Editor::producer(ValueId id) const {
  if (id == no_value) return nullptr;
  index_new_nodes();
  const int node = producer_[static_cast<size_t>(resolve(id))];
  return node < 0 ? nullptr : &graph_.nodes[static_cast<size_t>(node)];
}

void Editor::replace(ValueId from, ValueId to) {
  index_new_nodes();
  from = resolve(from), to = resolve(to);
  if (from == to) return;
  ensure(graph_.type(from) == graph_.type(to), "a replacement has the type of what it replaces");
  stands_for_[static_cast<size_t>(from)] = to;
  uses_[static_cast<size_t>(to)] += uses_[static_cast<size_t>(from)];
  changed_ = true;
}

void Editor::finish() {
  index_new_nodes();
  if (graph_.nodes.size() == original_nodes_ && !changed_) {
    compact(graph_);
    return;
  }
  for (Node& node : graph_.nodes)
    for (ValueId& id : node.inputs) id = resolve(id);
  // A graph output keeps its name: a value of the graph's own that stands for it takes the name over; otherwise the output stays what it was.
  std::set<ValueId> taken(graph_.inputs.begin(), graph_.inputs.end());
  taken.insert(graph_.outputs.begin(), graph_.outputs.end());
  for (ValueId& id : graph_.outputs) {
    const ValueId root = resolve(id);
    if (root == id || graph_.value(root).constant || !taken.insert(root).second) continue;
    std::swap(graph_.value(root).name, graph_.value(id).name);
    id = root;
  }
  sort();
  compact(graph_);
}

std::vector<std::vector<int>> Editor::dependencies() const {
  const std::vector<Node>& nodes = graph_.nodes;
  std::vector<int> producer(graph_.values.size(), -1);
  std::map<std::string, int> binder;
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (const ValueId id : nodes[i].outputs) producer[static_cast<size_t>(id)] = static_cast<int>(i);
    for (const std::string& symbol : bound_symbols(nodes[i])) binder[symbol] = static_cast<int>(i);
  }
  std::vector<std::vector<int>> before(nodes.size());
  std::vector<int> checks;  // of the next new node
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (const ValueId id : nodes[i].inputs)
      if (id != no_value && producer[static_cast<size_t>(id)] >= 0) before[i].push_back(producer[static_cast<size_t>(id)]);
    if (!binder.empty())
      for (const std::string& symbol : used_symbols(graph_, nodes[i]))
        if (const auto found = binder.find(symbol); found != binder.end()) before[i].push_back(found->second);
    if (i < original_nodes_) continue;
    if (nodes[i].op == "require") {
      checks.push_back(static_cast<int>(i));
    } else {
      before[i].insert(before[i].end(), checks.begin(), checks.end());
      checks.clear();
    }
  }
  return before;
}

void Editor::sort() {
  const std::vector<std::vector<int>> before = dependencies();
  enum class State : char { untouched, waiting, done };
  std::vector<State> state(graph_.nodes.size(), State::untouched);
  std::vector<Node> sorted;
  sorted.reserve(graph_.nodes.size());
  std::vector<std::pair<size_t, size_t>> stack;  // node, how many of those before it were looked at
  for (size_t start = 0; start < graph_.nodes.size(); ++start) {
    if (state[start] != State::untouched) continue;
    stack.push_back({start, 0});
    state[start] = State::waiting;
    while (!stack.empty()) {
      auto& [index, next] = stack.back();
      if (next == before[index].size()) {
        state[index] = State::done;
        sorted.push_back(std::move(graph_.nodes[index]));
        stack.pop_back();
        continue;
      }
      const size_t other = static_cast<size_t>(before[index][next++]);
      if (state[other] == State::done) continue;
      ensure(state[other] == State::untouched, "a rewrite made the graph cyclic");
      state[other] = State::waiting;
      stack.push_back({other, 0});
    }
  }
  graph_.nodes = std::move(sorted);
}

void apply_rule(Graph& graph, Rule rule) {
  Editor editor(graph);
  for (size_t i = 0; i < editor.node_count(); ++i) {
    Node node = graph.nodes[i];  // a copy: adding nodes moves the originals
    for (ValueId& id : node.inputs) id = editor.resolve(id);
    editor.builder().set_source(node.name);
    if (const auto results = rule(editor, node)) {
      ensure(results->size() == node.outputs.size(), "a rule gives one value for each output");
      for (size_t k = 0; k < results->size(); ++k) editor.replace(node.outputs[k], (*results)[k]);
    }
  }
  editor.finish();
  for (Node& node : graph.nodes)
    for (auto& body : node.subgraphs) apply_rule(*body, rule);
}

Graph clone(const Graph& graph) {
  Graph copy = graph;
  for (Node& node : copy.nodes)
    for (auto& body : node.subgraphs) body = std::make_shared<Graph>(clone(*body));
  return copy;
}

}  // namespace tilewright
