#pragma once

// How contract_rows() shares out a product among a team's workers. The compiler's estimates ask the same.

#include "tile/types.h"

namespace tile {

/// How a product is cut.
struct RowsBlocking {
  i64 panel_bytes = 1 << 19;  ///< panels that stay in the second level cache, beside the next ones, while strips run past them
  i64 strip_bytes = 3 << 18;  ///< strips that stay there, too, while groups of panels follow each other
  enum class Split {
    automatic,  ///< threads share out groups of panels where there are enough for all, else strips
    panels,
    rows,  ///< each thread runs all panels past its own strips
  } split = Split::automatic;
  bool ahead = true;           ///< fetch the next group while one is used
  i64 pieces = 4;              ///< tasks a thread, whose last ones even out what threads lose; each prepares its strips anew and reads all its panels
  bool writes_panels = false;  ///< workers write the panels they meet: each panel for one of them, where there are enough
  bool fetch_results = false;  ///< before each block call the epilogue for all its rows without sums: the memory of results comes nearer while it is computed
};

/// Units are groups of panels, one after another, of one batch entry after another. A task is some units and all strips, or some strips of one
/// unit (of one batch entry, by rows). Tasks differ by one unit or one strip, or one bundle of these, at most: with as many a thread, no thread has much more
/// to do.
struct RowsDivision {
  i64 group = 0;   ///< panels of a group, or one less: groups differ by one panel at most
  i64 groups = 0;  ///< of a batch entry
  i64 units = 0;
  bool by_units = false;  ///< threads share out units alone
  i64 unit_tasks = 0, strip_tasks = 0;

  /// All counts are at least 1; `panel_bytes`: of one panel.
  constexpr RowsDivision(i64 batch, i64 panels, i64 panel_bytes, i64 strips, i64 team, const RowsBlocking& blocking) {
    using Split = RowsBlocking::Split;
    const i64 fitting = panel_bytes == 0 ? panels : blocking.panel_bytes / panel_bytes;
    groups = ceil_div(panels, fitting < 1 ? 1 : least(fitting, panels));
    // As many as the team can share out evenly, where units are what it shares out.
    const bool uneven = blocking.writes_panels && batch * groups % team != 0;
    if (groups > 1 || uneven || blocking.split == Split::panels || batch * strips < 4 * team) groups = ceil_div(groups, team) * team;
    groups = least(groups, panels);
    group = ceil_div(panels, groups);
    units = batch * groups;
    const bool by_rows = blocking.split == Split::rows;
    by_units = blocking.split == Split::panels || (!by_rows && (units % team == 0 || units >= 8 * team));
    const i64 tasks = blocking.pieces * team;
    unit_tasks = by_rows ? batch : !by_units ? units : units >= 2 * tasks ? tasks : least(team, units);
    strip_tasks = ceil_div(tasks, unit_tasks);
    while (blocking.pieces == 1 && unit_tasks * strip_tasks % team != 0) ++strip_tasks;  // nothing evens out what threads have too much
    strip_tasks = by_units ? 1 : least(strip_tasks, strips);
  }

  constexpr i64 tasks() const { return unit_tasks * strip_tasks; }

 private:
  static constexpr i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }
  static constexpr i64 least(i64 a, i64 b) { return a < b ? a : b; }
};

}  // namespace tile
