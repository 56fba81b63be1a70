// Which products have tiles, and which tiles a multiprocessor has room for.

#include "target/simt/tile_product.h"

#include <algorithm>
#include <cmath>

namespace tilewright::simt {
namespace {

using schedule::Pair;
using schedule::TileConfig;
using Unit = TileConfig::Unit;

/// A product with fewer rows or columns wastes most of a tile; with fewer than the second, of an atom.
constexpr int64_t least_extent = 8, least_matrix_extent = 16;

const Address& address_of(const ContractShape& shape, const Factor& factor) { return shape.nest.loads[static_cast<size_t>(factor.access)]; }

/// Elements that lanes of a matrix instruction can take as they lie in memory.
bool as_stored(const ContractShape& shape, const Factor& factor) {
  if (!factor.direct || factor.zero >= 0 || factor.access < 0) return false;
  const Address& address = address_of(shape, factor);
  if (address.guards.empty()) return true;
  const ExprNode& fill = shape.nest.nodes[static_cast<size_t>(address.fill)];
  return fill.op == ExprOp::constant && fill.real == 0 && fill.integer == 0 && !std::signbit(fill.real);
}

bool fits_matrix_unit(const ContractShape& shape, const Target& target, bool tf32) {
  for (const LoopGroup* group : {&shape.m, &shape.n, &shape.k})
    if (group->extent().as_constant().value_or(least_matrix_extent) < least_matrix_extent) return false;
  if (target.matrix == Target::Matrix::none || !as_stored(shape, shape.left) || !as_stored(shape, shape.right)) return false;
  const DType left = address_of(shape, shape.left).dtype, right = address_of(shape, shape.right).dtype;
  const auto is_byte = [](DType dtype) { return dtype == DType::i8 || dtype == DType::u8; };
  if (is_byte(left) && is_byte(right)) return shape.sum == DType::i32 && (target.matrix == Target::Matrix::mma || (left == DType::i8 && right == left));
  if (left != right || shape.sum != DType::f32) return false;
  return left == DType::f16 || left == DType::bf16 || (tf32 && left == DType::f32 && target.matrix == Target::Matrix::mma);
}

bool fits_warpgroups(const ContractShape& shape, const Target& target) {
  return target.warpgroups && fits_matrix_unit(shape, target, /*tf32=*/false) && box_factor(shape, shape.left, shape.m) &&
         box_factor(shape, shape.right, shape.n);
}

/// Rows of a product by a warpgroup, bytes of the sum's axis in a stage and of a row of a box, shared memory of a stage's two mbarriers, a warpgroup's
/// boxes of results.
constexpr int warpgroup_rows = 64, warpgroup_warps = 4, row_bytes = 128, barrier_bytes = 16, result_boxes = 2;

/// What a warp multiplies at once, and how many registers of a lane it takes.
struct Atom {
  int m, n;   ///< n: as many columns as are loaded together
  int words;  ///< of 32 bits, of the sum's axis
  int registers_m, registers_n;
};

Atom atom_of(const TileProduct& product, const Target& target) {
  if (target.matrix == Target::Matrix::mma) return {16, 16, 8, 4, 4};
  const int registers = product.left.bytes() == 1 ? 1 : 2;
  return {16, 16, 4 * registers, registers, registers};
}

/// Registers for addresses, counters and bounds; more where each element's address is computed.
int bookkeeping(const TileProduct& product) { return product.left.rows && product.right.rows ? 40 : 56; }

bool divides(const Pair& parts, const Pair& whole) { return parts.m > 0 && parts.n > 0 && whole.m % parts.m == 0 && whole.n % parts.n == 0; }

bool suits_fma(const TileConfig& c) { return divides(c.each, c.tile) && (c.stages == 1 || c.stages == 2) && c.tile.count() / c.each.count() <= 1024; }

bool suits_matrix_unit(const TileProduct& product, const TileConfig& c, const Target& target) {
  // Where the next pair of tiles waits in registers, two stages are all that is used.
  if (c.warps.m < 1 || c.warps.n < 1 || c.stages < 2 || (c.stages > 2 && !target.multiprocessors.copies_asynchronously)) return false;
  const Atom atom = atom_of(product, target);
  const int per_word = 4 / static_cast<int>(product.left.bytes()), words = c.depth / per_word;
  return divides({c.warps.m * atom.m, c.warps.n * atom.n}, c.tile) && c.depth % per_word == 0 && (words == 8 || words == 16 || words == 32) &&
         words % atom.words == 0 && c.warps.count() * target.warp_size <= 1024;
}

bool suits_warpgroups(const TileProduct& product, const TileConfig& c) {
  return (c.tile.m == 64 || c.tile.m == 128) && (c.tile.n == 64 || c.tile.n == 128 || c.tile.n == 256) &&
         c.warps == Pair{c.tile.m / warpgroup_rows * warpgroup_warps, 1} && c.depth == row_bytes / product.left.bytes() && c.stages >= 2;
}

bool suits(const TileProduct& product, const TileConfig& c, const Target& target) {
  switch (c.unit) {
    case Unit::fma: return suits_fma(c);
    case Unit::mma: return suits_matrix_unit(product, c, target);
    case Unit::wgmma: return suits_warpgroups(product, c);
  }
  return false;
}

}  // namespace

bool TileProduct::has(Unit unit) const { return std::find(units.begin(), units.end(), unit) != units.end(); }

std::optional<TileProduct> find_tile_product(const pattern::Nest& nest, const pattern::Program& program, const Target& target, bool tf32) {
  std::optional<ContractShape> shape = find_contract(nest, program);
  if (!shape) return std::nullopt;
  for (const LoopGroup* group : {&shape->m, &shape->n})
    if (group->extent().as_constant().value_or(least_extent) < least_extent) return std::nullopt;
  TileProduct product{.shape = std::move(*shape), .units = {Unit::fma}, .left = {}, .right = {}};
  const auto source = [&](const Factor& factor, const LoopGroup& outer) {
    const DType dtype = factor.access >= 0 ? address_of(product.shape, factor).dtype : product.shape.sum;
    return Source{dtype, find_dense(product.shape, factor, outer).has_value(), whole_rows(product.shape, factor, outer).has_value()};
  };
  product.left = source(product.shape.left, product.shape.m);
  product.right = source(product.shape.right, product.shape.n);
  product.result = program.tensor(nest.outputs.at(0).tensor).type.dtype;
  if (fits_matrix_unit(product.shape, target, tf32)) product.units.push_back(Unit::mma);
  if (fits_warpgroups(product.shape, target)) product.units.push_back(Unit::wgmma);
  return product;
}

std::optional<DenseShape> whole_rows(const ContractShape& shape, const Factor& factor, const LoopGroup& outer) {
  const std::optional<DenseShape> dense = find_dense(shape, factor, outer);
  if (!dense || !(dense->k_stride == Dim(1))) return std::nullopt;
  const int64_t piece = 16 / static_cast<int64_t>(size_of(address_of(shape, factor).dtype));
  const auto whole = [&](const Dim& e) { return e.as_constant() && e.constant() % piece == 0; };
  if (!whole(shape.k.extent()) || !whole(dense->outer_stride)) return std::nullopt;
  Dim rest = dense->start;
  for (const Loop& loop : shape.batch.loops) {
    const auto affine = schedule::affine_in(rest, loop.symbol);
    if (!affine || !whole(affine->slope)) return std::nullopt;
    rest = affine->at_zero;
  }
  return whole(rest) ? dense : std::nullopt;
}

namespace {

/// `stride`: between the lines of elements that are neighbours.
std::optional<BoxMatrix> boxes_of(const ContractShape& shape, DType dtype, const DenseShape& dense, const Dim& stride) {
  const auto bytes = static_cast<int64_t>(size_of(dtype));
  const auto whole = [&](const Dim& e) { return e.as_constant() && e.constant() >= 0 && e.constant() * bytes % 16 == 0; };
  const auto batch = even_over(dense.start, shape.batch);
  if (!batch) return std::nullopt;
  BoxMatrix box{.stride = stride, .batch_stride = batch->slope, .start = batch->at_zero};
  if (!whole(box.stride) || box.stride == Dim(0) || !whole(box.batch_stride) || !whole(box.start)) return std::nullopt;
  return box;
}

}  // namespace

std::optional<BoxMatrix> box_factor(const ContractShape& shape, const Factor& factor, const LoopGroup& outer) {
  const std::optional<DenseShape> dense = find_dense(shape, factor, outer);
  if (!dense) return std::nullopt;
  const DType dtype = address_of(shape, factor).dtype;
  const bool along_rows = !(dense->k_stride == Dim(1));
  if (along_rows && (size_of(dtype) != 2 || !(dense->outer_stride == Dim(1)))) return std::nullopt;
  std::optional<BoxMatrix> box = boxes_of(shape, dtype, *dense, along_rows ? dense->k_stride : dense->outer_stride);
  if (box) box->along_rows = along_rows;
  return box;
}

std::optional<BoxMatrix> box_result(const ContractShape& shape) {
  const std::optional<DenseShape> dense = find_dense_result(shape);
  if (!dense || !(dense->k_stride == Dim(1))) return std::nullopt;
  const DType dtype = shape.nest.stores[0].dtype;
  if (size_of(dtype) != 2 && size_of(dtype) != 4) return std::nullopt;
  return boxes_of(shape, dtype, *dense, dense->outer_stride);
}

std::optional<SplitSum> split_of(const TileProduct& product, const TileConfig& c, const Target& target) {
  constexpr int64_t least_terms = 256, most_parts = 32, least_piece = 64;
  const ContractShape& shape = product.shape;
  for (const LoopGroup* group : {&shape.batch, &shape.m, &shape.n, &shape.k})
    if (!group->extent().as_constant()) return std::nullopt;
  const int64_t k = shape.k.extent().constant();
  const int64_t tiles =
      std::max<int64_t>(1, shape.batch.extent().constant() * ceil_div(shape.m.extent().constant(), c.tile.m) * ceil_div(shape.n.extent().constant(), c.tile.n));
  int64_t parts = std::min({target.multiprocessors.count / tiles, k / least_terms, most_parts});
  if (c.unit == Unit::mma && (product.left.rows || product.right.rows)) {
    // Rows in memory are cut into equal parts of whole pieces.
    const int64_t piece = 16 / product.left.bytes();
    while (parts > 1 && k % (parts * piece) != 0) --parts;
    return parts > 1 ? std::optional(SplitSum{parts, k / parts}) : std::nullopt;
  }
  if (parts < 2) return std::nullopt;
  const int64_t unit = std::max<int64_t>(least_piece, c.unit == Unit::wgmma ? c.depth : 0), piece = ceil_div(ceil_div(k, parts), unit) * unit;
  return SplitSum{ceil_div(k, piece), piece};
}

Demand demand_of(const TileProduct& product, const TileConfig& c, const Target& target) {
  const int sum_words = static_cast<int>(size_of(product.shape.sum)) / 4;
  switch (c.unit) {
    case Unit::fma: {
      const int threads = c.tile.count() / c.each.count();
      // Elements on their way, and their addresses, which compilers keep from step to step.
      const auto coming = [&](const Source& source, int rows) {
        return c.stages == 2 ? static_cast<int>(ceil_div(int64_t{rows} * c.depth, threads)) * (sum_words + (source.dense ? 4 : 8)) : 0;
      };
      const auto bytes = [&](int rows) { return ceil_div(int64_t{c.depth} * (rows + 1) * sum_words * 4, 16) * 16; };
      return {threads,
              bookkeeping(product) + (c.each.count() + c.each.m + c.each.n) * sum_words + coming(product.left, c.tile.m) + coming(product.right, c.tile.n),
              c.stages * (bytes(c.tile.m) + bytes(c.tile.n))};
    }
    case Unit::mma: {
      const Atom atom = atom_of(product, target);
      const int threads = c.warps.count() * target.warp_size;
      const int fragments = c.tile.m / c.warps.m / atom.m * atom.registers_m + c.tile.n / c.warps.n / atom.n * atom.registers_n;
      // Of the next pair of tiles: pieces of four words, or elements.
      const auto coming = [&](const Source& source, int rows) {
        if (target.multiprocessors.copies_asynchronously) return 0;
        const int64_t elements = ceil_div(int64_t{rows} * c.depth, threads);
        return static_cast<int>(source.rows ? ceil_div(elements * source.bytes(), 16) * 4 : elements);
      };
      const int registers = bookkeeping(product) + c.tile.count() / threads + fragments + coming(product.left, c.tile.m) + coming(product.right, c.tile.n);
      return {threads, registers, int64_t{c.stages} * (c.tile.m + c.tile.n) * c.depth * product.left.bytes()};
    }
    case Unit::wgmma: {
      // The warpgroup that copies has registers, too, until it gives them away.
      const int threads = (c.warps.m + warpgroup_warps) * target.warp_size, sums = warpgroup_rows * c.tile.n / (warpgroup_warps * target.warp_size);
      const int registers = c.tile.m > warpgroup_rows ? static_cast<int>(target.multiprocessors.registers / threads / 8 * 8) : 40 + sums;
      return {threads, registers, int64_t{c.stages} * ((c.tile.m + c.tile.n) * row_bytes + barrier_bytes) + result_boxes * c.tile.m * row_bytes};
    }
  }
  return {};
}

bool can_compute(const TileProduct& product, const TileConfig& c, const Target& target) {
  if (!product.has(c.unit) || c.tile.m < 1 || c.tile.n < 1 || c.depth < 1 || c.group < 1) return false;
  if (!suits(product, c, target)) return false;
  const Demand demand = demand_of(product, c, target);
  const Multiprocessors& has = target.multiprocessors;
  return demand.registers <= has.thread_registers && int64_t{demand.registers} * demand.threads <= has.registers &&
         demand.shared_bytes <= has.block_shared_bytes;
}

TileSizes::TileSizes(const TileProduct& product, const SpaceOptions& options)
    : batch(options.value(product.shape.batch.extent())),
      m(options.value(product.shape.m.extent())),
      n(options.value(product.shape.n.extent())),
      k(options.value(product.shape.k.extent())) {}

std::vector<TileConfig> all_tiles(const TileProduct& product, const Target& target, const TileSizes& sizes) {
  // Half of a tile would hold all; a stage of half the depth all of a sum; a stage more would never be filled.
  const auto too_large = [](int64_t tile, int64_t extent, int64_t least) { return tile > least && tile / 2 >= extent; };
  std::vector<TileConfig> all;
  const auto add = [&](TileConfig config, const Pair& tile, Pair TileConfig::*parts, const Pair& part, std::initializer_list<int> depths,
                       std::initializer_list<int> stages) {
    config.tile = tile;
    config.*parts = part;
    for (const int depth : depths)
      for (const int stage : stages)
        for (const int group : {1, 8}) {
          config.depth = depth;
          config.stages = stage;
          config.group = group;
          if (too_large(depth, sizes.k, *depths.begin()) || (stage > *stages.begin() && stage - 1 > ceil_div(sizes.k, depth))) continue;
          // One row or column of tiles has one order.
          if (group > 1 && (sizes.m <= tile.m || sizes.n <= tile.n)) continue;
          if (can_compute(product, config, target)) all.push_back(config);
        }
  };
  const auto each_tile = [&](std::initializer_list<int> sides, auto&& use) {
    for (const int tile_m : sides)
      for (const int tile_n : sides)
        if (!too_large(tile_m, sizes.m, *sides.begin()) && !too_large(tile_n, sizes.n, *sides.begin())) use(Pair{tile_m, tile_n});
  };
  each_tile({16, 32, 64, 128}, [&](const Pair& tile) {
    for (const int each_m : {2, 4, 8})
      for (const int each_n : {2, 4, 8}) {
        const int threads = tile.count() / (each_m * each_n);
        if (threads >= target.warp_size && threads <= 512) add({.unit = Unit::fma}, tile, &TileConfig::each, {each_m, each_n}, {8, 16, 32}, {1, 2});
      }
  });
  if (!product.has(Unit::mma)) return all;
  const int per_word = 4 / static_cast<int>(product.left.bytes());
  each_tile({32, 64, 128, 256}, [&](const Pair& tile) {
    for (const int warps_m : {1, 2, 4})
      for (const int warps_n : {1, 2, 4}) {
        const int threads = warps_m * warps_n * target.warp_size;
        if (threads >= 64 && threads <= 512)
          add({.unit = Unit::mma}, tile, &TileConfig::warps, {warps_m, warps_n}, {16 * per_word, 32 * per_word}, {2, 3, 4, 5});
      }
  });
  if (!product.has(Unit::wgmma)) return all;
  each_tile({64, 128, 256}, [&](const Pair& tile) {
    add({.unit = Unit::wgmma}, tile, &TileConfig::warps, {tile.m / warpgroup_rows * warpgroup_warps, 1}, {32 * per_word}, {3, 4, 6});
  });
  return all;
}

}  // namespace tilewright::simt
