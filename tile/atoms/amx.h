#pragma once

// Blocks of rows × columns on the tile registers of AMX: up to 2 × 2 tiles of 16 × 16 sums, from the same rows as row_block.h. A step takes up to 16
// lanes of k at once: 64 bytes of a row, sixteen lanes of each column. Panels hold a step's lanes of 16 columns, then those of the next 16: pack_groups()
// with `side` 16 and `tile_steps` as many as a step takes.
//
// Tiles 0 to 3 hold sums, 4 and 5 rows, 6 and 7 columns. What is left of k goes through copies padded with zeros: the shapes of tiles
// cannot change while sums are in them.
//
// Sums leave their registers when those of the next block begin, and results are made of them between its steps: vectors work while tiles do.

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tile/atoms/row_block.h"
#include "tile/atoms/tile_registers.h"

namespace tile {

/// Up to `rows` rows that begin `stride` elements apart times `vectors` times 16 columns, for atoms of 32-bit lanes, as RowBlocks has them.
/// `steps`: lanes of k that a step takes. Registers get their shapes with the first block of so many rows; they are the thread's until the object ends.
template <class P, int rows_, int vectors_, i64 stride_, class B, int steps_ = 16, class Tiles = TileRegisters>
class AmxBlocks {
 public:
  using Atom = Dot<P, B>;
  static_assert(rows_ >= 1 && rows_ <= 32 && vectors_ >= 1 && vectors_ <= 2, "sums take 2 x 2 tiles of 16 x 16 at most");
  static_assert(steps_ >= 1 && steps_ <= 16, "a tile has sixteen rows of columns at most");
  static_assert(std::is_same_v<B, ByteQuad> || std::is_same_v<B, BfloatPair>, "tiles multiply bytes and bfloats");
  using sum_type = P;
  using panel_type = B;
  using left_type = typename Atom::left_type;
  static constexpr int group = Atom::group, side = 16, rows = rows_, vectors = vectors_, columns = vectors_ * side;
  static constexpr i64 stride = stride_;
  static constexpr int depth_of_tile = steps_ * group;  ///< elements of k

  AmxBlocks() = default;
  AmxBlocks(const AmxBlocks&) = delete;
  AmxBlocks& operator=(const AmxBlocks&) = delete;
  ~AmxBlocks() {
    if (configured_ > 0) Tiles::release();
  }

  static constexpr bool defers = true;

  /// sum(i, j) = start[j] + Σ a[offsets[r] + i · stride + k] · weight(r, k, j) for `count` rows, as RowBlock::multiply() has it; start may be null. The sums
  /// reach results(place, first row, rows, sums of the first row, `columns` a row) a few rows at a time, each row once, now or in the calls after this one,
  /// of which finish() is the last.
  template <class Results>
  void multiply(const BlockPlace& place, i64 count, i64 runs, i64 depth, const left_type* a, const i64* offsets, const B* b, Ahead& ahead, const P* start,
                const Results& results) {
    if (count != configured_) {
      finish(results);
      configure(count);
    }
    if constexpr (rows > side) {
      if (count > side) return run<2>(place, count, runs, depth, a, offsets, b, ahead, start, results);
    }
    run<1>(place, count, runs, depth, a, offsets, b, ahead, start, results);
  }

  template <class Results>
  void finish(const Results& results) {
    if (waiting_ == 0) return;
    leave<0>(), leave<1>(), leave<2>(), leave<3>();
    hand_on(waiting_, results);
  }

 private:
  static constexpr i64 row_bytes = stride * static_cast<i64>(sizeof(left_type)), sum_bytes = columns * 4;
  static constexpr i64 column_tile = steps_ * side;  ///< lanes
  static constexpr TileProducts kind = std::is_same_v<B, ByteQuad> ? TileProducts::u8s8 : TileProducts::bf16;

  TILE_NOINLINE void configure(i64 count) {
    const i64 upper = count < side ? count : side, lower = count - upper;
    TileShapes shapes;
    for (int t = 0; t < 8; ++t) {
      const bool of_rows = t == 4 || t == 5, of_columns = t >= 6, below = t == 2 || t == 3 || t == 5;
      const i64 height = of_columns ? steps_ : below ? lower : upper;
      const bool used = height > 0 && (vectors == 2 || of_rows || t % 2 == 0);
      shapes.rows[t] = static_cast<uint8_t>(used ? height : 0);
      shapes.row_bytes[t] = static_cast<uint16_t>(!used ? 0 : of_rows ? steps_ * 4 : side * 4);
    }
    Tiles::configure(shapes);
    configured_ = count;
  }

