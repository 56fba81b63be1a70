#pragma once

#include "target/cpu/rows_product.h"

/// What products cost, in cycles of a core, as far as is known without a measurement.
namespace tilewright::cpu {

/// Starting a kernel, and bytes a cycle that a core gets of the cache that all share.
inline constexpr double start_cycles = 2000, shared_cache_bytes = 9;

/// All that the vector registers have room for.
std::vector<schedule::ProductBlock> register_blocks(const Target& target, schedule::ProductConfig::Atom atom = schedule::ProductConfig::Atom::fma);
/// Multiply-adds that take as long as the atom's steps over k do.
int64_t steps_over(int64_t k, schedule::ProductConfig::Atom atom, const Target& target);
/// `line` rows times one panel, sums of k.
double line_cycles(const schedule::ProductBlock& block, int64_t line, int64_t k);

/// Whether the product is a 3 x 3 convolution that can be done by Winograd's method.
bool suits_winograd(const RowsProduct& product, const Target& target);
/// One image.
double winograd_cycles(const schedule::ProductBlock& block, int64_t tiles, int64_t channels, int64_t filters, int64_t lanes);

/// The configuration with the bytes that the target's caches suggest.
schedule::ProductConfig with_defaults(schedule::ProductConfig config, const Target& target);

}  // namespace tilewright::cpu
