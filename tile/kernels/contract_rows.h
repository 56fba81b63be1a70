#pragma once

// The matrix product whose left rows have their k side by side:
//   out[b, m, n] = Σk left(b, m, k) · right(b, n, k)
// The rows of a strip, as many as the register block has, are read where they lie, or from a copy where they do not lie evenly; the panels of a group, which
// fits the second level cache, stream past them. Weights were packed into panels when the model was compiled; other right operands become panels a group at a
// time.

#include <cstdint>
#include <type_traits>

#include "tile/atoms/fixed24.h"
#include "tile/atoms/row_block.h"
#include "tile/exec/args.h"
#include "tile/kernels/bundles.h"
#include "tile/kernels/operands.h"
#include "tile/kernels/rows_division.h"

namespace tile {

/// An element of the left operand as the atom takes it. Bytes that are signed become unsigned ones 128 larger, shorts lose the zero point.
template <class P, class T>
TILE_INLINE P left_value(T value, [[maybe_unused]] int32_t zero) {
  if constexpr (std::is_same_v<P, uint8_t> && std::is_same_v<T, int8_t>) {
    return static_cast<uint8_t>(value) ^ 0x80;
  } else if constexpr (std::is_same_v<P, int16_t>) {
    return static_cast<int16_t>(value - zero);
  } else if constexpr (std::is_same_v<P, T>) {
    return value;
  } else {
    return load_as<P>(value);
  }
}

/// to[i] = left_value(from[i]) for `count` elements.
template <class P, class T>
TILE_INLINE void copy_left(const T* from, i64 count, [[maybe_unused]] int32_t zero, P* to) {
  if constexpr (std::is_same_v<P, float> && is_short_float<T>) {
    widen_row(from, count, to);
  } else {
#pragma omp simd
    for (i64 i = 0; i < count; ++i) to[i] = left_value<P>(from[i], zero);
  }
}

/// What stands for zero where left_value() keeps the zero point, so that the panels' sums make up for it: 0 where it does not.
template <class P, class T>
constexpr int32_t left_zero(int32_t zero) {
  return !std::is_same_v<P, uint8_t> ? 0 : std::is_same_v<T, int8_t> ? zero + 128 : zero;
}

/// Panels of lanes B for an atom of several k, `depth` steps of k each; a panel begins with a row of the negative sums of its columns'
/// weights, as i32. `zero`: left_zero(), which the left operand's elements are larger than their values.
template <class B, int width_, class Batch = BatchStride>
struct PackedSums {
  static constexpr int width = width_;
  static_assert(sizeof(B) == sizeof(int32_t), "a lane takes 32 bits");

  const B* data;
  i64 depth;
  Batch batch{};
  int32_t zero = 0;

  const B* panel_at(i64 b, i64 outer, i64 k) const { return data + batch(b) + outer * (depth + 1) + (k + 1) * width; }
  /// Where the sums of the panel's columns begin.
  void start(const B* panel, int32_t* to) const {
    int32_t sums[width];
    __builtin_memcpy(sums, panel - width, sizeof sums);
#pragma omp simd
    for (int j = 0; j < width; ++j) to[j] = static_cast<int32_t>(static_cast<uint32_t>(sums[j]) * static_cast<uint32_t>(zero));
  }
};

/// Panels of elements B for blocks that take floats: those of a group are widened at once, for all strips that they meet.
template <class B, int width_, class Batch = BatchStride>
struct WidenedPanels {
  static constexpr int width = width_;

  const B* data;
  i64 depth;
  Batch batch{};

  const B* panel_at(i64 b, i64 outer, i64 k) const { return data + batch(b) + outer * depth + k * width; }
  /// Writes `count` panels of batch entry b from column `outer` on.
  TILE_NOINLINE void write(i64 b, i64 outer, i64 count, float* to) const { widen_row(panel_at(b, outer, 0), count * width * depth, to); }
};

/// Panels of a right operand that is no weights, Dense over `columns` columns of `depth` elements: those of a group are written at once, for all strips that
/// they meet.
template <int width_, class Matrix>
struct WrittenPanels {
  static constexpr int width = width_;

