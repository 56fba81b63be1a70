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

/// What the blocks of a SIMT machine's kernels share out: its multiprocessors (compute units), all alike. Rates are of one of them, a cycle of its clock.
struct Multiprocessors {
  int count = 0;                         ///< 0: the machine has none
  int64_t registers = 0;                 ///< of 32 bits
  int thread_registers = 0;              ///< most of one thread
  int threads = 0, blocks = 0;           ///< resident at once
  int64_t shared_bytes = 0;              ///< of all resident blocks
  int64_t block_shared_bytes = 0;        ///< most of one block
  bool copies_asynchronously = false;    ///< from memory to shared memory, past the registers
  double issued = 0;                     ///< instructions, counted by lanes
  double multiply_adds = 0;              ///< of floats
  double matrix_multiply_adds = 0;       ///< of 16-bit elements by matrix instructions of a warp
  double byte_matrix_multiply_adds = 0;  ///< of 8-bit ones
  double warpgroup_multiply_adds = 0;    ///< of 16-bit elements by matrix instructions of four warps; of 8-bit ones twice as many
  double shared_rate = 0;                ///< bytes from and to shared memory
  double l2_rate = 0, memory_rate = 0;   ///< its share of what the second level cache and the memory give, in bytes
};

/// A machine that artifacts are made for, as data. Passes and emitters ask these fields, never the name.
struct Target {
  std::string name = "";  ///< "cpu:x86-64-v4"
  TargetKind kind = TargetKind::cpu;
  std::string architecture = "x86_64";          ///< ELF machine of the artifact, or "aarch64"
  std::vector<std::string> compile_flags = {};  ///< machine flags for kernels
  std::vector<std::string> features = {};       ///< what the running machine must have, as __builtin_cpu_supports spells it
  int vector_bytes = 16;                        ///< widest SIMD register
  int vector_registers = 16;
  bool broadcasts_loads = false;                                ///< a multiply-add takes an element of memory as all lanes of an operand
  bool dots_bytes = false, dots_shorts = false;                 ///< a lane adds products of four bytes, of two shorts, exactly (tile/atoms/dot.h)
  double multiply_adds = 2;                                     ///< of floats: vectors a cycle
  double bfloat_dots = 0;                                       ///< products of its bf16 dots for each of a multiply-add; 0: it has none
  bool tile_registers = false;                                  ///< of 16 rows of 64 bytes, that multiply bytes and bfloats (tile/atoms/amx.h)
  int64_t shared_bytes = 0;                                     ///< memory that the threads of a block share; 0: the machine has none
  enum class Matrix { none, mma, mfma } matrix = Matrix::none;  ///< matrix instructions of a warp: tile/atoms/mma.h, mfma.h
  bool warpgroups = false;                                      ///< those of four warps, and bulk copies: tile/atoms/wgmma.h, tile/exec/bulk.h
  int warp_size = 1;                                            ///< threads that run in lockstep
  std::vector<std::string> link_flags = {};                     ///< what its kernels need beside the C library
  int64_t l1_bytes = 32 << 10, l2_bytes = 1 << 20;
  double l3_rate = 9;  ///< bytes a cycle that a core gets of the cache that all share
  Multiprocessors multiprocessors = {};

  /// Products of bfloats are much faster than products of floats.
  bool multiplies_bfloats() const { return tile_registers || bfloat_dots > 1; }
  /// Whether its kernels are those of SIMT machines.
  bool is_simt() const { return kind != TargetKind::cpu; }
  bool is_gpu() const { return kind == TargetKind::cuda || kind == TargetKind::hip; }
};

/// All known targets, best first for each architecture.
std::span<const Target> all_targets();
/// The best CPU that this machine can run as, or none.
const Target* native_target();
/// "native" is native_target(). Throws invalid_input listing the names.
const Target& find_target(std::string_view name);
/// Cores this process may use: its affinity mask, cut by its CPU quota.
int usable_cores();
/// Whether this process' machine has what `target` needs.
bool runs_here(const Target& target);

}  // namespace tilewright
