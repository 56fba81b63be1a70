#include "pass/precision.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/error.h"

namespace tilewright {
namespace {

constexpr std::array<std::string_view, 4> policy_names = {"fp32", "tf32", "bf16", "fp16"};

bool matches(std::string_view pattern, std::string_view text) {
  size_t p = 0, t = 0, star = std::string_view::npos, resumed = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resumed = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p, ++t;
    } else if (star != std::string_view::npos) {  // the last star takes in one character more
      p = star + 1;
      t = ++resumed;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

std::string plain(std::string_view operator_name) {
  std::string text;
  for (const char c : operator_name)
    if (c != '_') text += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

/// Whether the pattern matches the operator, or one of the model's nodes that this one comes from ("a, b").
bool matches(const std::string& pattern, const Node& node) {
  if (matches(plain(pattern), plain(node.op))) return true;
  for (size_t at = 0;;) {
    const size_t end = node.name.find(", ", at);
    if (matches(pattern, std::string_view(node.name).substr(at, end == std::string::npos ? end : end - at))) return true;
    if (end == std::string::npos) return false;
    at = end + 2;
  }
}

}  // namespace

std::string_view name(Policy policy) { return policy_names.at(static_cast<size_t>(policy)); }

Policy parse_policy(std::string_view text) {
  const auto found = std::find(policy_names.begin(), policy_names.end(), text);
  if (found == policy_names.end()) fail(ErrorKind::invalid_input, "there is no policy '{}'; policies: {}", text, fmt::join(policy_names, ", "));
  return static_cast<Policy>(found - policy_names.begin());
}

const PolicyRule* Precision::rule_for(const Node& node) const {
  const auto found = std::find_if(rules.rbegin(), rules.rend(), [&](const PolicyRule& rule) { return matches(rule.pattern, node); });
  return found == rules.rend() ? nullptr : &*found;
}

bool Precision::may_lower() const { return names(Policy::bf16) || names(Policy::fp16); }

bool Precision::names(Policy one) const {
  return policy == one || std::any_of(rules.begin(), rules.end(), [one](const PolicyRule& rule) { return rule.policy == one; });
}

std::string Precision::str() const {
  std::string text(name(policy));
  for (const PolicyRule& rule : rules) text += fmt::format(" {}={}", rule.pattern, name(rule.policy));
  return text;
}

}  // namespace tilewright
