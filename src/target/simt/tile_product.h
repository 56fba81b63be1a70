#pragma once

#include "schedule/tile_config.h"
#include "target/kernel_space.h"
#include "target/source/contract_shape.h"
#include "target/target.h"

/// Products of matrices that tile/kernels/simt_contract.h, simt_mma_contract.h and simt_wgmma_contract.h compute, how they are cut for that, and what it costs.
namespace tilewright::simt {

using namespace source;  // NOLINT: the text that all targets' kernels are made of

/// A factor as it is fetched.
struct Source {
  DType dtype = DType::f32;  ///< in memory; of a factor that is computed: of the sum
  bool dense = false;        ///< whether it lies in memory as a matrix
  bool rows = false;         ///< whether, if the tensor is aligned, its rows are whole pieces of 16 bytes
  int64_t bytes() const { return static_cast<int64_t>(size_of(dtype)); }
};

struct TileProduct {
  ContractShape shape;
  std::vector<schedule::TileConfig::Unit> units;  ///< that can compute it
  Source left, right;
  DType result = DType::f32;

  bool has(schedule::TileConfig::Unit unit) const;
};

/// When `nest` is a product that is worth tiles on `target`. `tf32`: its floats may lose all but TF32's bits.
std::optional<TileProduct> find_tile_product(const pattern::Nest& nest, const pattern::Program& program, const Target& target, bool tf32 = false);

/// The factor as rows of whole 16-byte pieces, if it is that for all sizes; they begin at multiples of 16 bytes where the tensor does.
std::optional<DenseShape> whole_rows(const ContractShape& shape, const Factor& factor, const LoopGroup& outer);

/// A factor or the result as the copy engine takes it (tile/exec/bulk.h), if the tensor begins at a multiple of 16 bytes.
struct BoxMatrix {
  bool along_rows = false;  ///< of a factor: neighbours in memory are neighbours in m or n, not in k
  Dim stride;               ///< of the other of the two
  Dim batch_stride;         ///< 0: the same for all
  Dim start;                ///< element of the first
};
std::optional<BoxMatrix> box_factor(const ContractShape& shape, const Factor& factor, const LoopGroup& outer);
/// Of the one result that neighbouring columns are neighbours in, with elements of 2 or 4 bytes.
std::optional<BoxMatrix> box_result(const ContractShape& shape);

/// What a block of the configuration takes of a multiprocessor.
struct Demand {
  int threads = 0;
  int registers = 0;  ///< of a thread: what is surely needed
  int64_t shared_bytes = 0;
};
Demand demand_of(const TileProduct& product, const schedule::TileConfig& config, const Target& target);

/// Whether the unit computes it so, and a multiprocessor has room for a block.
bool can_compute(const TileProduct& product, const schedule::TileConfig& config, const Target& target);

/// A sum in parts of `piece` terms; the last may have fewer.
struct SplitSum {
  int64_t parts, piece;
};
/// How the sum is shared out to several blocks, when the tiles alone leave multiprocessors without work. For sizes that are known.
std::optional<SplitSum> split_of(const TileProduct& product, const schedule::TileConfig& config, const Target& target);

/// A product's sizes as numbers.
struct TileSizes {
  int64_t batch, m, n, k;
  TileSizes(const TileProduct& product, const SpaceOptions& options);
};

/// Every configuration that can_compute() and that is no larger than the product wants.
std::vector<schedule::TileConfig> all_tiles(const TileProduct& product, const Target& target, const TileSizes& sizes);

/// Cycles that the product is expected to take.
double tile_cycles(const TileProduct& product, const schedule::TileConfig& config, const Target& target, const TileSizes& sizes);

/// The cheapest one, for sizes that are usual where only a run knows them.
schedule::TileConfig choose_tiles(const TileProduct& product, const Target& target);

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace tilewright::simt
