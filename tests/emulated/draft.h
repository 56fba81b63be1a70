#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "op/builder.h"

namespace tilewright::emulated {

/// Whether a case's sizes are part of its kernels, or given when they run.
enum class Sizes { constant, run_time };

/// A case under construction: its graph, drawn from one seed, and its sizes and inputs, drawn from another. Drafts with equal `structure` have equal
/// graphs when their sizes are given at run time.
class Draft {
 public:
  Draft(Sizes sizes, uint64_t structure, uint64_t extents) : sizes_(sizes), structure_(structure), extents_(extents), build(graph) {}
  Draft(const Draft&) = delete;

 private:
  Sizes sizes_;
  std::mt19937_64 structure_, extents_;

 public:
  Graph graph;
  Builder build;
  std::vector<Tensor> inputs;
  bool fused = true;  ///< false: every operator has a kernel of its own

  // ---- what all drafts of a structure have in common

  size_t choose(size_t below) { return structure_() % below; }
  template <class T>
  T one_of(std::initializer_list<T> choices) {
    return choices.begin()[choose(choices.size())];
  }
  bool chance() { return choose(2) == 0; }
  /// Numbers that are part of the kernels' library.
  ValueId weights(DType dtype, const std::vector<int64_t>& dims);

  // ---- sizes

  int64_t draw(std::initializer_list<int64_t> choices) { return choices.begin()[extents_() % choices.size()]; }
  /// `value` as a size of the graph: a symbol where sizes are given at run time.
  Dim size(int64_t value);
  Dim size(std::initializer_list<int64_t> choices) { return size(draw(choices)); }
  int64_t value(const Dim& dim) const { return dim.evaluate(values_); }
  const std::map<std::string, int64_t>& values() const { return values_; }

  // ---- inputs. Floats are multiples of 1/8: every dtype holds them, and sums of their products are exact in float32.

  ValueId input(DType dtype, const Dims& dims, double low = -2, double high = 2);
  /// Whole numbers in [low, high].
  ValueId integers(DType dtype, const Dims& dims, int64_t low, int64_t high);

  void output(ValueId value) { build.output(value); }

 private:
  ValueId add(DType dtype, const Dims& dims, Tensor& tensor);
  int64_t between(int64_t low, int64_t high) { return low + static_cast<int64_t>(extents_() % static_cast<uint64_t>(high - low + 1)); }

  std::map<std::string, int64_t> values_;
};

}  // namespace tilewright::emulated
