#include <algorithm>
#include <cmath>
#include <set>

#include "schedule/fuse.h"
#include "schedule/linear.h"
#include "schedule/rewrite.h"
#include "schedule/uses.h"

namespace tilewright::schedule {
namespace {

using pattern::NestKind;
using pattern::Pattern;
using pattern::Scatter;

/// Beyond these a nest's code grows faster than what it saves.
constexpr size_t node_limit = 160, access_limit = 24;
constexpr int transform_limit = 10, condition_limit = 8;

size_t at(int i) { return static_cast<size_t>(i); }

/// Rough number of vector operations of a node, an element.
int cost_of(ExprOp op) {
  switch (op) {
    case ExprOp::constant:
    case ExprOp::index:
    case ExprOp::size:
    case ExprOp::load: return 0;
    case ExprOp::div: return 4;
    case ExprOp::sqrt: return 6;
    case ExprOp::neg:
    case ExprOp::abs:
    case ExprOp::sign:
    case ExprOp::floor:
    case ExprOp::ceil:
    case ExprOp::round_even:
    case ExprOp::trunc:
    case ExprOp::add:
    case ExprOp::sub:
    case ExprOp::mul:
    case ExprOp::min:
    case ExprOp::max:
    case ExprOp::select:
    case ExprOp::logical_not:
    case ExprOp::bit_not:
    case ExprOp::bit_and:
    case ExprOp::bit_or:
    case ExprOp::bit_xor:
    case ExprOp::logical_and:
    case ExprOp::logical_or:
    case ExprOp::logical_xor:
    case ExprOp::equal:
    case ExprOp::less:
    case ExprOp::less_equal:
    case ExprOp::cast:
    case ExprOp::cast_wrap:
    case ExprOp::bitcast:
    case ExprOp::is_nan:
    case ExprOp::is_inf: return 1;
    default: return 12;
  }
}

/// A Map that may be computed where it is read.
struct Producer {
  const Nest* nest = nullptr;
  Map from_tensor;  ///< the tensor's coordinates -> the nest's space
  TensorId tensor = -1;
  ExprId value = -1;
  bool movement = false;  ///< nothing but a load
  bool gathers = false;
  bool widens_bytes = false;       ///< a conversion of one 8-bit tensor, less a scalar
  bool pads_bytes = false;         ///< what reads such bytes may pad them with their zero point
  bool follows_reduction = false;  ///< may become the epilogue of what it reads
  int cost = 0;
};

/// Coordinates of the space that the access's address depends on.
std::vector<bool> coordinates_used(const Map& map, size_t rank) {
  std::vector<bool> used(map.rank_in() + map.transforms().size(), false);
  for (const int slot : map.outputs()) used[at(slot)] = true;
  for (const auto& condition : map.conditions()) used[at(condition.slot)] = true;
  for (int i = map.transforms().size(); i-- > 0;) {
    if (!used[at(map.rank_in() + i)]) continue;
    const auto& t = map.transforms()[i];
    if (t.kind == tile::TransformKind::affine) {
      for (int k = 0; k < t.term_count; ++k) used[at(map.terms()[t.first_term + k].slot)] = true;
    } else {
      used[at(t.a)] = true;
      if (t.kind == tile::TransformKind::swizzle) used[at(t.b)] = true;
    }
  }
  used.resize(rank);
  return used;
}

/// Whether the needed nodes are the same at every point of the nest's space.
bool is_scalar(const std::vector<bool>& needed, const Nest& nest) {
  for (size_t i = 0; i < needed.size(); ++i) {
    if (!needed[i]) continue;
    if (nest.nodes[i].op == ExprOp::index) return false;
    if (nest.nodes[i].op != ExprOp::load) continue;
    for (const bool used : coordinates_used(nest.accesses[at(static_cast<int>(nest.nodes[i].integer))].map, nest.space.size()))
      if (used) return false;
  }
  return true;
}

/// `to_floats`: the conversion may end in f32.
bool widens_bytes(const Nest& nest, ExprId value, bool to_floats) {
  const ExprNode* node = &nest.nodes[at(value)];
  if (to_floats && node->op == ExprOp::cast && node->dtype == DType::f32) {
    const ExprNode& below = nest.nodes[at(node->args[0])];
    if ((below.op == ExprOp::sub || below.op == ExprOp::cast) && is_integer(below.dtype) && size_of(below.dtype) >= 4) node = &below;
  } else if (!is_integer(node->dtype)) {
    return false;
  }
  if (node->op == ExprOp::sub) {
    if (!is_scalar(needed_by(nest.nodes, nest.accesses, {node->args[1]}), nest)) return false;
    node = &nest.nodes[at(node->args[0])];
  }
  if (node->op != ExprOp::cast) return false;
  const ExprNode& load = nest.nodes[at(node->args[0])];
  return load.op == ExprOp::load && size_of(load.dtype) == 1 && is_integer(load.dtype);
}

std::optional<Producer> as_producer(const Pattern& pattern, const Program& program, bool of_bytes) {
  const auto* nest = std::get_if<Nest>(&pattern);
  if (!nest || nest->reduced_rank > 0 || !nest->reductions.empty() || nest->outputs.size() != 1) return std::nullopt;
  const pattern::Store& store = nest->outputs[0];
  const Dims& dims = program.tensor(store.tensor).type.dims;
  Producer producer;
  producer.nest = nest;
  producer.tensor = store.tensor;
  producer.value = store.value;
  if (is_identity(store.map, dims)) {
    producer.from_tensor = store.map;
  } else {
    const auto back = store.map.inverted();
    if (!back || extents_of(*back) != dims) return std::nullopt;
    producer.from_tensor = *back;
  }
  const ExprNode& value = nest->nodes[at(store.value)];
  producer.movement = value.op == ExprOp::load;
  for (const Access& access : nest->accesses) producer.gathers |= !access.indirect.empty();
  producer.widens_bytes = widens_bytes(*nest, store.value, of_bytes);
  producer.pads_bytes = of_bytes;
  const std::vector<bool> needed = needed_by(nest->nodes, nest->accesses, {store.value});
  for (size_t i = 0; i < needed.size(); ++i)
    if (needed[i]) producer.cost += cost_of(nest->nodes[i].op);
  return producer;
}

/// Whether the map reads, element by element, the only result of a reduction or contraction that nobody else reads.
bool follows_reduction(const Nest& nest, const Program& program, const Uses& uses) {
  for (const Access& access : nest.accesses) {
    if (!access.indirect.empty() || access.map.may_be_invalid() || uses.readers_of(access.tensor).size() != 1 || uses.writers_of(access.tensor).size() != 1)
      continue;
    const auto* source = std::get_if<Nest>(&program.patterns[at(uses.writers_of(access.tensor)[0])]);
    if (!source || source->reductions.empty()) continue;
    if (product(nest.space) == product(program.tensor(access.tensor).type.dims) && access.map.inverted()) return true;
  }
  return false;
}

bool same_constant(const ExprNode& a, const ExprNode& b) {
  return a.op == ExprOp::constant && b.op == ExprOp::constant && a.real == b.real && a.integer == b.integer && a.dtype == b.dtype;
}

/// The reader's expressions with every load of the producer's tensor replaced by the producer's own.
class Inliner {
 public:
  Inliner(const Producer& producer, NestWriter& writer) : producer_(producer), writer_(writer) {}

