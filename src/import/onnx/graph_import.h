#pragma once

#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "import/onnx/graph_order.h"
#include "import/onnx/import.h"
#include "import/onnx/importer.h"

namespace tilewright::onnx {

/// A node depends on one that is not supported: it is left out, and its cause alone is reported.
struct SkippedNode {};

/// What all graphs of one model share while it is imported.
class ModelImport {
 public:
  ModelImport(std::shared_ptr<const ModelProto> model, ExternalData external, const ImportOptions& options);

  const ModelProto& model() const { return *model_; }
  const ImportOptions& options() const { return options_; }
  FreeNames& free_names() { return free_names_; }

  /// Reads a stored tensor once, however often it is asked for.
  const Tensor& tensor(const TensorProto& proto, std::string_view what);
  const Tensor& tensor(const SparseTensorProto& proto, std::string_view what);

  /// Null when the model has no such function.
  const FunctionProto* function(const NodeProto& call) const;

  void count_node();                          ///< invalid_input beyond the limit
  void add_failure(const std::string& line);  ///< one line a node that is not supported; repeats are dropped
  void throw_failures() const;                ///< unsupported, with all lines, if there are any

 private:
  std::shared_ptr<const ModelProto> model_;
  ImportOptions options_;
  TensorReader reader_;
  FreeNames free_names_;
  std::unordered_map<const void*, Tensor> tensors_;
  std::map<std::string, const FunctionProto*> functions_;
  int64_t nodes_ = 0;
  std::vector<std::string> failures_;
  std::set<std::string> failed_;
};

/// Whose nodes are imported: the model's, or a function's under a call.
struct Frame {
  const Frame* caller = nullptr;
  const FunctionProto* function = nullptr;                  ///< null: the model itself
  std::map<std::string, int64_t> opsets;                    ///< by domain
  std::map<std::string, const AttributeProto*> attributes;  ///< of the call, for references by attribute
  std::string prefix;                                       ///< of node names: "encoder.0/"
};
std::map<std::string, int64_t> opsets_of(const google::protobuf::RepeatedPtrField<OperatorSetIdProto>& imports);
/// "ai.onnx" is another name of "".
std::string normal_domain(const std::string& domain);

/// One graph, sub-graph or function body under import: the names visible in it and the builder it goes to.
class GraphImport {
 public:
  GraphImport(ModelImport& model, const Frame& frame, Builder& builder, int depth);

  Builder& builder() { return builder_; }
  ModelImport& model() { return model_; }
  const Frame& frame() const { return frame_; }
  int depth() const { return depth_; }

  /// Makes a name known. Throws invalid_input when it is known already. No operand: an omitted optional input of a function.
  void define(const std::string& name, std::optional<Operand> operand);
  bool knows(const std::string& name) const { return values_.count(name) || stored_.count(name) || sparse_.count(name); }
  void define_stored(const GraphProto& graph);  ///< its initialisers; they become constants when first used
  /// What `name` stands for. Throws invalid_input, naming `user`, when nothing of that name is known.
  std::optional<Operand> lookup(const std::string& name, const std::string& user);

  void import_nodes(const google::protobuf::RepeatedPtrField<NodeProto>& nodes, const std::vector<std::string>& wanted);

  /// Imports a graph attribute's nodes and gives its outputs; `arguments` for its formal inputs.
  std::vector<Operand> import_body(const GraphProto& graph, const std::vector<ValueId>& arguments);

  std::string name_of(const NodeProto& node) const;  ///< "encoder.0/MatMul_3"; the first output's name when it has none

 private:
  void import_node(const NodeProto& node);
  void import_supported(const NodeProto& node, int64_t opset, std::vector<std::optional<Operand>> inputs);
  std::vector<Operand> call(const FunctionProto& function, const NodeProto& node, const std::vector<std::optional<Operand>>& inputs);
  int64_t opset_of(const NodeProto& node) const;
  void check_depth(std::string_view what) const;

  ModelImport& model_;
  const Frame& frame_;
  Builder& builder_;
  int depth_;
  std::unordered_map<std::string, std::optional<Operand>> values_;
  std::unordered_map<std::string, const TensorProto*> stored_;
  std::unordered_map<std::string, const SparseTensorProto*> sparse_;
};

}  // namespace tilewright::onnx
