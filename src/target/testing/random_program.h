#pragma once

#include <random>

#include "pattern/build.h"

/// Small programs of random nests, for checking compiled kernels against the interpreter.
namespace tilewright::testing {

class RandomProgram {
 public:
  explicit RandomProgram(unsigned seed) : random_(seed) {}

  pattern::Program program;
  std::vector<Tensor> inputs;

  /// `steps` patterns, each reading tensors made before; all that nobody reads are outputs.
  void make(int steps) {
    program.name = "random";
    symbolic_ = pick(3) == 0;
    // A few extents that all tensors share, so that they fit together.
    for (int64_t& size : sizes_) size = std::vector<int64_t>{1, 2, 3, 5, 8, 17, 70}[pick(7)];
    const int count = 1 + static_cast<int>(pick(3));
    for (int i = 0; i < count; ++i) add_input();
    for (int i = 0; i < steps; ++i) add_step();
    std::vector<bool> read(program.tensors.size(), false);
    for (const pattern::Pattern& one : program.patterns)
      for (const int id : pattern::reads(one)) read[static_cast<size_t>(id)] = true;
    for (const int id : available_)
      if ((!read[static_cast<size_t>(id)] || pick(5) == 0) && !program.tensors[static_cast<size_t>(id)].constant) program.outputs.push_back(id);
  }

 private:
  using Map = pattern::Map;

  size_t pick(size_t below) { return std::uniform_int_distribution<size_t>(0, below - 1)(random_); }

  Dim dim(size_t which) { return symbolic_ && which == 0 ? Dim::symbol("N") : Dim(sizes_[which]); }

  Dims random_dims() {
    Dims dims;
    const size_t rank = pick(4);
    for (size_t i = 0; i < rank; ++i) dims.push_back(dim(pick(3)));
    return dims;
  }

  std::vector<int64_t> values(const Dims& dims) const {
    std::vector<int64_t> result;
    for (const Dim& d : dims) result.push_back(d.evaluate({{"N", sizes_[0]}}));
    return result;
  }

  Tensor random_tensor(const Dims& dims) {
    Tensor tensor(DType::f32, values(dims));
    for (int64_t i = 0; i < tensor.element_count(); ++i) tensor.set_float(i, std::uniform_real_distribution<double>(-2, 2)(random_));
    return tensor;
  }

  void add_input() {
    Dims dims = random_dims();
    if (dims.empty() || program.inputs.empty()) dims.insert(dims.begin(), dim(0));  // where N comes from
    const bool constant = !program.inputs.empty() && pick(4) == 0 && !symbolic_;
    Tensor tensor = random_tensor(dims);
    const int id = program.add_tensor({DType::f32, dims}, "in" + std::to_string(available_.size()), constant ? std::make_shared<Tensor>(tensor) : nullptr);
    available_.push_back(id);
    if (constant) return;
    program.inputs.push_back(id);
    inputs.push_back(tensor);
  }

  const Dims& dims_of(int id) const { return program.tensor(id).type.dims; }

  /// A load of `id` at every point of `n`'s space: broadcast where it fits, a random window otherwise.
  pattern::Expr read(pattern::NestBuilder& n, int id) {
    const Dims& dims = dims_of(id);
    Map::Extents extents;
    for (const Dim& d : n.space()) extents.push_back(d);
    // Each axis follows a coordinate of the same extent, or is read with padding from one of another.
    Map map = Map::identity(std::span<const Dim>(dims));
    std::vector<int> from;
    std::optional<pattern::Expr> fill;
    Map view = Map::identity(std::span<const Dim>(n.space()));
    std::vector<pattern::Expr> coordinates;
    for (const Dim& d : dims) {
      std::vector<int> fits;
      for (size_t c = 0; c < n.space().size(); ++c)
        if (n.space()[c] == d) fits.push_back(static_cast<int>(c));
      if (!fits.empty() && pick(4) != 0) {
        coordinates.push_back(n.index(fits[pick(fits.size())]));
      } else if (!n.space().empty()) {
        pattern::Expr i = n.index(static_cast<int>(pick(n.space().size())));
        if (pick(2) == 0) i = n.binary(pattern::ExprOp::sub, i, n.constant_int(DType::i64, 1));
        coordinates.push_back(i);
      } else {
        coordinates.push_back(n.constant_int(DType::i64, 0));
      }
    }
    if (pick(2) == 0) fill = n.constant(DType::f32, 0.5);
    return n.load_at(id, program.tensor(id).type, coordinates, fill);
  }

