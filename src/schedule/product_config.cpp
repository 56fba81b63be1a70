#include "schedule/product_config.h"

#include <fmt/format.h>

#include "schedule/config_text.h"

namespace tilewright::schedule {
namespace {

template <class T>
struct Word {
  T value;
  const char* text;
};
using Method = ProductConfig::Method;
using Atom = ProductConfig::Atom;
using Split = ProductConfig::Split;
constexpr Word<Method> methods[] = {{Method::rows, "rows"}, {Method::winograd, "winograd"}, {Method::depthwise, "depthwise"}};
/// What there is to say of an atom: product_config.h.
struct AtomWord : Word<Atom> {
  int group, parts, lane_elements;
  bool on_tiles;
};
constexpr AtomWord atoms[] = {
    {{Atom::fma, "fma"}, 1, 1, 1, false},        {{Atom::dot8, "dot8"}, 4, 1, 4, false},        {{Atom::dot16, "dot16"}, 2, 1, 2, false},
    {{Atom::bf16, "bf16"}, 2, 1, 2, false},      {{Atom::amx8, "amx8"}, 4, 1, 4, true},         {{Atom::amx_bf16, "amx_bf16"}, 2, 1, 2, true},
    {{Atom::amx_f32, "amx_f32"}, 2, 3, 6, true}, {{Atom::amx_tf32, "amx_tf32"}, 2, 2, 4, true}, {{Atom::amx_digits, "amx_digits"}, 4, 3, 12, true},
    {{Atom::fma24, "fma24"}, 1, 1, 3, false},
};
constexpr Word<Split> splits[] = {{Split::automatic, "automatic"}, {Split::panels, "panels"}, {Split::rows, "rows"}};
constexpr Word<bool> switches[] = {{true, "on"}, {false, "off"}};
constexpr Word<bool> weights[] = {{true, "widened"}, {false, "stored"}};
constexpr Word<bool> lines[] = {{true, "joined"}, {false, "apart"}};

template <class W, size_t n, class T>
const W& word_of(const W (&words)[n], T value) {
  for (const W& word : words)
    if (word.value == value) return word;
  fail(ErrorKind::internal, "a product's configuration has a value without a name");
}

template <class W, size_t n, class T>
const char* text_of(const W (&words)[n], T value) {
  return word_of(words, value).text;
}

template <class W, size_t n>
auto value_of(const W (&words)[n], std::string_view text, std::string_view whole) {
  for (const W& word : words)
    if (word.text == text) return word.value;
  refuse(whole);
}

std::string bytes_text(int64_t bytes) { return bytes > 0 && bytes % 1024 == 0 ? fmt::format("{}K", bytes / 1024) : fmt::format("{}", bytes); }

int64_t bytes_of(std::string_view text, std::string_view whole) {
  if (!text.ends_with('K')) return number<int64_t>(text, whole);
  const auto kilobytes = number<int64_t>(text.substr(0, text.size() - 1), whole);
  if (kilobytes > (int64_t{1} << 40)) refuse(whole);
  return kilobytes * 1024;
}

}  // namespace

const char* name(Method method) { return text_of(methods, method); }
const char* name(Atom atom) { return text_of(atoms, atom); }

int64_t group_of(Atom atom) { return word_of(atoms, atom).group; }
int64_t parts_of(Atom atom) { return word_of(atoms, atom).parts; }
int64_t lane_elements(Atom atom) { return word_of(atoms, atom).lane_elements; }
bool on_tiles(Atom atom) { return word_of(atoms, atom).on_tiles; }

std::string print(const ProductConfig& c) {
  const std::string atom = c.atom == Atom::fma ? "" : fmt::format(" atom={}", name(c.atom));
  const std::string block = fmt::format("method={}{} block={}x{}", name(c.method), atom, c.block.rows, c.block.vectors);
  if (c.method != Method::rows) return block;
  return fmt::format("{} split={} panels={} strips={} ahead={}{}{}", block, text_of(splits, c.split), bytes_text(c.panel_bytes), bytes_text(c.strip_bytes),
                     text_of(switches, c.ahead), c.widened ? " weights=widened" : "", c.joined ? " lines=joined" : "");
}

ProductConfig parse_product_config(std::string_view text) {
  ProductConfig c;
  for_each_word(text, [&](std::string_view key, std::string_view value, std::string_view word) {
    if (key == "method") {
      c.method = value_of(methods, value, word);
    } else if (key == "atom") {
      c.atom = value_of(atoms, value, word);
    } else if (key == "block") {
      c.block = pair<ProductBlock>(value, word);
    } else if (key == "split") {
      c.split = value_of(splits, value, word);
    } else if (key == "panels") {
      c.panel_bytes = bytes_of(value, word);
    } else if (key == "strips") {
      c.strip_bytes = bytes_of(value, word);
    } else if (key == "weights") {
      c.widened = value_of(weights, value, word);
    } else if (key == "lines") {
      c.joined = value_of(lines, value, word);
    } else if (key == "ahead") {
      c.ahead = value_of(switches, value, word);
    } else {
      refuse(word);
    }
  });
  if (c.block.rows < 1 || c.block.vectors < 1) fail(ErrorKind::invalid_input, "a product's configuration names a block, as in block=6x4");
  return c;
}

}  // namespace tilewright::schedule
