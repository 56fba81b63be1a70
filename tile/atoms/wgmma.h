#pragma once

// NVIDIA's matrix instructions of a warpgroup, four warps (wgmma, sm_90a): sums += a · bᵀ of 64 × n results, a and b read from shared memory while
// the threads go on. Source of the layouts: PTX ISA, "Register Fragments and Shared Memory Matrix Layouts" of wgmma.mma_async, "Matrix Descriptor".

#include "tile/exec/bulk.h"
#include "tile/exec/simt.h"

#if defined(__CUDACC__)
#include "tile/atoms/wgmma_issue.h"
#else
#include <cstring>
#include <utility>
#include <vector>
#endif

namespace tile::simt {

/// Which way a factor's neighbours in memory lie: along k, or along its rows (m of a, n of b); the latter for elements of 16 bits alone.
enum class Along { k, rows };

/// How a factor lies in shared memory, with Swizzle::bytes128. Along k: rows of 128 bytes, eight of them each `stride` bytes from the last eight.
/// Along rows: 64 neighbouring rows are 128 bytes, the next 64 lie `leading` bytes further; eight k are 1024 bytes, the next eight lie `stride` further.
struct Factor {
  uint32_t address;  ///< in shared memory; the pattern begins at multiples of 1024
  int leading = 16, stride = 1024;

  constexpr TILE_INLINE uint64_t descriptor() const {
    constexpr auto field = [](uint64_t bytes) { return (bytes & 0x3ffff) >> 4; };
    return field(address) | field(static_cast<uint64_t>(leading)) << 16 | field(static_cast<uint64_t>(stride)) << 32 | uint64_t{1} << 62;
  }
};

/// a: [64, k] of Left, b: [columns, k] of Right. k takes 32 bytes: 16 elements of 16 bits, 32 bytes.
template <class Left, class Right, int columns, Along along_a = Along::k, Along along_b = Along::k>
struct Wgmma {
  static_assert(sizeof(Left) == sizeof(Right), "both factors have elements of one size");
  static_assert(columns == 64 || columns == 128 || columns == 256, "widths that are written out in wgmma_issue.h");
  static_assert(sizeof(Left) == 2 || (along_a == Along::k && along_b == Along::k), "bytes lie along k");
  using Sum = std::conditional_t<std::is_integral_v<Left>, int32_t, float>;
  static constexpr int threads = 128, m = 64, n = columns, k = 32 / static_cast<int>(sizeof(Left)), values = m * n / threads;
  /// Between two instructions of a factor whose 128 bytes along k, or 64 rows along rows, lie in one piece.
  static constexpr int a_step = along_a == Along::k ? 32 : k * 128, b_step = along_b == Along::k ? 32 : k * 128;

  /// Which result is value i of a thread of the warpgroup.
  static constexpr TILE_INLINE int row(int thread, int i) { return thread / 32 * 16 + thread % 32 / 4 + 8 * (i / 2 % 2); }
  static constexpr TILE_INLINE int column(int thread, int i) { return i / 4 * 8 + thread % 4 * 2 + i % 2; }

  /// All threads of the warpgroup take part. Without `accumulate`, sums are overwritten.
  template <class Exec>
  static TILE_DEVICE void begin(Exec& ex, typename Exec::template Sums<Sum, values>& sums, const Factor& a, const Factor& b, bool accumulate) {
#if defined(__CUDA_ARCH__)
    (void)ex;
    detail::WgmmaIssue<Left, Right, columns>::template issue<along_a == Along::rows, along_b == Along::rows>(sums.value, a.descriptor(), b.descriptor(),
                                                                                                             accumulate);
#elif !defined(__CUDACC__)
    typename Exec::Product product;
    product.a = a.descriptor();
    product.b = b.descriptor();
    product.accumulate = accumulate;
    product.pieces = pieces(ex.warp() % 4 * 16, product.a, product.b);
    product.compute = [](auto& memory, const auto& p) { emulate([&](int byte) { return memory.raw(byte); }, p); };
    ex.begin_product(std::move(product), sums.state());
#endif
  }

#if !defined(__CUDACC__)
  /// Where element k of a row lies, by the fields of its descriptor.
  static constexpr int byte_of(uint64_t descriptor, Along along, int row, int at) {
    const auto field = [&](int bit) { return static_cast<int>(descriptor >> bit & 0x3fff) << 4; };
    constexpr int bytes = sizeof(Left);
    if (along == Along::k) return swizzled(field(0) + row / 8 * field(32) + row % 8 * 128 + at * bytes);
    return swizzled(field(0) + row / 64 * field(16) + at / 8 * field(32) + at % 8 * 128 + row % 64 * bytes);
  }

  /// The 16-byte pieces that the warp with rows from `first_row` on reads.
  static std::vector<int> pieces(int first_row, uint64_t a, uint64_t b) {
    std::vector<int> all;
    const auto add = [&](uint64_t descriptor, Along along, int first, int rows) {
      constexpr int each = 16 / static_cast<int>(sizeof(Left));
      for (int row = first; row < first + rows; row += along == Along::rows ? each : 1)
        for (int at = 0; at < k; at += along == Along::k ? each : 1) all.push_back(byte_of(descriptor, along, row, at) & ~15);
    };
    add(a, along_a, first_row, 16);
    add(b, along_b, 0, n);
    return all;
  }

  /// The share of one warp: `bytes(at)` are those of shared memory, `product` says what is multiplied and where its lanes' sums are.
  template <class Bytes, class Product>
  static void emulate(const Bytes& bytes, const Product& product) {
    const auto fetch = [&]<class T>(T* to, uint64_t descriptor, Along along, int row) {
      for (int at = 0; at < k; ++at) std::memcpy(to + at, bytes(byte_of(descriptor, along, row, at)), sizeof(T));
    };
    const auto widened = [](auto element) {
      if constexpr (std::is_integral_v<Left>)
        return static_cast<Sum>(element);
      else
        return to_float(element);
    };
    const int first_row = product.warp % 4 * 16;
    Sum a[16][k];
    std::vector<Sum> b(static_cast<size_t>(n * k));
    for (int i = 0; i < 16; ++i) {
      Left row[k];
      fetch(row, product.a, along_a, first_row + i);
      for (int at = 0; at < k; ++at) a[i][at] = widened(row[at]);
    }
    for (int i = 0; i < n; ++i) {
      Right row[k];
      fetch(row, product.b, along_b, i);
      for (int at = 0; at < k; ++at) b[static_cast<size_t>(i * k + at)] = widened(row[at]);
    }
    for (int lane = 0; lane < product.lanes; ++lane) {
      auto* const sums = static_cast<Sum*>(product.sums[lane]->values);
      for (int i = 0; i < values; ++i) {
        Sum sum = product.accumulate ? sums[i] : Sum{};
        const Sum *x = a[row(lane, i)], *y = &b[static_cast<size_t>(column(lane, i) * k)];
        for (int at = 0; at < k; ++at) sum += x[at] * y[at];
        sums[i] = sum;
      }
    }
  }
#endif
};

}  // namespace tile::simt
