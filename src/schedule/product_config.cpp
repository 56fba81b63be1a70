#include "schedule/product_config.h"

#include <fmt/format.h>

#include <charconv>
#include <span>

#include "base/error.h"

namespace tilewright::schedule {
namespace {

template <class T>
struct Word {
  T value;
  const char* text;
};
using Method = ProductConfig::Method;
using Split = ProductConfig::Split;
constexpr Word<Method> methods[] = {{Method::rows, "rows"}, {Method::winograd, "winograd"}, {Method::depthwise, "depthwise"}};
constexpr Word<Split> splits[] = {{Split::automatic, "automatic"}, {Split::panels, "panels"}, {Split::rows, "rows"}};
constexpr Word<bool> switches[] = {{true, "on"}, {false, "off"}};

template <class T, size_t n>
const char* text_of(const Word<T> (&words)[n], T value) {
  for (const Word<T>& word : words)
    if (word.value == value) return word.text;
  return "";
}

[[noreturn]] void refuse(std::string_view word) { fail(ErrorKind::invalid_input, "'{}' is no part of a product's configuration", word); }

template <class T, size_t n>
T value_of(const Word<T> (&words)[n], std::string_view text, std::string_view whole) {
  for (const Word<T>& word : words)
    if (word.text == text) return word.value;
  refuse(whole);
}

template <class Int>
Int number(std::string_view text, std::string_view whole) {
  Int value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size() || value < 0) refuse(whole);
  return value;
}

std::string bytes_text(int64_t bytes) { return bytes > 0 && bytes % 1024 == 0 ? fmt::format("{}K", bytes / 1024) : fmt::format("{}", bytes); }

int64_t bytes_of(std::string_view text, std::string_view whole) {
  if (!text.ends_with('K')) return number<int64_t>(text, whole);
  const auto kilobytes = number<int64_t>(text.substr(0, text.size() - 1), whole);
  if (kilobytes > (int64_t{1} << 40)) refuse(whole);
  return kilobytes * 1024;
}

}  // namespace

const char* name(Method method) { return text_of(methods, method); }

std::string print(const ProductConfig& c) {
  const std::string block = fmt::format("method={} block={}x{}", name(c.method), c.block.rows, c.block.vectors);
  if (c.method != Method::rows) return block;
  return fmt::format("{} split={} panels={} strips={} ahead={}", block, text_of(splits, c.split), bytes_text(c.panel_bytes), bytes_text(c.strip_bytes),
                     text_of(switches, c.ahead));
}

ProductConfig parse_product_config(std::string_view text) {
  ProductConfig c;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(word.size() + 1, text.size()));
    const size_t equals = word.find('=');
    if (equals == std::string_view::npos) refuse(word);
    const std::string_view key = word.substr(0, equals), value = word.substr(equals + 1);
    if (key == "method") {
      c.method = value_of(methods, value, word);
    } else if (key == "block") {
      const size_t times = value.find('x');
      if (times == std::string_view::npos) refuse(word);
      c.block = {number<int>(value.substr(0, times), word), number<int>(value.substr(times + 1), word)};
    } else if (key == "split") {
      c.split = value_of(splits, value, word);
    } else if (key == "panels") {
      c.panel_bytes = bytes_of(value, word);
    } else if (key == "strips") {
      c.strip_bytes = bytes_of(value, word);
    } else if (key == "ahead") {
      c.ahead = value_of(switches, value, word);
    } else {
      refuse(word);
    }
  }
  if (c.block.rows < 1 || c.block.vectors < 1) fail(ErrorKind::invalid_input, "a product's configuration names a block, as in block=6x4");
  return c;
}

}  // namespace tilewright::schedule
