#pragma once

#include <functional>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace tilewright {

/// A product with weights: `rows` results in each of `columns`, of `terms` terms, from `operand` elements beside the weights, of which a convolution reads
/// some in several of its windows. 0 where only a run knows.
struct ProductSize {
  int64_t rows = 0, columns = 0, terms = 0, operand = 0;
  bool windows = false;
};
/// What a target takes for a product, in a unit of its own.
using ProductCost = std::function<double(const ProductSize& size)>;

/// What merge_products did with products of one operand.
struct MergeReport {
  struct Group {
    std::string sources;
    std::string refusal;  ///< empty: they are one product
  };
  std::vector<Group> groups;
};

/// f₁(x·w₁), f₂(x·w₂), … = slices of f(x·[w₁ w₂ …]) for constants w: products of one operand, convolutions of equal windows or matmuls, become one where
/// `cost` says that this takes less time than each for itself. f is what follows in each of them alike, element by element, with constants that vary
/// along the columns; a factor behind reshapes and transposes joins it, with 1 for those that have none. Every result is the sum that it was.
///
/// Slices are read where they lie: by products, through reshapes and transposes, and by what joins another product's results. Where something
/// else reads one, it would be copied, and the product stays alone.
///
/// After share_common, which makes equal operands one, and apply_precision, which gives operands their dtypes. `report` may be null.
void merge_products(Graph& graph, const ProductCost& cost, MergeReport* report);

}  // namespace tilewright
