#pragma once

#include "target/source/lower_nest.h"

/// A Nest seen as a matrix product: which loops run over rows, columns, the sum and the batch, and how its two factors
/// lie in memory.
namespace tilewright::source {

/// Loops that the product treats as one index: row-major over `loops`.
struct LoopGroup {
  std::vector<Loop> loops;
  std::string symbol;  ///< of the joint index
  Dim extent() const;
};

/// One factor of the product.
struct Factor {
  ExprId value = -1;
  int access = -1;      ///< of the tensor that it reads, when it is that tensor's elements alone
  ExprId zero = -1;     ///< what is subtracted from 8-bit elements, the same everywhere; -1: nothing
  bool direct = false;  ///< value is element - zero, converted exactly
};

struct ContractShape {
  LoweredNest nest;  ///< loops not merged
  LoopGroup batch, m, n, k;
  Factor left, right;      ///< over (batch, m, k), (batch, n, k)
  DType sum = DType::f32;  ///< of the accumulator: f32, f64 or an integer
};

/// The product that `nest` is, when it is one worth a library kernel; its factors as the nest has them.
std::optional<ContractShape> find_product(const pattern::Nest& nest, const pattern::Program& program);
/// The same with rows and columns chosen by how the result lies, and loops moved to the batch until operands are regular.
std::optional<ContractShape> find_contract(const pattern::Nest& nest, const pattern::Program& program);

/// Moves outer loops of m and n to the batch where the factors then lie evenly in memory (or are windows), and columns
/// evenly in the result.
void balance(ContractShape& shape, const pattern::Nest& nest, const pattern::Program& program);

/// Strides of a factor that lies in memory as a matrix.
struct DenseShape {
  Dim outer_stride, k_stride, start;  ///< start: over the batch loops' symbols
};
std::optional<DenseShape> find_dense(const ContractShape& shape, const Factor& factor, const LoopGroup& outer);
/// Of a result that lies as a matrix, k_stride being the columns'.
std::optional<DenseShape> find_dense_result(const ContractShape& shape);

/// The expression DAG, accesses' types and stores, without sizes.
std::string epilogue_text(const pattern::Nest& nest, const pattern::Program& program);

/// Whether the guard says no more than 0 <= coordinate < extent.
bool is_inside(const Guard& guard, const Dim& coordinate, const Dim& extent, const std::vector<Loop>& loops);
/// Whether what the access gives outside its tensor adds nothing to the product: zero, or the zero point.
bool pads_with_nothing(const ContractShape& shape, const Factor& factor, const pattern::Access& access);

/// `e` with the group's loops replaced by its joint index: affine where the loops lie evenly in e, else by its digits.
Dim flattened(const Dim& e, const LoopGroup& group, const Bounds& bounds);
/// slope * joint index + rest, when the group's loops lie evenly in `e`.
std::optional<schedule::Affine> even_over(const Dim& e, const LoopGroup& group);

/// The windows of a convolution over a channels-first tensor, as one factor of a product sees them.
struct WindowShape {
  struct Axis {
    Dim input, output = 1, kernel = 1;
    Dim stride = 1, dilation = 1, pad = 0;
  };
  std::vector<Axis> axes;    ///< one to three spatial ones
  Dim start;                 ///< element of the first channel's plane, over the batch loops' symbols
  bool has_channel = false;  ///< whether k begins with a channel index
};

/// When `factor` reads windows: its outer index over `outer` is the output position, k is (channel, kernel position).
std::optional<WindowShape> find_windows(const ContractShape& shape, const Factor& factor, const LoopGroup& outer, const pattern::Nest& nest,
                                        const pattern::Program& program);

}  // namespace tilewright::source
