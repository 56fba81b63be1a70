#include <sys/utsname.h>

#include "base/error.h"
#include "runtime/cores.h"
#include "runtime/cpu_features.h"
#include "target/target.h"

namespace tilewright {
namespace {

/// NVIDIA A100 and H100 (SXM), one of the two dies of an AMD Instinct MI250X, an MI300X. Sources: NVIDIA A100 and H100 Tensor Core GPU Architecture;
/// CUDA C++ Programming Guide, "Compute Capabilities"; AMD CDNA 2 and CDNA 3 Architecture. What the second level cache gives is a round figure of what kernels
/// reach.
constexpr Multiprocessors a100 = {.count = 108,
                                  .registers = 64 << 10,
                                  .thread_registers = 255,
                                  .threads = 2048,
                                  .blocks = 32,
                                  .shared_bytes = 164 << 10,
                                  .block_shared_bytes = 163 << 10,
                                  .copies_asynchronously = true,
                                  .issued = 128,
                                  .multiply_adds = 64,
                                  .matrix_multiply_adds = 1024,
                                  .byte_matrix_multiply_adds = 2048,
                                  .shared_rate = 128,
                                  .l2_rate = 40,
                                  .memory_rate = 10};
constexpr Multiprocessors h100 = {.count = 132,
                                  .registers = 64 << 10,
                                  .thread_registers = 255,
                                  .threads = 2048,
                                  .blocks = 32,
                                  .shared_bytes = 228 << 10,
                                  .block_shared_bytes = 227 << 10,
                                  .copies_asynchronously = true,
                                  .issued = 128,
                                  .multiply_adds = 128,
                                  .matrix_multiply_adds = 1280,  // mma.sync keeps the unit busy for some 60 % of the time
                                  .byte_matrix_multiply_adds = 2560,
                                  .warpgroup_multiply_adds = 2048,
                                  .shared_rate = 128,
                                  .l2_rate = 40,
                                  .memory_rate = 14};
constexpr Multiprocessors mi250x = {.count = 110,
                                    .registers = 128 << 10,
                                    .thread_registers = 512,
                                    .threads = 2048,
                                    .blocks = 32,
                                    .shared_bytes = 64 << 10,
                                    .block_shared_bytes = 64 << 10,
                                    .issued = 64,
                                    .multiply_adds = 64,
                                    .matrix_multiply_adds = 512,
                                    .byte_matrix_multiply_adds = 512,
                                    .shared_rate = 128,
                                    .l2_rate = 32,
                                    .memory_rate = 8};
constexpr Multiprocessors mi300x = {.count = 304,
                                    .registers = 128 << 10,
                                    .thread_registers = 512,
                                    .threads = 2048,
                                    .blocks = 32,
                                    .shared_bytes = 64 << 10,
                                    .block_shared_bytes = 64 << 10,
                                    .issued = 64,
                                    .multiply_adds = 128,
                                    .matrix_multiply_adds = 1024,
                                    .byte_matrix_multiply_adds = 2048,
                                    .shared_rate = 128,
                                    .l2_rate = 64,
                                    .memory_rate = 8};

/// A machine with vectors of 64 bytes: what such have in common joins what `machine` says of itself.
Target avx512(Target machine) {
  machine.compile_flags.push_back("-mprefer-vector-width=512");
  machine.features.insert(machine.features.begin(), {"avx512f", "avx512bw", "avx512dq", "avx512vl"});
  machine.vector_bytes = 64;
  machine.vector_registers = 32;
  machine.broadcasts_loads = machine.dots_shorts = true;
  return machine;
}

const std::vector<Target>& table() {
  static const std::vector<Target> targets = {
      avx512({.name = "cpu:sapphirerapids-amx",
              .compile_flags = {"-march=sapphirerapids"},
              .features = {"avx512vnni", "avx512bf16", "avx512fp16", "amx-int8", "amx-bf16"},
              .dots_bytes = true,
              .bfloat_dots = 0.5,
              .tile_registers = true,
              .l1_bytes = 48 << 10,
              .l2_bytes = 2 << 20}),
      // Virtual machines often hide the tile registers.
      avx512({.name = "cpu:sapphirerapids",
              .compile_flags = {"-march=sapphirerapids"},
              .features = {"avx512vnni", "avx512bf16", "avx512fp16"},
              .dots_bytes = true,
              .bfloat_dots = 0.5,
              .l1_bytes = 48 << 10,
              .l2_bytes = 2 << 20}),
      // Zen 4 and later, by their features: compilers came to know the name late. Dots of bfloats have twice the rate of multiply-adds.
      avx512({.name = "cpu:znver4",
              .compile_flags = {"-march=x86-64-v4", "-mavx512vnni", "-mavx512vbmi", "-mavx512bf16"},
              .features = {"fma", "bmi2", "avx512vnni", "avx512vbmi", "avx512bf16"},
              .dots_bytes = true,
              .multiply_adds = 1,
              .bfloat_dots = 2,
              .l3_rate = 27}),
      avx512({.name = "cpu:icelake-server",
              .compile_flags = {"-march=x86-64-v4", "-mavx512vnni", "-mavx512vbmi"},
              .features = {"fma", "bmi2", "avx512vnni", "avx512vbmi"},
              .dots_bytes = true,
              .l1_bytes = 48 << 10,
              .l2_bytes = 5 << 18}),
      avx512({.name = "cpu:cascadelake", .compile_flags = {"-march=x86-64-v4", "-mavx512vnni"}, .features = {"fma", "bmi2", "avx512vnni"}, .dots_bytes = true}),
      avx512({.name = "cpu:x86-64-v4", .compile_flags = {"-march=x86-64-v4"}, .features = {"fma", "bmi2"}}),
      {.name = "cpu:x86-64-v3",
       .compile_flags = {"-march=x86-64-v3"},
       .features = {"avx2", "fma", "bmi2"},
       .vector_bytes = 32,
       .dots_shorts = true,
       .l1_bytes = 32 << 10,
       .l2_bytes = 512 << 10},
      {.name = "cpu:aarch64",
       .architecture = "aarch64",
       .compile_flags = {"-march=armv8-a"},
       .vector_bytes = 16,
       .vector_registers = 32,
       .l1_bytes = 32 << 10,
       .l2_bytes = 512 << 10},
      {.name = "cuda:sm_90a",
       .kind = TargetKind::cuda,
       .compile_flags = {"-gencode=arch=compute_90a,code=sm_90a"},  // -arch=sm_90a compiles for sm_90, too
       .shared_bytes = 48 << 10,
       .matrix = Target::Matrix::mma,
       .warpgroups = true,
       .warp_size = 32,
       .link_flags = {"-lcudart_static", "-lrt", "-ldl"},
       .l2_bytes = 50 << 20,
       .multiprocessors = h100},
      {.name = "cuda:sm_80",
       .kind = TargetKind::cuda,
       .compile_flags = {"-arch=sm_80"},
       .shared_bytes = 48 << 10,
       .matrix = Target::Matrix::mma,
       .warp_size = 32,
       .link_flags = {"-lcudart_static", "-lrt", "-ldl"},
       .l2_bytes = 40 << 20,
       .multiprocessors = a100},
      {.name = "hip:gfx942",
       .kind = TargetKind::hip,
       .compile_flags = {"--offload-arch=gfx942"},
       .shared_bytes = 48 << 10,
       .matrix = Target::Matrix::mfma,
       .warp_size = 64,
       .link_flags = {"-lamdhip64"},
       .l2_bytes = 4 << 20,
       .multiprocessors = mi300x},
      {.name = "hip:gfx90a",
       .kind = TargetKind::hip,
       .compile_flags = {"--offload-arch=gfx90a"},
       .shared_bytes = 48 << 10,
       .matrix = Target::Matrix::mfma,
       .warp_size = 64,
       .link_flags = {"-lamdhip64"},
       .l2_bytes = 8 << 20,
       .multiprocessors = mi250x},
      // The kernels of cpu:sapphirerapids-amx where there are no tile registers: for tests, and never what "native" means.
      avx512({.name = "emulator:amx",
              .compile_flags = {"-march=sapphirerapids", "-DTILE_EMULATED_AMX"},
              .features = {"avx512vnni", "avx512bf16", "avx512fp16"},
              .dots_bytes = true,
              .bfloat_dots = 0.5,
              .tile_registers = true,
              .l1_bytes = 48 << 10,
              .l2_bytes = 2 << 20}),
      // SIMT kernels on the machine at hand, checked at every step: slow, and never what "native" means.
      {.name = "emulator:warp32",
       .kind = TargetKind::emulator,
       .compile_flags = {"-DTILE_EMULATED_WARP=32"},
       .shared_bytes = 48 << 10,
       .matrix = Target::Matrix::mma,
       .warp_size = 32,
       .link_flags = {"-lboost_context"},
       .l2_bytes = 40 << 20,
       .multiprocessors = a100},
      {.name = "emulator:hopper",
       .kind = TargetKind::emulator,
       .compile_flags = {"-DTILE_EMULATED_WARP=32"},
       .shared_bytes = 48 << 10,
       .matrix = Target::Matrix::mma,
       .warpgroups = true,
       .warp_size = 32,
       .link_flags = {"-lboost_context"},
       .l2_bytes = 50 << 20,
       .multiprocessors = h100},
      {.name = "emulator:warp64",
       .kind = TargetKind::emulator,
       .compile_flags = {"-DTILE_EMULATED_WARP=64"},
       .shared_bytes = 48 << 10,
       .matrix = Target::Matrix::mfma,
       .warp_size = 64,
       .link_flags = {"-lboost_context"},
       .l2_bytes = 8 << 20,
       .multiprocessors = mi250x},
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

const Target* native_target() {
  for (const Target& target : all_targets())
    if (target.kind == TargetKind::cpu && runs_here(target)) return &target;
  return nullptr;
}

const Target& find_target(std::string_view name) {
  if (const Target* native = name == "native" ? native_target() : nullptr) return *native;
  std::string known;
  for (const Target& target : all_targets()) {
    if (target.name == name) return target;
    known += (known.empty() ? "" : ", ") + target.name;
  }
  if (name == "native") fail(ErrorKind::environment, "this machine runs none of the targets ({}); name one with --target", known);
  fail(ErrorKind::invalid_input, "unknown target '{}'; known: native, {}", name, known);
}

}  // namespace tilewright
