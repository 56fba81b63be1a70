#pragma once

// A block of threads in the emulator (tile/exec/emulator.h): fibers, barriers, asynchronous copies, random orders.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "tile/exec/emulated_async.h"
#include "tile/exec/emulated_memory.h"
#include "tile/exec/emulated_warpgroup.h"
#include "tile/exec/fibers.h"
#include "tile/exec/simt.h"

namespace tile::simt::detail {

/// SplitMix64.
class Random {
 public:
  using result_type = uint64_t;
  explicit Random(uint64_t seed) : state_(seed) {}
  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return ~uint64_t{0}; }
  uint64_t operator()() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  /// In [0, n); n below 2^32.
  size_t below(size_t n) { return static_cast<size_t>(((*this)() >> 32) * n >> 32); }

 private:
  uint64_t state_;
};

/// Where a kernel calls a barrier.
struct Site {
  const char* file = "";
  int line = 0;
  bool operator==(const Site&) const = default;
};

/// Unwinds a thread of a block that has failed.
struct Abandoned {};

/// Runs the blocks of one launch, one after the other.
class BlockRunner {
 public:
  /// `run(kernel, runner, thread)` runs the kernel as one thread.
  BlockRunner(const Launch& launch, int warp_size, const void* kernel, void (*run)(const void* kernel, BlockRunner& runner, int thread))
      : launch_(launch),
        warp_size_(warp_size),
        kernel_(kernel),
        run_(run),
        memory_(launch.shared_bytes, launch.threads, warp_size),
        units_(memory_, launch.threads, [this](int barrier) { phase_completed(barrier); }),
        warpgroups_(launch.threads / warp_size),
        threads_(static_cast<size_t>(launch.threads)),
        warps_((threads_.size() - 1) / static_cast<size_t>(warp_size) + 1),
        fibers_(launch.threads, [this] { return run_threads(); }) {
    runnable_.reserve(threads_.size());
  }

  /// Throws the fault of a thread, and EmulationError when the threads wait for one another. Not to be used after that.
  void run_block(i64 block, uint64_t seed) {
    block_ = block;
    random_ = Random(seed ^ Random(static_cast<uint64_t>(block))());
    memory_.begin_block();
    units_.begin_block();
    warpgroups_.begin_block();
    patience_ = size_t{1} << random_.below(8);
    registers_left_ = 0;
    for (Warp& warp : warps_) warp.registers = registers_at_start();
    runnable_.resize(threads_.size());
    std::iota(runnable_.begin(), runnable_.end(), 0);
    finished_ = 0;
    fibers_.go(pick());
    if (finished_ == launch_.threads && !fault_) {
      if (units_.loads_left()) throw EmulationError(block_text() + ": ends with bulk copies that no thread has waited for");
      if (const std::string missing = warpgroups_.missing(); !missing.empty()) throw EmulationError(block_text() + ": " + missing);
      return;
    }
    if (!fault_) fault_ = std::make_exception_ptr(EmulationError(block_text() + ": threads wait for one another: " + waiting_text()));
    for (int thread = 0; thread < launch_.threads; ++thread) {
      if (fibers_.waits(thread)) fibers_.go(thread);
    }
    std::rethrow_exception(fault_);
  }

  const Launch& launch() const { return launch_; }
  i64 block() const { return block_; }
  SharedMemory& memory() { return memory_; }
  AsyncUnits& units() { return units_; }
  int lanes_of(int warp) const { return std::min(warp_size_, launch_.threads - warp * warp_size_); }

