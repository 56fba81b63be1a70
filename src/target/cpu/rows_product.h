#pragma once

#include "schedule/schedule.h"
#include "target/source/contract_shape.h"
#include "target/target.h"

/// Products whose left operand has channels side by side, or few of them: what tile/kernels/contract_rows.h, winograd.h and depthwise_rows.h take. The right
/// operand is weights, or a matrix that becomes panels while the kernel runs.
namespace tilewright::cpu {

using namespace source;  // NOLINT: the text that all targets' kernels are made of

/// The windows of a convolution, spatial axes in the order that the result runs over them. One kernel position is
/// `channels` elements, `channel_stride` apart.
struct WindowRowsShape {
  struct Axis {
    Dim input, output = 1, kernel = 1;
    Dim stride = 1, dilation = 1, pad = 0;
    Dim pitch;         ///< elements between neighbouring positions
    std::string taps;  ///< symbol of the loop over kernel positions, if there is one
  };
  std::vector<Axis> axes;
  Dim channels = 1, channel_stride = 1;
  std::string channel;  ///< symbol of the loop over channels, if there is one
  Dim start;            ///< over the batch loops' symbols
};

struct RowsProduct {
  ContractShape shape;       ///< right: the weights, if any; batch: loops of the weights' groups last, loops of the rows before them
  size_t weight_groups = 0;  ///< how many of the last batch loops move the weights
  std::optional<DenseShape> matrix;
  std::optional<WindowRowsShape> windows;
  std::optional<DenseShape> right_matrix;  ///< how the right operand lies where it is no weights: kernels write its panels
  std::vector<std::string> k_order;        ///< symbols of the summed loops as rows hold them
  /// Elements of the left operand are bytes, less a zero point; weights are integers, of whatever dtype. Sums are exact.
  struct Integers {
    int64_t weights_zero = 0;        ///< subtracted from stored weights
    int64_t least = 0, largest = 0;  ///< weights after that
  };
  std::optional<Integers> integers;
  /// The weights where all factors are float32; the program's.
  const Tensor* floats = nullptr;
  /// What digits_stand_for_weights() found, once it was asked: that reads all weights.
  mutable std::optional<bool> even_columns = {};
  /// The same of digits_stand_for_filters().
  mutable std::optional<bool> even_points = {};
  /// Whether TF32's accuracy is enough.
  bool tf32 = false;
  /// Whether bfloats may be rounded on the way to their products: a policy made them.
  bool rounds = false;
  /// One filter a channel, no sums over channels: n runs over the channels of both factors, windows over kernel positions alone.
  bool depthwise = false;

  /// Elements from one row of a strip to the next, in the operand's own memory where it is read in place.
  int64_t step(schedule::ProductConfig::Atom atom) const;
  /// What rows hold of a sum side by side, and how many such runs: as the left operand's view says, for weights packed by runs.
  int64_t runs(schedule::ProductConfig::Atom atom) const;
  /// Rows that lie in one line, 0 where only a run knows.
  int64_t line() const;
  /// Rows of all padded lines of an image, as tile::JoinedWindows has them, joined_rows at least; 0: strips of the atom end with their lines.
  int64_t padded_rows(schedule::ProductConfig::Atom atom) const;
};

/// When `nest` is such a product.
std::optional<RowsProduct> find_rows_product(const pattern::Nest& nest, const pattern::Program& program);

/// What a step along the sum may be on `target`, of equals the best first; empty: nothing there computes the product.
std::vector<schedule::ProductConfig::Atom> atoms_of(const RowsProduct& product, const Target& target);
/// What the left operand's elements are for the atom, in memory or copied.
DType left_type(schedule::ProductConfig::Atom atom, DType sum);

/// Whether so few rows meet each weight that the product takes as long as its weights take to come, from beyond the second level cache.
bool waits_for_weights(const RowsProduct& product, const Target& target);

/// Whether numbers of 24 bits in a unit of their column stand for the weights, which are float32, of every column.
bool digits_stand_for_weights(const RowsProduct& product);
/// The same for Winograd's 16 products of 3 x 3 filters, whose columns are points of these.
bool digits_stand_for_filters(const RowsProduct& product);

/// How the product is best computed on `target`, as far as is known without a measurement. `atom`: one of atoms_of(), the cheapest of them
/// where none is named. `as_sums`: weights of floats are packed as what their sums are.
schedule::ProductConfig choose_method(const RowsProduct& product, const Target& target, bool allow_winograd,
                                      std::optional<schedule::ProductConfig::Atom> atom = {}, bool as_sums = false);

/// Lanes of k that a step on tile registers takes, so that runs of `depth` leave none or few for a last one.
int64_t tile_steps(int64_t depth, schedule::ProductConfig::Atom atom);

/// Whether the product has what the configuration's method asks for, and the target registers for its block.
bool can_compute(const RowsProduct& product, const schedule::ProductConfig& config, const Target& target);

/// The weights' panels for the method: [groups, panels, k, width], for Winograd's [1, panels, 16 · k, width], as tile::WinogradProducts has them. Those of
/// atoms of several k have steps instead of k and the elements of a step's lanes in a row; integers begin with a row of sums, see tile::PackedSums, numbers of
/// 24 bits with two rows of units, see tile::Fixed24Panels. `as_sums`: floats become what their sums are, as those of one filter a channel always do.
Tensor packed_weights(const RowsProduct& product, const Tensor& weights, const schedule::ProductConfig& config, const Target& target, bool as_sums = false);

/// Elements that sums are computed in, a vector.
inline int64_t lanes_of(const RowsProduct& product, const Target& target) { return target.vector_bytes / static_cast<int64_t>(size_of(product.shape.sum)); }
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Rows that joined strips have at least, more than follow each other between two lines of results.
inline constexpr int64_t joined_rows = 16;

/// Tiles of 2 × 2 results that an image has; 0 where only a run knows.
int64_t winograd_tiles(const WindowRowsShape& windows);

}  // namespace tilewright::cpu
