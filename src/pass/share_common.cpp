#include "pass/share_common.h"

#include <map>

#include "base/hash.h"
#include "pass/editor.h"

namespace tilewright {
namespace {

std::string text_of(const Attribute& attribute) {
  struct Printer {
    std::string operator()(int64_t v) const { return "i" + std::to_string(v); }
    std::string operator()(double v) const { return fmt::format("r{:a}", v); }
    std::string operator()(const std::string& v) const { return "s" + std::to_string(v.size()) + ":" + v; }
    std::string operator()(const std::vector<int64_t>& v) const { return fmt::format("I{}", fmt::join(v, ",")); }
    std::string operator()(const std::vector<double>& v) const {
      std::string text = "R";
      for (const double one : v) text += fmt::format("{:a},", one);
      return text;
    }
    std::string operator()(const std::vector<std::string>& v) const {
      std::string text = "S";
      for (const std::string& one : v) text += std::to_string(one.size()) + ":" + one;
      return text;
    }
    std::string operator()(const Dims& v) const { return "D" + str(v); }
    std::string operator()(DType v) const { return "T" + std::string(name(v)); }
  };
  return std::visit(Printer{}, attribute);
}

}  // namespace

void share_common(Graph& graph) {
  Editor editor(graph);
  std::map<std::string, size_t> seen;        // node text → node
  std::map<std::string, ValueId> constants;  // content → value
  for (size_t id = 0; id < graph.values.size(); ++id) {
    const auto& constant = graph.values[id].constant;
    if (!constant || constant->byte_size() > (1u << 20)) continue;
    std::string key = str(graph.values[id].type) + sha256(constant->data(), constant->byte_size());
    const auto [first, added] = constants.emplace(std::move(key), static_cast<ValueId>(id));
    if (!added && editor.producer(static_cast<ValueId>(id)) == nullptr) editor.replace(static_cast<ValueId>(id), first->second);
  }
  for (size_t i = 0; i < editor.node_count(); ++i) {
    const Node& node = graph.nodes[i];
    if (node.outputs.empty() || !node.subgraphs.empty()) continue;
    std::string key = node.op;
    for (const ValueId id : node.inputs) key += ' ' + std::to_string(editor.resolve(id));
    for (const auto& [attribute, value] : node.attributes) key += ' ' + attribute + '=' + text_of(value);
    const auto [first, added] = seen.emplace(std::move(key), i);
    if (added) continue;
    const Node& same = graph.nodes[first->second];
    bool agree = same.outputs.size() == node.outputs.size();
    for (size_t k = 0; agree && k < node.outputs.size(); ++k) agree = graph.type(same.outputs[k]) == graph.type(node.outputs[k]);
    for (size_t k = 0; agree && k < node.outputs.size(); ++k) editor.replace(node.outputs[k], same.outputs[k]);
  }
  editor.finish();
  for (Node& node : graph.nodes)
    for (auto& body : node.subgraphs) share_common(*body);
}

}  // namespace tilewright
