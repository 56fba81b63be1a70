#include "pattern/interpret.h"

#include <algorithm>
#include <climits>

#include "base/error.h"

namespace tilewright::pattern {

Array to_array(const Tensor& tensor) {
  Array array{tensor.dtype(), tensor.dims(), {}, {}};
  const size_t count = static_cast<size_t>(tensor.element_count());
  if (array.real()) {
    array.reals.resize(count);
    if (tensor.dtype() == DType::f32)
      std::copy_n(tensor.as<float>(), count, array.reals.begin());
    else
      for (size_t i = 0; i < count; ++i) array.reals[i] = read_float(tensor.dtype(), tensor.data(), i);
  } else {
    array.integers.resize(count);
    for (size_t i = 0; i < count; ++i) array.integers[i] = read_int(tensor.dtype(), tensor.data(), i);
  }
  return array;
}

Tensor to_tensor(const Array& array, DType dtype) {
  Tensor tensor(dtype, array.dims);
  void* data = tensor.mutable_data();
  // The values are the dtype's own already, infinity among them: nothing is to saturate.
  if (array.real()) convert(DType::f64, array.reals.data(), dtype, data, array.reals.size(), false);
  for (size_t i = 0; i < array.integers.size(); ++i) write_int(dtype, data, i, array.integers[i]);
  return tensor;
}

void Run::reserve(DType dtype, const std::vector<int64_t>& dims, int64_t& bytes) {
  const int64_t count = element_count(dims);
  if (count > options.element_limit)
    fail(ErrorKind::invalid_input, "a tensor {} [{}] has more elements than the interpreter's limit of {}", name(dtype), fmt::join(dims, ","),
         options.element_limit);
  if (count > (options.byte_limit - *live_bytes_) / 8)
    fail(ErrorKind::invalid_input, "a tensor {} [{}] would bring the interpreter's tensors beyond its limit of {} bytes", name(dtype), fmt::join(dims, ","),
         options.byte_limit);
  bytes = count * 8;
  *live_bytes_ += bytes;
}

ArrayPointer Run::adopt(Array array) {
  int64_t bytes = 0;
  reserve(array.dtype, array.dims, bytes);
  const auto live = live_bytes_;
  return ArrayPointer(new Array(std::move(array)), [live, bytes](const Array* a) {
    *live -= bytes;
    delete a;
  });
}

ArrayPointer Run::allocate(DType dtype, std::vector<int64_t> dims) {
  ArrayPointer array = adopt({dtype, std::move(dims), {}, {}});
  const size_t count = static_cast<size_t>(array->count());
  array->real() ? array->reals.resize(count) : array->integers.resize(count);
  return array;
}

ArrayPointer Run::constant(const Tensor& tensor) {
  if (depth == 0) {
    loop_constants_.clear();
    return adopt(to_array(tensor));
  }
  ArrayPointer& array = loop_constants_[&tensor];
  if (!array) array = adopt(to_array(tensor));
  return array;
}

void Run::spend(int64_t points, const std::string& source) {
  if (points > options.point_limit - points_)
    fail(ErrorKind::invalid_input, "{}: more work than the interpreter's limit of {} points", source, options.point_limit);
  points_ += points;
}

ArrayPointer Machine::shared(TensorId id) {
  ArrayPointer& array = arrays.at(static_cast<size_t>(id));
  if (!array) {
    const TensorInfo& info = program.tensor(id);
    if (!info.constant) fail(ErrorKind::internal, "internal error: tensor '{}' is read before it is written", info.name);
    array = run.constant(*info.constant);
  }
  return array;
}

Array& Machine::create(TensorId id) {
  ArrayPointer& array = arrays.at(static_cast<size_t>(id));
  if (!array) array = run.allocate(program.tensor(id).type.dtype, evaluate(program.tensor(id).type.dims, run.sizes));
  return *array;
}

void Machine::execute() {
  // A tensor's memory is given back after the last pattern that mentions it.
  constexpr int kept = INT_MAX;
  std::vector<int> last(program.tensors.size(), -1);
  std::vector<std::vector<TensorId>> mentioned;
  for (size_t step = 0; step < program.patterns.size(); ++step) {
    mentioned.push_back(reads(program.patterns[step]));
    const std::vector<TensorId> written = writes(program.patterns[step]);
    mentioned.back().insert(mentioned.back().end(), written.begin(), written.end());
    for (const TensorId id : mentioned.back()) last[static_cast<size_t>(id)] = static_cast<int>(step);
  }
  for (const TensorId id : program.outputs) last[static_cast<size_t>(id)] = kept;

  for (size_t step = 0; step < program.patterns.size(); ++step) {
    const Pattern& pattern = program.patterns[step];
    run.spend(1, program.name);
    std::visit([&](const auto& one) { interpret(*this, one); }, pattern);
    if (run.options.observe && run.depth == 0) {
      for (const TensorId id : writes(pattern)) {
        const Array& array = get(id);
        run.options.observe(id, to_tensor(array, array.real() && !run.rounds() ? DType::f64 : array.dtype));
      }
    }
    for (const TensorId id : mentioned[step])
      if (last[static_cast<size_t>(id)] == static_cast<int>(step)) arrays[static_cast<size_t>(id)].reset();
  }
}

namespace {

[[noreturn]] void reject_input(const TensorInfo& info, const Tensor& given) {
  fail(ErrorKind::invalid_input, "input '{}' is {}[{}]; the model wants {}", info.name, name(given.dtype()), fmt::join(given.dims(), ","), str(info.type));
}

/// Plain symbols take the sizes they meet; then every dim must be what the program says.
void bind_inputs(const Program& program, const std::vector<Tensor>& inputs, Sizes& sizes) {
  for (size_t i = 0; i < inputs.size(); ++i) {
    const TensorInfo& info = program.tensor(program.inputs[i]);
    if (inputs[i].rank() != info.type.dims.size() || inputs[i].dtype() != info.type.dtype) reject_input(info, inputs[i]);
    for (size_t axis = 0; axis < inputs[i].rank(); ++axis)
      if (const auto symbol = info.type.dims[axis].as_symbol()) sizes.emplace(*symbol, inputs[i].dims()[axis]);
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    const TensorInfo& info = program.tensor(program.inputs[i]);
    if (evaluate(info.type.dims, sizes) != inputs[i].dims()) reject_input(info, inputs[i]);
  }
}

}  // namespace

std::vector<Tensor> interpret(const Program& program, const std::vector<Tensor>& inputs, const InterpreterOptions& options) {
  if (inputs.size() != program.inputs.size()) fail(ErrorKind::invalid_input, "the model has {} inputs; {} were given", program.inputs.size(), inputs.size());
  Run run(options);
  bind_inputs(program, inputs, run.sizes);
  Machine machine(program, run);
  for (size_t i = 0; i < inputs.size(); ++i) machine.arrays[static_cast<size_t>(program.inputs[i])] = run.adopt(to_array(inputs[i]));
  machine.execute();
  std::vector<Tensor> outputs;
  for (const TensorId id : program.outputs) {
    const Array& array = machine.get(id);
    outputs.push_back(to_tensor(array, array.real() && !run.rounds() ? DType::f64 : array.dtype));
  }
  return outputs;
}

}  // namespace tilewright::pattern
