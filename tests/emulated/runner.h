#pragma once

#include <functional>
#include <string>
#include <vector>

namespace tilewright::emulated {

struct RunOptions {
  std::vector<std::string> targets = {"emulator:warp32", "emulator:warp64", "emulator:hopper"};
  uint64_t seed = 1;
  int rounds = 1;
  int interleavings = 20;
  int jobs = 2;        ///< libraries at once
  std::string filter;  ///< only cases whose name contains this
};

struct Verdict {
  std::string name;     ///< "softmax f16 seed 3 run_time (A=1 B=17) emulator:warp32"
  std::string failure;  ///< "" when it passed
};

/// Runs every case on every target: `report` gets a verdict each, one at a time.
///
/// A case is a family's program for one dtype with one choice of sizes. It runs `interleavings` times, the threads in another order each time; every
/// time it must agree with the interpreter as far as rounding allows, and give the same bits as the first time.
void run_cases(const RunOptions& options, const std::function<void(const Verdict&)>& report);

}  // namespace tilewright::emulated
