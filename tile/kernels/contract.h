#pragma once

// The blocked matrix product with any operands and any epilogue:
//   out[b, m, n] = Σk left(b, m, k) · right(b, n, k)
// The product itself stores nothing: finished sums go to the epilogue, a small tile at a time, each element once.
//
// A call cuts (batch, m, n) into tasks. A task writes its rows of the left operand and, in pieces that stay in the second
// level cache, its columns of the right one as panels into its worker's scratch (operands that are packed already are used
// where they lie), then lets register blocks run over the panels. k is cut into pieces whose panels stay near the core;
// partial sums wait in scratch, so that the epilogue sees only finished ones. Where several tasks would have to pack the same
// operand, it is packed once beforehand, by all.

#include <cstdint>
#include <type_traits>

#include "tile/atoms/register_block.h"
#include "tile/exec/args.h"
#include "tile/kernels/matvec.h"
#include "tile/kernels/operands.h"

namespace tile {

/// Sizes of what is kept close, in bytes; the defaults suit a core with 32-48 KiB and 1-2 MiB of its own.
struct Blocking {
  i64 depth = 512;              ///< k of one pass, at most
  i64 left_bytes = 16 << 20;    ///< panels of the left operand that a task packs at a time
  i64 right_bytes = 3 << 18;    ///< panels of the right operand
  i64 pass_bytes = 1 << 19;     ///< left panels of one pass, to be read again for every right panel
  i64 shared_bytes = 16 << 20;  ///< a whole operand packed for all tasks
};

namespace detail {

template <class T>
inline constexpr bool is_packed = requires {
  T::width;
};

/// What panels hold for sums of type Acc, and how many products may be added in it. Products of 8-bit integers and sums of
/// 256 of them are exact in float, whose multiply-add is the fastest that every machine has.
template <class Acc, class Left, class Right>
struct Arithmetic {
  static constexpr bool bytes = std::is_integral_v<Acc> && sizeof(Acc) >= 4 && Left::within_byte && Right::within_byte;
  using integer = typename std::conditional_t<std::is_integral_v<Acc>, std::make_unsigned<Acc>, std::type_identity<Acc>>::type;
  using panel_type = std::conditional_t<bytes, float, integer>;
};

template <class Operand, int otherwise>
constexpr int width_or() {
  if constexpr (is_packed<Operand>) return Operand::width;
  return otherwise;
}

constexpr i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }
constexpr i64 least(i64 a, i64 b) { return a < b ? a : b; }
constexpr i64 most(i64 a, i64 b) { return a > b ? a : b; }

}  // namespace detail

/// The register block for these operands: the width of packed ones is given, the rest is the machine's best. `rows`: the
/// extent of m where it is known, to choose a block that divides it well.
template <class Acc, class Left, class Right, i64 rows = 0>
using DefaultBlock =
    RegisterBlock<typename detail::Arithmetic<Acc, Left, Right>::panel_type, detail::width_or<Left, rows == 0 ? block_rows : balanced_rows(rows)>(),
                  detail::width_or<Right, block_vectors * lanes<typename detail::Arithmetic<Acc, Left, Right>::panel_type>>() /
                      lanes<typename detail::Arithmetic<Acc, Left, Right>::panel_type>>;

struct Extents {
  i64 batch, m, n, k;
};

namespace detail {

/// Panels of one operand in memory: the panel of outer index o begins at data + (o - first) · depth.
template <class P>
struct Panels {
  const P* data;
  i64 first, depth;
  const P* at(i64 outer, i64 k, int width) const { return data + (outer - first) * depth + k * width; }
};

template <int width, class P, class Operand>
void pack_panels(P* to, const Operand& operand, i64 batch, i64 first, i64 end, i64 depth) {
  for (i64 outer = first; outer < end; outer += width) {
    operand.template pack<width>(to + (outer - first) * depth, batch, outer, least(width, end - outer), 0, depth);
  }
}

/// Whether the operand's own memory can serve as panels of P.
template <class P, class Operand>
constexpr bool in_place() {
  if constexpr (is_packed<Operand>) return std::is_same_v<typename Operand::value_type, P>;
  return false;
}

template <class Acc, class Block, class Left, class Right, class Epilogue>
class BlockedProduct {
  using P = typename Block::panel_type;
  static constexpr int rows = Block::rows, columns = Block::columns;
  static constexpr bool left_in_place = in_place<P, Left>(), right_in_place = in_place<P, Right>();
  /// Float panels under integer sums: exact for 256 products of 8-bit values.
  static constexpr bool widening = std::is_integral_v<Acc> && std::is_floating_point_v<P>;
  static constexpr i64 exact_depth = 256;