  /// Copies the reader's nodes; nullopt when the result would be worse: refusal() says why.
  std::optional<std::vector<ExprId>> copy(const std::vector<ExprNode>& nodes, const std::vector<Access>& accesses, const std::vector<ExprId>& roots,
                                          bool movement_alone) {
    std::vector<ExprId> copied(nodes.size(), -1);
    const std::vector<bool> needed = needed_by(nodes, accesses, roots);
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (!needed[i]) continue;
      ExprNode node = nodes[i];
      for (ExprId& arg : node.args) arg = copied[at(arg)];
      if (node.op != ExprOp::load) {
        copied[i] = writer_.add(std::move(node));
        continue;
      }
      Access access = accesses[at(static_cast<int>(node.integer))];
      for (ExprId& id : access.indirect) id = copied[at(id)];
      if (access.fill) access.fill = copied[at(*access.fill)];
      if (access.tensor != producer_.tensor) {
        copied[i] = writer_.load(std::move(access), node.dtype);
        continue;
      }
      const std::optional<ExprId> value = inlined(access, movement_alone);
      if (!value) {
        refusal_ = "a product pads it";
        return std::nullopt;
      }
      copied[i] = *value;
    }
    bool small = writer_.nest.nodes.size() <= node_limit && writer_.nest.accesses.size() <= access_limit;
    for (const Access& access : writer_.nest.accesses)
      small = small && access.map.transforms().size() <= transform_limit && access.map.conditions().size() <= condition_limit;
    if (small) return copied;
    refusal_ = "the kernel that reads it would become too large";
    return std::nullopt;
  }

