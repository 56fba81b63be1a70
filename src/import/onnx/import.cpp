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

std::string listed(const std::set<std::string>& names) { return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")); }

/// Run-time sizes: the symbol of each (letters, digits, '_' and '.'; different names stay different), or the value given for it.
class Sizes {
 public:
  explicit Sizes(const std::map<std::string, int64_t>& given) : given_(given) {}

  /// Of a name that the model gives; the same each time.
  Dim of(const std::string& name) {
    if (!symbols_.count(name)) symbols_[name] = unused(name);
    return value(symbols_[name], name);
  }
  Dim unnamed(const std::string& wish) {
    const std::string symbol = unused(wish);
    return value(symbol, symbol);
  }
  /// A shape that the user gives, in symbols.
  Dims of(const Dims& dims) {
    std::set<std::string> symbols;
    for (const Dim& dim : dims) dim.collect_symbols(symbols);
    std::map<std::string, Dim> values;
    for (const std::string& symbol : symbols) values[symbol] = value(symbol, symbol);
    Dims result;
    for (const Dim& dim : dims) result.push_back(dim.substitute(values));
    return result;
  }

  /// Throws when a value is given for none of them.
  void check_given() const {
    for (const auto& [name, size] : given_)
      if (!names_.count(name)) fail(ErrorKind::invalid_input, "a size is given for '{}'; the inputs' run-time sizes are: {}", name, listed(names_));
  }

 private:
  Dim value(const std::string& symbol, const std::string& name) {
    names_.insert(name);
    auto given = given_.find(name);
    if (given == given_.end()) given = given_.find(symbol);
    if (given == given_.end()) return Dim::symbol(symbol);
    names_.insert(given->first);
    if (given->second < 0) fail(ErrorKind::invalid_input, "size '{}' is given as {}; sizes cannot be negative", given->first, given->second);
    return given->second;
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
  /// "…_s12" is how the builder names sizes of its own.
  static bool ends_as_fresh(const std::string& symbol) {
    const size_t at = symbol.rfind("_s");
    return at != std::string::npos && at + 2 < symbol.size() && symbol.find_first_not_of("0123456789", at + 2) == std::string::npos;
  }

  const std::map<std::string, int64_t>& given_;
  std::map<std::string, std::string> symbols_;  ///< by the model's name
  std::set<std::string> used_, names_;
};

Dims stated_dims(const ValueInfoProto& input, Sizes& sizes) {
  const TypeProto::Tensor& type = input.type().tensor_type();
  Dims dims;
  for (int axis = 0; axis < type.shape().dim_size(); ++axis) {
    const TensorShapeProto::Dimension& dim = type.shape().dim(axis);
    if (dim.has_dim_value()) {
      if (dim.dim_value() < 0) fail(ErrorKind::invalid_input, "input '{}': dim {} is {}", input.name(), axis, dim.dim_value());
      dims.emplace_back(dim.dim_value());
    } else if (!dim.dim_param().empty()) {
      dims.push_back(sizes.of(dim.dim_param()));
    } else {
      dims.push_back(sizes.unnamed(input.name() + "_dim" + std::to_string(axis)));
    }
  }
  return dims;
}

Type input_type(const ValueInfoProto& input, const ImportOptions& options, Sizes& sizes) {
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
  if (given == options.shapes.end()) return {dtype, stated_dims(input, sizes)};
  const Dims dims = sizes.of(given->second);
  for (const Dim& dim : dims) {
    if (dim.is_constant() && dim.constant() < 0) fail(ErrorKind::invalid_input, "{}: the given shape {} has a negative dim", what, str(dims));
  }
  if (type.tensor_type().has_shape()) {
    const Dims stated = stated_dims(input, sizes);
    bool fits = stated.size() == dims.size();
    for (size_t i = 0; fits && i < stated.size(); ++i) fits = !stated[i].is_constant() || !dims[i].is_constant() || stated[i] == dims[i];
    if (!fits) fail(ErrorKind::invalid_input, "{} is {} in the model; the given shape {} does not fit it", what, str(stated), str(dims));
  }
  return {dtype, dims};
}

/// The value given for an input, checked against what the model says of it.
Tensor checked_value(const ValueInfoProto& input, const Tensor& value, Sizes& sizes) {
  const std::string what = "input '" + input.name() + "'";
  const TypeProto::Tensor& stated = input.type().tensor_type();
  const Dims dims = stated_dims(input, sizes);
  bool fits = checked_dtype(stated.elem_type(), what) == value.dtype() && (!stated.has_shape() || dims.size() == value.rank());
  for (size_t i = 0; fits && i < dims.size(); ++i) fits = !dims[i].is_constant() || dims[i].constant() == value.dims()[i];
  if (!fits) {
    const Type given{value.dtype(), Dims(value.dims().begin(), value.dims().end())};
    fail(ErrorKind::invalid_input, "{} is {}{} in the model; the given value {} does not fit it", what, data_type_name(stated.elem_type()), str(dims),
         str(given));
  }
  return value;
}

/// A tensor of the input's type, all of one number: int64_t or double.
Tensor filled(const ValueInfoProto& input, const FixedValue& number, const ImportOptions& options, Sizes& sizes) {
  const Type type = input_type(input, options, sizes);
  const std::string what = fmt::format("input '{}' is {}", input.name(), str(type));
  std::vector<int64_t> dims;
  for (const Dim& dim : type.dims) {
    if (!dim.is_constant())
      fail(ErrorKind::invalid_input, "{}: a number cannot fill a run-time size; give --shape or --size too, or a file instead of the number", what);
    dims.push_back(dim.constant());
  }
  if (product(type.dims).constant() > options.limits.tensor_bytes / static_cast<int64_t>(size_of(type.dtype)))
    fail(ErrorKind::invalid_input, "{}: too large for a constant (limit: {} bytes)", what, options.limits.tensor_bytes);
  Tensor tensor(type.dtype, dims);
  const int64_t* whole = std::get_if<int64_t>(&number);
  if (is_float(type.dtype)) {
    const double value = whole ? static_cast<double>(*whole) : std::get<double>(number);
    for (int64_t i = 0; i < tensor.element_count(); ++i) tensor.set_float(i, value);
    return tensor;
  }
  if (!whole) fail(ErrorKind::invalid_input, "{}: needs a whole number, not {}", what, std::get<double>(number));
  for (int64_t i = 0; i < tensor.element_count(); ++i) {
    tensor.set_int(i, *whole);
    if (tensor.int_at(i) != *whole) fail(ErrorKind::invalid_input, "{}: cannot hold {}", what, *whole);
  }
  return tensor;
}

/// The constant given for an input.
Operand fixed_input(GraphImport& import, const ValueInfoProto& input, const FixedValue& value, const ImportOptions& options, Sizes& sizes) {
  const Tensor* tensor = std::get_if<Tensor>(&value);
  Operand operand;
  operand.tensor = import.builder().constant(tensor ? checked_value(input, *tensor, sizes) : filled(input, value, options, sizes), input.name());
  return operand;
}

/// Throws when `given` names what is no input of the model. `what` is given: "a shape".
template <class Value>
void check_names(const std::map<std::string, Value>& given, const std::set<std::string>& inputs, std::string_view what) {
  for (const auto& [name, value] : given)
    if (!inputs.count(name)) fail(ErrorKind::invalid_input, "{} is given for '{}', which is no input of the model; inputs: {}", what, name, listed(inputs));
}

void import_inputs(GraphImport& import, const GraphProto& graph, const ImportOptions& options) {
  Sizes sizes(options.sizes);
  std::set<std::string> inputs;
  for (const ValueInfoProto& input : graph.input()) {
    if (import.knows(input.name()) && !inputs.count(input.name())) continue;  // an initialiser: older models list them as inputs too
    if (input.name().empty()) fail(ErrorKind::invalid_input, "an input of the model has no name");
    inputs.insert(input.name());
    if (const auto fixed = options.constants.find(input.name()); fixed != options.constants.end()) {
      import.define(input.name(), fixed_input(import, input, fixed->second, options, sizes));
      continue;
    }
    Operand operand;
    try {
      operand.tensor = import.builder().input(input.name(), input_type(input, options, sizes));
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::unsupported) throw;
      import.model().add_failure(error.what());
      operand.kind = Operand::Kind::failed;
    }
    import.define(input.name(), operand);
  }
  check_names(options.shapes, inputs, "a shape");
  check_names(options.constants, inputs, "a value");
  sizes.check_given();
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
