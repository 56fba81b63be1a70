#pragma once

// Matrix products by the matrix instructions of a warpgroup (sm_90a). One thread of a block keeps four pairs of the factors' tiles on their way to shared
// memory by the copy engine; two warpgroups multiply the pairs that have come, 64 rows of results each. Results go to memory one by one, or by the copy
// engine, too, while the next tile is multiplied.

#include <type_traits>

#include "tile/atoms/wgmma.h"
#include "tile/exec/bulk.h"
#include "tile/kernels/simt_split.h"

namespace tile::simt {

/// A factor in device memory as the kernel reads it. `batch_step`: entries of the map's last axis from one entry of the batch to the next. So many
/// entries of the batch are `parts` of one sum, `piece` terms each.
struct Boxes {
  const TensorMap* map;
  i64 batch_step;
  i64 parts = 1, piece = 0;
};

/// Pieces are whole stages; what the last one lacks is zero.
TILE_INLINE Boxes part_of(const SplitSum& split, const Boxes& boxes) { return {boxes.map, boxes.batch_step, split.parts, split.piece}; }

/// Where a factor lies: `count` elements from `data` on exist. Rows (or, along rows, steps of k) are `stride` elements apart, entries of the batch
/// `batch_stride`, or all the same. Data and strides are multiples of 16 bytes.
template <class T>
struct FactorPlace {
  const T* data;
  i64 count, batch, batch_stride, rows, k, stride;
};

/// Where results lie in rows: as FactorPlace.
template <class T>
struct ResultPlace {
  T* data;
  i64 count, batch, batch_stride, m, n, stride;
};

/// Where results go by the copy engine. `value(batch, m, n, sum)` is what is stored, asked for inside the extents alone.
template <class Value>
struct ResultBoxes {
  const TensorMap* map;
  const Value& value;
};
template <class Value>
ResultBoxes(const TensorMap*, const Value&) -> ResultBoxes<Value>;

/// How WgmmaTiles cuts a product: a type with these constants. The tile has 64 rows for each consumer warpgroup.
struct WgmmaTiling {
  static constexpr int m = 128, n = 128;  ///< results of a tile
  static constexpr int stages = 4;        ///< pairs of tiles in shared memory
  static constexpr int group = 8;         ///< see TileOrder
};

/// Left, Right: elements of the factors, which lie along k or along their rows. Result: elements of ResultBoxes; void where results are stored one by one.
template <class Left, class Right = Left, class Tiling = WgmmaTiling, Along along_left = Along::k, Along along_right = Along::k, class Result = void>
struct WgmmaTiles : TileOrder<Tiling::m, Tiling::n, Tiling::group> {
  using Atom = Wgmma<Left, Right, Tiling::n, along_left, along_right>;
  using Order = TileOrder<Tiling::m, Tiling::n, Tiling::group>;
  using Sum = typename Atom::Sum;
  static constexpr int tile_m = Tiling::m, tile_n = Tiling::n, stages = Tiling::stages;
  static constexpr int row_bytes = 128, depth = row_bytes / static_cast<int>(sizeof(Left));
  static constexpr int consumers = tile_m / Atom::m, warpgroup = Atom::threads, threads = warpgroup * (consumers + 1);
  static_assert(tile_m == 64 || tile_m == 128, "one or two warpgroups multiply");
  static_assert(stages >= 2, "a pair of tiles is on its way while another is multiplied");
  static constexpr int left_bytes = tile_m * row_bytes, right_bytes = tile_n * row_bytes, stage_bytes = left_bytes + right_bytes;
  /// A warpgroup has two boxes of results: one is written while the other is read.
  static constexpr bool stores_boxes = !std::is_void_v<Result>;
  static constexpr int box_bytes = Atom::m * row_bytes, boxes_at = stages * stage_bytes,
                       barriers_at = boxes_at + (stores_boxes ? 2 * consumers * box_bytes : 0);
  static constexpr int shared_bytes = barriers_at + 2 * stages * static_cast<int>(sizeof(uint64_t));

  static auto left_map(const FactorPlace<Left>& place) { return map_of<along_left, tile_m>(place); }
  static auto right_map(const FactorPlace<Right>& place) { return map_of<along_right, tile_n>(place); }
  /// Data and strides are multiples of 16 bytes.
  template <class T>
  static auto result_map(const ResultPlace<T>& p) {
    static_assert(std::is_same_v<T, Result> && (sizeof(T) == 2 || sizeof(T) == 4), "boxes of results have elements of 2 or 4 bytes");
    const i64 batch_stride = p.batch == 1 ? p.stride * p.m : p.batch_stride;
    return tensor_map(p.data, p.count, {{p.n, p.m, p.batch}, {1, p.stride, batch_stride}, {row_bytes / static_cast<int>(sizeof(T)), Atom::m, 1}},
                      Swizzle::bytes128);
  }

