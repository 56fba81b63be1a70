#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "import/onnx/schema.pb.h"

namespace tilewright::onnx {

/// Names that graphs mention without defining them, each once, in order of first mention. Remembers graphs it has seen.
class FreeNames {
 public:
  const std::vector<std::string>& of(const GraphProto& graph);
  /// Of all sub-graphs among a node's attributes.
  std::vector<std::string> of(const NodeProto& node);

 private:
  std::unordered_map<const GraphProto*, std::vector<std::string>> known_;
};

/// Order in which nodes can be imported: producers first, otherwise as listed. Only nodes that `wanted` names need are in it.
/// Throws invalid_input naming the value when one is defined twice, or the node when nodes form a cycle.
std::vector<int> import_order(const google::protobuf::RepeatedPtrField<NodeProto>& nodes, const std::vector<std::string>& wanted, FreeNames& free_names);

}  // namespace tilewright::onnx
