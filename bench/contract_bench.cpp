// Speed of contract() on the products of ResNet-50 (batch 1), with the weights packed as a compiled model has them, against
// the peak that multiply-adds from registers alone reach on this machine.
//
//   g++ -std=c++20 -O3 -march=native -fno-math-errno -fno-trapping-math -ffp-contract=fast -fopenmp-simd -I.
//       bench/contract_bench.cpp -o contract_bench -lpthread && ./contract_bench

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>

#include "tile/kernels/contract.h"
#include "tile/kernels/conv_windows.h"
#include "tile/testing/teams.h"

namespace tile {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// Seconds of one call: the least of several rounds of about 20 ms.
template <class F>
double seconds(F&& call) {
  call();
  double start = now();
  call();
  const int repeats = 1 + static_cast<int>(0.02 / (now() - start + 1e-9));
  double best = 1e9;
  for (int round = 0; round < 5; ++round) {
    start = now();
    for (int i = 0; i < repeats; ++i) call();
    const double each = (now() - start) / repeats;
    if (each < best) best = each;
  }
  return best;
}

/// GFLOP/s of one core that multiplies and adds registers only. Measured beside every product: the clock of a shared machine
/// wanders.
double peak() {
  constexpr int chains = 12, steps = 100000;
  vec<float> sum[chains] = {};
  vec<float> a = broadcast(1.0001f), b = broadcast(0.9f);
  const double time = seconds([&] {
    for (int i = 0; i < steps; ++i) {
      TILE_UNROLL
      for (int c = 0; c < chains; ++c) sum[c] = sum[c] * a + b;
      asm volatile("");
    }
  });
  volatile float keep = 0;
  for (auto& s : sum) keep = keep + s[0];
  return 2.0 * lanes<float> * chains * steps / time * 1e-9;
}

/// A team whose threads wait for work, as the runtime's do; spinning, so that waking up is not what is measured.
class SpinTeam {
 public:
  explicit SpinTeam(int size) : memory_(size) {
    memory_.team().run = run;
    memory_.team().pool = this;
    memory_.team().scratch = [](void* self, int slot, size_t bytes) {
      auto* team = static_cast<SpinTeam*>(self);
      return team->scratch_(team->inner_, slot, bytes);
    };
    for (int w = 1; w < size; ++w) threads_.emplace_back([this, w] { serve(w); });
  }
  ~SpinTeam() {
    stop_ = true;
    for (auto& t : threads_) t.join();
  }
  Team& team() { return memory_.team(); }

 private:
  static void run(void* pool, i64 tasks, void (*task)(void*, i64, int), void* state) {
    auto* self = static_cast<SpinTeam*>(pool);
    self->tasks_ = tasks;
    self->task_ = task;
    self->state_ = state;
    self->next_ = 0;
    self->left_ = static_cast<int>(self->threads_.size());
    ++self->round_;
    self->work(0);
    while (self->left_ != 0) __builtin_ia32_pause();
  }
  void work(int worker) {
    for (i64 i = next_++; i < tasks_; i = next_++) task_(state_, i, worker);
  }
  void serve(int worker) {
    for (int seen = 0; !stop_;) {
      if (round_ == seen) {
        __builtin_ia32_pause();
        continue;
      }
      ++seen;
      work(worker);
      --left_;
    }
  }

