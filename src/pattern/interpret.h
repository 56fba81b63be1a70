#pragma once

#include <memory>
#include <string>
#include <vector>

#include "pattern/interpret_address.h"
#include "pattern/interpret_scalar.h"
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
  int64_t count() const { return element_count(dims); }
};
Array to_array(const Tensor& tensor);
Tensor to_tensor(const Array& array, DType dtype);

using ArrayPointer = std::shared_ptr<Array>;

/// What a run's programs (the main one and the bodies of its If and Loop) share: options, named sizes, and what has been used.
class Run {
 public:
  explicit Run(const InterpreterOptions& with) : options(with) {}

  /// A zero-filled array; refused beyond the limits. Its bytes are given back when the last owner goes.
  ArrayPointer allocate(DType dtype, std::vector<int64_t> dims);
  /// Takes over an array that was made elsewhere.
  ArrayPointer adopt(Array array);
  /// The constant as an array, converted once for all iterations of a loop.
  ArrayPointer constant(const Tensor& tensor);
  /// Counts points of iteration spaces; refuses beyond the limit.
  void spend(int64_t points, const std::string& source);
  double rounded(DType dtype, double value) const {
    return rounds() && dtype != DType::f64 ? (dtype == DType::f32 ? static_cast<double>(static_cast<float>(value)) : round_to(dtype, value)) : value;
  }
  bool rounds() const { return options.arithmetic == InterpreterOptions::Arithmetic::as_written; }

  const InterpreterOptions& options;
  Sizes sizes;
  int depth = 0;  ///< of bodies being run, one inside the other

 private:
  void reserve(DType dtype, const std::vector<int64_t>& dims, int64_t& bytes);

  std::shared_ptr<int64_t> live_bytes_ = std::make_shared<int64_t>(0);
  int64_t points_ = 0;
  std::map<const Tensor*, ArrayPointer> loop_constants_;
};

/// One program being run.
class Machine {
 public:
  Machine(const Program& of, Run& in) : program(of), run(in), arrays(of.tensors.size()) {}

  void execute();
  const Array& get(TensorId id) { return *shared(id); }
  Array& create(TensorId id);        ///< zero-filled, or the one that an earlier pattern began (slices of a concat)
  ArrayPointer shared(TensorId id);  ///< constants are converted when first read

  const Program& program;
  Run& run;
  std::vector<ArrayPointer> arrays;
};

void interpret(Machine& machine, const Nest& nest);
void interpret(Machine& machine, const Scatter& scatter);
void interpret(Machine& machine, const Cumulate& cumulate);
void interpret(Machine& machine, const Select& select);
void interpret(Machine& machine, const Bind& bound);
void interpret(Machine& machine, const If& branch);
void interpret(Machine& machine, const Loop& loop);
void interpret(Machine& machine, const Require& require);

/// Up to `capacity` points of an iteration space: a column for each coordinate.
struct Points {
  static constexpr int64_t capacity = 512;

  explicit Points(size_t rank) : coordinates(rank, std::vector<int64_t>(capacity)) {}
  /// The points number first … first+n-1 of the row-major space of `axes` (extents as given); other coordinates are 0.
  void enumerate(const std::vector<int64_t>& extents, const std::vector<size_t>& axes, int64_t from, int64_t n);

  int64_t first = 0, count = 0;
  std::vector<std::vector<int64_t>> coordinates;
};

/// Evaluates some expressions of a Nest or Scatter for blocks of points: one dispatch for each node and block.
class Evaluator {
 public:
  /// `extents`: how far the coordinates will go; only what `roots` need is computed. `reduced`: results of the reductions by
  /// kept point, for nodes that read them.
  Evaluator(Machine& machine, const std::string& source, const std::vector<Access>& accesses, const std::vector<ExprNode>& nodes, std::vector<int64_t> extents,
            const std::vector<ExprId>& roots, const std::vector<Array>* reduced = nullptr);

  void evaluate(const Points& points);
  const Column& value(ExprId id) const { return columns_[static_cast<size_t>(id)]; }
  DType dtype(ExprId id) const { return nodes_[static_cast<size_t>(id)].dtype; }
  /// The coordinates that an expression depends on.
  std::vector<char> depends_on(ExprId id) const;

 private:
  struct Reader {
    const Access* access;
    const Array* array;
    std::vector<int64_t> indirect_extents;
    Addressing addressing;
    std::vector<std::vector<int64_t>> indirect;  ///< clamped or masked
    std::vector<uint8_t> mask;
  };
  struct Step {
    size_t node;
    std::vector<const Column*> args;
    std::vector<DType> dtypes;
    int reader;  ///< of a load
  };

  void load(Reader& reader, const Points& points, Column& result);
  std::vector<const int64_t*> upper_of(Reader& reader, const Points& points, bool& empty);

  Machine& machine_;
  const std::string& source_;
  const std::vector<ExprNode>& nodes_;
  std::vector<int64_t> extents_;
  const std::vector<Array>* reduced_;
  std::vector<Column> columns_;
  std::vector<Reader> readers_;
  std::vector<Step> steps_;
};

/// A sum of products as tiles of a matrix product: true when all sums are in `sums` (kept points, row-major). Factors may be any
/// expressions; declined when the factors share too many coordinates or the product's dtype wants rounding that a tile cannot give.
bool contract_in_tiles(Machine& machine, const Nest& nest, const std::vector<int64_t>& extents, Array& sums);

}  // namespace tilewright::pattern
