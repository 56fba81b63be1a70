#include "common.h"

#include <unistd.h>

#include <atomic>
#include <charconv>
#include <csignal>
#include <random>
#include <set>

#include "base/npy.h"
#include "import/onnx/tensor_file.h"

namespace tilewright::tools {
namespace {

std::atomic<int> signals{0};

Dim parse_size(const std::string& text) {
  int64_t number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure == std::errc{} && end == text.data() + text.size()) {
    if (number < 0) fail(ErrorKind::invalid_input, "--shape: a size cannot be negative: '{}'", text);
    return number;
  }
  return Dim::parse(text);
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

std::vector<int64_t> sizes_of(const Port& port, const std::map<std::string, Dims>& given) {
  const auto shape = given.find(port.name);
  const Dims& dims = shape != given.end() ? shape->second : port.dims;
  std::vector<int64_t> sizes;
  for (const Dim& dim : dims) sizes.push_back(dim.is_constant() ? dim.constant() : 1);
  return sizes;
}

}  // namespace

int exit_code_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::invalid_input: return 1;
    case ErrorKind::unsupported: return 2;
    case ErrorKind::environment: return 3;
    case ErrorKind::internal: return 4;
  }
  return 4;
}

void note_interrupt(int signal) {
  if (signals.fetch_add(1) > 0) _exit(128 + signal);
}
bool interrupted() { return signals.load() > 0; }

std::pair<std::string, Dims> parse_shape(const std::string& text) {
  const size_t equals = text.rfind('=');
  if (equals == std::string::npos || equals == 0) fail(ErrorKind::invalid_input, "--shape wants name=1x3x224x224, got '{}'", text);
  Dims dims;
  std::string size;
  for (const char c : text.substr(equals + 1) + "x") {
    if (c != 'x' && c != ',') {
      size += c;
      continue;
    }
    if (!size.empty()) dims.push_back(parse_size(size));
    size.clear();
  }
  return {text.substr(0, equals), dims};
}

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

std::string str(const Port& port) { return fmt::format("{}: {}{}", port.name, name(port.dtype), tilewright::str(port.dims)); }

Tensor read_tensor(const std::string& file) {
  if (file.ends_with(".npy")) return read_npy(file);
  if (file.ends_with(".pb")) return onnx::read_tensor_file(file);
  fail(ErrorKind::invalid_input, "'{}': tensors are read from .npy, .npz and .pb files", file);
}

std::vector<Tensor> make_inputs(const std::vector<Port>& ports, const InputChoice& choice) {
  std::map<std::string, Tensor> named;
  std::vector<Tensor> in_order;
  for (const std::string& text : choice.files) {
    const size_t equals = text.find('=');
    const std::string file = equals == std::string::npos ? text : text.substr(equals + 1);
    if (file.ends_with(".npz"))
      for (auto& [member, tensor] : read_npz(file)) named[member] = tensor;
    else if (equals != std::string::npos)
      named[text.substr(0, equals)] = read_tensor(file);
    else
      in_order.push_back(read_tensor(file));
  }
  std::map<std::string, Dims> shapes;
  for (const std::string& text : choice.shapes) shapes.insert(parse_shape(text));
  std::set<std::string> known;
  std::string list;
  for (const Port& port : ports) {
    known.insert(port.name);
    list += (list.empty() ? "" : ", ") + port.name;
  }
  for (const auto& [input, tensor] : named)
    if (!known.count(input)) fail(ErrorKind::invalid_input, "the model has no input '{}'; inputs: {}", input, list);
  for (const auto& [input, dims] : shapes)
    if (!known.count(input)) fail(ErrorKind::invalid_input, "--shape: the model has no input '{}'; inputs: {}", input, list);
  std::vector<Tensor> inputs;
  std::mt19937_64 random(choice.seed);
  size_t next = 0;
  for (const Port& port : ports) {
    Tensor tensor;
    if (const auto found = named.find(port.name); found != named.end()) {
      tensor = found->second;
    } else if (next < in_order.size()) {
      tensor = in_order[next++];
    } else {
      tensor = Tensor(port.dtype, sizes_of(port, shapes));
      fill_random(tensor, random);
    }
    inputs.push_back(std::move(tensor));
  }
  if (next < in_order.size())
    fail(ErrorKind::invalid_input, "{} input files were given; the model has {} inputs ({})", choice.files.size(), ports.size(), list);
  return inputs;
}

void CompileChoice::add_to(CLI::App& command) {
  command.add_option("--target", target, "machine to compile for: native, cpu:x86-64-v3, cpu:x86-64-v4, cpu:sapphirerapids, cpu:aarch64")
      ->capture_default_str();
  command.add_option("--policy", policy, "precision promise")->capture_default_str();
  command.add_option("--shape", shapes, "dims of an input, e.g. input=1x3x224x224; names stay run-time sizes");
  command.add_option("--disable", disabled, "switch a pass off by name; repeatable");
  command.add_option("--dump-dir", dump_dir, "write the model's text form after every stage there");
  command.add_option("--stop-after", stop_after, "stop after this stage: import, a pass of the graph, optimise, lower, schedule, emit");
  command.add_flag("--verify-passes", verify_passes, "check the graph after every pass");
  command.add_option("--cxx", compiler, "C++ compiler for the kernels (default: $TILEWRIGHT_CXX or g++)");
  command.add_option("-j,--jobs", jobs, "compilers at once (default: one a core)")->check(CLI::Range(0, 256));
  command.add_flag("--no-cache", no_cache, "compile everything anew");
}

CompileOptions CompileChoice::finish() const {
  CompileOptions options;
  options.target = target;
  options.policy = policy;
  options.dump_dir = dump_dir;
  options.stop_after = stop_after;
  options.disabled_passes = {disabled.begin(), disabled.end()};
  options.verify_between_passes = verify_passes;
  options.build.compiler = compiler;
  options.build.jobs = jobs;
  options.build.use_cache = !no_cache;
  options.build.cancelled = interrupted;
  for (const std::string& text : shapes) options.import.shapes.insert(parse_shape(text));
  return options;
}

}  // namespace tilewright::tools
