#pragma once

#include <optional>
#include <vector>

#include "graph/graph.h"
#include "op/builder.h"

namespace tilewright {

/// Edits a graph in place: new nodes are appended through the builder, old results are declared replaced, and `finish` puts everything
/// back in order. Rules look at operands through `resolve`, so that one walk sees the effect of what it did before.
class Editor {
 public:
  explicit Editor(Graph& graph);

  Graph& graph() { return graph_; }
  Builder& builder() { return builder_; }

  /// The value that stands for `id` now.
  ValueId resolve(ValueId id) const;
  /// The node that makes `id` (after resolve); null for inputs and constants. Valid until the next node is added.
  const Node* producer(ValueId id) const;
  /// How many operands and graph outputs mention the value, counting what was replaced by it.
  int uses(ValueId id) const { return uses_.at(static_cast<size_t>(resolve(id))); }
  const Tensor* constant(ValueId id) const { return id == no_value ? nullptr : graph_.value(resolve(id)).constant.get(); }

  /// From now on `to` stands for `from`. Types must agree.
  void replace(ValueId from, ValueId to);
  bool changed() const { return changed_; }

  /// Number of nodes that were there at the start; rules walk over these by index (references move when nodes are added).
  size_t node_count() const { return original_nodes_; }

  /// Applies the replacements, sorts nodes into topological order, drops what nobody uses.
  void finish();

 private:
  void index_new_nodes() const;
  /// By node: those that make its operands, bind the sizes it mentions, or check what it needs.
  std::vector<std::vector<int>> dependencies() const;
  /// Every node behind its dependencies; among the ready ones the old order, new nodes right where they are first needed.
  void sort();

  Graph& graph_;
  Builder builder_;
  size_t original_nodes_;
  bool changed_ = false;
  mutable std::vector<ValueId> stands_for_;
  mutable std::vector<int> producer_;  ///< node index by value, -1 for none
  mutable std::vector<int> uses_;
  mutable size_t indexed_ = 0;
};

/// Applies `rule` to every node, then to the bodies of control flow. The rule gives replacements for the node's outputs, or nothing.
using Rule = std::optional<std::vector<ValueId>> (*)(Editor& editor, const Node& node);
void apply_rule(Graph& graph, Rule rule);

/// A copy that shares constants only; bodies of control flow are copied too.
Graph clone(const Graph& graph);

}  // namespace tilewright
