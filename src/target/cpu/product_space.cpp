// The configurations of a product that are worth a measurement, and what each is expected to cost.

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "base/hash.h"
#include "target/cpu/kernel_emitters.h"
#include "target/cpu/product_cost.h"
#include "tile/kernels/rows_division.h"

namespace tilewright {
namespace {

using namespace cpu;  // NOLINT: products and their costs
using schedule::ProductBlock;
using schedule::ProductConfig;
using Method = ProductConfig::Method;
using Split = ProductConfig::Split;

/// Guesses further than this from the best one are not worth a measurement.
constexpr double hopeless = 1.4;

/// Fewer rows never make up for widening all weights before.
constexpr int64_t widening_may_pay = 32;

/// A product's sizes as numbers.
struct Sizes {
  int64_t batch, lines, line, n, k, channels, groups, left_element, lanes, tiles, taps, padded = 0;
  double weight_rate;  ///< bytes a cycle
  bool writes_panels;  ///< of a right operand that is no weights
  std::map<ProductConfig::Atom, Sum> sums;
  std::map<ProductConfig::Atom, int64_t> weight_bytes;  ///< of each

  Sizes(const RowsProduct& product, const Target& target, const SpaceOptions& options) {
    const ContractShape& shape = product.shape;
    const auto number = [&](const Dim& dim) { return options.value(dim); };
    batch = number(shape.batch.extent());
    n = number(shape.n.extent());
    k = number(shape.k.extent());
    line = product.matrix ? number(shape.m.extent()) : number(product.windows->axes.back().output);
    lines = std::max<int64_t>(number(shape.m.extent()) / line, 1);
    channels = product.windows ? number(product.windows->channels) : k;
    groups = 1;
    for (size_t i = shape.batch.loops.size() - product.weight_groups; i < shape.batch.loops.size(); ++i) groups *= number(shape.batch.loops[i].extent);
    for (const ProductConfig::Atom atom : atoms_of(product, target)) {
      sums[atom] = sum_of(product, k, atom, target);
      weight_bytes[atom] = bytes_of_weight(product, atom);
      padded = std::max(padded, product.padded_rows(atom));
    }
    left_element = static_cast<int64_t>(size_of(shape.nest.loads[static_cast<size_t>(shape.left.access)].dtype));
    lanes = lanes_of(product, target);
    weight_rate = rate_of_weights(product, target);
    writes_panels = product.right_matrix.has_value();
    taps = product.windows && !product.depthwise ? k / std::max<int64_t>(channels, 1) : product.depthwise ? k : 1;
    tiles = 0;
    if (product.windows && product.windows->axes.size() == 2)
      tiles = ceil_div(number(product.windows->axes[0].output), 2) * ceil_div(number(product.windows->axes[1].output), 2);
  }

  int64_t rows() const { return batch * lines * line; }
  /// Rows that follow each other in strips, and how many such lines an entry of the batch has.
  int64_t line_of(const ProductConfig& config) const { return config.joined ? padded : line; }
  int64_t lines_of(const ProductConfig& config) const { return config.joined ? 1 : lines; }
};

tile::RowsBlocking blocking_of(const Sizes& s, const ProductConfig& config) {
  using Shared = tile::RowsBlocking::Split;
  const Shared split = config.split == Split::panels ? Shared::panels : config.split == Split::rows ? Shared::rows : Shared::automatic;
  return {.panel_bytes = config.panel_bytes,
          .strip_bytes = config.strip_bytes,
          .split = split,
          .ahead = config.ahead,
          .pieces = schedule::on_tiles(config.atom) ? 1 : 4,
          .writes_panels = s.writes_panels};
}

/// How tile::contract_rows() goes through the work of a configuration.
struct Division {
  int64_t panels, panel_bytes, strips, strip_bytes;
  tile::RowsDivision shares;

