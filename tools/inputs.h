#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "artifact/run.h"
#include "base/dim.h"
#include "base/tensor.h"
#include "graph/graph.h"

namespace tilewright::tools {

/// An input as a user meets it.
struct Port {
  std::string name;
  DType dtype;
  Dims dims;
};
std::vector<Port> inputs_of(const Model& model);
std::vector<Port> inputs_of(const Graph& graph);

/// How to fill inputs: `--input [name=]file.npy` (or .npz, .pb), else seeded random values (`--seed`), with `--shape` for run-time sizes.
struct InputChoice {
  std::vector<std::string> files;
  std::vector<std::string> shapes;
  uint64_t seed = 1;
};

/// The inputs in order. A run-time size is what the files and shapes of other inputs make it, else 1; stderr says where it is 1.
std::vector<Tensor> make_inputs(const std::vector<Port>& ports, const InputChoice& choice);

}  // namespace tilewright::tools
