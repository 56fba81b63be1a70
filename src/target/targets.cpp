#include <sys/utsname.h>

#include "base/error.h"
#include "runtime/cpu_features.h"
#include "runtime/thread_pool.h"
#include "target/target.h"

namespace tilewright {
namespace {

const std::vector<Target>& table() {
  static const std::vector<Target> targets = {
      {.name = "cpu:sapphirerapids",
       .architecture = "x86_64",
       .compile_flags = {"-march=sapphirerapids", "-mprefer-vector-width=512"},
       .features = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512vnni", "avx512bf16", "avx512fp16"},
       .vector_bytes = 64,
       .vector_registers = 32,
       .broadcasts_loads = true,
       .l1_bytes = 48 << 10,
       .l2_bytes = 2 << 20,
       .l3_bytes = 32 << 20},
      {.name = "cpu:x86-64-v4",
       .architecture = "x86_64",
       .compile_flags = {"-march=x86-64-v4", "-mprefer-vector-width=512"},
       .features = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma", "bmi2"},
       .vector_bytes = 64,
       .vector_registers = 32,
       .broadcasts_loads = true,
       .l1_bytes = 32 << 10,
       .l2_bytes = 1 << 20,
       .l3_bytes = 32 << 20},
      {.name = "cpu:x86-64-v3",
       .architecture = "x86_64",
       .compile_flags = {"-march=x86-64-v3"},
       .features = {"avx2", "fma", "bmi2"},
       .vector_bytes = 32,
       .l1_bytes = 32 << 10,
       .l2_bytes = 512 << 10,
       .l3_bytes = 16 << 20},
      {.name = "cpu:aarch64",
       .architecture = "aarch64",
       .compile_flags = {"-march=armv8-a"},
       .features = {},
       .vector_bytes = 16,
       .vector_registers = 32,
       .l1_bytes = 32 << 10,
       .l2_bytes = 512 << 10,
       .l3_bytes = 8 << 20},
      {.name = "cuda:sm_90a",
       .kind = TargetKind::cuda,
       .architecture = "x86_64",
       .compile_flags = {"-arch=sm_90a"},
       .features = {},
       .shared_bytes = 48 << 10,
       .matrix = Target::Matrix::mma,
       .multiprocessors = 132,
       .warp_size = 32,
       .link_flags = {"-lcudart_static", "-lrt", "-ldl"}},
      {.name = "cuda:sm_80",
       .kind = TargetKind::cuda,
       .architecture = "x86_64",
       .compile_flags = {"-arch=sm_80"},
       .features = {},
       .shared_bytes = 48 << 10,
       .matrix = Target::Matrix::mma,
       .multiprocessors = 108,
       .warp_size = 32,
       .link_flags = {"-lcudart_static", "-lrt", "-ldl"}},
      {.name = "hip:gfx942",
       .kind = TargetKind::hip,
       .architecture = "x86_64",
       .compile_flags = {"--offload-arch=gfx942"},
       .features = {},
       .shared_bytes = 48 << 10,
       .matrix = Target::Matrix::mfma,
       .multiprocessors = 304,
       .warp_size = 64,
       .link_flags = {"-lamdhip64"}},
      {.name = "hip:gfx90a",
       .kind = TargetKind::hip,
       .architecture = "x86_64",
       .compile_flags = {"--offload-arch=gfx90a"},
       .features = {},
       .shared_bytes = 48 << 10,
       .matrix = Target::Matrix::mfma,
       .multiprocessors = 104,
       .warp_size = 64,
       .link_flags = {"-lamdhip64"}},
      // SIMT kernels on the machine at hand, checked at every step: slow, and never what "native" means.
      {.name = "emulator:warp32",
       .kind = TargetKind::emulator,
       .architecture = "x86_64",
       .compile_flags = {"-DTILE_EMULATED_WARP=32"},
       .features = {},
       .shared_bytes = 48 << 10,
       .matrix = Target::Matrix::mma,
       .multiprocessors = 8,
       .warp_size = 32,
       .link_flags = {"-lboost_context"}},
      {.name = "emulator:warp64",
       .kind = TargetKind::emulator,
       .architecture = "x86_64",
       .compile_flags = {"-DTILE_EMULATED_WARP=64"},
       .features = {},
       .shared_bytes = 48 << 10,
       .matrix = Target::Matrix::mfma,
       .multiprocessors = 8,
       .warp_size = 64,
       .link_flags = {"-lboost_context"}},
  };
  return targets;
}

}  // namespace

std::span<const Target> all_targets() { return table(); }

int usable_cores() { return rt::usable_cores(); }

bool runs_here(const Target& target) {
  utsname machine{};
  uname(&machine);
  if (target.architecture != machine.machine) return false;
  for (const std::string& feature : target.features)
    if (!rt::has_cpu_feature(feature.c_str())) return false;
  return true;
}

const Target& find_target(std::string_view name) {
  std::string known;
  for (const Target& target : all_targets()) {
    if (name == "native" ? target.kind == TargetKind::cpu && runs_here(target) : target.name == name) return target;
    known += (known.empty() ? "" : ", ") + target.name;
  }
  if (name == "native") fail(ErrorKind::environment, "this machine runs none of the targets ({}); name one with --target", known);
  fail(ErrorKind::invalid_input, "unknown target '{}'; known: native, {}", name, known);
}

}  // namespace tilewright
