#include "import/onnx/import.h"

#include <google/protobuf/io/zero_copy_stream_impl.h>

#include <algorithm>
#include <fstream>
#include <new>

#include "import/onnx/graph_import.h"

namespace tilewright::onnx {
namespace {

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead >= 0xC2 && lead < 0xE0 ? 2 : lead >= 0xE0 && lead < 0xF0 ? 3 : lead >= 0xF0 && lead < 0xF5 ? 4 : 0;
    if (length == 0 || i + length > text.size()) return false;
    for (size_t k = 1; k < length; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xC0) != 0x80) return false;
    }
    i += length;
  }
  return true;
}

void check_text(const std::string& text, std::string_view what) {
  if (!is_utf8(text)) fail(ErrorKind::invalid_input, "{} is not valid UTF-8", what);
}

void check_texts(const google::protobuf::RepeatedPtrField<NodeProto>& nodes);

void check_texts(const GraphProto& graph) {
  check_text(graph.name(), "a graph's name");
  check_texts(graph.node());
  for (const TensorProto& tensor : graph.initializer()) check_text(tensor.name(), "the name of an initialiser");
  for (const SparseTensorProto& tensor : graph.sparse_initializer()) check_text(tensor.values().name(), "the name of an initialiser");
  for (const auto* values : {&graph.input(), &graph.output()}) {
    for (const ValueInfoProto& value : *values) {
      check_text(value.name(), "the name of an input or output");
      for (const auto& dim : value.type().tensor_type().shape().dim()) check_text(dim.dim_param(), "the name of a dim");
    }
  }
}

void check_texts(const google::protobuf::RepeatedPtrField<NodeProto>& nodes) {
  for (const NodeProto& node : nodes) {
    check_text(node.name(), "a node's name");
    check_text(node.op_type(), "a node's operator");
    check_text(node.domain(), "a node's domain");
    for (const auto* names : {&node.input(), &node.output()}) {
      for (const std::string& name : *names) check_text(name, "the name of a node's input or output");
    }
    for (const AttributeProto& attribute : node.attribute()) {
      check_text(attribute.name(), "an attribute's name");
      if (attribute.has_g()) check_texts(attribute.g());
      for (const GraphProto& graph : attribute.graphs()) check_texts(graph);
    }
  }
}

void check_texts(const ModelProto& model) {
  check_texts(model.graph());
  for (const FunctionProto& function : model.functions()) {
    check_text(function.name(), "a function's name");
    check_text(function.domain(), "a function's domain");
    check_texts(function.node());
    for (const auto* names : {&function.input(), &function.output()}) {
      for (const std::string& name : *names) check_text(name, "the name of a function's input or output");
    }
  }
}

/// Names of run-time sizes: letters, digits, '_' and '.'; different names stay different.
class SizeNames {
 public:
  /// The symbol of a name that the model gives; the same one each time.
  std::string of(const std::string& name) {
    if (const auto found = known_.find(name); found != known_.end()) return found->second;
    return known_[name] = unused(name);
  }
  std::string unused(const std::string& wish) {
    std::string symbol;
    for (const char c : wish) symbol += std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' ? c : '_';
    if (symbol.empty() || std::isdigit(static_cast<unsigned char>(symbol[0])) || symbol[0] == '.') symbol = "_" + symbol;
    if (symbol == "min" || symbol == "max" || ends_as_fresh(symbol)) symbol += "_";
    std::string candidate = symbol;
    for (int i = 2; !used_.insert(candidate).second; ++i) candidate = symbol + "_" + std::to_string(i);
    return candidate;
  }

 private:
  /// "…_s12" is how the builder names sizes of its own.
  static bool ends_as_fresh(const std::string& symbol) {
    const size_t at = symbol.rfind("_s");
    return at != std::string::npos && at + 2 < symbol.size() && symbol.find_first_not_of("0123456789", at + 2) == std::string::npos;
  }

  std::map<std::string, std::string> known_;
  std::set<std::string> used_;
};

Dims stated_dims(const ValueInfoProto& input, const ImportOptions& options, SizeNames& names) {
  const TypeProto::Tensor& type = input.type().tensor_type();
  Dims dims;
  for (int axis = 0; axis < type.shape().dim_size(); ++axis) {
    const TensorShapeProto::Dimension& dim = type.shape().dim(axis);
    if (dim.has_dim_value()) {
      if (dim.dim_value() < 0) fail(ErrorKind::invalid_input, "input '{}': dim {} is {}", input.name(), axis, dim.dim_value());
      dims.emplace_back(dim.dim_value());
    } else if (const auto given = options.sizes.find(dim.dim_param()); !dim.dim_param().empty() && given != options.sizes.end()) {
      if (given->second < 0) fail(ErrorKind::invalid_input, "size '{}' is given as {}", given->first, given->second);
      dims.emplace_back(given->second);
    } else if (!dim.dim_param().empty()) {
      dims.push_back(Dim::symbol(names.of(dim.dim_param())));
    } else {
      dims.push_back(Dim::symbol(names.unused(input.name() + "_dim" + std::to_string(axis))));
    }
  }
  return dims;
}

