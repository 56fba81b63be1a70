#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

/// The memory that kernels work on: the process's own for CPU kernels, a GPU's for its kernels. An artifact holds one of
/// host_device.cpp and gpu_device.cu. All functions throw Failure.
namespace tilewright::rt::device {

/// Finds the device, once. Throws TILEWRIGHT_ENVIRONMENT when there is none.
void open();
/// Whether kernels work on the caller's memory: then nothing needs to be copied in or out.
bool is_host();
/// At least 64-byte aligned.
void* allocate(size_t bytes);
void release(void* memory);
/// Between any two places, once the kernels started so far are done. Bytes that go to the host are there on return.
void copy(void* to, const void* from, size_t bytes);
/// Waits for the kernels started so far.
void wait();
/// What kernels are started on.
void* queue();
/// A moment between kernels, by the device's own clock.
struct Mark {
  std::shared_ptr<void> event;  ///< of a GPU's queue
  double seconds = 0;           ///< of the host's clock
};
Mark mark();
/// Once the kernels between them are done.
double seconds_between(const Mark& from, const Mark& to);
/// The device's copy of a library's weights, shared by its contexts.
const char* weights(const char* bytes, size_t count);

/// Element `i` of an array that kernels wrote.
template <class T>
T read(const void* array, int64_t i = 0) {
  T value;
  copy(&value, static_cast<const T*>(array) + i, sizeof value);
  return value;
}

}  // namespace tilewright::rt::device
