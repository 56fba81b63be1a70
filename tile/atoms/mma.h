#pragma once

// NVIDIA's matrix instructions of a warp (mma.sync, sm_80 and later): d += a · b of 16 × 8 results, the parts ("fragments") of the
// three held by its 32 lanes. Source of the layouts: PTX ISA, "Matrix Fragments for mma.m16n8k16", "…k8", "…k32".

#include "tile/exec/simt.h"

namespace tile::simt {

namespace detail {
/// A word of a fragment as the unit wants it: of floats, which it reads the upper 19 bits of, the nearest number with these (TF32); halves away from zero.
template <class T>
TILE_DEVICE uint32_t as_factor(uint32_t word) {
  if constexpr (!std::is_same_v<T, float>) {
    return word;
  } else {
#if defined(__CUDA_ARCH__)
    uint32_t rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(__uint_as_float(word)));
    return rounded;
#else
    const uint32_t magnitude = word & 0x7fffffffu;
    if (magnitude >= 0x7f800000u) return magnitude > 0x7f800000u ? 0x7fffe000u : word;
    return (word + 0x1000u) & 0xffffe000u;
#endif
  }
}

/// The value of a word's i-th element as matrix units take it.
template <class T>
TILE_INLINE std::conditional_t<std::is_integral_v<T>, int32_t, float> matrix_element(uint32_t word, int i) {
  if constexpr (std::is_same_v<T, float>) {
    return bit_cast<float>(word & 0xffffe000u);
  } else if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(word >> (8 * i));
  } else {
    return to_float(T{static_cast<uint16_t>(word >> (16 * i))});
  }
}
}  // namespace detail

/// a: [16, k] of Left, b: [8, k] of Right (so that k is contiguous in both), c: [16, 8]. k takes 32 bytes: 16 elements of 16 bits, 8
/// floats of which the unit reads the upper 19 bits (tf32), 32 bytes. In 32-bit words all element types lie alike.
template <class Left, class Right = Left>
struct Mma {
  static_assert(sizeof(Left) == sizeof(Right), "both factors have elements of one size");
  using Sum = std::conditional_t<std::is_integral_v<Left>, int32_t, float>;
  static constexpr int warp_size = 32;
  static constexpr int m = 16, n = 8, words = 8, per_word = 4 / static_cast<int>(sizeof(Left)), k = words * per_word;
  static constexpr int a_words = 4, b_words = 2;  ///< of one lane

  struct A {
    uint32_t word[a_words];
  };
  struct B {
    uint32_t word[b_words];
  };
  struct C {
    Sum value[4];
  };

  static constexpr int b_at_once = 2;
  /// Whether machines that have it copy to shared memory past registers.
  static constexpr bool copies_asynchronously = true;
  /// Rows that a lane has results of, and how many neighbouring lanes share a row.
  static constexpr int c_rows = 2, c_row_lanes = 4;

  /// Fragments from shared memory: `words_at(row, word)` points to a word of the factor's tile whose four neighbours from a multiple of 4 on follow it.
  /// Of b, `b_at_once` neighbours along n.
  template <class Exec, class Words>
  static TILE_DEVICE void load_a(Exec& ex, A& a, const Words& words_at) {
    ex.load_matrices(a.word, words_at(ex.lane() % 16, ex.lane() / 16 * 4));
    for (uint32_t& word : a.word) word = detail::as_factor<Left>(word);
  }
  template <class Exec, class Words>
  static TILE_DEVICE void load_b(Exec& ex, B* b, const Words& words_at) {
    uint32_t both[4];
    ex.load_matrices(both, words_at(ex.lane() % 8 + ex.lane() / 16 * 8, ex.lane() / 8 % 2 * 4));
    for (int i = 0; i < 4; ++i) b[i / 2].word[i % 2] = detail::as_factor<Right>(both[i]);
  }

  // Which elements a lane holds: row (or column) and word of its i-th.
  static constexpr TILE_INLINE int a_row(int lane, int i) { return lane / 4 + 8 * (i % 2); }
  static constexpr TILE_INLINE int a_word(int lane, int i) { return lane % 4 + 4 * (i / 2); }
  static constexpr TILE_INLINE int b_column(int lane, int) { return lane / 4; }
  static constexpr TILE_INLINE int b_word(int lane, int i) { return lane % 4 + 4 * i; }
  static constexpr TILE_INLINE int c_row(int lane, int i) { return lane / 4 + 8 * (i / 2); }
  static constexpr TILE_INLINE int c_column(int lane, int i) { return lane % 4 * 2 + i % 2; }

  /// All lanes of the warp take part.
  template <class Exec>
  static TILE_DEVICE void run(Exec& ex, C& c, const A& a, const B& b) {
    static_assert(Exec::warp_size == warp_size, "an instruction of warps of 32");
#if defined(__CUDA_ARCH__)
    (void)ex;
    issue(c, a, b);
#elif !defined(__CUDACC__)
    emulate(ex, c, a, b);
#endif
  }

 private:
  template <class Exec>
  static void emulate(Exec& ex, C& c, const A& a, const B& b) {
    A all_a[32];
    B all_b[32];
    ex.exchange(a, all_a);
    ex.exchange(b, all_b);
    for (int i = 0; i < 4; ++i) {
      const int row = c_row(ex.lane(), i), column = c_column(ex.lane(), i);
      for (int w = 0; w < words; ++w) {
        const uint32_t x = all_a[row % 8 * 4 + w % 4].word[row / 8 + 2 * (w / 4)], y = all_b[column * 4 + w % 4].word[w / 4];
        for (int e = 0; e < per_word; ++e) c.value[i] += detail::matrix_element<Left>(x, e) * detail::matrix_element<Right>(y, e);
      }
    }
  }

#if defined(__CUDACC__)
  static __device__ __forceinline__ void issue(C& c, const A& a, const B& b) {
#define TILE_MMA(shape_and_types, register_of_sums)                                                                                                     \
  asm volatile("mma.sync.aligned." shape_and_types " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                                   \
               : "+" register_of_sums(c.value[0]), "+" register_of_sums(c.value[1]), "+" register_of_sums(c.value[2]), "+" register_of_sums(c.value[3]) \
               : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b.word[0]), "r"(b.word[1]))
    if constexpr (std::is_same_v<Left, float16>)
      TILE_MMA("m16n8k16.row.col.f32.f16.f16.f32", "f");
    else if constexpr (std::is_same_v<Left, bfloat16>)
      TILE_MMA("m16n8k16.row.col.f32.bf16.bf16.f32", "f");
    else if constexpr (std::is_same_v<Left, float>)
      TILE_MMA("m16n8k8.row.col.f32.tf32.tf32.f32", "f");
    else if constexpr (std::is_same_v<Left, int8_t> && std::is_same_v<Right, int8_t>)
      TILE_MMA("m16n8k32.row.col.s32.s8.s8.s32", "r");
    else if constexpr (std::is_same_v<Left, int8_t>)
      TILE_MMA("m16n8k32.row.col.s32.s8.u8.s32", "r");
    else if constexpr (std::is_same_v<Right, int8_t>)
      TILE_MMA("m16n8k32.row.col.s32.u8.s8.s32", "r");
    else
      TILE_MMA("m16n8k32.row.col.s32.u8.u8.s32", "r");
#undef TILE_MMA
  }
#endif
};

}  // namespace tile::simt
