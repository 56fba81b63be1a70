#pragma once

#include <vector>

#include "pattern/pattern.h"

namespace tilewright::schedule {

/// Who writes and reads each tensor of a program, by index into Program::patterns.
struct Uses {
  std::vector<std::vector<int>> writers, readers;  ///< by TensorId
  std::vector<bool> result;                        ///< by TensorId: an output of the program

  explicit Uses(const pattern::Program& program);
  const std::vector<int>& writers_of(pattern::TensorId id) const { return writers[static_cast<size_t>(id)]; }
  const std::vector<int>& readers_of(pattern::TensorId id) const { return readers[static_cast<size_t>(id)]; }
  bool is_result(pattern::TensorId id) const { return result[static_cast<size_t>(id)]; }
};

}  // namespace tilewright::schedule
