#include "import/onnx/graph_import.h"

#include "import/onnx/operators.h"

namespace tilewright::onnx {
namespace {

std::string function_key(const std::string& domain, const std::string& name, const std::string& overload) {
  return normal_domain(domain) + '\0' + name + '\0' + overload;
}

std::string shown_domain(const std::string& domain) { return domain.empty() ? "ai.onnx" : domain; }

}  // namespace

std::string normal_domain(const std::string& domain) { return domain == "ai.onnx" ? "" : domain; }

std::map<std::string, int64_t> opsets_of(const google::protobuf::RepeatedPtrField<OperatorSetIdProto>& imports) {
  std::map<std::string, int64_t> opsets;
  for (const OperatorSetIdProto& import : imports) {
    if (import.version() < 1) fail(ErrorKind::invalid_input, "operator set '{}' has version {}", import.domain(), import.version());
    int64_t& version = opsets[normal_domain(import.domain())];
    version = std::max(version, import.version());
  }
  return opsets;
}

ModelImport::ModelImport(std::shared_ptr<const ModelProto> model, ExternalData external, const ImportOptions& options)
    : model_(std::move(model)), options_(options), reader_(model_, std::move(external), options.limits) {
  for (const FunctionProto& function : model_->functions()) {
    if (!functions_.emplace(function_key(function.domain(), function.name(), function.overload()), &function).second) {
      fail(ErrorKind::invalid_input, "function '{}' of domain '{}' is defined twice", function.name(), function.domain());
    }
  }
}

const Tensor& ModelImport::tensor(const TensorProto& proto, std::string_view what) {
  if (const auto found = tensors_.find(&proto); found != tensors_.end()) return found->second;
  return tensors_.emplace(&proto, reader_.read(proto, what)).first->second;
}

const Tensor& ModelImport::tensor(const SparseTensorProto& proto, std::string_view what) {
  if (const auto found = tensors_.find(&proto); found != tensors_.end()) return found->second;
  return tensors_.emplace(&proto, reader_.read(proto, what)).first->second;
}

const FunctionProto* ModelImport::function(const NodeProto& call) const {
  const auto found = functions_.find(function_key(call.domain(), call.op_type(), call.overload()));
  return found == functions_.end() ? nullptr : found->second;
}

void ModelImport::count_node() {
  if (++nodes_ > options_.limits.nodes) {
    fail(ErrorKind::invalid_input, "the model has more than {} nodes, calls of functions and repeated bodies included", options_.limits.nodes);
  }
}

void ModelImport::add_failure(const std::string& line) {
  if (failed_.insert(line).second) failures_.push_back(line);
}

void ModelImport::throw_failures() const {
  if (failures_.empty()) return;
  std::string text;
  for (const std::string& line : failures_) text += "\n  " + line;
  fail(ErrorKind::unsupported, "the model needs {} thing{} that Tilewright cannot do:{}", failures_.size(), failures_.size() == 1 ? "" : "s", text);
}

GraphImport::GraphImport(ModelImport& model, const Frame& frame, Builder& builder, int depth)
    : model_(model), frame_(frame), builder_(builder), depth_(depth) {}

void GraphImport::check_depth(std::string_view what) const {
  if (depth_ >= model_.options().limits.nesting) {
    fail(ErrorKind::invalid_input, "{}: sub-graphs and functions are nested deeper than {}", what, model_.options().limits.nesting);
  }
}

void GraphImport::define(const std::string& name, std::optional<Operand> operand) {
  if (knows(name)) fail(ErrorKind::invalid_input, "value '{}' is defined twice", name);
  values_.emplace(name, std::move(operand));
}

void GraphImport::define_stored(const GraphProto& graph) {
  for (const TensorProto& tensor : graph.initializer()) {
    if (knows(tensor.name())) fail(ErrorKind::invalid_input, "value '{}' is defined twice", tensor.name());
    stored_.emplace(tensor.name(), &tensor);
  }
  for (const SparseTensorProto& tensor : graph.sparse_initializer()) {
    if (knows(tensor.values().name())) fail(ErrorKind::invalid_input, "value '{}' is defined twice", tensor.values().name());
    sparse_.emplace(tensor.values().name(), &tensor);
  }
}

std::optional<Operand> GraphImport::lookup(const std::string& name, const std::string& user) {
  if (const auto found = values_.find(name); found != values_.end()) return found->second;
  const std::string what = "tensor '" + name + "'";
  const auto remember = [&](const Tensor& tensor) {
    Operand operand;
    operand.tensor = builder_.constant(tensor, name);
    return values_.emplace(name, operand).first->second;
  };
  if (const auto found = stored_.find(name); found != stored_.end()) return remember(model_.tensor(*found->second, what));
  if (const auto found = sparse_.find(name); found != sparse_.end()) return remember(model_.tensor(*found->second, what));
  fail(ErrorKind::invalid_input, "{} needs value '{}', which nothing defines", user, name);
}

std::string GraphImport::name_of(const NodeProto& node) const {
  std::string name = node.name();
  for (int i = 0; name.empty() && i < node.output_size(); ++i) name = node.output(i);
  return frame_.prefix + (name.empty() ? node.op_type() : name);
}

int64_t GraphImport::opset_of(const NodeProto& node) const {
  const std::string domain = normal_domain(node.domain());
  for (const Frame* frame = &frame_; frame; frame = frame->caller) {
    if (const auto found = frame->opsets.find(domain); found != frame->opsets.end()) return found->second;
  }
  if (domain.empty() && model_.model().ir_version() < 3) return 1;  // before operator sets were numbered
  fail(ErrorKind::unsupported, "the model imports no operator set of this domain");
}

void GraphImport::import_nodes(const google::protobuf::RepeatedPtrField<NodeProto>& nodes, const std::vector<std::string>& wanted) {
  for (const NodeProto& node : nodes) {
    for (const std::string& output : node.output()) {
      if (!output.empty() && knows(output)) fail(ErrorKind::invalid_input, "value '{}' is defined twice", output);
    }
  }
  for (const int index : import_order(nodes, wanted, model_.free_names())) import_node(nodes[index]);
}

void GraphImport::import_node(const NodeProto& node) {
  model_.count_node();
  const std::string name = name_of(node);
  const std::string user = node.op_type() + " '" + name + "'";
  const auto mark_failed = [&] {
    for (const std::string& output : node.output()) {
      if (!output.empty()) values_[output] = Operand{Operand::Kind::failed, no_value, {}};
    }
  };
  int64_t opset = 0;
  try {
    std::vector<std::optional<Operand>> inputs;
    bool skip = false;
    const auto needed = [&](const std::string& value) {
      std::optional<Operand> operand = lookup(value, user);
      skip = skip || (operand && operand->kind == Operand::Kind::failed);
      return operand;
    };
    for (const std::string& input : node.input()) inputs.push_back(input.empty() ? std::nullopt : needed(input));
    for (const std::string& value : model_.free_names().of(node)) needed(value);
    opset = opset_of(node);
    // A node that is not known is reported even when what it depends on failed.
    if (!model_.function(node) && !find_operator(normal_domain(node.domain()), node.op_type(), opset)) {
      fail(ErrorKind::unsupported, "this operator is not known");
    }
    if (skip) throw SkippedNode{};
    import_supported(node, opset, std::move(inputs));
  } catch (const SkippedNode&) {
    mark_failed();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::unsupported) throw;
    model_.add_failure(
        fmt::format("node '{}': {} (domain {}, version {}): {}", name, node.op_type(), shown_domain(normal_domain(node.domain())), opset, error.what()));
    mark_failed();
  }
}

