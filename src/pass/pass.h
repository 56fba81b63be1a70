#pragma once

#include <span>
#include <string_view>

#include "graph/graph.h"

namespace tilewright {

/// A graph rewrite: one sentence of what it does, and the function. Every pass keeps the graph's inputs, outputs and meaning.
struct GraphPass {
  std::string_view name;
  std::string_view summary;
  void (*run)(Graph&);
};

/// All graph passes in the order they run; the order's reasons stand in each pass' header.
std::span<const GraphPass> graph_passes();

}  // namespace tilewright