  /// Blocks of a grid on so many multiprocessors: each computes one tile after another.
  static constexpr i64 blocks(const Extents& e, int processors) { return Order::blocks(e) < processors ? Order::blocks(e) : processors; }

  /// `store(batch, m, n, sum)` gets every result once; or it is ResultBoxes.
  template <class Exec, class Store>
  static TILE_DEVICE void run(Exec& ex, const Extents& e, const Boxes& left, const Boxes& right, const Store& store) {
    const auto full = ex.template shared<uint64_t>(barriers_at, 2 * stages), free = full + stages;
    if (ex.thread() == 0) {
      for (int stage = 0; stage < stages; ++stage) {
        ex.init_barrier(full + stage, 1);
        ex.init_barrier(free + stage, consumers * warpgroup / Exec::warp_size);
      }
      ex.fence_async();
    }
    ex.sync();
    if (ex.thread() < consumers * warpgroup) {
      if constexpr (consumers > 1) ex.template take_registers<232>();  // one warpgroup of two has all that a thread can have
      consume(ex, e, full, free, store);
    } else {
      if constexpr (consumers > 1) ex.template give_registers<40>();
      if (ex.thread() == consumers * warpgroup) produce(ex, e, left, right, full, free);
    }
  }

 private:
  /// The stage that is next, and the parity of its barriers' phases.
  struct Ring {
    int stage = 0, parity = 0;
    TILE_INLINE void advance() {
      if (++stage < stages) return;
      stage = 0;
      parity ^= 1;
    }
  };

  template <class Exec, class Barriers>
  static TILE_DEVICE void produce(Exec& ex, const Extents& e, const Boxes& left, const Boxes& right, const Barriers& full, const Barriers& free) {
    Ring ring;
    const i64 tiles = Order::blocks(e);
    for (i64 index = ex.block(); index < tiles; index += ex.blocks()) {
      const auto tile = Order::place(e, index);
      for (i64 k = 0; k < e.k; k += depth, ring.advance()) {
        ex.wait(free + ring.stage, ring.parity ^ 1);
        ex.arrive_expecting(full + ring.stage, stage_bytes);
        fetch<Left, along_left, tile_m>(ex, left, ring.stage * stage_bytes, tile.batch, tile.m, k, full + ring.stage);
        fetch<Right, along_right, tile_n>(ex, right, ring.stage * stage_bytes + left_bytes, tile.batch, tile.n, k, full + ring.stage);
      }
    }
  }

  template <class Exec, class Barriers, class Store>
  static TILE_DEVICE void consume(Exec& ex, const Extents& e, const Barriers& full, const Barriers& free, const Store& store) {
    const int group = ex.thread() / warpgroup, thread = ex.thread() % warpgroup;
    const uint32_t memory = ex.address(ex.template shared<const unsigned char>(0, stages * stage_bytes));
    typename Exec::template Sums<Sum, Atom::values> sums(ex);
    Ring ring;
    int box = 2 * group;
    const i64 tiles = Order::blocks(e);
    for (i64 index = ex.block(); index < tiles; index += ex.blocks()) {
      int before = -1;
      const auto free_stage_before = [&] {
        if (before >= 0 && ex.lane() == 0) ex.arrive(free + before);
      };
      if (e.k == 0) clear(sums);
      for (i64 k = 0; k < e.k; k += depth, ring.advance()) {
        ex.wait(full + ring.stage, ring.parity);
        multiply(ex, sums, memory + static_cast<uint32_t>(ring.stage * stage_bytes), group, k > 0);
        ex.template wait_products<1>();
        free_stage_before();
        before = ring.stage;
      }
      ex.template wait_products<0>();
      ex.settle(sums);
      free_stage_before();
      auto tile = Order::place(e, index);
      tile.m += group * Atom::m;
      if constexpr (stores_boxes) {
        store_boxes(ex, e, tile, sums, store, box);
      } else {
        TILE_UNROLL_REGISTERS
        for (int i = 0; i < Atom::values; ++i) {
          const i64 m = tile.m + Atom::row(thread, i), n = tile.n + Atom::column(thread, i);
          if (m < e.m && n < e.n) store(tile.batch, m, n, sums[i]);
        }
      }
    }
    if (stores_boxes && thread == 0) ex.template wait_stores<0>();
  }

