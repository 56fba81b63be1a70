#pragma once

// Products with very few rows: bound by reading the matrix, which is therefore read once, in order, and not packed.

#include <type_traits>

#include "tile/exec/args.h"
#include "tile/exec/simd.h"
#include "tile/kernels/operands.h"

namespace tile::detail {

template <class T>
inline constexpr bool is_dense = false;
template <class T, class Batch>
inline constexpr bool is_dense<Dense<T, Batch>> = true;

/// The widest stack of rows that these kernels take.
inline constexpr int skinny_rows = 8;

/// Wrapping arithmetic for integers.
template <class Acc>
using sum_type = typename std::conditional_t<std::is_integral_v<Acc>, std::make_unsigned<Acc>, std::type_identity<Acc>>::type;

/// Sums of some columns while `depth` rows of the matrix pass by, four at a time: sums[i * width + j] over x[k * rows + i].
template <int rows, i64 width, class S, class B>
void add_rows(i64 count, i64 depth, const S* x, const B* from, i64 step, int32_t zero, S* __restrict sums) {
  i64 k = 0;
  for (; k + 4 <= depth; k += 4, from += 4 * step) {
    const B *b0 = from, *b1 = from + step, *b2 = from + 2 * step, *b3 = from + 3 * step;
    const S* a = x + k * rows;
#pragma omp simd
    for (i64 j = 0; j < count; ++j) {
      const S v0 = panel_value<S>(b0[j], zero), v1 = panel_value<S>(b1[j], zero);
      const S v2 = panel_value<S>(b2[j], zero), v3 = panel_value<S>(b3[j], zero);
      TILE_UNROLL
      for (int i = 0; i < rows; ++i) {
        sums[i * width + j] += (a[i] * v0 + a[rows + i] * v1) + (a[2 * rows + i] * v2 + a[3 * rows + i] * v3);
      }
    }
  }
  for (; k < depth; ++k, from += step) {
    const S* a = x + k * rows;
#pragma omp simd
    for (i64 j = 0; j < count; ++j) {
      const S v = panel_value<S>(from[j], zero);
      TILE_UNROLL
      for (int i = 0; i < rows; ++i) sums[i * width + j] += a[i] * v;
    }
  }
}

/// The matrix lies with n contiguous: sums of a stretch of columns stay in L1 while rows of the matrix pass by. As in register
/// blocks, chains of additions are kept short: each `chain` rows have sums of their own. x[k * rows + i]; rows beyond `used` are zeros.
template <int rows, class Acc, class Right, class Epilogue>
void stream_columns(i64 batch, i64 used, i64 n0, i64 n1, i64 depth, const sum_type<Acc>* x, const Right& right, const Epilogue& epilogue) {
  using S = sum_type<Acc>;
  constexpr i64 width = rows > 1 ? 256 : 512, chain = 128;
  alignas(64) S sums[rows * width], parts[rows * width];
  for (i64 n = n0; n < n1; n += width) {
    const i64 count = n1 - n < width ? n1 - n : width;
    for (i64 k = 0; k < depth; k += chain) {
      S* const to = k == 0 ? sums : parts;
      for (i64 i = 0; i < rows * width; ++i) to[i] = S{};
      add_rows<rows, width>(count, depth - k < chain ? depth - k : chain, x + k * rows, right.at(batch, n, k), right.k_stride, right.zero, to);
      if (k > 0) {
        for (i64 i = 0; i < rows * width; ++i) sums[i] += parts[i];
      }
    }
    epilogue(batch, i64{0}, n, used, count, reinterpret_cast<const Acc*>(sums), width);
  }
}

/// The matrix lies with k contiguous: dot products, four lines of the matrix at a time. x[i * depth + k].
template <class Acc, class Right, class Epilogue>
void dot_lines(i64 batch, i64 rows, i64 n0, i64 n1, i64 depth, const sum_type<Acc>* x, const Right& right, const Epilogue& epilogue) {
  using S = sum_type<Acc>;
  constexpr i64 width = 64;
  alignas(64) S sums[skinny_rows * width];
  const i64 step = right.outer_stride;
  const int32_t zero = right.zero;
  for (i64 n = n0; n < n1; n += width) {
    const i64 count = n1 - n < width ? n1 - n : width;
    const auto* from = right.at(batch, n, 0);
    for (i64 j = 0; j < count; j += 4) {
      const auto* b0 = from + j * step;
      const i64 lines = count - j < 4 ? count - j : 4;
      // Lines past the end repeat the last one; their sums are dropped.
      const auto* b1 = lines > 1 ? b0 + step : b0;
      const auto* b2 = lines > 2 ? b1 + step : b1;
      const auto* b3 = lines > 3 ? b2 + step : b2;
      for (i64 i = 0; i < rows; ++i) {
        const S* a = x + i * depth;
        S s0{}, s1{}, s2{}, s3{};
#pragma omp simd reduction(+ : s0, s1, s2, s3)
        for (i64 k = 0; k < depth; ++k) {
          s0 += a[k] * panel_value<S>(b0[k], zero);
          s1 += a[k] * panel_value<S>(b1[k], zero);
          s2 += a[k] * panel_value<S>(b2[k], zero);
          s3 += a[k] * panel_value<S>(b3[k], zero);
        }
        S* to = sums + i * width + j;
        to[0] = s0;
        to[1] = s1;
        to[2] = s2;
        to[3] = s3;
      }
    }
    epilogue(batch, i64{0}, n, rows, count, reinterpret_cast<const Acc*>(sums), width);
  }
}

/// Few rows m of the left operand (not packed) times a dense matrix. `rows` is the most that is compiled for: 1 or
/// skinny_rows.
template <class Acc, int rows, class Left, class Right, class Epilogue>
void multiply_rows(i64 batches, i64 m, i64 n, i64 depth, const Left& left, const Right& right, const Epilogue& epilogue, Team& team) {
  using S = sum_type<Acc>;
  const bool columns = right.outer_stride == 1;
  const bool several = rows > 1 && m > 1;
  S* x = team.scratch_as<S>(team.shared_slot(), (several ? skinny_rows : 1) * depth);
  for (i64 batch = 0; batch < batches; ++batch) {
    if (columns && several) {
      if constexpr (rows > 1) left.template pack<rows>(x, batch, 0, m, 0, depth);
    } else {
      for (i64 i = 0; i < m; ++i) left.template pack<1>(x + i * depth, batch, i, 1, 0, depth);
    }
    // Whole cache lines of results to each worker.
    constexpr i64 line = 16;
    const i64 grain = 1 + (1 << 15) / depth / line;
    team.for_range((n + line - 1) / line, grain, [&](i64 begin, i64 end) {
      const i64 n0 = begin * line, n1 = end * line < n ? end * line : n;
      if (!columns) return dot_lines<Acc>(batch, m, n0, n1, depth, x, right, epilogue);
      if constexpr (rows > 1) {
        if (several) return stream_columns<rows, Acc>(batch, m, n0, n1, depth, x, right, epilogue);
      }
      stream_columns<1, Acc>(batch, m, n0, n1, depth, x, right, epilogue);
    });
  }
}

/// Takes products with few rows, or one column, of a dense matrix with a stride of one; false if it is not one of them.
/// `known_m`, `known_n`: the extents where they are constants, else 0; they save compiling what cannot happen.
template <class Acc, i64 known_m, i64 known_n, class Left, class Right, class Epilogue>
bool multiply_skinny(i64 batches, i64 m, i64 n, i64 depth, const Left& left, const Right& right, const Epilogue& epilogue, Team& team) {
  constexpr bool left_packed = requires { Left::width; };
  constexpr bool right_packed = requires { Right::width; };
  // Many small products are better shared out whole.
  if (batches > 1 && n * m * depth < (1 << 15)) return false;
  if constexpr (is_dense<Right> && !left_packed && known_m <= skinny_rows) {
    const bool streams = right.outer_stride == 1 && m <= skinny_rows;
    const bool lines = right.outer_stride != 1 && right.k_stride == 1 && m <= 4;
    if (m <= n && (streams || lines)) {
      constexpr int rows = known_m == 1 ? 1 : skinny_rows;
      multiply_rows<Acc, rows>(batches, m, n, depth, left, right, epilogue, team);
      return true;
    }
  }
  if constexpr (is_dense<Left> && !right_packed && known_n <= 1) {
    if (n == 1 && (left.outer_stride == 1 || left.k_stride == 1)) {
      auto turned = [&](i64 batch, i64, i64 m0, i64, i64 rows, const Acc* tile, i64) { epilogue(batch, m0, i64{0}, rows, i64{1}, tile, i64{1}); };
      multiply_rows<Acc, 1>(batches, 1, m, depth, right, left, turned, team);
      return true;
    }
  }
  return false;
}

}  // namespace tile::detail