  void sync(int thread, Site site) {
    if (arrive(block_barrier_, launch_.threads, thread, Wait::sync, site)) {
      memory_.order().block_synced();
      release(block_barrier_, 0, launch_.threads);
    }
    switch_away();
  }
  /// `last()` is called by the last lane that comes, before the others go on.
  template <class Last>
  void sync_warp(int thread, Site site, Last last) {
    meet_warp(thread, Wait::sync_warp, site, [&] {
      last();
      memory_.order().warp_synced(thread / warp_size_);
    });
  }
  void sync_some(int thread, int id, int count, Site site) {
    if (id < 1 || id > 15) throw EmulationError("comes to barrier " + std::to_string(id) + "; there are 1 to 15");
    if (count < 1 || count > launch_.threads || count % warp_size_ != 0)
      throw EmulationError("comes to a barrier of " + std::to_string(count) + " threads; needs whole warps of the block");
    NamedBarrier& barrier = named_[id];
    if (!barrier.threads.empty() && barrier.count != count)
      throw EmulationError("comes to barrier " + std::to_string(id) + " of " + std::to_string(count) + " threads, where others wait for " +
                           std::to_string(barrier.count));
    barrier.count = count;
    barrier.threads.push_back(thread);
    memory_.order().release(thread, barrier.clock);
    wait_at(thread, Wait::sync_some, site);
    if (static_cast<int>(barrier.threads.size()) == count) {
      for (const int other : barrier.threads) {
        memory_.order().acquire(other, barrier.clock);
        wake(other);
      }
      barrier = {};
    }
    switch_away();
  }
  template <class T>
  T shuffle(int thread, const T& value, int lane, Site site) {
    Warp& warp = warp_of(thread);
    const int lanes = lanes_of(thread / warp_size_);
    if (lane < 0 || lane >= lanes) throw EmulationError("shuffles from lane " + std::to_string(lane) + " of a warp of " + std::to_string(lanes) + " threads");
    auto& slots = warp.slots[warp.shuffles % 2];  // those of the shuffle before may not have been read by all
    std::memcpy(slots[thread % warp_size_].bytes, &value, sizeof(T));
    if (arrive(warp.barrier, lanes, thread, Wait::shuffle, site)) {
      ++warp.shuffles;
      release_warp(thread);
    }
    switch_away();
    T result;
    std::memcpy(static_cast<void*>(&result), slots[lane].bytes, sizeof(T));
    return result;
  }

  /// What every lane of the warp gave.
  template <class T>
  void exchange(int thread, const T& value, T* all, const Site& site) {
    Warp& warp = warp_of(thread);
    auto& slots = warp.slots[warp.shuffles % 2];
    shuffle(thread, value, thread % warp_size_, site);
    for (int lane = 0; lane < lanes_of(thread / warp_size_); ++lane) std::memcpy(static_cast<void*>(all + lane), slots[lane].bytes, sizeof(T));
  }

  void wait_barrier(int thread, int byte, int parity, Site site) {
    const int barrier = units_.barrier(thread, byte);
    yield();
    if (units_.is_complete(barrier, parity)) return units_.passed(thread, barrier);
    Thread& t = at(thread);
    t.barrier = barrier;
    t.parity = parity;
    wait_at(thread, Wait::mbarrier, site);
    switch_away();
  }
  bool try_barrier(int thread, int byte, int parity) {
    const int barrier = units_.barrier(thread, byte);
    yield();
    if (!units_.is_complete(barrier, parity)) return false;
    units_.passed(thread, barrier);
    return true;
  }

  /// A step of the thread's warp as one of its warpgroup.
  void take_part(int thread, const GroupStep& step) {
    if (const std::string fault = warpgroups_.take(thread / warp_size_, step); !fault.empty()) throw EmulationError(fault);
  }
  void give_registers(int thread, int count, Site site) {
    Warp& warp = warp_of(thread);
    meet_warp(thread, Wait::give_registers, site, [&] {
      take_part(thread, {.kind = GroupStep::Kind::give_registers, .registers = count});
      if (count > warp.registers) throw EmulationError("gives registers up to have " + std::to_string(count) + ", but has " + std::to_string(warp.registers));
      registers_left_ += (std::exchange(warp.registers, count) - count) * warp_size_;
      for (int other = 0; other < launch_.threads; ++other)
        if (at(other).waits_at == Wait::registers) wake(other);
    });
  }
  void take_registers(int thread, int count, Site site) {
    Warp& warp = warp_of(thread);
    meet_warp(thread, Wait::take_registers, site, [&] {
      take_part(thread, {.kind = GroupStep::Kind::take_registers, .registers = count});
      if (count < warp.registers) throw EmulationError("takes registers to have " + std::to_string(count) + ", but has " + std::to_string(warp.registers));
      while (registers_left_ < (count - warp.registers) * warp_size_) {
        wait_at(thread, Wait::registers, site);
        switch_away();
      }
      registers_left_ -= (count - std::exchange(warp.registers, count)) * warp_size_;
    });
  }

