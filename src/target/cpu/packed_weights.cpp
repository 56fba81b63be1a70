#include <algorithm>
#include <cmath>
#include <cstring>

#include "target/cpu/filter_points.h"
#include "target/cpu/rows_product.h"
#include "tile/atoms/bfloat_parts.h"
#include "tile/atoms/byte_digits.h"
#include "tile/atoms/dot.h"
#include "tile/atoms/fixed24.h"

namespace tilewright::cpu {

using schedule::affine_in;

namespace {

/// Offsets of all combinations of the loops' values in the weights, the last loop fastest.
std::vector<int64_t> offsets_over(const std::vector<Loop>& loops, const Dim& offset) {
  std::vector<int64_t> all = {0};
  for (const Loop& loop : loops) {
    const int64_t slope = affine_in(offset, loop.symbol)->slope.constant(), extent = loop.extent.constant();
    std::vector<int64_t> next;
    next.reserve(all.size() * static_cast<size_t>(extent));
    for (const int64_t base : all)
      for (int64_t i = 0; i < extent; ++i) next.push_back(base + i * slope);
    all = std::move(next);
  }
  return all;
}

/// Where weights lie: element (group, n, k) at start + the three's offsets.
struct Places {
  int64_t start;
  std::vector<int64_t> by_group, by_n, by_k;
  int64_t at(size_t group, int64_t n, int64_t k) const { return start + by_group[group] + by_n[static_cast<size_t>(n)] + by_k[static_cast<size_t>(k)]; }
};

Places places_of(const RowsProduct& product) {
  const ContractShape& shape = product.shape;
  const Dim& offset = shape.nest.loads[static_cast<size_t>(shape.right.access)].offset;
  std::vector<Loop> k_loops;
  for (const std::string& symbol : product.k_order)
    for (const Loop& loop : shape.k.loops)
      if (loop.symbol == symbol) k_loops.push_back(loop);
  const std::vector<Loop> groups(shape.batch.loops.end() - static_cast<std::ptrdiff_t>(product.weight_groups), shape.batch.loops.end());
  Dim start = offset;
  for (const Loop& loop : shape.nest.loops) start = start.substitute({{loop.symbol, Dim(0)}});
  return {start.constant(), offsets_over(groups, offset), offsets_over(shape.n.loops, offset), offsets_over(k_loops, offset)};
}

/// Panels of lanes B for the atom, of integers after a row of sums each; `element(offset)` gives weights.
template <class B, class F>
Tensor grouped_panels(DType dtype, schedule::ProductConfig::Atom atom, const Places& places, int64_t runs, int64_t width, bool with_sums, F&& element) {
  const bool tiles = schedule::on_tiles(atom);
  constexpr int64_t group = sizeof(B::of) / sizeof(B{}.of[0]);
  const auto n = static_cast<int64_t>(places.by_n.size()), k = static_cast<int64_t>(places.by_k.size());
  const int64_t panels = ceil_div(n, width), depth = k / runs, steps = runs * tile::dot_steps(depth, group) + (with_sums ? 1 : 0);
  const auto groups = static_cast<int64_t>(places.by_group.size());
  Tensor packed(dtype, {groups, panels, steps, width * group});
  auto* to = static_cast<B*>(packed.mutable_data());
  for (size_t g = 0; g < places.by_group.size(); ++g)
    for (int64_t first = 0; first < n; first += width, to += steps * width) {
      const int64_t used = std::min(width, n - first);
      if constexpr (!std::is_same_v<B, tile::BfloatPair>) {
        for (int64_t j = 0; j < width; ++j) {
          int32_t sum = 0;
          for (int64_t i = 0; i < k && j < used; ++i) sum -= static_cast<int32_t>(element(places.at(g, first + j, i)));
          std::memcpy(to + j, &sum, sizeof sum);
        }
      }
      tile::pack_groups(
          to + (with_sums ? width : 0), used, runs, depth, static_cast<int>(width), [&](int64_t j, int64_t i) { return element(places.at(g, first + j, i)); },
          tiles ? 16 : 0, tiles ? tile_steps(depth, atom) : 1);
    }
  return packed;
}

/// Panels of the parts of floats.
template <int parts>
Tensor split_panels(const float* weights, const Places& places, int64_t runs, int64_t width) {
  const auto n = static_cast<int64_t>(places.by_n.size()), k = static_cast<int64_t>(places.by_k.size());
  const int64_t panels = ceil_div(n, width), depth = k / runs, steps = runs * tile::dot_steps(depth, 2);
  const auto groups = static_cast<int64_t>(places.by_group.size());
  Tensor packed(DType::bf16, {groups, panels, steps, width * 2 * parts});
  auto* const to = static_cast<tile::BfloatParts<parts>*>(packed.mutable_data());
  for (int64_t g = 0; g < groups; ++g)
    tile::pack_parts(to + g * panels * steps * width, n, runs, depth, static_cast<int>(width),
                     [&](int64_t j, int64_t i) { return weights[places.at(static_cast<size_t>(g), j, i)]; });
  return packed;
}

/// Panels of floats' digits, in steps of tile registers.
Tensor digit_panels(const float* weights, const Places& places, int64_t runs, int64_t width) {
  const auto n = static_cast<int64_t>(places.by_n.size()), k = static_cast<int64_t>(places.by_k.size());
  const int64_t panels = ceil_div(n, width), depth = k / runs, lanes = tile_steps(depth, schedule::ProductConfig::Atom::amx_digits);
  const int64_t rows = runs * tile::digit_steps(depth, static_cast<int>(lanes)) + 1;
  const auto groups = static_cast<int64_t>(places.by_group.size());
  Tensor packed(DType::i8, {groups, panels, rows, width * int64_t{sizeof(tile::ByteDigits)}});
  auto* const to = static_cast<tile::ByteDigits*>(packed.mutable_data());
  for (int64_t g = 0; g < groups; ++g)
    tile::pack_digits(to + g * panels * rows * width, n, runs, depth, static_cast<int>(width), static_cast<int>(lanes),
                      [&](int64_t j, int64_t i) { return weights[places.at(static_cast<size_t>(g), j, i)]; });
  return packed;
}

/// Panels of whole numbers of 24 bits.
Tensor fixed24_panels(const float* weights, const Places& places, int64_t width) {
  const auto n = static_cast<int64_t>(places.by_n.size()), k = static_cast<int64_t>(places.by_k.size());
  const int64_t panels = ceil_div(n, width), rows = k + tile::fixed24_unit_rows;
  const auto groups = static_cast<int64_t>(places.by_group.size());
  Tensor packed(DType::u8, {groups, panels, rows, width * int64_t{sizeof(tile::Fixed24)}});
  auto* const to = static_cast<tile::Fixed24*>(packed.mutable_data());
  for (int64_t g = 0; g < groups; ++g)
    tile::pack_fixed24(to + g * panels * rows * width, n, k, static_cast<int>(width),
                       [&](int64_t j, int64_t i) { return weights[places.at(static_cast<size_t>(g), j, i)]; });
  return packed;
}

Tensor grouped_weights(const RowsProduct& product, const Tensor& weights, const Places& places, schedule::ProductConfig::Atom atom, int64_t width) {
  using Atom = schedule::ProductConfig::Atom;
  const int64_t runs = product.runs(atom);
  if (atom == Atom::amx_tf32) return split_panels<2>(weights.as<float>(), places, runs, width);
  if (atom == Atom::amx_f32) return split_panels<3>(weights.as<float>(), places, runs, width);
  if (atom == Atom::amx_digits) return digit_panels(weights.as<float>(), places, runs, width);
  if (atom == Atom::fma24) return fixed24_panels(weights.as<float>(), places, width);
  if (atom == Atom::bf16 || atom == Atom::amx_bf16) {
    const auto* from = weights.as<uint16_t>();
    return grouped_panels<tile::BfloatPair>(DType::bf16, atom, places, runs, width, false, [&](int64_t at) { return tile::bfloat16{from[at]}; });
  }
  const auto integer = [&](int64_t at) { return static_cast<int64_t>(weights.float_at(at)) - product.integers->weights_zero; };
  if (atom == Atom::dot8 || atom == Atom::amx8)
    return grouped_panels<tile::ByteQuad>(DType::i8, atom, places, runs, width, true, [&](int64_t at) { return static_cast<int8_t>(integer(at)); });
  return grouped_panels<tile::ShortPair>(DType::i16, atom, places, runs, width, true, [&](int64_t at) { return static_cast<int16_t>(integer(at)); });
}

bool all_columns_split(const RowsProduct& product) {
  const Places places = places_of(product);
  const std::vector<int64_t>&by_n = places.by_n, &by_k = places.by_k;
  const size_t n = by_n.size(), k = by_k.size();
  const auto* const weights = product.floats->as<float>() + places.start;
  std::vector<float> largest(n);
  std::vector<double> squares(n);
  const auto add = [&](size_t j, int64_t at) {
    const float magnitude = std::abs(weights[at]);
    largest[j] = std::max(largest[j], magnitude);  // of NaN the square tells
    squares[j] += static_cast<double>(magnitude) * static_cast<double>(magnitude);
  };
  const bool columns_inside = n > 1 && by_n[1] - by_n[0] == 1;
  for (const int64_t group : places.by_group) {
    std::fill(largest.begin(), largest.end(), 0.0F);
    std::fill(squares.begin(), squares.end(), 0.0);
    for (size_t outer = 0; outer < (columns_inside ? k : n); ++outer)
      for (size_t inner = 0; inner < (columns_inside ? n : k); ++inner) {
        const size_t j = columns_inside ? inner : outer, i = columns_inside ? outer : inner;
        add(j, group + by_n[j] + by_k[i]);
      }
    for (size_t j = 0; j < n; ++j)
      if (!tile::column_splits(largest[j], squares[j] / static_cast<double>(k), static_cast<int64_t>(k))) return false;
  }
  return true;
}

}  // namespace

bool digits_stand_for_weights(const RowsProduct& product) {
  if (!product.even_columns) product.even_columns = all_columns_split(product);
  return *product.even_columns;
}

bool digits_stand_for_filters(const RowsProduct& product) {
  if (!product.even_points) {
    const Places places = places_of(product);
    product.even_points = all_points_split({*product.floats, places.start, places.by_n, places.by_k});
  }
  return *product.even_points;
}

Tensor packed_weights(const RowsProduct& product, const Tensor& weights, const schedule::ProductConfig& config, const Target& target, bool as_sums) {
  using Method = schedule::ProductConfig::Method;
  const ContractShape& shape = product.shape;
  const Places places = places_of(product);
  const int64_t start = places.start;
  const std::vector<int64_t>&by_group = places.by_group, &by_n = places.by_n, &by_k = places.by_k;
  const auto n = static_cast<int64_t>(by_n.size()), k = static_cast<int64_t>(by_k.size());
  const int64_t width = config.method == Method::depthwise ? n : config.block.vectors * lanes_of(product, target);
  if (config.method == Method::winograd) {
    const FilterPoints filters{weights, start, by_n, by_k};
    if (config.atom == schedule::ProductConfig::Atom::amx_digits) return filter_digits(filters, width);
    return config.atom == schedule::ProductConfig::Atom::bf16 ? filter_pairs(filters, width) : filter_panels(filters, width);
  }
  if (config.atom != schedule::ProductConfig::Atom::fma) return grouped_weights(product, weights, places, config.atom, width);
  const int64_t panels = ceil_div(n, width);
  if (product.integers) {  // one filter a channel, whose few sums are exact in f32
    Tensor packed(DType::f32, {static_cast<int64_t>(by_group.size()), panels, k, width});
    for (int64_t i = 0; i < k * n; ++i)
      packed.set_float(i, weights.float_at(start + by_k[static_cast<size_t>(i / n)] + by_n[static_cast<size_t>(i % n)]) -
                              static_cast<double>(product.integers->weights_zero));
    return packed;
  }
  if ((as_sums || config.method == Method::depthwise) && weights.dtype() != shape.sum) {
    Tensor wide(shape.sum, weights.dims());
    for (int64_t i = 0; i < weights.element_count(); ++i) wide.set_float(i, weights.float_at(i));
    return packed_weights(product, wide, config, target);
  }
  Tensor packed(weights.dtype(), {static_cast<int64_t>(by_group.size()), panels, k, width});
  const auto write = [&]<class T>(T* to, const T* from) {
    for (const int64_t group : by_group)
      for (int64_t panel = 0; panel < panels; ++panel) {
        const int64_t first = panel * width, used = std::min(width, n - first);
        for (const int64_t at_k : by_k) {
          for (int64_t j = 0; j < used; ++j) to[j] = from[start + group + at_k + by_n[static_cast<size_t>(first + j)]];
          to += width;
        }
      }
  };
  // Elements keep their bits.
  switch (size_of(weights.dtype())) {
    case 2: write(static_cast<uint16_t*>(packed.mutable_data()), weights.as<uint16_t>()); break;
    case 4: write(static_cast<uint32_t*>(packed.mutable_data()), weights.as<uint32_t>()); break;
    default: write(static_cast<uint64_t*>(packed.mutable_data()), weights.as<uint64_t>());
  }
  return packed;
}

}  // namespace tilewright::cpu
