#pragma once

// Convolution with 3 × 3 kernels, stride 1, over channels-last data, by Winograd's method (winograd_tiles.h): the 16 products of transformed tiles and
// filters. Filters are transformed when the model is compiled. A task transforms some strips of tiles into its scratch and runs all panels of filters past
// them. Where all filters would pass too often, as those of many channels pass few tiles, or half of the threads would have nothing to do, each of the 16
// products is computed as a whole instead: filters pass once, and tiles and sums wait in memory.

#include <cstdint>

#include "tile/atoms/row_block.h"
#include "tile/exec/args.h"
#include "tile/kernels/winograd_tiles.h"

namespace tile {

/// The 16 products as `Block` computes them: here by an atom of tile/atoms/dot.h, whose rows are tiles as they were transformed, rounded where it takes
/// short floats. Filters lie as [panel, 16 points, steps of channels, Block::columns], the last panel padded.
template <class Block>
struct WinogradProducts {
  using sum_type = typename Block::sum_type;
  using panel_type = typename Block::panel_type;
  using left_type = typename Block::left_type;
  using Atom = Dot<sum_type, panel_type>;
  /// Elements of rows that take as much memory as a sum.
  static constexpr i64 in_sum = sizeof(sum_type) / sizeof(left_type);

  i64 channels;

  /// Tiles of a strip, of so many in all.
  i64 height(i64) const { return Block::rows; }
  /// Tiles that are prepared together at least.
  i64 piece(i64) const { return 4; }
  /// Memory of a strip's rows for one point, and what prepare() needs beside, in sums.
  i64 slot() const { return Block::rows * channels / in_sum; }
  i64 scratch() const { return 0; }
  /// Lanes of one point's panel.
  i64 panel() const { return dot_steps(channels, Atom::group) * Block::columns; }
  /// Calls of Ahead::fetch() in a multiply().
  i64 pauses() const { return dot_steps(channels, Atom::group) / RowBlock<sum_type, 1, 1, 1, panel_type>::pace; }

  /// The rows of `count` tiles from `first` on; point q's begin at to + q · apart.
  template <class Tiles>
  void prepare(const Tiles& tiles, i64 image, i64 first, i64 count, sum_type* to, i64 apart, sum_type*) const {
    auto* const rows = reinterpret_cast<left_type*>(to);
    for (i64 i = 0; i < count; ++i) tiles.template transform<Atom>(image, first + i, rows + i * channels, apart * in_sum);
  }

  /// What a thread multiplies with.
  class Thread {
   public:
    explicit Thread(sum_type* sums) : sums_(sums) {}
    /// The sums of `count` rows and a panel, `to` elements behind the first ones once finish() was called.
    void multiply(const WinogradProducts& of, i64 count, const sum_type* rows, const panel_type* panel, i64 to, Ahead& ahead) {
      static constexpr i64 nowhere[1] = {0};
      Block::multiply(count, 1, of.channels, reinterpret_cast<const left_type*>(rows), nowhere, panel, sums_ + to, ahead);
    }
    void finish() {}

   private:
    sum_type* sums_;
  };
};

namespace detail {

template <class Block, class X, class Epilogue>
class Winograd {
  using Products = WinogradProducts<Block>;
  using P = typename Products::sum_type;
  using Panel = typename Products::panel_type;
  using Tiles = WinogradTiles<P, X, Epilogue>;
  static constexpr i64 width = Block::columns, points = Tiles::points, most_rows = Block::rows;
  static constexpr i64 together = 4;              ///< strips that share a load of filters
  static constexpr i64 waiting_bytes = 64 << 20;  ///< an image's transformed tiles and sums, where they wait: in a cache that all cores share

 public:
  Winograd(const WinogradShape& shape, const X* x, const Panel* filters, const Epilogue& epilogue)
      : tiles_(shape, x, epilogue), products_{shape.channels}, filters_(filters), images_(shape.images) {
    height_ = products_.height(tiles_.count());
    strips_ = (tiles_.count() - 1) / height_ + 1;
    panels_ = (shape.filters - 1) / width + 1;
  }

