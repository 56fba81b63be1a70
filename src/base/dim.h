#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace tilewright {

/// An integer: a constant, or an expression over named run-time integers ("symbols": dims of inputs, loop indices in
/// generated code). Held in canonical form, a polynomial whose atoms are symbols, floor divisions, remainders, minima
/// and maxima; equal expressions that differ only by ring laws compare equal. Immutable, cheap to copy.
/// Constant arithmetic is overflow-checked: throws invalid_input ("size overflows 64 bits"); so does an expression that
/// grows past a few thousand atoms. Symbolic divisors are taken to be positive (they are sizes): N/N is 1, (N*e)/N is e.
class Dim {
 public:
  struct Atom;
  /// coefficient × product of atoms (sorted; an atom may repeat). No atoms: the constant term.
  struct Term {
    int64_t coefficient;
    std::vector<std::shared_ptr<const Atom>> atoms;
  };
  enum class AtomKind { symbol, floor_div, mod, min, max };

  Dim(int64_t constant = 0);
  Dim(int constant) : Dim(static_cast<int64_t>(constant)) {}
  static Dim symbol(std::string name);  ///< invalid_input unless [A-Za-z_][A-Za-z0-9_.]*

  bool is_constant() const;
  int64_t constant() const;  ///< internal error when not constant
  std::optional<int64_t> as_constant() const;
  std::optional<std::string> as_symbol() const;  ///< the name when this is exactly one symbol
  std::vector<Term> terms() const;               ///< sorted, the constant term last; empty for 0

  Dim operator-() const;
  friend Dim operator+(const Dim&, const Dim&);
  friend Dim operator-(const Dim&, const Dim&);
  friend Dim operator*(const Dim&, const Dim&);
  friend Dim operator/(const Dim&, const Dim&);  ///< floor division; a zero divisor is invalid_input
  friend Dim operator%(const Dim&, const Dim&);  ///< a - b*floor(a/b)
  friend Dim min(const Dim&, const Dim&);
  friend Dim max(const Dim&, const Dim&);
  Dim& operator+=(const Dim& o) { return *this = *this + o; }
  Dim& operator-=(const Dim& o) { return *this = *this - o; }
  Dim& operator*=(const Dim& o) { return *this = *this * o; }

  /// Structural equality of canonical forms: true means equal for every assignment; false means "not proven".
  friend bool operator==(const Dim&, const Dim&);
  /// An arbitrary total order, for containers.
  friend bool operator<(const Dim&, const Dim&);

  /// "3", "N", "2*N+1", "(H+1)/2", "H%2", "min(H,W)". Symbols: [A-Za-z_][A-Za-z0-9_.]*.
  std::string str() const;
  static Dim parse(std::string_view);  ///< the reverse of str(); throws invalid_input

  void collect_symbols(std::set<std::string>& into) const;
  Dim substitute(const std::map<std::string, Dim>&) const;
  /// Throws invalid_input when a symbol has no value or the result overflows.
  int64_t evaluate(const std::map<std::string, int64_t>&) const;

 private:
  friend struct DimAccess;
  std::shared_ptr<const std::vector<Term>> terms_;  ///< null means the constant `small_`
  int64_t small_ = 0;
};

struct Dim::Atom {
  AtomKind kind;
  std::string symbol;  ///< AtomKind::symbol
  Dim a, b;            ///< operands of the other kinds
  uint64_t hash;       ///< of the structure
  uint32_t size;       ///< atoms in the printed text
};

/// The value when it is constant; the coordinate maps of tile/coord ask through it.
inline std::optional<int64_t> known(const Dim& d) { return d.as_constant(); }

using Dims = std::vector<Dim>;

/// Inclusive bounds of symbols, themselves expressions: a loop index i over extent N has {0, N-1}. A symbol without an
/// entry is at least `default_low`.
struct Bounds {
  std::map<std::string, std::pair<Dim, Dim>> of;
  int64_t default_low = 0;
};

/// Proven bounds, free of the symbols that `Bounds::of` names; symbols without an entry stay. nullopt when nothing is known.
std::optional<Dim> lower_bound(const Dim&, const Bounds&);
std::optional<Dim> upper_bound(const Dim&, const Bounds&);
bool proven_nonnegative(const Dim&, const Bounds&);
/// With every symbol at least 0.
inline bool proven_nonnegative(const Dim& d) { return d.is_constant() ? d.constant() >= 0 : proven_nonnegative(d, Bounds{}); }
inline bool proven_less(const Dim& a, const Dim& b, const Bounds& w) { return proven_nonnegative(b - a - 1, w); }

/// Rewrites divisions, remainders, min and max that the bounds decide: (64*i+j)/64 = i and (64*i+j)%64 = j for j in
/// [0,63]; also with symbolic divisors: (N*i+j)/N = i for j in [0,N-1].
Dim simplify(const Dim&, const Bounds&);

/// Product of all dims; 1 for none.
Dim product(const Dims&);
std::string str(const Dims&);  ///< "[2,N,64]"

}  // namespace tilewright
