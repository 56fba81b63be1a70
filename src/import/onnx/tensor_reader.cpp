#include "import/onnx/tensor_reader.h"

#include <charconv>
#include <cstring>

#include "base/error.h"

namespace tilewright::onnx {
namespace {

/// Elements; invalid_input when negative or beyond 2^62.
int64_t checked_count(const std::vector<int64_t>& dims, std::string_view what) {
  int64_t count = 1;
  bool zero = false;
  for (const int64_t dim : dims) {
    if (dim < 0) fail(ErrorKind::invalid_input, "{}: negative dim {}", what, dim);
    if (dim == 0) {
      zero = true;
    } else if (__builtin_mul_overflow(count, dim, &count) || count > (int64_t{1} << 62)) {
      fail(ErrorKind::invalid_input, "{}: its dims multiply to more than 2^62 elements", what);
    }
  }
  return zero ? 0 : count;
}

/// Bytes that `count` elements take in a file, where types below 8 bits are packed from the low bits up.
int64_t file_bytes(DType dtype, int64_t count) {
  const int bits = bits_of(dtype);
  if (bits >= 8) return count * static_cast<int64_t>(size_of(dtype));
  const int64_t per_byte = 8 / bits;
  return (count + per_byte - 1) / per_byte;
}

uint8_t unpacked(DType dtype, uint8_t byte, int64_t position) {
  const int bits = bits_of(dtype);
  const int mask = (1 << bits) - 1;
  int value = (byte >> (static_cast<int>(position) * bits)) & mask;
  const bool negative = is_signed(dtype) && !is_float(dtype) && (value >> (bits - 1)) != 0;
  if (negative) value -= 1 << bits;
  return static_cast<uint8_t>(value);
}

Tensor unpack(DType dtype, std::vector<int64_t> dims, const void* packed) {
  Tensor result(dtype, std::move(dims));
  if (result.element_count() == 0) return result;
  const auto* from = static_cast<const uint8_t*>(packed);
  auto* to = static_cast<uint8_t*>(result.mutable_data());
  const int64_t per_byte = 8 / bits_of(dtype);
  for (int64_t i = 0; i < result.element_count(); ++i) to[i] = unpacked(dtype, from[i / per_byte], i % per_byte);
  return result;
}

/// A tensor over little-endian file bytes, shared when they lie aligned in host layout. `byte_count` was checked.
Tensor from_bytes(DType dtype, std::vector<int64_t> dims, const std::string& bytes, std::shared_ptr<const void> owner) {
  if (bits_of(dtype) < 8) return unpack(dtype, std::move(dims), bytes.data());
  const bool aligned = reinterpret_cast<uintptr_t>(bytes.data()) % size_of(dtype) == 0;
  // Bools are normalised: any non-zero byte is true, and kernels rely on 0 and 1.
  if (aligned && dtype != DType::boolean) return {dtype, std::move(dims), bytes.data(), std::move(owner)};
  Tensor result(dtype, std::move(dims));
  if (bytes.empty()) return result;
  std::memcpy(result.mutable_data(), bytes.data(), bytes.size());
  if (dtype == DType::boolean) {
    auto* elements = static_cast<uint8_t*>(result.mutable_data());
    for (int64_t i = 0; i < result.element_count(); ++i) elements[i] = elements[i] != 0;
  }
  return result;
}

void check_count(int64_t have, int64_t want, std::string_view field, std::string_view what) {
  if (have != want) fail(ErrorKind::invalid_input, "{}: {} has {} entries; its dims need {}", what, field, have, want);
}

/// Typed fields hold one element an entry, but types below 8 bits one packed byte an entry. Small floats are held as their bits.
Tensor from_int32(DType dtype, std::vector<int64_t> dims, const google::protobuf::RepeatedField<int32_t>& data, std::string_view what) {
  Tensor result(dtype, std::move(dims));
  const int64_t count = result.element_count();
  check_count(data.size(), bits_of(dtype) < 8 ? file_bytes(dtype, count) : count, "int32_data", what);
  if (count == 0) return result;
  void* out = result.mutable_data();
  const int64_t per_byte = bits_of(dtype) < 8 ? 8 / bits_of(dtype) : 1;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t entry = data.Get(static_cast<int>(i / per_byte));
    if (per_byte > 1) {
      static_cast<uint8_t*>(out)[i] = unpacked(dtype, static_cast<uint8_t>(entry), i % per_byte);
    } else if (is_float(dtype) && size_of(dtype) == 2) {
      static_cast<uint16_t*>(out)[i] = static_cast<uint16_t>(entry);
    } else if (is_float(dtype)) {
      static_cast<uint8_t*>(out)[i] = static_cast<uint8_t>(entry);
    } else {
      write_int(dtype, out, static_cast<size_t>(i), entry);
    }
  }
  return result;
}

template <class T>
Tensor from_field(DType dtype, std::vector<int64_t> dims, const google::protobuf::RepeatedField<T>& data, std::string_view field, std::string_view what) {
  Tensor result(dtype, std::move(dims));
  check_count(data.size(), result.element_count(), field, what);
  if (result.element_count() == 0) return result;
  void* out = result.mutable_data();
  if (size_of(dtype) == sizeof(T)) {
    std::memcpy(out, data.data(), result.byte_size());
  } else {
    for (int i = 0; i < data.size(); ++i) write_int(dtype, out, static_cast<size_t>(i), static_cast<int64_t>(data.Get(i)));
  }
  return result;
}

Tensor from_typed_field(DType dtype, std::vector<int64_t> dims, const TensorProto& proto, std::string_view what) {
  switch (dtype) {
    case DType::f32: return from_field(dtype, std::move(dims), proto.float_data(), "float_data", what);
    case DType::f64: return from_field(dtype, std::move(dims), proto.double_data(), "double_data", what);
    case DType::i64: return from_field(dtype, std::move(dims), proto.int64_data(), "int64_data", what);
    case DType::u64:
    case DType::u32: return from_field(dtype, std::move(dims), proto.uint64_data(), "uint64_data", what);
    default: return from_int32(dtype, std::move(dims), proto.int32_data(), what);
  }
}

int64_t parse_size(const std::string& text, std::string_view key, std::string_view what) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 0) {
    fail(ErrorKind::invalid_input, "{}: external data has {} '{}', which is no size", what, key, text);
  }
  return value;
}

}  // namespace

