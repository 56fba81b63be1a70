#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "tile/exec/args.h"

/// The memory that kernels work on and what starts them: the process's own for CPU kernels, a GPU's for its kernels. An artifact holds
/// one of host_device.cpp, emulated_device.cpp and gpu_device.cu. All functions throw Failure.
namespace tilewright::rt::device {

/// Finds the device, once. Throws TILEWRIGHT_ENVIRONMENT when there is none.
void open();
/// Whether kernels work on the caller's memory: then nothing needs to be copied in or out.
bool is_host();
/// At least 64-byte aligned.
void* allocate(size_t bytes);
/// Once nothing that has been started needs it.
void release(void* memory);
/// A moment of a stream, by the device's own clock.
struct Mark {
  std::shared_ptr<void> event;  ///< of a GPU's stream
  double seconds = 0;           ///< of the host's clock
};
/// Once what was started between them is done.
double seconds_between(const Mark& from, const Mark& to);

/// The device's copy of a library's weights, shared by its contexts.
const char* weights(const char* bytes, size_t count);

/// A kernel's function and what it is called with; the arrays are read before the call returns.
struct Call {
  void (*function)(const tile::Args&);
  void* const* tensors;
  int tensor_count;
  const int64_t* sizes;
  int size_count;
  tile::Team* team;
};

/// Streams of work on the device: what is started on one runs in that order; streams run beside each other but for the events that one waits for. Of one
/// context, used by one thread at a time. What a device that is the host is asked for is done on return.
class Streams {
 public:
  struct State;
  Streams(int streams, int events);
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;
  ~Streams();

  void call(int stream, const Call& call);
  /// Between two places on the device.
  void copy_later(int stream, void* to, const void* from, size_t bytes);
  /// `event` has happened when all that was started on `stream` so far is done.
  void record(int stream, int event);
  /// What is started on `stream` from here on begins after `event`, as it was last recorded.
  void wait(int stream, int event);

  /// Between any two places, after all on stream 0; done on return.
  void copy(void* to, const void* from, size_t bytes);
  /// Returns when all on stream 0 is done.
  void finish();
  /// On stream 0, when all that was started there so far is done.
  Mark mark();

  /// Keeps what `work` starts, instead of starting it: replay() does that as a whole, any number of times, with the same arguments. False, and nothing kept,
  /// where the device has no such thing. Takes the place of what was kept before.
  bool capture(const std::function<void()>& work);
  void replay();

 private:
  std::unique_ptr<State> state_;
};

}  // namespace tilewright::rt::device
