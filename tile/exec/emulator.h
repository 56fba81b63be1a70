#pragma once

// A SIMT machine on the CPU: runs a kernel's threads as fibers in a random order and checks what a GPU would not.
//
// It is for tests: the same kernels that run on GPUs, with every access in bounds and aligned, every barrier reached by all, and
// no shared memory read before it was written and synchronised. Asynchronous copies land late and out of order, products of warpgroups are done late.
// Equal seeds run the threads of a block in equal orders.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <memory>
#include <numeric>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tile/exec/emulated_block.h"
#include "tile/exec/simt.h"

/// Threads of a warp in launch().
#ifndef TILE_EMULATED_WARP
#define TILE_EMULATED_WARP 32
#endif

namespace tile::simt {

namespace detail {

/// How many launches this process has made.
inline std::atomic<uint64_t> launches{0};

}  // namespace detail

/// The Exec of tile/exec/simt.h.
template <int warp_threads = 32>
class EmulatedThread {
  static_assert(warp_threads == 32 || warp_threads == 64, "GPUs have warps of 32 or 64 threads");

 public:
  static constexpr int warp_size = warp_threads;

  EmulatedThread(detail::BlockRunner& runner, int thread) : runner_(runner), thread_(thread) {}
  EmulatedThread& operator=(const EmulatedThread&) = delete;

  int thread() const { return thread_; }
  int threads() const { return runner_.launch().threads; }
  i64 block() const { return runner_.block(); }
  i64 blocks() const { return runner_.launch().blocks; }
  int lane() const { return thread_ % warp_size; }
  int warp() const { return thread_ / warp_size; }

  void sync(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { runner_.sync(thread_, {file, line}); }
  void sync_warp(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    runner_.sync_warp(thread_, {file, line}, [] {});
  }
  template <class T>
  T shuffle(const T& value, int lane, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 16, "a shuffle moves trivially copyable values of up to 16 bytes");
    return runner_.shuffle(thread_, value, lane, {file, line});
  }

  /// For what matrix instructions do inside: `all` gets the value of every lane of the warp.
  template <class T>
  void exchange(const T& value, T* all, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 16, "an exchange moves trivially copyable values of up to 16 bytes");
    runner_.exchange(thread_, value, all, {file, line});
  }

  /// Source: PTX ISA, "ldmatrix", .m8n8.x4.b16 without .trans.
  void load_matrices(uint32_t (&words)[4], SharedPointer<const uint32_t> row, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    static_assert(warp_size == 32, "an instruction of warps of 32");
    int rows[warp_size];
    runner_.exchange(thread_, row.span(16), rows, {file, line});
    if (runner_.lanes_of(warp()) < warp_size) throw EmulationError("loads matrices in a warp of " + std::to_string(runner_.lanes_of(warp())) + " threads");
    for (int i = 0; i < 4; ++i) words[i] = runner_.memory().read<uint32_t>(thread_, rows[8 * i + lane() / 4] + lane() % 4 * 4);
  }

  template <class T>
  Pointer<T> global(T* data, i64 count) {
    return {data, count};
  }
  template <class T>
  SharedPointer<T> shared(int byte, int count) {
    static_assert(std::is_trivially_copyable_v<T>, "shared memory holds trivially copyable values");
    const i64 end = byte + count * static_cast<i64>(sizeof(T));
    if (byte < 0 || count < 0 || end > runner_.memory().bytes())
      throw EmulationError("wants " + detail::bytes_text(byte, end - byte) + " of shared memory; the launch has " + std::to_string(runner_.memory().bytes()));
    return {&runner_.memory(), thread_, byte, byte, static_cast<int>(end)};
  }

  template <int bytes, class To, class From>
  void copy_async(SharedPointer<To> to, Pointer<From> from) {
    static_assert(bytes == 4 || bytes == 8 || bytes == 16, "asynchronous copies move 4, 8 or 16 bytes");
    static_assert(!std::is_const_v<To>, "an asynchronous copy writes to shared memory");
    runner_.copy_async(thread_, to.span(bytes), from.span(bytes), bytes);
  }
  void commit_copies() { runner_.commit_copies(thread_); }
  template <int youngest>
  void wait_copies() {
    static_assert(youngest >= 0, "a thread waits until at most this many groups of copies are under way");
    runner_.wait_copies(thread_, youngest);
  }

