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

#include "runtime/device.h"
#include "runtime/failure.h"

namespace tilewright::rt::device {
namespace {

void check(GPU(Error_t) failure, const char* what) {
  if (failure == GPU(Success)) return;
  throw Failure{TILEWRIGHT_ENVIRONMENT, std::string(what) + ": " + GPU(GetErrorString)(failure)};
}

GPU(Stream_t) stream() { return GPU(StreamPerThread); }

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

void copy(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  check(GPU(MemcpyAsync)(to, from, bytes, GPU(MemcpyDefault), stream()), "cannot copy to or from the GPU");
  // What came from or goes to pageable memory is the caller's again on return.
  wait();
}

void wait() { check(GPU(StreamSynchronize)(stream()), "a kernel failed on the GPU"); }
void* queue() { return stream(); }

Mark mark() {
  GPU(Event_t) event = nullptr;
  check(GPU(EventCreate)(&event), "cannot time kernels on the GPU");
  Mark result{std::shared_ptr<void>(event, [](void* used) { (void)GPU(EventDestroy)(static_cast<GPU(Event_t)>(used)); }), 0};
  check(GPU(EventRecord)(event, stream()), "cannot time kernels on the GPU");
  return result;
}

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
    copy(memory, bytes, count);
    here = memory;
  }
  return here;
}

}  // namespace tilewright::rt::device