void GraphImport::import_supported(const NodeProto& node, int64_t opset, std::vector<std::optional<Operand>> inputs) {
  const std::string name = name_of(node);
  std::vector<Operand> results;
  if (const FunctionProto* function = model_.function(node)) {
    results = call(*function, node, inputs);
  } else {
    builder_.set_source(name);
    NodeImport n(*this, builder_, node, opset, std::move(inputs));
    find_operator(normal_domain(node.domain()), node.op_type(), opset)->import(n);
    results = n.results();
  }
  for (int i = 0; i < node.output_size(); ++i) {
    if (node.output(i).empty()) continue;
    const bool set = static_cast<size_t>(i) < results.size() && results[static_cast<size_t>(i)].kind != Operand::Kind::failed;
    if (!set) fail(ErrorKind::unsupported, "its output {} ('{}') is not supported", i, node.output(i));
    values_[node.output(i)] = results[static_cast<size_t>(i)];
  }
}

std::vector<Operand> GraphImport::call(const FunctionProto& function, const NodeProto& node, const std::vector<std::optional<Operand>>& inputs) {
  const std::string name = name_of(node);
  check_depth(name);
  for (const Frame* frame = &frame_; frame; frame = frame->caller) {
    if (frame->function == &function) {
      fail(ErrorKind::invalid_input, "node '{}': function '{}' calls itself, directly or through others", name, function.name());
    }
  }
  if (static_cast<int>(inputs.size()) > function.input_size() || node.output_size() > function.output_size()) {
    fail(ErrorKind::invalid_input, "node '{}': function '{}' has {} inputs and {} outputs; the call has {} and {}", name, function.name(),
         function.input_size(), function.output_size(), inputs.size(), node.output_size());
  }
  Frame frame;
  frame.caller = &frame_;
  frame.function = &function;
  frame.opsets = opsets_of(function.opset_import());
  frame.prefix = name + "/";
  for (const AttributeProto& attribute : function.attribute_proto()) frame.attributes[attribute.name()] = &attribute;
  for (const AttributeProto& attribute : node.attribute()) {
    if (attribute.has_g() || attribute.graphs_size() > 0) {
      fail(ErrorKind::unsupported, "a function's attribute '{}' is a graph", attribute.name());
    }
    const AttributeProto* given = &attribute;
    if (!attribute.ref_attr_name().empty()) {
      const auto found = frame_.attributes.find(attribute.ref_attr_name());
      if (found == frame_.attributes.end()) continue;
      given = found->second;
    }
    frame.attributes[attribute.name()] = given;
  }

  GraphImport body(model_, frame, builder_, depth_ + 1);
  for (int i = 0; i < function.input_size(); ++i) {
    body.define(function.input(i), static_cast<size_t>(i) < inputs.size() ? inputs[static_cast<size_t>(i)] : std::nullopt);
  }
  body.import_nodes(function.node(), {function.output().begin(), function.output().end()});
  std::vector<Operand> results;
  for (int i = 0; i < node.output_size(); ++i) {
    if (node.output(i).empty()) {
      results.emplace_back();
      continue;
    }
    const std::optional<Operand> result = body.lookup(function.output(i), "function '" + function.name() + "'");
    if (!result)
      fail(ErrorKind::invalid_input, "node '{}': function '{}' returns its input '{}', which the call omits", name, function.name(), function.output(i));
    if (result->kind == Operand::Kind::failed) throw SkippedNode{};
    results.push_back(*result);
  }
  return results;
}

std::vector<Operand> GraphImport::import_body(const GraphProto& graph, const std::vector<ValueId>& arguments) {
  check_depth(graph.name());
  if (static_cast<size_t>(graph.input_size()) != arguments.size()) {
    fail(ErrorKind::invalid_input, "sub-graph '{}' has {} inputs; its node gives it {}", graph.name(), graph.input_size(), arguments.size());
  }
  for (int i = 0; i < graph.input_size(); ++i) {
    Operand operand;
    operand.tensor = arguments[static_cast<size_t>(i)];
    define(graph.input(i).name(), operand);
  }
  define_stored(graph);
  std::vector<std::string> wanted;
  for (const ValueInfoProto& output : graph.output()) wanted.push_back(output.name());
  import_nodes(graph.node(), wanted);
  std::vector<Operand> results;
  for (const std::string& output : wanted) {
    const std::optional<Operand> result = lookup(output, "sub-graph '" + graph.name() + "'");
    if (!result || result->kind == Operand::Kind::failed) throw SkippedNode{};
    results.push_back(*result);
  }
  return results;
}

}  // namespace tilewright::onnx
