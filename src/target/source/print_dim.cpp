#include "target/source/print_dim.h"

#include <set>

namespace tilewright {

std::string print_dim(const Dim& dim, const std::function<std::string(const std::string&)>& symbol) {
  const auto print_atom = [&](const Dim::Atom& atom) -> std::string {
    const char* call = nullptr;
    switch (atom.kind) {
      case Dim::AtomKind::symbol: return symbol(atom.symbol);
      case Dim::AtomKind::floor_div: call = "rt::floor_div"; break;
      case Dim::AtomKind::mod: call = "rt::floor_mod"; break;
      case Dim::AtomKind::min: call = "rt::min"; break;
      case Dim::AtomKind::max: call = "rt::max"; break;
    }
    return std::string(call) + "(" + print_dim(atom.a, symbol) + ", " + print_dim(atom.b, symbol) + ")";
  };
  if (dim.is_constant()) return std::to_string(dim.constant());
  std::string text;
  for (const Dim::Term& term : dim.terms()) {
    const bool negative = term.coefficient < 0;
    if (!text.empty())
      text += negative ? " - " : " + ";
    else if (negative)
      text += "-";
    const std::string magnitude = std::to_string(term.coefficient).substr(negative ? 1 : 0);
    std::string factors = magnitude == "1" && !term.atoms.empty() ? "" : magnitude;
    for (const auto& atom : term.atoms) factors += (factors.empty() ? "" : " * ") + print_atom(*atom);
    text += factors;
  }
  return "(" + text + ")";
}

std::string identifier(const std::string& name) {
  static const std::set<std::string> reserved = {"auto",      "bool",     "break",    "case",     "char",     "class",    "const", "default",  "delete",
                                                 "do",        "double",   "else",     "enum",     "float",    "for",      "if",    "int",      "long",
                                                 "namespace", "new",      "operator", "private",  "register", "return",   "short", "signed",   "sizeof",
                                                 "static",    "struct",   "switch",   "template", "this",     "typename", "union", "unsigned", "using",
                                                 "void",      "volatile", "while",    "xor",      "and",      "or",       "not"};
  std::string text;
  for (const char c : name) text += (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_';
  if (text.empty() || (text[0] >= '0' && text[0] <= '9') || text[0] == '_' || reserved.count(text)) text = "v" + text;
  return text;
}

}  // namespace tilewright