  Matrix matrix;
  i64 columns, depth;

  /// Where a panel's first column begins in memory.
  const auto* panel_at(i64 b, i64 outer, i64 k) const { return matrix.at(b, outer, k); }
  template <class P>
  void write(i64 b, i64 outer, i64 count, P* to) const {
    for (i64 end = outer + count * width; outer < end; outer += width, to += width * depth)
      matrix.template pack<width>(to, b, outer, columns - outer < width ? columns - outer : width, 0, depth);
  }
};

/// Panels of whole numbers of 24 bits, `depth` rows behind their columns' units: pack_fixed24().
template <int width_, class Batch = BatchStride>
struct Fixed24Panels {
  static constexpr int width = width_;
  static_assert(fixed24_bytes_before <= fixed24_unit_rows * width * static_cast<int>(sizeof(Fixed24)), "what the first load reads before lies in the panel");

  const Fixed24* data;
  i64 depth;
  Batch batch{};

  const Fixed24* panel_at(i64 b, i64 outer, i64 k) const { return data + batch(b) + outer * (depth + fixed24_unit_rows) + (k + fixed24_unit_rows) * width; }
  static const float* units(const Fixed24* panel) { return reinterpret_cast<const float*>(panel - fixed24_unit_rows * width); }
};

/// Rows that are ready for a register block: element (i, run r, k) lies at base[offsets[r] + i · stride + k].
template <class P>
struct Strip {
  const P* base;
  const i64* offsets;
  i64 m0, rows;
};

/// The left operand from a matrix: row m of batch entry b is the k elements from data[batch(b) + m · row_stride] on. Rows of
/// P with row_stride `stride` are read in place, others from a copy of left_value()s, for which `stride` has to be at least k.
template <class T, class P, int strip_rows, i64 stride, class Batch = BatchStride>
struct MatrixRows {
  static constexpr bool in_place = std::is_same_v<T, P>;

  const T* data;
  i64 row_stride;
  i64 m, k;
  Batch batch{};
  int32_t zero = 0;  ///< of 8-bit integers

  i64 strips() const { return (m + strip_rows - 1) / strip_rows; }
  i64 runs() const { return 1; }
  i64 depth() const { return k; }
  /// Working memory of a worker, in elements of P.
  i64 scratch() const { return in_place && row_stride == stride ? 0 : span(); }
  /// Elements from the first of a strip to its last.
  i64 span() const { return (strip_rows - 1) * stride + k; }
  /// What a strip adds to the memory that strips before it read, in bytes.
  i64 strip_bytes() const { return strip_rows * k * static_cast<i64>(sizeof(T)); }
  void begin(P*) const {}

