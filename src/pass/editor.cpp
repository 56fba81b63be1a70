#include "pass/editor.h"

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
  // Producers before users; among the ready ones the old order, new nodes right where they are first needed.
  std::vector<int> producer(graph_.values.size(), -1);
  for (size_t i = 0; i < graph_.nodes.size(); ++i)
    for (const ValueId id : graph_.nodes[i].outputs) producer[static_cast<size_t>(id)] = static_cast<int>(i);
  std::vector<char> state(graph_.nodes.size(), 0);
  std::vector<Node> sorted;
  sorted.reserve(graph_.nodes.size());
  std::vector<std::pair<int, size_t>> stack;
  for (size_t start = 0; start < graph_.nodes.size(); ++start) {
    if (state[start] != 0) continue;
    stack.push_back({static_cast<int>(start), 0});
    state[start] = 1;
    while (!stack.empty()) {
      auto& [index, next] = stack.back();
      Node& node = graph_.nodes[static_cast<size_t>(index)];
      if (next == node.inputs.size()) {
        state[static_cast<size_t>(index)] = 2;
        sorted.push_back(std::move(node));
        stack.pop_back();
        continue;
      }
      const ValueId input = node.inputs[next++];
      const int before = input == no_value ? -1 : producer[static_cast<size_t>(input)];
      if (before < 0 || state[static_cast<size_t>(before)] == 2) continue;
      ensure(state[static_cast<size_t>(before)] == 0, "a rewrite made the graph cyclic");
      state[static_cast<size_t>(before)] = 1;
      stack.push_back({before, 0});
    }
  }
  graph_.nodes = std::move(sorted);
  compact(graph_);
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
