#include <array>

#include "base/error.h"
#include "import/onnx/tensor_reader.h"

namespace tilewright::onnx {
namespace {

struct DataType {
  std::string_view name;
  std::optional<DType> dtype;
};

// The index is ONNX's number.
constexpr std::array<DataType, 27> data_types = {{
    {"UNDEFINED", {}},
    {"FLOAT", DType::f32},
    {"UINT8", DType::u8},
    {"INT8", DType::i8},
    {"UINT16", DType::u16},
    {"INT16", DType::i16},
    {"INT32", DType::i32},
    {"INT64", DType::i64},
    {"STRING", {}},
    {"BOOL", DType::boolean},
    {"FLOAT16", DType::f16},
    {"DOUBLE", DType::f64},
    {"UINT32", DType::u32},
    {"UINT64", DType::u64},
    {"COMPLEX64", {}},
    {"COMPLEX128", {}},
    {"BFLOAT16", DType::bf16},
    {"FLOAT8E4M3FN", DType::f8e4m3fn},
    {"FLOAT8E4M3FNUZ", DType::f8e4m3fnuz},
    {"FLOAT8E5M2", DType::f8e5m2},
    {"FLOAT8E5M2FNUZ", DType::f8e5m2fnuz},
    {"UINT4", DType::u4},
    {"INT4", DType::i4},
    {"FLOAT4E2M1", DType::f4e2m1},
    {"FLOAT8E8M0", DType::f8e8m0},
    {"UINT2", DType::u2},
    {"INT2", DType::i2},
}};

const DataType* find(int32_t number) {
  if (number < 0 || static_cast<size_t>(number) >= data_types.size()) return nullptr;
  return &data_types[static_cast<size_t>(number)];
}

}  // namespace

std::optional<DType> dtype_of(int32_t onnx_data_type) {
  const DataType* type = find(onnx_data_type);
  return type ? type->dtype : std::nullopt;
}

std::string data_type_name(int32_t onnx_data_type) {
  const DataType* type = find(onnx_data_type);
  return type ? std::string(type->name) : fmt::format("data type {}", onnx_data_type);
}

DType checked_dtype(int32_t onnx_data_type, std::string_view what) {
  if (const std::optional<DType> dtype = dtype_of(onnx_data_type)) return *dtype;
  if (onnx_data_type == 0 || !find(onnx_data_type)) {
    fail(ErrorKind::invalid_input, "{}: {} is no element type of ONNX", what, data_type_name(onnx_data_type));
  }
  fail(ErrorKind::unsupported, "{}: elements of type {} are not supported", what, data_type_name(onnx_data_type));
}

}  // namespace tilewright::onnx
