#include "import/onnx/graph_order.h"

#include <unordered_set>

#include "base/error.h"

namespace tilewright::onnx {
namespace {

using Nodes = google::protobuf::RepeatedPtrField<NodeProto>;

template <class Visit>
void each_subgraph(const NodeProto& node, const Visit& visit) {
  for (const AttributeProto& attribute : node.attribute()) {
    if (attribute.has_g()) visit(attribute.g());
    for (const GraphProto& graph : attribute.graphs()) visit(graph);
  }
}

/// A depth-first walk with its own stack: chains of a million nodes must not overflow ours.
class Order {
 public:
  Order(const Nodes& nodes, FreeNames& free_names) : nodes_(nodes), free_names_(free_names), state_(static_cast<size_t>(nodes.size())) {
    for (int i = 0; i < nodes.size(); ++i) {
      for (const std::string& output : nodes[i].output()) {
        if (output.empty()) continue;
        const auto [known, added] = producer_.emplace(output, i);
        // Graphs saved by optimisers may define a Constant again; the one that ONNX Runtime takes, the last, counts. All else is broken.
        const bool constants = nodes[i].op_type() == "Constant" && nodes[known->second].op_type() == "Constant";
        if (!added && constants)
          known->second = i;
        else if (!added)
          fail(ErrorKind::invalid_input, "value '{}' is defined twice", output);
      }
    }
  }

  void add(int node) {
    push(node);
    while (!stack_.empty()) {
      Visit& top = stack_.back();
      if (top.next == top.needs.size()) {
        state_[static_cast<size_t>(top.node)] = State::done;
        order_.push_back(top.node);
        stack_.pop_back();
      } else {
        push(top.needs[top.next++]);
      }
    }
  }

  void add(const std::string& value) {
    if (const auto found = producer_.find(value); found != producer_.end()) add(found->second);
  }

  const std::vector<int>& order() const { return order_; }

 private:
  enum class State { untouched, open, done };
  struct Visit {
    int node;
    std::vector<int> needs;
    size_t next = 0;
  };

  void push(int node) {
    State& state = state_[static_cast<size_t>(node)];
    if (state == State::done) return;
    if (state == State::open) {
      const NodeProto& n = nodes_[node];
      fail(ErrorKind::invalid_input, "{} '{}' needs its own result: the graph has a cycle", n.op_type(), n.name().empty() ? n.output(0) : n.name());
    }
    state = State::open;
    Visit visit{node, {}};
    const auto need = [&](const std::string& value) {
      if (const auto found = producer_.find(value); found != producer_.end()) visit.needs.push_back(found->second);
    };
    for (const std::string& input : nodes_[node].input()) need(input);
    for (const std::string& value : free_names_.of(nodes_[node])) need(value);
    stack_.push_back(std::move(visit));
  }

  const Nodes& nodes_;
  FreeNames& free_names_;
  std::unordered_map<std::string, int> producer_;
  std::vector<State> state_;
  std::vector<Visit> stack_;
  std::vector<int> order_;
};

}  // namespace

const std::vector<std::string>& FreeNames::of(const GraphProto& graph) {
  if (const auto found = known_.find(&graph); found != known_.end()) return found->second;
  std::unordered_set<std::string> defined{""};
  for (const ValueInfoProto& input : graph.input()) defined.insert(input.name());
  for (const TensorProto& tensor : graph.initializer()) defined.insert(tensor.name());
  for (const SparseTensorProto& tensor : graph.sparse_initializer()) defined.insert(tensor.values().name());
  for (const NodeProto& node : graph.node()) defined.insert(node.output().begin(), node.output().end());
  std::vector<std::string> names;
  const auto mention = [&](const std::string& name) {
    if (defined.insert(name).second) names.push_back(name);
  };
  for (const NodeProto& node : graph.node()) {
    for (const std::string& input : node.input()) mention(input);
    for (const std::string& name : of(node)) mention(name);
  }
  for (const ValueInfoProto& output : graph.output()) mention(output.name());
  return known_.emplace(&graph, std::move(names)).first->second;
}

std::vector<std::string> FreeNames::of(const NodeProto& node) {
  std::vector<std::string> names;
  std::unordered_set<std::string> seen;
  each_subgraph(node, [&](const GraphProto& graph) {
    for (const std::string& name : of(graph)) {
      if (seen.insert(name).second) names.push_back(name);
    }
  });
  return names;
}

std::vector<int> import_order(const Nodes& nodes, const std::vector<std::string>& wanted, FreeNames& free_names) {
  Order whole(nodes, free_names);
  for (int i = 0; i < nodes.size(); ++i) whole.add(i);
  // The order of all nodes finds cycles anywhere; of it, keep what is wanted.
  Order live(nodes, free_names);
  for (const std::string& value : wanted) live.add(value);
  std::vector<bool> needed(static_cast<size_t>(nodes.size()));
  for (const int node : live.order()) needed[static_cast<size_t>(node)] = true;
  std::vector<int> order;
  for (const int node : whole.order()) {
    if (needed[static_cast<size_t>(node)]) order.push_back(node);
  }
  return order;
}

}  // namespace tilewright::onnx
