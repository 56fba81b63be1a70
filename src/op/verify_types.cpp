#include "graph/interface.h"
#include "op/op.h"

namespace tilewright {
namespace {

void check_types(const Graph& graph) {
  for (const Node& node : graph.nodes) {
    std::vector<Type> types;
    try {
      types = find_op(node.op).infer(InferContext(graph, node));
    } catch (const Error& problem) {
      fail(ErrorKind::internal, "{} '{}' does not infer any more: {}", node.op, node.name, problem.what());
    }
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      const Type& carried = graph.type(node.outputs[i]);
      if (i >= types.size() || !agree(types[i], carried))
        fail(ErrorKind::internal, "{} '{}': result {} carries {}, inference says {}", node.op, node.name, i, str(carried),
             i < types.size() ? str(types[i]) : "nothing");
    }
    for (const auto& body : node.subgraphs) check_types(*body);
  }
}

}  // namespace

void verify_types(const Graph& graph) {
  verify(graph);
  check_types(graph);
}

}  // namespace tilewright