  void run(Team& team, i64 l2_bytes) const {
    // A task's transformed tiles: what seven eighths of the second level cache hold beside a panel's filters and sums, or enough strips to share these; three
    // quarters of it at most.
    const i64 strip_bytes = points * products_.slot() * static_cast<i64>(sizeof(P)), most_strips = l2_bytes * 3 / 4 / strip_bytes;
    const i64 beside = points * (products_.panel() * static_cast<i64>(sizeof(Panel)) + together * most_rows * width * static_cast<i64>(sizeof(P)));
    i64 group = (l2_bytes * 7 / 8 - beside) / strip_bytes;
    if (group < together) group = together;
    if (group > most_strips) group = most_strips;
    const i64 share = (images_ * strips_ - 1) / team.size + 1;
    if (group > share) group = share;
    if (group > strips_) group = strips_;
    if (group < 1) group = 1;
    // Groups of sizes that differ by one strip at most, as many for each of the team where there are strips enough.
    i64 groups = (strips_ - 1) / group + 1;
    if (images_ % team.size != 0) groups = (groups - 1) / team.size * team.size + team.size;
    if (groups > strips_) groups = strips_;
    group = (strips_ - 1) / groups + 1;
    // Bytes from further away than a core's own caches, either way; those that wait are written and read again, at no steady pace (measured on Zen 4).
    constexpr double waits = 6;
    const i64 sums_of_strip = panels_ * most_rows * width;
    const double filters = static_cast<double>(points * panels_ * products_.panel()) * static_cast<double>(sizeof(Panel)),
                 waiting = static_cast<double>(points * strips_) * static_cast<double>(products_.slot() + sums_of_strip) * static_cast<double>(sizeof(P));
    constexpr double worth_sharing = 1 << 20;
    const bool idle = 2 * images_ * groups <= team.size && filters > worth_sharing;  // half of the threads would have nothing to do
    if (waiting <= static_cast<double>(waiting_bytes) && (idle || filters * static_cast<double>(groups) > filters + waits * waiting))
      return run_by_points(team);
    team.for_each(images_ * groups, [&](i64 index, int worker) {
      const i64 g = index % groups, first = g * strips_ / groups, end = (g + 1) * strips_ / groups;
      task(index / groups, first, end, team.scratch_as<P>(worker, group * points * products_.slot() + products_.scratch()));
    });
  }

 private:
  /// Rows as [point, strip, slot], sums as [panel, strip, point, tile, column].
  void run_by_points(Team& team) const {
    const i64 slot = products_.slot(), point_rows = strips_ * slot, sums_size = points * most_rows * width;
    P* const rows = team.scratch_as<P>(team.shared_slot(), points * point_rows + panels_ * strips_ * sums_size);
    P* const sums = rows + points * point_rows;
    const i64 units = points * panels_;
    for (i64 image = 0; image < images_; ++image) {
      const i64 piece = products_.piece(tiles_.count()), slots_of_piece = piece * slot / height_;
      team.for_each((tiles_.count() - 1) / piece + 1, [&](i64 i, int worker) {
        const i64 first = i * piece, count = tiles_.count() - first < piece ? tiles_.count() - first : piece;
        products_.prepare(tiles_, image, first, count, rows + i * slots_of_piece, point_rows, team.scratch_as<P>(worker, products_.scratch()));
      });
      team.for_range(units, 1, [&](i64 begin, i64 end) {
        typename Products::Thread thread(sums);
        for (i64 unit = begin; unit < end; ++unit) {
          const i64 q = unit / panels_, p = unit % panels_;
          const Panel* const next = unit + 1 < end ? panel((unit + 1) % panels_, (unit + 1) / panels_) : nullptr;
          Ahead ahead = before(next, strips_);
          for (i64 s = 0; s < strips_; ++s)
            thread.multiply(products_, tiles_of(s), rows + q * point_rows + s * slot, panel(p, q), (p * strips_ + s) * sums_size + q * most_rows * width,
                            ahead);
        }
        thread.finish();
      });
      team.for_range(panels_ * strips_, 1, [&](i64 begin, i64 end) {
        alignas(64) P results[4 * most_rows * width];
        for (i64 i = begin; i < end; ++i) give(image, i % strips_, i / strips_, sums + i * sums_size, results);
      });
    }
  }

