#pragma once

#include <string>
#include <string_view>

#include "base/dim.h"
#include "tile/coord/map.h"

namespace tilewright {

/// A coordinate map with symbolic extents, offsets and strides.
using DimMap = tile::CoordMap<Dim>;

/// "[N,12] -> [$3,$4] with $2=12*$0+$1; $3=$2/(H); $4=$2%(H) where 0<=$3<N; $1%(2)==0": $0 … are the upper coordinates, each
/// definition adds the next slot. `with` and `where` are left out when empty.
std::string str(const DimMap&);
/// The reverse of str(); throws invalid_input.
DimMap parse_map(std::string_view);

/// The map at given values of its symbols; throws invalid_input when one is missing, unsupported when
/// a fixed capacity of the map over int64_t is exceeded.
tile::CoordMap<int64_t> evaluate(const DimMap&, const std::map<std::string, int64_t>& values);
/// The map with symbols replaced, simplified again.
DimMap substitute(const DimMap&, const std::map<std::string, Dim>& values);

}  // namespace tilewright
