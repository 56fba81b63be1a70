#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "pass/precision.h"

namespace tilewright {

/// A graph rewrite: one sentence of what it does, and the function. Every pass keeps the graph's inputs, outputs and meaning.
struct GraphPass {
  std::string_view name;
  std::string_view summary;
  std::function<void(Graph&)> run;
};

/// All graph passes in the order they run; the order's reasons stand in each pass' header. `report`, where there is one, must outlive them.
std::vector<GraphPass> graph_passes(const Precision& precision = {}, PrecisionReport* report = nullptr);

}  // namespace tilewright
