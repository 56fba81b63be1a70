#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "graph/graph.h"

/// Models that tests of the whole way take.
namespace tilewright::compiler_testing {

inline std::filesystem::path digits() { return std::filesystem::path(TILEWRIGHT_SOURCE) / "examples/digits/digits.onnx"; }

/// Where Debian's libonnx-testdata lies; need not exist.
inline std::filesystem::path conformance_data() {
  const char* folder = std::getenv("TILEWRIGHT_CONFORMANCE_DATA");
  return folder != nullptr ? folder : "/usr/share/libonnx-testdata/data";
}

/// All of them, sorted.
inline std::vector<std::filesystem::path> conformance_models() {
  std::vector<std::filesystem::path> models;
  if (!std::filesystem::is_directory(conformance_data())) return models;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(conformance_data()))
    if (entry.path().filename() == "model.onnx") models.push_back(entry.path());
  std::sort(models.begin(), models.end());
  return models;
}

/// Floats in [0, 1), integers and bools 0 or 1; named sizes are 2.
inline std::vector<Tensor> random_inputs(const Graph& graph) {
  std::mt19937 random(7);
  std::vector<Tensor> inputs;
  for (const ValueId id : graph.inputs) {
    std::vector<int64_t> dims;
    for (const Dim& dim : graph.type(id).dims) dims.push_back(dim.is_constant() ? dim.constant() : 2);
    Tensor tensor(graph.type(id).dtype, dims);
    for (int64_t i = 0; i < tensor.element_count(); ++i)
      is_float(tensor.dtype()) ? tensor.set_float(i, static_cast<double>(random() % 4096) / 4096) : tensor.set_int(i, random() % 2);
    inputs.push_back(std::move(tensor));
  }
  return inputs;
}

}  // namespace tilewright::compiler_testing