  void copy_async(int thread, int to, const void* from, int bytes) {
    memory_.begin_copy(thread, to, bytes);
    Thread& t = at(thread);
    t.copies.push_back({to, from, bytes, t.groups, false});
    ++flying_;
  }
  void commit_copies(int thread) { ++at(thread).groups; }
  void wait_copies(int thread, int youngest) {
    yield();
    Thread& t = at(thread);
    std::erase_if(t.copies, [&](Copy& copy) {
      if (copy.group >= t.groups - youngest) return false;
      land(copy);
      memory_.end_copy(thread, copy.to, copy.bytes);
      return true;
    });
  }

 private:
  enum class Wait : uint8_t { nothing, sync, sync_warp, shuffle, sync_some, mbarrier, give_registers, take_registers, registers };
  static constexpr int most_registers = 64 << 10;
  struct Copy {
    int to;
    const void* from;
    int bytes;
    int group;
    bool landed;
  };
  struct Thread {
    Wait waits_at = Wait::nothing;
    bool finished = false;
    Site site;
    int groups = 0;  ///< committed
    std::vector<Copy> copies;
    int barrier = 0, parity = 0;  ///< what it waits for
  };
  struct Barrier {
    int arrived = 0;
    int first = 0;  ///< thread
  };
  struct NamedBarrier {
    int count = 0;
    std::vector<int> threads;
    Order::Clock clock;
  };
  struct Slot {
    unsigned char bytes[16];
  };
  struct Warp {
    Barrier barrier;
    unsigned shuffles = 0;
    int registers = 0;  ///< of a thread
    Slot slots[2][64];
  };

  Thread& at(int thread) { return threads_[static_cast<size_t>(thread)]; }
  Warp& warp_of(int thread) { return warps_[static_cast<size_t>(thread / warp_size_)]; }

  // ---- barriers

  /// Whether `thread` is the last of `count` to come.
  bool arrive(Barrier& barrier, int count, int thread, Wait wait, Site site) {
    if (barrier.arrived == 0) barrier.first = thread;
    wait_at(thread, wait, site);
    const Thread& t = at(thread);
    const Thread& first = at(barrier.first);
    if (site != first.site)
      throw EmulationError("comes to " + wait_text(t) + ", but thread " + std::to_string(barrier.first) + " waits at " + wait_text(first));
    return ++barrier.arrived == count;
  }
  void release(Barrier& barrier, int first, int count) {
    barrier.arrived = 0;
    for (int thread = first; thread < first + count; ++thread) wake(thread);
  }
  void wait_at(int thread, Wait wait, Site site) {
    at(thread).waits_at = wait;
    at(thread).site = site;
  }
  void wake(int thread) {
    at(thread).waits_at = Wait::nothing;
    runnable_.push_back(thread);
  }
  void phase_completed(int barrier) {
    for (int thread = 0; thread < launch_.threads; ++thread) {
      const Thread& t = at(thread);
      if (t.waits_at != Wait::mbarrier || t.barrier != barrier || !units_.is_complete(barrier, t.parity)) continue;
      units_.passed(thread, barrier);
      wake(thread);
    }
  }
  /// `last()` is called by the last lane that comes, before the others go on.
  template <class Last>
  void meet_warp(int thread, Wait wait, Site site, Last last) {
    if (arrive(warp_of(thread).barrier, lanes_of(thread / warp_size_), thread, wait, site)) {
      last();
      release_warp(thread);
    }
    switch_away();
  }
  void release_warp(int thread) {
    const int warp = thread / warp_size_;
    release(warp_of(thread).barrier, warp * warp_size_, lanes_of(warp));
  }
  void yield() {
    runnable_.push_back(fibers_.current());
    switch_away();
  }

  // ---- fibers: one for each thread that waits and one that runs; a thread that ends leaves its fiber to one that begins

  /// Takes a random runnable thread; run_block's own place when there is none.
  int pick() {
    while (runnable_.empty() && units_.busy() && !fault_) step_units();
    if (fault_ || runnable_.empty()) return fibers_.caller();
    const size_t i = random_.below(runnable_.size());
    const int thread = runnable_[i];
    runnable_[i] = runnable_.back();
    runnable_.pop_back();
    return thread;
  }

