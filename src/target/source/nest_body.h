#pragma once

#include <functional>
#include <optional>

#include "target/source/cpp_text.h"
#include "target/source/lower_nest.h"
#include "target/source/print_expr.h"

namespace tilewright::source {

/// Writes what happens inside the loops of one nest: every node once, in the outermost loop where its value is known.
class NestBody {
 public:
  /// `stores`: what tensors are called where they are written, when that is not what `pointers` say.
  NestBody(const LoweredNest& nest, Names names, std::map<TensorId, std::string> pointers, Writer& out, std::string prefix = "",
           std::map<TensorId, std::string> stores = {});

  // Loops. `symbol` gets a value called `name` in what follows, until leave().
  void enter(const std::string& symbol, const std::string& name);
  void leave();
  /// Gives `symbol` a value for good.
  void name(const std::string& symbol, const std::string& text) { names_[symbol] = text; }

  /// Which nodes are wanted from here on; what was written stays available.
  void want(const std::vector<ExprId>& roots);
  /// Writes the wanted nodes whose loop symbols all have values. `but_loads`: leaves out those that read memory (a loop
  /// further in may turn out empty, and then nothing may be read).
  void write_known(bool but_loads = false);
  /// Before the innermost loop, over `symbol`: pointers to where its accesses begin, and the guards that do not depend on it.
  void write_pointers(const std::string& symbol, const std::vector<size_t>& stores);

  /// Where, along the loop over `symbol`, the padded accesses of the wanted nodes all lie inside their tensors: from `first`
  /// up to `last`, if `inside` (empty: always). Accesses whose guards have no such interval are not among `accesses`.
  struct Interior {
    std::vector<size_t> accesses;
    std::vector<std::string> first, last;  ///< the largest and the smallest of these
    std::string inside;
  };
  Interior interior(const std::string& symbol) const;
  /// Loads of these accesses are written without their guards until the next call.
  void assume_inside(std::vector<size_t> accesses) { assumed_ = {accesses.begin(), accesses.end()}; }

  /// Whether `roots` can be computed in vectors along `symbol`: they are made of floats that lie side by side, or do not change along it, by operations
  /// that tile/vector_math.h has, and by choices between these where the condition does not change.
  bool values_fit_vectors(const std::string& symbol, const std::vector<ExprId>& roots) const;
  /// Whether these outputs, too, are floats that lie side by side.
  bool stores_fit_vectors(const std::string& symbol, const std::vector<size_t>& stores) const;
  /// In a function of `first` and `count` for tile::in_vectors(): a loop over vectors, `i` a vector's number and `name` its first element along `symbol`.
  /// Nodes are vectors there.
  void each_vector(const std::string& symbol, const std::string& name, const std::function<void()>& content);
  /// The same with stores of these outputs.
  void write_vector_stores(const std::string& symbol, const std::string& name, const std::vector<size_t>& stores);
  /// A float, or a vector of floats, as a vector.
  static std::string as_vector(const std::string& text);

  /// How result `r` of the reductions is written in what follows; it depends on `symbols`.
  void set_reduced(int r, const Operand& value, const std::set<std::string>& symbols);
  Operand value(ExprId id) const;
  /// An access as its tensor holds it, without conversion; zeros where its guards fail. Not for indirect accesses.
  std::string element_or_zero(size_t access) const;
  /// The element that output `i` goes to, and what is stored there.
  std::string stored_element(size_t i) const;
  std::string stored_text(size_t i);
  /// The same of floats, before it is rounded to the output's elements.
  std::string computed_text(size_t i);
  /// Writes the store of output `i`.
  void write_store(size_t i);

  std::string index(const Dim& e) const { return print_index(e, names_, nest_.bounds); }
  std::string factor(const Dim& e) const { return print_factor(e, names_, nest_.bounds); }
  const Names& names() const { return names_; }
  Writer& out() { return out_; }

 private:
  struct Scope {
    std::string symbol;
    std::vector<ExprId> values;
    std::vector<size_t> pointers, store_pointers, checks;
  };
  struct Place {
    std::string pointer;
    Dim rest;  ///< what is left to add to the pointer
  };

  bool known(ExprId id) const;
  void write_node(ExprId id);
  /// A cast, a quotient or a choice where nodes are vectors.
  void write_vector(ExprId id, const pattern::ExprNode& node);
  /// A truth value of one argument that the loop changes and one that it does not, which becomes a condition: as an operand, it would be spread
  /// over the bits of a mask, one by one.
  std::optional<Operand> by_condition(const ExprNode& node, const std::vector<Operand>& args) const;
  void write_load(ExprId id, const Address& address, size_t access);
  std::string element(const std::map<size_t, Place>& places, size_t i, const Address& address, const std::map<TensorId, std::string>& bases) const;
  std::string check(const Guard& guard) const;
  std::string prepare_pointer(const Address& address, const std::string& base, const std::string& symbol, const std::string& name, Place& place);
  std::set<std::string> symbols_of(ExprId id) const;

  const LoweredNest& nest_;
  Names names_;
  std::map<TensorId, std::string> pointers_, stores_;
  Writer& out_;
  std::string prefix_;
  std::vector<bool> wanted_;
  std::map<ExprId, Operand> values_;
  std::map<size_t, Place> load_places_, store_places_;                  ///< by access, by output
  std::map<size_t, std::pair<std::string, std::vector<bool>>> checks_;  ///< by access: a bool's name, guards it covers
  std::set<size_t> assumed_;
  std::string vectors_along_;  ///< the symbol along which nodes are written as vectors, see each_vector(); empty: they are not
  std::vector<Scope> scopes_;
  std::vector<std::set<std::string>> symbols_;  ///< of nodes, reductions' results included
};

}  // namespace tilewright::source
