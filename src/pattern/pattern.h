#pragma once

#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/dim_map.h"
#include "graph/graph.h"

/// Tensor patterns: what a core operator means, as compute and data movement only. The reference interpreter fixes the
/// semantics; targets emit code for them; nothing here knows operators.
namespace tilewright::pattern {

using Map = DimMap;

/// Index into Program::tensors.
using TensorId = int;
/// Index into Nest::nodes (an expression DAG in topological order).
using ExprId = int;

enum class ExprOp {
  // leaves
  constant,  ///< `real` for float dtypes, `integer` otherwise
  index,     ///< coordinate `integer` of the iteration space, i64
  size,      ///< `dim` over named sizes, i64
  load,      ///< element of access `integer`
  reduced,   ///< result `integer` of Nest::reductions; only in what the outputs store
  // unary
  neg,
  abs,
  sign,
  floor,
  ceil,
  round_even,
  trunc,
  sqrt,
  exp,
  log,
  sin,
  cos,
  tan,
  asin,
  acos,
  atan,
  sinh,
  cosh,
  tanh,
  asinh,
  acosh,
  atanh,
  erf,
  sigmoid,
  logical_not,
  bit_not,
  is_nan,
  is_inf,
  cast,              ///< to `dtype`; float→int truncates, out of range saturates to the type's limits, NaN gives 0; →bool is != 0
  cast_wrap,         ///< int→int and float→int as ONNX Cast on common hardware: two's complement wrap of the truncated value
  cast_unsaturated,  ///< to an 8-bit float, overflow gives NaN or infinity
  bitcast,           ///< same width, other dtype
  // binary; both operands and the result share a dtype unless said otherwise
  add,
  sub,
  mul,
  div,  ///< floats: IEEE. Integers: truncates; a zero divisor gives 0
  floor_div,
  mod,   ///< integers: floor division and its remainder; float mod: sign of the divisor. Zero divisor gives 0 (integers)
  fmod,  ///< sign of the dividend
  pow,   ///< second operand may have another dtype
  min,
  max,  ///< floats: NaN if either is NaN
  bit_and,
  bit_or,
  bit_xor,
  shift_left,
  shift_right,
  logical_and,
  logical_or,
  logical_xor,
  equal,
  less,
  less_equal,  ///< operands share a dtype; result bool
  // ternary
  select,  ///< (bool, a, b)
};

struct ExprNode {
  ExprOp op = ExprOp::constant;
  DType dtype = DType::f32;  ///< of the result
  std::vector<ExprId> args;
  double real = 0;
  int64_t integer = 0;
  Dim dim;
};

/// How an iteration point reads a tensor: upper coordinates of `map` are the iteration space's coordinates followed by
/// the values of `indirect` (i64 expressions, evaluated first: gather). A point where the map is invalid (padding) reads
/// `fill`. Indirect coordinates outside the tensor are clamped when `fill` is absent, and read `fill` when it is there.
struct Access {
  TensorId tensor = -1;
  Map map;  ///< space (+ indirect) → the tensor's coordinates
  std::vector<ExprId> indirect;
  std::optional<ExprId> fill;  ///< same dtype as the tensor
};

enum class ReduceOp { sum, product, min, max, arg_min, arg_max, arg_min_last, arg_max_last };

/// A value combined over the reduced coordinates. sum/product/min/max: result dtype is `dtype` (the accumulator's); over an
/// empty range: 0, 1, +inf/largest, -inf/lowest. arg_*: i64 linear index in the reduced coordinates (row-major); ties take the
/// first (…_last: the last).
struct Reduction {
  ReduceOp op = ReduceOp::sum;
  ExprId value = -1;
  DType dtype = DType::f32;
};

/// Writes `value` for every point of the kept coordinates. `map`: kept coordinates → the tensor's coordinates; injective. Points
/// written need not cover the tensor when several outputs/patterns write slices of it (concat).
struct Store {
  TensorId tensor = -1;
  Map map;
  ExprId value = -1;
};

/// Map, Reduce and Contract in one shape: for each kept point, combine over the reduced points, then store.
/// The iteration space is `space`; its last `reduced_rank` coordinates are reduced.
struct Nest {
  std::string source;  ///< names of the model's nodes
  Dims space;
  int reduced_rank = 0;
  std::vector<Access> accesses;
  std::vector<ExprNode> nodes;
  std::vector<Reduction> reductions;
  std::vector<Store> outputs;
};

/// What a Nest is: Contract is one f/i sum of a product of two loads' prologues, Reduce any other with reductions, Map none.
enum class NestKind { map, reduce, contract };
NestKind classify(const Nest&);

/// Sequential scatter: the output starts as a copy of `initial`; then for every point of `space` in row-major order,
/// output[map(point, indirect)] = combine(old, value). Points whose map is out of range are skipped.
struct Scatter {
  std::string source;
  TensorId initial = -1, output = -1;
  Dims space;
  std::vector<Access> accesses;
  std::vector<ExprNode> nodes;
  Map map;  ///< space + indirect → output coordinates
  std::vector<ExprId> indirect;
  ExprId value = -1;
  enum class Combine { assign, add, mul, min, max } combine = Combine::assign;
};

/// Cumulative sum or product along one axis.
struct Cumulate {
  std::string source;
  TensorId input = -1, output = -1;
  int axis = 0;
  bool product = false, exclusive = false, reverse = false;
};

/// Data-dependent results: outputs have static upper bounds; `count` (i64 scalar) tells how much is used.
struct Select {
  enum class Kind {
    nonzero,   ///< in: any [dims]; out: i64 [rank, bound] (bound = element count; column k = k-th nonzero; row stride is the bound), count
    top_k,     ///< in: x; out: values, i64 indices, dims as x but `axis` has the output tensor's size; ints: axis, largest, sorted
    unique,    ///< in: x; out: values(bound), i64 first-index, i64 inverse, i64 counts, count; ints: axis (-1000 flatten), sorted
    compress,  ///< in: bool [n]; out: i64 [n] positions that are true, count
    nms,       ///< in: boxes f32 [b,n,4], scores f32 [b,c,n], max_per_class i64 scalar, iou f32 scalar, score f32 scalar;
               ///< out: i64 [bound,3], count; ints: center_point_box; bound = b*c*n
  } kind = Kind::nonzero;
  std::string source;
  std::vector<TensorId> inputs, outputs;
  TensorId count = -1;  ///< -1 for top_k
  std::vector<int64_t> ints;
};

/// Gives named sizes the values of an integer tensor's elements. Values are checked to be >= 0 and <= bounds[i] when given.
struct Bind {
  std::string source;
  TensorId tensor = -1;
  std::vector<std::string> symbols;
};

struct Program;

/// Runs one of two sub-programs. inputs/outputs are positional. When branches differ in a dim, the output tensor's dim is a symbol
/// in `bound` that takes the size the taken branch produced: bound[i] = {symbol, output index, axis}.
struct BoundSymbol {
  std::string symbol;
  int output;
  int axis;
};
struct If {
  std::string source;
  TensorId condition = -1;  ///< bool scalar
  std::vector<TensorId> inputs, outputs;
  std::vector<BoundSymbol> bound;
  std::shared_ptr<Program> then_program, else_program;
};

/// for (i = 0; i < trip_count && condition; ++i) { condition, carried…, scanned… = body(i, condition, carried…, inputs…) }
/// body inputs: i (i64 scalar), condition (bool scalar), carried, invariants. body outputs: condition, carried, scanned.
/// Scanned outputs are stacked along a new leading axis of size = the number of iterations (symbol in `bound`, or a constant dim that is
/// the proven trip count). Carried dims that change between iterations are symbols: in the body, `body_bound` names the symbol for
/// (carried index, axis), set at the start of each iteration; after the loop `bound` sets the outer symbols.
struct Loop {
  std::string source;
  TensorId trip_count = -1;                   ///< i64 scalar; -1: no limit
  TensorId condition = -1;                    ///< bool scalar; -1: true at the start
  std::vector<TensorId> carried, invariants;  ///< initial values; values passed unchanged
  std::vector<TensorId> outputs;              ///< final carried, then scanned
  std::vector<BoundSymbol> bound;             ///< output index, axis
  std::vector<BoundSymbol> body_bound;        ///< carried index, axis
  std::shared_ptr<Program> body;
};

/// Checked at run time before what follows: an input of the model broke a size rule. (lhs == rhs.)
struct Require {
  std::string source;
  Dim lhs, rhs;
  std::string message;
};

using Pattern = std::variant<Nest, Scatter, Cumulate, Select, Bind, If, Loop, Require>;

struct TensorInfo {
  Type type;
  std::string name;
  std::shared_ptr<const Tensor> constant;
};

/// Patterns in execution order over row-major tensors.
struct Program {
  std::string name;
  std::vector<TensorInfo> tensors;
  std::vector<Pattern> patterns;
  std::vector<TensorId> inputs, outputs;

  const TensorInfo& tensor(TensorId id) const { return tensors.at(static_cast<size_t>(id)); }
  TensorId add_tensor(Type type, std::string label, std::shared_ptr<const Tensor> constant = nullptr);
};

/// Structure, dtypes, ranks, ids. Throws ErrorKind::internal naming the pattern and the rule.
void verify(const Program&);
std::string print(const Program&);
std::string print(const Pattern&, const Program&);

/// Tensors a pattern reads / writes (each id once, in order of first mention).
std::vector<TensorId> reads(const Pattern&);
std::vector<TensorId> writes(const Pattern&);
/// Named sizes that a pattern mentions (of its dims and maps; not those of the tensors' types).
std::vector<std::string> symbols_of(const Pattern&);

}  // namespace tilewright::pattern
