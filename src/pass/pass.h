#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "pass/merge_products.h"
#include "pass/precision.h"

namespace tilewright {

/// A graph rewrite: one sentence of what it does, and the function. Every pass keeps the graph's inputs, outputs and meaning.
struct GraphPass {
  std::string_view name;
  std::string_view summary;
  std::function<void(Graph&)> run;
};

/// What passes ask of a target, and whom they tell what they did. Reports, where there are any, must outlive the passes.
struct PassOptions {
  Precision precision = {};
  ProductCost product_cost = {};  ///< empty: products are merged wherever they can be
  PrecisionReport* precision_report = nullptr;
  MergeReport* merge_report = nullptr;
};

/// All graph passes in the order they run; the order's reasons stand in each pass' header.
std::vector<GraphPass> graph_passes(const PassOptions& options = {});

}  // namespace tilewright
