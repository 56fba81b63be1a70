#include "target/cpu/rows_product.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "tile/atoms/bfloat_parts.h"

namespace tilewright::cpu {

using schedule::affine_in;
using schedule::mentions;
using Atom = schedule::ProductConfig::Atom;

namespace {

/// Channels that lie apart are gathered one by one; more than these are better put side by side beforehand.
constexpr int64_t few_channels = 4;

bool mentions_any(const Dim& e, const std::vector<Loop>& loops) {
  return std::any_of(loops.begin(), loops.end(), [&](const Loop& loop) { return mentions(e, loop.symbol); });
}

/// The one loop of the group that moves `e`, or none; nullopt when several do.
std::optional<const Loop*> only_loop(const Dim& e, const LoopGroup& group) {
  const Loop* found = nullptr;
  for (const Loop& loop : group.loops) {
    if (!mentions(e, loop.symbol)) continue;
    if (found) return std::nullopt;
    found = &loop;
  }
  return found;
}

/// Whether elements of `stored` are computed in `sum` as they are.
bool holds(DType sum, DType stored) { return stored == sum || (sum == DType::f32 && (stored == DType::f16 || stored == DType::bf16)); }

/// Weights as a sum of constant steps over the loops, without conditions.
bool are_plain(const ContractShape& shape, const Factor& factor, const pattern::Program& program) {
  if (!factor.direct) return false;
  const Address& address = shape.nest.loads[static_cast<size_t>(factor.access)];
  if (!program.tensor(address.tensor).constant || !address.guards.empty()) return false;
  Dim rest = address.offset;
  for (const Loop& loop : shape.nest.loops) {
    const auto affine = affine_in(rest, loop.symbol);
    if (!affine || !affine->slope.is_constant()) return false;
    rest = affine->at_zero;
  }
  return rest.is_constant();
}

bool is_byte(DType dtype) { return dtype == DType::i8 || dtype == DType::u8; }

/// The value of a zero point that is known; of none 0.
std::optional<int64_t> known_zero(const ContractShape& shape, const Factor& factor, const pattern::Program& program) {
  if (factor.zero < 0) return 0;
  const ExprNode* node = &shape.nest.nodes[static_cast<size_t>(factor.zero)];
  while (node->op == ExprOp::cast && is_integer(node->dtype)) node = &shape.nest.nodes[static_cast<size_t>(node->args[0])];
  if (node->op == ExprOp::constant && is_integer(node->dtype)) return node->integer;
  if (node->op != ExprOp::load) return std::nullopt;
  const auto& constant = program.tensor(shape.nest.loads[static_cast<size_t>(node->integer)].tensor).constant;
  if (!constant || constant->element_count() != 1 || !is_integer(constant->dtype())) return std::nullopt;
  return constant->int_at(0);
}

/// Whether the zero point is one of the values that elements of `dtype` have.
bool zero_is_of(DType dtype, const ContractShape& shape, const Factor& factor, const pattern::Program& program) {
  if (const auto known = known_zero(shape, factor, program)) return dtype == DType::u8 ? *known >= 0 && *known <= 255 : *known >= -128 && *known <= 127;
  const ExprNode* node = &shape.nest.nodes[static_cast<size_t>(factor.zero)];
  while (node->op == ExprOp::cast && is_integer(node->dtype) && size_of(node->dtype) > 1) node = &shape.nest.nodes[static_cast<size_t>(node->args[0])];
  return node->op == ExprOp::load && node->dtype == dtype;
}

/// The product as one of bytes and integers, if it is: sums are exact in i32 or, as the nest has them, wrap as those do.
std::optional<RowsProduct::Integers> integers_of(const ContractShape& shape, const pattern::Program& program) {
  constexpr int64_t most = 255;
  if (shape.sum != DType::i32 && shape.sum != DType::f32) return std::nullopt;
  const DType left = shape.nest.loads[static_cast<size_t>(shape.left.access)].dtype;
  if (!is_byte(left) || !zero_is_of(left, shape, shape.left, program)) return std::nullopt;
  const std::optional<int64_t> zero = known_zero(shape, shape.right, program);
  const Tensor& weights = *program.tensor(shape.nest.loads[static_cast<size_t>(shape.right.access)].tensor).constant;
  const auto k = shape.k.extent().as_constant();
  if (!zero || !k || *k * most * most >= int64_t{1} << 31) return std::nullopt;
  if (!is_integer(weights.dtype()) && weights.dtype() != DType::f32) return std::nullopt;
  RowsProduct::Integers found{*zero, most, -most};
  for (int64_t i = 0; i < weights.element_count(); ++i) {
    const double value = weights.float_at(i) - static_cast<double>(*zero);
    if (!(std::abs(value) <= static_cast<double>(most)) || value != std::floor(value)) return std::nullopt;
    found.least = std::min(found.least, static_cast<int64_t>(value));
    found.largest = std::max(found.largest, static_cast<int64_t>(value));
  }
  return found;
}

/// The weights, where all factors are float32.
const Tensor* float_weights(const ContractShape& shape, const pattern::Program& program) {
  for (const Factor* factor : {&shape.left, &shape.right})
    if (shape.nest.loads[static_cast<size_t>(factor->access)].dtype != DType::f32) return nullptr;
  return shape.sum == DType::f32 ? program.tensor(shape.nest.loads[static_cast<size_t>(shape.right.access)].tensor).constant.get() : nullptr;
}

/// Whether panels would not be much larger than the weights: repeated elements and few columns cost memory.
bool packs_well(const ContractShape& shape, const pattern::TensorInfo& weights) {
  double columns = 1, others = 1;
  const Address& address = shape.nest.loads[static_cast<size_t>(shape.right.access)];
  for (const Loop& loop : shape.nest.loops) {
    const bool column = std::any_of(shape.n.loops.begin(), shape.n.loops.end(), [&](const Loop& one) { return one.symbol == loop.symbol; });
    if (!column && !loop.reduced && !mentions(address.offset, loop.symbol)) continue;
    const auto extent = loop.extent.as_constant();
    if (!extent || *extent < 1) return false;
    (column ? columns : others) *= static_cast<double>(*extent);
  }
  return std::max(columns, 16.0) * others <= 4 * static_cast<double>(weights.constant->element_count()) + (1 << 24);
}

class WindowFinder {
 public:
  WindowFinder(ContractShape& shape, const pattern::Nest& nest, const pattern::Program& program) : shape_(shape) {
    const pattern::Access& access = nest.accesses[static_cast<size_t>(shape.left.access)];
    dims_ = program.tensor(access.tensor).type.dims;
    strides_ = schedule::row_major(dims_);
    lowered_ = schedule::lower_map(access.map, schedule::coordinates_of(nest.space), shape.nest.bounds);
    // Loops of extent 1 are gone; their symbols are 0.
    for (size_t i = 0; i < nest.space.size(); ++i) dropped_[schedule::coordinate_symbol(static_cast<int>(i))] = 0;
    for (const Loop& loop : shape.nest.loops) dropped_.erase(loop.symbol);
    for (Dim& coordinate : lowered_.coordinates) coordinate = coordinate.substitute(dropped_);
  }

