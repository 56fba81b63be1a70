#include "base/dtype.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace tilewright {
namespace {

struct Traits {
  std::string_view name;
  uint8_t bits;
  uint8_t bytes;
  enum Kind : uint8_t { floating, signed_integer, unsigned_integer, boolean } kind;
};

constexpr std::array<Traits, dtype_count> traits_table{{
    {"f64", 64, 8, Traits::floating},         {"f32", 32, 4, Traits::floating},         {"f16", 16, 2, Traits::floating},
    {"bf16", 16, 2, Traits::floating},        {"f8e4m3fn", 8, 1, Traits::floating},     {"f8e4m3fnuz", 8, 1, Traits::floating},
    {"f8e5m2", 8, 1, Traits::floating},       {"f8e5m2fnuz", 8, 1, Traits::floating},   {"f8e8m0", 8, 1, Traits::floating},
    {"f4e2m1", 4, 1, Traits::floating},       {"i64", 64, 8, Traits::signed_integer},   {"i32", 32, 4, Traits::signed_integer},
    {"i16", 16, 2, Traits::signed_integer},   {"i8", 8, 1, Traits::signed_integer},     {"i4", 4, 1, Traits::signed_integer},
    {"i2", 2, 1, Traits::signed_integer},     {"u64", 64, 8, Traits::unsigned_integer}, {"u32", 32, 4, Traits::unsigned_integer},
    {"u16", 16, 2, Traits::unsigned_integer}, {"u8", 8, 1, Traits::unsigned_integer},   {"u4", 4, 1, Traits::unsigned_integer},
    {"u2", 2, 1, Traits::unsigned_integer},   {"bool", 8, 1, Traits::boolean},
}};

const Traits& traits(DType t) { return traits_table[static_cast<size_t>(t)]; }

/// A sign-magnitude binary float narrower than double: sign, exponent, mantissa from the top bit down. Magnitude codes above `largest`
/// that are not `infinity` are NaNs.
struct Format {
  int bits, mantissa, bias;
  uint32_t largest;    ///< code of the largest finite magnitude
  uint32_t infinity;   ///< its code, or 0 when the format has none
  uint32_t nan;        ///< what NaN becomes: a magnitude code; the full code when `unsigned_zero` or `never_nan`
  bool unsigned_zero;  ///< the code of -0 is the NaN
  bool never_nan;      ///< no code for NaN or infinity: overflow always saturates
  bool may_saturate;   ///< overflow gives `largest` when the caller asks for saturation
};

constexpr Format f16_format{16, 10, 15, 0x7BFF, 0x7C00, 0x7E00, false, false, false};
constexpr Format bf16_format{16, 7, 127, 0x7F7F, 0x7F80, 0x7FC0, false, false, false};
constexpr Format e4m3fn_format{8, 3, 7, 0x7E, 0, 0x7F, false, false, true};
constexpr Format e4m3fnuz_format{8, 3, 8, 0x7F, 0, 0x80, true, false, true};
constexpr Format e5m2_format{8, 2, 15, 0x7B, 0x7C, 0x7F, false, false, true};
constexpr Format e5m2fnuz_format{8, 2, 16, 0x7F, 0, 0x80, true, false, true};
// NaN becomes -0: ONNX's conformance data and ml_dtypes say so, the prose of ONNX's float4 page says 6.
constexpr Format e2m1_format{4, 1, 1, 0x7, 0, 0x8, false, true, true};

/// value >> shift, rounded to nearest, ties to even; 1 <= shift <= 63.
constexpr uint64_t shift_right_to_nearest_even(uint64_t value, int shift) {
  const uint64_t half_less_one = (uint64_t{1} << (shift - 1)) - 1;
  return (value + half_less_one + ((value >> shift) & 1)) >> shift;
}

template <const Format& f>
inline uint32_t encode(double v, bool saturate) {
  constexpr uint32_t sign_bit = 1u << (f.bits - 1);
  constexpr int drop = 52 - f.mantissa;
  const uint64_t raw = std::bit_cast<uint64_t>(v);
  const uint32_t sign = (raw >> 63) ? sign_bit : 0;
  const uint64_t magnitude = raw & ~(uint64_t{1} << 63);
  constexpr uint64_t double_infinity = uint64_t{0x7FF} << 52;
  if (magnitude > double_infinity) {
    if (f.unsigned_zero || f.never_nan) return f.nan;
    return sign | f.nan;
  }

  const int exponent = static_cast<int>(magnitude >> 52) - 1023;
  uint64_t code = 0;
  if (magnitude == double_infinity) {
    code = uint64_t{f.largest} + 1;
  } else if (exponent >= 1 - f.bias) {
    code = shift_right_to_nearest_even(magnitude - (uint64_t{1023 - f.bias} << 52), drop);
  } else {
    const int shift = drop + (1 - f.bias - exponent);
    const uint64_t significand = (magnitude & ((uint64_t{1} << 52) - 1)) | (uint64_t{1} << 52);
    if (shift <= 54) code = shift_right_to_nearest_even(significand, shift);
  }

  if (code > f.largest) {
    if (f.never_nan || (f.may_saturate && saturate)) return sign | f.largest;
    if (f.infinity != 0) return sign | f.infinity;
    return f.unsigned_zero ? f.nan : (sign | f.nan);
  }
  if (f.unsigned_zero && code == 0) return 0;
  return sign | static_cast<uint32_t>(code);
}

template <const Format& f>
inline double decode(uint32_t code) {
  constexpr uint32_t sign_bit = 1u << (f.bits - 1);
  if (f.unsigned_zero && code == f.nan) return std::numeric_limits<double>::quiet_NaN();
  const uint64_t sign = (code & sign_bit) ? uint64_t{1} << 63 : 0;
  const uint32_t magnitude = code & (sign_bit - 1);
  uint64_t bits;
  if (magnitude > f.largest) {
    bits = magnitude == f.infinity ? uint64_t{0x7FF} << 52 : uint64_t{0x7FF8} << 48;
  } else if (magnitude >> f.mantissa) {
    bits = (uint64_t{magnitude} << (52 - f.mantissa)) + (uint64_t{1023 - f.bias} << 52);
  } else {
    constexpr double unit = std::bit_cast<double>(uint64_t{1023 + 1 - f.bias - f.mantissa} << 52);
    bits = std::bit_cast<uint64_t>(static_cast<double>(magnitude) * unit);
  }
  return std::bit_cast<double>(sign | bits);
}

/// E8M0: code c is 2^(c-127), 255 is NaN; no sign (the magnitude is taken, as ONNX's reference does) and no zero.
uint8_t encode_e8m0(double v, ScaleRounding rounding, bool saturate) {
  constexpr uint8_t nan = 0xFF;
  if (!std::isfinite(v)) return nan;
  const double magnitude = std::fabs(v);
  if (magnitude == 0) return 0;
  int exponent;
  const double fraction = std::frexp(magnitude, &exponent) * 2;  // magnitude = fraction × 2^(exponent-1), 1 <= fraction < 2
  int code = exponent - 1 + 127;
  const bool up = (rounding == ScaleRounding::up && fraction > 1) || (rounding == ScaleRounding::nearest && fraction >= 1.5);
  if (up) ++code;
  if (code < 0) return 0;
  if (code > 254) return saturate ? 254 : nan;
  return static_cast<uint8_t>(code);
}

double decode_e8m0(uint8_t code) { return code == 0xFF ? std::numeric_limits<double>::quiet_NaN() : std::ldexp(1.0, code - 127); }

template <const Format& f>
const std::array<double, 256>& decode_table() {
  static const std::array<double, 256> table = [] {
    std::array<double, 256> t{};
    for (uint32_t c = 0; c < 256; ++c) t[c] = decode<f>(c & ((1u << f.bits) - 1));
    return t;
  }();
  return table;
}

/// Truncates toward zero; what does not fit saturates to int64 and NaN gives 0 (ONNX leaves both undefined).
int64_t truncate(double v) {
  if (!(v == v)) return 0;
  if (v >= 9223372036854775808.0) return std::numeric_limits<int64_t>::max();
  if (v < -9223372036854775808.0) return std::numeric_limits<int64_t>::min();
  return static_cast<int64_t>(v);
}

uint64_t truncate_unsigned(double v) {
  if (v >= 18446744073709551616.0) return std::numeric_limits<uint64_t>::max();
  return v >= 9223372036854775808.0 ? static_cast<uint64_t>(v) : static_cast<uint64_t>(truncate(v));
}

template <class T>
T load(const void* base, size_t index) {
  T v;
  std::memcpy(&v, static_cast<const char*>(base) + index * sizeof(T), sizeof(T));
  return v;
}

template <class T>
void store(void* base, size_t index, T v) {
  std::memcpy(static_cast<char*>(base) + index * sizeof(T), &v, sizeof(T));
}

double load_float(DType t, const void* base, size_t i) {
  switch (t) {
    case DType::f64: return load<double>(base, i);
    case DType::f32: return static_cast<double>(load<float>(base, i));
    case DType::f16: return decode<f16_format>(load<uint16_t>(base, i));
    case DType::bf16: return decode<bf16_format>(load<uint16_t>(base, i));
    case DType::f8e4m3fn: return decode_table<e4m3fn_format>()[load<uint8_t>(base, i)];
    case DType::f8e4m3fnuz: return decode_table<e4m3fnuz_format>()[load<uint8_t>(base, i)];
    case DType::f8e5m2: return decode_table<e5m2_format>()[load<uint8_t>(base, i)];
    case DType::f8e5m2fnuz: return decode_table<e5m2fnuz_format>()[load<uint8_t>(base, i)];
    case DType::f8e8m0: return decode_e8m0(load<uint8_t>(base, i));
    case DType::f4e2m1: return decode_table<e2m1_format>()[load<uint8_t>(base, i)];
    default: break;
  }
  fail(ErrorKind::internal, "internal error: {} is not a float", name(t));
}

void store_float(DType t, void* base, size_t i, double v, bool saturate) {
  switch (t) {
    case DType::f64: return store(base, i, v);
    case DType::f32: return store(base, i, static_cast<float>(v));
    case DType::f16: return store(base, i, static_cast<uint16_t>(encode<f16_format>(v, saturate)));
    case DType::bf16: return store(base, i, static_cast<uint16_t>(encode<bf16_format>(v, saturate)));
    case DType::f8e4m3fn: return store(base, i, static_cast<uint8_t>(encode<e4m3fn_format>(v, saturate)));
    case DType::f8e4m3fnuz: return store(base, i, static_cast<uint8_t>(encode<e4m3fnuz_format>(v, saturate)));
    case DType::f8e5m2: return store(base, i, static_cast<uint8_t>(encode<e5m2_format>(v, saturate)));
    case DType::f8e5m2fnuz: return store(base, i, static_cast<uint8_t>(encode<e5m2fnuz_format>(v, saturate)));
    case DType::f8e8m0: return store(base, i, encode_e8m0(v, ScaleRounding::nearest, saturate));
    case DType::f4e2m1: return store(base, i, static_cast<uint8_t>(encode<e2m1_format>(v, saturate)));
    default: break;
  }
  fail(ErrorKind::internal, "internal error: {} is not a float", name(t));
}

int64_t load_int(DType t, const void* base, size_t i) {
  switch (t) {
    case DType::i64: return load<int64_t>(base, i);
    case DType::i32: return load<int32_t>(base, i);
    case DType::i16: return load<int16_t>(base, i);
    case DType::i8: return load<int8_t>(base, i);
    case DType::i4:
    case DType::i2: return wrap_to(t, load<int8_t>(base, i));
    case DType::u64: return static_cast<int64_t>(load<uint64_t>(base, i));
    case DType::u32: return load<uint32_t>(base, i);
    case DType::u16: return load<uint16_t>(base, i);
    case DType::u8: return load<uint8_t>(base, i);
    case DType::u4:
    case DType::u2: return wrap_to(t, load<uint8_t>(base, i));
    case DType::boolean: return load<uint8_t>(base, i) != 0;
    default: break;
  }
  fail(ErrorKind::internal, "internal error: {} is not an integer", name(t));
}

void store_int(DType t, void* base, size_t i, int64_t v) {
  if (t == DType::boolean) return store(base, i, static_cast<uint8_t>(v != 0));
  switch (size_of(t)) {
    case 8: return store(base, i, v);
    case 4: return store(base, i, static_cast<int32_t>(static_cast<uint32_t>(v)));
    case 2: return store(base, i, static_cast<uint16_t>(v));
    default: return store(base, i, static_cast<uint8_t>(wrap_to(t, v)));
  }
}

}  // namespace

