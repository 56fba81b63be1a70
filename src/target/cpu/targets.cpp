#include <sys/utsname.h>

#include "base/error.h"
#include "target/target.h"

namespace tilewright {
namespace {

const std::vector<Target>& table() {
  static const std::vector<Target> targets = {
      {"cpu:sapphirerapids",
       TargetKind::cpu,
       "x86_64",
       {"-march=sapphirerapids", "-mprefer-vector-width=512"},
       {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni", "avx512bf16", "amx-tile", "amx-bf16"},
       64,
       1,
       {},
       48 << 10,
       2 << 20,
       32 << 20},
      {"cpu:x86-64-v4",
       TargetKind::cpu,
       "x86_64",
       {"-march=x86-64-v4", "-mprefer-vector-width=512"},
       {"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma", "bmi2"},
       64,
       1,
       {},
       32 << 10,
       1 << 20,
       32 << 20},
      {"cpu:x86-64-v3", TargetKind::cpu, "x86_64", {"-march=x86-64-v3"}, {"avx2", "fma", "bmi2"}, 32, 1, {}, 32 << 10, 512 << 10, 16 << 20},
      {"cpu:aarch64", TargetKind::cpu, "aarch64", {"-march=armv8-a"}, {}, 16, 1, {}, 32 << 10, 512 << 10, 8 << 20},
      // SIMT kernels on the machine at hand, checked at every step: slow, and never what "native" means.
      {"emulator:warp32", TargetKind::emulator, "x86_64", {"-DTILE_EMULATED_WARP=32"}, {}, 16, 32, {"-lboost_context"}},
      {"emulator:warp64", TargetKind::emulator, "x86_64", {"-DTILE_EMULATED_WARP=64"}, {}, 16, 64, {"-lboost_context"}},
  };
  return targets;
}

#if defined(__x86_64__)
bool has_feature(const std::string& name) {
  if (name == "avx512f") return __builtin_cpu_supports("avx512f");
  if (name == "avx512bw") return __builtin_cpu_supports("avx512bw");
  if (name == "avx512dq") return __builtin_cpu_supports("avx512dq");
  if (name == "avx512vl") return __builtin_cpu_supports("avx512vl");
  if (name == "avx512vnni") return __builtin_cpu_supports("avx512vnni");
  if (name == "avx512bf16") return __builtin_cpu_supports("avx512bf16");
  if (name == "avx2") return __builtin_cpu_supports("avx2");
  if (name == "fma") return __builtin_cpu_supports("fma");
  if (name == "bmi2") return __builtin_cpu_supports("bmi2");
  return false;  // AMX needs the kernel's permission as well; nothing emits it
}
#else
bool has_feature(const std::string&) { return false; }
#endif

}  // namespace

std::span<const Target> all_targets() { return table(); }

bool runs_here(const Target& target) {
  utsname machine{};
  uname(&machine);
  if (target.architecture != machine.machine) return false;
  for (const std::string& feature : target.features)
    if (!has_feature(feature)) return false;
  return true;
}

const Target& find_target(std::string_view name) {
  std::string known;
  for (const Target& target : all_targets()) {
    if (name == "native" ? runs_here(target) : target.name == name) return target;
    known += (known.empty() ? "" : ", ") + target.name;
  }
  if (name == "native") fail(ErrorKind::environment, "this machine runs none of the targets ({}); name one with --target", known);
  fail(ErrorKind::invalid_input, "unknown target '{}'; known: native, {}", name, known);
}

}  // namespace tilewright
