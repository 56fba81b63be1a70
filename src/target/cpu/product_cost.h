#pragma once

#include "target/cpu/rows_product.h"

/// What products cost, in cycles of a core, as far as is known without a measurement.
namespace tilewright::cpu {

/// Starting a kernel.
inline constexpr double start_cycles = 2000;
/// Bytes a cycle that weights come at: from memory where few rows wait for them, else from the cache that all cores share.
double rate_of_weights(const RowsProduct& product, const Target& target);

/// All that the vector registers have room for.
std::vector<schedule::ProductBlock> register_blocks(const Target& target, schedule::ProductConfig::Atom atom = schedule::ProductConfig::Atom::fma);

/// Bytes of a weight as panels have it for the atom.
int64_t bytes_of_weight(const RowsProduct& product, schedule::ProductConfig::Atom atom);

/// What a result of a product is the sum of.
struct Sum {
  schedule::ProductConfig::Atom atom = schedule::ProductConfig::Atom::fma;
  int64_t runs = 1, depth = 0;  ///< of rows as they lie
  int64_t steps = 0;            ///< multiply-adds that take as long as those of the atom do, if it is none of tiles
  int64_t split = 0;            ///< elements that a row adds to those that are split for it
  int64_t split_joined = 0;     ///< the same in joined strips
  int64_t row_bytes = 0;        ///< from one row to the next
  double rate = 2;              ///< of multiply-adds, in vectors a cycle
  int64_t l1_ways = 8;          ///< lines that a set of the first level cache holds
  bool narrow = false;          ///< weights are floats shorter than the sums

  /// One run of `k` products.
  static Sum of(int64_t k, schedule::ProductConfig::Atom atom, const Target& target);
};
Sum sum_of(const RowsProduct& product, int64_t k, schedule::ProductConfig::Atom atom, const Target& target);
/// What `line` rows take before they meet panels.
double split_cycles(int64_t line, const Sum& sum, bool joined);
/// `line` rows times one panel, whose weights are as long as the sums or are widened at each load.
double line_cycles(const schedule::ProductBlock& block, int64_t line, const Sum& sum);
/// Widening a panel once, for all strips that pass.
double widen_cycles(const schedule::ProductBlock& block, const Sum& sum);

/// The atoms by which Winograd's method computes the product: none where that is no 3 x 3 convolution that it is for.
std::vector<schedule::ProductConfig::Atom> winograd_atoms(const RowsProduct& product, const Target& target);
/// Register blocks that it takes for so many tiles of an image; 0: where only a run knows.
std::vector<schedule::ProductBlock> winograd_blocks(const Target& target, schedule::ProductConfig::Atom atom, int64_t tiles);
/// One image.
double winograd_cycles(schedule::ProductConfig::Atom atom, const schedule::ProductBlock& block, int64_t tiles, int64_t channels, int64_t filters,
                       const Target& target);

/// The configuration with the bytes that the target's caches suggest.
schedule::ProductConfig with_defaults(schedule::ProductConfig config, const Target& target);

}  // namespace tilewright::cpu
