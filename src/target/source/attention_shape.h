#pragma once

#include "target/source/contract_shape.h"

/// Attention as tile/kernels/attention.h and simt_attention.h compute it.
namespace tilewright::source {

struct AttentionShape {
  /// Over (batch, m: rows, n: keys, k: elements of a key) and (batch, m: rows, n: columns of values, k: keys). Joint indices of batch
  /// entries, rows and keys are those of the same scores in both; left factors are queries and what the softmax gives.
  ContractShape scores, values;
  DenseShape query, key, value;
  int64_t head = 0, value_head = 0;  ///< elements of a key, of a value
};

/// The shape of six stages that schedule::find_attention() found, when the kernel takes them: floats of at most 32 bits, queries, keys and
/// values that lie evenly in memory, known numbers of elements a key and a value.
std::optional<AttentionShape> find_attention_shape(const std::vector<const pattern::Nest*>& stages, const pattern::Program& program);

}  // namespace tilewright::source