std::string_view name(DType t) { return traits(t).name; }

DType parse_dtype(std::string_view text) {
  for (int i = 0; i < dtype_count; ++i)
    if (traits_table[static_cast<size_t>(i)].name == text) return static_cast<DType>(i);
  fail(ErrorKind::invalid_input, "unknown element type '{}'; known are f64, f32, f16, bf16, f8e4m3fn, i64, i32, u8, bool, …", text);
}

size_t size_of(DType t) { return traits(t).bytes; }
int bits_of(DType t) { return traits(t).bits; }
bool is_float(DType t) { return traits(t).kind == Traits::floating; }
bool is_integer(DType t) { return traits(t).kind == Traits::signed_integer || traits(t).kind == Traits::unsigned_integer; }
bool is_signed(DType t) { return is_float(t) || traits(t).kind == Traits::signed_integer; }

double round_to(DType to, double v, bool saturate) {
  if (to == DType::f64) return v;
  if (to == DType::f32) return static_cast<double>(static_cast<float>(v));
  uint64_t buffer = 0;
  if (!is_float(to)) {
    write_float(to, &buffer, 0, v);
    return read_float(to, &buffer, 0);
  }
  store_float(to, &buffer, 0, v, saturate);
  return load_float(to, &buffer, 0);
}

double round_to_scale(double v, ScaleRounding rounding, bool saturate) { return decode_e8m0(encode_e8m0(v, rounding, saturate)); }

