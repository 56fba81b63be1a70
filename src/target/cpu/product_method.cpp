// What a product costs by each method and register block, and which is the best guess.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "target/cpu/kernel_emitters.h"
#include "target/cpu/product_cost.h"

namespace tilewright::cpu {
namespace {

/// Where only a run knows how long a line of rows is.
constexpr int64_t usual_line = 56;

struct Choice {
  schedule::ProductBlock block;
  double cycles = 0;
};

/// The register block that takes the fewest cycles for `line` rows and n columns, and how many.
Choice cheapest_block(int64_t line, int64_t n, const Sum& sum, int64_t lanes, const Target& target, bool joined = false) {
  Choice best;
  for (const schedule::ProductBlock block : register_blocks(target, sum.atom)) {
    if (block.rows > line || (joined && block.rows < joined_rows)) continue;
    const double cycles = static_cast<double>(ceil_div(n, block.vectors * lanes)) * line_cycles(block, line, sum) + split_cycles(line, sum, joined);
    if (best.block.rows == 0 || cycles < best.cycles * 0.999) best = {block, cycles};
  }
  return best;
}

/// From so many rows on, panels of narrow weights are better widened for all of them: that takes as long as some four strips lose by widening at each load.
constexpr int64_t widening_pays = 96;

/// Strips of several lines are copied, those of one line are read in place where they can be.
constexpr double joining_pays = 0.93;

/// Of the bytes that vectors get from afar tiles get so many: few of their loads are under way at once. Measured on a core that others share: 0.3 to 0.6.
constexpr double waiting_tiles = 0.4;

/// Beside a neighbour of the core a step of digits takes four times as long, multiply-adds 1.4 times. So parts of floats, which gain little by tiles, are
/// chosen where they are expected to take so much of what others do at most, and Winograd's method by digits, which has fewer products, where it takes so much
/// of what digits multiplied directly do.
constexpr double parts_gain = 0.75, fewer_products_gain = 1.6;

/// Rows of an entry of the batch that pass its panels.
int64_t passing_rows(const RowsProduct& product) {
  const Dim rows = product.shape.m.extent();
  return rows.as_constant().value_or(usual_line * usual_line);
}

/// Lanes of k that a tile takes at most, and its rows and columns.
constexpr int64_t tile_side = 16;

/// `rows` rows times one panel on tile registers, as Intel publishes what they reach: 16 cycles a product of tiles and a store, eight a load, 52 until a
/// product's sums can be added to. Rows of panels come from the second level cache in two cycles a line; what is left of a run is copied.
double tile_cycles(const schedule::ProductBlock& block, int64_t rows, const Sum& sum) {
  const int64_t steps = tile_steps(sum.depth, sum.atom), group = schedule::group_of(sum.atom);
  const int64_t whole = sum.depth / (steps * group), rest = sum.depth % (steps * group) > 0 ? 1 : 0;
  // Of three digits a side, eight products; five tiles of sums are joined, and rows of results begin.
  if (sum.atom == schedule::ProductConfig::Atom::amx_digits) {
    const auto tiles = static_cast<double>(ceil_div(rows, tile_side) * block.vectors);
    // Panels pass by the first level cache; rows that do not fit it are loaded as slowly as they are.
    const int64_t near = 3 * std::min<int64_t>(block.rows, rows) * sum.split;
    const double far = near > (80 << 10) ? 1.15 : near > (40 << 10) ? 1.08 : 1;
    return tiles * (static_cast<double>(sum.runs * (whole + rest)) * 128 * 1.1 * far + 120) + 4 * static_cast<double>(rows);
  }
  const auto height = static_cast<double>(ceil_div(rows, tile_side)), width = static_cast<double>(block.vectors), r = static_cast<double>(rows);
  // Of three parts a side, six products, three in a row to each sum; of two parts, three, and two.
  const auto parts = static_cast<double>(schedule::parts_of(sum.atom));
  const bool split = parts > 1;
  const double lines = 2 * parts * static_cast<double>(steps) * width;
  const double step = std::max({16 * (parts * (parts + 1) / 2) * height * width, 52 * parts, 8 * parts * (height + width), lines});
  const double run = static_cast<double>(whole + rest) * step + static_cast<double>(rest) * ((split ? 0 : 4 * r) + lines);
  return static_cast<double>(sum.runs) * run + (split ? 160 : 16) * height * width + 2 * r * width + 30;
}

}  // namespace

double rate_of_weights(const RowsProduct& product, const Target& target) {
  constexpr double memory = 9;
  return waits_for_weights(product, target) ? memory : target.l3_rate;
}

int64_t tile_steps(int64_t depth, schedule::ProductConfig::Atom atom) {
  const int64_t lanes = std::max<int64_t>(ceil_div(depth, schedule::group_of(atom)), 1);
  return ceil_div(lanes, ceil_div(lanes, tile_side));
}

std::vector<schedule::ProductBlock> register_blocks(const Target& target, schedule::ProductConfig::Atom atom) {
  // Columns' units take a vector beside each of weights, and shuffles one that says what goes where.
  const int registers = target.vector_registers - (target.broadcasts_loads && atom == schedule::ProductConfig::Atom::fma ? 0 : 1);
  const int row = atom == schedule::ProductConfig::Atom::fma24 ? 2 : 1;
  std::vector<schedule::ProductBlock> blocks;
  if (schedule::on_tiles(atom)) {
    for (int vectors = 2; vectors >= 1; --vectors)
      for (int rows = static_cast<int>(2 * tile_side); rows >= 1; --rows)
        // Two tiles of sums of parts at most; tiles of digits follow each other, those of a block are equally high.
        if (schedule::parts_of(atom) == 1 || rows <= tile_side || (atom == schedule::ProductConfig::Atom::amx_digits ? rows % 2 == 0 : vectors == 1))
          blocks.push_back({rows, vectors});
    return blocks;
  }
  for (int vectors = 1; vectors <= 8; ++vectors)
    for (int rows = 1; (rows + row) * vectors <= registers; ++rows) blocks.push_back({rows, vectors});
  return blocks;
}

int64_t bytes_of_weight(const RowsProduct& product, schedule::ProductConfig::Atom atom) {
  using Atom = schedule::ProductConfig::Atom;
  if (product.integers) return 4 / schedule::group_of(atom);
  if (product.right_matrix) return static_cast<int64_t>(size_of(product.shape.sum));
  if (atom == Atom::amx_digits || atom == Atom::fma24) return 3;
  if (const int64_t parts = schedule::parts_of(atom); parts > 1) return parts * int64_t{sizeof(uint16_t)};
  return static_cast<int64_t>(size_of(product.shape.nest.loads[static_cast<size_t>(product.shape.right.access)].dtype));
}

namespace {

/// Lines that so many bytes lie apart meet in one set of the first level cache.
constexpr int64_t l1_way_bytes = 4096;

/// Whether `rows` rows push each other out of the first level cache: too many of them meet in its sets.
bool collide(int64_t rows, const Sum& sum) {
  if (sum.row_bytes <= 0) return false;
  const int64_t sets = l1_way_bytes / std::gcd(sum.row_bytes, l1_way_bytes);
  return ceil_div(rows, sets) > sum.l1_ways;
}

/// Multiply-adds that take as long as `runs` runs of `depth` products by the atom.
int64_t steps_of(int64_t runs, int64_t depth, schedule::ProductConfig::Atom atom, const Target& target) {
  const int64_t group = schedule::group_of(atom), steps = std::max<int64_t>(runs, 1) * ceil_div(depth, group);
  if (atom != schedule::ProductConfig::Atom::bf16) return steps;
  return static_cast<int64_t>(std::ceil(static_cast<double>(steps * group) / target.bfloat_dots));
}

}  // namespace

Sum Sum::of(int64_t k, schedule::ProductConfig::Atom atom, const Target& target) {
  const auto element = static_cast<int64_t>(size_of(left_type(atom, DType::f32)));
  return {.atom = atom,
          .depth = k,
          .steps = steps_of(1, k, atom, target),
          .row_bytes = k * element,
          .rate = target.multiply_adds,
          .l1_ways = target.l1_bytes / l1_way_bytes};
}

Sum sum_of(const RowsProduct& product, int64_t k, schedule::ProductConfig::Atom atom, const Target& target) {
  const int64_t runs = product.depthwise ? 1 : product.runs(atom);
  int64_t split = 0, split_joined = 0;
  if (schedule::parts_of(atom) > 1) {
    const bool digits = atom == schedule::ProductConfig::Atom::amx_digits;
    split = k;
    if (product.windows && (runs > 1 || !digits))
      split = ceil_div(k, product.windows->axes.back().kernel.constant()) * product.windows->axes.back().stride.constant();
    split_joined = split;
    if (digits && product.windows) {  // a position becomes digits once a bundle, a third of them once more
      split_joined = product.windows->channels.constant() * 4 / 3;
      for (const WindowRowsShape::Axis& axis : product.windows->axes)
        if (!(axis.kernel == Dim(1)) && axis.stride.is_constant()) split_joined *= axis.stride.constant();
    }
  }
  const DType weights = product.shape.nest.loads[static_cast<size_t>(product.shape.right.access)].dtype;
  const bool narrow =
      atom == schedule::ProductConfig::Atom::fma && !product.depthwise && !product.right_matrix && !product.integers && weights != product.shape.sum;
  const int64_t row_bytes = product.depthwise ? 0 : product.step(atom) * static_cast<int64_t>(size_of(left_type(atom, product.shape.sum)));
  Sum sum = Sum::of(k, atom, target);
  sum.runs = runs;
  sum.depth = k / std::max<int64_t>(runs, 1);
  sum.steps = steps_of(runs, sum.depth, atom, target);
  sum.split = split;
  sum.split_joined = split_joined;
  sum.row_bytes = row_bytes;
  sum.narrow = narrow;
  return sum;
}

double widen_cycles(const schedule::ProductBlock& block, const Sum& sum) { return 4.4 * static_cast<double>(block.vectors * sum.steps); }

double split_cycles(int64_t line, const Sum& sum, bool joined) {
  return (sum.atom == schedule::ProductConfig::Atom::amx_digits ? 1.2 : 0.75) * static_cast<double>(line * (joined ? sum.split_joined : sum.split));
}

double line_cycles(const schedule::ProductBlock& block, int64_t line, const Sum& sum) {
  const auto k = static_cast<double>(sum.steps);
  // Cycles a step of k: multiply-adds, two loads in each, two for a cache line of weights from the second level, three for one of rows that push each other
  // out of the first; then the sums are stored.
  const auto cycles_of = [&](int64_t rows) {
    if (rows > 0 && schedule::on_tiles(sum.atom)) return tile_cycles(block, rows, sum);
    const auto r = static_cast<double>(rows), v = static_cast<double>(block.vectors);
    // Widening a vector of weights takes two operations of the units that multiply, of 24 bits three.
    const double widening = sum.atom == schedule::ProductConfig::Atom::fma24 ? 1.5 * v : sum.narrow ? v : 0;
    // Where a cycle starts one multiply-add, what loads cost beside them was measured (Zen 4).
    const double loads = sum.rate > 1 ? 0 : 0.15 * r + 0.4 * v, lines = 2 * v + (collide(rows, sum) ? 3 * r : 0);
    return rows == 0 ? 0 : k * std::max({r * v / sum.rate + widening + loads, (r + v) / 2, lines}) + 2 * r * v + 30;
  };
  return static_cast<double>(line / block.rows) * cycles_of(block.rows) + cycles_of(line % block.rows);
}

double product_cycles(const ProductSize& size, const Target& target) {
  const int64_t rows = size.rows > 0 ? size.rows : usual_line * usual_line, lanes = target.vector_bytes / static_cast<int64_t>(sizeof(float));
  // Elements of windows are copied or transformed, those of lines are read as they lie.
  const int64_t prepared = size.windows ? (size.operand > 0 ? size.operand : rows * size.terms) : 0;
  return cheapest_block(rows, size.columns, Sum::of(size.terms, schedule::ProductConfig::Atom::fma, target), lanes, target).cycles +
         static_cast<double>(prepared) + start_cycles;
}

namespace {

/// Whether the product is a convolution that Winograd's method computes.
bool suits_winograd(const RowsProduct& product, const Target& target) {
  if (!product.windows || product.depthwise || product.weight_groups > 0 || product.shape.sum != DType::f32) return false;
  const WindowRowsShape& windows = *product.windows;
  const ContractShape& shape = product.shape;
  const int64_t lanes = lanes_of(product, target);
  if (windows.axes.size() != 2 || !(windows.channel_stride == Dim(1)) || !windows.channels.is_constant() || windows.channels.constant() % lanes != 0)
    return false;
  Dim below = windows.axes[1].pitch;
  if (!below.is_constant() || below.constant() < windows.channels.constant()) return false;
  for (size_t i = 2; i-- > 0; below *= windows.axes[i].input) {
    const WindowRowsShape::Axis& axis = windows.axes[i];
    if (!(axis.kernel == Dim(3)) || !(axis.stride == Dim(1)) || !(axis.dilation == Dim(1)) || !(axis.pitch == below)) return false;
  }
  const auto by_image = even_over(windows.start, shape.batch);
  return by_image && (shape.batch.loops.empty() || by_image->slope == below);
}

}  // namespace

std::vector<schedule::ProductConfig::Atom> winograd_atoms(const RowsProduct& product, const Target& target) {
  using Atom = schedule::ProductConfig::Atom;
  if (!suits_winograd(product, target)) return {};
  const std::vector<Atom> direct = atoms_of(product, target);
  // Digits first: they err less.
  if (std::find(direct.begin(), direct.end(), Atom::amx_digits) != direct.end() && digits_stand_for_filters(product)) return {Atom::amx_digits, Atom::fma};
  if (direct.front() == Atom::bf16 && product.rounds) return {Atom::bf16, Atom::fma};
  return {Atom::fma};
}

std::vector<schedule::ProductBlock> winograd_blocks(const Target& target, schedule::ProductConfig::Atom atom, int64_t tiles) {
  std::vector<schedule::ProductBlock> blocks = register_blocks(target, atom);
  std::erase_if(blocks, [&](const schedule::ProductBlock& block) {
    if (tiles > 0 && block.rows > tiles) return true;
    // Strips of digits are one tile of rows each, and as high as each other.
    return schedule::on_tiles(atom) && (block.rows > tile_side || (tiles > 0 && block.rows != ceil_div(tiles, ceil_div(tiles, block.rows))));
  });
  return blocks;
}

double winograd_cycles(schedule::ProductConfig::Atom atom, const schedule::ProductBlock& block, int64_t tiles, int64_t channels, int64_t filters,
                       const Target& target) {
  // 16 products; transforms of 4 x 4 inputs and sums, a vector of channels or filters at a time; weights come at most of the shared cache's rate. Digits are
  // four a row: nine products instead of eight, and sums are copied once more.
  using Atom = schedule::ProductConfig::Atom;
  const bool digits = atom == Atom::amx_digits;
  const int64_t lanes = target.vector_bytes / static_cast<int64_t>(sizeof(float)), weight_bytes = digits ? 3 : atom == Atom::bf16 ? 2 : 4;
  Sum sum = Sum::of(channels, atom, target);
  sum.split = digits ? channels : 0;
  const double products = 16 * static_cast<double>(ceil_div(filters, block.vectors * lanes)) * line_cycles(block, tiles, sum) * (digits ? 9.0 / 8 : 1);
  const double transforms = static_cast<double>(tiles) * static_cast<double>(ceil_div(channels, lanes) * 48 + ceil_div(filters, lanes) * 45);
  const double splits = digits ? static_cast<double>(16 * tiles) * (0.8 * static_cast<double>(channels) + 0.4 * static_cast<double>(filters)) : 0;
  return std::max(products + transforms + splits, 16.0 * static_cast<double>(channels) * static_cast<double>(filters * weight_bytes) / (0.8 * target.l3_rate));
}

int64_t winograd_tiles(const WindowRowsShape& windows) {
  const auto height = windows.axes[0].output.as_constant(), width = windows.axes[1].output.as_constant();
  return height && width ? ceil_div(*height, 2) * ceil_div(*width, 2) : 0;
}

schedule::ProductConfig with_defaults(schedule::ProductConfig config, const Target& target) {
  const bool digits = config.atom == schedule::ProductConfig::Atom::amx_digits;
  config.panel_bytes = digits ? target.l2_bytes / 8 : target.l2_bytes / 4;
  config.strip_bytes = target.l2_bytes * 3 / 8;
  return config;
}

schedule::ProductConfig choose_method(const RowsProduct& product, const Target& target, bool allow_winograd, std::optional<schedule::ProductConfig::Atom> named,
                                      bool as_sums) {
  using Method = schedule::ProductConfig::Method;
  if (product.depthwise) return {.method = Method::depthwise, .block = {8, 2}};
  const int64_t line = product.line() > 0 ? product.line() : usual_line, lanes = lanes_of(product, target);
  const int64_t n = product.shape.n.extent().constant(), k = product.shape.k.extent().constant();
  const bool waits = waits_for_weights(product, target);
  Choice rows;
  schedule::ProductConfig config;
  for (const schedule::ProductConfig::Atom atom : named ? std::vector{*named} : atoms_of(product, target)) {
    Sum sum = sum_of(product, k, atom, target);
    const bool widened = !as_sums && sum.narrow && passing_rows(product) >= widening_pays;
    if (widened || as_sums) sum.narrow = false;
    Choice choice = cheapest_block(line, n, sum, lanes, target);
    bool joined = false;
    if (const int64_t padded = product.padded_rows(atom); padded > 0) {
      Choice across = cheapest_block(padded, n, sum, lanes, target, true);
      across.cycles /= static_cast<double>(product.windows->axes[0].output.constant());
      if (across.cycles < joining_pays * choice.cycles) choice = across, joined = true;
    }
    if (waits) {
      const double lines = static_cast<double>(passing_rows(product)) / static_cast<double>(line);
      const double bytes_a_cycle = rate_of_weights(product, target) * (schedule::on_tiles(atom) ? waiting_tiles : 1);
      choice.cycles += static_cast<double>(n * k * bytes_of_weight(product, atom)) / bytes_a_cycle / lines;
    }
    const double enough = atom == schedule::ProductConfig::Atom::amx_f32 ? parts_gain : 0.999;
    if (rows.block.rows == 0 || choice.cycles < rows.cycles * enough) rows = choice, config.atom = atom, config.widened = widened, config.joined = joined;
  }
  config.block = rows.block;
  config.ahead = !product.right_matrix;
  if (!allow_winograd || named) return with_defaults(config, target);
  double least = 0;
  std::optional<schedule::ProductConfig> fewer;
  for (const schedule::ProductConfig::Atom atom : winograd_atoms(product, target)) {
    const WindowRowsShape& windows = *product.windows;
    const int64_t tiles = winograd_tiles(windows) > 0 ? winograd_tiles(windows) : usual_line * usual_line / 4;
    for (const schedule::ProductBlock block : winograd_blocks(target, atom, tiles)) {
      const double cycles = winograd_cycles(atom, block, tiles, windows.channels.constant(), n, target);
      if (!fewer || (atom == fewer->atom && cycles < least * 0.999)) least = cycles, fewer = {.method = Method::winograd, .block = block, .atom = atom};
    }
  }
  if (fewer) {
    const double lines = static_cast<double>(product.windows->axes[0].output.as_constant().value_or(usual_line));
    // Measured beside digits, Winograd's multiply-adds take longer than they are expected to.
    const bool direct = config.atom == schedule::ProductConfig::Atom::amx_digits;
    const double close = !direct ? 0.9 : schedule::on_tiles(fewer->atom) ? fewer_products_gain : 0.75;
    if (least < close * rows.cycles * lines) return *fewer;
  }
  return with_defaults(config, target);
}

}  // namespace tilewright::cpu
