#pragma once

#include <filesystem>

#include "base/tensor.h"

namespace tilewright::onnx {

/// Reads a file that holds one serialised TensorProto (the ONNX backend data's `input_0.pb`). Throws invalid_input for broken
/// files, unsupported for sequences, optionals, strings and complex numbers.
Tensor read_tensor_file(const std::filesystem::path& path);

}  // namespace tilewright::onnx
