#include <algorithm>
#include <numeric>

#include "base/dim.h"
#include "base/dim_access.h"
#include "base/error.h"

// Proofs by elimination. A sum is written A*s + B for one atom s; where the sign of A is proven, s is replaced by its lower
// or upper bound, which bounds the sum, until only free symbols are left. Division atoms also know k*(x/k) in [x-k+1, x],
// which keeps what they have to do with the rest of the sum.

namespace tilewright {
namespace {

using Atom = Dim::Atom;
using AtomRef = std::shared_ptr<const Atom>;
using Kind = Dim::AtomKind;

Dim as_dim(const AtomRef& atom) { return DimAccess::make({Dim::Term{1, {atom}}}); }

bool same(const AtomRef& a, const AtomRef& b) { return a == b || as_dim(a) == as_dim(b); }

bool mentions(const Dim& d, const AtomRef& what) {
  bool found = false;
  DimAccess::each(d, [&](int64_t, const std::vector<AtomRef>& atoms) {
    for (const AtomRef& a : atoms) found = found || same(a, what) || (a->kind != Kind::symbol && (mentions(a->a, what) || mentions(a->b, what)));
  });
  return found;
}

/// d = factor*atom + rest, one power of the atom taken out of each term that has it.
struct Split {
  Dim factor, rest;
};

Split split_by(const Dim& d, const AtomRef& atom) {
  Split s;
  DimAccess::each(d, [&](int64_t c, const std::vector<AtomRef>& atoms) {
    const auto found = std::find_if(atoms.begin(), atoms.end(), [&](const AtomRef& a) { return same(a, atom); });
    std::vector<AtomRef> left(atoms.begin(), atoms.end());
    if (found != atoms.end()) left.erase(left.begin() + (found - atoms.begin()));
    const Dim term = left.empty() ? Dim(c) : DimAccess::make({Dim::Term{c, std::move(left)}});
    if (found != atoms.end())
      s.factor += term;
    else
      s.rest += term;
  });
  return s;
}

std::vector<AtomRef> distinct_atoms(const Dim& d) {
  std::vector<AtomRef> result;
  DimAccess::each(d, [&](int64_t, const std::vector<AtomRef>& atoms) {
    for (const AtomRef& a : atoms)
      if (std::none_of(result.begin(), result.end(), [&](const AtomRef& b) { return same(a, b); })) result.push_back(a);
  });
  return result;
}

class Prover {
 public:
  explicit Prover(const Bounds& world) : world_(world) {}

  bool nonnegative(const Dim& d, int depth) {
    if (const std::optional<int64_t> c = d.as_constant()) return *c >= 0;
    if (budget_ == 0 || depth == 0) return false;
    --budget_;
    if (termwise_nonnegative(d, depth)) return true;
    for (const AtomRef& atom : elimination_order(d)) {
      for (const Dim& smaller : lowered(d, atom, depth))
        if (nonnegative(smaller, depth - 1)) return true;
    }
    return false;
  }

  /// Eliminates every bounded symbol, and every other atom whose bounds allow it.
  std::optional<Dim> low(const Dim& d, int depth) {
    if (d.is_constant()) return d;
    if (budget_ == 0 || depth == 0) return std::nullopt;
    --budget_;
    for (const AtomRef& atom : elimination_order(d)) {
      for (const Dim& smaller : lowered(d, atom, depth))
        if (const std::optional<Dim> found = low(smaller, depth - 1)) return found;
    }
    if (has_bounded_symbol(d)) return std::nullopt;
    return d;
  }

 private:
  struct Range {
    std::optional<Dim> low, high;
  };

  bool has_bounded_symbol(const Dim& d) const {
    std::set<std::string> names;
    d.collect_symbols(names);
    return std::any_of(names.begin(), names.end(), [&](const std::string& n) { return world_.of.count(n) != 0; });
  }

  /// All terms are products of non-negative things once each symbol is counted from its lowest value.
  bool termwise_nonnegative(const Dim& d, int depth) {
    std::map<std::string, Dim> shifted;
    for (const AtomRef& atom : distinct_atoms(d)) {
      if (atom->kind == Kind::symbol) {
        const auto entry = world_.of.find(atom->symbol);
        const std::optional<int64_t> lowest = entry == world_.of.end() ? std::optional(world_.default_low) : entry->second.first.as_constant();
        if (!lowest) {
          if (!nonnegative(entry->second.first, depth - 1)) return false;
        } else if (*lowest != 0) {
          shifted.emplace(atom->symbol, as_dim(atom) + *lowest);
        }
      } else if (!atom_nonnegative(*atom, depth)) {
        return false;
      }
    }
    // Only top-level symbols are shifted: those inside divisions stay, which would mix two meanings of one name.
    Dim sum = 0;
    DimAccess::each(d, [&](int64_t c, const std::vector<AtomRef>& atoms) {
      Dim term = c;
      for (const AtomRef& atom : atoms) {
        const auto found = atom->kind == Kind::symbol ? shifted.find(atom->symbol) : shifted.end();
        term *= found != shifted.end() ? found->second : as_dim(atom);
      }
      sum += term;
    });
    bool good = true;
    DimAccess::each(sum, [&](int64_t c, const std::vector<AtomRef>&) { good = good && c >= 0; });
    return good;
  }

