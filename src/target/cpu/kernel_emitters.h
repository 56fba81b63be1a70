#pragma once

#include <span>
#include <string_view>

#include "target/emit_kernel.h"
#include "target/kernel_space.h"
#include "target/source/kernel_text.h"

/// Kernels for CPUs: loops that compilers turn into vector code, and calls of tile/kernels.
namespace tilewright::cpu {

using namespace source;  // NOLINT: the text that all targets' kernels are made of

/// Chooses how products with weights are computed and packs the weights for it, in the blocks of branches and loops, too.
void plan_products(schedule::Block& block, const Target& target, const PlanOptions& options);

/// What can be chosen for a product with weights; `form` and `cold` are left open.
std::optional<KernelSpace> product_space(const pattern::Nest& nest, const pattern::Program& program, const Target& target, const SpaceOptions& options);

/// A core's cycles that a product of floats with weights takes.
double product_cycles(const ProductSize& size, const Target& target);

/// Whether emit_attention() takes these stages: schedule::Options::streams_attention of CPUs.
bool streams_attention(const std::vector<const pattern::Nest*>& stages, const pattern::Program& program);

/// Whether emit_depthwise_chain() takes these stages, and gains by it: schedule::Options::chains_depthwise of CPUs.
bool chains_depthwise(const std::vector<const pattern::Nest*>& stages, const pattern::Program& program, const Target& target);

/// The C++ function that runs the kernel's stages.
std::string emit_function(const KernelText& text);
/// Headers of tile/ that such functions need.
std::span<const std::string_view> headers();

// One function a kind of pattern: each writes a kernel's body.
void emit_nest(const KernelText& kernel, const pattern::Nest& nest, Writer& out);
void emit_rows(const KernelText& kernel, Writer& out);
/// A kernel whose stages are those of schedule::find_attention().
void emit_attention(const KernelText& kernel, Writer& out);
/// A kernel whose stages are those of schedule::find_depthwise_chains(), and planned.
void emit_depthwise_chain(const KernelText& kernel, Writer& out);
void emit_scatter(const KernelText& kernel, const pattern::Scatter& scatter, Writer& out);
void emit_cumulate(const KernelText& kernel, const pattern::Cumulate& cumulate, Writer& out);
void emit_select(const KernelText& kernel, const pattern::Select& select, Writer& out);
/// A product whose weights plan_products() packed.
void emit_rows_product(const KernelText& kernel, const pattern::Nest& nest, Writer& out);
/// False when the nest is no matrix product that the library has a kernel for.
bool emit_contract(const KernelText& kernel, const pattern::Nest& nest, Writer& out);

/// The loops of `nest` inside a row: its leading coordinates are the values of `shared_names`; nothing runs in parallel.
void emit_stage(const KernelText& kernel, const pattern::Nest& nest, const RowContext& row, const Names& shared_names,
                const std::map<TensorId, std::string>& pointers, Writer& out);

}  // namespace tilewright::cpu
