#include "op/builder.h"

#include <algorithm>
#include <set>

#include "op/infer_contents.h"

namespace tilewright {
namespace {

constexpr int64_t largest_rank = 16;  ///< as the C interface's TILEWRIGHT_MAX_RANK

/// Highest number behind a '~' among the symbols of a graph: fresh symbols go on from there.
int highest_fresh(const Graph& graph) {
  std::set<std::string> symbols;
  const auto collect = [&](const Dims& dims) {
    for (const Dim& dim : dims) dim.collect_symbols(symbols);
  };
  int highest = 0;
  for (const Value& value : graph.values) collect(value.type.dims);
  for (const Node& node : graph.nodes) {
    for (const auto& [attribute, value] : node.attributes) {
      if (const Dims* dims = std::get_if<Dims>(&value)) collect(*dims);
      if (const auto* names = std::get_if<std::vector<std::string>>(&value)) symbols.insert(names->begin(), names->end());
    }
    for (const auto& body : node.subgraphs) highest = std::max(highest, highest_fresh(*body));
  }
  for (const std::string& symbol : symbols)
    if (const size_t at = symbol.rfind("_s");
        at != std::string::npos && at + 2 < symbol.size() && symbol.find_first_not_of("0123456789", at + 2) == std::string::npos)
      highest = std::max(highest, std::atoi(symbol.c_str() + at + 2));
  return highest;
}

}  // namespace

Builder::Builder(Graph& graph) : graph_(graph), symbol_supply_(std::make_shared<int>(highest_fresh(graph))) {
  for (const Value& value : graph.values) ++used_names_[value.name];
}

Builder::Builder(Graph& graph, Builder& parent) : graph_(graph), symbol_supply_(parent.symbol_supply_), source_(parent.source_) {}

ValueId Builder::new_value(Type type, std::string name) {
  if (name.empty()) name = "v";
  std::string unique = name;
  for (int& count = used_names_[name]; count > 0 && used_names_.count(unique) > 0; ++count) unique = name + "." + std::to_string(count);
  ++used_names_[unique];
  graph_.values.push_back({std::move(type), std::move(unique), nullptr, std::nullopt});
  return static_cast<ValueId>(graph_.values.size()) - 1;
}

ValueId Builder::input(std::string name, Type type) {
  const ValueId id = new_value(std::move(type), std::move(name));
  graph_.inputs.push_back(id);
  return id;
}

void Builder::output(ValueId value, const std::string& name) {
  if (!name.empty() && graph_.value(value).name != name) {
    const bool owned = std::find(graph_.inputs.begin(), graph_.inputs.end(), value) == graph_.inputs.end() && !graph_.value(value).constant &&
                       std::find(graph_.outputs.begin(), graph_.outputs.end(), value) == graph_.outputs.end();
    if (!owned) {  // an output that is an input, a constant or another output: a value of its own, so that it has its own name
      const Dims dims = graph_.type(value).dims;
      value = reshape(value, dims);
    }
    for (Value& other : graph_.values)
      if (other.name == name) other.name += ".inner";
    graph_.value(value).name = name;
    ++used_names_[name];
  }
  graph_.outputs.push_back(value);
}

ValueId Builder::constant(Tensor value, std::string name) {
  Dims dims(value.dims().begin(), value.dims().end());
  const ValueId id = new_value({value.dtype(), std::move(dims)}, name.empty() ? source_ + "/constant" : std::move(name));
  graph_.value(id).constant = std::make_shared<const Tensor>(std::move(value));
  return id;
}

ValueId Builder::scalar(DType dtype, double value) { return constant(Tensor::scalar(dtype, value)); }
ValueId Builder::ints(const std::vector<int64_t>& values) { return constant(Tensor::from_ints(values)); }

ValueId Builder::sizes(const Dims& values) {
  std::vector<int64_t> known;
  for (const Dim& dim : values)
    if (dim.is_constant()) known.push_back(dim.constant());
  if (known.size() == values.size()) return ints(known);
  return one("dims", {}, {{"sizes", values}});
}

std::vector<ValueId> Builder::node(std::string_view op, std::vector<ValueId> inputs, Attributes attributes, int outputs) {
  const auto known = all_ops();
  if (std::none_of(known.begin(), known.end(), [&](const OpDef* one) { return one->name == op; }))
    fail(ErrorKind::unsupported, "'{}' needs the core operator {}, which there is none of", source_, op);
  const OpDef& definition = find_op(op);
  Node node{std::string(op), std::move(inputs), {}, std::move(attributes), {}, source_};
  const InferContext context(graph_, node);
  const int count = context.input_count();
  context.require(count >= definition.min_inputs && (definition.max_inputs < 0 || count <= definition.max_inputs), "has {} inputs, wants {}{}", count,
                  definition.min_inputs,
                  definition.max_inputs == definition.min_inputs ? ""
                  : definition.max_inputs < 0                    ? " or more"
                                                                 : fmt::format(" to {}", definition.max_inputs));
  const std::vector<Type> types = definition.infer(context);
  ensure(static_cast<int>(types.size()) >= outputs, "an operator gives the results that are asked for");
  for (const InferContext::Check& check : context.checks()) require_equal(check.lhs, check.rhs, check.message);
  for (const Type& type : types) node.outputs.push_back(new_value(type, source_));
  infer_contents(graph_, node);
  graph_.nodes.push_back(node);
  return {node.outputs.begin(), node.outputs.begin() + outputs};
}

void Builder::require_equal(const Dim& a, const Dim& b, std::string_view message) {
  if (a == b) return;
  if (a.is_constant() && b.is_constant()) fail(ErrorKind::invalid_input, "'{}': {}: {} is not {}", source_, message, a.str(), b.str());
  const Dims lhs = {a}, rhs = {b};
  for (const Node& other : graph_.nodes)
    if (other.op == "require" && std::get<Dims>(other.attributes.at("lhs")) == lhs && std::get<Dims>(other.attributes.at("rhs")) == rhs) return;
  graph_.nodes.push_back({"require", {}, {}, {{"lhs", lhs}, {"rhs", rhs}, {"message", std::string(message)}}, {}, source_});
}

std::optional<Dims> Builder::contents(ValueId v) const {
  const Node none{"", {v}, {}, {}, {}, ""};
  return InferContext(graph_, none).contents(0);
}

Dim Builder::fresh_symbol(std::string_view prefix) {
  std::string name;
  for (const char c : prefix) name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  if (name.empty() || std::isdigit(static_cast<unsigned char>(name[0]))) name = "n" + name;
  if (name.size() > 24) name.resize(24);
  return Dim::symbol(name + "_s" + std::to_string(++*symbol_supply_));
}

Dims Builder::sizes_of(ValueId v) {
  if (const auto known = contents(v)) return *known;
  const Type t = type(v);
  if (t.dims.size() > 1 || !product(t.dims).is_constant())
    fail(ErrorKind::unsupported, "'{}': sizes are computed at run time by a tensor {}; their number must be known", source_, str(t));
  const int64_t count = product(t.dims).constant();
  if (count > largest_rank) fail(ErrorKind::invalid_input, "'{}': {} sizes; tensors have at most {} axes", source_, count, largest_rank);
  Dims result;
  std::vector<std::string> symbols;
  for (int64_t i = 0; i < count; ++i) {
    result.push_back(fresh_symbol("size"));
    symbols.push_back(*result.back().as_symbol());
  }
  if (count > 0) node("bind", {cast(v, DType::i64)}, {{"symbols", symbols}}, 0);
  return result;
}

ValueId Builder::cast(ValueId x, DType to, std::string_view mode) {
  if (dtype(x) == to) return x;
  return one("cast", {x}, {{"to", to}, {"mode", std::string(mode)}});
}

ValueId Builder::reshape(ValueId x, Dims dims) { return one("reshape", {x}, {{"dims", std::move(dims)}}); }

ValueId Builder::flatten_to(ValueId x, int from_axis, int to_axis) {
  const Dims& old = dims(x);
  Dims merged(old.begin(), old.begin() + from_axis);
  merged.push_back(product(Dims(old.begin() + from_axis, old.begin() + to_axis)));
  merged.insert(merged.end(), old.begin() + to_axis, old.end());
  return reshape(x, merged);
}

ValueId Builder::unsqueeze(ValueId x, std::vector<int64_t> axes) {
  std::sort(axes.begin(), axes.end());
  Dims larger = dims(x);
  for (const int64_t axis : axes) {
    ensure(axis >= 0 && axis <= static_cast<int64_t>(larger.size()), "unsqueeze axes lie within the result");
    larger.insert(larger.begin() + axis, Dim(1));
  }
  return reshape(x, larger);
}

ValueId Builder::squeeze(ValueId x, std::vector<int64_t> axes) {
  std::sort(axes.rbegin(), axes.rend());
  Dims smaller = dims(x);
  for (const int64_t axis : axes) smaller.erase(smaller.begin() + axis);
  return reshape(x, smaller);
}

ValueId Builder::transpose(ValueId x, std::vector<int64_t> permutation) { return one("transpose", {x}, {{"permutation", std::move(permutation)}}); }
ValueId Builder::broadcast(ValueId x, Dims dims) { return one("broadcast", {x}, {{"dims", std::move(dims)}}); }
ValueId Builder::concat(std::vector<ValueId> xs, int axis) { return one("concat", std::move(xs), {{"axis", int64_t{axis}}}); }

ValueId Builder::slice(ValueId x, int axis, Dim start, Dim count, int64_t step) {
  Dims starts(dims(x).size(), Dim(0)), counts = dims(x);
  std::vector<int64_t> steps(dims(x).size(), 1);
  starts.at(static_cast<size_t>(axis)) = std::move(start);
  counts.at(static_cast<size_t>(axis)) = std::move(count);
  steps.at(static_cast<size_t>(axis)) = step;
  return one("slice", {x}, {{"starts", starts}, {"counts", counts}, {"steps", steps}});
}

ValueId Builder::pad(ValueId x, Dims before, Dims after, std::string_view mode, ValueId value) {
  std::vector<ValueId> inputs = {x};
  if (value != no_value) inputs.push_back(value);
  return one("pad", std::move(inputs), {{"before", std::move(before)}, {"after", std::move(after)}, {"mode", std::string(mode)}});
}

ValueId Builder::iota(DType dtype, Dims dims, int axis) { return one("iota", {}, {{"dtype", dtype}, {"dims", std::move(dims)}, {"axis", int64_t{axis}}}); }

ValueId Builder::reduce(std::string_view op, ValueId x, std::vector<int64_t> axes, bool keep_dims) {
  return one(op, {x}, {{"axes", std::move(axes)}, {"keep_dims", int64_t{keep_dims}}});
}

ValueId Builder::softmax(ValueId x, int axis) {
  const ValueId shifted = sub(x, reduce("reduce_max", x, {axis}));
  const ValueId powers = exp(shifted);
  return div(powers, reduce("reduce_sum", powers, {axis}));
}

}  // namespace tilewright
