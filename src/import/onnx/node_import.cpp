#include <algorithm>

#include "import/onnx/graph_import.h"

namespace tilewright::onnx {
namespace {

std::string_view kind_name(AttributeProto::Type kind) {
  switch (kind) {
    case AttributeProto::FLOAT: return "a float";
    case AttributeProto::INT: return "an integer";
    case AttributeProto::STRING: return "a string";
    case AttributeProto::TENSOR: return "a tensor";
    case AttributeProto::GRAPH: return "a graph";
    case AttributeProto::FLOATS: return "a list of floats";
    case AttributeProto::INTS: return "a list of integers";
    case AttributeProto::STRINGS: return "a list of strings";
    default: return "something else";
  }
}

/// Early models did not write the kind.
bool is_kind(const AttributeProto& attribute, AttributeProto::Type kind) {
  if (attribute.type() != AttributeProto::UNDEFINED) return attribute.type() == kind;
  switch (kind) {
    case AttributeProto::FLOAT: return attribute.has_f();
    case AttributeProto::INT: return attribute.has_i();
    case AttributeProto::STRING: return attribute.has_s();
    case AttributeProto::TENSOR: return attribute.has_t();
    case AttributeProto::GRAPH: return attribute.has_g();
    default: return true;
  }
}

}  // namespace

NodeImport::NodeImport(GraphImport& graph, Builder& builder, const NodeProto& node, int64_t opset, std::vector<std::optional<Operand>> inputs)
    : b(builder), graph_(graph), node_(node), opset_(opset), inputs_(std::move(inputs)) {
  while (!inputs_.empty() && !inputs_.back()) inputs_.pop_back();
}

std::string NodeImport::describe() const { return node_.op_type() + " '" + graph_.name_of(node_) + "'"; }

bool NodeImport::has(int i) const { return i >= 0 && i < input_count() && inputs_[static_cast<size_t>(i)].has_value(); }

const Operand& NodeImport::operand(int i) const {
  if (!has(i)) reject("input {} is missing", i);
  return *inputs_[static_cast<size_t>(i)];
}

ValueId NodeImport::in(int i) const {
  const Operand& input = operand(i);
  if (input.kind == Operand::Kind::sequence) reject("input {} is a sequence; it must be a tensor", i);
  if (input.kind == Operand::Kind::nothing) reject("input {} is an optional that holds nothing; it must be a tensor", i);
  return input.tensor;
}

ValueId NodeImport::in_or(int i, ValueId otherwise) const { return has(i) ? in(i) : otherwise; }

std::vector<ValueId> NodeImport::all_inputs() const {
  std::vector<ValueId> all;
  for (int i = 0; i < input_count(); ++i) all.push_back(in(i));
  require(!all.empty(), "needs at least one input");
  return all;
}

const std::vector<ValueId>& NodeImport::sequence(int i) const {
  const Operand& input = operand(i);
  if (input.kind != Operand::Kind::sequence) reject("input {} is no sequence", i);
  return input.sequence;
}

std::shared_ptr<const Tensor> NodeImport::constant(int i) const { return b.constant_of(in(i)); }

Tensor NodeImport::required_constant(int i, std::string_view what) const {
  const auto value = constant(i);
  if (!value) must_be_known(i, what);
  return *value;
}

void NodeImport::must_be_known(int i, std::string_view what) const {
  unsupported("its {} (input {}) must be known at compile time; if it is an input of the model, fix its value with --constant {}=…", what, i, node_.input(i));
}

const AttributeProto* NodeImport::find(std::string_view name) const {
  for (const AttributeProto& attribute : node_.attribute()) {
    if (attribute.name() != name) continue;
    if (attribute.ref_attr_name().empty()) return &attribute;
    const auto& given = graph_.frame().attributes;
    const auto found = given.find(attribute.ref_attr_name());
    return found == given.end() ? nullptr : found->second;
  }
  return nullptr;
}

const AttributeProto* NodeImport::find_of_kind(std::string_view name, AttributeProto::Type kind) const {
  const AttributeProto* attribute = find(name);
  if (attribute && !is_kind(*attribute, kind)) reject("attribute '{}' must be {}", name, kind_name(kind));
  return attribute;
}

const AttributeProto& NodeImport::required(std::string_view name, AttributeProto::Type kind) const {
  const AttributeProto* attribute = find_of_kind(name, kind);
  if (!attribute) reject("attribute '{}' is missing", name);
  return *attribute;
}

int64_t NodeImport::integer(std::string_view name) const { return required(name, AttributeProto::INT).i(); }
int64_t NodeImport::integer(std::string_view name, int64_t otherwise) const {
  const AttributeProto* attribute = find_of_kind(name, AttributeProto::INT);
  return attribute ? attribute->i() : otherwise;
}
double NodeImport::real(std::string_view name) const { return required(name, AttributeProto::FLOAT).f(); }
double NodeImport::real(std::string_view name, double otherwise) const {
  const AttributeProto* attribute = find_of_kind(name, AttributeProto::FLOAT);
  return attribute ? attribute->f() : static_cast<double>(static_cast<float>(otherwise));  // ONNX's defaults are floats too
}
std::string NodeImport::text(std::string_view name) const { return required(name, AttributeProto::STRING).s(); }
std::string NodeImport::text(std::string_view name, const std::string& otherwise) const {
  const AttributeProto* attribute = find_of_kind(name, AttributeProto::STRING);
  return attribute ? attribute->s() : otherwise;
}
std::vector<int64_t> NodeImport::integers(std::string_view name) const {
  const AttributeProto* attribute = find_of_kind(name, AttributeProto::INTS);
  return attribute ? std::vector<int64_t>(attribute->ints().begin(), attribute->ints().end()) : std::vector<int64_t>{};
}
std::vector<float> NodeImport::reals(std::string_view name) const {
  const AttributeProto* attribute = find_of_kind(name, AttributeProto::FLOATS);
  return attribute ? std::vector<float>(attribute->floats().begin(), attribute->floats().end()) : std::vector<float>{};
}
std::vector<std::string> NodeImport::texts(std::string_view name) const {
  const AttributeProto* attribute = find_of_kind(name, AttributeProto::STRINGS);
  return attribute ? std::vector<std::string>(attribute->strings().begin(), attribute->strings().end()) : std::vector<std::string>{};
}
Tensor NodeImport::tensor(std::string_view name) const { return graph_.model().tensor(required(name, AttributeProto::TENSOR).t(), describe()); }
Tensor NodeImport::sparse_tensor(std::string_view name) const {
  return graph_.model().tensor(required(name, AttributeProto::SPARSE_TENSOR).sparse_tensor(), describe());
}
const GraphProto& NodeImport::graph(std::string_view name) const { return required(name, AttributeProto::GRAPH).g(); }

DType NodeImport::dtype_attribute(std::string_view name) const {
  const int64_t number = integer(name);
  require(number >= 0 && number < 1000, "attribute '{}' is {}, which is no element type", name, number);
  return checked_dtype(static_cast<int32_t>(number), describe());
}
DType NodeImport::dtype_attribute(std::string_view name, DType otherwise) const { return has_attribute(name) ? dtype_attribute(name) : otherwise; }

int NodeImport::axis(int64_t value, int rank) const {
  require(value >= -rank && value < rank, "axis {} is outside of [{}, {}]", value, -rank, rank - 1);
  return static_cast<int>(value < 0 ? value + rank : value);
}

std::vector<int64_t> NodeImport::axes(const std::vector<int64_t>& values, int rank) const {
  std::vector<int64_t> result;
  for (const int64_t value : values) result.push_back(axis(value, rank));
  std::sort(result.begin(), result.end());
  require(std::adjacent_find(result.begin(), result.end()) == result.end(), "an axis is named twice");
  return result;
}

void NodeImport::set(int i, ValueId value) {
  Operand operand;
  operand.tensor = value;
  set(i, std::move(operand));
}

void NodeImport::set(int i, Operand operand) {
  while (results_.size() <= static_cast<size_t>(i)) results_.push_back({Operand::Kind::failed, no_value, {}});
  results_[static_cast<size_t>(i)] = std::move(operand);
}

Captures NodeImport::captures(std::span<const GraphProto* const> graphs) const {
  Captures captures;
  std::unordered_set<std::string> seen;
  std::unordered_set<ValueId> passed;
  const auto pass = [&](ValueId value) {
    const bool remade = b.constant_of(value) || b.contents(value);
    if (!remade && passed.insert(value).second) captures.values.push_back(value);
  };
  for (const GraphProto* graph : graphs) {
    for (const std::string& name : graph_.model().free_names().of(*graph)) {
      if (!seen.insert(name).second) continue;
      const std::optional<Operand> operand = graph_.lookup(name, describe());
      if (!operand) reject("a sub-graph uses '{}', which the function's call omits", name);
      if (operand->kind == Operand::Kind::tensor) pass(operand->tensor);
      for (const ValueId value : operand->sequence) pass(value);
      captures.operands.emplace_back(name, *operand);
    }
  }
  return captures;
}

namespace {

/// A value of the enclosing graph that is known at import, made anew in `body`.
ValueId remake(Builder& outer, Builder& body, ValueId value) {
  if (const auto constant = outer.constant_of(value)) return body.constant(*constant, outer.graph().value(value).name);
  const Type type = outer.type(value);
  ValueId sizes = body.sizes(*outer.contents(value));
  if (type.dims.size() != 1) sizes = body.reshape(sizes, type.dims);
  return body.cast(sizes, type.dtype);
}

}  // namespace

std::vector<ValueId> NodeImport::import_subgraph(const GraphProto& graph, Builder& body, const std::vector<ValueId>& arguments, const Captures& captures,
                                                 const std::vector<ValueId>& captured) const {
  ensure(captured.size() == captures.values.size(), "every captured value has its stand-in");
  GraphImport import(graph_.model(), graph_.frame(), body, graph_.depth() + 1);
  const auto inside = [&](ValueId value) {
    if (&body == &b) return value;
    const auto found = std::find(captures.values.begin(), captures.values.end(), value);
    return found == captures.values.end() ? remake(b, body, value) : captured[static_cast<size_t>(found - captures.values.begin())];
  };
  body.set_source(b.source());
  const std::vector<std::string>& mentioned = graph_.model().free_names().of(graph);
  for (const auto& [name, outer] : captures.operands) {
    if (std::find(mentioned.begin(), mentioned.end(), name) == mentioned.end()) continue;
    Operand operand = outer;
    if (operand.kind == Operand::Kind::tensor) operand.tensor = inside(operand.tensor);
    for (ValueId& value : operand.sequence) value = inside(value);
    import.define(name, operand);
  }
  std::vector<ValueId> results;
  for (const Operand& result : import.import_body(graph, arguments)) {
    if (result.kind != Operand::Kind::tensor) unsupported("a sub-graph's output is a sequence or an optional");
    results.push_back(result.tensor);
  }
  body.set_source(graph_.name_of(node_));
  return results;
}

std::vector<Operand> NodeImport::expand_subgraph(const GraphProto& graph, const std::vector<ValueId>& arguments) const {
  const GraphProto* graphs[] = {&graph};
  GraphImport import(graph_.model(), graph_.frame(), b, graph_.depth() + 1);
  for (const auto& [name, operand] : captures(graphs).operands) import.define(name, operand);
  std::vector<Operand> results = import.import_body(graph, arguments);
  b.set_source(graph_.name_of(node_));
  return results;
}

}  // namespace tilewright::onnx
