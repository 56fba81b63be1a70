#pragma once

// AMD's matrix instructions of a wavefront (v_mfma, gfx90a and later): d += a · b of 16 × 16 results, the parts of the three held by its
// 64 lanes. Source of the layouts: AMD Instinct MI200 Instruction Set Architecture, "Matrix Arithmetic Instructions", for 16x16x16.

#include "tile/atoms/mma.h"

namespace tile::simt {

/// a: [16, 16] of T, b: [16, 16] of T (so that k is contiguous in both), c: [16, 16]. T: float16, bfloat16, int8_t.
template <class T>
struct Mfma {
  using Sum = std::conditional_t<std::is_integral_v<T>, int32_t, float>;
  static constexpr int warp_size = 64;
  static constexpr int m = 16, n = 16, k = 16, per_word = 4 / static_cast<int>(sizeof(T)), words = k / per_word;
  static constexpr int a_words = words / 4, b_words = a_words;  ///< of one lane

  struct A {
    uint32_t word[a_words];
  };
  struct B {
    uint32_t word[b_words];
  };
  struct C {
    Sum value[4];
  };

  static constexpr int b_at_once = 1;
  /// Whether machines that have it copy to shared memory past registers.
  static constexpr bool copies_asynchronously = false;
  static constexpr int c_rows = 4, c_row_lanes = 16;

  /// Fragments from shared memory: `words_at(row, word)` points to a word of the factor's tile.
  template <class Exec, class Words>
  static TILE_DEVICE void load_a(Exec& ex, A& a, const Words& words_at) {
    for (int i = 0; i < a_words; ++i) a.word[i] = *words_at(a_row(ex.lane(), i), a_word(ex.lane(), i));
  }
  template <class Exec, class Words>
  static TILE_DEVICE void load_b(Exec& ex, B* b, const Words& words_at) {
    for (int i = 0; i < b_words; ++i) b->word[i] = *words_at(b_column(ex.lane(), i), b_word(ex.lane(), i));
  }

  // Which elements a lane holds: row (or column) and word of its i-th.
  static constexpr TILE_INLINE int a_row(int lane, int) { return lane % 16; }
  static constexpr TILE_INLINE int a_word(int lane, int i) { return lane / 16 * a_words + i; }
  static constexpr TILE_INLINE int b_column(int lane, int) { return lane % 16; }
  static constexpr TILE_INLINE int b_word(int lane, int i) { return lane / 16 * b_words + i; }
  static constexpr TILE_INLINE int c_row(int lane, int i) { return lane / 16 * 4 + i; }
  static constexpr TILE_INLINE int c_column(int lane, int) { return lane % 16; }

  /// All lanes of the wavefront take part.
  template <class Exec>
  static TILE_DEVICE void run(Exec& ex, C& c, const A& a, const B& b) {
    static_assert(Exec::warp_size == warp_size, "an instruction of wavefronts of 64");
#if defined(__HIP_DEVICE_COMPILE__)
    (void)ex;
    issue(c, a, b);
#elif !defined(__HIP__) && !defined(__HIPCC__)
    emulate(ex, c, a, b);
#endif
  }

 private:
  template <class Exec>
  static void emulate(Exec& ex, C& c, const A& a, const B& b) {
    A all_a[64];
    B all_b[64];
    ex.exchange(a, all_a);
    ex.exchange(b, all_b);
    for (int i = 0; i < 4; ++i) {
      const int row = c_row(ex.lane(), i), column = c_column(ex.lane(), i);
      for (int w = 0; w < words; ++w) {
        const uint32_t x = all_a[w / a_words * 16 + row].word[w % a_words], y = all_b[w / b_words * 16 + column].word[w % b_words];
        for (int e = 0; e < per_word; ++e) c.value[i] += detail::matrix_element<T>(x, e) * detail::matrix_element<T>(y, e);
      }
    }
  }

#if defined(__HIP_DEVICE_COMPILE__)
  static __device__ inline void issue(C& c, const A& a, const B& b) {
    typedef Sum Sums __attribute__((ext_vector_type(4)));
    Sums sums = {c.value[0], c.value[1], c.value[2], c.value[3]};
    if constexpr (std::is_same_v<T, float16>) {
      typedef _Float16 Half __attribute__((ext_vector_type(4)));
      sums = __builtin_amdgcn_mfma_f32_16x16x16f16(__builtin_bit_cast(Half, a), __builtin_bit_cast(Half, b), sums, 0, 0, 0);
    } else if constexpr (std::is_same_v<T, bfloat16>) {
      typedef short Bits __attribute__((ext_vector_type(4)));
      sums = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(__builtin_bit_cast(Bits, a), __builtin_bit_cast(Bits, b), sums, 0, 0, 0);
    } else {
#if defined(__gfx940__) || defined(__gfx941__) || defined(__gfx942__)
      // These have it over 32 elements alone: the other half of both factors is zero.
      sums = __builtin_amdgcn_mfma_i32_16x16x32_i8(static_cast<long>(a.word[0]), static_cast<long>(b.word[0]), sums, 0, 0, 0);
#else
      sums = __builtin_amdgcn_mfma_i32_16x16x16i8(static_cast<int>(a.word[0]), static_cast<int>(b.word[0]), sums, 0, 0, 0);
#endif
    }
    for (int i = 0; i < 4; ++i) c.value[i] = sums[i];
  }
#endif
};

}  // namespace tile::simt