  bool atom_nonnegative(const Atom& atom, int depth) {
    switch (atom.kind) {
      case Kind::floor_div: return positive_divisor(atom.b) && nonnegative(atom.a, depth - 1);
      case Kind::mod: return positive_divisor(atom.b);
      case Kind::min: return nonnegative(atom.a, depth - 1) && nonnegative(atom.b, depth - 1);
      case Kind::max: return nonnegative(atom.a, depth - 1) || nonnegative(atom.b, depth - 1);
      default: return false;
    }
  }

  /// Divisors are sizes (see Dim): a sum with positive coefficients only is taken to be positive.
  static bool positive_divisor(const Dim& d) {
    bool good = !(d == Dim(0));
    DimAccess::each(d, [&](int64_t c, const std::vector<AtomRef>&) { good = good && c > 0; });
    return good;
  }

  /// Atoms that can be eliminated, those first that no other's bounds are written in.
  std::vector<AtomRef> elimination_order(const Dim& d) const {
    std::vector<AtomRef> atoms;
    for (const AtomRef& atom : distinct_atoms(d))
      if (atom->kind != Kind::symbol || world_.of.count(atom->symbol) != 0) atoms.push_back(atom);
    const auto used_by_others = [&](const AtomRef& what) {
      int uses = 0;
      for (const AtomRef& other : atoms) {
        if (other == what) continue;
        if (other->kind == Kind::symbol) {
          const auto& [lowest, highest] = world_.of.at(other->symbol);
          uses += mentions(lowest, what) || mentions(highest, what);
        } else {
          uses += mentions(other->a, what) || mentions(other->b, what);
        }
      }
      return uses;
    };
    std::vector<std::pair<int, AtomRef>> ranked;
    for (const AtomRef& atom : atoms) ranked.emplace_back(used_by_others(atom), atom);
    std::stable_sort(ranked.begin(), ranked.end(), [](const auto& x, const auto& y) { return x.first < y.first; });
    for (size_t i = 0; i < atoms.size(); ++i) atoms[i] = ranked[i].second;
    return atoms;
  }

  /// Sums no larger than d in which one power of the atom is gone.
  std::vector<Dim> lowered(const Dim& d, const AtomRef& atom, int depth) {
    const Split s = split_by(d, atom);
    const bool rising = nonnegative(s.factor, depth - 1);
    if (!rising && !nonnegative(-s.factor, depth - 1)) return {};
    std::vector<Dim> result;
    if (atom->kind == Kind::floor_div && positive_divisor(atom->b)) {
      const Dim per_divisor = s.factor / atom->b;
      if (per_divisor * atom->b == s.factor) result.push_back(per_divisor * (rising ? atom->a - atom->b + 1 : atom->a) + s.rest);
    }
    if (atom->kind == Kind::mod && !rising && positive_divisor(atom->b) && nonnegative(atom->a, depth - 1))
      result.push_back(s.factor * atom->a + s.rest);  // x % k <= x
    if (atom->kind == (rising ? Kind::max : Kind::min))
      for (const Dim* operand : {&atom->a, &atom->b}) result.push_back(s.factor * *operand + s.rest);
    if (const std::optional<Dim> bound = rising ? range(*atom, depth).low : range(*atom, depth).high)
      if (!mentions(*bound, atom)) result.push_back(s.factor * *bound + s.rest);
    return result;
  }

  std::optional<Dim> high(const Dim& d, int depth) {
    const std::optional<Dim> negated = low(-d, depth);
    if (!negated) return std::nullopt;
    return -*negated;
  }

  Range range(const Atom& atom, int depth) {
    if (atom.kind == Kind::symbol) {
      const auto& [lowest, highest] = world_.of.at(atom.symbol);
      return {lowest, highest};
    }
    Range r;
    if (atom.kind == Kind::mod) {
      if (positive_divisor(atom.b)) r = {Dim(0), atom.b - 1};
      return r;
    }
    const std::optional<Dim> a_low = low(atom.a, depth - 1), a_high = high(atom.a, depth - 1);
    if (atom.kind == Kind::floor_div) {
      if (!positive_divisor(atom.b) || has_bounded_symbol(atom.b)) return r;
      if (a_low) r.low = *a_low / atom.b;
      if (a_high) r.high = *a_high / atom.b;
      return r;
    }
    const std::optional<Dim> b_low = low(atom.b, depth - 1), b_high = high(atom.b, depth - 1);
    const bool is_min = atom.kind == Kind::min;
    if (a_low && b_low) r.low = is_min ? min(*a_low, *b_low) : max(*a_low, *b_low);
    if (a_high && b_high) r.high = is_min ? min(*a_high, *b_high) : max(*a_high, *b_high);
    return r;
  }

