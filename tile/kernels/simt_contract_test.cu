// Whole matrix products by matrix instructions and by multiply-add, for scripts/gpu-check: their registers are enough.

#include "tile/exec/gpu.h"
#include "tile/kernels/simt_mma_contract.h"

namespace tile::simt {

/// y = a · bᵀ over [m, k] and [n, k].
template <class T, class Tiles>
struct Product : Arguments<3, 3> {
  using Arguments<3, 3>::Arguments;
  static constexpr int most_threads = Tiles::threads;

  template <class Exec>
  TILE_DEVICE void operator()(Exec& ex) const {
    using Sum = typename Tiles::Sum;
    const i64 m = this->size[0], n = this->size[1], k = this->size[2];
    const auto a = ex.global(static_cast<const T*>(this->tensor[0]), m * k), b = ex.global(static_cast<const T*>(this->tensor[1]), n * k);
    const auto y = ex.global(static_cast<Sum*>(this->tensor[2]), m * n);
    const auto store = [&](i64, i64 row, i64 column, Sum sum) { y[row * n + column] = sum; };
    if constexpr (requires { Tiles::each_m; })
      Tiles::template run<true, true>(ex, Extents{1, m, n, k}, [&](i64, i64 i, i64 at) { return a[i * k + at]; }, [&](i64, i64 i, i64 at) { return b[i * k + at]; },
                                      store);
    else
      Tiles::run(ex, Extents{1, m, n, k}, rows([&](i64, i64 i) { return a + i * k; }), rows([&](i64, i64 i) { return b + i * k; }), store);
  }
};

template <class T, class Tiles>
void start(const Args& a) {
  launch(Product<T, Tiles>(a), {.blocks = 1, .threads = Tiles::threads, .shared_bytes = Tiles::shared_bytes}, a);
}

/// Tiles other than the usual ones: two stages of registers, more shared memory than every block may have.
struct Wide : FmaTiling {
  static constexpr int m = 128, each_m = 8, depth = 8, stages = 2, group = 8;
};
struct Large : MatrixTiling {
  static constexpr int n = 256, depth = 64, stages = 2, group = 8;
};

void start_all(const Args& a) {
  start<float, FmaTiles<float>>(a);
  start<float, FmaTiles<float, Wide>>(a);
#if defined(__HIPCC__) || defined(__HIP__)
  start<float16, MfmaTiles<float16>>(a);
  start<bfloat16, MfmaTiles<bfloat16>>(a);
  start<int8_t, MfmaTiles<int8_t, Large>>(a);
#else
  start<float16, MmaTiles<float16>>(a);
  start<bfloat16, MmaTiles<bfloat16>>(a);
  start<int8_t, MmaTiles<int8_t, int8_t, Large>>(a);
#endif
}

}  // namespace tile::simt
