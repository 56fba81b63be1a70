#include "target/source/nest_body.h"

#include <algorithm>

#include "base/error.h"

namespace tilewright::source {

NestBody::NestBody(const LoweredNest& nest, Names names, std::map<TensorId, std::string> pointers, Writer& out, std::string prefix,
                   std::map<TensorId, std::string> stores)
    : nest_(nest),
      names_(std::move(names)),
      pointers_(std::move(pointers)),
      stores_(std::move(stores)),
      out_(out),
      prefix_(std::move(prefix)),
      symbols_(nest.symbols) {
  wanted_.assign(nest.nodes.size(), false);
  stores_.insert(pointers_.begin(), pointers_.end());
  scopes_.push_back({});
}

void NestBody::enter(const std::string& symbol, const std::string& name) {
  names_[symbol] = name;
  scopes_.push_back({symbol, {}, {}, {}, {}});
}

void NestBody::leave() {
  const Scope& scope = scopes_.back();
  for (const ExprId id : scope.values) values_.erase(id);
  for (const size_t access : scope.pointers) load_places_.erase(access);
  for (const size_t output : scope.store_pointers) store_places_.erase(output);
  for (const size_t access : scope.checks) checks_.erase(access);
  if (!scope.symbol.empty()) names_.erase(scope.symbol);
  scopes_.pop_back();
}

void NestBody::want(const std::vector<ExprId>& roots) { wanted_ = closure(nest_, roots); }

void NestBody::set_reduced(int r, const Operand& value, const std::set<std::string>& symbols) {
  for (size_t id = 0; id < nest_.nodes.size(); ++id) {
    const ExprNode& node = nest_.nodes[id];
    if (node.op == ExprOp::reduced && node.integer == r) {
      values_[static_cast<ExprId>(id)] = value;
      scopes_.back().values.push_back(static_cast<ExprId>(id));
    }
  }
  // What is computed from results depends on what they depend on.
  for (size_t id = 0; id < nest_.nodes.size(); ++id) {
    const ExprNode& node = nest_.nodes[id];
    if (node.op == ExprOp::reduced && node.integer == r) symbols_[id].insert(symbols.begin(), symbols.end());
    for (const ExprId arg : node.args) symbols_[id].insert(symbols_[static_cast<size_t>(arg)].begin(), symbols_[static_cast<size_t>(arg)].end());
  }
}

std::string NestBody::as_vector(const std::string& text) { return fmt::format("tile::as_vector({})", text); }

bool NestBody::known(ExprId id) const {
  for (const std::string& symbol : symbols_[static_cast<size_t>(id)])
    if (names_.count(symbol) == 0) return false;
  return true;
}

void NestBody::write_known(bool but_loads) {
  std::vector<bool> skipped(nest_.nodes.size(), false);
  for (size_t i = 0; i < nest_.nodes.size(); ++i) {
    const ExprId id = static_cast<ExprId>(i);
    const ExprNode& node = nest_.nodes[i];
    if (!wanted_[i] || values_.count(id)) continue;
    bool skip = !known(id) || (but_loads && node.op == ExprOp::load) || node.op == ExprOp::reduced;
    for (const ExprId arg : node.args) skip |= skipped[static_cast<size_t>(arg)];
    if (node.op == ExprOp::load) {
      const Address& address = nest_.loads[static_cast<size_t>(node.integer)];
      for (const Indirect& indirect : address.indirect) skip |= skipped[static_cast<size_t>(indirect.value)];
      if (address.fill >= 0) skip |= skipped[static_cast<size_t>(address.fill)];
    }
    skipped[i] = skip;
    if (!skip) write_node(id);
  }
}

Operand NestBody::value(ExprId id) const {
  const auto found = values_.find(id);
  if (found == values_.end()) fail(ErrorKind::internal, "internal error: expression node {} is used before it is written", id);
  return found->second;
}

std::optional<Operand> NestBody::by_condition(const ExprNode& node, const std::vector<Operand>& args) const {
  const bool both = node.op == ExprOp::logical_and || node.op == ExprOp::bit_and;
  if (node.dtype != DType::boolean || !(both || node.op == ExprOp::logical_or || node.op == ExprOp::bit_or)) return std::nullopt;
  const std::vector<ExprId>& here = scopes_.back().values;
  const auto settled = [&](size_t i) { return std::find(here.begin(), here.end(), node.args[i]) == here.end(); };
  if (settled(0) == settled(1)) return std::nullopt;
  const Operand &fixed = args[settled(0) ? 0 : 1], &other = args[settled(0) ? 1 : 0];
  return Operand{fmt::format("{} ? {} : {}", fixed.text, both ? other.text : "true", both ? "false" : other.text), DType::boolean, true};
}

void NestBody::write_node(ExprId id) {
  const ExprNode& node = nest_.nodes[static_cast<size_t>(id)];
  Operand& value = values_[id];
  scopes_.back().values.push_back(id);
  switch (node.op) {
    case ExprOp::constant: value = {literal(node.dtype, node.real, node.integer), node.dtype, true}; return;
    case ExprOp::index: value = {index(nest_.coordinates[static_cast<size_t>(node.integer)]), DType::i64, true}; break;
    case ExprOp::size: value = {index(node.dim), DType::i64, true}; break;
    case ExprOp::load: write_load(id, nest_.loads[static_cast<size_t>(node.integer)], static_cast<size_t>(node.integer)); return;
    case ExprOp::cast:
    case ExprOp::div:
    case ExprOp::select:
      if (!vectors_along_.empty()) {
        write_vector(id, node);
        return;
      }
      [[fallthrough]];
    default: {
      std::vector<Operand> args;
      for (const ExprId arg : node.args) args.push_back(this->value(arg));
      value = by_condition(node, args).value_or(print_operation(node, args));
    }
  }
  const std::string name = fmt::format("{}v{}", prefix_, id);
  out_.line(fmt::format("const {} {} = {};", !vectors_along_.empty() ? "auto" : value_type(value.dtype), name, value.text));
  value.text = name;
}

void NestBody::each_vector(const std::string& symbol, const std::string& name, const std::function<void()>& content) {
  out_.pragma("TILE_UNROLL");
  out_.open("for (int i = 0; i < count; ++i)");
  out_.line(fmt::format("const i64 {} = first + i * tile::lanes<float>;", name));
  enter(symbol, name);
  vectors_along_ = symbol;
  write_known();
  content();
  vectors_along_.clear();
  leave();
  out_.close();
}

void NestBody::write_vector_stores(const std::string& symbol, const std::string& name, const std::vector<size_t>& stores) {
  const auto values = [&](size_t i) { return fmt::format("{}values{}", prefix_, i); };
  for (const size_t i : stores) out_.line(fmt::format("tile::vec<float> {}[count];", values(i)));
  each_vector(symbol, name, [&] {
    for (const size_t i : stores) out_.line(fmt::format("{}[i] = {};", values(i), as_vector(value(nest_.stored_values[i]).text)));
  });
  enter(symbol, "first");
  for (const size_t i : stores) out_.line(fmt::format("tile::store_rounded(&{}, {});", stored_element(i), values(i)));
  leave();
}

void NestBody::write_vector(ExprId id, const ExprNode& node) {
  const auto arg = [&](size_t i) { return value(node.args[i]).text; };
  if (node.op == ExprOp::cast) {  // of what was loaded, as floats
    values_[id] = {arg(0), node.dtype, true};
    return;
  }
  const std::string name = fmt::format("{}v{}", prefix_, id);
  if (node.op == ExprOp::div) out_.line(fmt::format("const auto {} = tile::divide({}, {});", name, arg(0), arg(1)));
  if (node.op == ExprOp::select) out_.line(fmt::format("const auto {} = {} ? {} : {};", name, arg(0), as_vector(arg(1)), as_vector(arg(2))));
  values_[id] = {name, node.dtype, true};
}

namespace {
/// Elements that tile::load_wide<float>() and tile::store_rounded() take.
bool is_vector_element(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16; }
}  // namespace

bool NestBody::values_fit_vectors(const std::string& symbol, const std::vector<ExprId>& roots) const {
  const auto side_by_side = [&](const Address& address) {
    const auto affine = schedule::affine_in(address.offset, symbol);
    const bool whole = address.indirect.empty() && std::none_of(address.guards.begin(), address.guards.end(), [&](const Guard& guard) {
                         return schedule::mentions(guard.value, symbol) || schedule::mentions(guard.low, symbol) || schedule::mentions(guard.high, symbol);
                       });
    return is_vector_element(address.dtype) && affine && affine->slope == Dim(1) && whole;
  };
  const std::vector<bool> needed = closure(nest_, roots);
  std::vector<bool> changes(nest_.nodes.size(), false);
  for (size_t i = 0; i < nest_.nodes.size(); ++i) {
    const ExprNode& node = nest_.nodes[i];
    changes[i] = node.op == ExprOp::reduced || symbols_[i].count(symbol) > 0;
    for (const ExprId arg : node.args) changes[i] = changes[i] || changes[static_cast<size_t>(arg)];
    const Address* const address = node.op == ExprOp::load ? &nest_.loads[static_cast<size_t>(node.integer)] : nullptr;
    const bool fill_changes = address && address->fill >= 0 && changes[static_cast<size_t>(address->fill)];
    changes[i] = changes[i] || fill_changes;
    for (const Indirect& indirect : address ? address->indirect : std::vector<Indirect>{})
      changes[i] = changes[i] || changes[static_cast<size_t>(indirect.value)];
    if (!needed[i] || !changes[i]) continue;
    if (address) {
      if (!side_by_side(*address) || fill_changes) return false;
      continue;
    }
    if (!is_vector_element(node.dtype)) return false;
    switch (node.op) {
      // Exact, whatever the type.
      case ExprOp::reduced:
      case ExprOp::neg:
      case ExprOp::min:
      case ExprOp::max: break;
      case ExprOp::select:
        if (changes[static_cast<size_t>(node.args[0])]) return false;
        break;
      case ExprOp::cast:
        if (node.dtype != DType::f32 || nest_.nodes[static_cast<size_t>(node.args[0])].op != ExprOp::load) return false;
        break;
      case ExprOp::add:
      case ExprOp::sub:
      case ExprOp::mul:
      case ExprOp::div:
      case ExprOp::sigmoid:
        if (node.dtype != DType::f32) return false;
        break;
      default: return false;
    }
  }
  return true;
}

bool NestBody::stores_fit_vectors(const std::string& symbol, const std::vector<size_t>& stores) const {
  std::vector<ExprId> roots;
  for (const size_t i : stores) {
    const Address& store = nest_.stores[i];
    const auto affine = schedule::affine_in(store.offset, symbol);
    if (!is_vector_element(store.dtype) || !affine || affine->slope != Dim(1) || !store.guards.empty() || !store.indirect.empty()) return false;
    const DType value = nest_.nodes[static_cast<size_t>(nest_.stored_values[i])].dtype;
    if (value != DType::f32 && value != store.dtype) return false;
    roots.push_back(nest_.stored_values[i]);
  }
  return values_fit_vectors(symbol, roots);
}

std::string NestBody::check(const Guard& guard) const {
  if (guard.kind == Guard::divisible) return fmt::format("tile::mod<i64>({}, {}) == 0", index(guard.value), index(guard.high));
  // One comparison for both ends: below `low` the difference is a huge unsigned number.
  if (guard.check_low && guard.check_high)
    return fmt::format("static_cast<uint64_t>({}) < static_cast<uint64_t>({})", index(guard.value - guard.low), index(guard.high - guard.low));
  if (guard.check_low) return fmt::format("{} >= {}", index(guard.value), index(guard.low));
  return fmt::format("{} < {}", index(guard.value), index(guard.high));
}

void NestBody::write_load(ExprId id, const Address& address, size_t access) {
  std::string may_be_empty;  // an empty tensor has nothing to clamp to, and reads as zeros
  for (const Indirect& indirect : address.indirect) {
    // Each load of the access has its own scope, so the name carries the node.
    const std::string name = fmt::format("{}at{}_{}", prefix_, id, &indirect - address.indirect.data());
    const std::string asked = value(indirect.value).text;
    if (indirect.clamp && indirect.extent.as_constant().value_or(0) <= 0)
      may_be_empty += fmt::format("{}({} > 0)", may_be_empty.empty() ? "" : " & ", index(indirect.extent));
    if (indirect.clamp)
      out_.line(fmt::format("const i64 {} = tile::clamp<i64>({}, 0, {});", name, asked, index(indirect.extent - 1)));
    else
      out_.line(fmt::format("const i64 {} = {};", name, asked));
    names_[indirect.symbol] = name;
  }
  std::vector<std::string> conditions;
  const auto checked = checks_.find(access);
  const bool assumed = assumed_.count(access) > 0;
  if (checked != checks_.end() && !assumed) conditions.push_back(checked->second.first);
  for (size_t g = 0; g < address.guards.size(); ++g)
    if (!assumed && (checked == checks_.end() || !checked->second.second[g])) conditions.push_back(check(address.guards[g]));
  for (const Indirect& indirect : address.indirect)
    if (!indirect.clamp)
      conditions.push_back(fmt::format("static_cast<uint64_t>({}) < static_cast<uint64_t>({})", names_.at(indirect.symbol), index(indirect.extent)));

  if (!vectors_along_.empty()) {
    const auto affine = schedule::affine_in(address.offset, vectors_along_);
    if (!affine || affine->slope != Dim(1)) fail(ErrorKind::internal, "internal error: access {} along a vector is not side by side", access);
  }
  std::string text = element(load_places_, access, address, pointers_);
  text = !vectors_along_.empty() ? fmt::format("tile::load_wide<float>(&{})", text) : loaded(address.dtype, text);
  if (!conditions.empty()) {
    std::string all = conditions[0];
    if (conditions.size() > 1) {
      all.clear();
      for (const std::string& one : conditions) all += (all.empty() ? "(" : " & (") + one + ")";
    }
    const std::string fill = value(address.fill).text;
    text = fmt::format("{} ? {} : {}", all, text, !vectors_along_.empty() ? as_vector(fill) : fill);
  }
  if (!may_be_empty.empty()) text = fmt::format("{} ? ({}) : {}", may_be_empty, text, literal(address.dtype, 0, 0));
  const std::string name = fmt::format("{}v{}", prefix_, id);
  out_.line(fmt::format("const {} {} = {};", !vectors_along_.empty() ? "auto" : value_type(address.dtype), name, text));
  values_[id] = {name, address.dtype, true};
  for (const Indirect& indirect : address.indirect) names_.erase(indirect.symbol);
}

std::string NestBody::element(const std::map<size_t, Place>& places, size_t i, const Address& address, const std::map<TensorId, std::string>& bases) const {
  const auto found = places.find(i);
  if (found != places.end()) return fmt::format("{}[{}]", found->second.pointer, index(found->second.rest));
  return fmt::format("{}[{}]", bases.at(address.tensor), index(address.offset));
}

std::string NestBody::element_or_zero(size_t access) const {
  const Address& address = nest_.loads[access];
  const std::string text = element(load_places_, access, address, pointers_);
  std::string inside;
  for (const Guard& guard : address.guards) inside += fmt::format("{}({})", inside.empty() ? "" : " & ", check(guard));
  return inside.empty() ? text : fmt::format("{} ? {} : {}{{}}", inside, text, storage_type(address.dtype));
}

/// Splits `address` into what is known now and what depends on `symbol` or on data.
std::string NestBody::prepare_pointer(const Address& address, const std::string& base, const std::string& symbol, const std::string& name, Place& place) {
  Dim known_part = 0, rest = 0;
  for (const Dim::Term& term : address.offset.terms()) {
    Dim factor = term.coefficient;
    bool later = false;
    for (const auto& atom : term.atoms) {
      const Dim atom_dim = atom->kind == Dim::AtomKind::symbol      ? Dim::symbol(atom->symbol)
                           : atom->kind == Dim::AtomKind::floor_div ? atom->a / atom->b
                           : atom->kind == Dim::AtomKind::mod       ? atom->a % atom->b
                           : atom->kind == Dim::AtomKind::min       ? min(atom->a, atom->b)
                                                                    : max(atom->a, atom->b);
      factor = factor * atom_dim;
    }
    std::set<std::string> symbols;
    factor.collect_symbols(symbols);
    for (const std::string& one : symbols) later |= one == symbol || names_.count(one) == 0;
    (later ? rest : known_part) += factor;
  }
  place.rest = rest;
  if (known_part == Dim(0)) {
    place.pointer = base;
    return "";
  }
  place.pointer = name;
  return fmt::format("const auto {} = {} + {};", name, base, factor(known_part));
}

void NestBody::write_pointers(const std::string& symbol, const std::vector<size_t>& stores) {
  Scope& scope = scopes_.back();
  for (size_t i = 0; i < nest_.nodes.size(); ++i) {
    const ExprNode& node = nest_.nodes[i];
    if (!wanted_[i] || node.op != ExprOp::load || values_.count(static_cast<ExprId>(i))) continue;
    const size_t access = static_cast<size_t>(node.integer);
    if (load_places_.count(access)) continue;
    const Address& address = nest_.loads[access];
    Place& place = load_places_[access];
    scope.pointers.push_back(access);
    const std::string text = prepare_pointer(address, pointers_.at(address.tensor), symbol, fmt::format("{}p{}", prefix_, access), place);
    if (!text.empty()) out_.line(text);
    std::vector<bool> covered(address.guards.size(), false);
    std::string all;
    for (size_t g = 0; g < address.guards.size(); ++g) {
      std::set<std::string> symbols;
      for (const Dim* e : {&address.guards[g].value, &address.guards[g].low, &address.guards[g].high}) e->collect_symbols(symbols);
      const bool now = std::all_of(symbols.begin(), symbols.end(), [&](const std::string& one) { return names_.count(one) > 0; });
      if (!now) continue;
      covered[g] = true;
      all += (all.empty() ? "(" : " & (") + check(address.guards[g]) + ")";
    }
    if (all.empty()) continue;
    const std::string name = fmt::format("{}inside{}", prefix_, access);
    out_.line(fmt::format("const bool {} = {};", name, all));
    checks_[access] = {name, covered};
    scope.checks.push_back(access);
  }
  for (const size_t i : stores) {
    const std::string text = prepare_pointer(nest_.stores[i], stores_.at(nest_.stores[i].tensor), symbol, fmt::format("{}q{}", prefix_, i), store_places_[i]);
    scope.store_pointers.push_back(i);
    if (!text.empty()) out_.line(text);
  }
}

NestBody::Interior NestBody::interior(const std::string& symbol) const {
  Interior found;
  std::set<size_t> seen;
  for (size_t i = 0; i < nest_.nodes.size(); ++i) {
    const ExprNode& node = nest_.nodes[i];
    if (!wanted_[i] || node.op != ExprOp::load || values_.count(static_cast<ExprId>(i)) || !seen.insert(static_cast<size_t>(node.integer)).second) continue;
    const size_t access = static_cast<size_t>(node.integer);
    const Address& address = nest_.loads[access];
    if (address.guards.empty() || !address.indirect.empty()) continue;
    std::vector<std::string> first, last;
    bool fits = true;
    const auto known_now = [&](const Dim& e) {
      std::set<std::string> symbols;
      e.collect_symbols(symbols);
      return std::all_of(symbols.begin(), symbols.end(), [&](const std::string& one) { return names_.count(one) > 0; });
    };
    // ceil(e / step)
    const auto rounded_up = [&](const Dim& e, int64_t step) {
      return step == 1 ? index(e) : fmt::format("tile::floor_div<i64>({}, {})", index(e + (step - 1)), step);
    };
    for (const Guard& guard : address.guards) {
      if (!schedule::mentions(guard.value, symbol)) {
        fits = fits && known_now(guard.value) && known_now(guard.low) && known_now(guard.high);
        continue;
      }
      const auto affine = schedule::affine_in(guard.value, symbol);
      const int64_t step = affine ? affine->slope.as_constant().value_or(0) : 0;
      fits = fits && guard.kind == Guard::range && step > 0 && known_now(affine->at_zero) && known_now(guard.low) && known_now(guard.high);
      if (!fits) break;
      if (guard.check_low) first.push_back(rounded_up(guard.low - affine->at_zero, step));
      if (guard.check_high) last.push_back(rounded_up(guard.high - affine->at_zero, step));
    }
    if (!fits) continue;
    found.accesses.push_back(access);
    found.first.insert(found.first.end(), first.begin(), first.end());
    found.last.insert(found.last.end(), last.begin(), last.end());
    const auto checked = checks_.find(access);
    if (checked != checks_.end()) found.inside += (found.inside.empty() ? "" : " & ") + checked->second.first;
  }
  return found;
}

std::string NestBody::stored_element(size_t i) const { return element(store_places_, i, nest_.stores[i], stores_); }

std::string NestBody::stored_text(size_t i) {
  const Operand result = value(nest_.stored_values[i]);
  return stored(nest_.stores[i].dtype, result.text, result.exact);
}

std::string NestBody::computed_text(size_t i) { return converted(value(nest_.stored_values[i]), DType::f32); }

void NestBody::write_store(size_t i) {
  const std::string text = stored_text(i);
  out_.line(fmt::format("{} = {};", stored_element(i), text));
}

}  // namespace tilewright::source
