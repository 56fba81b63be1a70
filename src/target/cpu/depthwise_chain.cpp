#include "target/cpu/depthwise_chain.h"

#include <algorithm>

#include "target/cpu/kernel_emitters.h"

namespace tilewright::cpu {
namespace {

/// What lines may be handed on as floats for. They are not rounded on the way then, which errs less.
bool is_float_at_most(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16; }

/// Whether batch entries, rows and columns of the first result lie one behind the other, from the tensor's first element on.
bool stores_densely(const ContractShape& shape) {
  const Address& store = shape.nest.stores.at(0);
  if (shape.nest.stores.size() != 1 || !is_float_at_most(store.dtype) || shape.sum != DType::f32 || !store.guards.empty()) return false;
  const auto by_column = even_over(store.offset, shape.n);
  if (!by_column || !(by_column->slope == Dim(1))) return false;
  const auto by_row = even_over(by_column->at_zero, shape.m);
  if (!by_row || (!shape.m.loops.empty() && !(by_row->slope == shape.n.extent()))) return false;
  const auto by_batch = even_over(by_row->at_zero, shape.batch);
  return by_batch && (shape.batch.loops.empty() || by_batch->slope == shape.m.extent() * shape.n.extent()) && by_batch->at_zero == Dim(0);
}

/// The product of rows with lines as its batch.
std::optional<RowsProduct> by_lines(const pattern::Nest& nest, const pattern::Program& program) {
  std::optional<RowsProduct> product = find_rows_product(nest, program);
  if (!product || !product->matrix || product->right_matrix || product->weight_groups > 0) return std::nullopt;
  ContractShape& shape = product->shape;
  while (shape.m.loops.size() > 1) {
    shape.batch.loops.push_back(shape.m.loops.front());
    shape.m.loops.erase(shape.m.loops.begin());
  }
  product->matrix = find_dense(shape, shape.left, shape.m);
  if (!product->matrix || !even_over(product->matrix->start, shape.batch)) return std::nullopt;
  for (const LoopGroup* group : {&shape.batch, &shape.m}) shape.nest.bounds.of[group->symbol] = {Dim(0), group->extent() - 1};
  return product;
}

/// Windows of a tensor, as many a line as the result has.
std::optional<RowsProduct> of_windows(const pattern::Nest& nest, const pattern::Program& program) {
  std::optional<RowsProduct> product = find_rows_product(nest, program);
  if (!product || !product->windows || product->depthwise || product->weight_groups > 0 || !product->shape.batch.loops.empty()) return std::nullopt;
  return product;
}

/// Whether the nest reads `tensor` as its product's left factor and nowhere else.
bool reads_once(const RowsProduct& product, const pattern::Nest& nest, TensorId tensor) {
  const auto reads = std::count_if(nest.accesses.begin(), nest.accesses.end(), [&](const pattern::Access& access) { return access.tensor == tensor; });
  return reads == 1 && nest.accesses[static_cast<size_t>(product.shape.left.access)].tensor == tensor;
}

class Finder {
 public:
  Finder(const std::vector<const pattern::Nest*>& stages, const pattern::Program& program) : stages_(stages), program_(program) {}

  /// With stage `at` in the middle.
  std::optional<DepthwiseChain> find(size_t at) const {
    if (stages_.size() > at + 2) return std::nullopt;
    std::optional<RowsProduct> middle = find_rows_product(*stages_[at], program_);
    if (!middle || !middle->depthwise || !is_of_floats(middle->shape)) return std::nullopt;
    const bool hands_on = stages_.size() > at + 1;
    if (hands_on && !stores_densely(middle->shape)) return std::nullopt;
    DepthwiseChain chain{.before = {}, .after = {}, .middle = std::move(*middle), .axes = {}, .channels = 0};
    const WindowRowsShape& windows = *chain.middle.windows;
    chain.axes = windows.axes;
    chain.channels = windows.channels;
    while (chain.axes.size() < 3) chain.axes.insert(chain.axes.begin(), WindowRowsShape::Axis{.input = 1, .pitch = 0, .taps = ""});
    const WindowRowsShape::Axis &depth = chain.axes[0], &height = chain.axes[1], &width = chain.axes[2];
    if (!(depth.kernel == Dim(1)) || !(depth.stride == Dim(1)) || !(depth.pad == Dim(0)) || !(depth.input == depth.output)) return std::nullopt;
    if (!height.kernel.is_constant() || !height.dilation.is_constant()) return std::nullopt;
    const Dim images = chain.middle.shape.batch.extent() * depth.input;
    if (at == 1) {
      chain.before = by_lines(*stages_[0], program_);
      if (!chain.before) chain.before = of_windows(*stages_[0], program_);
      if (!chain.before || !reads_once(chain.middle, *stages_[1], stages_[0]->outputs.at(0).tensor)) return std::nullopt;
      const ContractShape& shape = chain.before->shape;
      const bool sized = chain.before->matrix ? is_sized(shape, images * height.input, width.input)
                                              : shape.m.extent() == images * height.input * width.input && chain.before->windows->axes.size() > 1 &&
                                                    chain.before->windows->axes.back().output == width.input;
      if (!sized || !stores_densely(shape) || !(shape.n.extent() == chain.channels)) return std::nullopt;
      if (!begins_at_zero(windows.start)) return std::nullopt;
    }
    if (!hands_on) return chain;
    chain.after = by_lines(*stages_[at + 1], program_);
    if (!chain.after || !reads_once(*chain.after, *stages_[at + 1], stages_[at]->outputs.at(0).tensor)) return std::nullopt;
    const ContractShape& shape = chain.after->shape;
    if (!is_of_floats(shape)) return std::nullopt;
    const DenseShape& matrix = *chain.after->matrix;
    const auto lines = even_over(matrix.start, shape.batch);
    if (!is_sized(shape, images * height.output, width.output) || !(shape.k.extent() == chain.channels) || !(matrix.outer_stride == chain.channels) ||
        !(lines->at_zero == Dim(0)) || (!shape.batch.loops.empty() && !(lines->slope == width.output * chain.channels)))
      return std::nullopt;
    return chain;
  }

