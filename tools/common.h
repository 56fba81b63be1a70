#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "artifact/run.h"
#include "base/error.h"
#include "compiler/compile.h"

namespace tilewright::tools {

/// How a command ends, for scripts.
inline constexpr int exit_done = 0, exit_differs = 5;
int exit_code_of(ErrorKind kind);
std::string exit_codes();  ///< the table, for --help

/// Signal handler: the next check of interrupted() is true; a second signal ends the process at once.
void note_interrupt(int signal);
bool interrupted();

/// Options that compile, verify and inspect share; `finish` turns the texts into CompileOptions.
struct CompileChoice {
  std::string target = "native", policy = "fp32", dump_dir, stop_after, compiler;
  std::vector<std::string> shapes, sizes, constants, disabled, policies_for;
  int jobs = 0;
  bool no_cache = false, verify_passes = false;
  void add_to(CLI::App& command);
  CompileOptions finish() const;
};

/// Options of the commands that run a compiled model.
struct ContextChoice {
  int threads = 0;
  bool pin = false;
  void add_to(CLI::App& command);
  Context open(const Model& model) const;
};

}  // namespace tilewright::tools
