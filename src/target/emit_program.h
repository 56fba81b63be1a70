#pragma once

#include <memory>
#include <string>
#include <vector>

#include "schedule/schedule.h"
#include "target/target.h"

namespace tilewright {

/// One model of an artifact, scheduled.
struct ModelSource {
  std::string name;
  std::string manifest;  ///< JSON, embedded as text
  std::shared_ptr<const schedule::Block> main;
};

struct SourceFile {
  std::string name;  ///< "model.cpp", "kernels_0.cpp"
  std::string text;
};

/// What the models of one artifact share: constants by content, kernels by text.
struct EmittedSources {
  std::vector<SourceFile> program;  ///< the host program and the exported table; machine baseline code
  std::vector<SourceFile> kernels;  ///< compiled with the target's flags
  std::vector<std::shared_ptr<const Tensor>> constants;
  std::vector<int64_t> constant_offsets;  ///< of each constant in the weights, 64-byte aligned
  int64_t weight_bytes = 0;
  int kernel_count = 0, distinct_kernel_count = 0;
  int64_t arena_bytes = 0, peak_live_bytes = 0;  ///< of statically sized main blocks, summed over models
};

/// The C++ of an artifact. `units`: how many kernel translation units to spread over.
EmittedSources emit_sources(const std::vector<ModelSource>& models, const Target& target, int units);

}  // namespace tilewright