Type input_type(const ValueInfoProto& input, const ImportOptions& options, SizeNames& names) {
  const std::string what = "input '" + input.name() + "'";
  const TypeProto& type = input.type();
  if (type.has_sequence_type() || type.has_map_type() || type.has_optional_type() || type.has_sparse_tensor_type()) {
    fail(ErrorKind::unsupported, "{} is a sequence, map, optional or sparse tensor; only dense tensors are supported", what);
  }
  if (!type.has_tensor_type()) fail(ErrorKind::invalid_input, "{} has no type", what);
  const DType dtype = checked_dtype(type.tensor_type().elem_type(), what);
  const auto given = options.shapes.find(input.name());
  if (!type.tensor_type().has_shape() && given == options.shapes.end()) {
    fail(ErrorKind::unsupported, "{} has no shape in the model, not even a rank: give it one with --shape {}=…", what, input.name());
  }
  if (given == options.shapes.end()) return {dtype, stated_dims(input, options, names)};
  for (const Dim& dim : given->second) {
    if (dim.is_constant() && dim.constant() < 0) fail(ErrorKind::invalid_input, "{}: the given shape {} has a negative dim", what, str(given->second));
  }
  if (type.tensor_type().has_shape()) {
    const Dims stated = stated_dims(input, options, names);
    bool fits = stated.size() == given->second.size();
    for (size_t i = 0; fits && i < stated.size(); ++i) {
      fits = !stated[i].is_constant() || !given->second[i].is_constant() || stated[i] == given->second[i];
    }
    if (!fits) fail(ErrorKind::invalid_input, "{} is {} in the model; the given shape {} does not fit it", what, str(stated), str(given->second));
  }
  return {dtype, given->second};
}

/// The constant given for an input, checked against what the model says of it.
Operand fixed_input(GraphImport& import, const ValueInfoProto& input, const Tensor& value, const ImportOptions& options, SizeNames& names) {
  const std::string what = "input '" + input.name() + "'";
  const TypeProto::Tensor& stated = input.type().tensor_type();
  const Dims dims = stated_dims(input, options, names);
  bool fits = checked_dtype(stated.elem_type(), what) == value.dtype() && (!stated.has_shape() || dims.size() == value.rank());
  for (size_t i = 0; fits && i < dims.size(); ++i) fits = !dims[i].is_constant() || dims[i].constant() == value.dims()[i];
  if (!fits) {
    const Type given{value.dtype(), Dims(value.dims().begin(), value.dims().end())};
    fail(ErrorKind::invalid_input, "{} is {}{} in the model; the given value {} does not fit it", what, data_type_name(stated.elem_type()), str(dims),
         str(given));
  }
  Operand operand;
  operand.tensor = import.builder().constant(value, input.name());
  return operand;
}

void import_inputs(GraphImport& import, const GraphProto& graph, const ImportOptions& options) {
  SizeNames names;
  std::set<std::string> inputs;
  for (const ValueInfoProto& input : graph.input()) {
    if (import.knows(input.name()) && !inputs.count(input.name())) continue;  // an initialiser: older models list them as inputs too
    if (input.name().empty()) fail(ErrorKind::invalid_input, "an input of the model has no name");
    inputs.insert(input.name());
    if (const auto fixed = options.constants.find(input.name()); fixed != options.constants.end()) {
      import.define(input.name(), fixed_input(import, input, fixed->second, options, names));
      continue;
    }
    Operand operand;
    try {
      operand.tensor = import.builder().input(input.name(), input_type(input, options, names));
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::unsupported) throw;
      import.model().add_failure(error.what());
      operand.kind = Operand::Kind::failed;
    }
    import.define(input.name(), operand);
  }
  for (const auto& [name, dims] : options.shapes) {
    if (!inputs.count(name)) fail(ErrorKind::invalid_input, "a shape is given for '{}', which is no input of the model", name);
  }
  for (const auto& [name, value] : options.constants) {
    if (!inputs.count(name)) fail(ErrorKind::invalid_input, "a value is given for '{}', which is no input of the model", name);
  }
}

/// A Squeeze without axes drops whatever is 1 at run time; ranks are fixed here. Where the stated output has fewer axes than were
/// computed, run-time sizes stand for the dropped ones: they are squeezed, and checked to be 1 when the model runs.
ValueId with_stated_rank(Builder& b, ValueId value, const ValueInfoProto& stated) {
  if (!stated.type().tensor_type().has_shape()) return value;
  const Dims dims = b.dims(value);
  size_t excess = dims.size() - std::min(dims.size(), static_cast<size_t>(stated.type().tensor_type().shape().dim_size()));
  Dims kept;
  for (const Dim& dim : dims) {
    if (excess > 0 && !dim.is_constant())
      --excess;
    else
      kept.push_back(dim);
  }
  return excess > 0 || kept.size() == dims.size() ? value : b.reshape(value, kept);
}

