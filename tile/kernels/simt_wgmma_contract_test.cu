// Matrix products by the instructions of a warpgroup: for scripts/gpu-check, which looks at what nvcc makes of them, and for scripts/device-check, which runs
// them: on a GPU, or without nvcc in the emulator.

#include <exception>
#include <iterator>
#include <string>
#include <type_traits>

#if defined(__CUDACC__)
#include "tile/exec/gpu.h"
#else
#include "tile/exec/emulator.h"
#endif
#include "tile/cast.h"
#include "tile/kernels/simt_wgmma_contract.h"

namespace tile::simt {

/// y = a · bᵀ over [batch, m, k] and [batch, n, k], each of which may lie transposed, with lines `left_stride`, `right_stride` and `result_stride` apart.
/// `shared`: all entries multiply by the same b.
enum Size { batch, m, n, k, left_stride, right_stride, result_stride, shared, sizes };

/// Tiles stores results of type Result by boxes, or with void sums one by one.
template <class Tiles, class Result>
struct Product : Arguments<3, sizes> {
  using Arguments<3, sizes>::Arguments;
  static constexpr int most_threads = Tiles::threads;
  TensorMap left, right, result;

  template <class Exec>
  TILE_DEVICE void operator()(Exec& ex) const {
    using Sum = typename Tiles::Sum;
    const Extents e{this->size[batch], this->size[m], this->size[n], this->size[k]};
    const Boxes from_left{&left, 1}, from_right{&right, this->size[shared] != 0 ? 0 : 1};
    if constexpr (std::is_void_v<Result>) {
      const i64 stride = this->size[result_stride];
      const auto y = ex.global(static_cast<Sum*>(this->tensor[2]), e.batch * e.m * stride);
      Tiles::run(ex, e, from_left, from_right, [&](i64 entry, i64 row, i64 column, Sum sum) { y[(entry * e.m + row) * stride + column] = sum; });
    } else {
      const auto value = [](i64, i64, i64, Sum sum) { return store_as<Result>(sum); };
      Tiles::run(ex, e, from_left, from_right, ResultBoxes{&result, value});
    }
  }
};

template <class T, Along along>
FactorPlace<T> place(void* data, i64 entries, i64 rows, i64 depth, i64 stride) {
  const i64 entry = (along == Along::k ? rows : depth) * stride;
  return {static_cast<const T*>(data), entries * entry, entries, entry, rows, depth, stride};
}

template <int columns, int rows>
struct Tiling : WgmmaTiling {
  static constexpr int m = rows, n = columns;
};

template <class T, int columns, Along left = Along::k, Along right = Along::k, int rows = 128, class Result = void>
void start(const Args& a) {
  using Tiles = WgmmaTiles<T, T, Tiling<columns, rows>, left, right, Result>;
  const i64* const size = a.size;
  Product<Tiles, Result> product(a);
  product.left = Tiles::left_map(place<T, left>(a.tensor[0], size[batch], size[m], size[k], size[left_stride]));
  product.right = Tiles::right_map(place<T, right>(a.tensor[1], size[shared] != 0 ? 1 : size[batch], size[n], size[k], size[right_stride]));
  if constexpr (!std::is_void_v<Result>) {
    const i64 entry = size[m] * size[result_stride];
    product.result = Tiles::result_map(
        ResultPlace<Result>{static_cast<Result*>(a.tensor[2]), size[batch] * entry, size[batch], entry, size[m], size[n], size[result_stride]});
  }
  const i64 blocks = Tiles::blocks({size[batch], size[m], size[n], size[k]}, processors());
  launch(product, {.blocks = blocks, .threads = Tiles::threads, .shared_bytes = Tiles::shared_bytes}, a);
}

/// Results by boxes, of factors along k.
template <class T, class Result, int columns, int rows = 128>
constexpr auto boxed = start<T, columns, Along::k, Along::k, rows, Result>;

/// name: elements, the tile, the axis along which a and b lie, the results that leave by boxes.
constexpr struct {
  const char* name;
  void (*start)(const Args&);
} products[] = {
    {"float16 128x128 k k", start<float16, 128>},
    {"float16 128x256 k k", start<float16, 256>},
    {"bfloat16 128x256 k k", start<bfloat16, 256>},
    {"float16 64x64 k k", start<float16, 64, Along::k, Along::k, 64>},
    {"float16 64x256 k k", start<float16, 256, Along::k, Along::k, 64>},
    {"int8 128x128 k k", start<int8_t, 128>},
    {"int8 128x256 k k", start<int8_t, 256>},
    {"float16 128x256 rows rows", start<float16, 256, Along::rows, Along::rows>},
    {"bfloat16 128x128 k rows", start<bfloat16, 128, Along::k, Along::rows>},
    {"float16 128x256 k k float16", boxed<float16, float16, 256>},
    {"float16 128x256 k k float32", boxed<float16, float, 256>},
    {"bfloat16 64x128 k k bfloat16", boxed<bfloat16, bfloat16, 128, 64>},
    {"int8 128x256 k k int32", boxed<int8_t, int32_t, 256>},
};

}  // namespace tile::simt

/// Of product `which`; null when there are no more.
extern "C" const char* product_name(int which) {
  return which < static_cast<int>(std::size(tile::simt::products)) ? tile::simt::products[which].name : nullptr;
}

/// Starts product `which` of a and b to y. What failed, or null.
extern "C" const char* run_product(int which, void* const* tensors, const tile::i64* sizes) {
  static std::string failure;
  tile::Team alone{nullptr, 1, nullptr, nullptr};
  try {
    tile::simt::products[which].start({tensors, sizes, alone});
    return nullptr;
  } catch (const std::exception& error) {
    failure = error.what();
    return failure.c_str();
  }
}
