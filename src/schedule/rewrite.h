#pragma once

#include <functional>
#include <optional>

#include "pattern/pattern.h"

/// Writing new Nests from the expressions of others: what the fusions share.
namespace tilewright::schedule {

using pattern::Access;
using pattern::ExprId;
using pattern::ExprNode;
using pattern::ExprOp;
using pattern::Map;
using pattern::Nest;
using pattern::Program;
using pattern::TensorId;

/// How the coordinates of one iteration space follow from those of another: `map` takes the new space's coordinates and
/// then the values of `indirect` (nodes of the new nest) to the old space's.
struct SpaceView {
  Map map;
  std::vector<ExprId> indirect;
  bool clamps = true;  ///< indirect coordinates are held inside; otherwise a point is invalid where one is outside
};

/// A Nest being written. Equal nodes and equal accesses are held once.
class NestWriter {
 public:
  NestWriter(Dims space, int reduced_rank);

  ExprId add(ExprNode node);
  ExprId load(Access access, DType dtype);
  ExprId constant(DType dtype, double real, int64_t integer);
  ExprId index(int coordinate);
  ExprId size(const Dim& dim);
  ExprId binary(ExprOp op, ExprId a, ExprId b, DType dtype);
  ExprId select(ExprId condition, ExprId a, ExprId b);
  /// min(max(value, 0), extent - 1)
  ExprId clamped(ExprId value, const Dim& extent);

  /// i64 expression of `e`, whose symbols are sizes or named in `values`.
  ExprId from_dim(const Dim& e, const std::map<std::string, ExprId>& values);

  /// Copies what `roots` need of another nest's expressions, seen through `view`; afterwards `copied[id]` is the new node
  /// of old node `id`. `replace` may give a new node for an old one (a load of a fused tensor). Where the view is invalid,
  /// loads give their fill, or zero.
  std::vector<ExprId> copy(const std::vector<ExprNode>& nodes, const std::vector<Access>& accesses, const std::vector<ExprId>& roots, const SpaceView& view,
                           const std::function<std::optional<ExprId>(ExprId)>& replace = {});
  /// Whether a point of `view` is valid, as a bool node; nullopt when it always is.
  std::optional<ExprId> validity(const SpaceView& view);

  const ExprNode& node(ExprId id) const { return nest.nodes.at(static_cast<size_t>(id)); }

  Nest nest;

 private:
  std::map<std::string, ExprId> view_values(const SpaceView& view);
};

/// (outer's coordinates, then `extra` more) -> inner's result, where `inner` takes outer's results and then the extra ones.
Map compose_with_extra(const Map& outer, const Map& inner, const Dims& extra);
/// `map` over the given coordinates and `extra` more that do not matter, which stand before position `at`.
Map with_ignored(const Map& map, int at, const Dims& extra);
/// Identity over `dims`.
Map identity(const Dims& dims);
bool is_identity(const Map& map, const Dims& dims);
/// Sums of slots alone: no divisions or remainders.
bool is_affine(const Map& map);
Dims extents_of(const Map& map);

/// Drops nodes, accesses and reductions that no output needs, and nodes that an earlier one equals.
Nest compacted(const Nest& nest);
/// Old ids that `roots` need, as flags.
std::vector<bool> needed_by(const std::vector<ExprNode>& nodes, const std::vector<Access>& accesses, const std::vector<ExprId>& roots);

}  // namespace tilewright::schedule
