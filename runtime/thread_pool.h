#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "tile/exec/args.h"

namespace tilewright::rt {

/// Where a Buffer's bytes lie.
enum class Place {
  host,
  device,  ///< where kernels work, see device.h
};

/// A 64-byte aligned block that grows and never shrinks by itself.
class Buffer {
 public:
  explicit Buffer(Place place = Place::host) : place_(place) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();
  char* reserve(size_t bytes);  ///< at least `bytes`; earlier contents are lost when it grows. Throws Failure when memory is short.
  void release();
  size_t capacity() const { return capacity_; }
  char* data() const { return data_; }

 private:
  Place place_;
  char* data_ = nullptr;
  size_t capacity_ = 0;
};

struct DeviceBuffer : Buffer {
  DeviceBuffer() : Buffer(Place::device) {}
};

/// Whether a pool's threads stay where the system puts them.
enum class Pinning {
  none,
  workers,  ///< each is bound to a core; the caller is not
};

/// Persistent workers for one context. A parallel region costs a few stores a worker when the workers are awake; they spin for some time
/// after a region and then sleep. So does the caller while the last tasks run. In a pool that has more threads than the process has
/// cores nobody spins: whoever waits leaves its core to who works. The calling thread is worker 0. Each worker begins with its own share
/// of the tasks, neighbours that in the next region are its own again, so that what it wrote is still in its cache; then it takes what
/// others have left. A worker that wakes late joins what is still open or finds it closed: nobody waits for sleepers. What a task
/// throws ends the region and is thrown to its caller.
class ThreadPool {
 public:
  /// Pinned workers take the allowed cores in turn, beginning behind the one that the constructing thread runs on, one hardware thread
  /// of each processor core first. Throws Failure when the machine has no room for so many threads.
  explicit ThreadPool(int threads, Pinning pinning = Pinning::none);
  ~ThreadPool();
  tile::Team team();
  int size() const { return static_cast<int>(workers_.size()) + 1; }
  size_t scratch_bytes() const;

 private:
  using Task = void (*)(void* state, tile::i64 index, int worker);
  static void run(void* self, tile::i64 tasks, Task task, void* state);
  static void* scratch(void* self, int slot, size_t bytes);
  /// One worker's tasks: [next, end).
  struct alignas(64) Share {
    std::atomic<tile::i64> next{0};
    tile::i64 end = 0;
  };

  void serve(int worker);
  void work(int worker);
  void wait_for_workers();
  void stop();

  const int spins_;  ///< before whoever waits sleeps
  std::vector<std::thread> workers_;
  std::unique_ptr<Buffer[]> scratch_;  ///< one a worker, and the kernel's shared one
  Task task_ = nullptr;
  void* state_ = nullptr;
  std::unique_ptr<Share[]> shares_;  ///< one a worker
  alignas(64) std::atomic<bool> open_{false};
  std::atomic<int> active_{0};                  ///< workers at work, plus `caller_sleeps`
  alignas(64) std::atomic<uint32_t> epoch_{0};  ///< one more for every region, and for the end
  std::atomic<int> sleepers_{0};
  std::atomic<bool> ending_{false};
  std::mutex failure_guard_;
  std::exception_ptr failure_;  ///< the first that a task of the region threw
};

}  // namespace tilewright::rt
