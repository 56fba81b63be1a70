#pragma once

// A GPU, as tile/exec/simt.h describes machines: NVIDIA's through CUDA, AMD's through HIP, whose names differ by their prefix.

#if defined(__HIPCC__) || defined(__HIP__)
#include <hip/hip_runtime.h>
#define TILE_GPU(name) hip##name
#else
#include <cuda_runtime.h>
#define TILE_GPU(name) cuda##name
#endif

#include <cstddef>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include "tile/exec/simt.h"
#if !defined(__HIPCC__) && !defined(__HIP__)
#include "tile/exec/gpu_async.h"
#define TILE_LAUNCHED __grid_constant__
#define TILE_GPU_ASYNC : public GpuAsync
#else
#define TILE_LAUNCHED
#define TILE_GPU_ASYNC
#endif

namespace tile::simt {

/// One thread of a grid.
class GpuThread TILE_GPU_ASYNC {
 public:
#if defined(__HIPCC__) || defined(__HIP__)
  static constexpr int warp_size = 64;  // of the gfx9 family
#else
  static constexpr int warp_size = 32;
#endif

  __device__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ int threads() const { return static_cast<int>(blockDim.x); }
  __device__ i64 block() const { return blockIdx.x; }
  __device__ i64 blocks() const { return gridDim.x; }
  __device__ int lane() const { return thread() % warp_size; }
  __device__ int warp() const { return thread() / warp_size; }

  __device__ void sync() { __syncthreads(); }
  __device__ void sync_warp() {
#if defined(__HIPCC__) || defined(__HIP__)
    __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront");
    __builtin_amdgcn_wave_barrier();
#else
    __syncwarp();
#endif
  }

  template <class T>
  __device__ T shuffle(T value, int lane) {
    constexpr int words = (sizeof(T) + 3) / 4;
    unsigned part[words] = {};
    __builtin_memcpy(part, &value, sizeof value);
    for (unsigned& word : part) {
#if defined(__HIPCC__) || defined(__HIP__)
      word = static_cast<unsigned>(__shfl(static_cast<int>(word), lane));
#else
      word = __shfl_sync(0xffffffffu, word, lane);
#endif
    }
    __builtin_memcpy(&value, part, sizeof value);
    return value;
  }

  template <class T>
  __device__ T* global(T* data, i64) {
    return data;
  }
  template <class T>
  __device__ T* shared(int byte, int) {
    extern __shared__ __align__(1024) unsigned char memory[];
    return reinterpret_cast<T*>(memory + byte);
  }

#if !defined(__HIPCC__) && !defined(__HIP__)
  __device__ void load_matrices(uint32_t (&words)[4], const uint32_t* row) {
    const unsigned from = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(from)
                 : "memory");
  }
#endif

#if defined(__HIPCC__) || defined(__HIP__)
  // No asynchronous copies: they are done at once, through registers.
  template <int bytes, class To, class From>
  __device__ void copy_async(To* to, const From* from) {
    __builtin_memcpy(__builtin_assume_aligned(to, bytes), __builtin_assume_aligned(from, bytes), bytes);
  }
  __device__ void commit_copies() {}
  template <int pending>
  __device__ void wait_copies() {}
#else
  template <int bytes, class To, class From>
  __device__ void copy_async(To* to, const From* from) {
    static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async copies 4, 8 or 16 bytes");
    const unsigned target = static_cast<unsigned>(__cvta_generic_to_shared(to));
    if constexpr (bytes == 16)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target), "l"(from) : "memory");
    else
      asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(target), "l"(from), "n"(bytes) : "memory");
  }
  __device__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
  template <int pending>
  __device__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
  }
#endif
};

namespace detail {

inline void check(TILE_GPU(Error_t) failure, const char* what) {
  if (failure != TILE_GPU(Success)) throw std::runtime_error(std::string(what) + ": " + TILE_GPU(GetErrorString)(failure));
}

template <class Kernel>
__global__ void __launch_bounds__(most_threads<Kernel>) entry(const TILE_LAUNCHED Kernel kernel) {
  GpuThread thread;
  kernel(thread);
}

}  // namespace detail

/// Starts the grid on the arguments' queue. A failure of this or of an earlier launch is thrown as its text.
template <class Kernel>
void launch(const Kernel& kernel, const Launch& l, const Args& a) {
  if (l.blocks <= 0) return;
  if (l.shared_bytes > plain_shared_bytes)
    detail::check(
        TILE_GPU(FuncSetAttribute)(reinterpret_cast<const void*>(&detail::entry<Kernel>), TILE_GPU(FuncAttributeMaxDynamicSharedMemorySize), l.shared_bytes),
        "cannot give a kernel's blocks the shared memory that they need");
  detail::entry<<<static_cast<unsigned>(l.blocks), static_cast<unsigned>(l.threads), static_cast<unsigned>(l.shared_bytes),
                  static_cast<TILE_GPU(Stream_t)>(a.queue)>>>(kernel);
  detail::check(TILE_GPU(GetLastError)(), "cannot start a kernel");
}

/// Multiprocessors of the GPU.
inline int processors() {
  int device = 0, count = 0;
  detail::check(TILE_GPU(GetDevice)(&device), "no GPU");
#if defined(__HIPCC__) || defined(__HIP__)
  detail::check(hipDeviceGetAttribute(&count, hipDeviceAttributeMultiprocessorCount, device), "no GPU");
#else
  detail::check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "no GPU");
#endif
  return count;
}

/// f(args) with copies of the tensors, of so many bytes each, in the host's memory. The first `reads` are read, the others written:
/// what f leaves in those goes back.
template <class F>
void on_host(const Args& a, std::initializer_list<i64> bytes, size_t reads, F&& f) {
  const auto copy = [&](void* to, const void* from, i64 count) {
    const auto queue = static_cast<TILE_GPU(Stream_t)>(a.queue);
    detail::check(TILE_GPU(MemcpyAsync)(to, from, static_cast<size_t>(count), TILE_GPU(MemcpyDefault), queue), "cannot copy to or from the GPU");
    detail::check(TILE_GPU(StreamSynchronize)(queue), "a kernel failed on the GPU");
  };
  std::vector<std::vector<std::byte>> copies;
  std::vector<void*> tensors;
  for (const i64 size : bytes) {
    copies.emplace_back(static_cast<size_t>(size) + 64);  // never empty
    if (size > 0 && tensors.size() < reads) copy(copies.back().data(), a.tensor[tensors.size()], size);
    tensors.push_back(copies.back().data());
  }
  f(Args{tensors.data(), a.size, a.team, a.queue});
  for (size_t i = reads; i < tensors.size(); ++i)
    if (const i64 size = bytes.begin()[i]; size > 0) copy(a.tensor[i], tensors[i], size);
}

}  // namespace tile::simt
