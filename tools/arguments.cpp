#include "arguments.h"

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/npy.h"
#include "import/onnx/tensor_file.h"

namespace tilewright::tools {
namespace {

/// The text before and after the '=' at `equals`.
std::pair<std::string, std::string> split(const char* option, const std::string& text, size_t equals, const char* example) {
  if (equals == std::string::npos || equals == 0) fail(ErrorKind::invalid_input, "{} wants NAME=VALUE, as in {}, not '{}'", option, example, text);
  return {text.substr(0, equals), text.substr(equals + 1)};
}

template <class Number>
std::optional<Number> number(const std::string& text) {
  Number value{};
  const char* const end = text.data() + text.size();
  const auto [rest, failure] = std::from_chars(text.data(), end, value);
  return failure == std::errc{} && rest == end ? std::optional(value) : std::nullopt;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name(const std::string& text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  if (text.empty() || !letter(text[0])) return false;
  for (const char c : text)
    if (!letter(c) && !is_digit(c) && c != '.') return false;
  return true;
}

Dim parse_dim(const std::string& option, const std::string& size) {
  if (size.empty()) fail(ErrorKind::invalid_input, "{}: a size is missing", option);
  if (is_name(size)) return Dim::symbol(size);
  const std::optional<int64_t> value = number<int64_t>(size);
  if (!value)
    fail(ErrorKind::invalid_input, "{}: '{}' is neither a number nor a name; sizes with names are separated by ',', as in x=batch,3,224", option, size);
  if (*value < 0) fail(ErrorKind::invalid_input, "{}: size {} is negative", option, *value);
  return *value;
}

}  // namespace

std::pair<std::string, Dims> parse_shape(const std::string& text) {
  const auto [name, sizes] = split("--shape", text, text.rfind('='), "x=1x3x224x224");
  if (sizes == "[]") return {name, {}};
  const std::string option = "--shape " + text;
  const bool numbers = !sizes.empty() && is_digit(sizes[0]) && sizes.find_first_not_of("0123456789x") == std::string::npos;
  const char separator = numbers ? 'x' : ',';
  Dims dims;
  std::string size;
  for (const char c : sizes + separator) {
    if (c != separator) {
      size += c;
      continue;
    }
    dims.push_back(parse_dim(option, size));
    size.clear();
  }
  return {name, dims};
}

std::pair<std::string, int64_t> parse_size(const std::string& text) {
  const auto [name, size] = split("--size", text, text.rfind('='), "batch=8");
  const std::optional<int64_t> value = number<int64_t>(size);
  if (!value || *value < 0) fail(ErrorKind::invalid_input, "--size {}: '{}' is no size; needs a number of at least 0", text, size);
  return {name, *value};
}

std::pair<std::string, onnx::FixedValue> parse_constant(const std::string& text) {
  const auto [name, value] = split("--constant", text, text.find('='), "axis=1 or axes=axes.npy");
  if (value.ends_with(".npy") || value.ends_with(".pb")) return {name, read_tensor(value)};
  if (const auto whole = number<int64_t>(value)) return {name, *whole};
  if (const auto real = number<double>(value)) return {name, *real};
  fail(ErrorKind::invalid_input, "--constant {}: '{}' is neither a number nor a .npy or .pb file", text, value);
}

PolicyRule parse_policy_rule(const std::string& text) {
  const auto [pattern, policy] = split("--policy-for", text, text.rfind('='), "head*=fp32");
  return {pattern, parse_policy(policy)};
}

std::string policy_options(const Precision& precision) {
  std::string text = fmt::format("--policy {}", name(precision.policy));
  for (const PolicyRule& rule : precision.rules) text += fmt::format(" --policy-for '{}={}'", rule.pattern, name(rule.policy));
  return text;
}

Precision promised_precision(const std::string& manifest) {
  const nlohmann::json json = nlohmann::json::parse(manifest, nullptr, false);
  Precision precision;
  if (!json.is_object()) return precision;
  precision.policy = parse_policy(json.value("policy", "fp32"));
  for (const nlohmann::json& rule : json.value("policy_for", nlohmann::json::array()))
    precision.rules.push_back({rule.value("pattern", ""), parse_policy(rule.value("policy", "fp32"))});
  return precision;
}

Tensor read_tensor(const std::string& file) {
  if (file.ends_with(".npy")) return read_npy(file);
  if (file.ends_with(".pb")) return onnx::read_tensor_file(file);
  fail(ErrorKind::invalid_input, "'{}': tensors are read from .npy and .pb files", file);
}

double parse_seconds(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const std::string unit = end;
  const double scale = unit.empty() || unit == "s" ? 1 : unit == "m" ? 60 : unit == "h" ? 3600 : 0;
  if (end == text.c_str() || scale == 0 || !(value > 0) || !std::isfinite(value))
    fail(ErrorKind::invalid_input, "'{}' is no span of time; write 90s, 5m or 1h", text);
  return value * scale;
}

}  // namespace tilewright::tools
