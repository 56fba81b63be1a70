#pragma once

#include <utility>
#include <vector>

#include "base/dim.h"

namespace tilewright {

/// The representation of a Dim, for the files that implement it.
struct DimAccess {
  /// From sorted, joined, non-zero terms.
  static Dim make(std::vector<Dim::Term> terms) {
    Dim d;
    if (terms.empty()) return d;
    if (terms.size() == 1 && terms[0].atoms.empty()) {
      d.small_ = terms[0].coefficient;
    } else {
      d.terms_ = std::make_shared<const std::vector<Dim::Term>>(std::move(terms));
    }
    return d;
  }

  /// The terms of a Dim that is no constant.
  static const std::vector<Dim::Term>& stored(const Dim& d) { return *d.terms_; }
  static bool same_storage(const Dim& a, const Dim& b) { return a.terms_ != nullptr && a.terms_ == b.terms_; }
  static size_t count(const Dim& d) { return d.terms_ != nullptr ? d.terms_->size() : d.small_ != 0; }

  /// Calls visit(coefficient, atoms) for every term.
  template <class Visit>
  static void each(const Dim& d, Visit&& visit) {
    static const std::vector<std::shared_ptr<const Dim::Atom>> none;
    if (d.terms_ != nullptr) {
      for (const Dim::Term& t : *d.terms_) visit(t.coefficient, t.atoms);
    } else if (d.small_ != 0) {
      visit(d.small_, none);
    }
  }
};

}  // namespace tilewright
