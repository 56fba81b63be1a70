#pragma once

#include <charconv>
#include <cstdint>
#include <string_view>

#include "base/error.h"

/// Configurations as texts: `word=value` after `word=value`.
namespace tilewright::schedule {

[[noreturn]] inline void refuse(std::string_view word) { fail(ErrorKind::invalid_input, "'{}' is no part of a kernel's configuration", word); }

/// take(key, value, word) for each word.
template <class F>
void for_each_word(std::string_view text, F&& take) {
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(word.size() + 1, text.size()));
    const size_t equals = word.find('=');
    if (equals == std::string_view::npos) refuse(word);
    take(word.substr(0, equals), word.substr(equals + 1), word);
  }
}

/// A number that is not negative.
template <class Int>
Int number(std::string_view text, std::string_view word) {
  Int value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end != text.data() + text.size() || value < 0) refuse(word);
  return value;
}

/// Two of them: "14x2".
template <class Pair>
Pair pair(std::string_view text, std::string_view word) {
  const size_t times = text.find('x');
  if (times == std::string_view::npos) refuse(word);
  return {number<int>(text.substr(0, times), word), number<int>(text.substr(times + 1), word)};
}

}  // namespace tilewright::schedule