  std::optional<WindowRowsShape> find() {
    if (shape_.nest.has_cut_loops()) return std::nullopt;
    WindowRowsShape windows;
    const std::optional<size_t> channel_axis = find_channel();
    for (size_t axis = 0; axis < dims_.size(); ++axis) {
      const Dim& coordinate = lowered_.coordinates[axis];
      if (axis == channel_axis) {
        const Loop& loop = **only_loop(coordinate, shape_.k);
        const auto affine = affine_in(coordinate, loop.symbol);
        if (!affine || !(affine->slope == Dim(1))) return std::nullopt;
        windows.channels = loop.extent;
        windows.channel = loop.symbol;
        windows.channel_stride = strides_[axis];
        windows.start += affine->at_zero * strides_[axis];
      } else if (mentions_any(coordinate, shape_.m.loops) || mentions_any(coordinate, shape_.k.loops)) {
        const auto found = spatial(axis);
        if (!found) return std::nullopt;
        windows.axes.push_back(*found);
        coordinates_.push_back(coordinate);
      } else {
        windows.start += coordinate * strides_[axis];
      }
    }
    if (windows.axes.empty() || mentions_any(windows.start, shape_.m.loops) || mentions_any(windows.start, shape_.k.loops)) return std::nullopt;
    if (!guards_are_known(windows) || !in_order(windows)) return std::nullopt;
    // Images stay rows like others, so that weights serve all of them, unless the axes are too many or Winograd's method may follow.
    const auto is_three = [](const WindowRowsShape::Axis& axis) { return axis.kernel == Dim(3) && axis.stride == Dim(1) && axis.dilation == Dim(1); };
    while (windows.axes.size() > 3)
      if (!move_to_batch(windows)) return std::nullopt;
    if (windows.axes.size() == 3 && is_three(windows.axes[1]) && is_three(windows.axes[2])) move_to_batch(windows);
    return windows;
  }

