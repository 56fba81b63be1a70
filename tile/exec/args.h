#pragma once

// What a generated kernel is called with: its tensors, the run-time sizes and the threads it may use.

#include <cstddef>
#include <cstdint>

namespace tile {

using i64 = int64_t;

/// The threads a kernel may use. The runtime implements the two functions over its pool; tests implement them serially.
///
/// Workers are numbered 0 … size-1; two tasks that run at the same time have different workers, and the caller of run()
/// takes part as a worker. run() returns when all tasks are done, and what they wrote is visible to the caller.
/// Tasks must not call run() themselves.
struct Team {
  void* pool;
  int size;
  /// Calls task(state, index, worker) once for every index in [0, tasks), in any order.
  void (*run)(void* pool, i64 tasks, void (*task)(void* state, i64 index, int worker), void* state);
  /// 64-byte aligned working memory of one slot, uninitialised. Slots 0 … size-1 belong to the workers; slot `size` is the
  /// kernel's own, to be shared by its tasks, and is asked for outside of tasks. Asking again for the same slot within a
  /// kernel gives the same memory with its contents if `bytes` is no larger than before; a larger request may move it and
  /// drop the contents. Valid until the kernel returns; reused by the next kernel.
  void* (*scratch)(void* pool, int slot, size_t bytes);

  /// f(i64 index, int worker) for every index in [0, tasks); inline, as worker 0, when there is nothing to share out.
  template <class F>
  void for_each(i64 tasks, F&& f) {
    if (tasks <= 1 || size <= 1) {
      for (i64 index = 0; index < tasks; ++index) f(index, 0);
      return;
    }
    auto* body = &f;
    run(
        pool, tasks, [](void* state, i64 index, int worker) { (**static_cast<decltype(body)*>(state))(index, worker); }, &body);
  }

  /// f(i64 begin, i64 end) over [0, count) cut into at most 4 × size pieces of at least `grain` (the last may be shorter).
  template <class F>
  void for_range(i64 count, i64 grain, F&& f) {
    if (count <= 0) return;
    if (size <= 1 || count <= grain) {
      f(i64{0}, count);
      return;
    }
    const i64 most = i64{4} * size;
    i64 piece = (count - 1) / most + 1;
    if (piece < grain) piece = grain;
    for_each((count - 1) / piece + 1, [&](i64 index, int) {
      const i64 begin = index * piece;
      f(begin, count - begin < piece ? count : begin + piece);
    });
  }

  template <class T>
  T* scratch_as(int slot, i64 count) const {
    return static_cast<T*>(scratch(pool, slot, static_cast<size_t>(count) * sizeof(T)));
  }
  int shared_slot() const { return size; }
};

/// The arguments of a generated kernel.
struct Args {
  void* const* tensor;  ///< inputs and outputs, in the order that the kernel's header comment lists
  const i64* size;      ///< the sizes known only at run time
  Team& team;
  void* queue = nullptr;  ///< of a device: what kernels are started on

  template <class T>
  T* at(int i) const {
    return static_cast<T*>(tensor[i]);
  }
};

}  // namespace tile
