#include "op/op.h"

namespace tilewright {

pattern::Program lower(const Graph& graph) {
  pattern::Program program;
  program.name = graph.name;
  for (const Value& value : graph.values) program.add_tensor(value.type, value.name, value.constant);
  program.inputs = graph.inputs;
  program.outputs = graph.outputs;
  for (const Node& node : graph.nodes) {
    Lowering lowering{program, graph, node, node.inputs, node.outputs};
    try {
      find_op(node.op).lower(lowering);
    } catch (const Error& problem) {
      if (problem.kind() != ErrorKind::internal) throw;
      fail(ErrorKind::internal, "lowering {} '{}': {}", node.op, node.name, problem.what());
    }
  }
  return program;
}

}  // namespace tilewright