  const char* refusal() const { return refusal_; }

 private:
  std::optional<ExprId> inlined(const Access& access, bool movement_alone) {
    const Nest& nest = *producer_.nest;
    const SpaceView view{compose(access.map, producer_.from_tensor), access.indirect, !access.fill.has_value()};
    const bool may_be_invalid = view.map.may_be_invalid() || (!view.clamps && !view.indirect.empty());
    if (may_be_invalid && producer_.movement) {
      // Movement of movement is one access, when both pad with the same value or only the outer one pads.
      const Access& inner = nest.accesses[at(static_cast<int>(nest.nodes[at(producer_.value)].integer))];
      const bool inner_pads = inner.fill.has_value();
      const bool agree = inner_pads && same_constant(nest.nodes[at(*inner.fill)], writer_.node(*access.fill));
      if ((!inner_pads && inner.indirect.empty()) || (agree && inner.indirect.empty())) {
        Access joined;
        joined.tensor = inner.tensor;
        joined.map = compose(view.map, inner.map);
        joined.indirect = access.indirect;
        joined.fill = access.fill;
        return writer_.load(std::move(joined), nest.nodes[at(producer_.value)].dtype);
      }
    }
    if (may_be_invalid && producer_.widens_bytes && producer_.pads_bytes) return padded_bytes(access, view);
    if (may_be_invalid && movement_alone) return std::nullopt;
    const std::vector<ExprId> copied = writer_.copy(nest.nodes, nest.accesses, {producer_.value}, view);
    const ExprId value = copied[at(producer_.value)];
    if (!may_be_invalid) return value;
    const std::optional<ExprId> valid = writer_.validity(view);
    return valid ? writer_.select(*valid, value, *access.fill) : value;
  }

  /// Zeros around widened bytes are the zero point around the bytes.
  std::optional<ExprId> padded_bytes(const Access& access, const SpaceView& view) {
    const Nest& nest = *producer_.nest;
    const ExprNode& fill = writer_.node(*access.fill);
    if (fill.op != ExprOp::constant || fill.real != 0 || fill.integer != 0 || !view.indirect.empty()) return std::nullopt;
    std::vector<ExprId> chain;  // what is done to the element, the last first
    int64_t zero = 0;
    ExprId id = producer_.value;
    for (; nest.nodes[at(id)].op != ExprOp::load; id = nest.nodes[at(id)].args[0]) {
      chain.push_back(id);
      if (nest.nodes[at(id)].op != ExprOp::sub) continue;
      const ExprNode& subtracted = nest.nodes[at(nest.nodes[at(id)].args[1])];
      if (subtracted.op != ExprOp::constant) return std::nullopt;
      zero = subtracted.integer;
    }
    const ExprNode& load = nest.nodes[at(id)];
    const Access& inner = nest.accesses[at(static_cast<int>(load.integer))];
    const bool is_signed_byte = is_signed(load.dtype);
    if (inner.fill || !inner.indirect.empty() || zero < (is_signed_byte ? -128 : 0) || zero > (is_signed_byte ? 127 : 255)) return std::nullopt;
    Access joined;
    joined.tensor = inner.tensor;
    joined.map = compose(view.map, inner.map);
    joined.fill = writer_.constant(load.dtype, 0, zero);
    ExprId value = writer_.load(std::move(joined), load.dtype);
    for (size_t i = chain.size(); i-- > 0;) {
      ExprNode node = nest.nodes[at(chain[i])];
      if (node.op == ExprOp::sub) node.args[1] = writer_.add(ExprNode(nest.nodes[at(node.args[1])]));
      node.args[0] = value;
      value = writer_.add(std::move(node));
    }
    return value;
  }

