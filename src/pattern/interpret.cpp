#include "pattern/interpret.h"

#include <algorithm>

#include "base/error.h"

namespace tilewright::pattern {

int64_t element_count(const std::vector<int64_t>& dims) {
  int64_t count = 1;
  for (const int64_t dim : dims) {
    if (dim < 0) fail(ErrorKind::invalid_input, "a tensor would have the negative size {}", dim);
    if (__builtin_mul_overflow(count, dim, &count)) fail(ErrorKind::invalid_input, "a tensor's size overflows");
  }
  return count;
}

std::vector<int64_t> row_major_strides(const std::vector<int64_t>& dims) {
  std::vector<int64_t> strides(dims.size(), 1);
  for (size_t axis = dims.size(); axis-- > 1;) strides[axis - 1] = strides[axis] * dims[axis];
  return strides;
}

int64_t Array::count() const { return element_count(dims); }

Array to_array(const Tensor& tensor) {
  Array array{tensor.dtype(), tensor.dims(), {}, {}};
  const int64_t count = tensor.element_count();
  if (array.real()) {
    array.reals.resize(static_cast<size_t>(count));
    if (tensor.dtype() == DType::f32) std::copy_n(tensor.as<float>(), count, array.reals.begin());
    else
      for (int64_t i = 0; i < count; ++i) array.reals[static_cast<size_t>(i)] = tensor.float_at(i);
  } else {
    array.integers.resize(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) array.integers[static_cast<size_t>(i)] = tensor.int_at(i);
  }
  return array;
}

Tensor to_tensor(const Array& array, DType dtype) {
  Tensor tensor(dtype, array.dims);
  for (int64_t i = 0; i < tensor.element_count(); ++i)
    array.real() ? tensor.set_float(i, array.reals[static_cast<size_t>(i)]) : tensor.set_int(i, array.integers[static_cast<size_t>(i)]);
  return tensor;
}

std::vector<int64_t> Machine::dims_of(const Type& type) const {
  std::vector<int64_t> dims;
  for (const Dim& dim : type.dims) dims.push_back(dim.evaluate(sizes));
  if (element_count(dims) > options.element_limit) fail(ErrorKind::invalid_input, "a tensor {} has more elements than the interpreter's limit of {}", str(type), options.element_limit);
  return dims;
}

double Machine::rounded(DType dtype, double value) const {
  if (options.arithmetic == InterpreterOptions::Arithmetic::float64 || dtype == DType::f64) return value;
  return dtype == DType::f32 ? static_cast<double>(static_cast<float>(value)) : round_to(dtype, value);
}

std::shared_ptr<Array> Machine::shared(TensorId id) {
  auto& array = arrays.at(static_cast<size_t>(id));
  if (!array) {
    const TensorInfo& info = program.tensor(id);
    if (!info.constant) fail(ErrorKind::internal, "tensor '{}' is read before it is written", info.name);
    array = std::make_shared<Array>(to_array(*info.constant));
  }
  return array;
}

const Array& Machine::get(TensorId id) { return *shared(id); }

Array& Machine::create(TensorId id) {
  auto& array = arrays.at(static_cast<size_t>(id));
  if (!array) {
    array = std::make_shared<Array>();
    array->dtype = program.tensor(id).type.dtype;
    array->dims = dims_of(program.tensor(id).type);
    const size_t count = static_cast<size_t>(array->count());
    array->real() ? array->reals.resize(count) : array->integers.resize(count);
  }
  return *array;
}

void Machine::run(const Cumulate& cumulate) {
  const Array input = get(cumulate.input);
  Array& output = create(cumulate.output);
  const size_t axis = static_cast<size_t>(cumulate.axis);
  const int64_t length = input.dims.at(axis), stride = row_major_strides(input.dims)[axis];
  if (input.count() == 0) return;
  for (int64_t start = 0; start < input.count(); ++start) {
    if (start / stride % length != 0) continue;
    double real = cumulate.product ? 1 : 0;
    int64_t integer = cumulate.product ? 1 : 0;
    for (int64_t k = 0; k < length; ++k) {
      const size_t at = static_cast<size_t>(start + (cumulate.reverse ? length - 1 - k : k) * stride);
      const double old_real = real;
      const int64_t old_integer = integer;
      if (input.real()) real = rounded(input.dtype, cumulate.product ? real * input.reals[at] : real + input.reals[at]);
      else integer = wrap_to(input.dtype, apply(cumulate.product ? ExprOp::mul : ExprOp::add, DType::i64, integer, input.integers[at]));
      if (input.real()) output.reals[at] = cumulate.exclusive ? old_real : real;
      else output.integers[at] = cumulate.exclusive ? old_integer : integer;
    }
  }
}

void Machine::run(const Bind& bind) {
  const Array& array = get(bind.tensor);
  if (array.count() < static_cast<int64_t>(bind.symbols.size())) fail(ErrorKind::internal, "'{}': fewer elements than sizes to bind", bind.source);
  for (size_t i = 0; i < bind.symbols.size(); ++i) {
    if (array.integers[i] < 0) fail(ErrorKind::invalid_input, "{}: computed the negative size {}", bind.source, array.integers[i]);
    sizes[bind.symbols[i]] = array.integers[i];
  }
}

void Machine::run(const Require& require) {
  const int64_t lhs = require.lhs.evaluate(sizes), rhs = require.rhs.evaluate(sizes);
  if (lhs != rhs) fail(ErrorKind::invalid_input, "{}: {}: {} is not {}", require.source, require.message, lhs, rhs);
}

std::vector<std::shared_ptr<Array>> Machine::call(const Program& body, const std::vector<std::shared_ptr<Array>>& inputs) {
  InterpreterOptions quiet = options;
  quiet.observe = nullptr;
  Machine machine(body, quiet, sizes);
  for (size_t i = 0; i < body.inputs.size(); ++i) machine.arrays[static_cast<size_t>(body.inputs[i])] = inputs.at(i);
  machine.run_all();
  std::vector<std::shared_ptr<Array>> outputs;
  for (const TensorId id : body.outputs) outputs.push_back(machine.shared(id));
  return outputs;
}

void Machine::run(const If& branch) {
  std::vector<std::shared_ptr<Array>> inputs;
  for (const TensorId id : branch.inputs) inputs.push_back(shared(id));
  const auto outputs = call(get(branch.condition).integers.at(0) != 0 ? *branch.then_program : *branch.else_program, inputs);
  for (const BoundSymbol& bound : branch.bound) sizes[bound.symbol] = outputs.at(static_cast<size_t>(bound.output))->dims.at(static_cast<size_t>(bound.axis));
  for (size_t i = 0; i < branch.outputs.size(); ++i) arrays[static_cast<size_t>(branch.outputs[i])] = outputs[i];
}

void Machine::run(const Loop& loop) {
  const int64_t trips = loop.trip_count < 0 ? INT64_MAX : get(loop.trip_count).integers.at(0);
  bool condition = loop.condition < 0 || get(loop.condition).integers.at(0) != 0;
  std::vector<std::shared_ptr<Array>> carried;
  for (const TensorId id : loop.carried) carried.push_back(shared(id));
  std::vector<Array> stacked(loop.outputs.size() - loop.carried.size());
  int64_t iteration = 0;
  for (; iteration < trips && condition; ++iteration) {
    for (const BoundSymbol& bound : loop.body_bound) sizes[bound.symbol] = carried.at(static_cast<size_t>(bound.output))->dims.at(static_cast<size_t>(bound.axis));
    std::vector<std::shared_ptr<Array>> inputs = {std::make_shared<Array>(Array{DType::i64, {}, {}, {iteration}}), std::make_shared<Array>(Array{DType::boolean, {}, {}, {condition}})};
    inputs.insert(inputs.end(), carried.begin(), carried.end());
    for (const TensorId id : loop.invariants) inputs.push_back(shared(id));
    const auto outputs = call(*loop.body, inputs);
    condition = outputs.at(0)->integers.at(0) != 0;
    for (size_t i = 0; i < carried.size(); ++i) carried[i] = outputs.at(1 + i);
    for (size_t i = 0; i < stacked.size(); ++i) {
      const Array& slice = *outputs.at(1 + carried.size() + i);
      if (iteration == 0) stacked[i].dims = slice.dims;
      else if (stacked[i].dims != slice.dims) fail(ErrorKind::invalid_input, "{}: a scanned output changes its shape between iterations", loop.source);
      stacked[i].reals.insert(stacked[i].reals.end(), slice.reals.begin(), slice.reals.end());
      stacked[i].integers.insert(stacked[i].integers.end(), slice.integers.begin(), slice.integers.end());
    }
  }
  for (size_t i = 0; i < stacked.size(); ++i) {
    const Type& type = program.tensor(loop.outputs[carried.size() + i]).type;
    stacked[i].dtype = type.dtype;
    if (iteration == 0)
      for (size_t axis = 1; axis < type.dims.size(); ++axis) stacked[i].dims.push_back(type.dims[axis].is_constant() ? type.dims[axis].constant() : 0);
    stacked[i].dims.insert(stacked[i].dims.begin(), iteration);
    carried.push_back(std::make_shared<Array>(std::move(stacked[i])));
  }
  for (const BoundSymbol& bound : loop.bound) sizes[bound.symbol] = carried.at(static_cast<size_t>(bound.output))->dims.at(static_cast<size_t>(bound.axis));
  for (size_t i = 0; i < loop.outputs.size(); ++i) arrays[static_cast<size_t>(loop.outputs[i])] = carried.at(i);
}

void Machine::run_all() {
  // The last reader of each tensor, so that memory is given back on the way.
  std::vector<int> last(program.tensors.size(), -1);
  for (size_t step = 0; step < program.patterns.size(); ++step)
    for (const TensorId id : reads(program.patterns[step])) last[static_cast<size_t>(id)] = static_cast<int>(step);
  for (const TensorId id : program.outputs) last[static_cast<size_t>(id)] = INT32_MAX;
  for (size_t step = 0; step < program.patterns.size(); ++step) {
    const Pattern& pattern = program.patterns[step];
    std::visit([&](const auto& one) { run(one); }, pattern);
    if (options.observe)
      for (const TensorId id : writes(pattern))
        if (arrays[static_cast<size_t>(id)]) options.observe(id, to_tensor(*arrays[static_cast<size_t>(id)], program.tensor(id).type.dtype));
    for (const TensorId id : reads(pattern))
      if (last[static_cast<size_t>(id)] == static_cast<int>(step)) arrays[static_cast<size_t>(id)].reset();
  }
}

std::vector<Tensor> interpret(const Program& program, const std::vector<Tensor>& inputs, const InterpreterOptions& options) {
  if (inputs.size() != program.inputs.size()) fail(ErrorKind::invalid_input, "the model has {} inputs; {} were given", program.inputs.size(), inputs.size());
  Sizes sizes;
  Machine machine(program, options, sizes);
  for (const bool checking : {false, true})
    for (size_t i = 0; i < inputs.size(); ++i) {
      const TensorInfo& info = program.tensor(program.inputs[i]);
      const auto reject = [&] { fail(ErrorKind::invalid_input, "input '{}' is {}[{}]; the model wants {}", info.name, name(inputs[i].dtype()), fmt::join(inputs[i].dims(), ","), str(info.type)); };
      if (inputs[i].rank() != info.type.dims.size() || inputs[i].dtype() != info.type.dtype) reject();
      for (size_t axis = 0; axis < inputs[i].rank(); ++axis) {
        const auto symbol = info.type.dims[axis].as_symbol();
        if (symbol && !checking) sizes.emplace(*symbol, inputs[i].dims()[axis]);
        if (checking && info.type.dims[axis].evaluate(sizes) != inputs[i].dims()[axis]) reject();
      }
      if (checking) machine.arrays[static_cast<size_t>(program.inputs[i])] = std::make_shared<Array>(to_array(inputs[i]));
    }
  machine.run_all();
  std::vector<Tensor> outputs;
  for (const TensorId id : program.outputs) {
    const Array& array = machine.get(id);
    const bool wide = options.arithmetic == InterpreterOptions::Arithmetic::float64 && array.real();
    outputs.push_back(to_tensor(array, wide ? DType::f64 : program.tensor(id).type.dtype));
  }
  return outputs;
}

}  // namespace tilewright::pattern
