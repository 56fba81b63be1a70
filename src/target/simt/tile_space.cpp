// The configurations of a product that are worth a measurement, and the decision among them.

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/hash.h"
#include "target/simt/kernel_emitters.h"
#include "target/simt/tile_product.h"

namespace tilewright::simt {
namespace {

using schedule::TileConfig;

/// Guesses further than this from the best one are not worth a measurement; nor are more than so many.
constexpr double hopeless = 1.5;
constexpr size_t most_configs = 300;

/// What is computed, and how elements come, without sizes.
std::string signature_of(const TileProduct& product, const pattern::Nest& nest, const pattern::Program& program) {
  const auto source = [](const Source& factor) {
    return fmt::format("{}-{}", tilewright::name(factor.dtype), factor.rows ? "rows" : factor.dense ? "elements" : "other");
  };
  return fmt::format("tiles {} {} {} epilogue={}", source(product.left), source(product.right), tilewright::name(product.shape.sum),
                     sha256(epilogue_text(nest, program)).substr(0, 8));
}

int64_t weight_bytes(const TileProduct& product, const pattern::Program& program) {
  int64_t bytes = 0;
  for (const Factor* factor : {&product.shape.left, &product.shape.right}) {
    if (factor->access < 0) continue;
    const pattern::TensorInfo& info = program.tensor(product.shape.nest.loads[static_cast<size_t>(factor->access)].tensor);
    if (info.constant) bytes += static_cast<int64_t>(info.constant->byte_size());
  }
  return bytes;
}

}  // namespace

std::optional<KernelSpace> tile_space(const pattern::Nest& nest, const pattern::Program& program, const Target& target, const SpaceOptions& options) {
  const std::optional<TileProduct> product = find_tile_product(nest, program, target);
  if (!product) return std::nullopt;
  const TileSizes sizes(*product, options);
  KernelSpace space;
  space.signature = signature_of(*product, nest, program);
  space.shape = {{"batch", sizes.batch}, {"m", sizes.m}, {"n", sizes.n}, {"k", sizes.k}};
  space.operations = 2.0 * static_cast<double>(sizes.batch) * static_cast<double>(sizes.m) * static_cast<double>(sizes.n) * static_cast<double>(sizes.k);
  space.weight_bytes = weight_bytes(*product, program);
  std::vector<std::pair<double, TileConfig>> all;
  for (const TileConfig& config : all_tiles(*product, target, sizes)) all.emplace_back(tile_cycles(*product, config, target, sizes), config);
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  // What is compiled without a measurement comes first, which with run-time sizes may be another than the best for these.
  const TileConfig guess = choose_tiles(*product, target);
  space.configs = {guess};
  space.cycles = {tile_cycles(*product, guess, target, sizes)};
  for (const auto& [cycles, config] : all) {
    if (cycles > hopeless * all[0].first || space.configs.size() == most_configs) break;
    if (config == guess) continue;
    space.configs.emplace_back(config);
    space.cycles.push_back(cycles);
  }
  return space;
}

std::vector<float> tile_features(const KernelSpace& space, const TileConfig& c, const Target& target) {
  std::map<std::string, int64_t> shape(space.shape.begin(), space.shape.end());
  const auto floats = [](auto value) { return static_cast<float>(value); };
  const auto log2_of = [&](auto value) { return floats(std::log2(std::max(static_cast<double>(value), 1e-9))); };
  const auto used = [&](int64_t all, int64_t piece) { return floats(all) / floats(ceil_div(all, piece) * piece); };
  const int64_t blocks = shape["batch"] * ceil_div(shape["m"], c.tile.m) * ceil_div(shape["n"], c.tile.n);
  const int64_t count = std::max(target.multiprocessors.count, 1);
  const schedule::Pair parts = c.unit == TileConfig::Unit::fma ? c.each : c.warps;
  return {log2_of(shape["batch"]),
          log2_of(shape["m"]),
          log2_of(shape["n"]),
          log2_of(shape["k"]),
          log2_of(space.weight_bytes),
          floats(static_cast<int>(c.unit)),
          log2_of(c.tile.m),
          log2_of(c.tile.n),
          log2_of(c.tile.count()),
          log2_of(parts.m),
          log2_of(parts.n),
          log2_of(c.depth),
          floats(c.stages),
          log2_of(c.stages * c.depth * (c.tile.m + c.tile.n)),
          floats(c.tile.m + c.tile.n) / floats(c.tile.count()),
          used(shape["m"], c.tile.m),
          used(shape["n"], c.tile.n),
          used(shape["k"], c.depth),
          log2_of(floats(blocks) / floats(count)),
          floats(c.group),
          log2_of(ceil_div(shape["k"], c.depth)),
          log2_of(c.unit == TileConfig::Unit::fma ? c.tile.count() / c.each.count() : c.warps.count() * target.warp_size),
          0};  // products of CPUs have one more
}

void plan_products(schedule::Block& block, const Target& target, const PlanOptions& options) {
  schedule::for_each_block(block, [&](schedule::Block& one) {
    for (schedule::Kernel& kernel : one.kernels) {
      const auto* nest = std::get_if<pattern::Nest>(&kernel.stages.at(0));
      if (!nest || kernel.stages.size() > 1 || kernel.tiles) continue;
      const std::optional<TileProduct> product = find_tile_product(*nest, one.program, target, options.tf32);
      if (!product) continue;
      // What was measured for float32 says nothing of a product that may have fewer bits.
      const bool fewer_bits = product->has(TileConfig::Unit::mma) && product->left.dtype == DType::f32;
      const std::optional<schedule::KernelConfig> chosen = options.choose && !fewer_bits ? options.choose(one, kernel) : std::nullopt;
      const auto* config = chosen ? std::get_if<TileConfig>(&*chosen) : nullptr;
      kernel.tiles = config && can_compute(*product, *config, target) ? *config : choose_tiles(*product, target);
    }
  });
}

}  // namespace tilewright::simt
