#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "runtime/device.h"
#include "runtime/failure.h"
#include "runtime/memory.h"
#include "runtime/thread_pool.h"

/// What a compiled model's host program is written with: see the `model.cpp` of any --emit-source folder.
namespace tilewright::rt {

/// A run-time array of a control-flow block's boundary. `data` of an output is from Run::allocate and passes to the receiver.
struct Tensor {
  void* data = nullptr;
  i64 bytes = 0;
  int rank = 0;
  i64 dims[TILEWRIGHT_MAX_RANK] = {};
};

/// Bytes of an array. Throws Failure (invalid input) when a size is negative or the product overflows.
i64 bytes_of(i64 element_bytes, std::initializer_list<i64> dims);
/// Floor division and its remainder, as sizes are computed with.
inline i64 floor_div(i64 a, i64 b) { return b == 0 ? 0 : a / b - ((a % b != 0) && ((a % b < 0) != (b < 0))); }
inline i64 floor_mod(i64 a, i64 b) { return a - b * floor_div(a, b); }
inline i64 min(i64 a, i64 b) { return a < b ? a : b; }
inline i64 max(i64 a, i64 b) { return a > b ? a : b; }

struct KernelInfo {
  const char* name;
  const char* source;
  void (*function)(const tile::Args&);
  int tensor_count, size_count;
};

class Run;

/// A compiled model: what the generated program defines once.
struct Model {
  const char* name;
  const char* manifest;
  const tilewright_value* inputs;
  int input_count;
  const tilewright_value* outputs;
  int output_count;
  const KernelInfo* kernels;
  int kernel_count;
  int block_count;                    ///< arenas a context holds
  int stream_count, event_count;      ///< of the device
  bool replayable;                    ///< the host looks at no data on the way: equal sizes and pointers start equal work
  const char *weights, *weights_end;  ///< of all the library's models
  const char* const* features;        ///< what the machine must have; ends with nullptr
  void (*run)(Run&);
};

/// One execution of a model in a context.
class Run {
 public:
  Run(const Model& model, int thread_count, Pinning pinning = Pinning::none);

  const Model& model() const { return model_; }
  /// Where kernels read the input.
  void* input(int index) const { return kernel_inputs_[static_cast<size_t>(index)]; }
  i64 input_dim(int index, int axis) const { return inputs[static_cast<size_t>(index)].dims[axis]; }
  void* weight(i64 offset) const { return const_cast<char*>(weights_) + offset; }
  /// Where kernels write an output of these dims. It goes to the caller's memory when that is large enough, to the context's otherwise.
  void* output(int index, i64 bytes, std::initializer_list<i64> dims);

  /// Memory of block `block`'s tensors: laid out here (sizes known at run time) or by the compiler.
  char* const* arena(int block, const Lifetime* lifetimes, const i64* bytes, size_t count) {
    return arenas[static_cast<size_t>(block)].place(lifetimes, bytes, count);
  }
  char* arena(int block, i64 bytes) { return arenas[static_cast<size_t>(block)].reserve(static_cast<size_t>(bytes)); }
  void* allocate(i64 bytes) { return pool.allocate(bytes); }
  void release(void* memory) { pool.release(memory); }
  Tensor new_tensor(i64 element_bytes, std::initializer_list<i64> dims);

  void call(int kernel, void* const* tensors, const i64* sizes, int stream = 0);
  /// Waits for the calls in `timed` and moves them to `timings`.
  void add_timings();
  void copy(void* to, const void* from, i64 bytes, int stream = 0) { streams.copy_later(stream_of(stream), to, from, static_cast<size_t>(bytes)); }
  /// An event happens when what `stream` has been given so far is done; a stream goes on after it.
  void record(int stream, int event) {
    if (!profiling) streams.record(stream, event);
  }
  void wait(int stream, int event) {
    if (!profiling) streams.wait(stream, event);
  }
  /// Element `i` of an array that kernels wrote.
  template <class T>
  T read(const void* array, i64 i = 0) {
    T value;
    streams.copy(&value, static_cast<const T*>(array) + i, sizeof value);
    return value;
  }
  /// Throws Failure (invalid input): what was asked, what it is.
  void require_equal(i64 a, i64 b, const char* message) const;
  /// Element of an integer tensor that becomes a size; negative ones are refused.
  i64 size_from(i64 value, const char* source) const;

  /// The whole model, once: brings inputs to the device, and outputs back.
  void execute();

  // A context's state, used by context.cpp
  std::vector<Tensor> inputs, outputs;
  struct Destination {
    void* data = nullptr;
    size_t bytes = 0;
  };
  std::vector<Destination> destinations;
  std::vector<Buffer> output_memory;
  std::vector<DeviceBuffer> device_inputs, device_outputs;  ///< unused where kernels work on the caller's memory
  std::vector<Arena> arenas;
  Pool pool;
  ThreadPool threads;
  tile::Team team;
  device::Streams streams;
  bool profiling = false;
  struct Timing {
    i64 calls = 0;
    double seconds = 0;
  };
  std::vector<Timing> timings;
  /// Calls of kernels that were started and not yet added to `timings`.
  struct Timed {
    int kernel;
    device::Mark begin, end;
  };
  std::vector<Timed> timed;

 private:
  /// All that decides what a run starts, but for the contents of tensors.
  std::vector<i64> fingerprint() const;
  void start();
  int stream_of(int stream) const { return profiling ? 0 : stream; }

  const Model& model_;
  bool keeps_;  ///< whether the device can keep what a run starts
  const char* weights_;
  std::vector<void*> kernel_inputs_;
  std::vector<i64> last_, kept_;  ///< fingerprints of the run before, and of the one whose work the device has kept
  std::vector<Tensor> kept_outputs_;
};

/// Borrowed view for a block's input.
Tensor view(void* data, i64 element_bytes, std::initializer_list<i64> dims);

/// A loop's shape; see pattern::Loop. `trip_count` < 0: unlimited.
struct LoopCounts {
  i64 trip_count = -1;
  bool condition = true;
  int carried = 0, invariants = 0, scanned = 0;
};
using LoopBody = void (*)(Run&, void* sizes, const Tensor* inputs, Tensor* outputs);

/// Runs `body` until the trip count or the condition ends it. `operands`: carried then invariants (borrowed). `results`: final
/// carried then scanned (owned by the caller). `before_body(sizes, carried)` sets the named sizes of carried tensors. Scanned
/// results of zero iterations take `scanned_element` for their inner dims (null rank entries where unknown count as 0).
/// Returns the number of iterations.
i64 run_loop(Run& run, void* sizes, const LoopCounts& counts, const Tensor* operands, Tensor* results, LoopBody body,
             void (*before_body)(void* sizes, const Tensor* carried), const Tensor* scanned_element);

}  // namespace tilewright::rt
