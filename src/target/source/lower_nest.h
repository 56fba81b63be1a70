#pragma once

#include <set>

#include "schedule/linear.h"
#include "schedule/schedule.h"

/// A Nest brought into the form that loops are written from: addresses as expressions over loop indices, neighbouring
/// loops that all addresses treat as one merged, loops ordered by how the result lies in memory.
namespace tilewright::source {

using pattern::ExprId;
using pattern::ExprNode;
using pattern::ExprOp;
using pattern::TensorId;
using schedule::Guard;

struct Loop {
  std::string symbol;
  Dim extent;
  bool reduced = false;
};

/// A coordinate computed from data, held inside [0, extent) by clamping or, where the access has a fill, by a check.
struct Indirect {
  ExprId value = -1;
  std::string symbol;
  Dim extent;
  bool clamp = true;
};

/// Where an access or a store lies: element `offset` of a tensor, where the guards hold.
struct Address {
  TensorId tensor = -1;
  DType dtype = DType::f32;
  Dim offset;
  std::vector<Guard> guards;
  std::vector<Indirect> indirect;
  ExprId fill = -1;
};

struct LoweredNest {
  std::vector<ExprNode> nodes;
  std::vector<pattern::Reduction> reductions;
  std::vector<Loop> loops;            ///< kept ones, outermost first, then reduced ones
  std::vector<Address> loads;         ///< by access
  std::vector<Address> stores;        ///< by output
  std::vector<ExprId> stored_values;  ///< by output
  Dims coordinates;                   ///< of the original space, over the loops' symbols
  Dim reduced_index = 0;              ///< row-major position among the reduced coordinates
  Bounds bounds;
  std::vector<std::set<std::string>> symbols;  ///< by node: the loop symbols its value depends on

  /// Whether some loop is a part of a coordinate, not all of it.
  bool has_cut_loops() const;
  /// Replaces a loop symbol in every address.
  void substitute(const std::string& symbol, const Dim& by);
  void find_symbols();  ///< fills `symbols`
  int kept_count() const;
};

/// What the tensors of a row kernel that never leave a row are to it: their first `shared_rank` coordinates take no space.
struct RowContext {
  int shared_rank = 0;
  std::set<TensorId> row_local;
};

/// Whether neighbouring loops that all addresses treat as one become one.
enum class Merging { merge, keep };

/// `row.shared_rank` leading coordinates get no loop: their symbols are indices around the nest.
LoweredNest lower_nest(const pattern::Nest& nest, const pattern::Program& program, const RowContext& row = {}, Merging merging = Merging::merge);

/// The access of `map` (and its indirect coordinates) seen from `point`.
Address lower_access(const pattern::Access& access, int number, const Dims& point, const pattern::Program& program, Bounds& bounds);

/// Nodes that `roots` need, themselves included, as flags by id.
std::vector<bool> closure(const LoweredNest& nest, const std::vector<ExprId>& roots);

/// Sum of the costs of the nodes that `roots` need, of one point.
int64_t point_cost(const LoweredNest& nest, const std::vector<ExprId>& roots);

}  // namespace tilewright::source