int64_t wrap_to(DType to, int64_t v) {
  if (to == DType::boolean) return v != 0;
  const int unused = 64 - bits_of(to);
  const uint64_t top = static_cast<uint64_t>(v) << unused;
  return is_signed(to) ? static_cast<int64_t>(top) >> unused : static_cast<int64_t>(top >> unused);
}

double read_float(DType t, const void* base, size_t index) {
  if (is_float(t)) return load_float(t, base, index);
  const int64_t v = load_int(t, base, index);
  return t == DType::u64 ? static_cast<double>(static_cast<uint64_t>(v)) : static_cast<double>(v);
}

int64_t read_int(DType t, const void* base, size_t index) { return is_float(t) ? truncate(load_float(t, base, index)) : load_int(t, base, index); }

void write_float(DType t, void* base, size_t index, double value) {
  if (is_float(t)) return store_float(t, base, index, value, true);
  if (t == DType::boolean) return store_int(t, base, index, value != 0);
  store_int(t, base, index, t == DType::u64 ? static_cast<int64_t>(truncate_unsigned(value)) : truncate(value));
}

void write_int(DType t, void* base, size_t index, int64_t value) {
  if (is_float(t)) return store_float(t, base, index, static_cast<double>(value), true);
  store_int(t, base, index, value);
}

