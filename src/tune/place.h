#pragma once

#include <string>

#include "target/toolchain.h"
#include "tune/database.h"

/// Which machine and compiler measurements are of.
namespace tilewright::tune {

/// What the runner calls the machine that kernels for `target` run on: "cuda", "hip", "cpu".
const char* device_of(const Target& target);
/// Whether kernels for `target` can run here: the CPU has what it needs, or there is a GPU of that kind.
bool device_is_here(const Target& target);

/// This machine ("no GPU" where the target wants one), its compiler of kernels ("" without one for GPUs) and the number of threads, which GPUs do not
/// tell apart.
Place this_place(const Target& target, int threads, const BuildOptions& build);

/// Where a compile's measurements are of: this machine; where it has no GPU for the target, the one of which most is known.
Place place_of_choices(const Database& database, const Target& target, int threads, const BuildOptions& build);

}  // namespace tilewright::tune