  const Bounds& world_;
  int budget_ = 400;  // sums visited; proofs that matter need a few dozen
};

constexpr int proof_depth = 12;

/// Terms of `d` that `g` divides, over g, and the others.
struct Parts {
  Dim multiple, others;
};

Parts part_by(const Dim& d, const Dim& g) {
  Parts p;
  DimAccess::each(d, [&](int64_t c, const std::vector<AtomRef>& atoms) {
    const Dim term = atoms.empty() ? Dim(c) : DimAccess::make({Dim::Term{c, atoms}});
    const Dim q = term / g;
    if (!atoms.empty() && q * g == term)
      p.multiple += q;
    else
      p.others += term;
  });
  return p;
}

/// Candidates for a factor common to the divisor and some terms of the dividend.
std::vector<Dim> shared_factors(const Dim& dividend, const Dim& divisor) {
  std::vector<Dim> result;
  const std::vector<Dim::Term> by = divisor.terms();
  if (by.size() != 1) return {divisor};
  DimAccess::each(dividend, [&](int64_t c, const std::vector<AtomRef>& atoms) {
    if (atoms.empty() || c == INT64_MIN) return;
    Dim g = std::gcd(c, by[0].coefficient);
    std::vector<AtomRef> unused = atoms;
    for (const AtomRef& atom : by[0].atoms) {
      const auto found = std::find_if(unused.begin(), unused.end(), [&](const AtomRef& a) { return same(a, atom); });
      if (found == unused.end()) continue;
      g *= as_dim(atom);
      unused.erase(found);
    }
    if (!(g == Dim(1)) && std::find(result.begin(), result.end(), g) == result.end()) result.push_back(g);
  });
  return result;
}

bool in_range(const Dim& d, const Dim& extent, const Bounds& world) { return proven_nonnegative(d, world) && proven_less(d, extent, world); }

Dim simplify_quotient(const Dim& a, const Dim& b, Kind kind, const Bounds& world) {
  const bool is_mod = kind == Kind::mod;
  const Dim plain = is_mod ? a % b : a / b;
  if (b.is_constant() && b.constant() <= 0) return plain;
  if (in_range(a, b, world)) return is_mod ? a : Dim(0);
  // One value of the quotient throughout.
  const std::optional<Dim> lowest = lower_bound(a, world), highest = upper_bound(a, world);
  if (lowest && highest) {
    const Dim q = *lowest / b;
    if (q.is_constant() && q == *highest / b) return is_mod ? a - q * b : q;
  }
  for (const Dim& g : shared_factors(a, b)) {
    const Parts p = part_by(a, g);
    if (p.multiple == Dim(0)) continue;
    const Dim reduced = b / g;
    if (!(reduced * g == b)) continue;
    if (in_range(p.others, g, world)) {
      if (is_mod) return g * simplify_quotient(p.multiple, reduced, kind, world) + p.others;
      return simplify_quotient(p.multiple, reduced, kind, world);
    }
  }
  return plain;
}

Dim simplify_once(const Dim& d, const Bounds& world) {
  if (d.is_constant()) return d;
  Dim sum = 0;
  DimAccess::each(d, [&](int64_t c, const std::vector<AtomRef>& atoms) {
    Dim product = c;
    for (const AtomRef& atom : atoms) {
      if (atom->kind == Kind::symbol) {
        const auto entry = world.of.find(atom->symbol);
        const bool fixed = entry != world.of.end() && entry->second.first == entry->second.second;
        product *= fixed ? entry->second.first : as_dim(atom);
        continue;
      }
      const Dim a = simplify_once(atom->a, world), b = simplify_once(atom->b, world);
      if (atom->kind == Kind::floor_div || atom->kind == Kind::mod) {
        product *= simplify_quotient(a, b, atom->kind, world);
      } else {
        const bool is_min = atom->kind == Kind::min;
        if (proven_nonnegative(b - a, world))
          product *= is_min ? a : b;
        else if (proven_nonnegative(a - b, world))
          product *= is_min ? b : a;
        else
          product *= is_min ? min(a, b) : max(a, b);
      }
    }
    sum += product;
  });
  return sum;
}

}  // namespace

std::optional<Dim> lower_bound(const Dim& d, const Bounds& world) { return Prover(world).low(d, proof_depth); }

std::optional<Dim> upper_bound(const Dim& d, const Bounds& world) {
  const std::optional<Dim> negated = lower_bound(-d, world);
  if (!negated) return std::nullopt;
  return -*negated;
}

bool proven_nonnegative(const Dim& d, const Bounds& world) { return Prover(world).nonnegative(d, proof_depth); }

Dim simplify(const Dim& d, const Bounds& world) {
  Dim now = d;
  for (int round = 0; round < 4 && !now.is_constant(); ++round) {
    Dim next = simplify_once(now, world);
    if (next == now) break;
    now = std::move(next);
  }
  return now;
}

}  // namespace tilewright