 private:
  static bool is_of_floats(const ContractShape& shape) {
    return shape.sum == DType::f32 && is_float_at_most(shape.nest.loads[static_cast<size_t>(shape.left.access)].dtype);
  }
  static bool is_sized(const ContractShape& shape, const Dim& lines, const Dim& line) {
    return !shape.m.loops.empty() && shape.batch.extent() == lines && shape.m.extent() == line;
  }
  static bool begins_at_zero(Dim start) {
    std::set<std::string> symbols;
    start.collect_symbols(symbols);
    for (const std::string& symbol : symbols)
      if (symbol.starts_with(schedule::reserved_prefix)) start = start.substitute({{symbol, Dim(0)}});
    return start == Dim(0);
  }

  const std::vector<const pattern::Nest*>& stages_;
  const pattern::Program& program_;
};

int64_t weight_bytes(const RowsProduct& product) {
  const ContractShape& shape = product.shape;
  return shape.n.extent().constant() * shape.k.extent().constant() * static_cast<int64_t>(size_of(shape.sum));
}

}  // namespace

std::vector<const RowsProduct*> DepthwiseChain::products() const {
  std::vector<const RowsProduct*> all;
  if (before) all.push_back(&*before);
  all.push_back(&middle);
  if (after) all.push_back(&*after);
  return all;
}

std::optional<DepthwiseChain> find_depthwise_chain(const std::vector<const pattern::Nest*>& stages, const pattern::Program& program) {
  if (stages.size() < 2 || stages.size() > 3) return std::nullopt;
  const Finder finder(stages, program);
  std::optional<DepthwiseChain> chain = finder.find(1);
  if (!chain && stages.size() == 2) chain = finder.find(0);
  return chain;
}

bool chains_depthwise(const std::vector<const pattern::Nest*>& stages, const pattern::Program& program, const Target& target) {
  // Workers share out lines of output: all of them read all weights, and what stands before is computed twice where their lines meet.
  constexpr int64_t fewest_computed = 14, fewest = 7, most_weight_bytes = 1 << 20, longest_window = 64;
  const std::optional<DepthwiseChain> chain = find_depthwise_chain(stages, program);
  if (!chain) return false;
  // Chains multiply floats; bfloats may have something faster.
  using Atom = schedule::ProductConfig::Atom;
  for (const auto& product : {chain->before, chain->after}) {
    if (!product) continue;
    const std::vector<Atom> atoms = atoms_of(*product, target);
    if (!atoms.empty() && (atoms[0] == Atom::bf16 || atoms[0] == Atom::amx_bf16)) return false;
  }
  for (const size_t axis : {1, 2})
    if (chain->axes[axis].output.as_constant().value_or(fewest_computed) < (chain->before ? fewest_computed : fewest)) return false;
  // Longer sums gain less by it, and some of them are better done by Winograd's method.
  if (chain->before && chain->before->windows && !proven_nonnegative(longest_window - chain->before->shape.k.extent())) return false;
  return (chain->before ? weight_bytes(*chain->before) : 0) + (chain->after ? weight_bytes(*chain->after) : 0) <= most_weight_bytes;
}

}  // namespace tilewright::cpu