  /// A view of a tensor by coordinate maps alone, with the dims it has.
  void add_movement() {
    const int id = available_[pick(available_.size())];
    Map map = Map::identity(std::span<const Dim>(dims_of(id)));
    bool padded = false;
    for (size_t k = 0; k < 1 + pick(2); ++k) {
      const int rank = map.rank_in();
      if (rank == 0) map = map.inserted(0, dim(pick(3)));
      const int axis = rank == 0 ? 0 : static_cast<int>(pick(static_cast<size_t>(map.rank_in())));
      switch (pick(7)) {
        case 0: {
          std::vector<int> order(static_cast<size_t>(map.rank_in()));
          for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
          std::shuffle(order.begin(), order.end(), random_);
          map = map.transposed(std::span<const int>(order));
          break;
        }
        case 1: map = map.reversed(axis); break;
        case 2: map = map.padded(axis, Dim(1), Dim(static_cast<int64_t>(pick(2)))), padded = true; break;
        case 3: map = map.inserted(axis, dim(pick(3))); break;
        case 4: {
          Dim all = 1;
          for (int d = 0; d < map.rank_in(); ++d) all *= map.extent_in(d);
          map = map.reshaped({all});
          break;
        }
        case 5:
          if (const auto extent = map.extent_in(axis).as_constant(); extent && *extent > 2) map = map.sliced(axis, 1, 2, (*extent - 1) / 2);
          break;
        default:
          if (const auto extent = map.extent_in(axis).as_constant(); extent && *extent > 1) map = map.modulo(axis, Dim(*extent + 3), Dim(1));
          break;
      }
    }
    Dims dims;
    for (int d = 0; d < map.rank_in(); ++d) dims.push_back(map.extent_in(d));
    pattern::NestBuilder n(dims);
    std::optional<pattern::Expr> fill;
    if (padded) fill = n.constant(DType::f32, -1.5);
    pattern::Expr value = n.load(id, DType::f32, map, {}, fill);
    store(n, value, dims);
  }

  void store(pattern::NestBuilder& n, pattern::Expr value, const Dims& dims) {
    const int id = program.add_tensor({value.dtype(), dims}, "t" + std::to_string(program.tensors.size()));
    n.store(id, value);
    program.patterns.push_back(n.finish("step " + std::to_string(program.patterns.size())));
    available_.push_back(id);
  }

  pattern::Expr combine(pattern::NestBuilder& n, pattern::Expr a, pattern::Expr b) {
    using pattern::ExprOp;
    switch (pick(9)) {
      case 0: return a + b;
      case 1: return a - b;
      case 2: return a * 0.5 + b;
      case 3: return n.binary(ExprOp::max, a, b);
      case 4: return n.unary(ExprOp::tanh, a) + b;
      case 5: return n.select(n.binary(ExprOp::less, a, n.constant(DType::f32, 0)), b, a);
      case 6: return n.unary(ExprOp::sigmoid, a * b);
      case 7: return n.unary(ExprOp::exp, n.binary(ExprOp::min, a, n.constant(DType::f32, 1.0))) * 0.25 + b;
      default: return a * b * 0.5;
    }
  }

