#pragma once

#include <cmath>
#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include "base/error.h"
#include "pattern/build.h"
#include "pattern/interpreter.h"

/// Small programs for tests of patterns.
namespace tilewright::pattern {

/// A program under construction with its inputs' values.
struct Example {
  Program program;
  std::vector<Tensor> inputs;

  TensorId input(Type type, Tensor value) {
    program.inputs.push_back(program.add_tensor(std::move(type), "in" + std::to_string(inputs.size())));
    inputs.push_back(std::move(value));
    return program.inputs.back();
  }
  TensorId input(const Tensor& value) { return input(type_of(value), value); }
  TensorId output(Type type) {
    program.outputs.push_back(program.add_tensor(std::move(type), "out" + std::to_string(program.outputs.size())));
    return program.outputs.back();
  }
  TensorId temporary(Type type) { return program.add_tensor(std::move(type), "tmp" + std::to_string(program.tensors.size())); }
  void add(Pattern pattern) { program.patterns.push_back(std::move(pattern)); }
  std::vector<Tensor> run(const InterpreterOptions& options = {}) const {
    verify(program);
    return interpret(program, inputs, options);
  }
  static Type type_of(const Tensor& value) {
    Type type{value.dtype(), {}};
    for (const int64_t dim : value.dims()) type.dims.push_back(dim);
    return type;
  }
};

inline Tensor reals(DType dtype, std::vector<int64_t> dims, const std::vector<double>& values) {
  Tensor t(dtype, std::move(dims));
  for (size_t i = 0; i < values.size(); ++i) t.set_float(static_cast<int64_t>(i), values[i]);
  return t;
}
inline Tensor floats(std::vector<int64_t> dims, const std::vector<double>& values) { return reals(DType::f32, std::move(dims), values); }
inline Tensor integers(DType dtype, std::vector<int64_t> dims, const std::vector<int64_t>& values) {
  Tensor t(dtype, std::move(dims));
  for (size_t i = 0; i < values.size(); ++i) t.set_int(static_cast<int64_t>(i), values[i]);
  return t;
}
inline std::vector<double> reals_of(const Tensor& t) {
  std::vector<double> values;
  for (int64_t i = 0; i < t.element_count(); ++i) values.push_back(t.float_at(i));
  return values;
}

inline Tensor random_floats(std::vector<int64_t> dims, unsigned seed) {
  Tensor t(DType::f32, std::move(dims));
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> uniform(-1, 1);
  for (int64_t i = 0; i < t.element_count(); ++i) t.set_float(i, uniform(generator));
  return t;
}

inline std::string error_of(const Example& example, ErrorKind kind, const InterpreterOptions& options = {}) {
  try {
    example.run(options);
  } catch (const Error& e) {
    return e.kind() == kind ? e.what() : std::string("another kind: ") + e.what();
  }
  return "no error";
}

}  // namespace tilewright::pattern