  testing::TestTeam memory_;
  void* inner_ = memory_.team().pool;
  void* (*scratch_)(void*, int, size_t) = memory_.team().scratch;
  std::vector<std::thread> threads_;
  std::atomic<i64> next_{0};
  std::atomic<int> round_{0}, left_{0};
  std::atomic<bool> stop_{false};
  i64 tasks_ = 0;
  void (*task_)(void*, i64, int) = nullptr;
  void* state_ = nullptr;
};

struct Conv {
  const char* name;
  i64 channels, filters, size, kernel, stride;
};

constexpr Conv layers[] = {
    {"stem 7x7/2", 3, 64, 224, 7, 2},        {"2 1x1 64>64", 64, 64, 56, 1, 1},       {"2 3x3 64", 64, 64, 56, 3, 1},
    {"2 1x1 64>256", 64, 256, 56, 1, 1},     {"2 1x1 256>64", 256, 64, 56, 1, 1},     {"3 1x1 256>128", 256, 128, 56, 1, 1},
    {"3 3x3/2 128", 128, 128, 56, 3, 2},     {"3 3x3 128", 128, 128, 28, 3, 1},       {"3 1x1 128>512", 128, 512, 28, 1, 1},
    {"3 1x1 512>128", 512, 128, 28, 1, 1},   {"4 3x3/2 256", 256, 256, 28, 3, 2},     {"4 3x3 256", 256, 256, 14, 3, 1},
    {"4 1x1 256>1024", 256, 1024, 14, 1, 1}, {"4 1x1 1024>256", 1024, 256, 14, 1, 1}, {"4 1x1/2 512>1024", 512, 1024, 28, 1, 2},
    {"5 3x3/2 512", 512, 512, 14, 3, 2},     {"5 3x3 512", 512, 512, 7, 3, 1},        {"5 1x1 512>2048", 512, 2048, 7, 1, 1},
    {"5 1x1 2048>512", 2048, 512, 7, 1, 1},
};

std::vector<float> filled(i64 count) {
  std::vector<float> v(static_cast<size_t>(count));
  for (size_t i = 0; i < v.size(); ++i) v[i] = static_cast<float>(i % 17) * 0.1f - 0.8f;
  return v;
}

/// Weights on the left (columns are positions) and on the right (columns are filters), by one and two threads.
void bench_layer(const Conv& c, Team& one, Team& two) {
  const i64 pad = c.kernel / 2, out = (c.size + 2 * pad - c.kernel) / c.stride + 1;
  const i64 n = out * out, k = c.channels * c.kernel * c.kernel;
  const auto x = filled(c.channels * c.size * c.size);
  std::vector<float> y(static_cast<size_t>(c.filters * n));
  const auto packed = filled(packed_size(c.filters, k, 64) + 64);
  const ConvWindows<float, 2> windows{x.data(), {}, {c.size, c.size}, {out, out}, {c.kernel, c.kernel}, {c.stride, c.stride}, {1, 1}, {pad, pad}, 0};
  const Dense<float> plane{x.data(), 1, c.size * c.size};
  constexpr int columns = block_vectors * lanes<float>;
  auto relu = [&](i64, i64 m0, i64 n0, i64 rows, i64 cols, const float* tile, i64 ld) {
    for (i64 i = 0; i < rows; ++i) {
      float* to = y.data() + (m0 + i) * n + n0;
#pragma omp simd
      for (i64 j = 0; j < cols; ++j) to[j] = tile[i * ld + j] > 0 ? tile[i * ld + j] : 0;
    }
  };
  auto relu_turned = [&](i64, i64 m0, i64 n0, i64 rows, i64 cols, const float* tile, i64 ld) {
    for (i64 j = 0; j < cols; ++j) {
      float* to = y.data() + (n0 + j) * n + m0;
      for (i64 i = 0; i < rows; ++i) to[i] = tile[i * ld + j] > 0 ? tile[i * ld + j] : 0;
    }
  };
  const double work = 2e-9 * static_cast<double>(c.filters * n * k);
  std::printf("%-18s %5lld x %5lld x %5lld", c.name, static_cast<long long>(c.filters), static_cast<long long>(n), static_cast<long long>(k));
  auto both_ways = [&](const auto& columns_view, const auto& rows_view) {
    for (Team* team : {&one, &two}) {
      const double top = peak();
      auto left = [&](auto rows) {
        constexpr int r = decltype(rows)::value;
        return work / seconds([&] { contract<float, r>({1, c.filters, n, k}, Packed<float, r>{packed.data(), k}, columns_view, relu, *team); });
      };
      const double by_columns =
          balanced_rows(c.filters) == block_rows ? left(std::integral_constant<int, block_rows>{}) : left(std::integral_constant<int, balanced_rows(64)>{});
      const double by_rows = work / seconds([&] {
                               contract<float>({1, n, c.filters, k}, rows_view, Packed<float, columns>{packed.data(), k}, relu_turned, *team);
                             });
      const double share = 100 / top / team->size;
      std::printf("  | %6.1f %3.0f %%  %6.1f %3.0f %%", by_columns, by_columns * share, by_rows, by_rows * share);
    }
  };
  if (c.kernel == 1 && c.stride == 1) {
    both_ways(plane, plane);
  } else {
    both_ways(windows, windows);
  }
  std::printf("\n");
}

void bench_square(i64 m, i64 n, i64 k, Team& one, Team& two) {
  const auto a = filled(m * k), b = filled(k * n);
  std::vector<float> y(static_cast<size_t>(m * n));
  auto keep = [&](i64, i64 m0, i64 n0, i64 rows, i64 cols, const float* tile, i64 ld) {
    for (i64 i = 0; i < rows; ++i) {
      for (i64 j = 0; j < cols; ++j) y[static_cast<size_t>((m0 + i) * n + n0 + j)] = tile[i * ld + j];
    }
  };
  std::printf("dense %lld x %lld x %lld:", static_cast<long long>(m), static_cast<long long>(n), static_cast<long long>(k));
  const double work = 2e-9 * static_cast<double>(m * n * k);
  for (Team* team : {&one, &two}) {
    const double top = peak();
    for (bool turned : {false, true}) {
      const Dense<float> right = turned ? dense_right(b.data(), 1, k) : dense_right(b.data(), n, 1);
      const double rate = work / seconds([&] { contract<float>({1, m, n, k}, dense_left(a.data(), k, 1), right, keep, *team); });
      std::printf("  %6.1f GFLOP/s %3.0f %%", rate, 100 * rate / top / team->size);
      if (m == 1) std::printf(" %5.1f GB/s", rate * 2);
    }
  }
  std::printf("\n");
}

}  // namespace
}  // namespace tile

int main() {
  std::printf("multiply-add peak of one core: %.1f GFLOP/s\n", tile::peak());
  tile::SpinTeam one(1), two(2);
  std::printf("GFLOP/s and share of the peak; one thread: weights left, right | two threads: weights left, right\n");
  for (const tile::Conv& c : tile::layers) tile::bench_layer(c, one.team(), two.team());
  std::printf("columns: one thread, right operand by rows, by columns; two threads the same\n");
  for (tile::i64 n : {128, 512, 1024, 2048}) tile::bench_square(n, n, n, one.team(), two.team());
  tile::bench_square(128, 768, 768, one.team(), two.team());
  tile::bench_square(128, 3072, 768, one.team(), two.team());
  tile::bench_square(128, 128, 64, one.team(), two.team());
  for (tile::i64 m : {1, 4, 8}) tile::bench_square(m, 4096, 4096, one.team(), two.team());
}
