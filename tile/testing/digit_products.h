#pragma once

// Products of floats by digits of bytes, for tests: against float64, beside multiply-adds of floats.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "tile/kernels/digit_windows.h"
#include "tile/testing/teams.h"

namespace tile::testing {

/// The magnitudes of real activations: some large ones among many small ones, of which half are zeros.
inline std::vector<float> any_floats(i64 count, unsigned seed, bool rectified = false) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(static_cast<size_t>(count));
  for (float& x : v) x = rectified ? std::max(normal(random) * std::abs(normal(random)), 0.F) : normal(random);
  return v;
}

/// Results of two kernels and of float64, and the products of the lengths of row and column.
struct Results {
  std::vector<float> digits, plain;
  std::vector<double> exact, length;
  double row_peak = 0, column_peak = 0;  ///< the largest magnitude over the root of the mean square, at most
};

template <class Block, class Right, class Left>
std::vector<float> product(i64 m, i64 n, const Left& left, const Right& right, int threads, const RowsBlocking& blocking, i64 batch = 1) {
  TestTeam team(threads);
  std::vector<float> out(static_cast<size_t>(batch * m * n), 77);
  contract_rows<Block>(
      batch, n, left, right,
      [&](i64 b, i64 m0, i64 n0, i64 rows, auto columns, const float* tile, auto ld) {
        for (i64 i = 0; i < rows; ++i)
          for (i64 j = 0; j < columns; ++j) {
            float& result = out.at(static_cast<size_t>((b * m + m0 + i) * n + n0 + j));
            EXPECT_EQ(result, blocking.fetch_results == (tile == nullptr) ? 77 : 78) << "results are asked for once, before they come";
            result = tile == nullptr ? 78 : tile[i * ld + j];
          }
      },
      team.team(), blocking);
  return out;
}

template <class Digits, class Left>
auto digits_of(const Left& left) {
  return DigitStrips<Left, Digits>{left};
}
template <class Digits, int rows, i64 step>
auto digits_of(const JoinedWindows<float, float, rows, step>& left) {
  return DigitWindows<JoinedWindows<float, float, rows, step>, Digits>{left};
}

/// `digit_left` and `plain_left` provide the same rows, whose elements f(m, k) gives, in strips as Digits and Plain have them.
template <class Digits, class Plain, class DigitLeft, class PlainLeft, class F>
Results results(i64 m, i64 n, i64 k, const DigitLeft& digit_left, const PlainLeft& plain_left, F f, const std::vector<float>& weights, int threads,
                const RowsBlocking& blocking) {
  const i64 runs = digit_left.runs(), depth = digit_left.depth(), rows = runs * Digits::panel_steps(depth);
  const auto weight = [&](i64 j, i64 kk) { return weights[static_cast<size_t>(j * k + kk)]; };
  constexpr i64 width = Digits::columns;
  std::vector<ByteDigits> digits(static_cast<size_t>((n + width - 1) / width * width * (rows + 1)));
  pack_digits(digits.data(), n, runs, depth, width, Digits::steps, weight);
  std::vector<float> panels(static_cast<size_t>(packed_size(n, k, Plain::columns)));
  pack(panels.data(), n, k, Plain::columns, weight);
  Results r;
  r.digits = product<Digits>(m, n, digits_of<Digits>(digit_left), DigitPanels<width>{digits.data(), rows}, threads, blocking);
  r.plain = product<Plain>(m, n, plain_left, Packed<float, Plain::columns, false>{panels.data(), k}, 1, {});
  for (i64 i = 0; i < m; ++i)
    for (i64 j = 0; j < n; ++j) {
      double sum = 0, row = 0, column = 0, row_largest = 0, column_largest = 0;
      for (i64 kk = 0; kk < k; ++kk) {
        const auto a = static_cast<double>(f(i, kk)), b = static_cast<double>(weight(j, kk));
        sum += a * b, row += a * a, column += b * b;
        row_largest = std::max(row_largest, std::abs(a)), column_largest = std::max(column_largest, std::abs(b));
      }
      if (row > 0) r.row_peak = std::max(r.row_peak, row_largest / std::sqrt(row / static_cast<double>(k)));
      r.column_peak = std::max(r.column_peak, column_largest / std::sqrt(column / static_cast<double>(k)));
      r.exact.push_back(sum);
      r.length.push_back(std::sqrt(row * column));
    }
  return r;
}

/// In units of 2^-24 of a result as large as such rows and columns of k random elements have it.
inline double error(const std::vector<float>& actual, const Results& r, i64 k) {
  double squares = 0, lengths = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double e = static_cast<double>(actual[i]) - r.exact[i];
    squares += e * e, lengths += r.length[i] * r.length[i];
  }
  return std::sqrt(squares / lengths * static_cast<double>(k)) * 0x1p24;
}

/// Units are 2^-23 of the largest element of a row or column, and numbers err by a unit over √12 in the mean; then a result is rounded. Sums of few
/// products by multiply-adds are nearly exact. `shared`: how much larger a strip's largest element may be than a window's.
inline void expect_accuracy_of_floats(const Results& r, i64 k, double shared = 1) {
  const double digits = error(r.digits, r, k), plain = error(r.plain, r, k);
  EXPECT_LE(digits, std::max(plain, std::hypot(0.6 * shared * r.row_peak, 0.6 * r.column_peak) + 1)) << "multiply-adds err by " << plain << ", k " << k;
}

}  // namespace tile::testing
