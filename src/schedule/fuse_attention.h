#pragma once

#include <vector>

#include "schedule/fuse.h"

namespace tilewright::schedule {

/// Attention as patterns: a product's scores, the softmax of their rows, and the product of what it gives with values. Indices into
/// Program::patterns.
struct Attention {
  int scores = -1;   ///< contract: S over (…, m, n), with scale, bias and mask applied
  int largest = -1;  ///< reduce: M = max over n of S
  int powers = -1;   ///< map: E = exp(S - M)
  int sum = -1;      ///< reduce: L = sum over n of E
  int weights = -1;  ///< map: P = E / L, or zero where a condition of the whole row says so
  int values = -1;   ///< contract: sum over n of P times something
  std::vector<int> patterns() const { return {scores, largest, powers, sum, weights, values}; }
};

/// Chains whose scores and probabilities nobody else reads and that `streams` takes, as groups of rows: their stages run in order over the
/// same rows, and what passes between them stays there. Stands after the fusions, which give such chains their one form (scale,
/// bias and mask are in the epilogue of the scores), and before rows are grouped: the softmax alone would be such a group.
std::vector<RowGroup> find_attention(const pattern::Program& program, const StreamsAttention& streams, Refusals* refusals = nullptr);

/// Whether the kernel's stages are such a chain: a product that a reduction follows begins rows nowhere else.
bool is_attention(const Kernel& kernel);

}  // namespace tilewright::schedule
