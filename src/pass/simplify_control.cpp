#include "pass/simplify_control.h"

#include <algorithm>

#include "pass/editor.h"

namespace tilewright {
namespace {

std::string unused_name(const Graph& graph, const std::string& wanted) {
  std::string name = wanted;
  const auto taken = [&](const Value& value) { return value.name == name; };
  for (int i = 1; std::any_of(graph.values.begin(), graph.values.end(), taken); ++i) name = wanted + "." + std::to_string(i);
  return name;
}

/// The body's formal inputs from `first` on become constants where the node's operand is one. The formal input stays, unused.
void constants_into(Graph& graph, Graph& body, const std::vector<ValueId>& operands, size_t first_operand, size_t first_formal) {
  for (size_t i = first_operand; i < operands.size(); ++i) {
    const auto constant = graph.value(operands[i]).constant;
    const ValueId formal = body.inputs[first_formal + i - first_operand];
    if (!constant || body.type(formal) != graph.type(operands[i])) continue;
    Value copy = body.value(formal);
    copy.name = unused_name(body, copy.name + "_value");
    copy.constant = constant;
    body.values.push_back(copy);
    replace_uses(body, formal, static_cast<ValueId>(body.values.size()) - 1);
  }
}

std::optional<std::vector<ValueId>> take_branch(Editor& editor, const Node& node) {
  if (node.op != "if") return std::nullopt;
  const Tensor* condition = editor.constant(node.inputs[0]);
  if (condition == nullptr) return std::nullopt;
  const Graph& body = *node.subgraphs[condition->int_at(0) != 0 ? 0 : 1];
  for (size_t i = 0; i < node.outputs.size(); ++i)  // sizes that only running the branch tells stay with the `if`
    if (editor.graph().type(node.outputs[i]) != body.type(body.outputs[i])) return std::nullopt;
  std::vector<ValueId> here(body.values.size(), no_value);
  for (size_t i = 0; i < body.inputs.size(); ++i) here[static_cast<size_t>(body.inputs[i])] = node.inputs[i + 1];
  const auto bring = [&](ValueId id) {
    ValueId& mapped = here[static_cast<size_t>(id)];
    if (mapped == no_value) {
      Value copy = body.value(id);
      copy.name = node.name + "/" + copy.name + "#" + std::to_string(editor.graph().values.size());
      editor.graph().values.push_back(std::move(copy));
      mapped = static_cast<ValueId>(editor.graph().values.size()) - 1;
    }
    return mapped;
  };
  for (const Node& inner : body.nodes) {
    Node copy = inner;
    for (ValueId& id : copy.inputs)
      if (id != no_value) id = bring(id);
    for (ValueId& id : copy.outputs) id = bring(id);
    editor.graph().nodes.push_back(std::move(copy));
  }
  std::vector<ValueId> results;
  for (const ValueId id : body.outputs) results.push_back(bring(id));
  return results;
}

}  // namespace

void simplify_control(Graph& graph) {
  for (Node& node : graph.nodes) {
    if (node.op == "if")
      for (auto& body : node.subgraphs) constants_into(graph, *body, node.inputs, 1, 0);
    if (node.op == "loop") {
      const size_t carried = static_cast<size_t>(std::get<int64_t>(node.attributes.at("carried")));
      constants_into(graph, *node.subgraphs[0], node.inputs, 2 + carried, 2 + carried);
    }
  }
  for (Node& node : graph.nodes)  // first, so that a branch which is taken brings no known condition along
    for (auto& body : node.subgraphs) simplify_control(*body);
  apply_rule(graph, take_branch);
}

}  // namespace tilewright
