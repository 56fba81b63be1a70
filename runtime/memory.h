#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <unordered_map>
#include <vector>

#include "runtime/thread_pool.h"

namespace tilewright::rt {

using i64 = int64_t;

/// Steps during which a tensor's bytes matter, both inclusive.
struct Lifetime {
  int first, last;
};

inline constexpr i64 tensor_alignment = 64;

struct Layout {
  std::vector<i64> offsets;
  i64 total = 0;
};

/// Offsets in one arena such that tensors alive at the same step do not overlap: largest first, each at the lowest gap that
/// fits. Within a few per cent of the peak of live bytes in practice.
Layout lay_out(const Lifetime* lifetimes, const i64* bytes, size_t count);

/// Largest sum of bytes (rounded to the alignment) alive at one step: no plan can be smaller.
i64 peak_live_bytes(const Lifetime* lifetimes, const i64* bytes, size_t count);

/// The arena of one block: memory and the last few layouts, for shapes that vary from run to run.
class Arena {
 public:
  /// Pointers of all tensors, valid until the next call.
  char* const* place(const Lifetime* lifetimes, const i64* bytes, size_t count);
  char* reserve(size_t bytes) { return memory_.reserve(bytes); }
  size_t capacity() const { return memory_.capacity(); }
  const char* data() const { return memory_.data(); }

 private:
  static constexpr size_t layouts_kept = 8;
  struct Entry {
    std::vector<i64> key;
    Layout layout;
  };
  std::list<Entry> recent_;  ///< most recent first
  std::vector<char*> pointers_;
  DeviceBuffer memory_;
};

/// Memory of tensors whose size is learned during the run: free lists by size class, trimmed between runs.
class Pool {
 public:
  Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool();
  void* allocate(i64 bytes);   ///< 64-byte aligned. Throws Failure.
  void release(void* memory);  ///< nullptr is allowed
  void finish_run();           ///< frees what a failed run left behind and what is not likely to be used again
  size_t held_bytes() const { return held_; }

 private:
  std::unordered_map<void*, size_t> live_;
  std::map<size_t, std::vector<void*>> free_;
  size_t held_ = 0, live_bytes_ = 0, peak_live_ = 0;
};

}  // namespace tilewright::rt
