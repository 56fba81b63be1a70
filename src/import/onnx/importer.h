#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "import/onnx/schema.pb.h"
#include "import/onnx/tensor_reader.h"
#include "op/builder.h"

/// What a function that imports one ONNX operator works with. Such a function reads its node through NodeImport, builds core
/// operators with `n.b`, and sets the outputs:
///
///   void leaky_relu(NodeImport& n) {
///     ValueId x = n.in(0);
///     n.set(n.b.where(n.b.less(x, n.b.scalar(n.b.dtype(x), 0)), n.b.mul(x, n.real("alpha", 0.01)), x));
///   }
namespace tilewright::onnx {

/// What an ONNX value name stands for: a tensor, a sequence of tensors (known at import), or an optional that holds nothing.
struct Operand {
  enum class Kind { tensor, sequence, nothing, failed };
  Kind kind = Kind::tensor;
  ValueId tensor = no_value;
  std::vector<ValueId> sequence;
};

/// Values of the enclosing graph that sub-graphs mention. `values` must become inputs of the bodies, in this order; constants
/// and known sizes are not among them (they are made anew inside).
struct Captures {
  std::vector<ValueId> values;
  std::vector<std::pair<std::string, Operand>> operands;
};

class GraphImport;

/// One node under import.
class NodeImport {
 public:
  NodeImport(GraphImport& graph, Builder& builder, const NodeProto& node, int64_t opset, std::vector<std::optional<Operand>> inputs);

  Builder& b;
  const NodeProto& proto() const { return node_; }
  const std::string& op() const { return node_.op_type(); }
  int64_t opset() const { return opset_; }  ///< version of the node's operator set that the model asks for

  // --- inputs ----------------------------------------------------------------------------------------------------------------------
  int input_count() const { return static_cast<int>(inputs_.size()); }  ///< trailing omitted inputs do not count
  bool has(int i) const;                                                ///< present and not an omitted optional
  ValueId in(int i) const;                                              ///< a tensor; invalid_input when it is missing
  ValueId in_or(int i, ValueId otherwise = no_value) const;
  std::vector<ValueId> all_inputs() const;  ///< of a variadic operator; none may be omitted
  const Operand& operand(int i) const;      ///< for operators on sequences and optionals
  const std::vector<ValueId>& sequence(int i) const;
  std::shared_ptr<const Tensor> constant(int i) const;           ///< null when not constant
  Tensor required_constant(int i, std::string_view what) const;  ///< must_be_known when not constant
  const Dims& dims(int i) const { return b.dims(in(i)); }
  int rank(int i) const { return b.rank(in(i)); }
  DType dtype(int i) const { return b.dtype(in(i)); }

  // --- attributes; a wrong kind is invalid_input. Without a default the attribute is required. ----------------------------------
  bool has_attribute(std::string_view name) const { return find(name) != nullptr; }
  int64_t integer(std::string_view name) const;
  int64_t integer(std::string_view name, int64_t otherwise) const;
  bool flag(std::string_view name, bool otherwise) const { return integer(name, otherwise ? 1 : 0) != 0; }
  double real(std::string_view name) const;
  double real(std::string_view name, double otherwise) const;
  std::string text(std::string_view name) const;
  std::string text(std::string_view name, const std::string& otherwise) const;
  std::vector<int64_t> integers(std::string_view name) const;   ///< empty when absent
  std::vector<float> reals(std::string_view name) const;        ///< empty when absent
  std::vector<std::string> texts(std::string_view name) const;  ///< empty when absent
  Tensor tensor(std::string_view name) const;
  Tensor sparse_tensor(std::string_view name) const;  ///< its dense form
  const GraphProto& graph(std::string_view name) const;
  DType dtype_attribute(std::string_view name) const;  ///< an ONNX data type number
  DType dtype_attribute(std::string_view name, DType otherwise) const;
  const AttributeProto* find(std::string_view name) const;  ///< null when absent; references of functions resolved

  /// A possibly negative axis of something of `rank` dims, checked and made non-negative.
  int axis(int64_t value, int rank) const;
  std::vector<int64_t> axes(const std::vector<int64_t>& values, int rank) const;  ///< the same for a list without repeats; sorted

  // --- outputs ---------------------------------------------------------------------------------------------------------------------
  int output_count() const { return node_.output_size(); }
  bool wants(int i) const { return i < output_count() && !node_.output(i).empty(); }
  void set(ValueId value) { set(0, value); }
  void set(int i, ValueId value);
  void set(int i, Operand operand);
  const std::vector<Operand>& results() const { return results_; }

  // --- sub-graphs ------------------------------------------------------------------------------------------------------------------
  Captures captures(std::span<const GraphProto* const> graphs) const;
  /// Imports `graph` into `body`, its formal inputs standing for `arguments` and Captures::values for `captured` (both values of
  /// `body`); returns the graph's outputs in `body`. With `body` being `b` itself the graph is expanded in place: pass
  /// `captures.values` as `captured`.
  std::vector<ValueId> import_subgraph(const GraphProto& graph, Builder& body, const std::vector<ValueId>& arguments, const Captures& captures,
                                       const std::vector<ValueId>& captured) const;
  /// In place, for branches whose outputs may be sequences or optionals.
  std::vector<Operand> expand_subgraph(const GraphProto& graph, const std::vector<ValueId>& arguments) const;

  // --- errors ----------------------------------------------------------------------------------------------------------------------
  /// The model is wrong: ends the import.
  template <class... A>
  [[noreturn]] void reject(fmt::format_string<A...> f, A&&... a) const {
    fail(ErrorKind::invalid_input, "{}: {}", describe(), fmt::format(f, std::forward<A>(a)...));
  }
  template <class... A>
  void require(bool holds, fmt::format_string<A...> f, A&&... a) const {
    if (!holds) reject(f, std::forward<A>(a)...);
  }
  /// Valid but not supported: the import goes on with other nodes, and all such reasons are reported together.
  template <class... A>
  [[noreturn]] void unsupported(fmt::format_string<A...> f, A&&... a) const {
    fail(ErrorKind::unsupported, f, std::forward<A>(a)...);
  }
  /// unsupported: input i, `what` it means, is computed or given at run time.
  [[noreturn]] void must_be_known(int i, std::string_view what) const;
  std::string describe() const;  ///< "Conv 'layer1.conv'"

 private:
  const AttributeProto* find_of_kind(std::string_view name, AttributeProto::Type kind) const;
  const AttributeProto& required(std::string_view name, AttributeProto::Type kind) const;

  GraphImport& graph_;
  const NodeProto& node_;
  int64_t opset_;
  std::vector<std::optional<Operand>> inputs_;
  std::vector<Operand> results_;
};

/// A foreign operator: versions from `since` on are imported by `import`, which looks at opset() where versions differ.
struct OperatorEntry {
  std::string_view domain;  ///< "" is ONNX's own
  std::string_view name;
  int64_t since;
  void (*import)(NodeImport&);
};

}  // namespace tilewright::onnx
