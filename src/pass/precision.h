#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace tilewright {

/// What a model's products promise. Everything else is computed as the model says.
enum class Policy {
  fp32,  ///< float32, as written
  tf32,  ///< at least TF32's accuracy: tile registers multiply floats in two parts, NVIDIA's matrix units TF32, others float32
  bf16,  ///< weights and activations of products in bfloat16, sums in float32
  fp16,  ///< the same in float16
};
std::string_view name(Policy policy);
/// The reverse of name(); throws invalid_input naming the policies.
Policy parse_policy(std::string_view text);

/// A policy for the nodes whose name or operator `pattern` matches as a whole: `*` stands for any characters, `?` for one. Operators are compared
/// without case and underscores, so that ConvTranspose is conv_transpose.
struct PolicyRule {
  std::string pattern;
  Policy policy = Policy::fp32;
};

struct Precision {
  Policy policy = Policy::fp32;
  std::vector<PolicyRule> rules;  ///< the last one that matches a node counts

  /// The last rule that matches, or none.
  const PolicyRule* rule_for(const Node& node) const;
  /// Whether any node may be computed with 16-bit operands.
  bool may_lower() const;
  /// Whether some nodes have that policy.
  bool names(Policy one) const;
  /// All of it as one text, "bf16 head*=fp32"; equal texts, equal results.
  std::string str() const;
};

/// What apply_precision did to the products of a model.
struct PrecisionReport {
  struct Kept {
    std::string op, source, reason;
  };
  int lowered = 0;         ///< products with 16-bit operands
  std::vector<Kept> kept;  ///< products that stay float32 although the policy asked for 16 bits
};

}  // namespace tilewright