void convert(DType from, const void* source, DType to, void* target, size_t count, bool saturate, ScaleRounding rounding) {
  if (from == to) {
    if (count != 0) std::memmove(target, source, count * size_of(to));
    return;
  }
  const bool from_float = is_float(from);
  if (to == DType::f8e8m0) {
    for (size_t i = 0; i < count; ++i) store(target, i, encode_e8m0(read_float(from, source, i), rounding, saturate));
  } else if (is_float(to)) {
    if (from == DType::f32 && to == DType::f64) {
      for (size_t i = 0; i < count; ++i) store(target, i, static_cast<double>(load<float>(source, i)));
    } else if (from == DType::f64 && to == DType::f32) {
      for (size_t i = 0; i < count; ++i) store(target, i, static_cast<float>(load<double>(source, i)));
    } else if (to == DType::f32 && (from == DType::i64 || from == DType::u64)) {
      // Straight from the integer: through double it would be rounded twice.
      for (size_t i = 0; i < count; ++i) {
        const int64_t v = load<int64_t>(source, i);
        store(target, i, from == DType::i64 ? static_cast<float>(v) : static_cast<float>(static_cast<uint64_t>(v)));
      }
    } else {
      for (size_t i = 0; i < count; ++i) store_float(to, target, i, read_float(from, source, i), saturate);
    }
  } else if (from_float) {
    for (size_t i = 0; i < count; ++i) write_float(to, target, i, load_float(from, source, i));
  } else {
    for (size_t i = 0; i < count; ++i) store_int(to, target, i, load_int(from, source, i));
  }
}

}  // namespace tilewright
