#include <cuda_runtime.h>

#include <map>
#include <mutex>
#include <string>

#include "runtime/device.h"
#include "runtime/failure.h"

namespace tilewright::rt::device {
namespace {

void check(cudaError_t failure, const char* what) {
  if (failure == cudaSuccess) return;
  throw Failure{TILEWRIGHT_ENVIRONMENT, std::string(what) + ": " + cudaGetErrorString(failure)};
}

}  // namespace

void open() {
  int devices = 0;
  const cudaError_t failure = cudaGetDeviceCount(&devices);
  if (failure != cudaSuccess || devices == 0)
    throw Failure{TILEWRIGHT_ENVIRONMENT, std::string("this model runs on an NVIDIA GPU, and none is usable here: ") +
                                              (failure != cudaSuccess ? cudaGetErrorString(failure) : "the driver lists no device")};
}

bool is_host() { return false; }

void* allocate(size_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes), "cannot take memory of the GPU");
  return memory;
}

void release(void* memory) { cudaFree(memory); }

void copy(void* to, const void* from, size_t bytes) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, cudaStreamPerThread), "cannot copy to or from the GPU");
  // What came from or goes to pageable memory is the caller's again on return.
  wait();
}

void wait() { check(cudaStreamSynchronize(cudaStreamPerThread), "a kernel failed on the GPU"); }
void* queue() { return cudaStreamPerThread; }

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