 public:
  BlockedProduct(const Extents& extents, const Left& left, const Right& right, const Epilogue& epilogue, Team& team, const Blocking& blocking)
      : extents_(extents), left_(left), right_(right), epilogue_(epilogue), team_(team), blocking_(blocking) {
    const i64 k = extents.k;
    const i64 most_depth = widening ? least(blocking.depth, exact_depth) : blocking.depth;
    passes_ = ceil_div(k, most(most_depth, 1));
    depth_ = ceil_div(k, passes_);
    choose_grid();
    const i64 panel_bytes = k * static_cast<i64>(sizeof(P));
    row_step_ = least(task_rows_, most(blocking.left_bytes / panel_bytes / rows, 1) * rows);
    if (left_in_place || left_shared_) row_step_ = task_rows_;
    column_step_ = least(task_columns_, most(blocking.right_bytes / panel_bytes / columns, 4) * columns);
    // Partial sums of a whole step wait between passes; keep them in the second level cache, too.
    if (passes_ > 1) row_step_ = least(row_step_, most((i64{1} << 21) / (column_step_ * 4) / rows, 4) * rows);
    pass_rows_ = most(blocking.pass_bytes / (depth_ * static_cast<i64>(sizeof(P))) / rows, 1) * rows;
  }

  void run() {
    if (!left_shared_ && !right_shared_) {
      const i64 a_batch = grid_m_ * grid_n_;
      team_.for_each(extents_.batch * a_batch, [&](i64 index, int worker) { task(index / a_batch, index % a_batch, worker, nullptr, nullptr); });
      return;
    }
    const i64 left_count = left_shared_ ? ceil_div(extents_.m, rows) : 0;
    const i64 right_count = right_shared_ ? ceil_div(extents_.n, columns) : 0;
    const i64 left_size = left_count * rows * extents_.k;
    P* left_panels = team_.scratch_as<P>(team_.shared_slot(), left_size + 64 + right_count * columns * extents_.k);
    P* right_panels = left_panels + (left_size + 63) / 64 * 64;
    for (i64 batch = 0; batch < extents_.batch; ++batch) {
      team_.for_each(left_count + right_count, [&](i64 index, int) {
        if (index < left_count) {
          pack_one<rows>(left_panels, left_, batch, index, extents_.m);
        } else {
          pack_one<columns>(right_panels, right_, batch, index - left_count, extents_.n);
        }
      });
      team_.for_each(grid_m_ * grid_n_,
                     [&](i64 index, int worker) { task(batch, index, worker, left_shared_ ? left_panels : nullptr, right_shared_ ? right_panels : nullptr); });
    }
  }

 private:
  template <int width, class Operand>
  void pack_one(P* panels, const Operand& operand, i64 batch, i64 index, i64 end) const {
    const i64 first = index * width;
    operand.template pack<width>(panels + first * extents_.k, batch, first, least(width, end - first), 0, extents_.k);
  }

  /// Cuts m and n so that the slowest worker is done earliest, counting one step a multiply-add vector, about as much for
  /// two elements written to a panel, and tasks in rounds of the team's size.
  void choose_grid() {
    const i64 m_blocks = ceil_div(extents_.m, rows), n_blocks = ceil_div(extents_.n, columns);
    const i64 size = team_.size;
    double best = -1;
    for (i64 m_cuts = 1; m_cuts <= least(m_blocks, 2 * size); m_cuts += m_cuts < 4 ? 1 : m_cuts / 4) {
      for (i64 rounds = 1; rounds <= 4; ++rounds) {
        const i64 n_cuts = most(1, least(n_blocks, ceil_div(rounds * size, m_cuts * extents_.batch)));
        const double r = static_cast<double>(ceil_div(m_blocks, m_cuts) * rows);
        const double c = static_cast<double>(ceil_div(n_blocks, n_cuts) * columns);
        const double tasks = static_cast<double>(ceil_div(extents_.batch * m_cuts * n_cuts, size));
        const double pack = (left_in_place ? 0 : r) + (right_in_place ? 0 : c);
        const double cost = tasks * (r * c / lanes<P> + pack);
        if (best >= 0 && cost >= best * 0.98) continue;
        best = cost;
        grid_m_ = m_cuts;
        grid_n_ = n_cuts;
      }
    }
    task_rows_ = ceil_div(m_blocks, grid_m_) * rows;
    task_columns_ = ceil_div(n_blocks, grid_n_) * columns;
    grid_m_ = ceil_div(extents_.m, task_rows_);
    grid_n_ = ceil_div(extents_.n, task_columns_);
    const i64 bytes = extents_.k * static_cast<i64>(sizeof(P));
    left_shared_ = !left_in_place && grid_n_ > 1 && size > 1 && m_blocks * rows * bytes <= blocking_.shared_bytes;
    right_shared_ = !right_in_place && grid_m_ > 1 && size > 1 && n_blocks * columns * bytes <= blocking_.shared_bytes;
  }

