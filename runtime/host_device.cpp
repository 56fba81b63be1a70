#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>

#include "runtime/device.h"
#include "runtime/host_memory.h"

namespace tilewright::rt::device {

void open() {}
bool is_host() { return true; }
void* allocate(size_t bytes) { return allocate_on_host(bytes); }
void release(void* memory) { std::free(memory); }
double seconds_between(const Mark& from, const Mark& to) { return to.seconds - from.seconds; }
const char* weights(const char* bytes, size_t) { return bytes; }

struct Streams::State {};
Streams::Streams(int, int) {}
Streams::~Streams() = default;

void Streams::call(int, const Call& call) { call.function({call.tensors, call.sizes, *call.team}); }
void Streams::copy_later(int, void* to, const void* from, size_t bytes) { copy(to, from, bytes); }
void Streams::record(int, int) {}
void Streams::wait(int, int) {}
void Streams::copy(void* to, const void* from, size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}
void Streams::finish() {}
Mark Streams::mark() { return {nullptr, std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count()}; }
bool Streams::capture(const std::function<void()>&) { return false; }
void Streams::replay() {}

}  // namespace tilewright::rt::device