  // ---- tile/exec/bulk.h

  void init_barrier(SharedPointer<uint64_t> barrier, int count) { runner_.units().init_barrier(thread_, barrier.span(8), count); }
  void arrive(SharedPointer<uint64_t> barrier) { arrive_expecting(barrier, 0); }
  void arrive_expecting(SharedPointer<uint64_t> barrier, int bytes) {
    runner_.units().arrive(thread_, runner_.units().barrier(thread_, barrier.span(8)), bytes);
  }
  void wait(SharedPointer<uint64_t> barrier, int parity, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    runner_.wait_barrier(thread_, barrier.span(8), parity, {file, line});
  }
  bool try_wait(SharedPointer<uint64_t> barrier, int parity) { return runner_.try_barrier(thread_, barrier.span(8), parity); }
  void sync_some(int id, int threads, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    runner_.sync_some(thread_, id, threads, {file, line});
  }
  void fence_async() { runner_.memory().order().fence(thread_); }

  template <class T>
  void load_box(SharedPointer<T> to, const TensorMap& map, const BoxAt& from, SharedPointer<uint64_t> barrier) {
    detail::AsyncUnits& units = runner_.units();
    units.load(thread_, map, from, to.span(map.box_bytes(), 128), units.barrier(thread_, barrier.span(8)));
  }
  template <class T>
  void store_box(const TensorMap& map, const BoxAt& to, SharedPointer<T> from) {
    runner_.units().store(thread_, map, to, from.span(map.box_bytes(), 128));
  }
  void commit_stores() { runner_.units().commit_stores(thread_); }
  template <int youngest>
  void wait_stores() {
    runner_.units().wait_stores(thread_, youngest);
  }

  using Product = detail::Product;
  template <class T>
  uint32_t address(SharedPointer<T> shared) {
    return static_cast<uint32_t>(shared.span(1));
  }
  template <class T, int count>
  using Sums = EmulatedSums<T, count>;
  const unsigned* product_fences() { return runner_.units().fences(warp()); }
  template <class T, int count>
  void fence_products(EmulatedSums<T, count>&, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    runner_.sync_warp(thread_, {file, line}, [&] { ++*runner_.units().fences(warp()); });
  }
  void commit_products(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    runner_.sync_warp(thread_, {file, line}, [&] { runner_.units().commit_products(warp()); });
  }
  template <int youngest>
  void wait_products(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    runner_.sync_warp(thread_, {file, line}, [&] { runner_.units().wait_products(thread_, youngest); });
  }
  template <class T, int count>
  void settle(EmulatedSums<T, count>&) {}
  template <class T>
  T taken(T sum) {
    return sum;
  }
  /// Begins this warp's share of a product of its warpgroup: the same descriptors in all its lanes.
  void begin_product(detail::Product product, detail::ProductSums& sums, const char* file = __builtin_FILE(), int line = __builtin_LINE());

  template <int count>
  void give_registers(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    static_assert(count >= 24 && count <= 256 && count % 8 == 0, "a thread has 24 to 256 registers, a multiple of 8");
    runner_.give_registers(thread_, count, {file, line});
  }
  template <int count>
  void take_registers(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    static_assert(count >= 24 && count <= 256 && count % 8 == 0, "a thread has 24 to 256 registers, a multiple of 8");
    runner_.take_registers(thread_, count, {file, line});
  }

 protected:
  /// For a machine that leaves something out, as tests need them.
  EmulatedThread(const EmulatedThread&) = default;

 private:
  detail::BlockRunner& runner_;
  const int thread_;
};

