#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace tilewright {

/// A dense row-major host array. Copies share the bytes; they are written only through `mutable_data` of a sole owner.
class Tensor {
 public:
  Tensor() = default;
  /// Zero-filled. Throws invalid_input when a dim is negative or the size overflows.
  Tensor(DType dtype, std::vector<int64_t> dims);
  /// Views bytes owned by someone else (a mapped file, say); `owner` keeps them alive.
  Tensor(DType dtype, std::vector<int64_t> dims, const void* bytes, std::shared_ptr<const void> owner);

  static Tensor scalar(DType dtype, double value);
  static Tensor from_ints(const std::vector<int64_t>& values);  ///< 1-D i64
  static Tensor from_floats(const std::vector<float>& values, std::vector<int64_t> dims);

  DType dtype() const { return dtype_; }
  const std::vector<int64_t>& dims() const { return dims_; }
  size_t rank() const { return dims_.size(); }
  int64_t element_count() const { return count_; }
  size_t byte_size() const { return static_cast<size_t>(count_) * size_of(dtype_); }

  const void* data() const { return bytes_; }
  void* mutable_data();  ///< copies first when the bytes are shared
  template <class T>
  const T* as() const {
    return static_cast<const T*>(bytes_);
  }

  double float_at(int64_t i) const;  ///< any dtype, converted
  int64_t int_at(int64_t i) const;   ///< any dtype, converted (floats truncate)
  void set_float(int64_t i, double v);
  void set_int(int64_t i, int64_t v);
  std::vector<int64_t> ints() const;  ///< all elements, row-major

  Tensor reshaped(std::vector<int64_t> dims) const;  ///< same bytes
  /// ONNX Cast of every element.
  Tensor cast_to(DType to, bool saturate = true, ScaleRounding rounding = ScaleRounding::up) const;
  bool same_bytes(const Tensor& other) const;  ///< dtype, dims and contents

 private:
  DType dtype_ = DType::f32;
  std::vector<int64_t> dims_;
  int64_t count_ = 0;
  const void* bytes_ = nullptr;
  std::shared_ptr<const void> owner_;
  bool writable_ = false;  ///< the bytes are an allocation of ours, not a view
};

}  // namespace tilewright
