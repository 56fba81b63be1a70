#include <charconv>

#include "base/dim.h"
#include "base/dim_access.h"
#include "base/error.h"

namespace tilewright {
namespace {

using Atom = Dim::Atom;
using Kind = Dim::AtomKind;

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// `d` as an operand of / or %: in brackets unless it is one word.
std::string operand(const Dim& d) {
  bool bare = d.is_constant() && d.constant() >= 0;
  if (!d.is_constant()) {
    const std::vector<Dim::Term>& terms = DimAccess::stored(d);
    const bool lone = terms.size() == 1 && terms[0].coefficient == 1 && terms[0].atoms.size() == 1;
    bare = lone && terms[0].atoms[0]->kind != Kind::floor_div && terms[0].atoms[0]->kind != Kind::mod;
  }
  return bare ? d.str() : "(" + d.str() + ")";
}

std::string atom_text(const Atom& atom, bool alone) {
  switch (atom.kind) {
    case Kind::symbol: return atom.symbol;
    case Kind::min: return "min(" + atom.a.str() + "," + atom.b.str() + ")";
    case Kind::max: return "max(" + atom.a.str() + "," + atom.b.str() + ")";
    default: break;
  }
  const std::string text = operand(atom.a) + (atom.kind == Kind::mod ? "%" : "/") + operand(atom.b);
  return alone ? text : "(" + text + ")";
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Dim whole() {
    Dim d = sum();
    if (at_ != text_.size()) bad("an operator or the end");
    return d;
  }

 private:
  static constexpr int max_depth = 200;

  [[noreturn]] void bad(const char* expected) const {
    fail(ErrorKind::invalid_input, "size '{}': expected {} at character {}", text_.substr(0, 200), expected, at_ + 1);
  }

  void skip_spaces() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t')) ++at_;
  }

  bool take(char c) {
    skip_spaces();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void need(char c, const char* expected) {
    if (!take(c)) bad(expected);
  }

  Dim sum() {
    if (++depth_ > max_depth) bad("fewer brackets");
    Dim d = products();
    for (;;) {
      if (take('+'))
        d = d + products();
      else if (take('-'))
        d = d - products();
      else
        break;
    }
    skip_spaces();
    --depth_;
    return d;
  }

  Dim products() {
    Dim d = factor();
    for (;;) {
      if (take('*'))
        d = d * factor();
      else if (take('/'))
        d = d / factor();
      else if (take('%'))
        d = d % factor();
      else
        return d;
    }
  }

  Dim factor() {
    bool negative = false;
    while (take('-')) negative = !negative;
    const Dim d = primary(negative);
    return d;
  }

  Dim primary(bool negative) {
    skip_spaces();
    if (at_ >= text_.size()) bad("a size");
    if (is_digit(text_[at_])) {
      // The sign goes with the digits: the lowest int64 has no positive counterpart.
      size_t end = at_;
      while (end < text_.size() && is_digit(text_[end])) ++end;
      const std::string digits = (negative ? "-" : "") + std::string(text_.substr(at_, end - at_));
      int64_t value = 0;
      if (std::from_chars(digits.data(), digits.data() + digits.size(), value).ec != std::errc()) bad("a number below 2^63");
      at_ = end;
      return value;
    }
    Dim d = 0;
    if (take('(')) {
      d = sum();
      need(')', "')'");
    } else {
      if (!is_letter(text_[at_])) bad("a size");
      size_t end = at_;
      while (end < text_.size() && (is_letter(text_[end]) || is_digit(text_[end]) || text_[end] == '.')) ++end;
      const std::string name(text_.substr(at_, end - at_));
      at_ = end;
      if ((name == "min" || name == "max") && take('(')) {
        const Dim a = sum();
        need(',', "','");
        const Dim b = sum();
        need(')', "')'");
        d = name == "min" ? min(a, b) : max(a, b);
      } else {
        d = Dim::symbol(name);
      }
    }
    return negative ? -d : d;
  }

  std::string_view text_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

std::string Dim::str() const {
  if (is_constant()) return std::to_string(small_);
  std::string text;
  for (const Term& t : *terms_) {
    const bool negative = t.coefficient < 0;
    if (negative)
      text += "-";
    else if (!text.empty())
      text += "+";
    const bool unit = t.coefficient == 1 || t.coefficient == -1;
    std::string digits = std::to_string(t.coefficient);
    if (negative) digits.erase(0, 1);
    if (!unit || t.atoms.empty()) text += digits;
    bool first = unit || t.atoms.empty();
    for (const auto& atom : t.atoms) {
      if (!first) text += "*";
      text += atom_text(*atom, t.atoms.size() == 1 && t.coefficient == 1);
      first = false;
    }
  }
  return text;
}

Dim Dim::parse(std::string_view text) { return Parser(text).whole(); }

std::string str(const Dims& dims) {
  std::string text = "[";
  for (size_t i = 0; i < dims.size(); ++i) text += (i ? "," : "") + dims[i].str();
  return text + "]";
}

}  // namespace tilewright
