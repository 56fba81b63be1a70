#include "tune/place.h"

#include <algorithm>
#include <sstream>

#include "base/error.h"
#include "tune/runner/machine.h"

namespace tilewright::tune {
namespace {

/// The line that names nvcc's or hipcc's version, "" without one.
std::string gpu_compiler_version(const Target& target) {
  std::string version;
  try {
    version = find_gpu_compiler(target).version;
  } catch (const Error&) {
    return "";
  }
  std::istringstream lines(version);
  for (std::string line; std::getline(lines, line);)
    if (target.kind != TargetKind::cuda || line.find("release") != std::string::npos) return line;
  return "";
}

}  // namespace

const char* device_of(const Target& target) {
  switch (target.kind) {
    case TargetKind::cuda: return "cuda";
    case TargetKind::hip: return "hip";
    case TargetKind::cpu:
    case TargetKind::emulator: break;
  }
  return "cpu";
}

bool device_is_here(const Target& target) { return runs_here(target) && (!target.is_gpu() || !describe_machine(device_of(target)).empty()); }

Place this_place(const Target& target, int threads, const BuildOptions& build) {
  const std::string machine = describe_machine(device_of(target));
  return {machine_fingerprint(machine.empty() ? "no GPU" : machine, target, threads),
          target.is_gpu() ? gpu_compiler_version(target) : find_compiler(target, build).version, space_version};
}

Place place_of_choices(const Database& database, const Target& target, int threads, const BuildOptions& build) {
  Place best = this_place(target, threads, build);
  if (!target.is_gpu() || device_is_here(target)) return best;
  size_t most = 0;
  for (const Place& place : database.places()) {
    if (place.space != space_version || !place.machine.ends_with(machine_fingerprint("", target, threads))) continue;
    const std::vector<Row> rows = database.of_machine(place);
    const auto count = static_cast<size_t>(std::count_if(rows.begin(), rows.end(), [&](const Row& row) { return row.place.compiler == place.compiler; }));
    if (count > most) most = count, best = place;
  }
  return best;
}

}  // namespace tilewright::tune