  void add_map() {
    const Dims dims = pick(3) != 0 ? dims_of(available_[pick(available_.size())]) : random_dims();
    pattern::NestBuilder n(dims);
    pattern::Expr value = read(n, available_[pick(available_.size())]);
    for (size_t i = 0; i < pick(3); ++i) value = combine(n, value, read(n, available_[pick(available_.size())]));
    store(n, value, dims);
  }

  void add_reduce() {
    using pattern::ReduceOp;
    Dims space = dims_of(available_[pick(available_.size())]);
    if (space.empty()) space.push_back(dim(0));
    const int reduced = 1 + static_cast<int>(pick(std::min<size_t>(space.size(), 2)));
    pattern::NestBuilder n(space, reduced);
    pattern::Expr value = read(n, available_[pick(available_.size())]);
    if (pick(2) == 0) value = combine(n, value, read(n, available_[pick(available_.size())]));
    const ReduceOp op = std::vector<ReduceOp>{ReduceOp::sum, ReduceOp::max, ReduceOp::min, ReduceOp::sum}[pick(4)];
    pattern::Expr result = n.reduce(op, value, DType::f32);
    if (op == ReduceOp::sum) result = result * 0.25;
    if (pick(3) == 0) {
      const pattern::Expr other = n.reduce(ReduceOp::max, value, DType::f32);
      result = n.binary(pattern::ExprOp::min, result, n.constant(DType::f32, 50)) + n.binary(pattern::ExprOp::max, other, n.constant(DType::f32, -50));
    }
    result = n.binary(pattern::ExprOp::max, n.binary(pattern::ExprOp::min, result, n.constant(DType::f32, 100)), n.constant(DType::f32, -100));
    store(n, result, n.kept());
  }

  void add_product() {
    const Dim m = dim(pick(3)), k = dim(pick(3)), c = dim(pick(3));
    std::vector<int> fits;
    const int a = find_or_make({m, k}), b = find_or_make({k, c});
    pattern::NestBuilder n({m, c, k}, 1);
    const pattern::Expr x = n.load(a, DType::f32, Map::identity({m, k}).inserted(1, c)),
                        w = n.load(b, DType::f32, Map::identity({k, c}).transposed({1, 0}).inserted(0, m));
    pattern::Expr sum = n.reduce(pattern::ReduceOp::sum, x * w, DType::f32) * 0.25;
    store(n, n.unary(pattern::ExprOp::tanh, sum), {m, c});
  }

  int find_or_make(const Dims& dims) {
    for (const int id : available_)
      if (dims_of(id) == dims) return id;
    const int source = available_[pick(available_.size())];
    pattern::NestBuilder n(dims);
    store(n, read(n, source), dims);
    return available_.back();
  }

  /// Two tensors side by side along a new leading axis, each written by a nest of its own.
  void add_concat() {
    const int a = available_[pick(available_.size())];
    const Dims dims = dims_of(a);
    Dims joined = dims;
    joined.insert(joined.begin(), Dim(2));
    const int id = program.add_tensor({DType::f32, joined}, "joined" + std::to_string(program.tensors.size()));
    for (int part = 0; part < 2; ++part) {
      pattern::NestBuilder n(dims);
      const int source = part == 0 ? a : available_[pick(available_.size())];
      pattern::Expr value = part == 0 ? n.load(source, DType::f32, Map::identity(std::span<const Dim>(dims))) : read(n, source);
      n.store(id, Map::identity(std::span<const Dim>(joined)).frozen(0, part), value);
      program.patterns.push_back(n.finish("concat part " + std::to_string(part)));
    }
    available_.push_back(id);
  }

  void add_step() {
    switch (pick(8)) {
      case 0:
      case 1: return add_movement();
      case 2:
      case 3: return add_reduce();
      case 4: return add_product();
      case 5: return add_concat();
      default: return add_map();
    }
  }

  std::mt19937 random_;
  bool symbolic_ = false;
  int64_t sizes_[3] = {};
  std::vector<int> available_;
};

}  // namespace tilewright::testing