  void task(i64 batch, i64 index, int worker, const P* left_panels, const P* right_panels) const {
    const i64 m0 = index / grid_n_ * task_rows_, m1 = least(m0 + task_rows_, extents_.m);
    const i64 n0 = index % grid_n_ * task_columns_, n1 = least(n0 + task_columns_, extents_.n);
    const i64 k = extents_.k;
    const bool pack_left = !left_in_place && left_panels == nullptr;
    const bool pack_right = !right_in_place && right_panels == nullptr;
    const i64 left_size = pack_left ? row_step_ * k : 0, right_size = pack_right ? column_step_ * k : 0;
    const i64 left_bytes = align(left_size * static_cast<i64>(sizeof(P)));
    const i64 right_bytes = align(right_size * static_cast<i64>(sizeof(P)));
    const i64 sum_bytes = passes_ > 1 ? row_step_ * column_step_ * static_cast<i64>(sizeof(Acc)) : 0;
    char* memory = team_.scratch_as<char>(worker, left_bytes + right_bytes + sum_bytes + 64);
    P* own_left = reinterpret_cast<P*>(memory);
    P* own_right = reinterpret_cast<P*>(memory + left_bytes);
    Acc* sums = reinterpret_cast<Acc*>(memory + left_bytes + right_bytes);
    for (i64 r0 = m0; r0 < m1; r0 += row_step_) {
      const i64 r1 = least(r0 + row_step_, m1);
      Panels<P> left{left_panels, 0, k};
      if constexpr (left_in_place) {
        left.data = left_.panel_at(batch, 0, 0);
      } else if (pack_left) {
        pack_panels<rows>(own_left, left_, batch, r0, r1, k);
        left = {own_left, r0, k};
      }
      for (i64 c0 = n0; c0 < n1; c0 += column_step_) {
        const i64 c1 = least(c0 + column_step_, n1);
        Panels<P> right{right_panels, 0, k};
        if constexpr (right_in_place) {
          right.data = right_.panel_at(batch, 0, 0);
        } else if (pack_right) {
          pack_panels<columns>(own_right, right_, batch, c0, c1, k);
          right = {own_right, c0, k};
        }
        multiply(batch, left, right, r0, r1, c0, c1, sums);
      }
    }
  }

  static constexpr i64 align(i64 bytes) { return (bytes + 63) / 64 * 64; }

  /// All passes over one step of rows and columns.
  void multiply(i64 batch, const Panels<P>& left, const Panels<P>& right, i64 r0, i64 r1, i64 c0, i64 c1, Acc* sums) const {
    alignas(64) P tile[rows * columns];
    alignas(64) Acc wide[widening ? rows * columns : 1];
    const i64 tiles_a_column = ceil_div(r1 - r0, rows);
    for (i64 k0 = 0; k0 < extents_.k; k0 += depth_) {
      const i64 depth = least(depth_, extents_.k - k0);
      const bool first = k0 == 0, last = k0 + depth == extents_.k;
      for (i64 p0 = r0; p0 < r1; p0 += pass_rows_) {
        const i64 p1 = least(p0 + pass_rows_, r1);
        for (i64 c = c0; c < c1; c += columns) {
          const P* b = right.at(c, k0, columns);
          const i64 used = least(columns, c1 - c);
          for (i64 r = p0; r < p1; r += rows) {
            const P* a = left.at(r, k0, rows);
            const i64 position = ((c - c0) / columns * tiles_a_column + (r - r0) / rows) * (rows * columns);
            Acc* sum = passes_ > 1 ? sums + position : widening ? wide : reinterpret_cast<Acc*>(tile);
            if constexpr (widening) {
              block(depth, a, b, tile, false, used);
              add(sum, tile, first);
            } else {
              block(depth, a, b, reinterpret_cast<P*>(sum), !first, used);
            }
            if (last) epilogue_(batch, r, c, least(rows, r1 - r), used, static_cast<const Acc*>(sum), i64{columns});
          }
        }
      }
    }
  }

