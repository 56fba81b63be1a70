#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>

#include "runtime/device.h"
#include "runtime/failure.h"

namespace tilewright::rt::device {

void open() {}
bool is_host() { return true; }

void* allocate(size_t bytes) {
  const size_t rounded = (bytes + 63) / 64 * 64;
  void* const memory = std::aligned_alloc(rounded < 4096 ? 64 : 4096, rounded < 4096 ? rounded : (rounded + 4095) / 4096 * 4096);
  if (memory == nullptr) throw Failure{TILEWRIGHT_ENVIRONMENT, "out of memory: " + std::to_string(rounded) + " bytes of working memory"};
  return memory;
}

void release(void* memory) { std::free(memory); }

void copy(void* to, const void* from, size_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void wait() {}
void* queue() { return nullptr; }
Mark mark() { return {nullptr, std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count()}; }
double seconds_between(const Mark& from, const Mark& to) { return to.seconds - from.seconds; }
const char* weights(const char* bytes, size_t) { return bytes; }

}  // namespace tilewright::rt::device
