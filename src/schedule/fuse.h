#pragma once

#include "schedule/schedule.h"

/// Fusions: Program to Program, in this order. Each keeps what the program computes; float results differ at most by roundings
/// of intermediates to 16-bit types that are no longer stored. `refusals` learn why tensors stay in memory.
namespace tilewright::schedule {

/// Drops patterns whose results nobody reads. Bind, Require, If and Loop stay.
void remove_dead(pattern::Program& program);

/// Constants of one element become numbers in the expressions that read them.
void inline_constants(pattern::Program& program);

/// Computes a Map where its result is read instead of storing it: data movement always (a view becomes part of the reader's
/// addresses), arithmetic where no element is then computed more often, or is trivial to compute.
/// Contractions take movement that keeps their operands' addresses affine within a matrix, and conversions of 8-bit integers.
/// Gathers stay where many points would repeat them. `of_bytes`: they take bytes that become floats, and padded ones, too.
void fuse_maps(pattern::Program& program, bool of_bytes = false, Refusals* refusals = nullptr);

/// Lets a reduction or contraction compute what follows element by element on its result (bias, activation, residual), and
/// store it where that goes (another layout, a slice of a concatenation). Wants fuse_maps before it, so that chains of maps are one.
void fuse_epilogues(pattern::Program& program, Refusals* refusals = nullptr);

/// Lets products read 32-bit floats as they are where rounding them to 16 bits would take a kernel of its own: inputs of the model, what a loop carries,
/// what is held in 32 bits for others. For machines whose products take operands of both kinds. After the epilogues, which take in all other
/// roundings. Bfloats that `stay` names remain.
void drop_roundings(pattern::Program& program, BfloatsStay stay = BfloatsStay::none);

/// Parts a product whose windows are strided apart (a transposed convolution) by the positions' remainders: each phase
/// is a product of its own without holes. After the epilogues: a phase stores its own share of the results.
void split_phases(pattern::Program& program);

/// Puts the axis last that products with weights sum over and produce (channels), in all tensors of the program's own where
/// that pays: what follows element by element keeps the order, and edges of the model are weighed against it. `of_bytes`: products of
/// 8-bit integers want it, too, as those of floats do.
void choose_layouts(pattern::Program& program, bool of_bytes = false);

/// Reductions and maps over the same leading coordinates, each reading what another wrote for the same row.
struct RowGroup {
  std::vector<int> patterns;  ///< indices into Program::patterns, in order; the group runs where the last one stands
  int shared_rank = 0;
};
/// `taken`: groups whose patterns are none of theirs.
std::vector<RowGroup> find_row_groups(const pattern::Program& program, const std::vector<RowGroup>& taken = {}, Refusals* refusals = nullptr);

}  // namespace tilewright::schedule
