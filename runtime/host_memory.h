#pragma once

#include <cstdlib>
#include <string>

#include "runtime/failure.h"

namespace tilewright::rt::device {

/// Memory of the process: whole cache lines, whole pages where it is that large. To be freed by std::free.
inline void* allocate_on_host(size_t bytes) {
  const size_t unit = bytes < 4096 ? 64 : 4096, rounded = bytes == 0 ? unit : (bytes + unit - 1) / unit * unit;
  void* const memory = std::aligned_alloc(unit, rounded);
  if (memory == nullptr) throw Failure{TILEWRIGHT_ENVIRONMENT, "out of memory: " + std::to_string(rounded) + " bytes of working memory"};
  return memory;
}

}  // namespace tilewright::rt::device
