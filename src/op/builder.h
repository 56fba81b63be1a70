#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "op/op.h"

namespace tilewright {

/// Builds a graph of core operators, inferring types and the contents of small integer tensors as it goes. The same builder serves
/// importers, passes and nn. Binary operators broadcast as numpy does and want equal dtypes. Errors: invalid_input naming the node.
class Builder {
 public:
  explicit Builder(Graph& graph);
  Builder(Graph& graph, Builder& parent);  ///< for a sub-graph: shares the parent's supply of fresh symbols

  Graph& graph() { return graph_; }
  /// Name given to nodes added from here on: the source model's node.
  void set_source(std::string name) { source_ = std::move(name); }
  const std::string& source() const { return source_; }

  ValueId input(std::string name, Type type);
  void output(ValueId value, const std::string& name = "");
  ValueId constant(Tensor value, std::string name = "");
  ValueId scalar(DType dtype, double value);         ///< rank 0
  ValueId ints(const std::vector<int64_t>& values);  ///< i64 [n]
  ValueId sizes(const Dims& values);                 ///< i64 [n]; op "dims" when not all constant

  /// The general form; checks arity, infers, propagates contents, adds run-time checks.
  std::vector<ValueId> node(std::string_view op, std::vector<ValueId> inputs, Attributes attributes = {}, int outputs = 1);
  ValueId one(std::string_view op, std::vector<ValueId> inputs, Attributes attributes = {}) { return node(op, std::move(inputs), std::move(attributes))[0]; }

  const Type& type(ValueId v) const { return graph_.type(v); }
  const Dims& dims(ValueId v) const { return graph_.type(v).dims; }
  DType dtype(ValueId v) const { return graph_.type(v).dtype; }
  int rank(ValueId v) const { return static_cast<int>(dims(v).size()); }
  std::shared_ptr<const Tensor> constant_of(ValueId v) const { return graph_.value(v).constant; }
  std::optional<Dims> contents(ValueId v) const;

  /// The elements of an i64/i32 [n] (or scalar) tensor as sizes: its known contents, or fresh symbols bound at run time.
  /// Elements that are known stay known. May be negative when known constant.
  Dims sizes_of(ValueId v);
  Dim fresh_symbol(std::string_view prefix);
  /// Checked at run time, unless known now. Known to differ: invalid_input.
  void require_equal(const Dim& a, const Dim& b, std::string_view message);

  // --- elementwise -------------------------------------------------------------------------------------------------------------
  ValueId unary(std::string_view op, ValueId x) { return one(op, {x}); }
  ValueId add(ValueId a, ValueId b) { return one("add", {a, b}); }
  ValueId sub(ValueId a, ValueId b) { return one("sub", {a, b}); }
  ValueId mul(ValueId a, ValueId b) { return one("mul", {a, b}); }
  ValueId div(ValueId a, ValueId b) { return one("div", {a, b}); }
  ValueId max(ValueId a, ValueId b) { return one("max", {a, b}); }
  ValueId min(ValueId a, ValueId b) { return one("min", {a, b}); }
  ValueId pow(ValueId a, ValueId b) { return one("pow", {a, b}); }
  ValueId equal(ValueId a, ValueId b) { return one("equal", {a, b}); }
  ValueId less(ValueId a, ValueId b) { return one("less", {a, b}); }
  ValueId less_equal(ValueId a, ValueId b) { return one("less_equal", {a, b}); }
  ValueId where(ValueId c, ValueId a, ValueId b) { return one("where", {c, a, b}); }
  ValueId neg(ValueId x) { return one("neg", {x}); }
  ValueId exp(ValueId x) { return one("exp", {x}); }
  ValueId log(ValueId x) { return one("log", {x}); }
  ValueId sqrt(ValueId x) { return one("sqrt", {x}); }
  ValueId tanh(ValueId x) { return one("tanh", {x}); }
  ValueId sigmoid(ValueId x) { return one("sigmoid", {x}); }
  ValueId logical_not(ValueId x) { return one("not", {x}); }
  // with a scalar of x's dtype
  ValueId add(ValueId x, double s) { return add(x, scalar(dtype(x), s)); }
  ValueId mul(ValueId x, double s) { return mul(x, scalar(dtype(x), s)); }
  ValueId max(ValueId x, double s) { return max(x, scalar(dtype(x), s)); }
  ValueId min(ValueId x, double s) { return min(x, scalar(dtype(x), s)); }
  ValueId cast(ValueId x, DType to, std::string_view mode = "saturate");  ///< x itself when already `to`; modes: saturate, wrap, unsaturated

  // --- movement ----------------------------------------------------------------------------------------------------------------
  ValueId reshape(ValueId x, Dims dims);
  ValueId flatten_to(ValueId x, int from_axis, int to_axis);  ///< merges axes [from, to)
  ValueId unsqueeze(ValueId x, std::vector<int64_t> axes);    ///< axes of the result
  ValueId squeeze(ValueId x, std::vector<int64_t> axes);
  ValueId transpose(ValueId x, std::vector<int64_t> permutation);
  ValueId broadcast(ValueId x, Dims dims);
  ValueId concat(std::vector<ValueId> xs, int axis);
  ValueId slice(ValueId x, int axis, Dim start, Dim count, int64_t step = 1);
  ValueId pad(ValueId x, Dims before, Dims after, std::string_view mode = "constant", ValueId value = no_value);
  ValueId iota(DType dtype, Dims dims, int axis);  ///< element = its coordinate along axis
  ValueId gather(ValueId x, ValueId indices, int axis) { return one("gather", {x, indices}, {{"axis", int64_t{axis}}}); }

  // --- contractions and reductions -----------------------------------------------------------------------------------------------
  ValueId matmul(ValueId a, ValueId b) { return one("matmul", {a, b}); }
  ValueId reduce(std::string_view op, ValueId x, std::vector<int64_t> axes, bool keep_dims = true);  ///< "reduce_sum", "reduce_max", …
  ValueId softmax(ValueId x, int axis);                                                              ///< composed of max, sub, exp, sum, div

  // --- control flow ----------------------------------------------------------------------------------------------------------------
  /// Both graphs take `inputs` in the same order.
  std::vector<ValueId> if_else(ValueId condition, std::shared_ptr<Graph> then_graph, std::shared_ptr<Graph> else_graph, std::vector<ValueId> inputs);
  /// `build_body(body, iteration, condition, carried, invariants)` returns {condition, carried…, scanned…} of the body; it is called again
  /// with generalised sizes when a carried size changes between iterations. trip_count/condition may be no_value.
  using LoopBody = std::function<std::vector<ValueId>(Builder& body, ValueId iteration, ValueId condition, const std::vector<ValueId>& carried,
                                                      const std::vector<ValueId>& invariants)>;
  std::vector<ValueId> loop(ValueId trip_count, ValueId condition, std::vector<ValueId> carried, std::vector<ValueId> invariants, const LoopBody& build_body);

 private:
  ValueId new_value(Type type, std::string name);
  Graph& graph_;
  std::shared_ptr<int> symbol_supply_;
  std::string source_;
  std::map<std::string, int> used_names_;
};

}  // namespace tilewright
