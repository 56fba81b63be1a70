#pragma once

// Teams for tests and benches; the runtime has its own.

#include <atomic>
#include <cstdlib>
#include <thread>
#include <vector>

#include "tile/exec/args.h"

namespace tile::testing {

/// Owns the scratch slots of a Team and runs its tasks on `size` fresh threads a call (one: inline).
class TestTeam {
 public:
  explicit TestTeam(int size = 1) : slots_(static_cast<size_t>(size) + 1) { team_ = Team{this, size, &TestTeam::run, &TestTeam::scratch}; }
  TestTeam(const TestTeam&) = delete;
  TestTeam& operator=(const TestTeam&) = delete;
  ~TestTeam() {
    for (Slot& slot : slots_) std::free(slot.memory);
  }
  Team& team() { return team_; }

 private:
  struct Slot {
    void* memory = nullptr;
    size_t bytes = 0;
  };

  static void run(void* pool, i64 tasks, void (*task)(void*, i64, int), void* state) {
    auto* self = static_cast<TestTeam*>(pool);
    std::atomic<i64> next{0};
    auto work = [&](int worker) {
      for (i64 index = next++; index < tasks; index = next++) task(state, index, worker);
    };
    std::vector<std::thread> threads;
    for (int worker = 1; worker < self->team_.size; ++worker) threads.emplace_back(work, worker);
    work(0);
    for (std::thread& thread : threads) thread.join();
  }

  static void* scratch(void* pool, int index, size_t bytes) {
    Slot& slot = static_cast<TestTeam*>(pool)->slots_.at(static_cast<size_t>(index));
    if (bytes > slot.bytes) {
      std::free(slot.memory);
      slot.bytes = (bytes + 63) / 64 * 64;
      slot.memory = std::aligned_alloc(64, slot.bytes);
    }
    return slot.memory;
  }

  std::vector<Slot> slots_;
  Team team_{};
};

}  // namespace tile::testing
