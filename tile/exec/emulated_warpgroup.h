#pragma once

// What four warps have to do together in the emulator: begin products, change their number of registers.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

namespace tile::simt::detail {

/// What a warp does as one of the four of its warpgroup: they all do the same.
struct GroupStep {
  enum class Kind : uint8_t { product, give_registers, take_registers } kind;
  int registers = 0;
  uint64_t a = 0, b = 0;  ///< descriptors
  bool accumulate = false;
  const void* product = nullptr;  ///< which instruction

  bool operator==(const GroupStep&) const = default;
};

/// Compares the steps of a block's warps: a warpgroup is four warps, the first one's number a multiple of four.
class Warpgroups {
 public:
  static constexpr int warps = 4;

  /// `whole_warps`: those with all their threads.
  explicit Warpgroups(int whole_warps) : whole_warps_(whole_warps), groups_(static_cast<size_t>((whole_warps + warps - 1) / warps)) {}

  void begin_block() {
    for (Group& group : groups_) group = {};
  }
  /// The warp's next step. Says what is wrong with it, or "".
  std::string take(int warp, const GroupStep& step) {
    const int first = warp / warps * warps;
    if (first + warps > whole_warps_) return text(step) + ", which takes the four warps from " + std::to_string(first) + " on; the block has not all of them";
    Group& group = groups_[static_cast<size_t>(warp / warps)];
    int& taken = group.taken[warp % warps];
    const auto at = static_cast<size_t>(taken++ - group.forgotten);
    if (at == group.steps.size()) {
      group.steps.push_back({step, warp});
    } else if (const auto& [expected, by] = group.steps[at]; step != expected) {
      return step.kind == expected.kind && step.kind == GroupStep::Kind::product ? text(step) + " that differs from that of warp " + std::to_string(by)
                                                                                 : text(step) + " where warp " + std::to_string(by) + " " + text(expected);
    }
    for (; *std::min_element(group.taken, group.taken + warps) > group.forgotten; ++group.forgotten) group.steps.pop_front();
    return "";
  }
  /// What warps that have ended left to the others of their warpgroup, or "".
  std::string missing() const {
    for (const Group& group : groups_) {
      if (group.steps.empty()) continue;
      const auto lacks = static_cast<int>(std::min_element(group.taken, group.taken + warps) - group.taken + (&group - groups_.data()) * warps);
      return "warp " + std::to_string(lacks) + " has ended, but warp " + std::to_string(group.steps.front().by) + " of its warpgroup " +
             text(group.steps.front().step);
    }
    return "";
  }

 private:
  struct Taken {
    GroupStep step;
    int by;  ///< the first warp
  };
  struct Group {
    std::deque<Taken> steps;  ///< that not all four have taken
    int forgotten = 0;        ///< steps before those
    int taken[warps] = {};
  };

  static std::string text(const GroupStep& step) {
    switch (step.kind) {
      case GroupStep::Kind::product: return "begins a product";
      case GroupStep::Kind::give_registers: return "gives registers up to have " + std::to_string(step.registers);
      case GroupStep::Kind::take_registers: return "takes registers to have " + std::to_string(step.registers);
    }
    return "";
  }

  int whole_warps_;
  std::vector<Group> groups_;
};

}  // namespace tile::simt::detail
