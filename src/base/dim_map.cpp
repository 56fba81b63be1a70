#include "base/dim_map.h"

#include <charconv>

#include "base/error.h"

namespace tilewright {
namespace {

using tile::TransformKind;
using Transform = tile::Transform<Dim>;
using Condition = tile::Condition<Dim>;

/// As an operand: in brackets unless it is a plain number or name.
std::string operand(const Dim& d) { return (d.is_constant() && d.constant() >= 0) || d.as_symbol() ? d.str() : "(" + d.str() + ")"; }

std::string slot_name(int slot) { return "$" + std::to_string(slot); }

std::string definition(const DimMap& map, const Transform& t) {
  switch (t.kind) {
    case TransformKind::divide: return slot_name(t.a) + "/" + operand(t.amount);
    case TransformKind::remainder: return slot_name(t.a) + "%" + operand(t.amount);
    case TransformKind::swizzle: return slot_name(t.a) + "^" + slot_name(t.b) + ":" + std::to_string(t.bits) + "<<" + std::to_string(t.shift);
    case TransformKind::affine: break;
  }
  std::string text;
  for (int i = 0; i < t.term_count; ++i) {
    const tile::MapTerm<Dim>& term = map.terms()[t.first_term + i];
    text += (i ? "+" : "") + (term.factor == Dim(1) ? "" : operand(term.factor) + "*") + slot_name(term.slot);
  }
  if (!(t.amount == Dim(0)) || t.term_count == 0) text += (text.empty() ? "" : "+") + operand(t.amount);
  return text;
}

class MapParser {
 public:
  explicit MapParser(std::string_view text) : text_(text) {}

  DimMap map() {
    need("[");
    if (!take("]")) {
      do extents_.push_back(dim_until(",]"));
      while (take(","));
      need("]");
    }
    need("->");
    need("[");
    std::vector<int> outputs;
    if (!take("]")) {
      do outputs.push_back(number_after_dollar());
      while (take(","));
      need("]");
    }
    if (take("with")) {
      do define();
      while (take(";"));
    }
    if (take("where")) {
      do condition();
      while (take(";"));
    }
    skip();
    if (at_ != text_.size()) bad("the end");
    DimMap::Outputs checked;
    for (const int slot : outputs) checked.push_back(defined(slot));
    return DimMap::from_parts(extents_, transforms_, terms_, conditions_, checked);
  }

 private:
  [[noreturn]] void bad(const char* expected) const {
    fail(ErrorKind::invalid_input, "coordinate map '{}': expected {} at character {}", text_.substr(0, 300), expected, at_ + 1);
  }
  void skip() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  bool take(std::string_view word) {
    skip();
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  void need(const char* word) {
    if (!take(word)) bad(word);
  }

  int number() {
    skip();
    int value = 0;
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc() || value < 0) bad("a number");
    at_ = static_cast<size_t>(end - text_.data());
    return value;
  }
  int number_after_dollar() {
    need("$");
    return number();
  }
  int defined(int slot) const {
    if (slot >= extents_.size() + transforms_.size()) bad("a slot that is defined");
    return slot;
  }
  int slot() { return defined(number_after_dollar()); }

  /// The size up to one of `stops` outside brackets, or to the end.
  Dim dim_until(std::string_view stops) {
    skip();
    const size_t start = at_;
    for (int depth = 0; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (depth == 0 && stops.find(c) != std::string_view::npos) break;
      depth += c == '(';
      depth -= c == ')';
    }
    return Dim::parse(text_.substr(start, at_ - start));
  }
  Dim operand_dim() { return dim_until(" +*;<=,]"); }

