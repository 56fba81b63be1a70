#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cases.h"
#include "pass/precision.h"

namespace tilewright::suite {

struct Verdict {
  std::string name;
  bool passed = false;
  std::string reason = {};  ///< "" when passed
  /// Of a network under a policy of 16 bits: the largest ‖y − expected‖ / ‖expected‖ of its float results, and what is promised there.
  double error = 0, promised = 0;
  double built_seconds = 0;  ///< of a model that has a library of its own
};

struct RunOptions {
  std::string target = "native";
  Precision precision;
  int jobs = 2;    ///< batches at once, each in a process of its own
  int batch = 32;  ///< models a shared library
  int optimisation = 1;
  int timeout_seconds = 900;  ///< for one batch
  bool compile_only = false;  ///< a model that compiles has passed
};

/// Compiles the cases, many to a library, and runs their data. A crash or time-out costs one case, not the run. `on_verdict` is called
/// as results come in, from one thread.
std::vector<Verdict> run_cases(const std::vector<Case>& cases, const RunOptions& options, const std::function<void(const Verdict&)>& on_verdict);

}  // namespace tilewright::suite
