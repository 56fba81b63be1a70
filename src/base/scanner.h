#pragma once

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>

#include "base/error.h"

namespace tilewright {

/// Tokens of our own text forms; white space between them does not matter. Errors are invalid_input and name the line.
class Scanner {
 public:
  /// `what`: of the text, for messages ("graph text").
  Scanner(std::string_view text, const char* what) : text_(text), what_(what) {}

  [[noreturn]] void reject(const std::string& problem) const {
    const auto line = 1 + std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(at_), '\n');
    fail(ErrorKind::invalid_input, "{}, line {}: {}", what_, line, problem);
  }
  void space() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }
  bool at_end() {
    space();
    return at_ == text_.size();
  }
  bool take(std::string_view token) {
    space();
    if (text_.substr(at_, token.size()) != token) return false;
    // A word does not match the beginning of a longer one.
    const bool word = std::isalpha(static_cast<unsigned char>(token.back()));
    if (word && at_ + token.size() < text_.size() && is_word(text_[at_ + token.size()])) return false;
    at_ += token.size();
    return true;
  }
  void expect(std::string_view token) {
    if (!take(token)) reject(fmt::format("expected '{}'", token));
  }
  std::string word() {
    space();
    const size_t start = at_;
    while (at_ < text_.size() && is_word(text_[at_])) ++at_;
    if (at_ == start) reject("expected a word");
    return std::string(text_.substr(start, at_ - start));
  }
  std::string quoted() {
    expect("\"");
    std::string out;
    for (; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] == '\\' && at_ + 1 < text_.size())
        out += text_[++at_] == 'n' ? '\n' : text_[at_];
      else
        out += text_[at_];
    }
    if (at_ == text_.size()) reject("a quoted text does not end");
    ++at_;
    return out;
  }
  static bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.'; }

 protected:
  std::string_view text_;
  size_t at_ = 0;

 private:
  const char* what_;
};

}  // namespace tilewright
