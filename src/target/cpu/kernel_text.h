#pragma once

#include "schedule/schedule.h"
#include "target/cpu/cpp_text.h"
#include "target/cpu/lower_nest.h"
#include "target/target.h"

namespace tilewright::cpu {

/// A kernel being written: what its arguments are called.
struct KernelText {
  const schedule::Block& block;
  const schedule::Kernel& kernel;
  const Target& target;
  Names sizes;                               ///< "n0" for kernel.sizes[0]
  std::map<TensorId, std::string> pointers;  ///< "x0" for what is only read, "y1" for what is written

  KernelText(const schedule::Block& b, const schedule::Kernel& k, const Target& t);

  const pattern::Program& program() const { return block.program; }
  /// `const i64 n0 = a.size[0];` for every size. Loops run in functions of their own and declare what they use there, so
  /// that compilers see plain local values.
  void declare_sizes(Writer& out) const;
  /// `const float* const x0 = a.at<const float>(0);` for every tensor.
  void declare_tensors(Writer& out) const;
};

// One function a kind of pattern: each writes a kernel's body.
void emit_nest(const KernelText& kernel, const pattern::Nest& nest, Writer& out);
void emit_rows(const KernelText& kernel, Writer& out);
void emit_scatter(const KernelText& kernel, const pattern::Scatter& scatter, Writer& out);
void emit_cumulate(const KernelText& kernel, const pattern::Cumulate& cumulate, Writer& out);
void emit_select(const KernelText& kernel, const pattern::Select& select, Writer& out);
/// False when the nest is no matrix product that the library has a kernel for.
bool emit_contract(const KernelText& kernel, const pattern::Nest& nest, Writer& out);

/// The loops of `nest` inside a row: its leading coordinates are the values of `shared_names`; nothing runs in parallel.
void emit_stage(const KernelText& kernel, const pattern::Nest& nest, const RowContext& row, const Names& shared_names,
                const std::map<TensorId, std::string>& pointers, Writer& out);

/// Sum of the costs of the nodes that `roots` need, of one point.
int64_t point_cost(const LoweredNest& nest, const std::vector<ExprId>& roots);

}  // namespace tilewright::cpu