  Strip<P> strip(i64 b, i64 index, P* scratch) const {
    static constexpr i64 nowhere[1] = {0};
    const i64 m0 = index * strip_rows, rows = m - m0 < strip_rows ? m - m0 : strip_rows;
    const T* from = data + batch(b) + m0 * row_stride;
    if constexpr (in_place) {
      if (row_stride == stride) return {from, nowhere, m0, rows};
    }
    for (i64 i = 0; i < rows; ++i) {
      copy_left(from + i * row_stride, k, zero, scratch + i * stride);
    }
    return {scratch, nowhere, m0, rows};
  }
};

namespace detail {
/// Steps of k that a panel has for a run.
template <class Block>
constexpr i64 panel_steps(i64 depth) {
  if constexpr (requires { Block::panel_steps(depth); }) {
    return Block::panel_steps(depth);
  } else {
    return dot_steps(depth, Block::group);
  }
}

/// Working memory of a strip that is read while panels pass, in elements.
template <class Left>
i64 near_scratch(const Left& left) {
  if constexpr (requires { left.near_scratch(); }) {
    return left.near_scratch();
  } else {
    return left.scratch();
  }
}

/// each(row of the product, rows before it, so many) for those of `count` rows of strips from `first` on that are rows of the product: usually all.
template <class Left, class F>
TILE_INLINE void each_product(const Left& left, i64 first, i64 count, F&& each) {
  if constexpr (requires { left.products(first, count, each); }) {
    left.products(first, count, each);
  } else {
    each(first, i64{0}, count);
  }
}

/// Strips that are prepared together: each by itself, if the provider does not say otherwise.
template <class Left>
Bundles bundles_of(const Left& left) {
  if constexpr (requires { left.bundles(); }) {
    return left.bundles();
  } else {
    return {left.strips(), left.strips()};
  }
}

/// Strip `index`, whose bundle is prepared first where the strip before was none of it.
template <class Left, class L>
auto strip_of(const Left& left, i64 b, i64 index, i64 bundle, bool begins, L* scratch) {
  if constexpr (requires { left.prepare(b, bundle, scratch); }) {
    if (begins) left.prepare(b, bundle, scratch);
  }
  return left.strip(b, index, scratch);
}

/// Whether a strip lasts as long as its bundle's scratch memory is left alone.
template <class Rows>
bool lasts(const Rows& strip) {
  if constexpr (requires { strip.lasts; }) {
    return strip.lasts;
  } else {
    return true;
  }
}

/// Whether a block's sums become results while the next block is computed.
template <class Block>
inline constexpr bool defers = requires {
  Block::defers;
};
}  // namespace detail

/// The lines that `count` elements will be written to, or read from, come nearer.
template <class T>
TILE_INLINE void fetch_to_write(T* to, i64 count) {
  for (i64 byte = 0; byte < count * static_cast<i64>(sizeof(T)); byte += Ahead::line_bytes) __builtin_prefetch(reinterpret_cast<const char*>(to) + byte, 1);
}
template <class T>
TILE_INLINE void fetch_to_read(const T* from, i64 count) {
  for (i64 byte = 0; byte < count * static_cast<i64>(sizeof(T)); byte += Ahead::line_bytes) __builtin_prefetch(reinterpret_cast<const char*>(from) + byte, 0);
}

/// Computes the product of `left`, a provider of strips of at most Block::rows rows, with panels of Block::columns columns (see Packed) for `columns`
/// columns in all, and hands it to
///   epilogue(i64 batch, i64 m0, i64 n0, i64 rows, columns, const P* tile, i64 ld)
/// with tile[i * ld + j] the sum for (batch, m0 + i, n0 + j); every element once, from any of the team's threads. The number
/// of columns is a constant of the type where a panel is full. With `fetch_results` all rows of a block are asked for by a call whose tile is null before
/// it is computed; blocks that defer hand on a few rows a call, later. A provider may say which rows of its strips are rows of the product, products(), and
/// prepare(i64 batch, i64 bundle, L* scratch) its bundles() before their strips are asked for.
template <class Block, class Left, class Right, class Epilogue>
void contract_rows(i64 batch, i64 columns, const Left& left, const Right& right, const Epilogue& epilogue, Team& team, const RowsBlocking& blocking = {}) {
  using P = typename Block::sum_type;
  using B = typename Block::panel_type;
  using L = typename Block::left_type;
  using Stored = std::remove_cvref_t<decltype(*right.panel_at(0, 0, 0))>;
  constexpr bool writes = requires(B * to) { right.write(0, 0, 0, to); };
  static_assert(Right::width == Block::columns, "the panels are as wide as the register block");
  constexpr i64 width = Block::columns;
  const i64 strips = left.strips(), runs = left.runs(), depth = left.depth(), steps = detail::panel_steps<Block>(depth);
  const i64 panels = (columns + width - 1) / width;
  if (batch <= 0 || strips <= 0 || panels <= 0) return;

  const auto ceil_div = [](i64 a, i64 b) { return (a + b - 1) / b; };
  const auto most = [](i64 a, i64 b) { return a > b ? a : b; };
  const auto least = [](i64 a, i64 b) { return a < b ? a : b; };
  const i64 panel = runs * steps * width;  // lanes
  const RowsDivision division(batch, panels, panel * static_cast<i64>(sizeof(B)), strips, team.size, blocking);
  const i64 group = division.group, groups = division.groups, units = division.units;
  const i64 unit_tasks = division.unit_tasks, strip_tasks = division.strip_tasks, tasks = division.tasks();
  // A lone strip meets each panel once. Every second call each thread begins where it ended: a loop's weights, if nothing else, lie near from that end on.
  static thread_local bool turn = false;
  const bool reverse = strips == 1 && tasks % team.size == 0 && (turn = !turn);
  const i64 share = tasks / team.size;
  const i64 written = writes ? ceil_div(group * panel, 16) * 16 : 0;
  // Bundles of strips that stay near while all groups of panels pass, each prepared once if at all; with one group, all of them, one by one.
  constexpr i64 most_kept = 64;
  static_assert(most_kept >= Bundles::most_strips);
  const Bundles bundles = detail::bundles_of(left);
  const i64 slot = ceil_div(left.scratch(), 16) * 16;
  const i64 fitting = most(blocking.strip_bytes / most(most(left.strip_bytes(), detail::near_scratch(left) * static_cast<i64>(sizeof(L))),
                                                       ceil_div(blocking.strip_bytes, most_kept / bundles.together())),
                           1);
  const i64 slots = ceil_div(units, unit_tasks) > 1 ? least(fitting, ceil_div(bundles.count, strip_tasks)) : 1;
  // The panels that each worker has written.
  struct Held {
    const Stored* from;
    i64 columns;
    bool operator==(const Held&) const = default;
  };
  Held* held = nullptr;
  if constexpr (writes) {
    held = team.scratch_as<Held>(team.shared_slot(), team.size);
    for (i64 i = 0; i < team.size; ++i) held[i] = {nullptr, 0};
  }

  const auto results = [&](const BlockPlace& at, i64 strip_row, i64 strip_rows, const P* sums) {
    detail::each_product(left, at.row + strip_row, strip_rows, [&](i64 m0, i64 before, i64 rows) {
      const P* const from = sums == nullptr ? nullptr : sums + before * width;
      if (columns - at.column >= width) {
        epilogue(at.batch, m0, at.column, rows, std::integral_constant<i64, width>{}, from, std::integral_constant<i64, width>{});
      } else {
        epilogue(at.batch, m0, at.column, rows, columns - at.column, from, std::integral_constant<i64, width>{});
      }
    });
  };
  team.for_each(tasks, [&](i64 asked, int worker) {
    const i64 index = reverse ? asked / share * share + share - 1 - asked % share : asked;
    const i64 by_unit = index / strip_tasks, by_strip = index % strip_tasks;
    const i64 u0 = by_unit * units / unit_tasks, u1 = (by_unit + 1) * units / unit_tasks;
    const i64 bundle0 = by_strip * bundles.count / strip_tasks, bundle1 = (by_strip + 1) * bundles.count / strip_tasks;
    if (bundle0 == bundle1) return;
    Block block;  // may hold registers of the thread, and results of some rows
    using Rows = decltype(left.strip(0, 0, static_cast<L*>(nullptr)));
    Rows kept[most_kept];
    // Strips that meet one unit, or that nothing prepares, are as good made anew: all of them pass each group.
    const bool keep = groups > 1 && u1 - u0 > 1 && !(writes && left.scratch() == 0);
    const i64 mine = bundle1 - bundle0, near = keep ? ceil_div(mine, ceil_div(mine, least(fitting, mine))) : mine;
    L* const memory = team.scratch_as<L>(worker, written + slots * slot);
    L* const scratch = memory + written;
    for (i64 i = 0; i < (keep ? near : 1); ++i) left.begin(scratch + i * slot);
    for (i64 bundle = bundle0; bundle < bundle1; bundle += near) {
      const i64 first = bundles.first(bundle), end = bundles.first(least(bundle + near, bundle1));
      const auto make = [&](i64 b, i64 s) {
        const i64 from = bundles.of(s);
        return detail::strip_of(left, b, s, from, s == bundles.first(from), scratch + (keep ? (from - bundle) * slot : 0));
      };
      i64 kept_batch = -1;
      for (i64 i = u0; i < u1; ++i) {
        const i64 u = reverse ? u0 + u1 - 1 - i : i;
        const i64 b = u / groups, p0 = u % groups * panels / groups, p1 = (u % groups + 1) * panels / groups;
        // While this group is used, the next one comes nearer.
        Ahead ahead;
        if (blocking.ahead && u + 1 < u1 && end - first > 1) {
          ahead.at = reinterpret_cast<const char*>(right.panel_at((u + 1) / groups, (u + 1) % groups * panels / groups * width, 0));
          ahead.lines = group * panel * static_cast<i64>(sizeof(Stored)) / Ahead::line_bytes;
          ahead.at_once = ceil_div(ahead.lines * 4, most((end - first) * (p1 - p0) * runs * steps, 1));
        }
        if (keep && kept_batch != b) {
          for (i64 s = first; s < end; ++s) kept[s - first] = make(b, s);
          kept_batch = b;
        }
        if constexpr (writes) {
          const Held wanted{right.panel_at(b, p0 * width, 0), least(p1 * width, columns) - p0 * width};
          if (!(held[worker] == wanted)) right.write(b, p0 * width, p1 - p0, memory);
          held[worker] = wanted;
        }
        for (i64 s = first; s < end; ++s) {
          const Rows strip = !keep                            ? make(b, s)
                             : detail::lasts(kept[s - first]) ? kept[s - first]
                                                              : left.strip(b, s, scratch + (bundles.of(s) - bundle) * slot);
          // Rows without gaps that are read in place: the next strip comes nearer while this one is multiplied.
          if constexpr (writes) {
            if (ahead.lines <= 0 && s + 1 < end && left.scratch() == 0 && Block::stride == depth) {
              ahead.at = reinterpret_cast<const char*>(strip.base + Block::rows * Block::stride);
              ahead.lines = Block::rows * Block::stride * static_cast<i64>(sizeof(L)) / Ahead::line_bytes;
              ahead.at_once = ceil_div(ahead.lines * 4, most((p1 - p0) * runs * steps, 1));
            }
          }
          for (i64 j = p0; j < p1; ++j) {
            const i64 p = reverse ? p0 + p1 - 1 - j : j;
            const BlockPlace place{b, strip.m0, p * width};
            if (blocking.fetch_results) results(place, 0, strip.rows, nullptr);
            if (runs * depth == 0) {
              alignas(64) P zeros[Block::rows * width] = {};
              results(place, 0, strip.rows, zeros);
              continue;
            }
            const B* from;
            if constexpr (writes) {
              from = memory + (p - p0) * panel;
            } else {
              from = right.panel_at(b, p * width, 0);
            }
            const P* begin = nullptr;
            alignas(64) P start[width];
            constexpr bool starts = requires { right.start(from, start); };
            constexpr bool in_units = requires { right.units(from); };
            if constexpr (starts) right.start(from, start), begin = start;
            if constexpr (in_units) begin = right.units(from);
            if constexpr (detail::defers<Block>) {
              block.multiply(place, strip.rows, runs, depth, strip.base, strip.offsets, from, ahead, begin, results);
            } else {
              alignas(64) P sums[Block::rows * width];
              if constexpr (starts || in_units) {
                block.multiply(strip.rows, runs, depth, strip.base, strip.offsets, from, sums, ahead, begin);
              } else {
                block.multiply(strip.rows, runs, depth, strip.base, strip.offsets, from, sums, ahead);
              }
              results(place, 0, strip.rows, sums);
            }
          }
        }
      }
    }
    if constexpr (detail::defers<Block>) block.finish(results);
  });
}

}  // namespace tile
