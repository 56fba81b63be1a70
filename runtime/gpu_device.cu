// The device of artifacts for GPUs: NVIDIA's through CUDA, AMD's through HIP, whose names differ by their prefix.

#if defined(__HIPCC__) || defined(__HIP__)
#include <hip/hip_runtime.h>
#define GPU(name) hip##name
#define GPU_VENDOR "an AMD"
// HIP 5.2's headers give it another name for streams of threads, which the library lacks; ours is named in the call.
#undef hipEventRecord
extern "C" hipError_t hipEventRecord(hipEvent_t, hipStream_t);
#else
#include <cuda_runtime.h>
#define GPU(name) cuda##name
#define GPU_VENDOR "an NVIDIA"
#endif

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/device.h"
#include "runtime/failure.h"

namespace tilewright::rt::device {
namespace {

void check(GPU(Error_t) failure, const char* what) {
  if (failure == GPU(Success)) return;
  throw Failure{TILEWRIGHT_ENVIRONMENT, std::string(what) + ": " + GPU(GetErrorString)(failure)};
}

/// Stream 0 of all contexts that a thread uses.
GPU(Stream_t) own_stream() { return GPU(StreamPerThread); }

void copy_and_wait(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  check(GPU(MemcpyAsync)(to, from, bytes, GPU(MemcpyDefault), own_stream()), "cannot copy to or from the GPU");
  // What came from or goes to pageable memory is the caller's again on return.
  check(GPU(StreamSynchronize)(own_stream()), "a kernel failed on the GPU");
}

}  // namespace

void open() {
  int devices = 0;
  const GPU(Error_t) failure = GPU(GetDeviceCount)(&devices);
  if (failure != GPU(Success) || devices == 0)
    throw Failure{TILEWRIGHT_ENVIRONMENT, std::string("this model runs on " GPU_VENDOR " GPU, and none is usable here: ") +
                                              (failure != GPU(Success) ? GPU(GetErrorString)(failure) : "the driver lists no device")};
}

bool is_host() { return false; }

void* allocate(size_t bytes) {
  void* memory = nullptr;
  check(GPU(Malloc)(&memory, bytes), "cannot take memory of the GPU");
  return memory;
}

void release(void* memory) { (void)GPU(Free)(memory); }

double seconds_between(const Mark& from, const Mark& to) {
  const auto end = static_cast<GPU(Event_t)>(to.event.get());
  float milliseconds = 0;
  check(GPU(EventSynchronize)(end), "a kernel failed on the GPU");
  check(GPU(EventElapsedTime)(&milliseconds, static_cast<GPU(Event_t)>(from.event.get()), end), "cannot time kernels on the GPU");
  return 1e-3 * static_cast<double>(milliseconds);
}

const char* weights(const char* bytes, size_t count) {
  static std::mutex guard;
  static std::map<const char*, char*> uploaded;
  const std::lock_guard lock(guard);
  char*& here = uploaded[bytes];
  if (here == nullptr) {
    char* const memory = static_cast<char*>(allocate(count));
    copy_and_wait(memory, bytes, count);
    here = memory;
  }
  return here;
}

struct Streams::State {
  std::vector<GPU(Stream_t)> others;  ///< streams 1, 2, …
  std::vector<GPU(Event_t)> events;
  GPU(GraphExec_t) graph = nullptr;

  GPU(Stream_t) stream(int number) const { return number == 0 ? own_stream() : others[static_cast<size_t>(number) - 1]; }
  void drop_graph() {
    if (graph != nullptr) (void)GPU(GraphExecDestroy)(graph);
    graph = nullptr;
  }
  ~State() {
    drop_graph();
    for (const auto event : events) (void)GPU(EventDestroy)(event);
    for (const auto other : others) (void)GPU(StreamDestroy)(other);
  }
};

Streams::Streams(int streams, int events) : state_(std::make_unique<State>()) {
  for (int i = 1; i < streams; ++i) {
    GPU(Stream_t) stream = nullptr;
    check(GPU(StreamCreateWithFlags)(&stream, GPU(StreamNonBlocking)), "cannot make a stream of the GPU");
    state_->others.push_back(stream);
  }
  for (int i = 0; i < events; ++i) {
    GPU(Event_t) event = nullptr;
    check(GPU(EventCreateWithFlags)(&event, GPU(EventDisableTiming)), "cannot make an event of the GPU");
    state_->events.push_back(event);
  }
}
Streams::~Streams() = default;

void Streams::call(int stream, const Call& call) { call.function({call.tensors, call.sizes, *call.team, state_->stream(stream)}); }

void Streams::copy_later(int stream, void* to, const void* from, size_t bytes) {
  if (bytes > 0) check(GPU(MemcpyAsync)(to, from, bytes, GPU(MemcpyDeviceToDevice), state_->stream(stream)), "cannot copy on the GPU");
}

void Streams::record(int stream, int event) {
  check(GPU(EventRecord)(state_->events[static_cast<size_t>(event)], state_->stream(stream)), "cannot record an event of the GPU");
}

void Streams::wait(int stream, int event) {
  check(GPU(StreamWaitEvent)(state_->stream(stream), state_->events[static_cast<size_t>(event)], 0), "cannot wait for an event of the GPU");
}

void Streams::copy(void* to, const void* from, size_t bytes) { copy_and_wait(to, from, bytes); }
void Streams::finish() { check(GPU(StreamSynchronize)(own_stream()), "a kernel failed on the GPU"); }

Mark Streams::mark() {
  GPU(Event_t) event = nullptr;
  check(GPU(EventCreate)(&event), "cannot time kernels on the GPU");
  Mark result{std::shared_ptr<void>(event, [](void* used) { (void)GPU(EventDestroy)(static_cast<GPU(Event_t)>(used)); }), 0};
  check(GPU(EventRecord)(event, own_stream()), "cannot time kernels on the GPU");
  return result;
}

bool Streams::capture(const std::function<void()>& work) {
  state_->drop_graph();
  if (GPU(StreamBeginCapture)(own_stream(), GPU(StreamCaptureModeThreadLocal)) != GPU(Success)) return (void)GPU(GetLastError)(), false;
  GPU(Graph_t) graph = nullptr;
  try {
    work();
  } catch (...) {
    if (GPU(StreamEndCapture)(own_stream(), &graph) == GPU(Success) && graph != nullptr) (void)GPU(GraphDestroy)(graph);
    (void)GPU(GetLastError)();
    throw;
  }
  bool whole = GPU(StreamEndCapture)(own_stream(), &graph) == GPU(Success) && graph != nullptr;
#if defined(__HIPCC__) || defined(__HIP__)
  whole = whole && hipGraphInstantiate(&state_->graph, graph, nullptr, nullptr, 0) == hipSuccess;
#else
  whole = whole && cudaGraphInstantiate(&state_->graph, graph, 0) == cudaSuccess;
#endif
  if (graph != nullptr) (void)GPU(GraphDestroy)(graph);
  if (!whole) {
    (void)GPU(GetLastError)();
    state_->graph = nullptr;
  }
  return whole;
}

void Streams::replay() { check(GPU(GraphLaunch)(state_->graph, own_stream()), "cannot start a graph on the GPU"); }

}  // namespace tilewright::rt::device
