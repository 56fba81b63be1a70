#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tilewright {

/// Element types. In memory every element takes whole bytes: 4-bit and 2-bit types are held one element a byte
/// (sign-extended for i4/i2) and packed only in files.
enum class DType : uint8_t {
  f64,
  f32,
  f16,
  bf16,
  f8e4m3fn,
  f8e4m3fnuz,
  f8e5m2,
  f8e5m2fnuz,
  f8e8m0,
  f4e2m1,
  i64,
  i32,
  i16,
  i8,
  i4,
  i2,
  u64,
  u32,
  u16,
  u8,
  u4,
  u2,
  boolean,
};

inline constexpr int dtype_count = static_cast<int>(DType::boolean) + 1;

/// "f32", "bf16", "i64", "bool", …
std::string_view name(DType);
/// The reverse of name(); throws invalid_input.
DType parse_dtype(std::string_view);

/// Bytes an element takes in memory.
size_t size_of(DType);
/// Bits of the type itself (4 for i4).
int bits_of(DType);

bool is_float(DType);
bool is_integer(DType);  ///< signed or unsigned, not bool
bool is_signed(DType);   ///< floats and signed integers

/// The value that storing `v` as `to` and reading it back gives: round to nearest even, ONNX overflow rules
/// (f16, bf16: infinity; f8: the largest value when `saturate`, else infinity or NaN; f4e2m1: always the largest; NaN is -0).
double round_to(DType to, double v, bool saturate = true);
/// How a value becomes a power of two (ONNX Cast's `round_mode` for f8e8m0).
enum class ScaleRounding { nearest, up, down };  ///< nearest: a tie goes up
/// round_to(f8e8m0, …) with a chosen rounding; round_to itself uses `nearest`. The sign is dropped; 0 becomes 2^-127.
double round_to_scale(double v, ScaleRounding rounding, bool saturate = true);
/// Wraps an integer to the width and signedness of `to` (two's complement).
int64_t wrap_to(DType to, int64_t v);

/// Reads/writes element `index` of a raw array as double (floats) or int64 (integers, bool; u64 reinterpreted).
double read_float(DType, const void* base, size_t index);
int64_t read_int(DType, const void* base, size_t index);
void write_float(DType, void* base, size_t index, double value);
void write_int(DType, void* base, size_t index, int64_t value);
// All four take every dtype. Float to integer truncates toward zero, then wraps; to bool: is it unequal to 0. f8 saturates.

/// ONNX Cast of `count` elements; the arrays do not overlap. `rounding` is for f8e8m0 alone; `up` is Cast's default.
void convert(DType from, const void* source, DType to, void* target, size_t count, bool saturate = true, ScaleRounding rounding = ScaleRounding::up);

}  // namespace tilewright