void import_outputs(GraphImport& import, const GraphProto& graph) {
  Builder& b = import.builder();
  std::set<std::string> names;
  for (const ValueInfoProto& output : graph.output()) {
    if (output.name().empty() || !names.insert(output.name()).second) fail(ErrorKind::invalid_input, "two outputs of the model are named '{}'", output.name());
    const std::optional<Operand> operand = import.lookup(output.name(), "the model's output");
    if (operand->kind == Operand::Kind::failed) continue;
    if (operand->kind != Operand::Kind::tensor) {
      import.model().add_failure(fmt::format("output '{}' is a sequence or an optional; only dense tensors are supported", output.name()));
      continue;
    }
    const ValueId value = operand->tensor;
    const int32_t stated = output.type().tensor_type().elem_type();
    if (stated != 0 && dtype_of(stated) != b.dtype(value)) {
      fail(ErrorKind::invalid_input, "output '{}' is stated as {} but computed as {}", output.name(), data_type_name(stated), name(b.dtype(value)));
    }
    b.set_source(output.name());
    b.output(with_stated_rank(b, value, output), output.name());
  }
}

Graph build(const std::shared_ptr<const ModelProto>& model, const std::filesystem::path& folder, const ImportOptions& options) {
  check_texts(*model);
  if (!model->has_graph()) fail(ErrorKind::invalid_input, "the model has no graph: this is no ONNX model");
  if (model->graph().output_size() == 0) fail(ErrorKind::invalid_input, "the model has no outputs");
  Graph graph;
  graph.name = model->graph().name();
  Builder builder(graph);
  ModelImport shared(model, ExternalData(folder), options);
  Frame frame;
  frame.opsets = opsets_of(model->opset_import());
  GraphImport import(shared, frame, builder, 0);
  import.define_stored(model->graph());
  import_inputs(import, model->graph(), options);
  std::vector<std::string> wanted;
  for (const ValueInfoProto& output : model->graph().output()) wanted.push_back(output.name());
  import.import_nodes(model->graph().node(), wanted);
  import_outputs(import, model->graph());
  shared.throw_failures();
  return graph;
}

std::shared_ptr<const ModelProto> parse(google::protobuf::io::ZeroCopyInputStream& stream) {
  auto model = std::make_shared<ModelProto>();
  if (!model->ParseFromZeroCopyStream(&stream)) {
    fail(ErrorKind::invalid_input, "the file is no ONNX model, or a damaged one: its protobuf encoding is broken or nested too deep");
  }
  return model;
}

std::shared_ptr<const ModelProto> parse(std::span<const std::byte> bytes, const ImportLimits& limits) {
  if (static_cast<int64_t>(bytes.size()) > limits.file_bytes) {
    fail(ErrorKind::invalid_input, "the model has {} bytes, more than the limit of {}", bytes.size(), limits.file_bytes);
  }
  google::protobuf::io::ArrayInputStream stream(bytes.data(), static_cast<int>(bytes.size()));
  return parse(stream);
}

std::shared_ptr<const ModelProto> parse(const std::filesystem::path& path, const ImportLimits& limits) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) fail(ErrorKind::invalid_input, "{}: no such file", path.string());
  if (!std::filesystem::is_regular_file(path, error)) fail(ErrorKind::invalid_input, "{}: is no plain file", path.string());
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) fail(ErrorKind::environment, "{}: {}", path.string(), error.message());
  if (size > static_cast<uintmax_t>(limits.file_bytes)) {
    fail(ErrorKind::invalid_input, "{}: has {} bytes, more than the limit of {}", path.string(), size, limits.file_bytes);
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(ErrorKind::environment, "{}: cannot be read", path.string());
  google::protobuf::io::IstreamInputStream stream(&file, 1 << 16);
  std::shared_ptr<const ModelProto> model = parse(stream);
  if (file.bad()) fail(ErrorKind::environment, "{}: cannot be read", path.string());
  return model;
}

/// Only Error leaves the importer.
template <class Import>
Graph guarded(const Import& import) {
  try {
    return import();
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    fail(ErrorKind::environment, "not enough memory to import the model");
  } catch (const std::exception& e) {
    fail(ErrorKind::internal, "internal error while importing the model: {}", e.what());
  }
}

}  // namespace

Graph import_onnx(std::span<const std::byte> model, const std::filesystem::path& folder, const ImportOptions& options) {
  return guarded([&] { return build(parse(model, options.limits), folder, options); });
}

Graph import_onnx(const std::filesystem::path& model, const ImportOptions& options) {
  return guarded([&] {
    std::shared_ptr<const ModelProto> parsed = parse(model, options.limits);
    const std::filesystem::path folder = model.parent_path().empty() ? std::filesystem::path(".") : model.parent_path();
    return build(parsed, folder, options);
  });
}

}  // namespace tilewright::onnx