template <int warp_threads>
void EmulatedThread<warp_threads>::begin_product(detail::Product product, detail::ProductSums& sums, const char* file, int line) {
  struct Descriptors {
    uint64_t a, b;
    bool operator==(const Descriptors&) const = default;
  } all[warp_size];
  struct Lane {
    detail::ProductSums* sums;
    bool accumulate;
  } lanes[warp_size];
  if (sums.under_way == 0 && sums.touched_at == *product_fences()) throw EmulationError("begins a product with no fence_products since its sums were accessed");
  runner_.exchange(thread_, Descriptors{product.a, product.b}, all, {file, line});
  runner_.exchange(thread_, Lane{&sums, product.accumulate}, lanes, {file, line});
  ++sums.under_way;
  if (lane() != 0) return;
  product.warp = warp();
  product.lanes = runner_.lanes_of(warp());
  for (int i = 0; i < product.lanes; ++i) {
    if (all[i] != all[0] || lanes[i].accumulate != lanes[0].accumulate) throw EmulationError("begins a product that differs from lane to lane");
    product.sums[i] = lanes[i].sums;
  }
  runner_.take_part(thread_, {.kind = detail::GroupStep::Kind::product,
                              .a = product.a,
                              .b = product.b,
                              .accumulate = product.accumulate,
                              .product = reinterpret_cast<const void*>(product.compute)});
  runner_.units().begin_product(thread_, std::move(product));
}

/// Runs the grid's blocks in an order that depends on `seed`, spread over `team`. Throws EmulationError for the first fault.
template <int warp = 32, class Kernel>
void launch_emulated(const Kernel& kernel, const Launch& launch, Team& team, uint64_t seed) {
  constexpr int most_shared = 227 << 10;  // of 228 KiB, one is the machine's own
  if (launch.threads < 1 || launch.threads > 1024) throw EmulationError("a launch of " + std::to_string(launch.threads) + " threads a block; needs 1 to 1024");
  if (launch.blocks < 0) throw EmulationError("a launch of " + std::to_string(launch.blocks) + " blocks");
  if (launch.shared_bytes < 0 || launch.shared_bytes > most_shared)
    throw EmulationError("a launch with " + std::to_string(launch.shared_bytes) + " bytes of shared memory; needs 0 to " + std::to_string(most_shared));

  std::vector<i64> order(static_cast<size_t>(launch.blocks));
  std::iota(order.begin(), order.end(), i64{0});
  std::shuffle(order.begin(), order.end(), detail::Random(seed));

  std::vector<std::unique_ptr<detail::BlockRunner>> runners(static_cast<size_t>(std::max(team.size, 1)));
  std::atomic<bool> failed{false};
  std::exception_ptr fault;
  team.for_each(launch.blocks, [&](i64 index, int worker) {
    if (failed) return;
    try {
      std::unique_ptr<detail::BlockRunner>& runner = runners[static_cast<size_t>(worker)];
      if (!runner) {
        runner = std::make_unique<detail::BlockRunner>(launch, warp, &kernel, [](const void* self, detail::BlockRunner& block, int thread) {
          EmulatedThread<warp> exec(block, thread);
          (*static_cast<const Kernel*>(self))(exec);
        });
      }
      runner->run_block(order[static_cast<size_t>(index)], seed);
    } catch (...) {
      if (!failed.exchange(true)) fault = std::current_exception();
    }
  });
  if (fault) std::rethrow_exception(fault);
}

/// Multiprocessors: few, so that a block of a grid of so many has several tiles.
inline int processors() { return 3; }

/// The launch() of tile/exec/simt.h. Its order differs from launch to launch; TILEWRIGHT_EMULATOR_SEED in the environment, 1 by
/// default, chooses which orders these are.
template <class Kernel>
void launch(const Kernel& kernel, const Launch& launch, const Args& args) {
  const char* const chosen = std::getenv("TILEWRIGHT_EMULATOR_SEED");
  const uint64_t seed = chosen ? std::strtoull(chosen, nullptr, 10) : 1;
  launch_emulated<TILE_EMULATED_WARP>(kernel, launch, args.team, detail::Random(seed)() + detail::launches++);
}

/// f(args) with the tensors, of so many bytes each, in memory that the host can read and write. The first `reads` are read, the others
/// written.
template <class F>
void on_host(const Args& a, std::initializer_list<i64>, size_t, F&& f) {
  f(a);
}

}  // namespace tile::simt