  Division(const Sizes& s, const ProductConfig& config, int threads)
      : panels(ceil_div(s.n, config.block.vectors * s.lanes)),
        panel_bytes(panel_elements(s, config) * s.weight_bytes.at(config.atom)),
        strips(s.lines_of(config) * ceil_div(s.line_of(config), config.block.rows)),
        strip_bytes(config.block.rows * s.channels * s.left_element),
        shares(s.batch, panels, config.widened ? panel_elements(s, config) * int64_t{sizeof(float)} : panel_bytes, strips, threads, blocking_of(s, config)) {}

  static int64_t panel_elements(const Sizes& s, const ProductConfig& config) {
    if (config.atom == ProductConfig::Atom::amx_digits) {  // whole steps a run
      const Sum& sum = s.sums.at(config.atom);
      const int64_t steps = tile_steps(sum.depth, config.atom) * 4;
      return sum.runs * ceil_div(sum.depth, steps) * steps * config.block.vectors * s.lanes;
    }
    const int64_t group = schedule::group_of(config.atom);
    return ceil_div(s.k, group) * group * config.block.vectors * s.lanes;
  }
  int64_t weight_bytes() const { return panels * panel_bytes; }
  /// Strips that stay near while groups of panels pass.
  int64_t near(const ProductConfig& config) const {
    return shares.groups == 1 ? strips : std::clamp<int64_t>(config.strip_bytes / std::max<int64_t>(strip_bytes, 1), 1, strips);
  }
  /// Times that all panels pass a task's strips, for all tasks that a thread has of the same panels.
  int64_t passes(const ProductConfig& config, int threads) const {
    if (shares.groups == 1) return 1;
    const int64_t tasks_of_thread = ceil_div(shares.strip_tasks, threads);
    return tasks_of_thread * ceil_div(ceil_div(strips, shares.strip_tasks), near(config));
  }
  /// The largest share of a thread beside an even one.
  double uneven(int64_t batch, int threads) const {
    const auto largest = [&](int64_t pieces) { return static_cast<double>(ceil_div(pieces, threads)) * threads / static_cast<double>(pieces); };
    if (shares.by_units) return largest(batch * panels);
    return shares.strip_tasks >= threads ? largest(strips) : largest(shares.tasks());
  }
};

double rows_cycles(const Sizes& s, const ProductConfig& config, int threads) {
  const Division d(s, config, threads);
  const auto t = static_cast<double>(threads);
  Sum sum = s.sums.at(config.atom);
  if (config.widened) sum.narrow = false;
  // Every worker prepares the panels that it meets: vectors of them, whose k may lie apart.
  const double panels = static_cast<double>(s.batch * d.panels * (d.shares.by_units ? 1 : threads));
  const double widening = config.widened    ? panels * widen_cycles(config.block, sum)
                          : s.writes_panels ? panels * 4.4 * static_cast<double>(config.block.vectors * s.k)
                                            : 0;
  const int64_t line = s.line_of(config), lines = s.batch * s.lines_of(config);
  const double compute = static_cast<double>(lines * d.panels) * line_cycles(config.block, line, sum) + widening +
                         static_cast<double>(lines) * split_cycles(line, sum, config.joined);
  // Panels come from the shared cache: to every thread where strips are shared out, each panel to one where panels are.
  const double moved = static_cast<double>(d.weight_bytes() * s.groups * d.passes(config, threads)) * (d.shares.by_units ? 1 / t : 1) / s.weight_rate;
  const double share = compute / t * d.uneven(s.batch, threads);
  return (config.ahead && d.shares.groups > 1 ? std::max(share, moved) + 0.1 * moved : share + 0.6 * moved) + start_cycles;
}

double depthwise_cycles(const Sizes& s, const ProductConfig& config, const Target& target, int threads) {
  const auto rows = static_cast<double>(config.block.rows), taps = static_cast<double>(s.taps);
  const double strips = static_cast<double>(s.batch * s.lines * ceil_div(s.line, config.block.rows) * ceil_div(s.n, s.lanes));
  const double inputs = std::sqrt(taps) * (rows + std::sqrt(taps) - 1);  // each is loaded once a kernel row
  return strips * (std::max(taps * rows / target.multiply_adds, (inputs + taps) / 2) + 2 * rows + 8) / threads + start_cycles;
}

double cycles_of(const Sizes& s, const ProductConfig& config, const Target& target, int threads) {
  switch (config.method) {
    case Method::winograd:
      return static_cast<double>(s.batch) * winograd_cycles(config.atom, config.block, std::max<int64_t>(s.tiles, 1), s.channels, s.n, target) / threads +
             start_cycles;
    case Method::depthwise: return depthwise_cycles(s, config, target, threads);
    case Method::rows: break;
  }
  return rows_cycles(s, config, threads);
}

/// Blockings of one register block that differ in what the kernel does.
std::vector<ProductConfig> blockings(const Sizes& s, const ProductConfig& block, const Target& target, int threads) {
  std::vector<ProductConfig> all;
  std::set<std::pair<int64_t, int64_t>> seen;
  for (const int64_t panel_share : {4, 8, 2})
    for (const int64_t strip_share : {3, 1, 5}) {
      ProductConfig config = block;
      config.panel_bytes = target.l2_bytes / panel_share;
      config.strip_bytes = target.l2_bytes * strip_share / 8;
      const Division d(s, config, threads);
      if (!seen.insert({d.shares.groups, d.near(config)}).second) continue;
      for (const Split split : {Split::automatic, Split::panels, Split::rows}) {
        if (split != Split::automatic && threads == 1) continue;
        if (split == Split::panels && s.batch * d.panels < threads) continue;
        if (split == Split::rows && s.batch * d.strips < threads) continue;
        for (const bool ahead : {true, false}) {
          if (ahead && s.writes_panels) continue;
          if (!ahead && !s.writes_panels && d.shares.groups == 1 && d.weight_bytes() < target.l2_bytes / 4) continue;
          config.split = split;
          config.ahead = ahead;
          all.push_back(config);
        }
      }
    }
  return all;
}

std::vector<ProductConfig> all_configs(const RowsProduct& product, const Sizes& s, const Target& target, const SpaceOptions& options) {
  std::vector<ProductConfig> all;
  if (product.depthwise) {
    const int most = target.vector_bytes == 64 ? 14 : 10;
    for (int rows = 2; rows <= most; ++rows) all.push_back({.method = Method::depthwise, .block = {rows, 2}});
    return all;
  }
  for (const ProductConfig::Atom atom : atoms_of(product, target))
    for (const ProductBlock block : register_blocks(target, atom)) {
      const auto add = [&](bool widened, bool joined) {
        const ProductConfig config{.method = Method::rows, .block = block, .atom = atom, .widened = widened, .joined = joined};
        if (block.rows > s.line_of(config)) return;
        const std::vector<ProductConfig> some = blockings(s, config, target, options.threads);
        all.insert(all.end(), some.begin(), some.end());
      };
      add(false, false);
      if (s.sums.at(atom).narrow && s.lines * s.line >= widening_may_pay) add(true, false);
      if (product.padded_rows(atom) > 0 && block.rows >= joined_rows) add(false, true);
    }
  if (!options.winograd) return all;
  for (const ProductConfig::Atom atom : winograd_atoms(product, target))
    for (const ProductBlock block : winograd_blocks(target, atom, s.tiles)) all.push_back({.method = Method::winograd, .block = block, .atom = atom});
  return all;
}

std::string signature_of(const RowsProduct& product, const pattern::Nest& nest, const pattern::Program& program) {
  std::string text = product.depthwise ? "depthwise" : product.right_matrix ? "matrices" : product.matrix ? "matrix" : "windows";
  if (product.windows) {
    const auto list = [&](const char* what, auto&& field) {
      text += fmt::format(" {}=", what);
      for (size_t i = 0; i < product.windows->axes.size(); ++i) text += (i ? "x" : "") + field(product.windows->axes[i]).str();
    };
    list("kernel", [](const auto& axis) { return axis.kernel; });
    list("stride", [](const auto& axis) { return axis.stride; });
    list("dilation", [](const auto& axis) { return axis.dilation; });
    if (!(product.windows->channel_stride == Dim(1))) text += " channels-first";
  }
  const Address& left = product.shape.nest.loads[static_cast<size_t>(product.shape.left.access)];
  return fmt::format("{} {} epilogue={}", text, tilewright::name(product.integers ? left.dtype : product.shape.sum),
                     sha256(epilogue_text(nest, program)).substr(0, 8));
}

}  // namespace

bool cpu::can_compute(const RowsProduct& product, const ProductConfig& config, const Target& target) {
  if (product.depthwise != (config.method == Method::depthwise)) return false;
  if (product.depthwise) return config.block.rows >= 1 && config.block.rows <= 32;
  const std::vector<ProductConfig::Atom> atoms = config.method == Method::winograd ? winograd_atoms(product, target) : atoms_of(product, target);
  if (std::find(atoms.begin(), atoms.end(), config.atom) == atoms.end()) return false;
  if (config.ahead && product.right_matrix) return false;
  if (config.widened && (config.method != Method::rows || !sum_of(product, 1, config.atom, target).narrow)) return false;
  if (config.joined && (config.method != Method::rows || config.block.rows < joined_rows || product.padded_rows(config.atom) == 0)) return false;
  const std::vector<ProductBlock> blocks = config.method == Method::winograd ? winograd_blocks(target, config.atom, 0) : register_blocks(target, config.atom);
  if (std::find(blocks.begin(), blocks.end(), config.block) == blocks.end()) return false;
  return config.method == Method::winograd || (config.panel_bytes > 0 && config.strip_bytes > 0);
}

std::optional<KernelSpace> cpu::product_space(const pattern::Nest& nest, const pattern::Program& program, const Target& target, const SpaceOptions& options) {
  std::optional<RowsProduct> product = find_rows_product(nest, program);
  if (!product || atoms_of(*product, target).empty()) return std::nullopt;
  product->rounds = options.rounds;
  const Sizes s(*product, target, options);
  KernelSpace space;
  space.signature = signature_of(*product, nest, program);
  space.shape = {{"batch", s.batch}, {"lines", s.lines}, {"line", s.line}, {"n", s.n}, {"k", s.k}};
  if (product->windows) space.shape.emplace_back("channels", s.channels);
  if (s.padded > 0) space.shape.emplace_back("padded", s.padded);
  space.operations = 2.0 * static_cast<double>(s.rows()) * static_cast<double>(s.n) * static_cast<double>(s.k);

  const ProductConfig guess = choose_method(*product, target, options.winograd);
  space.weight_bytes = product->right_matrix ? 0 : s.groups * s.n * s.k * s.weight_bytes.at(guess.atom);
  space.exact = product->integers.has_value();
  space.lanes = s.lanes;
  space.weight_element = s.weight_bytes.at(guess.atom);
  const double expected = cycles_of(s, guess, target, options.threads);
  space.configs = {guess};
  space.cycles = {expected};
  std::vector<std::pair<double, ProductConfig>> others;
  for (const ProductConfig& config : all_configs(*product, s, target, options)) {
    const double cycles = cycles_of(s, config, target, options.threads);
    if (!(config == guess)) others.emplace_back(cycles, config);
  }
  double best = expected;
  for (const auto& [cycles, config] : others) best = std::min(best, cycles);
  std::stable_sort(others.begin(), others.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  for (const auto& [cycles, config] : others) {
    if (cycles > hopeless * best) break;
    space.configs.push_back(config);
    space.cycles.push_back(cycles);
  }
  return space;
}

}  // namespace tilewright
