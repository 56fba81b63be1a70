#include "base/tensor.h"

#include <fmt/ranges.h>

#include <cstdlib>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace tilewright {
namespace {

/// Product of the dims, checked so that the bytes fit in a signed 64-bit size.
int64_t checked_count(DType dtype, const std::vector<int64_t>& dims) {
  bool empty = false;
  for (const int64_t d : dims) {
    if (d < 0) fail(ErrorKind::invalid_input, "tensor [{}]: a dim is negative", fmt::join(dims, ","));
    empty |= d == 0;
  }
  if (empty) return 0;
  int64_t bytes = static_cast<int64_t>(size_of(dtype));
  for (const int64_t d : dims)
    if (__builtin_mul_overflow(bytes, d, &bytes))
      fail(ErrorKind::invalid_input, "tensor {} [{}]: its size overflows 64 bits", name(dtype), fmt::join(dims, ","));
  return bytes / static_cast<int64_t>(size_of(dtype));
}

constexpr size_t alignment = 64;  // a cache line and the widest vector

/// Zero-filled, aligned; large blocks come as untouched pages from calloc.
std::shared_ptr<const void> allocate(size_t bytes, void*& start) {
  void* block = bytes > std::numeric_limits<size_t>::max() - alignment ? nullptr : std::calloc(1, bytes + alignment);
  if (block == nullptr) fail(ErrorKind::environment, "out of memory: a tensor needs {} bytes", bytes);
  const auto address = reinterpret_cast<uintptr_t>(block);
  start = static_cast<char*>(block) + (alignment - address % alignment) % alignment;
  return std::shared_ptr<const void>(block, [](const void* p) { std::free(const_cast<void*>(p)); });
}

}  // namespace

Tensor::Tensor(DType dtype, std::vector<int64_t> dims) : dtype_(dtype), dims_(std::move(dims)), count_(checked_count(dtype, dims_)) {
  void* start = nullptr;
  owner_ = allocate(byte_size(), start);
  bytes_ = start;
  writable_ = true;
}

Tensor::Tensor(DType dtype, std::vector<int64_t> dims, const void* bytes, std::shared_ptr<const void> owner)
    : dtype_(dtype), dims_(std::move(dims)), count_(checked_count(dtype, dims_)), bytes_(bytes), owner_(std::move(owner)) {}

Tensor Tensor::scalar(DType dtype, double value) {
  Tensor t(dtype, {});
  t.set_float(0, value);
  return t;
}

Tensor Tensor::from_ints(const std::vector<int64_t>& values) {
  Tensor t(DType::i64, {static_cast<int64_t>(values.size())});
  if (!values.empty()) std::memcpy(t.mutable_data(), values.data(), t.byte_size());
  return t;
}

Tensor Tensor::from_floats(const std::vector<float>& values, std::vector<int64_t> dims) {
  Tensor t(DType::f32, std::move(dims));
  if (t.element_count() != static_cast<int64_t>(values.size()))
    fail(ErrorKind::invalid_input, "tensor [{}] needs {} values, got {}", fmt::join(t.dims_, ","), t.count_, values.size());
  if (!values.empty()) std::memcpy(t.mutable_data(), values.data(), t.byte_size());
  return t;
}

void* Tensor::mutable_data() {
  if (!writable_ || owner_.use_count() != 1) {
    void* start = nullptr;
    std::shared_ptr<const void> fresh = allocate(byte_size(), start);
    if (byte_size() != 0) std::memcpy(start, bytes_, byte_size());
    owner_ = std::move(fresh);
    bytes_ = start;
    writable_ = true;
  }
  return const_cast<void*>(bytes_);
}

double Tensor::float_at(int64_t i) const { return read_float(dtype_, bytes_, static_cast<size_t>(i)); }
int64_t Tensor::int_at(int64_t i) const { return read_int(dtype_, bytes_, static_cast<size_t>(i)); }
void Tensor::set_float(int64_t i, double v) { write_float(dtype_, mutable_data(), static_cast<size_t>(i), v); }
void Tensor::set_int(int64_t i, int64_t v) { write_int(dtype_, mutable_data(), static_cast<size_t>(i), v); }

std::vector<int64_t> Tensor::ints() const {
  std::vector<int64_t> result(static_cast<size_t>(count_));
  for (int64_t i = 0; i < count_; ++i) result[static_cast<size_t>(i)] = int_at(i);
  return result;
}

Tensor Tensor::reshaped(std::vector<int64_t> dims) const {
  const int64_t count = checked_count(dtype_, dims);
  if (count != count_)
    fail(ErrorKind::invalid_input, "reshape [{}] to [{}]: {} elements are not {}", fmt::join(dims_, ","), fmt::join(dims, ","), count_, count);
  Tensor t = *this;
  t.dims_ = std::move(dims);
  return t;
}

Tensor Tensor::cast_to(DType to, bool saturate, ScaleRounding rounding) const {
  if (to == dtype_) return *this;
  Tensor t(to, dims_);
  convert(dtype_, bytes_, to, t.mutable_data(), static_cast<size_t>(count_), saturate, rounding);
  return t;
}

bool Tensor::same_bytes(const Tensor& other) const {
  if (dtype_ != other.dtype_ || dims_ != other.dims_) return false;
  return byte_size() == 0 || bytes_ == other.bytes_ || std::memcmp(bytes_, other.bytes_, byte_size()) == 0;
}

}  // namespace tilewright
