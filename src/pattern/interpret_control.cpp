#include <algorithm>
#include <limits>

#include "base/error.h"
#include "pattern/interpret.h"

namespace tilewright::pattern {
namespace {

int64_t integer_scalar(Machine& machine, TensorId id) { return machine.get(id).integers.at(0); }

/// Runs a body over arrays of its caller.
std::vector<ArrayPointer> call(Machine& caller, const Program& body, const std::vector<ArrayPointer>& inputs) {
  ensure(inputs.size() == body.inputs.size(), "a body is given all its inputs");
  // Tensors of bodies are not observed: their ids mean nothing to the observer of the main program.
  Machine machine(body, caller.run);
  for (size_t i = 0; i < inputs.size(); ++i) machine.arrays[static_cast<size_t>(body.inputs[i])] = inputs[i];
  ++caller.run.depth;
  machine.execute();
  --caller.run.depth;
  std::vector<ArrayPointer> outputs;
  for (const TensorId id : body.outputs) outputs.push_back(machine.shared(id));
  return outputs;
}

void learn_sizes(Sizes& sizes, const std::vector<BoundSymbol>& bound, const std::vector<ArrayPointer>& arrays) {
  for (const BoundSymbol& one : bound) sizes[one.symbol] = arrays.at(static_cast<size_t>(one.output))->dims.at(static_cast<size_t>(one.axis));
}

/// The tensors' declared dims are what the body really made.
void hand_over(Machine& machine, const std::string& source, const std::vector<TensorId>& ids, const std::vector<ArrayPointer>& arrays) {
  for (size_t i = 0; i < ids.size(); ++i) {
    const TensorInfo& info = machine.program.tensor(ids[i]);
    const std::vector<int64_t> declared = evaluate(info.type.dims, machine.run.sizes);
    if (arrays.at(i)->dims != declared)
      fail(ErrorKind::invalid_input, "{}: result '{}' has the dims [{}]; {} was expected", source, info.name, fmt::join(arrays[i]->dims, ","), str(info.type));
    machine.arrays[static_cast<size_t>(ids[i])] = arrays[i];
  }
}

/// Slices stacked along a new leading axis.
struct Stack {
  Array slices;
  int64_t count = 0;

