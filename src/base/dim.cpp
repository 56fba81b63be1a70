#include "base/dim.h"

#include <algorithm>
#include <numeric>

#include "base/dim_access.h"
#include "base/error.h"

namespace tilewright {
namespace {

using Term = Dim::Term;
using Terms = std::vector<Term>;
using AtomRef = std::shared_ptr<const Dim::Atom>;
using Atoms = std::vector<AtomRef>;
using Kind = Dim::AtomKind;

constexpr uint32_t max_size = 20000;

[[noreturn]] void overflow() { fail(ErrorKind::invalid_input, "size overflows 64 bits"); }

int64_t add_checked(int64_t a, int64_t b) {
  int64_t r;
  if (__builtin_add_overflow(a, b, &r)) overflow();
  return r;
}
int64_t sub_checked(int64_t a, int64_t b) {
  int64_t r;
  if (__builtin_sub_overflow(a, b, &r)) overflow();
  return r;
}
int64_t mul_checked(int64_t a, int64_t b) {
  int64_t r;
  if (__builtin_mul_overflow(a, b, &r)) overflow();
  return r;
}
int64_t floor_div_checked(int64_t a, int64_t b) {
  if (b == 0) fail(ErrorKind::invalid_input, "division of size {} by zero", a);
  if (b == -1) return sub_checked(0, a);
  const int64_t q = a / b;
  return q - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0);
}
int64_t mod_checked(int64_t a, int64_t b) {
  if (b == 0) fail(ErrorKind::invalid_input, "remainder of size {} by zero", a);
  if (b == -1) return 0;
  const int64_t r = a % b;
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}

uint64_t mix(uint64_t h, uint64_t v) { return (h ^ (v + 0x9e3779b97f4a7c15ull + (h << 6) + (h >> 2))) * 0xff51afd7ed558ccdull; }

uint64_t hash_of(const Dim& d) {
  uint64_t h = 17;
  DimAccess::each(d, [&](int64_t c, const Atoms& atoms) {
    h = mix(h, static_cast<uint64_t>(c));
    for (const AtomRef& a : atoms) h = mix(h, a->hash);
  });
  return h;
}

uint32_t size_of_text(const Dim& d) {
  uint64_t n = 0;
  DimAccess::each(d, [&](int64_t, const Atoms& atoms) {
    ++n;
    for (const AtomRef& a : atoms) n += a->size;
  });
  return static_cast<uint32_t>(std::min<uint64_t>(n, max_size + 1));
}

AtomRef make_atom(Kind kind, std::string symbol, Dim a, Dim b) {
  uint64_t h = mix(static_cast<uint64_t>(kind), std::hash<std::string>{}(symbol));
  uint32_t size = 1;
  if (kind != Kind::symbol) {
    h = mix(mix(h, hash_of(a)), hash_of(b));
    size += size_of_text(a) + size_of_text(b);
    if (size > max_size) fail(ErrorKind::invalid_input, "a size expression grew past {} terms", max_size);
  }
  return std::make_shared<const Dim::Atom>(Dim::Atom{kind, std::move(symbol), std::move(a), std::move(b), h, size});
}

int compare(const Dim& a, const Dim& b);

int compare(const Dim::Atom& a, const Dim::Atom& b) {
  if (&a == &b) return 0;
  if (a.kind != b.kind) return a.kind < b.kind ? -1 : 1;
  if (a.kind == Kind::symbol) return a.symbol.compare(b.symbol);
  if (const int c = compare(a.a, b.a)) return c;
  return compare(a.b, b.b);
}

/// Monomial order: higher degree first, then by atoms; the constant term comes last. Compatible with multiplication, which exact
/// division needs.
int compare(const Atoms& a, const Atoms& b) {
  if (a.size() != b.size()) return a.size() > b.size() ? -1 : 1;
  for (size_t i = 0; i < a.size(); ++i)
    if (const int c = compare(*a[i], *b[i])) return c;
  return 0;
}

int compare(const Dim& a, const Dim& b) {
  if (DimAccess::same_storage(a, b)) return 0;
  if (a.is_constant() != b.is_constant()) return a.is_constant() ? -1 : 1;
  if (a.is_constant()) return a.constant() < b.constant() ? -1 : a.constant() > b.constant() ? 1 : 0;
  const Terms& x = DimAccess::stored(a);
  const Terms& y = DimAccess::stored(b);
  for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
    if (const int c = compare(x[i].atoms, y[i].atoms)) return c;
    if (x[i].coefficient != y[i].coefficient) return x[i].coefficient < y[i].coefficient ? -1 : 1;
  }
  return x.size() < y.size() ? -1 : x.size() > y.size() ? 1 : 0;
}