  /// A warpgroup's results, box by box: when one has been written, the one before it has been read. `box`: which of the block's is written next.
  template <class Exec, class Sums, class Value>
  static TILE_DEVICE void store_boxes(Exec& ex, const Extents& e, const typename Order::Place& tile, Sums& sums, const ResultBoxes<Value>& to, int& box) {
    struct alignas(2 * sizeof(Result)) Pair {
      Result first, second;
    };
    constexpr int size = static_cast<int>(sizeof(Result)), columns = row_bytes / size, values = columns / 2;
    const int group = ex.thread() / warpgroup, thread = ex.thread() % warpgroup;
    // Pairs of 8 bytes from two neighbouring rows would be in the same banks: every other row begins 16 columns further on.
    const bool turned = size == 4 && thread / 4 % 2 == 1;
    TILE_UNROLL_REGISTERS
    for (int first = 0; first < Atom::values; first += values) {
      const i64 left = tile.n + Atom::column(0, first);
      if (tile.m >= e.m || left >= e.n) return;
      const int at = boxes_at + box * box_bytes;
      const auto pairs = ex.template shared<Pair>(at, box_bytes / static_cast<int>(sizeof(Pair)));
      TILE_UNROLL_REGISTERS
      for (int i = first; i < first + values; i += 2) {
        const int row = Atom::row(thread, i), column = (Atom::column(thread, i) - Atom::column(0, first)) ^ (turned ? 16 : 0);
        const Sum sum[2] = {ex.taken(turned ? sums[i ^ 8] : sums[i]), ex.taken(turned ? sums[(i + 1) ^ 8] : sums[i + 1])};
        const auto result = [&](int j) {
          const i64 m = tile.m + row, n = left + column + j;
          return m < e.m && n < e.n ? to.value(tile.batch, m, n, sum[j]) : Result{};
        };
        pairs[swizzled(row * row_bytes + column * size) / static_cast<int>(sizeof(Pair))] = Pair{result(0), result(1)};
      }
      ex.fence_async();
      if (thread == 0) ex.template wait_stores<0>();
      ex.sync_some(1 + group, warpgroup);
      if (thread == 0) {
        ex.store_box(*to.map, BoxAt{{left, tile.m, tile.batch}}, ex.template shared<Result>(at, box_bytes / size));
        ex.commit_stores();
      }
      box ^= 1;
    }
  }

  /// Begins the products of a pair of tiles, as one group.
  template <class Exec, class Sums>
  static TILE_DEVICE void multiply(Exec& ex, Sums& sums, uint32_t memory, int group, bool accumulate) {
    constexpr int piece = Atom::m * row_bytes;  // 64 rows, either way they lie
    const uint32_t a = memory + static_cast<uint32_t>(group * piece), b = memory + left_bytes;
    ex.fence_products(sums);
    for (int step = 0; step < depth / Atom::k; ++step)
      Atom::begin(ex, sums, Factor{a + static_cast<uint32_t>(step * Atom::a_step), piece}, Factor{b + static_cast<uint32_t>(step * Atom::b_step), piece},
                  accumulate || step > 0);
    ex.commit_products();
  }

  template <class Sums>
  static TILE_DEVICE void clear(Sums& sums) {
    TILE_UNROLL_REGISTERS
    for (int i = 0; i < Atom::values; ++i) sums[i] = 0;
  }

  static constexpr int rows_along = 64;  ///< of a box along rows: 128 bytes of 16-bit elements

  template <Along along, int rows, class T>
  static auto map_of(const FactorPlace<T>& p) {
    const bool shared = p.batch == 1 || p.batch_stride == 0;
    const i64 batch = shared ? 1 : p.batch, batch_stride = shared ? p.stride * (along == Along::k ? p.rows : p.k) : p.batch_stride;
    if (along == Along::k) return tensor_map(p.data, p.count, {{p.k, p.rows, batch}, {1, p.stride, batch_stride}, {depth, rows, 1}}, Swizzle::bytes128);
    return tensor_map(p.data, p.count, {{p.rows, p.k, batch}, {1, p.stride, batch_stride}, {rows_along, depth, 1}}, Swizzle::bytes128);
  }

  template <class T, Along along, int rows, class Exec, class Barrier>
  static TILE_DEVICE void fetch(Exec& ex, const Boxes& from, int byte, i64 batch, i64 row, i64 k, const Barrier& full) {
    const i64 entry = batch / from.parts * from.batch_step;
    k += batch % from.parts * from.piece;
    if constexpr (along == Along::k) {
      ex.load_box(ex.template shared<T>(byte, rows * depth), *from.map, BoxAt{{k, row, entry}}, full);
    } else {
      for (int i = 0; i < rows; i += rows_along)
        ex.load_box(ex.template shared<T>(byte + i * row_bytes, rows_along * depth), *from.map, BoxAt{{row + i, k, entry}}, full);
    }
  }
};

}  // namespace tile::simt