void TensorReader::charge(const std::vector<int64_t>& dims, DType dtype, std::string_view what) {
  const int64_t count = checked_count(dims, what);
  int64_t bytes = 0;
  if (__builtin_mul_overflow(count, static_cast<int64_t>(size_of(dtype)), &bytes) || bytes > limits_.tensor_bytes) {
    fail(ErrorKind::invalid_input, "{}: {} elements of {} are more than the limit of {} bytes a tensor", what, count, name(dtype), limits_.tensor_bytes);
  }
  if (bytes > limits_.total_tensor_bytes - total_bytes_) {
    fail(ErrorKind::invalid_input, "{}: the model's tensors together pass the limit of {} bytes", what, limits_.total_tensor_bytes);
  }
  total_bytes_ += bytes;
}

Tensor TensorReader::read(const TensorProto& proto, std::string_view what) {
  const DType dtype = checked_dtype(proto.data_type(), what);
  std::vector<int64_t> dims(proto.dims().begin(), proto.dims().end());
  // Stored bytes are compared with the dims before anything of that size is allocated.
  const int64_t count = checked_count(dims, what);
  charge(dims, dtype, what);
  const int64_t bytes = file_bytes(dtype, count);

  if (proto.data_location() == TensorProto::EXTERNAL) {
    std::string location;
    int64_t offset = 0;
    int64_t length = bytes;
    for (const StringStringEntryProto& entry : proto.external_data()) {
      if (entry.key() == "location") location = entry.value();
      if (entry.key() == "offset") offset = parse_size(entry.value(), "offset", what);
      if (entry.key() == "length") length = parse_size(entry.value(), "length", what);
    }
    if (length != bytes) fail(ErrorKind::invalid_input, "{}: external data has length {}; its dims need {} bytes", what, length, bytes);
    const auto stored = external_.read(location, offset, length, what);
    return from_bytes(dtype, std::move(dims), *stored, stored);
  }
  if (proto.has_raw_data() && !(proto.raw_data().empty() && count > 0)) {
    if (static_cast<int64_t>(proto.raw_data().size()) != bytes) {
      fail(ErrorKind::invalid_input, "{}: raw_data has {} bytes; {} elements of {} need {}", what, proto.raw_data().size(), count, name(dtype), bytes);
    }
    return from_bytes(dtype, std::move(dims), proto.raw_data(), owner_);
  }
  const int64_t entries = dtype == DType::f32                          ? proto.float_data_size()
                          : dtype == DType::f64                        ? proto.double_data_size()
                          : dtype == DType::i64                        ? proto.int64_data_size()
                          : dtype == DType::u64 || dtype == DType::u32 ? proto.uint64_data_size()
                                                                       : proto.int32_data_size();
  check_count(entries, bits_of(dtype) < 8 ? bytes : count, "its data", what);
  return from_typed_field(dtype, std::move(dims), proto, what);
}

Tensor TensorReader::read(const SparseTensorProto& proto, std::string_view what) {
  const Tensor values = read(proto.values(), what);
  const Tensor indices = read(proto.indices(), what);
  std::vector<int64_t> dims(proto.dims().begin(), proto.dims().end());
  charge(dims, values.dtype(), what);
  if (checked_count(dims, what) > limits_.sparse_bytes / static_cast<int64_t>(size_of(values.dtype()))) {
    fail(ErrorKind::invalid_input, "{}: its dense form is more than the limit of {} bytes", what, limits_.sparse_bytes);
  }
  Tensor dense(values.dtype(), dims);
  const int64_t entries = values.element_count();
  const auto rank = static_cast<int64_t>(dims.size());
  const bool linear = indices.rank() == 1;
  if (values.rank() != 1 || indices.dtype() != DType::i64 || indices.element_count() != (linear ? entries : entries * rank) || indices.rank() > 2 ||
      indices.rank() < 1) {
    fail(ErrorKind::invalid_input, "{}: a sparse tensor needs values [n] and i64 indices [n] or [n,{}]", what, rank);
  }
  if (entries == 0) return dense;
  const size_t size = size_of(dense.dtype());
  auto* to = static_cast<char*>(dense.mutable_data());
  for (int64_t entry = 0; entry < entries; ++entry) {
    int64_t position = linear ? indices.int_at(entry) : 0;
    bool valid = position >= 0 && position < dense.element_count();
    for (int64_t axis = 0; !linear && axis < rank; ++axis) {
      const int64_t index = indices.int_at(entry * rank + axis);
      const int64_t dim = dims[static_cast<size_t>(axis)];
      valid = valid && index >= 0 && index < dim;
      if (valid) position = position * dim + index;
    }
    if (!valid) fail(ErrorKind::invalid_input, "{}: a sparse index lies outside its dims", what);
    std::memcpy(to + static_cast<size_t>(position) * size, static_cast<const char*>(values.data()) + static_cast<size_t>(entry) * size, size);
  }
  return dense;
}

}  // namespace tilewright::onnx