/// Sorts, joins equal monomials, drops zeros.
void normalise(Terms& terms) {
  std::sort(terms.begin(), terms.end(), [](const Term& x, const Term& y) { return compare(x.atoms, y.atoms) < 0; });
  size_t out = 0;
  for (size_t i = 0; i < terms.size();) {
    Term t = std::move(terms[i++]);
    while (i < terms.size() && compare(terms[i].atoms, t.atoms) == 0) t.coefficient = add_checked(t.coefficient, terms[i++].coefficient);
    if (t.coefficient != 0) terms[out++] = std::move(t);
  }
  terms.resize(out);
}

Dim plus(const Dim& a, const Dim& b, int64_t factor_of_b) {
  Terms all;
  DimAccess::each(a, [&](int64_t c, const Atoms& atoms) { all.push_back({c, atoms}); });
  DimAccess::each(b, [&](int64_t c, const Atoms& atoms) { all.push_back({mul_checked(c, factor_of_b), atoms}); });
  normalise(all);
  return DimAccess::make(std::move(all));
}

Dim times(const Dim& a, const Dim& b) {
  Terms all;
  DimAccess::each(a, [&](int64_t c, const Atoms& x) {
    DimAccess::each(b, [&](int64_t e, const Atoms& y) {
      Term t{mul_checked(c, e), {}};
      std::merge(x.begin(), x.end(), y.begin(), y.end(), std::back_inserter(t.atoms), [](const AtomRef& p, const AtomRef& q) { return compare(*p, *q) < 0; });
      all.push_back(std::move(t));
      if (all.size() > max_size) fail(ErrorKind::invalid_input, "a size expression grew past {} terms", max_size);
    });
  });
  normalise(all);
  return DimAccess::make(std::move(all));
}

Dim of_term(int64_t coefficient, Atoms atoms) {
  if (atoms.empty()) return coefficient;
  return DimAccess::make({Term{coefficient, std::move(atoms)}});
}

Dim of_atom(Kind kind, const Dim& a, const Dim& b) { return of_term(1, {make_atom(kind, "", a, b)}); }

/// The atoms of `a` without those of `by` (with multiplicity), or nullopt.
std::optional<Atoms> without(const Atoms& a, const Atoms& by) {
  Atoms rest;
  size_t j = 0;
  for (const AtomRef& atom : a) {
    if (j < by.size() && compare(*atom, *by[j]) == 0)
      ++j;
    else
      rest.push_back(atom);
  }
  if (j != by.size()) return std::nullopt;
  return rest;
}

/// The single atom when d is exactly it.
const Dim::Atom* lone_atom(const Dim& d) {
  if (d.is_constant()) return nullptr;
  const Terms& t = DimAccess::stored(d);
  return t.size() == 1 && t[0].coefficient == 1 && t[0].atoms.size() == 1 ? t[0].atoms[0].get() : nullptr;
}

