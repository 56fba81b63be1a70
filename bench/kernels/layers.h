#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "graph/graph.h"

/// Layers of real networks, batch 1, one row of data each.
namespace tilewright::kernel_bench {

enum class Kind {
  convolution,  ///< and bias and relu; channels last outside
  linear,       ///< and bias
  scores,       ///< queries times keys, a matrix a head
  mixture,      ///< scores times values, a matrix a head
};

/// What a layer computes: a [m, k] times b [k, n], `groups` times over. For a convolution m is the positions of the result, k channels · kernel².
struct Layer {
  const char* model;
  const char* name;
  Kind kind;
  int64_t m, n, k;  ///< of a convolution: the input's side, filters, channels; n and k of all groups together
  int64_t groups = 1, kernel = 1, stride = 1;
  DType dtype = DType::f32;  ///< u8: times weights of i8, sums in i32; bf16: sums in f32

  int64_t side() const { return (m + kernel / 2 * 2 - kernel) / stride + 1; }  ///< of a convolution's result
  std::string shape() const;                                                   ///< "56², 64 → 64, 3×3"
  double operations() const;                                                   ///< multiplications and additions
  double bytes() const;                                                        ///< of operands and results, each once
  /// Fewer operations a byte than a core can do while it reads one from its second level cache.
  bool memory_bound() const { return operations() < 8 * bytes(); }
};

std::span<const Layer> layers();

/// The layer as a model.
Graph graph_of(const Layer& layer);

}  // namespace tilewright::kernel_bench
