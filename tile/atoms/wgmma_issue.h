#pragma once

// The instructions of tile/atoms/wgmma.h as PTX, whose accumulators are named one by one.

#include "tile/types.h"

namespace tile::simt::detail {

// Ten registers, their numbers beginning with the digits `t`: as the text names them, and as operands.
#define TILE_TEN_NAMES(t) "%" #t "0, %" #t "1, %" #t "2, %" #t "3, %" #t "4, %" #t "5, %" #t "6, %" #t "7, %" #t "8, %" #t "9"
#define TILE_TEN(kind, t) \
  kind(d[t##0]), kind(d[t##1]), kind(d[t##2]), kind(d[t##3]), kind(d[t##4]), kind(d[t##5]), kind(d[t##6]), kind(d[t##7]), kind(d[t##8]), kind(d[t##9])
#define TILE_NAMES_32 TILE_TEN_NAMES() ", " TILE_TEN_NAMES(1) ", " TILE_TEN_NAMES(2) ", %30, %31"
#define TILE_NAMES_64 \
  TILE_TEN_NAMES() ", " TILE_TEN_NAMES(1) ", " TILE_TEN_NAMES(2) ", " TILE_TEN_NAMES(3) ", " TILE_TEN_NAMES(4) ", " TILE_TEN_NAMES(5) ", %60, %61, %62, %63"
#define TILE_NAMES_128 \
  TILE_TEN_NAMES() ", " TILE_TEN_NAMES(1) ", " TILE_TEN_NAMES(2) ", " TILE_TEN_NAMES(3) ", " TILE_TEN_NAMES(4) ", " TILE_TEN_NAMES(5) ", " TILE_TEN_NAMES(6) \
    ", " TILE_TEN_NAMES(7) ", " TILE_TEN_NAMES(8) ", " TILE_TEN_NAMES(9) ", " TILE_TEN_NAMES(10) ", " TILE_TEN_NAMES(11) ", %120, %121, %122, %123, %124, %125, %126, %127"
#define TILE_SUMS_32(kind) TILE_TEN(kind, ), TILE_TEN(kind, 1), TILE_TEN(kind, 2), kind(d[30]), kind(d[31])
#define TILE_SUMS_64(kind)                                                                                                                                \
  TILE_TEN(kind, ), TILE_TEN(kind, 1), TILE_TEN(kind, 2), TILE_TEN(kind, 3), TILE_TEN(kind, 4), TILE_TEN(kind, 5), kind(d[60]), kind(d[61]), kind(d[62]), \
      kind(d[63])
#define TILE_SUMS_128(kind)                                                                                                                               \
  TILE_TEN(kind, ), TILE_TEN(kind, 1), TILE_TEN(kind, 2), TILE_TEN(kind, 3), TILE_TEN(kind, 4), TILE_TEN(kind, 5), TILE_TEN(kind, 6), TILE_TEN(kind, 7),  \
      TILE_TEN(kind, 8), TILE_TEN(kind, 9), TILE_TEN(kind, 10), TILE_TEN(kind, 11), kind(d[120]), kind(d[121]), kind(d[122]), kind(d[123]), kind(d[124]), \
      kind(d[125]), kind(d[126]), kind(d[127])
#define TILE_FLOATS "+f"
#define TILE_INTEGERS "+r"

/// issue<a along rows, b along rows>(sums, descriptor of a, of b, accumulate)
template <class Left, class Right, int columns>
struct WgmmaIssue;

// a, b, whether to accumulate: the operands after `values` sums. Floats have signs of a and b (1: as they are) and which way they lie.
#define TILE_WGMMA_FLOATS(type, columns, values, a, b, go, trans_a, trans_b, text)                                                                     \
  template <>                                                                                                                                          \
  struct WgmmaIssue<type, type, columns> {                                                                                                             \
    template <bool a_along_rows, bool b_along_rows>                                                                                                    \
    static __device__ __forceinline__ void issue(float (&d)[values], uint64_t left, uint64_t right, bool accumulate) {                                 \
      asm volatile("{ .reg .pred go; setp.ne.b32 go, %" #go ", 0; wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." text " {" TILE_NAMES_##values \
                   "}, %" #a ", %" #b ", go, 1, 1, %" #trans_a ", %" #trans_b "; }"                                                                    \
                   : TILE_SUMS_##values(TILE_FLOATS)                                                                                                   \
                   : "l"(left), "l"(right), "r"(static_cast<int>(accumulate)), "n"(a_along_rows ? 1 : 0), "n"(b_along_rows ? 1 : 0));                  \
    }                                                                                                                                                  \
  };
#define TILE_WGMMA_BYTES(left_type, right_type, columns, values, a, b, go, text)                                                                       \
  template <>                                                                                                                                          \
  struct WgmmaIssue<left_type, right_type, columns> {                                                                                                  \
    template <bool, bool>                                                                                                                              \
    static __device__ __forceinline__ void issue(int32_t (&d)[values], uint64_t left, uint64_t right, bool accumulate) {                               \
      asm volatile("{ .reg .pred go; setp.ne.b32 go, %" #go ", 0; wgmma.mma_async.sync.aligned.m64n" #columns "k32.s32." text " {" TILE_NAMES_##values \
                   "}, %" #a ", %" #b ", go; }"                                                                                                        \
                   : TILE_SUMS_##values(TILE_INTEGERS)                                                                                                 \
                   : "l"(left), "l"(right), "r"(static_cast<int>(accumulate)));                                                                        \
    }                                                                                                                                                  \
  };
#define TILE_WGMMA(columns, values, a, b, go, trans_a, trans_b)                         \
  TILE_WGMMA_FLOATS(float16, columns, values, a, b, go, trans_a, trans_b, "f16.f16")    \
  TILE_WGMMA_FLOATS(bfloat16, columns, values, a, b, go, trans_a, trans_b, "bf16.bf16") \
  TILE_WGMMA_BYTES(int8_t, int8_t, columns, values, a, b, go, "s8.s8")                  \
  TILE_WGMMA_BYTES(int8_t, uint8_t, columns, values, a, b, go, "s8.u8")                 \
  TILE_WGMMA_BYTES(uint8_t, int8_t, columns, values, a, b, go, "u8.s8")                 \
  TILE_WGMMA_BYTES(uint8_t, uint8_t, columns, values, a, b, go, "u8.u8")
TILE_WGMMA(64, 32, 32, 33, 34, 35, 36)
TILE_WGMMA(128, 64, 64, 65, 66, 67, 68)
TILE_WGMMA(256, 128, 128, 129, 130, 131, 132)

#undef TILE_TEN_NAMES
#undef TILE_TEN
#undef TILE_NAMES_32
#undef TILE_NAMES_64
#undef TILE_NAMES_128
#undef TILE_SUMS_32
#undef TILE_SUMS_64
#undef TILE_SUMS_128
#undef TILE_FLOATS
#undef TILE_INTEGERS
#undef TILE_WGMMA_FLOATS
#undef TILE_WGMMA_BYTES
#undef TILE_WGMMA

}  // namespace tile::simt::detail
