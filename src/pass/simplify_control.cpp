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

/// The body's formal inputs from `first` on become constants where the node's operand is one.
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

bool reads(const Graph& body, ValueId id) {
  const auto holds = [&](const std::vector<ValueId>& ids) { return std::find(ids.begin(), ids.end(), id) != ids.end(); };
  return holds(body.outputs) || std::any_of(body.nodes.begin(), body.nodes.end(), [&](const Node& node) { return holds(node.inputs); });
}

/// Operands from the `first` on that no body reads go, and the formal inputs for them.
void drop_unread(Node& node, size_t first, size_t first_formal) {
  for (size_t i = node.inputs.size(); i-- > first;) {
    const size_t formal = first_formal + i - first;
    const auto is_read = [&](const auto& body) { return reads(*body, body->inputs[formal]); };
    if (std::any_of(node.subgraphs.begin(), node.subgraphs.end(), is_read)) continue;
    node.inputs.erase(node.inputs.begin() + static_cast<std::ptrdiff_t>(i));
    for (auto& body : node.subgraphs) body->inputs.erase(body->inputs.begin() + static_cast<std::ptrdiff_t>(formal));
  }
}

/// Operands of an if or loop that may go into its bodies: the first one's index, and its formal input's.
std::optional<std::pair<size_t, size_t>> passed_on(const Node& node) {
  if (node.op == "if") return std::pair<size_t, size_t>{1, 0};
  if (node.op != "loop") return std::nullopt;
  const size_t first = 2 + static_cast<size_t>(std::get<int64_t>(node.attributes.at("carried")));
  return std::pair{first, first};
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
    const auto first = passed_on(node);
    if (!first) continue;
    for (auto& body : node.subgraphs) {
      constants_into(graph, *body, node.inputs, first->first, first->second);
      simplify_control(*body);  // first, so that a branch which is taken brings no known condition along
    }
    drop_unread(node, first->first, first->second);
  }
  apply_rule(graph, take_branch);
}

}  // namespace tilewright
