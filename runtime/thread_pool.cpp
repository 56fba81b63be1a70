#include "runtime/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <system_error>
#include <utility>

#include "runtime/cores.h"
#include "runtime/device.h"
#include "runtime/failure.h"

namespace tilewright::rt {
namespace {

/// About 100 µs on Zen 4, longer than what lies between most kernels of a run: sleep is for those who wait for the next one.
constexpr int spins_before_sleep = 4000;
/// Added to the number of active workers: the last one learns from the subtraction it makes anyway whom to wake.
constexpr int caller_sleeps = 1 << 30;

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

Buffer::~Buffer() { release(); }

void Buffer::release() {
  if (data_ != nullptr) place_ == Place::device ? device::release(data_) : std::free(data_);
  data_ = nullptr;
  capacity_ = 0;
}

char* Buffer::reserve(size_t bytes) {
  if (bytes <= capacity_ && data_ != nullptr) return data_;
  const size_t rounded = (std::max<size_t>(bytes, 64) + 4095) / 4096 * 4096;
  release();
  data_ = static_cast<char*>(place_ == Place::device ? device::allocate(rounded) : std::aligned_alloc(4096, rounded));
  if (data_ == nullptr) throw Failure{TILEWRIGHT_ENVIRONMENT, "out of memory: " + std::to_string(rounded) + " bytes of working memory"};
  capacity_ = rounded;
  return data_;
}

ThreadPool::ThreadPool(int threads, Pinning pinning)
    : spins_(threads > usable_cores() ? 0 : spins_before_sleep),
      scratch_(std::make_unique<Buffer[]>(static_cast<size_t>(threads) + 1)),
      shares_(std::make_unique<Share[]>(static_cast<size_t>(threads))) {
  const std::vector<int> cores = pinning == Pinning::workers ? spread_cores(allowed_cores(), sched_getcpu()) : std::vector<int>();
  try {
    for (int worker = 1; worker < threads; ++worker)
      workers_.emplace_back([this, worker, cores] {
        if (!cores.empty()) bind_to_core(cores[static_cast<size_t>(worker) % cores.size()]);
        serve(worker);
      });
  } catch (const std::system_error& failure) {
    const int started = size();
    stop();
    throw Failure{TILEWRIGHT_ENVIRONMENT, "only " + std::to_string(started) + " of " + std::to_string(threads) + " threads can be started here (" +
                                              failure.what() + "); ask for fewer"};
  }
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  ending_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

tile::Team ThreadPool::team() { return tile::Team{this, size(), &ThreadPool::run, &ThreadPool::scratch}; }

size_t ThreadPool::scratch_bytes() const {
  size_t total = 0;
  for (int i = 0; i <= size(); ++i) total += scratch_[static_cast<size_t>(i)].capacity();
  return total;
}

void* ThreadPool::scratch(void* self, int slot, size_t bytes) { return static_cast<ThreadPool*>(self)->scratch_[static_cast<size_t>(slot)].reserve(bytes); }

void ThreadPool::work(int worker) {
  try {
    for (int i = 0; i < size(); ++i) {
      Share& share = shares_[static_cast<size_t>((worker + i) % size())];
      while (share.next.load(std::memory_order_relaxed) < share.end) {
        const tile::i64 index = share.next.fetch_add(1, std::memory_order_relaxed);
        if (index >= share.end) break;
        task_(state_, index, worker);
      }
    }
  } catch (...) {
    for (int i = 0; i < size(); ++i) shares_[static_cast<size_t>(i)].next.store(shares_[static_cast<size_t>(i)].end);  // nobody begins another task
    const std::lock_guard lock(failure_guard_);
    if (!failure_) failure_ = std::current_exception();
  }
}

void ThreadPool::run(void* self, tile::i64 tasks, Task task, void* state) {
  ThreadPool& pool = *static_cast<ThreadPool*>(self);
  // No worker reads the job while `open_` is false and `active_` is 0, so it may be written now.
  pool.task_ = task;
  pool.state_ = state;
  for (int i = 0; i < pool.size(); ++i) {
    Share& share = pool.shares_[static_cast<size_t>(i)];
    share.end = tasks * (i + 1) / pool.size();
    share.next.store(tasks * i / pool.size(), std::memory_order_relaxed);
  }
  pool.open_.store(true);
  pool.epoch_.fetch_add(1);
  if (pool.sleepers_.load() > 0) pool.epoch_.notify_all();
  pool.work(0);
  pool.open_.store(false);
  pool.wait_for_workers();
  if (pool.failure_) std::rethrow_exception(std::exchange(pool.failure_, nullptr));
}

void ThreadPool::wait_for_workers() {
  for (int spins = 0; active_.load() != 0; relax()) {
    if (++spins < spins_) continue;
    active_.fetch_add(caller_sleeps);
    for (int active; (active = active_.load()) != caller_sleeps;) active_.wait(active);
    active_.fetch_sub(caller_sleeps);
    return;
  }
}

void ThreadPool::serve(int worker) {
  uint32_t seen = 0;
  for (;;) {
    int spins = 0;
    while (epoch_.load() == seen) {
      if (++spins < spins_) {
        relax();
        continue;
      }
      sleepers_.fetch_add(1);
      epoch_.wait(seen);
      sleepers_.fetch_sub(1);
    }
    seen = epoch_.load();
    if (ending_.load()) return;
    active_.fetch_add(1);
    if (open_.load()) work(worker);  // closing waits for `active_` to fall to 0
    if (active_.fetch_sub(1) == caller_sleeps + 1) active_.notify_one();
  }
}

}  // namespace tilewright::rt
