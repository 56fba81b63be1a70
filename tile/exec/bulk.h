#pragma once

// What kernels see of machines with a copy engine and matrix units that work on their own (NVIDIA's sm_90a), beside tile/exec/simt.h:
//
//   mbarriers, each 8 bytes of shared memory, named by `shared<uint64_t>` pointers. A phase of one completes when `count` arrivals have come and
//   as many bytes have landed as were expected; the next phase follows at once. Phases have parity 0, 1, 0, 1, …
//   ex.init_barrier(barrier, count)     by one thread, and then fence_async() and sync()
//   ex.arrive(barrier)                  what this thread did before is seen by those that wait for the phase
//   ex.arrive_expecting(barrier, bytes) the same, after adding to the bytes that the phase expects
//   ex.wait(barrier, parity)            until the phase of that parity is complete: at once for parity 1 of a new barrier
//   ex.try_wait(barrier, parity)        whether it is complete; may wait a while
//   ex.sync_some(id, threads)           a barrier of so many threads, whole warps; id is 1 to 15
//   ex.fence_async()                    what this thread wrote to shared memory may be read by the engine and units below, once a barrier
//                                       orders them
//
//   ex.address(shared)                  where a pointer to shared memory points, as descriptors of factors say it
//
//   ex.load_box(to, map, {i0, i1, i2}, barrier)     begins to copy the box of a tensor whose first element has these coordinates, by one thread. Elements
//                                       outside of the tensor are zero. Lands at any time, as map.box_bytes() bytes of the barrier's phase
//   ex.store_box(map, {i0, i1, i2}, from)           begins to copy the other way; elements outside of the tensor are left out
//   ex.commit_stores()                  the stores begun since the last commit by this thread become one group
//   ex.template wait_stores<n>()        until at most the n youngest groups of this thread have yet to be read from shared memory
//
//   Products by the four warps of a warpgroup, by tile/atoms/wgmma.h. All threads of a warp call these together:
//   Exec::Sums<T, count> sums(ex)       a thread's part of a product's result; sums[i], for i known at compile time
//   ex.fence_products(sums)             before the first product, and between any access to sums and the next product
//   ex.commit_products()                the products begun since the last commit become one group
//   ex.template wait_products<n>()      until at most the n youngest groups are under way; factors may then be overwritten
//   ex.settle(sums)                     after wait_products<0>(): sums may be accessed
//   ex.taken(sums[i])                   its value, read here and not in the branches that use it, where compilers would have products wait for one another
//   ex.template give_registers<n>(), ex.template take_registers<n>()      by all four warps: n registers a thread from here on, fewer or more than before.
//                                       Waits until so many were given in the block
//
// tensor_map(data, count, TensorShape, Swizzle) makes what boxes are described by, on the host; kernels have it as a member.

#include <cstdint>

#include "tile/types.h"

namespace tile::simt {

/// A tensor and its boxes, as kernels have it: the machine's own.
struct TensorMap;

/// A tensor of three axes, neighbours along the first, and the boxes that are copied from it. Data and strides are multiples of 16 bytes, and so
/// are the bytes of a box's first axis. A box has at most 256 elements an axis, a tensor 2^31 - 1; strides are below 2^40 bytes.
struct TensorShape {
  i64 size[3];
  i64 stride[3];  ///< in elements; the first is 1
  int box[3];
};

/// Coordinates of a box's first element.
struct BoxAt {
  i64 index[3];
};

/// How a box lies in shared memory: row after row, or, with rows of 128 bytes and from a multiple of 1024 bytes on, the 16-byte pieces of each row
/// exchanged by the row's number, so that columns touch all banks.
enum class Swizzle { none, bytes128 };

/// Where a byte lies that would be at `byte` without Swizzle::bytes128.
constexpr TILE_INLINE int swizzled(int byte) { return byte ^ (byte >> 7 & 7) << 4; }

/// What is known of boxes without a look at memory.
constexpr const char* fault_of(const TensorShape& t, i64 element_bytes, Swizzle swizzle) {
  for (int axis = 0; axis < 3; ++axis) {
    if (t.size[axis] < 1) return "a tensor map of an empty tensor";
    if (t.size[axis] > INT32_MAX) return "a tensor map's axis has elements whose coordinates are beyond 32 bits";
    if (t.box[axis] < 1 || t.box[axis] > 256) return "a tensor map's box has 1 to 256 elements an axis";
    if (axis > 0 && t.stride[axis] * element_bytes % 16 != 0) return "a tensor map's strides are multiples of 16 bytes";
    if (axis > 0 && (t.stride[axis] < 1 || t.stride[axis] >= (i64{1} << 40) / element_bytes)) return "a tensor map's strides are positive and below 2^40 bytes";
  }
  if (t.stride[0] != 1) return "a tensor map's first stride is 1";
  if (t.box[0] * element_bytes % 16 != 0) return "a tensor map's box has a multiple of 16 bytes along its first axis";
  if (swizzle == Swizzle::bytes128 && t.box[0] * element_bytes != 128) return "a swizzled box has 128 bytes along its first axis";
  return nullptr;
}

}  // namespace tile::simt