/// k*(x/k) + x%k = x, wherever a multiple of the left side stands in a sum.
Dim recombine(Dim d) {
  for (bool changed = true; changed;) {
    changed = false;
    if (d.is_constant()) return d;
    for (const Term& t : DimAccess::stored(d)) {
      for (const AtomRef& atom : t.atoms) {
        if (atom->kind != Kind::mod) continue;
        Dim others = of_term(t.coefficient, *without(t.atoms, {atom}));
        const Dim quotients = times(times(others, atom->b), atom->a / atom->b);
        if (quotients.is_constant()) continue;
        const Dim rest = plus(d, quotients, -1);
        const size_t terms_now = DimAccess::stored(d).size();
        const size_t gone = DimAccess::stored(quotients).size();
        if (DimAccess::count(rest) + gone > terms_now) continue;  // some quotient term was not there in full
        d = plus(plus(rest, of_term(t.coefficient, t.atoms), -1), times(others, atom->a), 1);
        changed = true;
        break;
      }
      if (changed) break;
    }
  }
  return d;
}

bool has_mod(const Dim& d) {
  bool found = false;
  DimAccess::each(d, [&](int64_t, const Atoms& atoms) {
    for (const AtomRef& a : atoms) found |= a->kind == Kind::mod;
  });
  return found;
}

bool assumed_positive(const Dim& divisor) {
  bool positive = true;
  DimAccess::each(divisor, [&](int64_t c, const Atoms&) { positive &= c > 0; });
  return positive;
}

/// Splits a = quotient*divisor + remainder with nothing left to extract from the remainder.
struct Division {
  Dim quotient, remainder;
};

Division divide_by_monomial(const Dim& a, int64_t by, const Atoms& by_atoms) {
  Terms quotient, remainder;
  DimAccess::each(a, [&](int64_t c, const Atoms& atoms) {
    const std::optional<Atoms> rest = without(atoms, by_atoms);
    if (!rest) {
      remainder.push_back({c, atoms});
      return;
    }
    // Constants leave a remainder in [0, by); other terms keep their sign, so that N-1-i stays recognisable.
    const int64_t q = rest->empty() ? floor_div_checked(c, by) : c / by;
    const int64_t r = sub_checked(c, mul_checked(q, by));
    if (q != 0) quotient.push_back({q, *rest});
    if (r != 0) remainder.push_back({r, atoms});
  });
  normalise(quotient);
  normalise(remainder);
  return {DimAccess::make(std::move(quotient)), DimAccess::make(std::move(remainder))};
}

Division divide_by_sum(const Dim& a, const Dim& divisor) {
  const Terms& by = DimAccess::stored(divisor);
  const auto step = [&](const Term& t) -> std::optional<Dim> {
    const std::optional<Atoms> rest = without(t.atoms, by[0].atoms);
    if (!rest || t.coefficient % by[0].coefficient != 0) return std::nullopt;
    return of_term(t.coefficient / by[0].coefficient, *rest);
  };
  // Exact division by leading terms; else whole multiples whose removal shortens the sum.
  Division exact{0, a};
  while (!(exact.remainder == Dim(0))) {
    const std::vector<Term> now = exact.remainder.terms();
    const std::optional<Dim> q = step(now[0]);
    if (!q) break;
    exact = {exact.quotient + *q, exact.remainder - *q * divisor};
    if (DimAccess::count(exact.remainder) > 4 * DimAccess::count(a) + 16) break;
  }
  if (exact.remainder == Dim(0)) return exact;
  Division greedy{0, a};
  for (bool changed = true; changed;) {
    changed = false;
    for (const Term& t : greedy.remainder.terms()) {
      const std::optional<Dim> q = step(t);
      if (!q) continue;
      const Dim rest = greedy.remainder - *q * divisor;
      if (DimAccess::count(rest) >= DimAccess::count(greedy.remainder)) continue;
      greedy = {greedy.quotient + *q, rest};
      changed = true;
      break;
    }
  }
  return greedy;
}

Division divide(const Dim& a, const Dim& divisor) {
  if (divisor.is_constant()) return divide_by_monomial(a, divisor.constant(), {});
  const Terms& by = DimAccess::stored(divisor);
  if (by.size() == 1 && by[0].coefficient > 0) return divide_by_monomial(a, by[0].coefficient, by[0].atoms);
  return divide_by_sum(a, divisor);
}

