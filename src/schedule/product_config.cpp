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
constexpr Word<Atom> atoms[] = {{Atom::fma, "fma"},         {Atom::dot8, "dot8"},         {Atom::dot16, "dot16"},
                                {Atom::bf16, "bf16"},       {Atom::amx8, "amx8"},         {Atom::amx_bf16, "amx_bf16"},
                                {Atom::amx_f32, "amx_f32"}, {Atom::amx_tf32, "amx_tf32"}, {Atom::amx_digits, "amx_digits"}};
constexpr Word<Split> splits[] = {{Split::automatic, "automatic"}, {Split::panels, "panels"}, {Split::rows, "rows"}};
constexpr Word<bool> switches[] = {{true, "on"}, {false, "off"}};
constexpr Word<bool> weights[] = {{true, "widened"}, {false, "stored"}};
constexpr Word<bool> lines[] = {{true, "joined"}, {false, "apart"}};

template <class T, size_t n>
const char* text_of(const Word<T> (&words)[n], T value) {
  for (const Word<T>& word : words)
    if (word.value == value) return word.text;
  return "";
}

template <class T, size_t n>
T value_of(const Word<T> (&words)[n], std::string_view text, std::string_view whole) {
  for (const Word<T>& word : words)
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

int64_t group_of(Atom atom) { return atom == Atom::fma ? 1 : atom == Atom::dot8 || atom == Atom::amx8 || atom == Atom::amx_digits ? 4 : 2; }

int64_t parts_of(Atom atom) { return atom == Atom::amx_f32 || atom == Atom::amx_digits ? 3 : atom == Atom::amx_tf32 ? 2 : 1; }

int64_t lane_elements(Atom atom) { return group_of(atom) * parts_of(atom); }

bool on_tiles(Atom atom) { return atom == Atom::amx8 || atom == Atom::amx_bf16 || parts_of(atom) > 1; }

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
