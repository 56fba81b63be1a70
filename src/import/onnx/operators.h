#pragma once

#include <span>

#include "import/onnx/importer.h"

namespace tilewright::onnx {

/// The import function of an operator; null when there is none for this domain and name at this version.
const OperatorEntry* find_operator(std::string_view domain, std::string_view name, int64_t opset);

// One table a file, each sorted by name.
std::span<const OperatorEntry> activation_operators();
std::span<const OperatorEntry> attention_operators();
std::span<const OperatorEntry> cast_operators();
std::span<const OperatorEntry> contraction_operators();
std::span<const OperatorEntry> control_flow_operators();
std::span<const OperatorEntry> convolution_operators();
std::span<const OperatorEntry> elementwise_operators();
std::span<const OperatorEntry> index_operators();
std::span<const OperatorEntry> loss_operators();
std::span<const OperatorEntry> microsoft_operators();
std::span<const OperatorEntry> ml_operators();
std::span<const OperatorEntry> movement_operators();
std::span<const OperatorEntry> normalization_operators();
std::span<const OperatorEntry> optional_operators();
std::span<const OperatorEntry> pooling_operators();
std::span<const OperatorEntry> qlinear_operators();
std::span<const OperatorEntry> quantize_operators();
std::span<const OperatorEntry> random_operators();
std::span<const OperatorEntry> recurrent_operators();
std::span<const OperatorEntry> reduction_operators();
std::span<const OperatorEntry> resize_operators();
std::span<const OperatorEntry> selection_operators();
std::span<const OperatorEntry> sequence_operators();
std::span<const OperatorEntry> shape_operators();
std::span<const OperatorEntry> signal_operators();
std::span<const OperatorEntry> training_operators();
std::span<const OperatorEntry> vision_operators();

}  // namespace tilewright::onnx
