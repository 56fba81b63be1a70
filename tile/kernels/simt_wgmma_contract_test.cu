// Matrix products by the instructions of a warpgroup, for scripts/gpu-check: their registers are enough.

#include "tile/exec/gpu.h"
#include "tile/kernels/simt_wgmma_contract.h"

namespace tile::simt {

/// y = a · bᵀ over [m, k] and [n, k], of which each may lie transposed.
template <class T, class Tiles>
struct Product : Arguments<3, 3> {
  using Arguments<3, 3>::Arguments;
  static constexpr int most_threads = Tiles::threads;
  TensorMap left, right;

  template <class Exec>
  TILE_DEVICE void operator()(Exec& ex) const {
    using Sum = typename Tiles::Sum;
    const i64 m = this->size[0], n = this->size[1], k = this->size[2];
    const auto y = ex.global(static_cast<Sum*>(this->tensor[2]), m * n);
    Tiles::run(ex, Extents{1, m, n, k}, Boxes{&left, 0}, Boxes{&right, 0}, [&](i64, i64 row, i64 column, Sum sum) { y[row * n + column] = sum; });
  }
};

template <class T, Along along>
FactorPlace<T> place(void* data, i64 rows, i64 k) {
  return {static_cast<const T*>(data), rows * k, 1, 0, rows, k, along == Along::k ? k : rows};
}

template <int columns, int rows>
struct Tiling : WgmmaTiling {
  static constexpr int m = rows, n = columns;
};

template <class T, int columns, Along left = Along::k, Along right = Along::k, int rows = 128>
void start(const Args& a) {
  using Tiles = WgmmaTiles<T, T, Tiling<columns, rows>, left, right>;
  const i64 m = a.size[0], n = a.size[1], k = a.size[2];
  Product<T, Tiles> product(a);
  product.left = Tiles::left_map(place<T, left>(a.tensor[0], m, k));
  product.right = Tiles::right_map(place<T, right>(a.tensor[1], n, k));
  launch(product, {.blocks = Tiles::blocks({1, m, n, k}, processors()), .threads = Tiles::threads, .shared_bytes = Tiles::shared_bytes}, a);
}

void start_all(const Args& a) {
  start<float16, 128>(a);
  start<float16, 256>(a);
  start<bfloat16, 256>(a);
  start<float16, 64, Along::k, Along::k, 64>(a);
  start<float16, 256, Along::k, Along::k, 64>(a);
  start<int8_t, 128>(a);
  start<int8_t, 256>(a);
  start<float16, 256, Along::rows, Along::rows>(a);
  start<bfloat16, 128, Along::k, Along::rows>(a);
}

}  // namespace tile::simt