  void define() {
    if (number_after_dollar() != extents_.size() + transforms_.size()) bad("the next slot's number");
    need("=");
    Transform t;
    const size_t start = at_;
    if (take("$")) {
      t.a = defined(number());
      if (take("/"))
        t.kind = TransformKind::divide;
      else if (take("%"))
        t.kind = TransformKind::remainder;
      else if (take("^"))
        t.kind = TransformKind::swizzle;
    }
    if (t.kind == TransformKind::swizzle) {
      t.b = slot();
      need(":");
      t.bits = number();
      need("<<");
      t.shift = number();
      if (t.bits > 30 || t.shift > 30) bad("at most 30 bits");
    } else if (t.kind != TransformKind::affine) {
      t.amount = operand_dim();
      if (t.amount == Dim(0)) bad("a divisor that is not 0");
    } else {
      at_ = start;
      t.a = 0;
      t.first_term = terms_.size();
      do {
        skip();
        if (at_ < text_.size() && text_[at_] == '$') {
          terms_.push_back({slot(), Dim(1)});
          continue;
        }
        const Dim value = operand_dim();
        if (take("*"))
          terms_.push_back({slot(), value});
        else
          t.amount = t.amount + value;
      } while (take("+"));
      t.term_count = terms_.size() - t.first_term;
    }
    transforms_.push_back(t);
  }

  void condition() {
    Condition c;
    skip();
    if (at_ < text_.size() && text_[at_] == '$') {
      c.kind = Condition::divisible;
      c.slot = slot();
      need("%");
      c.high = operand_dim();
      need("==0");
    } else {
      c.low = operand_dim();
      need("<=");
      c.slot = slot();
      need("<");
      c.high = operand_dim();
    }
    conditions_.push_back(c);
  }

  std::string_view text_;
  size_t at_ = 0;
  DimMap::Extents extents_;
  DimMap::Transforms transforms_;
  DimMap::Terms terms_;
  DimMap::Conditions conditions_;
};

/// The same map over another integer type, each number converted.
template <class Int, class Convert>
tile::CoordMap<Int> converted(const DimMap& map, Convert&& convert) {
  using Map = tile::CoordMap<Int>;
  typename Map::Extents extents;
  typename Map::Transforms transforms;
  typename Map::Terms terms;
  typename Map::Conditions conditions;
  typename Map::Outputs outputs;
  for (int d = 0; d < map.rank_in(); ++d) extents.push_back(convert(map.extent_in(d)));
  for (const Transform& t : map.transforms()) transforms.push_back({t.kind, t.first_term, t.term_count, t.a, t.b, t.shift, t.bits, convert(t.amount)});
  for (const tile::MapTerm<Dim>& t : map.terms()) terms.push_back({t.slot, convert(t.factor)});
  for (const Condition& c : map.conditions())
    conditions.push_back({static_cast<typename tile::Condition<Int>::Kind>(c.kind), c.slot, convert(c.low), convert(c.high)});
  for (const int slot : map.outputs()) outputs.push_back(slot);
  return Map::from_parts(extents, transforms, terms, conditions, outputs);
}

}  // namespace

std::string str(const DimMap& map) {
  std::string text = "[";
  for (int d = 0; d < map.rank_in(); ++d) text += (d ? "," : "") + map.extent_in(d).str();
  text += "] -> [";
  for (int i = 0; i < map.rank_out(); ++i) text += (i ? "," : "") + slot_name(map.outputs()[i]);
  text += "]";
  for (int i = 0; i < map.transforms().size(); ++i) text += (i ? "; " : " with ") + slot_name(map.rank_in() + i) + "=" + definition(map, map.transforms()[i]);
  for (int i = 0; i < map.conditions().size(); ++i) {
    const Condition& c = map.conditions()[i];
    text += i ? "; " : " where ";
    if (c.kind == Condition::range)
      text += operand(c.low) + "<=" + slot_name(c.slot) + "<" + operand(c.high);
    else
      text += slot_name(c.slot) + "%" + operand(c.high) + "==0";
  }
  return text;
}

DimMap parse_map(std::string_view text) { return MapParser(text).map(); }

tile::CoordMap<int64_t> evaluate(const DimMap& map, const std::map<std::string, int64_t>& values) {
  if (map.rank_in() > tile::max_rank || map.rank_out() > tile::max_rank || map.transforms().size() > tile::max_transforms ||
      map.terms().size() > tile::max_terms || map.conditions().size() > tile::max_conditions)
    fail(ErrorKind::unsupported, "a coordinate map of rank {} with {} transforms is too large for a kernel", map.rank_in(), map.transforms().size());
  return converted<int64_t>(map, [&](const Dim& d) { return d.evaluate(values); });
}

DimMap substitute(const DimMap& map, const std::map<std::string, Dim>& values) {
  return converted<Dim>(map, [&](const Dim& d) { return d.substitute(values); }).simplified();
}

}  // namespace tilewright
