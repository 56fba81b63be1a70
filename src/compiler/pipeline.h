#pragma once

#include <string>

#include "compiler/compile.h"

namespace tilewright {

/// Runs stages one after the other: the off-switch, verification and numbered dump of each live here and nowhere else.
class Pipeline {
 public:
  explicit Pipeline(const CompileOptions& options);

  /// Runs `pass` on the graph unless it is switched off or the pipeline stopped. Types of inputs and outputs stay as they were.
  void run_pass(const std::string& name, const std::function<void(Graph&)>& pass, Graph& graph);
  /// Writes `text` as NN_<stage>.<kind>; the stage is reached.
  void after(const std::string& stage, const std::string& kind, const std::function<std::string()>& text);
  /// Notes whether this stage was the last one wanted.
  void reached(const std::string& stage) { stopped_ |= stage == options_.stop_after; }
  bool stopped() const { return stopped_; }
  bool enabled(const std::string& pass) const { return !options_.disabled_passes.count(pass); }

 private:
  const CompileOptions& options_;
  int number_ = 0;
  bool stopped_ = false;
};

}  // namespace tilewright
