#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "base/dim.h"
#include "base/tensor.h"

namespace tilewright {

/// dtype + dims; a dim is an integer or an expression over named sizes. Rank is always known.
struct Type {
  DType dtype = DType::f32;
  Dims dims;
  friend bool operator==(const Type&, const Type&) = default;
};
std::string str(const Type&);  ///< "f32[1,N,64]"

/// Index of a value within its graph; `no_value` stands for an omitted optional input.
using ValueId = int;
inline constexpr ValueId no_value = -1;

/// An attribute of a core operator.
using Attribute = std::variant<int64_t, double, std::string, std::vector<int64_t>, std::vector<double>, std::vector<std::string>, Dims, DType>;
using Attributes = std::map<std::string, Attribute>;

struct Value {
  Type type;
  std::string name;                        ///< unique within the graph
  std::shared_ptr<const Tensor> constant;  ///< held once, shared by copies of the graph; null when not constant
  /// For small integer tensors whose elements are known expressions (shape arithmetic): the elements, row-major.
  std::optional<Dims> contents;
};

struct Graph;

/// One core operator applied to values. Control flow carries its bodies in `subgraphs`; a body sees nothing of the
/// outer graph but what the node passes to it as inputs. Symbols (named sizes) are visible in bodies.
struct Node {
  std::string op;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  Attributes attributes;
  std::vector<std::shared_ptr<Graph>> subgraphs;
  std::string name;  ///< the model's node(s) it comes from, for messages and comments
};

/// Values and nodes in topological order. Plain data: passes edit it, `verify` keeps it honest.
struct Graph {
  std::string name;
  std::vector<Value> values;
  std::vector<Node> nodes;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;

  const Value& value(ValueId id) const { return values.at(static_cast<size_t>(id)); }
  Value& value(ValueId id) { return values.at(static_cast<size_t>(id)); }
  const Type& type(ValueId id) const { return value(id).type; }
};

/// Replaces every use of `from` (node inputs and graph outputs) by `to`.
void replace_uses(Graph&, ValueId from, ValueId to);
/// Drops nodes whose outputs nobody uses (nodes that bind symbols still in use stay) and values nobody mentions.
void compact(Graph&);

/// Two lists of node names, "a, b", as one that names each once.
std::string joined_sources(const std::string& first, const std::string& second);
/// Sizes that the node learns while it runs, for what comes after it.
std::vector<std::string> bound_symbols(const Node&);
/// Sizes that must be known where the node stands: those its attributes, bodies and results mention, without those it binds.
std::set<std::string> used_symbols(const Graph&, const Node&);

/// Checks structure: ids in range, single definition, topological order, unique names, symbols defined before use. Throws
/// ErrorKind::internal naming the node and the rule.
void verify(const Graph&);

/// Text form (print.cpp shows it). Constants of more than 16 elements print as `#` and the SHA-256 of their bytes.
std::string print(const Graph&);
/// The reverse of print(): an equal graph, but for the order of ids and values that nothing mentions. `constants`: by hash, for those too large to
/// print. Throws invalid_input naming the line; the result is not verified.
Graph parse_graph(std::string_view text, const std::map<std::string, std::shared_ptr<const Tensor>>& constants = {});

}  // namespace tilewright
