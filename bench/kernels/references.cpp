#include "bench/kernels/references.h"

#include <algorithm>
#include <ctime>

#include "runtime/cpu_features.h"
#include "tile/atoms/tile_registers.h"
#include "tile/exec/simd.h"

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
#include <immintrin.h>
#endif

namespace tilewright::kernel_bench {
namespace {

constexpr int chains = 12;  ///< more than latency times issue

/// The value, of which the compiler knows nothing any more.
template <class V>
TILE_INLINE V opaque(V value) {
#if defined(__aarch64__)
  asm volatile("" : "+w"(value));
#else
  asm volatile("" : "+v"(value));
#endif
  return value;
}

/// Operations a second of `step`, which does `operations` of them on a register.
template <class V, class Step>
double operations_a_second(double operations, const Step& step) {
  constexpr int count = 20000;
  std::vector<double> seconds;
  for (int round = 0; round < 9; ++round) {
    V sum[chains] = {};
    const double start = seconds_now();
    for (int i = 0; i < count; ++i) {
      TILE_UNROLL
      for (int c = 0; c < chains; ++c) sum[c] = opaque(step(sum[c]));
    }
    seconds.push_back(seconds_now() - start);
  }
  return operations * chains * count / median(seconds);
}

/// Operations a second of products of tiles, four sums at a time, `operations` each.
template <tile::TileProducts kind>
double tile_operations_a_second([[maybe_unused]] double operations, [[maybe_unused]] const char* feature) {
#if defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AMX_BF16__)
  if (!rt::has_cpu_feature(feature)) return 0;
  using Tiles = tile::NativeTiles;
  tile::TileShapes shapes;
  for (int t = 0; t < 8; ++t) shapes.rows[t] = 16, shapes.row_bytes[t] = 64;
  Tiles::configure(shapes);
  constexpr int count = 5000;
  std::vector<double> seconds;
  for (int round = 0; round < 9; ++round) {
    const double start = seconds_now();
    for (int i = 0; i < count; ++i) {
      Tiles::add_products<kind, 0, 4, 6>();
      Tiles::add_products<kind, 1, 4, 7>();
      Tiles::add_products<kind, 2, 5, 6>();
      Tiles::add_products<kind, 3, 5, 7>();
    }
    seconds.push_back(seconds_now() - start);
  }
  Tiles::release();
  return operations * 4 * count / median(seconds);
#else
  return 0;
#endif
}

}  // namespace

double seconds_now() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double float_peak() {
  const auto a = opaque(tile::broadcast(1.0001f)), b = opaque(tile::broadcast(0.9f));
  return operations_a_second<tile::vec<float>>(2 * tile::lanes<float>, [&](auto sum) { return sum * a + b; });
}

bool alone() {
  constexpr int count = 10000;
  const auto loop = [] {
    const double start = seconds_now();
    for (int i = count; i > 0; --i) asm volatile("" : "+r"(i));
    return seconds_now() - start;
  };
  static double shortest = [&] {
    double best = loop();
    for (int i = 0; i < 10000; ++i) best = std::min(best, loop());
    return best;
  }();
  const double now = loop();
  shortest = std::min(shortest, now);
  return now < 1.35 * shortest;  // clocks vary, too
}

#if defined(__AVX512VNNI__)
double vnni_peak() {
  return operations_a_second<__m512i>(128, [](__m512i sum) { return _mm512_dpbusd_epi32(sum, sum, sum); });
}
#elif defined(__AVXVNNI__)
double vnni_peak() {
  return operations_a_second<__m256i>(64, [](__m256i sum) { return _mm256_dpbusd_avx_epi32(sum, sum, sum); });
}
#else
double vnni_peak() { return 0; }
#endif

double bfloat_peak() {
#if defined(__AVX512BF16__)
  return operations_a_second<__m512>(64, [](__m512 sum) { return _mm512_dpbf16_ps(sum, (__m512bh)sum, (__m512bh)sum); });
#else
  return 0;
#endif
}

double amx_byte_peak() { return tile_operations_a_second<tile::TileProducts::u8s8>(2 * 16 * 16 * 64, "amx-int8"); }
double amx_bfloat_peak() { return tile_operations_a_second<tile::TileProducts::bf16>(2 * 16 * 16 * 32, "amx-bf16"); }

ReadBuffer::ReadBuffer(int64_t bytes) : values_(static_cast<size_t>((bytes + 1023) / 1024 * 256), 1.0f) {}

void ReadBuffer::read() const {
  constexpr size_t streams = 8, step = streams * tile::lanes<float>;
  tile::vec<float> sum[streams] = {};
  for (size_t i = 0; i + step <= values_.size(); i += step) {
    TILE_UNROLL
    for (size_t s = 0; s < streams; ++s) sum[s] += tile::load(values_.data() + i + s * tile::lanes<float>);
  }
  TILE_UNROLL
  for (size_t s = 0; s < streams; ++s) opaque(sum[s]);
}

}  // namespace tilewright::kernel_bench
