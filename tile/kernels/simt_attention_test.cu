// Attention by matrix instructions, by multiply-add and for few rows, for scripts/gpu-check: their registers are enough.

#include "tile/exec/gpu.h"
#include "tile/kernels/simt_attention.h"

namespace tile::simt {

#if defined(__HIPCC__) || defined(__HIP__)
template <class T, int head>
using MatrixTiles = MfmaAttention<T, head, head>;
#else
template <class T, int head>
using MatrixTiles = MmaAttention<T, head, head>;
#endif

/// y = softmax(q · kᵀ / 8) · v over [batch, rows, head] and [batch, keys, head].
template <class T, class How, int head, bool few = false>
struct Attention : Arguments<5, 3> {
  using Arguments<5, 3>::Arguments;

  template <class Exec>
  TILE_DEVICE void operator()(Exec& ex) const {
    const AttentionExtents e{this->size[0], this->size[1], this->size[2]};
    const auto lines = [&](int tensor, i64 count) {
      const auto data = ex.global(static_cast<const T*>(this->tensor[tensor]), e.batch * count * head);
      return vectors<true, sizeof(T) == 2>([=](i64 batch) { return data + batch * count * head; }, head, 1);
    };
    const auto y = ex.global(static_cast<T*>(this->tensor[3]), e.batch * e.rows * head);
    const auto score = [&](i64, i64, i64, float sum) { return sum * 0.125f; };
    const auto weight = [&](i64, i64, float total) { return 1 / total; };
    const auto store = [&](i64 batch, i64 row, i64 column, float value) { y[(batch * e.rows + row) * head + column] = store_as<T>(value); };
    if constexpr (few) {
      const auto partial = ex.global(static_cast<float*>(this->tensor[4]), e.batch * e.rows * 4 * How::part_floats);
      How::run(ex, e, 4, lines(0, e.rows), lines(1, e.keys), lines(2, e.keys), score, weight, store, partial);
    } else {
      How::run(ex, e, lines(0, e.rows), lines(1, e.keys), lines(2, e.keys), score, weight, store);
    }
  }
};

template <class T, class How, int head, bool few = false>
void start(const Args& a) {
  launch(Attention<T, How, head, few>(a), {.blocks = 1, .threads = How::threads, .shared_bytes = How::shared_bytes}, a);
}

void start_all(const Args& a) {
  start<float, FmaAttention<64, 64>, 64>(a);
  start<float, FmaAttention<128, 128>, 128>(a);
  start<float16, MatrixTiles<float16, 64>, 64>(a);
  start<bfloat16, MatrixTiles<bfloat16, 128>, 128>(a);
  start<float, FewRowsAttention<128, 128>, 128, true>(a);
  start<bfloat16, FewRowsAttention<128, 128>, 128, true>(a);
}

}  // namespace tile::simt