/// The greatest monomial dividing every term of `a` (its constant term left out when `skip_constant`).
Term content(const Dim& a, bool skip_constant) {
  Term common{0, {}};
  bool first = true;
  DimAccess::each(a, [&](int64_t c, const Atoms& atoms) {
    if (skip_constant && atoms.empty()) return;
    if (c == INT64_MIN) c = 1;  // its magnitude does not fit; 1 is always a divisor
    common.coefficient = std::gcd(common.coefficient, c);
    if (first)
      common.atoms = atoms;
    else if (!common.atoms.empty()) {
      Atoms both;
      for (const AtomRef& x : common.atoms) {
        const auto matching = [&](const Atoms& list) {
          return std::count_if(list.begin(), list.end(), [&](const AtomRef& y) { return compare(*x, *y) == 0; });
        };
        if (matching(both) < matching(atoms)) both.push_back(x);
      }
      common.atoms = std::move(both);
    }
    first = false;
  });
  return common;
}

int64_t constant_term(const Dim& d) {
  int64_t value = 0;
  DimAccess::each(d, [&](int64_t c, const Atoms& atoms) {
    if (atoms.empty()) value = c;
  });
  return value;
}

/// What divides both operands of a division: floor((g*R + r)/(g*D)) = floor((R + floor(r/g))/D) for a constant 0 <= r.
struct Shared {
  Dim factor = 1, dividend, divisor;
  int64_t lost = 0;  ///< r mod g: what a remainder adds back
};

Shared cancel(const Dim& a, const Dim& divisor) {
  Shared result{1, a, divisor, 0};
  const Term of_divisor = content(divisor, false);
  const int64_t constant = constant_term(a);
  const Term of_dividend = content(a, true);
  int64_t g = std::gcd(of_divisor.coefficient, of_dividend.coefficient);
  if (g > 1) {
    const int64_t low = mod_checked(constant, g);
    result = {g, divide_by_monomial(a - low, g, {}).quotient, divide_by_monomial(divisor, g, {}).quotient, low};
  }
  if (constant_term(result.dividend) != 0 || result.lost != 0 || of_divisor.atoms.empty() || !assumed_positive(divisor)) return result;
  const Term x = content(result.dividend, false), y = content(result.divisor, false);
  Atoms both;
  for (const AtomRef& atom : x.atoms) {
    const auto matching = [&](const Atoms& list) { return std::count_if(list.begin(), list.end(), [&](const AtomRef& z) { return compare(*atom, *z) == 0; }); };
    if (matching(both) < matching(y.atoms)) both.push_back(atom);
  }
  if (both.empty()) return result;
  result.factor = result.factor * of_term(1, both);
  result.dividend = divide_by_monomial(result.dividend, 1, both).quotient;
  result.divisor = divide_by_monomial(result.divisor, 1, both).quotient;
  return result;
}

/// The one non-constant term when the rest of d is a constant: coefficient 1 and one atom.
const Dim::Atom* atom_plus_constant(const Dim& d) { return lone_atom(d - constant_term(d)); }

Dim extreme(Kind kind, const Dim& a, const Dim& b) {
  std::vector<Dim> operands;
  const auto gather = [&](auto&& self, const Dim& d) -> void {
    const Dim::Atom* atom = lone_atom(d);
    if (atom != nullptr && atom->kind == kind) {
      self(self, atom->a);
      self(self, atom->b);
      return;
    }
    for (Dim& other : operands) {
      const std::optional<int64_t> difference = (d - other).as_constant();
      if (!difference) continue;
      if ((kind == Kind::min) == (*difference < 0)) other = d;
      return;
    }
    operands.push_back(d);
  };
  gather(gather, a);
  gather(gather, b);
  std::sort(operands.begin(), operands.end());
  Dim result = operands.back();
  for (size_t i = operands.size() - 1; i-- > 0;) result = of_atom(kind, operands[i], result);
  return result;
}

