#pragma once

// tile/exec/bulk.h on NVIDIA's GPUs from sm_90a on.

#include <cuda.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#include <type_traits>

#include "tile/exec/bulk.h"

namespace tile::simt {

/// A tensor and its boxes, as kernels have it: a member of what the grid is started with, which the copy engine reads there.
struct TensorMap {
  CUtensorMap map;
  int bytes;  ///< of a box

  __device__ int box_bytes() const { return bytes; }
};

/// `data`: device memory, of which `count` elements exist.
template <class T>
TensorMap tensor_map(T* data, i64, const TensorShape& shape, Swizzle swizzle) {
  using Encode = decltype(&cuTensorMapEncodeTiled);
  static const Encode encode = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
    const cudaError_t failure = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found);
#else
    const cudaError_t failure = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &entry, cudaEnableDefault, &found);
#endif
    if (failure != cudaSuccess || found != cudaDriverEntryPointSuccess) throw std::runtime_error("the GPU's driver knows no tensor maps; needs CUDA 12's");
    return reinterpret_cast<Encode>(entry);
  }();
  if (const char* fault = fault_of(shape, sizeof(T), swizzle)) throw std::runtime_error(fault);
  TensorMap result{};
  cuuint64_t size[3], stride[2];
  cuuint32_t box[3], step[3] = {1, 1, 1};
  result.bytes = sizeof(T);
  for (int axis = 0; axis < 3; ++axis) {
    size[axis] = static_cast<cuuint64_t>(shape.size[axis]);
    box[axis] = static_cast<cuuint32_t>(shape.box[axis]);
    if (axis > 0) stride[axis - 1] = static_cast<cuuint64_t>(shape.stride[axis]) * sizeof(T);
    result.bytes *= shape.box[axis];
  }
  constexpr CUtensorMapDataType words[] = {CU_TENSOR_MAP_DATA_TYPE_UINT8, CU_TENSOR_MAP_DATA_TYPE_UINT16, CU_TENSOR_MAP_DATA_TYPE_UINT32};
  static_assert(sizeof(T) <= 4, "boxes of elements of 1, 2 or 4 bytes");
  void* const from = const_cast<std::remove_const_t<T>*>(data);
  const CUresult failure = encode(&result.map, words[sizeof(T) / 2], 3, from, size, stride, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                  swizzle == Swizzle::bytes128 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (failure != CUDA_SUCCESS) throw std::runtime_error("the GPU's driver refuses a tensor map: error " + std::to_string(static_cast<int>(failure)));
  return result;
}

/// A thread's part of a product's result.
template <class T, int count>
struct GpuSums {
  T value[count];

  template <class Exec>
  __device__ explicit GpuSums(Exec&) {}
  __device__ T& operator[](int i) { return value[i]; }
};

/// What GpuThread is beside tile/exec/simt.h.
class GpuAsync {
 public:
  __device__ void init_barrier(uint64_t* barrier, int count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address(barrier)), "r"(count) : "memory");
  }
  __device__ void arrive(uint64_t* barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address(barrier)) : "memory"); }
  __device__ void arrive_expecting(uint64_t* barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address(barrier)), "r"(bytes) : "memory");
  }
  __device__ bool try_wait(uint64_t* barrier, int parity) {
    int complete;
    asm volatile("{ .reg .pred done; mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2; selp.b32 %0, 1, 0, done; }"
                 : "=r"(complete)
                 : "r"(address(barrier)), "r"(parity)
                 : "memory");
    return complete != 0;
  }
  __device__ void wait(uint64_t* barrier, int parity) {
    while (!try_wait(barrier, parity)) {
    }
  }
  __device__ void sync_some(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
  __device__ void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

  template <class T>
  __device__ void load_box(T* to, const TensorMap& map, const BoxAt& from, uint64_t* barrier) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(address(to)),
                 "l"(&map.map), "r"(address(barrier)), "r"(static_cast<int>(from.index[0])), "r"(static_cast<int>(from.index[1])),
                 "r"(static_cast<int>(from.index[2]))
                 : "memory");
  }
  template <class T>
  __device__ void store_box(const TensorMap& map, const BoxAt& to, const T* from) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(&map.map), "r"(address(from)),
                 "r"(static_cast<int>(to.index[0])), "r"(static_cast<int>(to.index[1])), "r"(static_cast<int>(to.index[2]))
                 : "memory");
  }
  __device__ void commit_stores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
  template <int youngest>
  __device__ void wait_stores() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(youngest) : "memory");
  }

  template <class T, int count>
  using Sums = GpuSums<T, count>;
  template <class T, int count>
  __device__ void fence_products(GpuSums<T, count>& sums) {
    settle(sums);
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  }
  __device__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
  template <int youngest>
  __device__ void wait_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(youngest) : "memory");
  }
  /// Keeps the compiler from moving accesses across this place.
  template <class T, int count>
  __device__ void settle(GpuSums<T, count>& sums) {
#pragma unroll
    for (int i = 0; i < count; ++i) {
      if constexpr (std::is_same_v<T, float>)
        asm volatile("" : "+f"(sums.value[i])::"memory");
      else
        asm volatile("" : "+r"(sums.value[i])::"memory");
    }
  }
  template <class T>
  __device__ T taken(T sum) {
    if constexpr (std::is_same_v<T, float>)
      asm volatile("" : "+f"(sum));
    else
      asm volatile("" : "+r"(sum));
    return sum;
  }

  template <int count>
  __device__ void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
  }
  template <int count>
  __device__ void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
  }

  static __device__ uint32_t address(const void* shared) { return static_cast<uint32_t>(__cvta_generic_to_shared(shared)); }
};

}  // namespace tile::simt