  void task(i64 image, i64 first, i64 end, P* memory) const {
    const i64 slot = products_.slot(), strip = points * slot;
    for (i64 s = first; s < end; ++s)
      products_.prepare(tiles_, image, s * height_, tiles_of(s), memory + (s - first) * strip, slot, memory + (end - first) * strip);
    alignas(64) P sums[together][points * most_rows * width], results[4 * most_rows * width];
    const i64 passes = (end - first - 1) / together + 1, a_pass = (end - first - 1) / passes + 1;
    typename Products::Thread thread(sums[0]);
    for (i64 p = 0; p < panels_; ++p) {
      for (i64 s0 = first; s0 < end; s0 += a_pass) {
        const i64 count = end - s0 < a_pass ? end - s0 : a_pass;
        for (i64 q = 0; q < points; ++q) {
          const bool last = p + 1 == panels_ && q + 1 == points;
          Ahead ahead = before(last ? nullptr : panel(p, q) + products_.panel(), count);
          for (i64 i = 0; i < count; ++i)
            thread.multiply(products_, tiles_of(s0 + i), memory + (s0 + i - first) * strip + q * slot, panel(p, q), (i * points + q) * most_rows * width,
                            ahead);
        }
        thread.finish();
        for (i64 i = 0; i < count; ++i) give(image, s0 + i, p, sums[i], results);
      }
    }
  }

  i64 tiles_of(i64 strip) const { return tiles_.count() - strip * height_ < height_ ? tiles_.count() - strip * height_ : height_; }
  const Panel* panel(i64 p, i64 q) const { return filters_ + (p * points + q) * products_.panel(); }

  /// While one point's filters are used by some strips, the next ones come nearer.
  Ahead before(const Panel* next, i64 strips) const {
    Ahead ahead{reinterpret_cast<const char*>(next), next != nullptr ? products_.panel() * static_cast<i64>(sizeof(Panel)) / Ahead::line_bytes : 0, 1};
    ahead.at_once = ahead.lines / (strips * products_.pauses() + 1) + 1;
    return ahead;
  }

  void give(i64 image, i64 strip, i64 p, const P* sums, P* results) const {
    tiles_.template give<width>(image, strip * height_, tiles_of(strip), p * width, sums, most_rows * width, results);
  }

  const Tiles tiles_;
  const Products products_;
  const Panel* filters_;
  i64 images_, height_, strips_, panels_;
};

}  // namespace detail

/// out[image, (y, x), f] = Σ w[f, dy, dx, c] · x[image, y + dy - pad, x + dx - pad, c], zero outside the input. x is [images,
/// height, width, pitch], of floats as the sums are or shorter ones, of which the first `channels` are read; `filters` holds winograd_filter()s in the panels
/// of WinogradProducts<Block>, a block whose stride is `channels`. Sums go to contract_rows()' kind of epilogue:
///   epilogue(image, first position (flattened), first filter, rows = positions, columns = filters, const P* sums, ld)
/// `l2_bytes`: of a core's second level cache.
template <class Block, class X, class Epilogue>
void winograd(const WinogradShape& shape, const X* x, const typename Block::panel_type* filters, const Epilogue& epilogue, Team& team, i64 l2_bytes) {
  if (shape.images <= 0 || shape.filters <= 0 || shape.output[0] <= 0 || shape.output[1] <= 0) return;
  detail::Winograd<Block, X, Epilogue>(shape, x, filters, epilogue).run(team, l2_bytes);
}

}  // namespace tile
