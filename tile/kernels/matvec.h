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

/// The matrix lies with n contiguous: sums of 512 columns stay in L1 while rows of the matrix pass by, four at a time.
/// x[k * rows + i]; rows beyond `used` are zeros.
template <int rows, class Acc, class Right, class Epilogue>
void stream_columns(i64 batch, i64 used, i64 n0, i64 n1, i64 depth, const sum_type<Acc>* x, const Right& right,
                    const Epilogue& epilogue) {
  using S = sum_type<Acc>;
  constexpr i64 width = 512;
  alignas(64) S sums[rows * width];
  for (i64 n = n0; n < n1; n += width) {
    const i64 count = n1 - n < width ? n1 - n : width;
    for (i64 i = 0; i < rows * width; ++i) sums[i] = S{};
    const auto* from = right.at(batch, n, 0);
    const i64 step = right.k_stride;
    const int32_t zero = right.zero;
    i64 k = 0;
    for (; k + 4 <= depth; k += 4, from += 4 * step) {
      const auto *b0 = from, *b1 = from + step, *b2 = from + 2 * step, *b3 = from + 3 * step;
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
    epilogue(batch, i64{0}, n, used, count, reinterpret_cast<const Acc*>(sums), width);
  }
}

/// The matrix lies with k contiguous: dot products, four lines of the matrix at a time. x[i * depth + k].
template <class Acc, class Right, class Epilogue>
void dot_lines(i64 batch, i64 rows, i64 n0, i64 n1, i64 depth, const sum_type<Acc>* x, const Right& right,
               const Epilogue& epilogue) {
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

/// Few rows m of the left operand (not packed) times a dense matrix.
template <class Acc, class Left, class Right, class Epilogue>
void multiply_rows(i64 batches, i64 m, i64 n, i64 depth, const Left& left, const Right& right, const Epilogue& epilogue,
                   Team& team) {
  using S = sum_type<Acc>;
  const bool columns = right.outer_stride == 1 && !(right.k_stride == 1 && n == 1);
  const i64 padded = m == 1 ? 1 : m <= 4 ? 4 : skinny_rows;
  S* x = team.scratch_as<S>(team.shared_slot(), padded * depth);
  for (i64 batch = 0; batch < batches; ++batch) {
    if (!columns) {
      for (i64 i = 0; i < m; ++i) left.template pack<1>(x + i * depth, batch, i, 1, 0, depth);
    } else if (padded == 1) {
      left.template pack<1>(x, batch, 0, 1, 0, depth);
    } else if (padded == 4) {
      left.template pack<4>(x, batch, 0, m, 0, depth);
    } else {
      left.template pack<skinny_rows>(x, batch, 0, m, 0, depth);
    }
    const i64 grain = 1 + (1 << 15) / depth;
    // Whole cache lines to each worker.
    constexpr i64 line = 16;
    team.for_range((n + line - 1) / line, (grain + line - 1) / line, [&](i64 begin, i64 end) {
      const i64 n0 = begin * line, n1 = end * line < n ? end * line : n;
      if (!columns) {
        dot_lines<Acc>(batch, m, n0, n1, depth, x, right, epilogue);
      } else if (padded == 1) {
        stream_columns<1, Acc>(batch, m, n0, n1, depth, x, right, epilogue);
      } else if (padded == 4) {
        stream_columns<4, Acc>(batch, m, n0, n1, depth, x, right, epilogue);
      } else {
        stream_columns<skinny_rows, Acc>(batch, m, n0, n1, depth, x, right, epilogue);
      }
    });
  }
}

/// Whether streaming `matrix` is better than blocking for so few rows: one of its strides is one, and the team can share
/// out its columns.
template <class Matrix>
bool streams(const Matrix& matrix, i64 rows) {
  return (matrix.outer_stride == 1 && rows <= skinny_rows) || (matrix.k_stride == 1 && rows <= 4);
}

/// Takes products with few rows or few columns; false if it is not one of them.
template <class Acc, class Left, class Right, class Epilogue>
bool multiply_skinny(i64 batches, i64 m, i64 n, i64 depth, const Left& left, const Right& right,
                     const Epilogue& epilogue, Team& team) {
  constexpr bool left_packed = requires { Left::width; };
  constexpr bool right_packed = requires { Right::width; };
  // Many small products are better shared out whole.
  if (batches > 1 && n * m * depth < (1 << 15)) return false;
  if constexpr (is_dense<Right> && !left_packed) {
    if (m <= n && streams(right, m)) {
      multiply_rows<Acc>(batches, m, n, depth, left, right, epilogue, team);
      return true;
    }
  }
  if constexpr (is_dense<Left> && !right_packed) {
    if (n < m && streams(left, n)) {
      auto turned = [&](i64 batch, i64, i64 m0, i64 columns, i64 rows, const Acc* tile, i64 ld) {
        if (columns == 1) return epilogue(batch, m0, i64{0}, rows, i64{1}, tile, i64{1});
        constexpr i64 strip = 64;
        Acc part[strip * skinny_rows];
        for (i64 r = 0; r < rows; r += strip) {
          const i64 here = rows - r < strip ? rows - r : strip;
          for (i64 c = 0; c < columns; ++c) {
            for (i64 i = 0; i < here; ++i) part[i * columns + c] = tile[c * ld + r + i];
          }
          epilogue(batch, m0 + r, i64{0}, here, columns, static_cast<const Acc*>(part), columns);
        }
      };
      multiply_rows<Acc>(batches, n, m, depth, right, left, turned, team);
      return true;
    }
  }
  return false;
}

}  // namespace tile::detail