 private:
  /// The axis that the sum alone moves along; the one whose neighbours are neighbours in memory, if there are several.
  std::optional<size_t> find_channel() const {
    std::optional<size_t> found;
    for (size_t axis = 0; axis < dims_.size(); ++axis) {
      const Dim& coordinate = lowered_.coordinates[axis];
      if (mentions_any(coordinate, shape_.m.loops)) continue;
      const auto loop = only_loop(coordinate, shape_.k);
      if (!loop || !*loop) continue;
      const bool guarded =
          std::any_of(lowered_.guards.begin(), lowered_.guards.end(), [&](const Guard& guard) { return mentions(guard.value, (*loop)->symbol); });
      if (guarded) continue;
      if (!found || strides_[axis] == Dim(1)) found = axis;
    }
    return found;
  }

  std::optional<WindowRowsShape::Axis> spatial(size_t number) const {
    WindowRowsShape::Axis axis;
    axis.input = dims_[number];
    axis.pitch = strides_[number];
    Dim rest = lowered_.coordinates[number];
    const auto position = only_loop(rest, shape_.m), tap = only_loop(rest, shape_.k);
    if (!position || !tap) return std::nullopt;
    const auto take = [&](const Loop& loop, Dim& extent, Dim& step) {
      const auto affine = affine_in(rest, loop.symbol);
      if (!affine || !proven_nonnegative(affine->slope - 1)) return false;
      extent = loop.extent;
      step = affine->slope;
      rest = affine->at_zero;
      return true;
    };
    if (*position && !take(**position, axis.output, axis.stride)) return std::nullopt;
    if (*tap) {
      if (!take(**tap, axis.kernel, axis.dilation)) return std::nullopt;
      axis.taps = (*tap)->symbol;
    }
    if (mentions_any(rest, shape_.nest.loops)) return std::nullopt;
    axis.pad = -rest;
    return axis;
  }

  /// Only being inside the spatial extents is asked for, all of which the kernel checks.
  bool guards_are_known(const WindowRowsShape& windows) const {
    for (Guard guard : lowered_.guards) {
      for (Dim* e : {&guard.value, &guard.low, &guard.high}) *e = e->substitute(dropped_);
      bool known = false;
      for (size_t i = 0; i < windows.axes.size(); ++i) known |= is_inside(guard, coordinates_[i], windows.axes[i].input, shape_.nest.loops);
      if (!known) return false;
    }
    return true;
  }

  /// Whether the result runs over positions in the order of the axes, and every loop has its place.
  bool in_order(const WindowRowsShape& windows) const {
    size_t next = 0, taps = windows.channel.empty() ? 0 : 1;
    for (size_t i = 0; i < windows.axes.size(); ++i) {
      const auto position = only_loop(coordinates_[i], shape_.m);
      if (*position && (next == shape_.m.loops.size() || shape_.m.loops[next++].symbol != (*position)->symbol)) return false;
      taps += windows.axes[i].taps.empty() ? 0 : 1;
    }
    return next == shape_.m.loops.size() && taps == shape_.k.loops.size();
  }

