#include "import/onnx/operators.h"

#include <algorithm>
#include <array>

namespace tilewright::onnx {

const OperatorEntry* find_operator(std::string_view domain, std::string_view name, int64_t opset) {
  const std::array tables = {
      activation_operators(),  attention_operators(), cast_operators(),      contraction_operators(), control_flow_operators(),  convolution_operators(),
      elementwise_operators(), index_operators(),     loss_operators(),      movement_operators(),    normalization_operators(), pooling_operators(),
      quantize_operators(),    random_operators(),    recurrent_operators(), reduction_operators(),   resize_operators(),        selection_operators(),
      sequence_operators(),    shape_operators(),     signal_operators(),    vision_operators(),      microsoft_operators(),     ml_operators(),
      optional_operators(),    qlinear_operators(),   training_operators(),
  };
  for (const std::span<const OperatorEntry> table : tables) {
    const auto found =
        std::lower_bound(table.begin(), table.end(), name, [](const OperatorEntry& entry, std::string_view wanted) { return entry.name < wanted; });
    for (auto entry = found; entry != table.end() && entry->name == name; ++entry) {
      if (entry->domain == domain && entry->since <= opset) return &*entry;
    }
  }
  return nullptr;
}

}  // namespace tilewright::onnx
