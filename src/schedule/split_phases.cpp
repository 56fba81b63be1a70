#include <algorithm>

#include "base/error.h"
#include "schedule/fuse.h"
#include "schedule/linear.h"
#include "schedule/rewrite.h"

namespace tilewright::schedule {
namespace {

using pattern::Pattern;
using pattern::Store;

size_t at(int i) { return static_cast<size_t>(i); }

/// More would be a program of its own.
constexpr int64_t phase_limit = 8;

/// A condition that a kept coordinate, less a reduced one, hits a multiple of `step`: what a transposed convolution's
/// stride becomes. (position * 1 + tap * by_tap + rest) mod step == 0.
struct Stride {
  int position = -1, tap = -1;
  int64_t step = 1, by_tap = 0, rest = 0;
};

std::optional<Stride> find_stride(const Nest& nest) {
  const size_t kept = nest.space.size() - static_cast<size_t>(nest.reduced_rank);
  for (const Access& access : nest.accesses) {
    if (!access.indirect.empty()) continue;
    const LoweredMap lowered = lower_map(access.map, coordinates_of(nest.space), space_bounds(nest.space));
    for (const Guard& guard : lowered.guards) {
      const auto step = guard.kind == Guard::divisible ? guard.high.as_constant() : std::nullopt;
      if (!step || *step < 2 || *step > phase_limit) continue;
      Stride stride;
      stride.step = *step;
      Dim rest = guard.value;
      bool fits = true;
      for (size_t d = 0; d < nest.space.size(); ++d) {
        const auto affine = affine_in(rest, coordinate_symbol(static_cast<int>(d)));
        const auto slope = affine ? affine->slope.as_constant() : std::nullopt;
        if (!slope) {
          fits = false;
          break;
        }
        rest = affine->at_zero;
        if (*slope % *step == 0) continue;
        int& which = d < kept ? stride.position : stride.tap;
        fits = fits && which < 0 && (d >= kept || *slope == 1);
        which = static_cast<int>(d);
        if (d >= kept) stride.by_tap = *slope % *step;
      }
      if (!fits || stride.position < 0 || !rest.is_constant()) continue;
      if (stride.tap >= 0 && !nest.space[at(stride.tap)].is_constant()) continue;
      stride.rest = rest.constant() % *step;
      return stride;
    }
  }
  return std::nullopt;
}

/// The nest for positions p, p + step, … alone, and those taps that meet them.
Nest phase_of(const Nest& nest, const Stride& stride, int64_t phase) {
  int64_t first = -1, distance = 1, count = 0;
  if (stride.tap < 0) {
    count = (phase + stride.rest) % stride.step == 0 ? 1 : 0;
  } else {
    // Which taps meet these positions repeats every `step` taps, so the first two tell of all.
    const int64_t taps = nest.space[at(stride.tap)].constant();
    for (int64_t tap = 0; tap < std::min(taps, 2 * stride.step) && count < 2; ++tap) {
      if ((phase + tap * stride.by_tap + stride.rest) % stride.step != 0) continue;
      if (count == 0) first = tap;
      if (count == 1) distance = tap - first;
      ++count;
    }
    if (count > 0) count = count == 1 ? 1 : (taps - 1 - first) / distance + 1;
  }
  Dims space = nest.space;
  space[at(stride.position)] = (nest.space[at(stride.position)] - phase + (stride.step - 1)) / Dim(stride.step);
  // No tap: an empty sum; what follows it still runs.
  if (stride.tap >= 0)
    space[at(stride.tap)] = count;
  else if (count == 0)
    space.back() = 0;

  Map view = identity(nest.space).sliced(stride.position, phase, stride.step, space[at(stride.position)]);
  if (stride.tap >= 0 && count == 1)
    view = view.frozen(stride.tap, first).inserted(stride.tap, 1);
  else if (stride.tap >= 0)
    view = view.sliced(stride.tap, std::max<int64_t>(first, 0), distance, count);
  const size_t kept = nest.space.size() - static_cast<size_t>(nest.reduced_rank);
  const Map kept_view = identity(Dims(nest.space.begin(), nest.space.begin() + static_cast<std::ptrdiff_t>(kept)))
                            .sliced(stride.position, phase, stride.step, space[at(stride.position)]);

  NestWriter writer(space, nest.reduced_rank);
  writer.nest.source = nest.source;
  std::vector<ExprId> roots;
  for (const pattern::Reduction& reduction : nest.reductions) roots.push_back(reduction.value);
  for (const Store& store : nest.outputs) roots.push_back(store.value);
  const std::vector<ExprId> copied = writer.copy(nest.nodes, nest.accesses, roots, {view, {}, true});
  writer.nest.reductions = nest.reductions;
  for (pattern::Reduction& reduction : writer.nest.reductions) reduction.value = copied[at(reduction.value)];
  for (const Store& store : nest.outputs) writer.nest.outputs.push_back({store.tensor, compose(kept_view, store.map), copied[at(store.value)]});
  return std::move(writer.nest);
}

}  // namespace

void split_phases(Program& program) {
  std::vector<Pattern> patterns;
  std::vector<Pattern> open(std::make_move_iterator(program.patterns.rbegin()), std::make_move_iterator(program.patterns.rend()));
  while (!open.empty()) {
    Pattern next = std::move(open.back());
    open.pop_back();
    const auto* nest = std::get_if<Nest>(&next);
    const bool contract = nest && pattern::classify(*nest) == pattern::NestKind::contract;
    const std::optional<Stride> stride = contract ? find_stride(*nest) : std::nullopt;
    if (!stride) {
      patterns.push_back(std::move(next));
      continue;
    }
    // Each phase may have another stride in another dimension.
    for (int64_t phase = stride->step; phase-- > 0;) {
      Nest one = phase_of(*nest, *stride, phase);
      if (one.space[at(stride->position)].as_constant() != 0) open.push_back(std::move(one));
    }
  }
  program.patterns = std::move(patterns);
}

}  // namespace tilewright::schedule