  template <int row_tiles, class Results>
  TILE_NOINLINE void run(const BlockPlace& place, i64 count, i64 runs, i64 depth, const left_type* a, const i64* offsets, const B* b, Ahead& ahead,
                         const P* start, const Results& results) {
    const i64 steps_a_run = (depth + depth_of_tile - 1) / depth_of_tile, pauses = runs * steps_a_run - 1;
    const i64 rows_a_pause = pauses > 0 ? (waiting_ + pauses - 1) / pauses : 0;
    Ahead near = ahead;
    bool first = true;
    const auto next = [&](const void* from, i64 apart, const B* columns_of_step) {
      for (int i = 0; i < steps_; i += RowBlock<P, 1, 1, 1, B>::pace) near.fetch();
      if (first) {
        step<row_tiles, true>(from, apart, columns_of_step, start);
      } else {
        step<row_tiles, false>(from, apart, columns_of_step, start);
        hand_on(rows_a_pause, results);
      }
      first = false;
    };
    for (i64 r = 0; r < runs; ++r) {
      const left_type* from = a + offsets[r];
      i64 left = depth;
      for (; left >= depth_of_tile; left -= depth_of_tile, from += depth_of_tile, b += steps_ * columns) next(from, row_bytes, b);
      if (left == 0) continue;
      const i64 steps = dot_steps(left, group);
      alignas(64) char row_rest[row_tiles * side * 64];
      for (i64 i = 0; i < count; ++i) detail::copy_padded(row_rest + i * 64, from + i * stride, left * static_cast<i64>(sizeof(left_type)));
      if (steps == steps_) {
        next(row_rest, 64, b);
      } else {
        alignas(64) B column_rest[steps_ * columns];
        for (int v = 0; v < vectors; ++v) {
          std::memcpy(column_rest + v * column_tile, b + v * steps * side, static_cast<size_t>(steps * side) * sizeof(B));
          std::memset(column_rest + v * column_tile + steps * side, 0, static_cast<size_t>((steps_ - steps) * side) * sizeof(B));
        }
        next(row_rest, 64, column_rest);
      }
      b += steps * columns;
    }
    ahead = near;
    hand_on(waiting_, results);
    place_ = place, given_ = 0, waiting_ = count;
  }

  /// The next rows of the block before.
  template <class Results>
  TILE_NOINLINE void hand_on(i64 count, const Results& results) {
    if (count > waiting_) count = waiting_;
    if (count <= 0) return;
    results(place_, given_, count, sums_ + given_ * columns);
    given_ += count, waiting_ -= count;
  }

  /// The sums of a tile of the block before.
  template <int t>
  TILE_INLINE void leave() {
    constexpr bool below = t >= 2, right = t % 2 == 1;
    if constexpr ((!below || rows > side) && (!right || vectors > 1)) {
      if (!below || configured_ > side) Tiles::template store<t>(sums_ + below * side * columns + right * side, sum_bytes);
    }
  }
  /// Every row of sums begins alike: rows zero bytes apart.
  template <int t>
  TILE_INLINE void begin(const P* start) {
    if (waiting_ > 0) leave<t>();
    if (start == nullptr) {
      Tiles::template zero<t>();
    } else {
      Tiles::template load<t>(start + t % 2 * side, 0);
    }
  }

  template <int row_tiles, bool first>
  TILE_INLINE void step(const void* from, i64 apart, const B* b, const P* start) {
    Tiles::template stream<6>(b, side * 4);
    Tiles::template load<4>(from, apart);
    if constexpr (first) begin<0>(start);
    Tiles::template add_products<kind, 0, 4, 6>();
    if constexpr (vectors > 1) {
      Tiles::template stream<7>(b + column_tile, side * 4);
      if constexpr (first) begin<1>(start);
      Tiles::template add_products<kind, 1, 4, 7>();
    }
    if constexpr (row_tiles > 1) {
      Tiles::template load<5>(static_cast<const char*>(from) + side * apart, apart);
      if constexpr (first) begin<2>(start);
      Tiles::template add_products<kind, 2, 5, 6>();
      if constexpr (vectors > 1) {
        if constexpr (first) begin<3>(start);
        Tiles::template add_products<kind, 3, 5, 7>();
      }
    }
  }

  alignas(64) P sums_[rows * columns];  ///< of the block before
  BlockPlace place_;
  i64 given_ = 0, waiting_ = 0;  ///< its rows that results had, and that they did not
  i64 configured_ = 0;           ///< rows that registers have shapes for
};

}  // namespace tile