  static void block(i64 depth, const P* a, const P* b, P* tile, bool accumulate, i64 used) {
    if constexpr (Block::vectors > 1) {
      if (used <= columns - lanes<P>) {
        // The last columns of a row of blocks: half the work where half the vectors are empty.
        constexpr int fewer = Block::vectors == 2 ? 1 : Block::vectors - 1;
        return Block::template multiply<fewer>(depth, a, b, tile, accumulate);
      }
    }
    Block::template multiply<Block::vectors>(depth, a, b, tile, accumulate);
  }

  static void add(Acc* sum, const P* tile, bool first) {
    if (first) {
      for (int i = 0; i < rows * columns; ++i) sum[i] = static_cast<Acc>(tile[i]);
    } else {
      using U = std::make_unsigned_t<Acc>;
      for (int i = 0; i < rows * columns; ++i) {
        sum[i] = static_cast<Acc>(static_cast<U>(sum[i]) + static_cast<U>(static_cast<Acc>(tile[i])));
      }
    }
  }

  const Extents extents_;
  const Left& left_;
  const Right& right_;
  const Epilogue& epilogue_;
  Team& team_;
  const Blocking blocking_;
  i64 passes_, depth_, grid_m_ = 1, grid_n_ = 1, task_rows_ = 0, task_columns_ = 0;
  i64 row_step_, column_step_, pass_rows_;
  bool left_shared_ = false, right_shared_ = false;
};

/// No products to add: zeros for every element.
template <class Acc, class Epilogue>
void give_zeros(const Extents& extents, const Epilogue& epilogue, Team& team) {
  constexpr i64 width = 256;
  static constexpr Acc zeros[width] = {};
  const i64 pieces = ceil_div(extents.n, width);
  team.for_range(extents.batch * extents.m * pieces, 64, [&](i64 begin, i64 end) {
    for (i64 i = begin; i < end; ++i) {
      const i64 row = i / pieces, n0 = i % pieces * width;
      epilogue(row / extents.m, row % extents.m, n0, i64{1}, least(width, extents.n - n0), zeros, width);
    }
  });
}

}  // namespace detail

/// Computes the product of `left` and `right` (see operands.h) over `extents` in `Acc` and hands it to
///   epilogue(i64 batch, i64 m0, i64 n0, i64 rows, i64 columns, const Acc* tile, i64 ld)
/// with tile[i * ld + j] the sum for (batch, m0 + i, n0 + j); every element once, from any of the team's threads, which is
/// all that the epilogue has to be safe for. Nothing is called when batch, m or n is zero; with k = 0 all sums are zero.
/// `known_m` and `known_n`: the extents where they are constants (0: not known), to compile and choose no more than needed.
template <class Acc, class Block, i64 known_m = 0, i64 known_n = 0, class Left, class Right, class Epilogue>
void contract_with(const Extents& extents, const Left& left, const Right& right, const Epilogue& epilogue, Team& team, const Blocking& blocking = {}) {
  if (extents.batch <= 0 || extents.m <= 0 || extents.n <= 0) return;
  if (extents.k <= 0) return detail::give_zeros<Acc>(extents, epilogue, team);
  if (detail::multiply_skinny<Acc, known_m, known_n>(extents.batch, extents.m, extents.n, extents.k, left, right, epilogue, team)) {
    return;
  }
  detail::BlockedProduct<Acc, Block, Left, Right, Epilogue>(extents, left, right, epilogue, team, blocking).run();
}

/// The same with the register block that suits the operands and the known extent of m.
template <class Acc, i64 known_m = 0, i64 known_n = 0, class Left, class Right, class Epilogue>
void contract(const Extents& extents, const Left& left, const Right& right, const Epilogue& epilogue, Team& team, const Blocking& blocking = {}) {
  contract_with<Acc, DefaultBlock<Acc, Left, Right, known_m>, known_m, known_n>(extents, left, right, epilogue, team, blocking);
}

}  // namespace tile
