#pragma once

#include "pattern/pattern.h"

/// A small language to write Nests in: operators' lowering reads like the formula.
///
///   NestBuilder n(program, "softmax", space, /*reduced_rank=*/1);
///   Expr x = n.load(input, map);
///   Expr s = n.reduce(ReduceOp::max, x);
///   n.store(output, out_map, s);
namespace tilewright::pattern {

class NestBuilder;

/// A node of the nest being built.
struct Expr {
  NestBuilder* nest = nullptr;
  ExprId id = -1;
  DType dtype() const;
};

class NestBuilder {
 public:
  NestBuilder(Dims space, int reduced_rank = 0);

  const Dims& space() const { return nest_.space; }
  Dims kept() const;  ///< the space without the reduced coordinates

  Expr constant(DType, double);  ///< any dtype; integers exact to 2^53
  Expr constant_int(DType, int64_t);
  Expr index(int coordinate);  ///< i64
  Expr size(const Dim&);       ///< i64
  Expr unary(ExprOp, Expr);
  Expr binary(ExprOp, Expr, Expr);  ///< dtypes must agree (except pow, shifts); comparisons give bool
  Expr select(Expr condition, Expr a, Expr b);
  Expr cast(Expr, DType, ExprOp how = ExprOp::cast);

  /// Reads `tensor` through `map` (upper coordinates: the space, then `indirect`).
  Expr load(TensorId tensor, DType dtype, Map map, const std::vector<Expr>& indirect = {}, std::optional<Expr> fill = {});
  /// Reads with one i64 expression per tensor coordinate; bounds as Access says. Plain `index` expressions become pass-throughs.
  Expr load_at(TensorId tensor, const Type& type, const std::vector<Expr>& coordinates, std::optional<Expr> fill = {});
  /// A tensor whose dims broadcast (numpy rules) to the kept dims (or the whole space when `over_space`).
  Expr load_broadcast(TensorId tensor, const Type& type);

  Expr reduce(ReduceOp, Expr value, DType accumulator);
  /// Stores for each kept point at the same coordinates of `tensor`.
  void store(TensorId tensor, Expr value);
  void store(TensorId tensor, Map map, Expr value);

  Nest finish(std::string source);

 private:
  friend struct Expr;
  Expr add(ExprNode);
  Nest nest_;
};

Expr operator+(Expr, Expr);
Expr operator-(Expr, Expr);
Expr operator*(Expr, Expr);
Expr operator/(Expr, Expr);
Expr operator+(Expr, double);
Expr operator-(Expr, double);
Expr operator*(Expr, double);
Expr operator/(Expr, double);
Expr operator-(double, Expr);
Expr operator/(double, Expr);
Expr operator-(Expr);

}  // namespace tilewright::pattern