  void push(const Array& slice, Run& run, const std::string& source) {
    if (count == 0)
      slices.dims = slice.dims;
    else if (slices.dims != slice.dims)
      fail(ErrorKind::invalid_input, "{}: a scanned output changes its shape between iterations", source);
    slices.dtype = slice.dtype;
    ++count;
    if (slice.count() > run.options.element_limit / count)
      fail(ErrorKind::invalid_input, "{}: a scanned output has more elements than the interpreter's limit of {}", source, run.options.element_limit);
    slices.reals.insert(slices.reals.end(), slice.reals.begin(), slice.reals.end());
    slices.integers.insert(slices.integers.end(), slice.integers.begin(), slice.integers.end());
  }
};

}  // namespace

void interpret(Machine& machine, const If& branch) {
  std::vector<ArrayPointer> inputs;
  for (const TensorId id : branch.inputs) inputs.push_back(machine.shared(id));
  const auto outputs = call(machine, integer_scalar(machine, branch.condition) != 0 ? *branch.then_program : *branch.else_program, inputs);
  learn_sizes(machine.run.sizes, branch.bound, outputs);
  hand_over(machine, branch.source, branch.outputs, outputs);
}

void interpret(Machine& machine, const Loop& loop) {
  Run& run = machine.run;
  const int64_t trips = loop.trip_count < 0 ? std::numeric_limits<int64_t>::max() : integer_scalar(machine, loop.trip_count);
  int64_t condition = loop.condition < 0 ? 1 : integer_scalar(machine, loop.condition);
  std::vector<ArrayPointer> carried, invariants;
  for (const TensorId id : loop.carried) carried.push_back(machine.shared(id));
  for (const TensorId id : loop.invariants) invariants.push_back(machine.shared(id));
  std::vector<Stack> scanned(loop.outputs.size() - loop.carried.size());
  int64_t iteration = 0;
  for (; iteration < trips && condition != 0; ++iteration) {
    run.spend(1, loop.source);
    learn_sizes(run.sizes, loop.body_bound, carried);
    std::vector<ArrayPointer> inputs = {run.adopt({DType::i64, {}, {}, {iteration}}), run.adopt({DType::boolean, {}, {}, {condition}})};
    inputs.insert(inputs.end(), carried.begin(), carried.end());
    inputs.insert(inputs.end(), invariants.begin(), invariants.end());
    const auto outputs = call(machine, *loop.body, inputs);
    condition = outputs.at(0)->integers.at(0);
    for (size_t i = 0; i < carried.size(); ++i) carried[i] = outputs.at(1 + i);
    for (size_t i = 0; i < scanned.size(); ++i) scanned[i].push(*outputs.at(1 + carried.size() + i), run, loop.source);
  }
  for (size_t i = 0; i < scanned.size(); ++i) {
    const Type& type = machine.program.tensor(loop.outputs[carried.size() + i]).type;
    Array& array = scanned[i].slices;
    array.dtype = type.dtype;
    // Without any iteration nobody has said how large a slice is: unknown sizes count as 0.
    if (iteration == 0)
      for (size_t axis = 1; axis < type.dims.size(); ++axis) {
        const auto known = type.dims[axis].as_symbol() ? run.sizes.find(*type.dims[axis].as_symbol()) : run.sizes.end();
        array.dims.push_back(known != run.sizes.end() ? known->second : type.dims[axis].as_constant().value_or(0));
      }
    array.dims.insert(array.dims.begin(), iteration);
    carried.push_back(run.adopt(std::move(array)));
  }
  learn_sizes(run.sizes, loop.bound, carried);
  hand_over(machine, loop.source, loop.outputs, carried);
}

void interpret(Machine& machine, const Bind& bound) {
  const Array& array = machine.get(bound.tensor);
  ensure(array.integers.size() >= bound.symbols.size(), "a tensor has an element for each size it binds");
  for (size_t i = 0; i < bound.symbols.size(); ++i) {
    if (array.integers[i] < 0) fail(ErrorKind::invalid_input, "{}: computed the negative size {}", bound.source, array.integers[i]);
    machine.run.sizes[bound.symbols[i]] = array.integers[i];
  }
}

void interpret(Machine& machine, const Require& require) {
  const int64_t lhs = require.lhs.evaluate(machine.run.sizes), rhs = require.rhs.evaluate(machine.run.sizes);
  if (lhs != rhs) fail(ErrorKind::invalid_input, "{}: {}: {} is not {}", require.source, require.message, lhs, rhs);
}

void interpret(Machine& machine, const Cumulate& cumulate) {
  const Array& input = machine.get(cumulate.input);
  Array& output = machine.create(cumulate.output);
  machine.run.spend(input.count(), cumulate.source);
  if (input.count() == 0) return;
  const size_t axis = static_cast<size_t>(cumulate.axis);
  const int64_t length = input.dims.at(axis), stride = row_major_strides(input.dims)[axis];
  const ExprOp operation = cumulate.product ? ExprOp::mul : ExprOp::add;
  for (int64_t line = 0; line < input.count() / length; ++line) {
    const int64_t start = line / stride * length * stride + line % stride;
    double real = cumulate.product ? 1 : 0;
    int64_t integer = cumulate.product ? 1 : 0;
    for (int64_t k = 0; k < length; ++k) {
      const size_t at = static_cast<size_t>(start + (cumulate.reverse ? length - 1 - k : k) * stride);
      const double real_before = real;
      const int64_t integer_before = integer;
      if (input.real()) {
        real = apply(operation, real, input.reals[at]);
        output.reals[at] = machine.run.rounded(output.dtype, cumulate.exclusive ? real_before : real);
      } else {
        integer = apply(operation, input.dtype, integer, input.integers[at]);
        output.integers[at] = wrap_to(output.dtype, cumulate.exclusive ? integer_before : integer);
      }
    }
  }
}

}  // namespace tilewright::pattern
