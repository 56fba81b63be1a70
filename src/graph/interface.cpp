#include "graph/interface.h"

#include "base/error.h"

namespace tilewright {

bool agree(const Type& one, const Type& other) {
  bool agrees = one.dtype == other.dtype && one.dims.size() == other.dims.size();
  for (size_t axis = 0; agrees && axis < one.dims.size(); ++axis)
    agrees = one.dims[axis] == other.dims[axis] || !one.dims[axis].is_constant() || !other.dims[axis].is_constant();
  return agrees;
}

std::vector<Type> interface_of(const Graph& graph) {
  std::vector<Type> types;
  for (const auto* ids : {&graph.inputs, &graph.outputs})
    for (const ValueId id : *ids) types.push_back(graph.type(id));
  return types;
}

void verify_interface(const Graph& graph, const std::vector<Type>& was) {
  const std::vector<Type> now = interface_of(graph);
  if (now.size() != was.size()) fail(ErrorKind::internal, "the graph has {} inputs and outputs instead of {}", now.size(), was.size());
  const size_t inputs = graph.inputs.size();
  for (size_t i = 0; i < now.size(); ++i)
    if (!agree(now[i], was[i]))
      fail(ErrorKind::internal, "{} '{}' of the graph became {}, was {}", i < inputs ? "input" : "output",
           graph.value(i < inputs ? graph.inputs[i] : graph.outputs[i - inputs]).name, str(now[i]), str(was[i]));
}

}  // namespace tilewright
