#pragma once

#include <vector>

#include "graph/graph.h"

namespace tilewright {

/// Whether values of one type may stand for the other's: equal sizes may be written differently, different constants may not.
bool agree(const Type& one, const Type& other);

/// Types of the graph's inputs, then of its outputs: what it promises to those who call it.
std::vector<Type> interface_of(const Graph& graph);

/// Every type of the graph's interface agrees with what it was. Throws ErrorKind::internal.
void verify_interface(const Graph& graph, const std::vector<Type>& was);

}  // namespace tilewright
