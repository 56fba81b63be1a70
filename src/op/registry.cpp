#include <algorithm>
#include <vector>

#include "op/tables.h"

namespace tilewright {

std::span<const OpDef* const> all_ops() {
  static const std::vector<const OpDef*> ops = [] {
    std::vector<const OpDef*> all;
    for (const auto table :
         {contraction_ops(), control_ops(), convolution_ops(), cumulate_ops(), deform_conv_ops(), determinant_ops(), dft_ops(), einsum_ops(), elementwise_ops(),
          gather_ops(), grid_sample_ops(), movement_ops(), pooling_ops(), reduction_ops(), resize_ops(), roi_align_ops(), scatter_ops(), select_ops()})
      for (const OpDef& op : table) all.push_back(&op);
    std::sort(all.begin(), all.end(), [](const OpDef* a, const OpDef* b) { return a->name < b->name; });
    for (size_t i = 1; i < all.size(); ++i)
      if (all[i - 1]->name == all[i]->name) fail(ErrorKind::internal, "operator '{}' is defined twice", all[i]->name);
    return all;
  }();
  return ops;
}

const OpDef& find_op(std::string_view name) {
  const auto ops = all_ops();
  const auto found = std::lower_bound(ops.begin(), ops.end(), name, [](const OpDef* op, std::string_view wanted) { return op->name < wanted; });
  if (found == ops.end() || (*found)->name != name) fail(ErrorKind::internal, "there is no core operator '{}'", name);
  return **found;
}

}  // namespace tilewright
