#pragma once

#include <optional>
#include <string>
#include <vector>

namespace tilewright::rt {

// A core is here what the system schedules threads on, a hardware thread of a processor, by the system's number. `root` stands before
// the paths of the system's files; tests have their own.

/// Cores that the calling thread may run on, in rising order; none where the system does not tell.
std::vector<int> allowed_cores();

/// Leaves the calling thread to `core` alone. A system that refuses leaves it as it is.
void bind_to_core(int core);

/// The same cores from `here` on and around, one hardware thread of each processor core before the second of any; `here` is the first of its own.
std::vector<int> spread_cores(const std::vector<int>& cores, int here, const std::string& root = "");

/// The CPU quota of this process, as a number of cores, rounded up: the least that its control group or a parent of that has, in
/// version 2 (`cpu.max`) or 1 (`cpu.cfs_quota_us`). What is missing or makes no sense sets no limit.
std::optional<int> quota_cores(const std::string& root = "");

/// Cores this process may use: its affinity mask, cut by its CPU quota.
int usable_cores();

}  // namespace tilewright::rt
