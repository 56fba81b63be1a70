#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/tensor.h"
#include "import/onnx/import.h"
#include "import/onnx/schema.pb.h"

namespace tilewright::onnx {

/// Reads files that a model names, from the model's folder and nowhere else. Offsets, lengths and links are checked.
class ExternalData {
 public:
  /// `folder` empty: every read is refused.
  explicit ExternalData(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// `length` bytes from `offset` of `location`. Throws invalid_input naming `what` when the location is absolute, has a `..`,
  /// leads out of the folder through a link, is no plain file, or does not hold that range; environment when reading fails.
  std::shared_ptr<const std::string> read(std::string_view location, int64_t offset, int64_t length, std::string_view what) const;

 private:
  std::filesystem::path folder_;
};

/// Turns stored tensors into host tensors. Bytes in host layout are shared with the model, which `owner` keeps alive.
class TensorReader {
 public:
  TensorReader(std::shared_ptr<const void> owner, ExternalData external, const ImportLimits& limits)
      : owner_(std::move(owner)), external_(std::move(external)), limits_(limits) {}

  /// Throws invalid_input when dims, dtype and stored bytes disagree or a limit is passed; unsupported for strings and complex
  /// numbers. `what` names the tensor in messages.
  Tensor read(const TensorProto& proto, std::string_view what);
  /// The dense form of a sparse tensor.
  Tensor read(const SparseTensorProto& proto, std::string_view what);

 private:
  void charge(const std::vector<int64_t>& dims, DType dtype, std::string_view what);

  std::shared_ptr<const void> owner_;
  ExternalData external_;
  ImportLimits limits_;
  int64_t total_bytes_ = 0;
};

/// The core dtype of an ONNX data type number; none for strings, complex numbers and unknown numbers.
std::optional<DType> dtype_of(int32_t onnx_data_type);
std::string data_type_name(int32_t onnx_data_type);  ///< "FLOAT16", for messages
/// dtype_of, or an error: invalid_input for numbers ONNX does not know, unsupported for strings and complex numbers.
DType checked_dtype(int32_t onnx_data_type, std::string_view what);

}  // namespace tilewright::onnx
