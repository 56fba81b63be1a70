#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tilewright {

/// How kernels for a machine are written and built.
enum class TargetKind {
  cpu,
  emulator,  ///< SIMT kernels, run on the CPU by tile/exec/emulator.h
  cuda,
  hip,
};

/// A machine that artifacts are made for, as data. Passes and emitters ask these fields, never the name.
struct Target {
  std::string name;  ///< "cpu:x86-64-v4"
  TargetKind kind = TargetKind::cpu;
  std::string architecture;                ///< ELF machine of the artifact: "x86_64", "aarch64"
  std::vector<std::string> compile_flags;  ///< machine flags for kernels
  std::vector<std::string> features;       ///< what the running machine must have, as __builtin_cpu_supports spells it
  int vector_bytes = 16;                   ///< widest SIMD register
  int vector_registers = 16;
  bool broadcasts_loads = false;                                ///< a multiply-add takes an element of memory as all lanes of an operand
  int64_t shared_bytes = 0;                                     ///< memory that the threads of a block share; 0: the machine has none
  enum class Matrix { none, mma, mfma } matrix = Matrix::none;  ///< matrix instructions of a warp: tile/atoms/mma.h, mfma.h
  int multiprocessors = 1;                                      ///< that run blocks of threads at once
  int warp_size = 1;                                            ///< threads that run in lockstep
  std::vector<std::string> link_flags = {};                     ///< what its kernels need beside the C library
  int64_t l1_bytes = 32 << 10, l2_bytes = 1 << 20, l3_bytes = 16 << 20;

  bool is_gpu() const { return kind == TargetKind::cuda || kind == TargetKind::hip; }
};

/// All known targets, best first for each architecture.
std::span<const Target> all_targets();
/// "native" picks the best one this machine can run. Throws invalid_input listing the names.
const Target& find_target(std::string_view name);
/// Cores this process may use: its affinity mask, cut by a container's CPU quota.
int usable_cores();
/// Whether this process' machine has what `target` needs.
bool runs_here(const Target& target);

}  // namespace tilewright
