#pragma once

#include "schedule/schedule.h"
#include "target/source/cpp_text.h"
#include "target/source/lower_nest.h"
#include "target/target.h"

namespace tilewright::source {

/// A kernel being written: what its arguments are called.
struct KernelText {
  const schedule::Block& block;
  const schedule::Kernel& kernel;
  const Target& target;
  Names sizes;                               ///< "n0" for kernel.sizes[0]
  std::map<TensorId, std::string> pointers;  ///< "x0" for what is only read, "y1" for what is written

  KernelText(const schedule::Block& b, const schedule::Kernel& k, const Target& t);

  const pattern::Program& program() const { return block.program; }
  /// Whether the tensor begins at a multiple of 64 bytes: not so when it is part of another, or the caller's.
  bool aligned(TensorId id) const;
  /// `const i64 n0 = a.size[0];` for every size. Loops run in functions of their own and declare what they use there, so
  /// that compilers see plain local values.
  void declare_sizes(Writer& out) const;
  /// `const float* const x0 = a.at<const float>(0);` for every tensor.
  void declare_tensors(Writer& out) const;
};

}  // namespace tilewright::source
