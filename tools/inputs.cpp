#include "inputs.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>
#include <random>
#include <set>

#include "arguments.h"
#include "base/error.h"
#include "base/npy.h"

namespace tilewright::tools {
namespace {

std::string names_of(const std::vector<Port>& ports) {
  std::string list;
  for (const Port& port : ports) list += (list.empty() ? "" : ", ") + port.name;
  return list.empty() ? "none" : list;
}

/// By port; empty where no file is given.
std::vector<std::optional<Tensor>> read_files(const std::vector<Port>& ports, const std::vector<std::string>& files) {
  std::map<std::string, Tensor> named;
  std::vector<Tensor> in_order;
  for (const std::string& text : files) {
    const size_t equals = text.find('=');
    const std::string file = equals == std::string::npos ? text : text.substr(equals + 1);
    if (file.ends_with(".npz"))
      for (auto& [member, tensor] : read_npz(file)) named[member] = tensor;
    else if (equals != std::string::npos)
      named[text.substr(0, equals)] = read_tensor(file);
    else
      in_order.push_back(read_tensor(file));
  }
  std::vector<std::optional<Tensor>> given;
  size_t next = 0;
  for (const Port& port : ports) {
    if (const auto found = named.find(port.name); found != named.end()) {
      given.emplace_back(found->second);
      named.erase(found);
    } else {
      given.push_back(next < in_order.size() ? std::optional(in_order[next++]) : std::nullopt);
    }
  }
  if (!named.empty()) fail(ErrorKind::invalid_input, "the model has no input '{}'; inputs: {}", named.begin()->first, names_of(ports));
  if (next < in_order.size())
    fail(ErrorKind::invalid_input, "{} input files were given; the model has {} inputs ({})", files.size(), ports.size(), names_of(ports));
  return given;
}

std::map<std::string, Dims> read_shapes(const std::vector<Port>& ports, const std::vector<std::string>& texts) {
  std::map<std::string, Dims> shapes;
  for (const std::string& text : texts) {
    const auto [name, dims] = parse_shape(text);
    const auto port = std::find_if(ports.begin(), ports.end(), [&wanted = name](const Port& p) { return p.name == wanted; });
    if (port == ports.end()) fail(ErrorKind::invalid_input, "--shape {}: the model has no input '{}'; inputs: {}", text, name, names_of(ports));
    bool fits = dims.size() == port->dims.size();
    for (size_t i = 0; fits && i < dims.size(); ++i) fits = !dims[i].is_constant() || !port->dims[i].is_constant() || dims[i] == port->dims[i];
    if (!fits) fail(ErrorKind::invalid_input, "--shape {}: {} does not fit {}{}", text, str(dims), name, str(port->dims));
    shapes[name] = dims;
  }
  return shapes;
}

/// Values a model can make sense of: floats in [0, 1), small non-negative integers, both truth values.
void fill_random(Tensor& tensor, std::mt19937_64& random) {
  for (int64_t i = 0; i < tensor.element_count(); ++i) {
    if (is_float(tensor.dtype()))
      tensor.set_float(i, static_cast<double>(random() >> 11) * 0x1p-53);
    else
      tensor.set_int(i, static_cast<int64_t>(random() % 2));
  }
}

/// The run-time sizes that are known, by name.
class Sizes {
 public:
  void learn(const Dims& names, const Dims& values) {
    for (size_t i = 0; i < std::min(names.size(), values.size()); ++i)
      if (const auto name = names[i].as_symbol(); name && values[i].is_constant()) known_.emplace(*name, values[i].constant());
  }
  /// Sizes of an input without a file; says so when some are 1 because nothing tells them.
  std::vector<int64_t> choose(const Port& port, const Dims& dims) const {
    std::set<std::string> unknown;
    for (const Dim& dim : dims) dim.collect_symbols(unknown);
    for (const auto& [name, size] : known_) unknown.erase(name);
    const std::vector<int64_t> sizes = evaluate(dims, unknown, 1);
    if (!unknown.empty())
      fmt::print(stderr, "tilewright: input '{}': using {}[{}] ({} {} 1; set {} with --shape {}={})\n", port.name, name(port.dtype), fmt::join(sizes, "x"),
                 fmt::join(unknown, ", "), unknown.size() == 1 ? "is" : "are", unknown.size() == 1 ? "it" : "them", port.name,
                 fmt::join(evaluate(dims, unknown, 8), "x"));
    return sizes;
  }

 private:
  std::vector<int64_t> evaluate(const Dims& dims, const std::set<std::string>& unknown, int64_t value) const {
    std::map<std::string, int64_t> values = known_;
    for (const std::string& name : unknown) values[name] = value;
    std::vector<int64_t> sizes;
    for (const Dim& dim : dims) sizes.push_back(dim.evaluate(values));
    return sizes;
  }

  std::map<std::string, int64_t> known_;
};

}  // namespace

std::vector<Port> inputs_of(const Model& model) {
  std::vector<Port> ports;
  for (int i = 0; i < model.api().input_count; ++i) {
    const tilewright_value& value = model.api().inputs[i];
    Port port{value.name, static_cast<DType>(value.dtype), {}};
    for (int axis = 0; axis < value.rank; ++axis) port.dims.push_back(value.dims[axis] >= 0 ? Dim(value.dims[axis]) : Dim::parse(value.dim_names[axis]));
    ports.push_back(std::move(port));
  }
  return ports;
}

std::vector<Port> inputs_of(const Graph& graph) {
  std::vector<Port> ports;
  for (const ValueId id : graph.inputs) ports.push_back({graph.value(id).name, graph.type(id).dtype, graph.type(id).dims});
  return ports;
}

std::vector<Tensor> make_inputs(const std::vector<Port>& ports, const InputChoice& choice) {
  const std::vector<std::optional<Tensor>> given = read_files(ports, choice.files);
  const std::map<std::string, Dims> shapes = read_shapes(ports, choice.shapes);
  Sizes sizes;
  for (size_t i = 0; i < ports.size(); ++i) {
    if (given[i])
      sizes.learn(ports[i].dims, Dims(given[i]->dims().begin(), given[i]->dims().end()));
    else if (const auto shape = shapes.find(ports[i].name); shape != shapes.end())
      sizes.learn(ports[i].dims, shape->second);
  }
  std::mt19937_64 random(choice.seed);
  std::vector<Tensor> inputs;
  for (size_t i = 0; i < ports.size(); ++i) {
    if (given[i]) {
      inputs.push_back(*given[i]);
      continue;
    }
    const auto shape = shapes.find(ports[i].name);
    Tensor tensor(ports[i].dtype, sizes.choose(ports[i], shape != shapes.end() ? shape->second : ports[i].dims));
    fill_random(tensor, random);
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

}  // namespace tilewright::tools
