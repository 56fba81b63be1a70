#include "target/source/cpp_text.h"

#include <cmath>

#include "base/error.h"

namespace tilewright::source {

std::string one_line(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 32 || c == '\\') c = ' ';
  return text;
}

std::string storage_type(DType dtype) {
  switch (dtype) {
    case DType::f64: return "double";
    case DType::f32: return "float";
    case DType::f16: return "tile::float16";
    case DType::bf16: return "tile::bfloat16";
    case DType::f8e4m3fn: return "tile::f8e4m3fn";
    case DType::f8e4m3fnuz: return "tile::f8e4m3fnuz";
    case DType::f8e5m2: return "tile::f8e5m2";
    case DType::f8e5m2fnuz: return "tile::f8e5m2fnuz";
    case DType::f8e8m0: return "tile::f8e8m0";
    case DType::f4e2m1: return "tile::f4e2m1";
    case DType::i64: return "int64_t";
    case DType::i32: return "int32_t";
    case DType::i16: return "int16_t";
    case DType::i8:
    case DType::i4:
    case DType::i2: return "int8_t";
    case DType::u64: return "uint64_t";
    case DType::u32: return "uint32_t";
    case DType::u16: return "uint16_t";
    case DType::u8:
    case DType::u4:
    case DType::u2:
    case DType::boolean: return "uint8_t";
  }
  fail(ErrorKind::internal, "internal error: unknown dtype");
}

bool is_narrow_float(DType dtype) { return is_float(dtype) && dtype != DType::f64 && dtype != DType::f32; }

std::string value_type(DType dtype) {
  if (dtype == DType::boolean) return "bool";
  return is_narrow_float(dtype) ? "float" : storage_type(dtype);
}

std::string loaded(DType dtype, const std::string& element) {
  if (dtype == DType::boolean) return element + " != 0";
  return is_narrow_float(dtype) ? "tile::to_float(" + element + ")" : element;
}

std::string stored(DType dtype, const std::string& value, bool exact) {
  if (dtype == DType::boolean) return "static_cast<uint8_t>(" + value + ")";
  if (!is_narrow_float(dtype)) return value;
  return fmt::format("tile::store_as<{}{}>({})", storage_type(dtype), exact ? ", false" : "", value);
}

std::string rounded(DType dtype, const std::string& value) { return is_narrow_float(dtype) ? "tile::to_float(" + stored(dtype, value, false) + ")" : value; }

namespace {

std::string float_literal(DType dtype, double real) {
  const bool wide = dtype == DType::f64;
  const char* suffix = wide ? "" : "f";
  if (std::isnan(real)) return fmt::format("__builtin_nan{}(\"\")", suffix);
  if (std::isinf(real)) return fmt::format("{}__builtin_inf{}()", real < 0 ? "-" : "", suffix);
  const double value = wide ? real : is_narrow_float(dtype) ? round_to(dtype, real) : static_cast<double>(static_cast<float>(real));
  if (std::isinf(value) || std::isnan(value)) return float_literal(dtype, value);
  std::string text = wide ? fmt::format("{}", value) : fmt::format("{}", static_cast<float>(value));
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text + suffix;
}

}  // namespace

std::string literal(DType dtype, double real, int64_t integer) {
  if (is_float(dtype)) return float_literal(dtype, real);
  if (dtype == DType::boolean) return integer != 0 ? "true" : "false";
  const std::string type = value_type(dtype);
  if (dtype == DType::u64) return fmt::format("uint64_t{{{}u}}", static_cast<uint64_t>(integer));
  if (dtype == DType::i64 && integer == INT64_MIN) return "INT64_MIN";
  const int64_t value = wrap_to(dtype, integer);
  return fmt::format("{}{{{}{}}}", type, value, dtype == DType::i64 && (value > INT32_MAX || value < INT32_MIN) ? "ll" : "");
}

std::string highest(DType dtype) {
  if (is_float(dtype)) return float_literal(dtype, HUGE_VAL);
  if (dtype == DType::boolean) return "true";
  if (dtype == DType::u64) return literal(dtype, 0, -1);
  return literal(dtype, 0, static_cast<int64_t>(~uint64_t{0} >> (64 - bits_of(dtype) + (is_signed(dtype) ? 1 : 0))));
}

std::string lowest(DType dtype) {
  if (is_float(dtype)) return float_literal(dtype, -HUGE_VAL);
  if (dtype == DType::boolean) return "false";
  if (!is_signed(dtype)) return literal(dtype, 0, 0);
  return literal(dtype, 0, bits_of(dtype) == 64 ? INT64_MIN : -(int64_t{1} << (bits_of(dtype) - 1)));
}

void Writer::line(const std::string& text) { text_ += std::string(static_cast<size_t>(depth_) * 2, ' ') + text + "\n"; }

void Writer::open(const std::string& text) {
  line(text.empty() ? "{" : text + " {");
  ++depth_;
}

void Writer::close(const std::string& tail) {
  --depth_;
  line("}" + tail);
}

namespace {

std::string print_atom(const Dim::Atom& atom, const Names& names, const Bounds& bounds) {
  if (atom.kind == Dim::AtomKind::symbol) {
    const auto found = names.find(atom.symbol);
    if (found == names.end()) fail(ErrorKind::internal, "internal error: an index uses '{}', which has no value there", atom.symbol);
    return found->second;
  }
  const bool divides = atom.kind == Dim::AtomKind::floor_div, remains = atom.kind == Dim::AtomKind::mod;
  if ((divides || remains) && proven_nonnegative(atom.a, bounds))
    return fmt::format("({} {} {})", print_factor(atom.a, names, bounds), divides ? '/' : '%', print_factor(atom.b, names, bounds));
  const char* call = divides ? "tile::floor_div" : remains ? "tile::mod" : atom.kind == Dim::AtomKind::min ? "tile::min" : "tile::max";
  return fmt::format("{}<i64>({}, {})", call, print_index(atom.a, names, bounds), print_index(atom.b, names, bounds));
}

}  // namespace

std::string print_index(const Dim& e, const Names& names, const Bounds& bounds) {
  if (e.is_constant()) return std::to_string(e.constant());
  std::vector<Dim::Term> terms = e.terms();
  // A positive term first reads better: n - 1, not -1 + n.
  for (size_t i = 1; i < terms.size() && terms[0].coefficient < 0; ++i)
    if (terms[i].coefficient > 0) std::swap(terms[0], terms[i]);
  std::string text;
  for (const Dim::Term& term : terms) {
    const bool negative = term.coefficient < 0;
    if (!text.empty())
      text += negative ? " - " : " + ";
    else if (negative)
      text += "-";
    const std::string digits = std::to_string(term.coefficient).substr(negative ? 1 : 0);
    std::string factors;
    for (const auto& atom : term.atoms) factors += (factors.empty() ? "" : " * ") + print_atom(*atom, names, bounds);
    if (factors.empty())
      factors = digits;
    else if (digits != "1")
      factors += " * " + digits;
    text += factors;
  }
  return text;
}

std::string print_factor(const Dim& e, const Names& names, const Bounds& bounds) {
  const std::string text = print_index(e, names, bounds);
  const bool simple = text.find_first_of(" -") == std::string::npos || (text.front() == '(' && text.find(')') == text.size() - 1);
  return simple ? text : "(" + text + ")";
}

}  // namespace tilewright::source