  const Producer& producer_;
  NestWriter& writer_;
  const char* refusal_ = nullptr;
};

/// Whether some lower coordinate moves with coordinate `d` alone.
bool moves_alone(const Map& map, int d) {
  for (const int slot : map.outputs()) {
    if (slot == d) return true;
    if (slot < map.rank_in()) continue;
    const auto& t = map.transforms()[slot - map.rank_in()];
    if (t.kind == tile::TransformKind::affine && t.term_count == 1 && map.terms()[t.first_term].slot == d) return true;
  }
  return false;
}

/// Whether reading through `access` at every point of `space` meets each element of the producer at most once.
bool reads_once(const Access& access, const Dims& space, const Producer& producer) {
  if (!access.indirect.empty()) return proven_nonnegative(product(producer.nest->space) - product(space));
  const std::vector<bool> used = coordinates_used(access.map, space.size());
  bool apart = true;
  for (size_t d = 0; d < space.size(); ++d) {
    if (space[d] == Dim(1)) continue;
    if (!used[d]) return false;
    apart = apart && moves_alone(access.map, static_cast<int>(d));
  }
  return apart || proven_nonnegative(product(producer.nest->space) - product(space));
}

/// Whether each element is met at many points of `space`, or at as many as only a run knows.
bool reads_often(const Access& access, const Dims& space) {
  constexpr int64_t often = 8;
  const std::vector<bool> used = coordinates_used(access.map, space.size());
  int64_t times = 1;
  for (size_t d = 0; d < space.size(); ++d) {
    if (used[d]) continue;
    if (!space[d].is_constant()) return true;
    times *= space[d].constant();
    if (times >= often) return true;
  }
  return false;
}

/// Why `producer` should not be computed inside `nest`, which reads it; null: it should.
const char* refusal(const Nest& nest, const Producer& producer, bool only_reader) {
  const NestKind kind = pattern::classify(nest);
  std::vector<ExprId> reduced_roots;
  for (const pattern::Reduction& reduction : nest.reductions) reduced_roots.push_back(reduction.value);
  const std::vector<bool> reduced = needed_by(nest.nodes, nest.accesses, reduced_roots);
  const Dims kept(nest.space.begin(), nest.space.end() - nest.reduced_rank);
  int reads = 0;
  for (size_t i = 0; i < nest.nodes.size(); ++i) {
    if (nest.nodes[i].op != ExprOp::load) continue;
    const Access& access = nest.accesses[at(static_cast<int>(nest.nodes[i].integer))];
    if (access.tensor != producer.tensor) continue;
    ++reads;
    if (kind == NestKind::contract && reduced[i]) {
      if (!producer.movement && !producer.widens_bytes) return "a product reads it, once for each of its rows or columns";
      if (producer.gathers || !access.indirect.empty()) return "a product reads it where data say";
      continue;
    }
    const Dims& space = reduced[i] ? nest.space : kept;
    if (producer.movement && producer.gathers && reads_often(access, space)) return "what it gathers is read many times";
    if (producer.movement) continue;
    const bool once = reads_once(access, space, producer);
    if (producer.follows_reduction && (!once || !nest.reductions.empty())) return "it may be computed with the sums that it is made of";
    // Widened bytes that some product reads as bytes are cheap to widen again.
    if (once && (only_reader || producer.cost <= 2 || (producer.widens_bytes && producer.pads_bytes))) continue;
    if (producer.cost > (reduced[i] ? 1 : 2)) return "its arithmetic would be done several times";
  }
  return reads <= 4 || producer.movement ? nullptr : "it is read in more than four ways";
}

/// For each lower coordinate of the access: which kinds of the space's coordinates move it.
struct Moves {
  bool kept = false, reduced = false;
};
std::vector<Moves> moves_of(const Access& access, const Nest& nest) {
  const LoweredMap lowered = lower_map(access.map, coordinates_of(nest.space), space_bounds(nest.space));
  std::vector<Moves> all;
  for (const Dim& coordinate : lowered.coordinates) {
    Moves moves;
    for (size_t d = 0; d < nest.space.size(); ++d)
      if (!(nest.space[d] == Dim(1)) && mentions(coordinate, coordinate_symbol(static_cast<int>(d))))
        (d + static_cast<size_t>(nest.reduced_rank) < nest.space.size() ? moves.kept : moves.reduced) = true;
    all.push_back(moves);
  }
  return all;
}

/// Windows of a convolution that kernels can walk over: spatial coordinates last, the channel before them; or no windows.
bool walks_windows(const Access& access, const Nest& nest) {
  if (!access.indirect.empty()) return true;
  bool window = false;
  for (const Moves& moves : moves_of(access, nest)) {
    if (window && moves.reduced && !moves.kept) return false;
    window |= moves.reduced && moves.kept;
  }
  return true;
}

/// Whether the address of `access` is uneven only over kept coordinates that both factors of the product read, so that kernels compute it
/// once a matrix: keys that several heads share lie so.
bool uneven_between_matrices(const Access& access, const Nest& nest) {
  if (!access.indirect.empty()) return false;
  const ExprNode& product = nest.nodes[at(nest.reductions[0].value)];
  std::vector<int> factors_using(nest.space.size(), 0);
  for (const ExprId factor : product.args) {
    std::vector<bool> used(nest.space.size(), false);
    const std::vector<bool> needed = needed_by(nest.nodes, nest.accesses, {factor});
    for (size_t i = 0; i < nest.nodes.size(); ++i) {
      if (!needed[i] || nest.nodes[i].op != ExprOp::load) continue;
      const std::vector<bool> by_load = coordinates_used(nest.accesses[at(static_cast<int>(nest.nodes[i].integer))].map, nest.space.size());
      for (size_t d = 0; d < used.size(); ++d) used[d] = used[d] || by_load[d];
    }
    for (size_t d = 0; d < used.size(); ++d) factors_using[d] += used[d];
  }
  const LoweredMap lowered = lower_map(access.map, coordinates_of(nest.space), space_bounds(nest.space));
  const size_t kept = nest.space.size() - at(nest.reduced_rank);
  for (const Dim& coordinate : lowered.coordinates)
    for (size_t d = 0; d < nest.space.size(); ++d)
      if ((d >= kept || factors_using[d] < 2) && !affine_in(coordinate, coordinate_symbol(static_cast<int>(d)))) return false;
  return true;
}

/// `why`: set where there is none.
std::optional<Pattern> with_inlined(const Pattern& reader, const Producer& producer, bool only_reader, const char*& why) {
  if (const auto* nest = std::get_if<Nest>(&reader)) {
    why = refusal(*nest, producer, only_reader);
    if (why != nullptr) return std::nullopt;
    const bool contract = pattern::classify(*nest) == NestKind::contract;
    NestWriter writer(nest->space, nest->reduced_rank);
    writer.nest.source = nest->source;
    std::vector<ExprId> roots;
    for (const pattern::Reduction& reduction : nest->reductions) roots.push_back(reduction.value);
    for (const pattern::Store& store : nest->outputs) roots.push_back(store.value);
    Inliner inliner(producer, writer);
    const auto copied = inliner.copy(nest->nodes, nest->accesses, roots, contract);
    why = inliner.refusal();
    if (!copied) return std::nullopt;
    const auto walks = [](const Nest& one) {
      return std::all_of(one.accesses.begin(), one.accesses.end(), [&](const Access& access) { return walks_windows(access, one); });
    };
    // Products of bytes take windows of any layout.
    const bool bytes = producer.widens_bytes && producer.pads_bytes;
    why = "the windows of the convolution that reads it would lie where its kernels cannot walk";
    if (contract && !bytes && walks(*nest) && !walks(writer.nest)) return std::nullopt;
    why = "rows of the product that reads it would lie unevenly";
    writer.nest.reductions = nest->reductions;
    for (pattern::Reduction& reduction : writer.nest.reductions) reduction.value = (*copied)[at(reduction.value)];
    if (contract)
      for (const Access& access : writer.nest.accesses)
        if (!is_affine(access.map) && !uneven_between_matrices(access, writer.nest) &&
            !std::any_of(nest->accesses.begin(), nest->accesses.end(), [&](const Access& old) { return !is_affine(old.map); }))
          return std::nullopt;
    writer.nest.outputs = nest->outputs;
    for (pattern::Store& store : writer.nest.outputs) store.value = (*copied)[at(store.value)];
    return Pattern(compacted(writer.nest));
  }
  if (const auto* scatter = std::get_if<Scatter>(&reader)) {
    why = "a scatter begins with it, or would repeat its arithmetic";
    if (scatter->initial == producer.tensor || (!producer.movement && producer.cost > 12)) return std::nullopt;
    NestWriter writer(scatter->space, 0);
    std::vector<ExprId> roots = scatter->indirect;
    roots.push_back(scatter->value);
    Inliner inliner(producer, writer);
    const auto copied = inliner.copy(scatter->nodes, scatter->accesses, roots, false);
    why = inliner.refusal();
    if (!copied) return std::nullopt;
    Scatter result = *scatter;
    result.nodes = std::move(writer.nest.nodes);
    result.accesses = std::move(writer.nest.accesses);
    for (ExprId& id : result.indirect) id = (*copied)[at(id)];
    result.value = (*copied)[at(result.value)];
    return Pattern(std::move(result));
  }
  why = "what reads it takes whole tensors";
  return std::nullopt;
}

bool is_map(const Pattern& pattern) {
  const auto* nest = std::get_if<Nest>(&pattern);
  return nest && nest->reductions.empty();
}

/// Whether the pattern does no more than widen bytes, so that products that read it may read the bytes.
bool only_widens(const Pattern& pattern) {
  const auto* nest = std::get_if<Nest>(&pattern);
  return nest && nest->reductions.empty() && nest->outputs.size() == 1 && widens_bytes(*nest, nest->outputs[0].value, true);
}

/// Whether every element is a whole number no larger than the difference of two bytes.
bool is_of_bytes(const Tensor& tensor) {
  if (size_of(tensor.dtype()) == 1 && is_integer(tensor.dtype())) return true;
  if (!is_integer(tensor.dtype()) && tensor.dtype() != DType::f32) return false;
  for (int64_t i = 0; i < tensor.element_count(); ++i) {
    const double value = tensor.float_at(i);
    if (!(std::abs(value) <= 255) || value != std::floor(value)) return false;
  }
  return true;
}

/// Whether a product that reads what widens bytes is one of bytes with weights that are whole numbers, so that kernels compute it in integers,
/// whatever its windows; others are better off with floats in memory.
bool multiplies_bytes(const Nest& nest, const Program& program, const Uses& uses) {
  constexpr int64_t longest = (int64_t{1} << 31) / (255 * 255);
  int64_t k = 1;
  for (size_t d = nest.space.size() - at(nest.reduced_rank); d < nest.space.size(); ++d) k *= std::min(nest.space[d].as_constant().value_or(longest), longest);
  if (k >= longest) return false;
  const std::vector<bool> reduced = needed_by(nest.nodes, nest.accesses, {nest.reductions[0].value});
  std::set<TensorId> weights, bytes;
  for (size_t i = 0; i < nest.nodes.size(); ++i) {
    if (!reduced[i] || nest.nodes[i].op != ExprOp::load) continue;
    TensorId id = nest.accesses[at(static_cast<int>(nest.nodes[i].integer))].tensor;
    if (product(program.tensor(id).type.dims) == Dim(1)) continue;  // a zero point
    if (uses.writers_of(id).size() == 1 && only_widens(program.patterns[at(uses.writers_of(id)[0])])) {
      const auto& widening = std::get<Nest>(program.patterns[at(uses.writers_of(id)[0])]);
      for (const Access& access : widening.accesses)
        if (product(program.tensor(access.tensor).type.dims) == product(widening.space)) id = access.tensor;
    }
    const pattern::TensorInfo& info = program.tensor(id);
    if (info.constant && is_of_bytes(*info.constant))
      weights.insert(id);
    else if (!info.constant && size_of(info.type.dtype) == 1 && is_integer(info.type.dtype))
      bytes.insert(id);
    else
      return false;
  }
  return weights.size() == 1 && bytes.size() == 1;
}

/// `among_maps`: arithmetic moves only where all readers are maps, and, `of_bytes`, have not to stay apart from it.
void fuse_backwards(Program& program, bool among_maps, bool of_bytes, Refusals* refusals) {
  // Last producers first: a reader has then taken in all that it will, and its own readers can take the whole.
  for (size_t i = program.patterns.size(); i-- > 0;) {
    std::optional<Producer> producer = as_producer(program.patterns[i], program, of_bytes);
    if (!producer) continue;
    const Uses uses(program);
    if (uses.is_result(producer->tensor) || uses.writers_of(producer->tensor).size() != 1) continue;
    const std::vector<int>& readers = uses.readers_of(producer->tensor);
    if (among_maps && !producer->movement && !std::all_of(readers.begin(), readers.end(), [&](int reader) { return is_map(program.patterns[at(reader)]); }))
      continue;
    if (among_maps && of_bytes && !producer->movement &&
        std::any_of(readers.begin(), readers.end(), [&](int reader) { return only_widens(program.patterns[at(reader)]); }))
      continue;
    producer->follows_reduction = !producer->movement && follows_reduction(*producer->nest, program, uses);
    std::vector<std::optional<Pattern>> fused;
    bool all = true;
    const auto note = [&](const Pattern& reader, const char* why) {
      if (refusals && !among_maps) refusals->note(producer->tensor, "fuse_maps", why, reader);
    };
    const bool to_floats = producer->widens_bytes && is_float(producer->nest->nodes[at(producer->value)].dtype);
    for (const int reader : readers) {
      const Pattern& pattern = program.patterns[at(reader)];
      const auto* nest = std::get_if<Nest>(&pattern);
      const bool other_product = producer->widens_bytes && nest && pattern::classify(*nest) == NestKind::contract && !multiplies_bytes(*nest, program, uses);
      Producer inlined = *producer;
      inlined.pads_bytes = producer->pads_bytes && !other_product;
      const char* why = "a product of floats reads it, made from bytes";
      fused.push_back(to_floats && other_product ? std::nullopt : with_inlined(pattern, inlined, readers.size() == 1, why));
      all = all && fused.back().has_value();
      if (!fused.back()) note(pattern, why);
    }
    // A view costs nothing when it stays; anything else goes only if it disappears.
    if (!all && !(producer->movement && !producer->gathers)) continue;
    const std::string source = producer->nest->source;
    const bool movement = producer->movement;
    for (size_t k = 0; k < readers.size(); ++k) {
      if (!fused[k]) continue;
      Pattern& reader = program.patterns[at(readers[k])];
      reader = std::move(*fused[k]);
      if (!movement) std::visit([&](auto& one) { one.source = joined_sources(source, one.source); }, reader);
    }
  }
  remove_dead(program);
}

}  // namespace

void fuse_maps(Program& program, bool of_bytes, Refusals* refusals) {
  // Chains of maps become one before the question comes up whether it is some reduction's epilogue.
  fuse_backwards(program, true, of_bytes, refusals);
  fuse_backwards(program, false, of_bytes, refusals);
}

}  // namespace tilewright::schedule