  /// Goes on with another thread until this one is picked again.
  void switch_away() {
    if (flying_ > 0) land_some_copy();
    if (units_.busy() && random_.below(patience_) == 0) step_units();
    const int next = pick();
    if (next == fibers_.current()) return;
    fibers_.go(next);
    if (fault_) throw Abandoned();
  }

  /// Runs threads until the next one to run has a fiber of its own; returns that.
  int run_threads() {
    for (;;) {
      run_thread(fibers_.current());
      const int next = fault_ ? fibers_.caller() : pick();
      if (fibers_.waits(next)) return next;
      fibers_.move_to(next);
    }
  }

  void run_thread(int thread) {
    try {
      Thread& t = at(thread);
      t.finished = false;
      t.groups = 0;
      run_(kernel_, *this, thread);
      if (!t.copies.empty()) throw EmulationError("ends with " + std::to_string(t.copies.size()) + " asynchronous copies that it has not waited for");
      if (const std::string left = units_.left_by(thread); !left.empty()) throw EmulationError("ends with " + left + " that it has not waited for");
      t.finished = true;
      ++finished_;
    } catch (const Abandoned&) {
    } catch (const std::exception& error) {
      fault_ = std::make_exception_ptr(EmulationError(block_text() + ", thread " + std::to_string(thread) + ": " + error.what()));
    }
  }

  // ---- copies

  void land(Copy& copy) {
    if (copy.landed) return;
    memory_.land_copy(copy.to, copy.from, copy.bytes);
    copy.landed = true;
    --flying_;
  }
  void land_some_copy() {
    Thread& t = threads_[random_.below(threads_.size())];
    if (!t.copies.empty()) land(t.copies[random_.below(t.copies.size())]);
  }

  void step_units() {
    try {
      units_.step([this](size_t n) { return random_.below(n); });
    } catch (const std::exception& error) {
      fault_ = std::make_exception_ptr(EmulationError(block_text() + ": " + error.what()));
    }
  }

  /// Of a thread, as many as a block alone on its multiprocessor can be started with. What that leaves is nobody's to take.
  int registers_at_start() const { return std::min(most_registers / launch_.threads / 8 * 8, 248); }

  // ---- messages

  std::string block_text() const { return "block " + std::to_string(block_); }
  std::string wait_text(const Thread& thread) const {
    if (thread.waits_at == Wait::nothing) return thread.finished ? "the kernel's end" : "nothing";
    static constexpr const char* names[] = {"",       "sync()",           "sync_warp()",      "shuffle()",       "sync_some()",
                                            "wait()", "give_registers()", "take_registers()", "take_registers()"};
    const std::string file = thread.site.file;
    const std::string place = names[static_cast<int>(thread.waits_at)] + (" in " + file.substr(file.rfind('/') + 1)) + ":" + std::to_string(thread.site.line);
    return thread.waits_at == Wait::mbarrier ? place + " for parity " + std::to_string(thread.parity) + " while " + units_.lacks(thread.barrier) : place;
  }
  /// Which threads stand where, neighbours at the same place together.
  std::string waiting_text() const {
    std::string text;
    for (size_t first = 0, end = 0, groups = 0; first < threads_.size(); first = end) {
      const std::string place = wait_text(threads_[first]);
      for (end = first + 1; end < threads_.size() && wait_text(threads_[end]) == place; ++end) {
      }
      if (++groups > 8) return text + ", …";
      text += (groups > 1 ? ", " : "") + std::to_string(first) + (end - first > 1 ? " to " + std::to_string(end - 1) : "") + " at " + place;
    }
    return text;
  }

  const Launch launch_;
  const int warp_size_;
  const void* const kernel_;
  void (*const run_)(const void*, BlockRunner&, int);
  SharedMemory memory_;
  AsyncUnits units_;
  Warpgroups warpgroups_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  Barrier block_barrier_;
  NamedBarrier named_[16];
  Fibers fibers_;              ///< by thread
  std::vector<int> runnable_;  ///< threads that have not begun, or need not wait any longer
  int finished_ = 0;
  int flying_ = 0;          ///< copies that have not landed
  size_t patience_ = 1;     ///< how many switches it takes until a unit does something
  int registers_left_ = 0;  ///< given up and not taken
  i64 block_ = 0;
  Random random_{0};
  std::exception_ptr fault_;
};

}  // namespace tile::simt::detail
