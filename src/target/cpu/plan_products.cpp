#include <algorithm>

#include "base/error.h"
#include "schedule/fuse_depthwise.h"
#include "target/cpu/depthwise_chain.h"
#include "target/cpu/kernel_emitters.h"

namespace tilewright::cpu {
namespace {

/// Whether something other than kernels' nests needs the tensor as it is.
bool is_used(const schedule::Block& block, TensorId id) {
  const auto holds = [&](const std::vector<TensorId>& ids) { return std::count(ids.begin(), ids.end(), id) > 0; };
  if (holds(block.program.outputs)) return true;
  for (const schedule::Placement& placement : block.placements)
    if (placement.storage == schedule::Storage::alias && placement.alias_of == id) return true;
  for (const schedule::Kernel& kernel : block.kernels)
    if (holds(kernel.tensors)) return true;
  for (const schedule::Step& step : block.steps) {
    if (const auto* bind = std::get_if<schedule::BindSizes>(&step); bind && bind->bind.tensor == id) return true;
    if (const auto* copy = std::get_if<schedule::CopyTensor>(&step); copy && copy->from == id) return true;
    if (const auto* call = std::get_if<schedule::CallIf>(&step); call && (holds(call->pattern.inputs) || call->pattern.condition == id)) return true;
    if (const auto* call = std::get_if<schedule::CallLoop>(&step))
      if (holds(call->pattern.carried) || holds(call->pattern.invariants) || call->pattern.trip_count == id || call->pattern.condition == id) return true;
  }
  return false;
}

/// Gives one of the kernel's stages the configuration, with its weights, if it has any, packed for that; `as_sums`: as floats, if they are shorter ones.
void configure(schedule::Block& block, schedule::Kernel& kernel, const pattern::Nest& nest, const RowsProduct& product, const schedule::ProductConfig& config,
               const Target& target, bool as_sums = false) {
  if (product.right_matrix) return void(kernel.products.push_back({.config = config}));
  const TensorId weights = nest.accesses[static_cast<size_t>(product.shape.right.access)].tensor;
  const pattern::TensorInfo& info = block.program.tensor(weights);
  Tensor panels = packed_weights(product, *info.constant, config, target, as_sums);
  Dims dims(panels.dims().begin(), panels.dims().end());
  const Type type{panels.dtype(), dims};
  const TensorId id = block.program.add_tensor(type, info.name + " in panels", std::make_shared<const Tensor>(std::move(panels)));
  block.placements.resize(block.program.tensors.size());
  block.placements.back().storage = schedule::Storage::constant;
  kernel.products.push_back({config, weights, id});
  int64_t reads = 0;
  for (const pattern::Pattern& stage : kernel.stages)
    for (const pattern::Access& access : std::get<pattern::Nest>(stage).accesses) reads += access.tensor == weights;
  const auto place = std::find(kernel.tensors.begin(), kernel.tensors.end(), weights);
  if (reads == 1)
    *place = id;
  else
    kernel.tensors.push_back(id);
  if (!is_used(block, weights)) block.placements[static_cast<size_t>(weights)].storage = schedule::Storage::unused;
}

void plan_chain(schedule::Block& block, schedule::Kernel& kernel, const Target& target) {
  std::vector<const pattern::Nest*> stages;
  for (const pattern::Pattern& stage : kernel.stages) stages.push_back(&std::get<pattern::Nest>(stage));
  const std::optional<DepthwiseChain> chain = find_depthwise_chain(stages, block.program);
  ensure(chain.has_value(), "convolutions were chained because the target takes them");
  const std::vector<const RowsProduct*> products = chain->products();
  // Kernels of chains multiply floats as they are, a few lines at a time: too few to widen weights for, which are small.
  for (size_t i = 0; i < stages.size(); ++i)
    configure(block, kernel, *stages[i], *products[i], choose_method(*products[i], target, false, schedule::ProductConfig::Atom::fma, true), target, true);
}

void plan(schedule::Block& block, schedule::Kernel& kernel, const Target& target, const PlanOptions& options) {
  if (!kernel.products.empty()) return;
  if (schedule::is_depthwise_chain(kernel)) return plan_chain(block, kernel, target);
  const auto* nest = std::get_if<pattern::Nest>(&kernel.stages.at(0));
  if (!nest || kernel.stages.size() > 1) return;
  std::optional<RowsProduct> product = find_rows_product(*nest, block.program);
  if (!product) return;
  product->tf32 = options.tf32;
  product->rounds = options.rounds;
  const std::vector<schedule::ProductConfig::Atom> atoms = atoms_of(*product, target);
  if (atoms.empty()) return;
  // What was measured for float32 says nothing of a product that may have fewer bits.
  const bool fewer_bits = std::find(atoms.begin(), atoms.end(), schedule::ProductConfig::Atom::amx_tf32) != atoms.end();
  const std::optional<schedule::KernelConfig> chosen = options.choose && !fewer_bits ? options.choose(block, kernel) : std::nullopt;
  const auto* config = chosen ? std::get_if<schedule::ProductConfig>(&*chosen) : nullptr;
  const bool usable = config && can_compute(*product, *config, target) && (options.winograd || config->method != schedule::ProductConfig::Method::winograd);
  configure(block, kernel, *nest, *product, usable ? *config : choose_method(*product, target, options.winograd), target);
}

}  // namespace

void plan_products(schedule::Block& block, const Target& target, const PlanOptions& options) {
  schedule::for_each_block(block, [&](schedule::Block& one) {
    for (schedule::Kernel& kernel : one.kernels) plan(one, kernel, target, options);
  });
}

}  // namespace tilewright::cpu
