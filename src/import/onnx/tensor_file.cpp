#include "import/onnx/tensor_file.h"

#include "base/error.h"
#include "base/file.h"
#include "import/onnx/tensor_reader.h"

namespace tilewright::onnx {

Tensor read_tensor_file(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  const auto proto = std::make_shared<TensorProto>();
  if (!proto->ParseFromString(bytes)) fail(ErrorKind::invalid_input, "'{}' does not hold a tensor in ONNX form", path.string());
  const ImportLimits limits;
  return TensorReader(proto, ExternalData({}), limits).read(*proto, path.filename().string());
}

}  // namespace tilewright::onnx