void check_name(std::string_view name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  bool good = !name.empty() && letter(name[0]);
  for (const char c : name) good = good && (letter(c) || (c >= '0' && c <= '9') || c == '.');
  if (!good) fail(ErrorKind::invalid_input, "'{}' is not a name for a size; needs [A-Za-z_][A-Za-z0-9_.]*", name);
}

}  // namespace

Dim::Dim(int64_t constant) : small_(constant) {}

Dim Dim::symbol(std::string name) {
  check_name(name);
  return of_term(1, {make_atom(AtomKind::symbol, std::move(name), 0, 0)});
}

bool Dim::is_constant() const { return terms_ == nullptr; }

int64_t Dim::constant() const {
  ensure(is_constant(), "a symbolic size is used where a constant is needed");
  return small_;
}

std::optional<int64_t> Dim::as_constant() const {
  if (is_constant()) return small_;
  return std::nullopt;
}

std::optional<std::string> Dim::as_symbol() const {
  const Atom* atom = lone_atom(*this);
  if (atom != nullptr && atom->kind == AtomKind::symbol) return atom->symbol;
  return std::nullopt;
}

std::vector<Dim::Term> Dim::terms() const {
  if (terms_ != nullptr) return *terms_;
  if (small_ == 0) return {};
  return {Term{small_, {}}};
}

Dim Dim::operator-() const { return Dim(0) - *this; }

Dim operator+(const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant()) return add_checked(a.constant(), b.constant());
  if (b == Dim(0)) return a;
  if (a == Dim(0)) return b;
  Dim sum = plus(a, b, 1);
  return has_mod(sum) ? recombine(std::move(sum)) : sum;
}

Dim operator-(const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant()) return sub_checked(a.constant(), b.constant());
  if (b == Dim(0)) return a;
  Dim difference = plus(a, b, -1);
  return has_mod(difference) ? recombine(std::move(difference)) : difference;
}

Dim operator*(const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant()) return mul_checked(a.constant(), b.constant());
  if (a.is_constant() && a.constant() == 1) return b;
  if (b.is_constant() && b.constant() == 1) return a;
  Dim product = times(a, b);
  return has_mod(product) ? recombine(std::move(product)) : product;
}

Dim operator/(const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant()) return floor_div_checked(a.constant(), b.constant());
  if (b.is_constant()) {
    if (b.constant() == 0) fail(ErrorKind::invalid_input, "division of size {} by zero", a.str());
    if (b.constant() == 1) return a;
    if (b.constant() < 0) return -a / -b;
  }
  const Division split = divide(a, b);
  if (split.remainder == Dim(0)) return split.quotient;
  const auto rest = [&]() -> Dim {
    const Shared s = cancel(split.remainder, b);
    if (!(s.divisor == b)) return s.dividend / s.divisor;
    const Dim& r = split.remainder;
    if (b.is_constant() && r.is_constant()) return 0;  // divide() leaves constants in [0, b)
    if (!assumed_positive(b)) return of_atom(Dim::AtomKind::floor_div, r, b);
    if (const Dim::Atom* atom = atom_plus_constant(r)) {
      // (x/m + c)/b = (x + c*m)/(m*b)
      const int64_t c = constant_term(r);
      if (atom->kind == Dim::AtomKind::floor_div && assumed_positive(atom->b)) return (atom->a + Dim(c) * atom->b) / (atom->b * b);
      if (atom->kind == Dim::AtomKind::mod) {
        if (atom->b.is_constant() && b.is_constant() && atom->b.constant() > 0 && add_checked(atom->b.constant(), c) <= b.constant()) return 0;
        const Division inner = divide(atom->b, b);
        if (c == 0 && inner.remainder == Dim(0) && assumed_positive(atom->b)) return (atom->a / b) % inner.quotient;
      }
    }
    return of_atom(Dim::AtomKind::floor_div, r, b);
  };
  return split.quotient + rest();
}

