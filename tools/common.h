#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "artifact/run.h"
#include "base/dim.h"
#include "base/error.h"
#include "base/tensor.h"
#include "compiler/compile.h"
#include "graph/graph.h"

namespace tilewright::tools {

int exit_code_of(ErrorKind kind);

/// Signal handler: the next check of interrupted() is true; a second signal ends the process at once.
void note_interrupt(int signal);
bool interrupted();

/// "input=1x3x224x224"; a size may be a name ("batchx3x224x224"): name → dims. Throws invalid_input.
std::pair<std::string, Dims> parse_shape(const std::string& text);

/// An input or output as a user meets it.
struct Port {
  std::string name;
  DType dtype;
  Dims dims;
};
std::vector<Port> inputs_of(const Model& model);
std::vector<Port> inputs_of(const Graph& graph);
std::string str(const Port& port);

/// How to fill inputs: `--input [name=]file.npy` (or .npz, .pb), else seeded random values (`--seed`), with `--shape` for run-time sizes.
struct InputChoice {
  std::vector<std::string> files;
  std::vector<std::string> shapes;
  uint64_t seed = 1;
};
std::vector<Tensor> make_inputs(const std::vector<Port>& ports, const InputChoice& choice);

Tensor read_tensor(const std::string& file);

/// Options that compile, verify and inspect share; `finish` turns the texts into CompileOptions.
struct CompileChoice {
  std::string target = "native", policy = "fp32", dump_dir, stop_after, compiler;
  std::vector<std::string> shapes, disabled;
  int jobs = 0;
  bool no_cache = false, verify_passes = false;
  void add_to(CLI::App& command);
  CompileOptions finish() const;
};

}  // namespace tilewright::tools
