#pragma once

#include <map>
#include <string>
#include <vector>

#include "target/emit_program.h"
#include "target/kernel_space.h"

/// One kernel of a model as a program of its own, to be measured as it will run.
namespace tilewright::tune {

/// A kernel that has something to choose.
struct Subject {
  std::shared_ptr<const schedule::Block> block;
  int kernel = -1;  ///< of the block
  int uses = 1;     ///< kernels of the model that are the same
  KernelSpace space;
  std::string name;  ///< the first such kernel's nodes in the model
};

/// Kernels of the block, its branches and loop bodies that have a choice, each once.
std::vector<Subject> find_subjects(const std::shared_ptr<const schedule::Block>& main, const Target& target, const SpaceOptions& options);

/// The subject computed as `config` says: what fills the caches with other things, what writes the kernel's inputs, the kernel.
/// Weights are the model's; run-time sizes are those of the options.
struct Candidate {
  ModelSource model;
  std::vector<std::vector<int64_t>> inputs;  ///< dims of the program's inputs
};
Candidate make_candidate(const Subject& subject, const schedule::KernelConfig& config, const Target& target, const SpaceOptions& options);

}  // namespace tilewright::tune