Dim operator%(const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant()) return mod_checked(a.constant(), b.constant());
  if (b.is_constant()) {
    if (b.constant() == 0) fail(ErrorKind::invalid_input, "remainder of size {} by zero", a.str());
    if (b.constant() == 1 || b.constant() == -1) return 0;
    if (b.constant() < 0) return -(-a % -b);
  }
  const Dim r = divide(a, b).remainder;
  if (r == Dim(0)) return 0;
  const Shared s = cancel(r, b);
  if (!(s.divisor == b)) return s.factor * (s.dividend % s.divisor) + s.lost;
  if (b.is_constant() && r.is_constant()) return r;
  if (const Dim::Atom* atom = lone_atom(r); atom != nullptr && atom->kind == Dim::AtomKind::mod) {
    if (atom->b == b) return r;
    if (divide(atom->b, b).remainder == Dim(0)) return atom->a % b;
    if (atom->b.is_constant() && b.is_constant() && 0 < atom->b.constant() && atom->b.constant() <= b.constant()) return r;
  }
  return of_atom(Dim::AtomKind::mod, r, b);
}

Dim min(const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant()) return std::min(a.constant(), b.constant());
  return extreme(Dim::AtomKind::min, a, b);
}

Dim max(const Dim& a, const Dim& b) {
  if (a.is_constant() && b.is_constant()) return std::max(a.constant(), b.constant());
  return extreme(Dim::AtomKind::max, a, b);
}

bool operator==(const Dim& a, const Dim& b) { return compare(a, b) == 0; }
bool operator<(const Dim& a, const Dim& b) { return compare(a, b) < 0; }

void Dim::collect_symbols(std::set<std::string>& into) const {
  DimAccess::each(*this, [&](int64_t, const Atoms& atoms) {
    for (const AtomRef& a : atoms) {
      if (a->kind == AtomKind::symbol) {
        into.insert(a->symbol);
      } else {
        a->a.collect_symbols(into);
        a->b.collect_symbols(into);
      }
    }
  });
}

Dim Dim::substitute(const std::map<std::string, Dim>& values) const {
  if (is_constant() || values.empty()) return *this;
  Dim sum = 0;
  DimAccess::each(*this, [&](int64_t c, const Atoms& atoms) {
    Dim product = c;
    for (const AtomRef& atom : atoms) {
      if (atom->kind == AtomKind::symbol) {
        const auto found = values.find(atom->symbol);
        product *= found != values.end() ? found->second : of_term(1, {atom});
        continue;
      }
      const Dim a = atom->a.substitute(values), b = atom->b.substitute(values);
      switch (atom->kind) {
        case AtomKind::floor_div: product *= a / b; break;
        case AtomKind::mod: product *= a % b; break;
        case AtomKind::min: product *= min(a, b); break;
        default: product *= max(a, b); break;
      }
    }
    sum += product;
  });
  return sum;
}

int64_t Dim::evaluate(const std::map<std::string, int64_t>& values) const {
  if (is_constant()) return small_;
  int64_t sum = 0;
  for (const Term& t : *terms_) {
    int64_t product = t.coefficient;
    for (const AtomRef& atom : t.atoms) {
      int64_t v = 0;
      if (atom->kind == AtomKind::symbol) {
        const auto found = values.find(atom->symbol);
        if (found == values.end()) fail(ErrorKind::invalid_input, "size '{}' has no value", atom->symbol);
        v = found->second;
      } else {
        const int64_t a = atom->a.evaluate(values), b = atom->b.evaluate(values);
        switch (atom->kind) {
          case AtomKind::floor_div: v = floor_div_checked(a, b); break;
          case AtomKind::mod: v = mod_checked(a, b); break;
          case AtomKind::min: v = std::min(a, b); break;
          default: v = std::max(a, b); break;
        }
      }
      product = mul_checked(product, v);
    }
    sum = add_checked(sum, product);
  }
  return sum;
}

Dim product(const Dims& dims) {
  Dim result = 1;
  for (const Dim& d : dims) result *= d;
  return result;
}

}  // namespace tilewright
