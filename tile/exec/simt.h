#pragma once

// What a kernel of a SIMT machine (a GPU) sees of it, and what is built on that for all of them.
//
// A kernel is a struct of its arguments with `template <class Exec> TILE_DEVICE void operator()(Exec& ex) const`, run once by
// every thread of every block. `Exec` is the machine; tile/exec/gpu.h and tile/exec/emulator.h each have one:
//
//   Exec::warp_size                     threads that run in lockstep: 32, or 64 (AMD's wavefronts)
//   ex.thread(), ex.threads()           this thread's number in its block; threads in a block
//   ex.block(), ex.blocks()             this block's number (i64); blocks in the grid (i64)
//   ex.lane(), ex.warp()                thread() % warp_size, thread() / warp_size
//   ex.sync()                           waits for all threads of the block, which must all come to this same sync(); what they
//                                       wrote to memory before is visible after
//   ex.sync_warp()                      the same for the threads of the warp
//   ex.shuffle(value, lane)             `value` as that lane of the warp gave it; all lanes take part; trivially copyable, ≤ 16 bytes;
//                                       says nothing about memory
//   ex.load_matrices(words, row)        four matrices of 8 rows of 16 bytes from shared memory to uint32_t words[4]: lane l points to row
//                                       l % 8 of matrix l / 8, and gets word l % 4 of row l / 4 of matrix i as words[i]; all lanes
//                                       take part; warps of 32 threads alone
//   ex.global(T* data, i64 count)       a tensor in device memory
//   ex.template shared<T>(int byte, int count)      part of the block's shared memory
//   ex.template copy_async<bytes>(to, from)         begins to copy 4, 8 or 16 bytes from global to shared memory
//   ex.commit_copies()                  the copies begun since the last commit by this thread become one group
//   ex.template wait_copies<n>()        waits until at most the n youngest groups of this thread are under way. Other threads
//                                       see the copies after a sync() that follows.
//
// global() and shared() give pointers: they index, add and compare as T* does, and a pointer to T becomes one to const T.
// as<V>(pointer) looks at the same memory as elements of V, for vector access; what is accessed must be aligned for V.
// In the emulator they check every access; on a GPU they are T*. Elements of shared memory are read and written whole:
// `const T x = shared[i];` (not `auto`), `shared[i] = x;`, `shared[i] += x;`.
//
// launch(kernel, Launch{blocks, threads, shared_bytes}, args) starts a grid. A kernel whose blocks may have more than 256 threads, or never have so
// many, says so: `static constexpr int most_threads`.
// processors() tells how many multiprocessors run blocks at the same time. What sm_90a has beyond this is in tile/exec/bulk.h.

#include <type_traits>

#include "tile/exec/args.h"
#include "tile/types.h"

/// Before a loop over what a thread holds in registers, which have no addresses.
#if defined(__CUDACC__) || defined(__HIPCC__)
#define TILE_UNROLL_REGISTERS _Pragma("unroll")
#else
#define TILE_UNROLL_REGISTERS
#endif

namespace tile::simt {

/// How many threads a kernel is started with, and what it needs.
struct Launch {
  i64 blocks = 1;
  int threads = 256;     ///< of one block
  int shared_bytes = 0;  ///< of one block
};

/// Shared memory that a block of any machine gets without being asked.
constexpr int plain_shared_bytes = 48 << 10;

/// Threads that a block of the kernel has at most: compilers give each so many registers.
template <class Kernel>
constexpr int most_threads = 256;
template <class Kernel>
requires requires { Kernel::most_threads; }
constexpr int most_threads<Kernel> = Kernel::most_threads;

/// What a kernel is called with, copied to its threads: a kernel's struct begins with it.
template <int tensors, int sizes>
struct Arguments {
  void* tensor[tensors > 0 ? tensors : 1];
  i64 size[sizes > 0 ? sizes : 1];

  explicit Arguments(const Args& a) {
    for (int i = 0; i < tensors; ++i) tensor[i] = a.tensor[i];
    for (int i = 0; i < sizes; ++i) size[i] = a.size[i];
  }
};

/// V, const where T is.
template <class V, class T>
using Like = std::conditional_t<std::is_const_v<T>, const V, V>;

/// The same memory as elements of V.
template <class V, class T>
TILE_INLINE Like<V, T>* as(T* data) {
  return reinterpret_cast<Like<V, T>*>(data);
}

/// `value` of the lane whose number differs from this one's in the bits of `mask`.
template <class Exec, class T>
TILE_DEVICE T shuffle_xor(Exec& ex, T value, int mask) {
  return ex.shuffle(value, ex.lane() ^ mask);
}

/// combine(a, b) over the values of a warp's lanes, the same result in every lane. `combine` is associative and commutative.
template <class Exec, class T, class F>
TILE_DEVICE T reduce_warp(Exec& ex, T value, F&& combine) {
  for (int mask = Exec::warp_size / 2; mask > 0; mask /= 2) value = combine(value, shuffle_xor(ex, value, mask));
  return value;
}

}  // namespace tile::simt
