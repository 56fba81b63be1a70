#pragma once

#include <optional>

#include "import/onnx/importer.h"

namespace tilewright::onnx {

/// The convolution that the node's attributes describe; `bias` may be no_value. `result` is the dtype of the result and of the accumulation
/// when it is not that of x (integer convolutions).
ValueId convolve(NodeImport& n, ValueId x, ValueId weights, ValueId bias, std::optional<DType> result = std::nullopt);

}  // namespace tilewright::onnx