  /// The first axis, if it is no more than a batch of inputs.
  bool move_to_batch(WindowRowsShape& windows) {
    const WindowRowsShape::Axis& axis = windows.axes.front();
    if (!(axis.kernel == Dim(1)) || !(axis.pad == Dim(0)) || shape_.m.loops.size() <= 1 || !mentions(coordinates_[0], shape_.m.loops[0].symbol)) return false;
    if (!proven_nonnegative(axis.input - 1 - axis.stride * (axis.output - 1))) return false;  // padded at its end
    windows.start += coordinates_[0] * axis.pitch;
    shape_.batch.loops.insert(shape_.batch.loops.begin(), shape_.m.loops.front());
    shape_.m.loops.erase(shape_.m.loops.begin());
    windows.axes.erase(windows.axes.begin());
    coordinates_.erase(coordinates_.begin());
    return true;
  }

  ContractShape& shape_;
  Dims dims_, strides_, coordinates_;
  schedule::LoweredMap lowered_;
  std::map<std::string, Dim> dropped_;
};

}  // namespace

int64_t RowsProduct::step(Atom atom) const {
  if (matrix) {
    const auto apart = matrix->outer_stride.as_constant();
    const Address& address = shape.nest.loads[static_cast<size_t>(shape.left.access)];
    return apart && *apart >= 0 && schedule::parts_of(atom) == 1 && address.dtype == left_type(atom, shape.sum) ? *apart : shape.k.extent().constant();
  }
  const WindowRowsShape::Axis& last = windows->axes.back();
  // What lies between neighbours of one position is any number.
  const auto pitch = windows->channel_stride == Dim(1) && !(last.input == Dim(1)) ? last.pitch.as_constant() : std::nullopt;
  return (last.stride * Dim(pitch.value_or(windows->channels.constant()))).constant();
}

int64_t RowsProduct::runs(Atom atom) const {
  if (matrix) return 1;
  Dim lines = 1;
  for (size_t i = 0; i + 1 < windows->axes.size(); ++i) lines *= windows->axes[i].kernel;
  const WindowRowsShape::Axis& last = windows->axes.back();
  const bool one_run = last.dilation == Dim(1) && Dim(step(atom)) == last.stride * windows->channels;
  return (lines * (one_run ? Dim(1) : last.kernel)).constant();
}

DType left_type(Atom atom, DType sum) {
  switch (atom) {
    case Atom::fma:
    case Atom::amx_f32:
    case Atom::amx_tf32:
    case Atom::amx_digits:
    case Atom::fma24: return sum;
    case Atom::dot8:
    case Atom::amx8: return DType::u8;
    case Atom::dot16: return DType::i16;
    case Atom::bf16:
    case Atom::amx_bf16: break;
  }
  return DType::bf16;
}

namespace {

/// Whether a strip's rows have no gaps, whose elements would be split for nothing.
bool are_dense(const RowsProduct& product) {
  if (product.matrix) return true;
  return Dim(product.step(Atom::amx_f32)) == product.windows->axes.back().stride * product.windows->channels;
}

/// Whether tiles multiply the floats by their parts, whatever the rows hold.
bool splits(const RowsProduct& product) {
  const int64_t k = product.shape.k.extent().as_constant().value_or(0);
  if (product.floats == nullptr || k <= 0) return false;
  const auto* const values = product.floats->as<float>();
  return std::all_of(values, values + product.floats->element_count(), [k](float value) { return tile::weight_splits(value, k); });
}

/// Whether tiles may multiply the floats by their digits: sums are of known size, and rows more than one, which would read each weight once.
bool suits_digits(const RowsProduct& product, const Target& target, bool fixed) {
  return target.tile_registers && fixed && are_dense(product) && !(product.matrix && product.shape.m.extent() == Dim(1));
}

}  // namespace

bool waits_for_weights(const RowsProduct& product, const Target& target) {
  constexpr int64_t few_rows = 4;
  const ContractShape& shape = product.shape;
  Dim rows = shape.m.extent(), weights = shape.n.extent() * shape.k.extent();
  const size_t moving = shape.batch.loops.size() - product.weight_groups;
  for (size_t i = 0; i < shape.batch.loops.size(); ++i) (i < moving ? rows : weights) *= shape.batch.loops[i].extent;
  const auto row_count = rows.as_constant(), count = weights.as_constant();
  return row_count && count && *row_count <= few_rows && *count * int64_t{sizeof(float)} >= target.l2_bytes;
}

std::vector<Atom> atoms_of(const RowsProduct& product, const Target& target) {
  const ContractShape& shape = product.shape;
  if (product.depthwise) return {Atom::fma};
  if (product.right_matrix) {
    // All k of a panel stay near the core; tile/kernels/contract.h takes longer sums in pieces.
    constexpr int64_t wide_panel = 4;
    const int64_t panel_bytes = shape.k.extent().constant() * wide_panel * target.vector_bytes;
    return panel_bytes <= target.l2_bytes / 2 ? std::vector{Atom::fma} : std::vector<Atom>{};
  }
  if (product.windows && !product.windows->axes.back().dilation.is_constant() && product.integers) return {};
  std::vector<Atom> atoms;
  if (product.integers) {
    const bool signed_bytes = product.integers->least >= -128 && product.integers->largest <= 127;
    if (target.tile_registers && signed_bytes) atoms.push_back(Atom::amx8);
    if (target.dots_bytes && signed_bytes) atoms.push_back(Atom::dot8);
    if (target.dots_shorts) atoms.push_back(Atom::dot16);
    return atoms;
  }
  atoms.push_back(Atom::fma);
  const auto is_bfloat = [&](const Factor& factor) { return shape.nest.loads[static_cast<size_t>(factor.access)].dtype == DType::bf16; };
  const bool fixed = !product.windows || product.windows->axes.back().dilation.is_constant();
  if (shape.sum == DType::f32 && fixed && is_bfloat(shape.left) && is_bfloat(shape.right)) {
    if (target.bfloat_dots > 0) atoms.insert(target.bfloat_dots > 1 ? atoms.begin() : atoms.end(), Atom::bf16);
    if (target.tile_registers) atoms.insert(atoms.begin(), Atom::amx_bf16);
  }
  if (target.tile_registers && fixed && are_dense(product) && splits(product)) {
    if (product.tf32) atoms.push_back(Atom::amx_tf32);
    atoms.push_back(Atom::amx_f32);
  }
  const int64_t terms = shape.k.extent().as_constant().value_or(0);
  if (product.floats == nullptr || terms <= 0) return atoms;
  // Numbers of columns as uneven as may be err by as much as a chain of 128 multiply-adds and more, which block sums have as well: sums of fewer terms than
  // these would err by more than floats in one chain. Bytes of a weight are moved to their places by shuffles, which machines with short vectors may lack.
  constexpr int64_t least_terms = 512;
  const bool digits = suits_digits(product, target, fixed);
  const bool fewer_bytes = terms >= least_terms && target.vector_bytes >= 32 && waits_for_weights(product, target);
  if ((digits || fewer_bytes) && digits_stand_for_weights(product)) {
    if (digits) atoms.push_back(Atom::amx_digits);
    if (fewer_bytes) atoms.push_back(Atom::fma24);
  }
  return atoms;
}

int64_t RowsProduct::line() const { return (matrix ? shape.m.extent() : windows->axes.back().output).as_constant().value_or(0); }

int64_t RowsProduct::padded_rows(Atom atom) const {
  if (!schedule::on_tiles(atom) || !windows || depthwise || windows->axes.size() != 2) return 0;
  // Digits are made once however lines are long and strides are; strips of parts copy all lines that they touch each, others share copies.
  const bool digits = atom == Atom::amx_digits, shared = schedule::parts_of(atom) == 1;
  for (const WindowRowsShape::Axis& axis : windows->axes)
    if (!axis.stride.is_constant() || !(digits || axis.stride == Dim(1)) || !axis.kernel.is_constant() || !axis.dilation.is_constant() ||
        !axis.output.is_constant())
      return 0;
  if (digits && !(windows->channel_stride == Dim(1))) return 0;
  const WindowRowsShape::Axis &high = windows->axes[0], &wide = windows->axes[1];
  const int64_t longest = digits ? 1 << 20 : shared ? 64 : 48;
  const int64_t beyond = (wide.kernel.constant() - 1) * wide.dilation.constant() / wide.stride.constant(), line = wide.output.constant() + beyond;
  const int64_t rows = high.output.constant() * line - beyond;
  return beyond >= joined_rows || line > longest || rows < joined_rows ? 0 : rows;
}

namespace {

/// One filter a channel: channels of both operands and of the result side by side, images and positions without gaps.
bool find_depthwise(RowsProduct& product, const pattern::Nest& nest, const pattern::Program& program) {
  ContractShape& shape = product.shape;
  const Address& weights = shape.nest.loads[static_cast<size_t>(shape.right.access)];
  const auto channel =
      std::find_if(shape.batch.loops.begin(), shape.batch.loops.end(), [&](const Loop& loop) { return mentions(weights.offset, loop.symbol); });
  if (channel == shape.batch.loops.end() || !channel->extent.is_constant()) return false;
  if (product.integers) {
    // Sums of a few products are exact in f32, whose multiply-adds are faster.
    if (shape.k.extent().constant() * 255 * 255 > int64_t{1} << 24) return false;
    shape.sum = DType::f32;
  } else if (!holds(shape.sum, weights.dtype)) {
    return false;
  }
  shape.n.loops = {*channel};
  shape.batch.loops.erase(channel);
  const Loop& c = shape.n.loops[0];
  if (mentions_any(weights.offset, shape.batch.loops)) return false;
  const auto stored = affine_in(shape.nest.stores.at(0).offset, c.symbol);
  if (!stored || !(stored->slope == Dim(1))) return false;
  const pattern::Access& access = nest.accesses[static_cast<size_t>(shape.left.access)];
  if (!access.indirect.empty() || !pads_with_nothing(shape, shape.left, access)) return false;
  product.windows = WindowFinder(shape, nest, program).find();
  if (!product.windows || !product.windows->channel.empty()) return false;
  WindowRowsShape& windows = *product.windows;
  const auto read = affine_in(windows.start, c.symbol);
  if (!read || !(read->slope == Dim(1))) return false;
  windows.start = read->at_zero;
  windows.channels = c.extent;
  Dim below = c.extent;
  for (size_t i = windows.axes.size(); i-- > 0; below *= windows.axes[i].input) {
    const WindowRowsShape::Axis& axis = windows.axes[i];
    if (!(axis.pitch == below) || !axis.stride.is_constant()) return false;
    if (!axis.taps.empty()) product.k_order.insert(product.k_order.begin(), axis.taps);
  }
  const auto by_image = even_over(windows.start, shape.batch);
  product.depthwise = by_image && (shape.batch.loops.empty() || by_image->slope == below);
  return product.depthwise;
}

/// Floats of both factors as sums have them, or shorter ones.
bool are_floats(const ContractShape& shape) {
  if (!is_float(shape.sum) || shape.left.zero >= 0 || shape.right.zero >= 0) return false;
  const auto holds_all_of = [&](const Factor& factor) { return holds(shape.sum, shape.nest.loads[static_cast<size_t>(factor.access)].dtype); };
  return shape.left.direct && shape.right.direct && holds_all_of(shape.left) && holds_all_of(shape.right);
}

RowsProduct with_bounds(RowsProduct product) {
  for (const LoopGroup* group : {&product.shape.batch, &product.shape.m, &product.shape.n, &product.shape.k})
    product.shape.nest.bounds.of[group->symbol] = {Dim(0), group->extent() - 1};
  return product;
}

/// Whether the loop moves the right operand.
auto moves_right(const ContractShape& shape) {
  return [&right = shape.nest.loads[static_cast<size_t>(shape.right.access)].offset](const Loop& loop) { return mentions(right, loop.symbol); };
}

/// A product of two matrices, neither of them weights: many rows and columns of sums, whose left rows lie side by side.
std::optional<RowsProduct> find_product_of_matrices(const pattern::Nest& nest, const pattern::Program& program) {
  // What fewer ones take tile/kernels/matvec.h is for, or the one panel is hardly used.
  constexpr int64_t least_rows = 9, least_columns = 16;
  std::optional<ContractShape> shape = find_contract(nest, program);
  if (!shape || !are_floats(*shape)) return std::nullopt;
  if (shape->m.extent().as_constant().value_or(0) < least_rows || shape->n.extent().as_constant().value_or(0) < least_columns) return std::nullopt;
  if (shape->k.extent().as_constant().value_or(0) < 1) return std::nullopt;
  RowsProduct product{.shape = std::move(*shape), .matrix = {}, .windows = {}, .right_matrix = {}, .k_order = {}, .integers = {}};
  // Panels that are written serve entries of the batch that follow each other.
  std::stable_partition(product.shape.batch.loops.begin(), product.shape.batch.loops.end(), moves_right(product.shape));
  product.matrix = find_dense(product.shape, product.shape.left, product.shape.m);
  product.right_matrix = find_dense(product.shape, product.shape.right, product.shape.n);
  if (!product.matrix || !(product.matrix->k_stride == Dim(1)) || !product.right_matrix) return std::nullopt;
  return with_bounds(std::move(product));
}

}  // namespace

std::optional<RowsProduct> find_rows_product(const pattern::Nest& nest, const pattern::Program& program) {
  std::optional<ContractShape> shape = find_product(nest, program);
  if (!shape) return std::nullopt;
  if (!are_plain(*shape, shape->right, program)) {
    if (!are_plain(*shape, shape->left, program)) return find_product_of_matrices(nest, program);
    std::swap(shape->left, shape->right);
    std::swap(shape->m.loops, shape->n.loops);
  }
  if (!shape->left.direct) return std::nullopt;
  const std::optional<RowsProduct::Integers> integers = integers_of(*shape, program);
  if (!integers && !are_floats(*shape)) return std::nullopt;

  RowsProduct product{.shape = std::move(*shape), .matrix = {}, .windows = {}, .right_matrix = {}, .k_order = {}, .integers = integers};
  if (integers) product.shape.sum = DType::i32;
  product.floats = float_weights(product.shape, program);
  ContractShape& s = product.shape;
  if (!packs_well(s, program.tensor(s.nest.loads[static_cast<size_t>(s.right.access)].tensor))) return std::nullopt;
  const Address& weights = s.nest.loads[static_cast<size_t>(s.right.access)];
  if (s.n.loops.empty() && mentions_any(weights.offset, s.batch.loops)) {
    if (!find_depthwise(product, nest, program)) return std::nullopt;
    return with_bounds(std::move(product));
  }
  // Loops that do not move the weights first: their panels are counted by the last ones alone.
  const auto moving = std::stable_partition(s.batch.loops.begin(), s.batch.loops.end(), std::not_fn(moves_right(s)));
  product.weight_groups = static_cast<size_t>(s.batch.loops.end() - moving);

  const auto dense = [&] {
    product.matrix = find_dense(s, s.left, s.m);
    if (product.matrix && !(product.matrix->k_stride == Dim(1))) product.matrix.reset();
    return product.matrix.has_value();
  };
  if (!dense()) {
    const pattern::Access& access = nest.accesses[static_cast<size_t>(s.left.access)];
    if (access.indirect.empty() && pads_with_nothing(s, s.left, access)) product.windows = WindowFinder(s, nest, program).find();
    if (product.windows) {
      const WindowRowsShape& windows = *product.windows;
      if (!(windows.channel_stride == Dim(1)) && windows.channels.as_constant().value_or(few_channels + 1) > few_channels) return std::nullopt;
      if (!windows.axes.back().stride.is_constant()) return std::nullopt;
      for (const WindowRowsShape::Axis& axis : windows.axes)
        if (!axis.taps.empty()) product.k_order.push_back(axis.taps);
      if (!windows.channel.empty()) product.k_order.push_back(windows.channel);
    } else {
      while (s.m.loops.size() > 1 && !product.matrix) {
        s.batch.loops.insert(s.batch.loops.begin(), s.m.loops.front());
        s.m.loops.erase(s.m.loops.begin());
        dense();
      }
      if (!product.matrix) return std::nullopt;
    }
  }
  if (product.matrix) {
    // A single column is a sum a row, which the kernel for few rows does better.
    if (s.n.extent().constant() < 4) return std::nullopt;
    for (const Loop& loop : s.k.loops) product.k_order.push_back(loop.symbol);
  }
  return with_bounds(std::move(product));
}

}  // namespace tilewright::cpu
