#pragma once

#include <span>
#include <string_view>

#include "base/error.h"
#include "graph/graph.h"
#include "pattern/build.h"
#include "pattern/pattern.h"

namespace tilewright {

/// What inference sees of a node: operand types, known contents, attributes.
class InferContext {
 public:
  InferContext(const Graph& graph, const Node& node) : graph_(graph), node_(node) {}

  const Node& node() const { return node_; }
  int input_count() const { return static_cast<int>(node_.inputs.size()); }
  bool has(int i) const;  ///< present and not omitted
  const Type& type(int i) const;
  const Dims& dims(int i) const { return type(i).dims; }
  DType dtype(int i) const { return type(i).dtype; }
  int rank(int i) const { return static_cast<int>(dims(i).size()); }
  std::shared_ptr<const Tensor> constant(int i) const;  ///< null when not constant
  std::optional<Dims> contents(int i) const;            ///< of a small integer constant too

  int64_t integer(std::string_view name) const;  ///< attribute; invalid_input when missing
  int64_t integer_or(std::string_view name, int64_t fallback) const;
  double real_or(std::string_view name, double fallback) const;
  std::string text_or(std::string_view name, const std::string& fallback) const;
  std::vector<int64_t> integers(std::string_view name) const;  ///< empty when missing
  Dims sizes(std::string_view name) const;                     ///< a Dims attribute (an integer list converts)
  DType dtype_attribute(std::string_view name) const;

  /// invalid_input: "<op> '<name>': <message>".
  template <class... A>
  [[noreturn]] void reject(fmt::format_string<A...> f, A&&... a) const {
    fail(ErrorKind::invalid_input, "{} '{}': {}", node_.op, node_.name, fmt::format(f, std::forward<A>(a)...));
  }
  template <class... A>
  void require(bool ok, fmt::format_string<A...> f, A&&... a) const {
    if (!ok) reject(f, std::forward<A>(a)...);
  }
  /// Both sizes must be equal. Constants that differ are rejected now; what is unknown is checked at run time.
  void require_equal(const Dim& a, const Dim& b, std::string_view what) const;
  /// Sizes of one axis that broadcast: equal, or one of them is 1; checked at run time where it is unknown.
  void require_broadcast(const Dim& a, const Dim& b, std::string_view what) const;
  struct Check {
    Dim lhs, rhs;
    std::string message;
  };
  const std::vector<Check>& checks() const { return checks_; }

 private:
  const Graph& graph_;
  const Node& node_;
  mutable std::vector<Check> checks_;
};

/// numpy broadcasting. 1 gives way; a constant wins over a run-time size, two different run-time sizes give the larger; checked at run time.
Dims broadcast_dims(const InferContext&, const Dims& a, const Dims& b);

/// What lowering sees and writes to: tensors of the pattern program for each operand and result.
struct Lowering {
  pattern::Program& program;
  const Graph& graph;
  const Node& node;
  std::vector<pattern::TensorId> inputs;  ///< -1 where omitted
  std::vector<pattern::TensorId> outputs;

  InferContext context() const { return {graph, node}; }  ///< for attributes and types
  bool has(int i) const { return i < static_cast<int>(inputs.size()) && inputs[static_cast<size_t>(i)] >= 0; }
  pattern::TensorId in(int i) const { return inputs.at(static_cast<size_t>(i)); }
  pattern::TensorId out(int i = 0) const { return outputs.at(static_cast<size_t>(i)); }
  const Type& in_type(int i) const { return program.tensor(in(i)).type; }
  const Type& out_type(int i = 0) const { return program.tensor(out(i)).type; }
  pattern::TensorId temporary(Type type, std::string_view suffix);
  /// Finishes the nest under the node's name and appends it.
  void emit(pattern::NestBuilder& nest);
  void emit(pattern::Pattern pattern);
};

/// A core operator, in one place: what it is called, what its results look like, what it means.
struct OpDef {
  std::string_view name;
  int min_inputs;
  int max_inputs;  ///< -1: any number
  std::vector<Type> (*infer)(const InferContext&);
  void (*lower)(Lowering&);
};

/// All core operators, sorted by name: the concatenation of each file's table (src/op/registry.cpp lists the files).
const OpDef& find_op(std::string_view name);  ///< internal error when unknown
std::span<const OpDef* const> all_ops();

/// The pattern program of a graph: every node lowered in order; value i of the graph is a tensor of the same name.
pattern::Program lower(const Graph&);

/// graph verify() plus: every node re-inferred agrees with the types it carries. Throws ErrorKind::internal.
void verify_types(const Graph&);

}  // namespace tilewright
