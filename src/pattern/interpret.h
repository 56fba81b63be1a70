#pragma once

#include <map>
#include <string>
#include <vector>

#include "pattern/interpreter.h"

/// What the interpreter's files share.
namespace tilewright::pattern {

/// A tensor while it is interpreted: floats as float64, everything else as int64.
struct Array {
  DType dtype = DType::f32;
  std::vector<int64_t> dims;
  std::vector<double> reals;
  std::vector<int64_t> integers;

  bool real() const { return is_float(dtype); }
  int64_t count() const;
};
Array to_array(const Tensor& tensor);
Tensor to_tensor(const Array& array, DType dtype);

using Sizes = std::map<std::string, int64_t>;

/// One program being run.
class Machine {
 public:
  Machine(const Program& of, const InterpreterOptions& with, Sizes& at) : program(of), options(with), sizes(at), arrays(of.tensors.size()) {}

  const Array& get(TensorId id);      ///< constants are converted when first read
  Array& create(TensorId id);         ///< zero-filled, or the one that an earlier pattern began (slices of a concat)
  std::vector<int64_t> dims_of(const Type& type) const;
  double rounded(DType dtype, double value) const;

  void run(const Nest& nest);
  void run(const Scatter& scatter);
  void run(const Cumulate& cumulate);
  void run(const Select& select);
  void run(const Bind& bind);
  void run(const If& branch);
  void run(const Loop& loop);
  void run(const Require& require);
  void run_all();

  const Program& program;
  const InterpreterOptions& options;
  Sizes& sizes;
  std::vector<std::shared_ptr<Array>> arrays;

 private:
  std::vector<std::shared_ptr<Array>> call(const Program& body, const std::vector<std::shared_ptr<Array>>& inputs);
  std::shared_ptr<Array> shared(TensorId id);
};

/// Evaluates the expressions of a Nest or Scatter for blocks of points.
class Evaluator {
 public:
  Evaluator(Machine& machine, const std::vector<Access>& accesses, const std::vector<ExprNode>& nodes, std::vector<int64_t> extents);

  /// Values of node `id` at the points `first` … of the row-major space (of `extents`); only nodes that `wanted` needs are computed.
  void evaluate(int64_t first, int64_t count, const std::vector<char>& wanted);
  std::vector<char> needed_by(const std::vector<ExprId>& roots) const;
  const std::vector<double>& reals(ExprId id) const { return reals_[static_cast<size_t>(id)]; }
  const std::vector<int64_t>& integers(ExprId id) const { return integers_[static_cast<size_t>(id)]; }
  const std::vector<int64_t>& coordinates(int point) const { return points_[static_cast<size_t>(point)]; }

  static constexpr int64_t block = 512;
  /// Results of reductions by kept point, for nodes that read them.
  std::vector<Array> reduced;

 private:
  void load(const ExprNode& node, ExprId id, int64_t count);
  void compute(const ExprNode& node, ExprId id, int64_t count);
  void convert(const ExprNode& node, ExprId id, int64_t count);

  struct Bound {
    const Access* access;
    tile::CoordMap<int64_t> map;
    const Array* array;
    std::vector<int64_t> strides;
  };
  Machine& machine_;
  const std::vector<ExprNode>& nodes_;
  std::vector<int64_t> extents_;
  std::vector<Bound> bound_;
  int64_t first_ = 0;
  std::vector<std::vector<int64_t>> points_;
  std::vector<std::vector<double>> reals_;
  std::vector<std::vector<int64_t>> integers_;
};

/// Value of a scalar operation, the one definition of what each means.
double apply(ExprOp op, double a, double b);
int64_t apply(ExprOp op, DType dtype, int64_t a, int64_t b);

/// Tries the strided form of a contraction: true when it has done all the sums into `sums` (kept points, row-major).
bool contract_strided(Machine& machine, const Nest& nest, const std::vector<int64_t>& extents, std::vector<double>& sums);

std::vector<int64_t> row_major_strides(const std::vector<int64_t>& dims);
int64_t element_count(const std::vector<int64_t>& dims);

}  // namespace tilewright::pattern
