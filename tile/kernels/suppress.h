#pragma once

// Non-maximum suppression.

#include "tile/exec/args.h"
#include "tile/kernels/select.h"

namespace tile {

/// Attributes and limits of ONNX NonMaxSuppression.
struct SuppressOptions {
  bool center_point = false;  ///< boxes are [x centre, y centre, width, height], else two corners [y, x, y, x]
  i64 most_per_class = 0;     ///< boxes kept for each batch entry and class; none by default
  float overlap = 0;          ///< a box is dropped if its intersection over union with a kept one is greater
  bool has_score_threshold = false;
  float score_threshold = 0;  ///< boxes take part if their score is greater
};

namespace detail {

struct Box {
  float y0, x0, y1, x1;
};

inline Box read_box(const float* b, bool center_point) {
  if (center_point) {
    const float half_w = b[2] / 2, half_h = b[3] / 2;
    return {b[1] - half_h, b[0] - half_w, b[1] + half_h, b[0] + half_w};
  }
  return {min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])};
}

/// Whether intersection over union is greater than `limit`; boxes without area overlap nothing.
inline bool overlaps(const Box& a, const Box& b, float limit) {
  const float height = min(a.y1, b.y1) - max(a.y0, b.y0), width = min(a.x1, b.x1) - max(a.x0, b.x0);
  if (!(height > 0) || !(width > 0)) return false;
  const float shared = height * width;
  const float area_a = (a.y1 - a.y0) * (a.x1 - a.x0), area_b = (b.y1 - b.y0) * (b.x1 - b.x0);
  const float united = area_a + area_b - shared;
  if (!(area_a > 0) || !(area_b > 0) || !(united > 0)) return false;
  return shared / united > limit;
}

}  // namespace detail

/// Greatest rows that suppress() can write.
constexpr i64 suppress_bound(i64 batches, i64 classes, i64 boxes, i64 most_per_class) {
  return batches * classes * (most_per_class < boxes ? (most_per_class > 0 ? most_per_class : 0) : boxes);
}

/// Selects boxes by falling score (equal scores: lower index first), for each batch entry and class apart. boxes
/// [batches, count, 4], scores [batches, classes, count]; writes rows [batch, class, box] to `out`, which has room for
/// suppress_bound() of them, ordered by batch and class, and returns how many.
inline i64 suppress(const float* boxes, const float* scores, i64 batches, i64 classes, i64 count, const SuppressOptions& options, i64* out, Team& team) {
  const i64 most = suppress_bound(1, 1, count, options.most_per_class), pairs = batches * classes;
  if (most <= 0 || pairs <= 0) return 0;
  i64* found = team.scratch_as<i64>(team.shared_slot(), pairs);
  team.for_each(pairs, [&](i64 pair, int worker) {
    const float* box = boxes + pair / classes * count * 4;
    const float* score = scores + pair * count;
    // Candidates, then the boxes kept so far.
    char* memory = team.scratch_as<char>(worker, count * static_cast<i64>(sizeof(i64)) + most * static_cast<i64>(sizeof(detail::Box)));
    i64* order = reinterpret_cast<i64*>(memory);
    auto* kept = reinterpret_cast<detail::Box*>(memory + count * static_cast<i64>(sizeof(i64)));
    i64 candidates = 0;
    for (i64 i = 0; i < count; ++i) {
      if (!options.has_score_threshold || score[i] > options.score_threshold) order[candidates++] = i;
    }
    detail::heap_sort(order, candidates, [&](i64 a, i64 b) {
      const int by_score = detail::order(score[b], score[a]);
      return by_score != 0 ? by_score < 0 : a < b;
    });
    i64 selected = 0;
    for (i64 c = 0; c < candidates && selected < most; ++c) {
      const detail::Box candidate = detail::read_box(box + order[c] * 4, options.center_point);
      bool free = true;
      for (i64 s = 0; s < selected && free; ++s) free = !detail::overlaps(candidate, kept[s], options.overlap);
      if (!free) continue;
      i64* row = out + (pair * most + selected) * 3;
      row[0] = pair / classes;
      row[1] = pair % classes;
      row[2] = order[c];
      kept[selected++] = candidate;
    }
    found[pair] = selected;
  });
  // Every pair wrote at the place of its full share: close the gaps.
  i64 total = 0;
  for (i64 pair = 0; pair < pairs; ++pair) {
    const i64* from = out + pair * most * 3;
    for (i64 i = 0; i < found[pair] * 3; ++i) out[total * 3 + i] = from[i];
    total += found[pair];
  }
  return total;
}

}  // namespace tile
