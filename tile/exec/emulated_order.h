#pragma once

// Which of a block's accesses to shared memory come before which others, whatever order the threads run in.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tile::simt::detail {

/// Agents are the block's threads, by number, and after them its mbarriers, in whose names bulk copies write. Time counts what orders them:
/// what an agent did before time x is seen by a thread whose clock has x or more for that agent. Barriers of the whole block or of a warp
/// are kept as one time for all, so that kernels which use no others never touch a clock.
class Order {
 public:
  using Time = uint32_t;
  /// Of what has not happened yet.
  static constexpr Time never = ~Time{0};
  static constexpr int most_barriers = 64;
  /// By agent: all that it did before that time.
  using Clock = std::vector<Time>;

  Order(int threads, int warp_size)
      : threads_(threads),
        warp_size_(warp_size),
        warps_(static_cast<size_t>((threads - 1) / warp_size + 1)),
        seen_by_all_(most_barriers),
        fences_(static_cast<size_t>(threads)) {}

  int threads() const { return threads_; }
  int warp_of(int thread) const { return thread / warp_size_; }
  int warps() const { return static_cast<int>(warps_.size()); }
  Time now() const { return time_; }
  Time block_start() const { return block_start_; }
  Time block_synced_at() const { return synced_; }

  void begin_block() {
    ++changes_;
    block_start_ = synced_ = ++time_;
    std::fill(seen_by_all_.begin(), seen_by_all_.end(), 0);
    std::fill(clocks_.begin(), clocks_.end(), 0);
    for (std::vector<Time>& fences : fences_) fences.clear();
  }
  void block_synced() {
    ++changes_;
    synced_ = ++time_;
    for (size_t at = 0; at < clocks_.size(); ++at) {
      const auto agent = static_cast<int>(at % agents());
      if (agent >= threads_) raise(seen_by_all_[static_cast<size_t>(agent - threads_)], clocks_[at]);
    }
  }
  void warp_synced(int warp) {
    Warp& w = warps_[static_cast<size_t>(warp)];
    w.synced = ++time_;
    ++changes_;
    if (!w.learned) return;
    w.learned = false;
    const int first = warp * warp_size_, end = std::min(first + warp_size_, threads_);
    for (int lane = first + 1; lane < end; ++lane) join(clock(first), clock(lane));
    for (int lane = first + 1; lane < end; ++lane) std::copy(clock(first), clock(first) + agents(), clock(lane));
  }

  /// Whether what `agent` did at `then` is seen by `thread`.
  bool before(int thread, int agent, Time then) const {
    if (agent == thread) return true;
    if (agent >= threads_) return seen_by_all_[static_cast<size_t>(agent - threads_)] > then || seen(thread, agent) > then;
    if (then < synced_) return true;
    if (warp_of(agent) == warp_of(thread) && then < warps_[static_cast<size_t>(warp_of(thread))].synced) return true;
    return seen(thread, agent) > then;
  }
  /// The same of all threads of a warp.
  bool before_of_warp(int thread, int warp, Time then) {
    Warp& w = warps_[static_cast<size_t>(warp)];
    if (w.asked_by != thread || w.asked_at != changes_) {
      w.asked_by = thread;
      w.asked_at = changes_;
      w.least_seen = never;
      for (int other = warp * warp_size_; other < std::min((warp + 1) * warp_size_, threads_); ++other)
        if (other != thread) w.least_seen = std::min(w.least_seen, std::max({synced_, warp == warp_of(thread) ? w.synced : 0, seen(thread, other)}));
    }
    return w.least_seen > then;
  }

  /// What the thread did and saw so far is added to `to`.
  void release(int thread, Clock& to) {
    to.resize(agents());
    if (!clocks_.empty()) join(to.data(), clock(thread));
    const int warp = warp_of(thread);
    for (int lane = warp * warp_size_; lane < std::min((warp + 1) * warp_size_, threads_); ++lane)
      raise(to[static_cast<size_t>(lane)], warps_[static_cast<size_t>(warp)].synced);
    to[static_cast<size_t>(thread)] = ++time_;
  }
  /// What the bulk copies of a barrier did so far is added to `to`.
  void release_barrier(int barrier, Clock& to) {
    to.resize(agents());
    to[static_cast<size_t>(threads_ + barrier)] = ++time_;
  }
  void acquire(int thread, const Clock& from) {
    if (from.empty()) return;
    ++changes_;
    if (clocks_.empty()) clocks_.resize(static_cast<size_t>(threads_) * agents());
    join(clock(thread), from.data());
    warps_[static_cast<size_t>(warp_of(thread))].learned = true;
  }

  /// A fence between the thread's own accesses and those of copy engine and matrix units.
  void fence(int thread) { fences_[static_cast<size_t>(thread)].push_back(++time_); }
  /// Whether `thread` sees that `writer` fenced what it wrote at `then`.
  bool fenced(int thread, int writer, Time then) const {
    const std::vector<Time>& fences = fences_[static_cast<size_t>(writer)];
    const auto first = std::upper_bound(fences.begin(), fences.end(), then);
    return first != fences.end() && before(thread, writer, *first);
  }

 private:
  struct Warp {
    Time synced = 0;
    bool learned = false;  ///< whether its lanes' clocks may differ
    // The last answer to before_of_warp: what `asked_by` sees of all its threads.
    int asked_by = -1;
    uint64_t asked_at = 0;
    Time least_seen = 0;
  };

  size_t agents() const { return static_cast<size_t>(threads_ + most_barriers); }
  Time* clock(int thread) { return clocks_.data() + static_cast<size_t>(thread) * agents(); }
  Time seen(int thread, int agent) const { return clocks_.empty() ? 0 : clocks_[static_cast<size_t>(thread) * agents() + static_cast<size_t>(agent)]; }
  static void raise(Time& to, Time from) { to = std::max(to, from); }
  void join(Time* to, const Time* from) const {
    for (size_t i = 0; i < agents(); ++i) to[i] = std::max(to[i], from[i]);
  }

  int threads_, warp_size_;
  Time time_ = 0, block_start_ = 0, synced_ = 0;
  uint64_t changes_ = 0;  ///< how often what is seen has changed
  std::vector<Warp> warps_;
  std::vector<Time> seen_by_all_;  ///< by barrier
  std::vector<Time> clocks_;       ///< by thread and agent
  std::vector<std::vector<Time>> fences_;
};

}  // namespace tile::simt::detail
