#pragma once

#include <map>
#include <set>
#include <string>

#include "pattern/pattern.h"

namespace tilewright::schedule {

/// Why fusions left tensors in memory, by tensor and the fusion's name: the last word of each. Tensors that are fused away later keep
/// theirs, and nobody asks.
class Refusals {
 public:
  void note(pattern::TensorId tensor, const char* pass, const char* why) { reasons_[tensor][pass] = why; }
  void note_skipped(const char* pass) { skipped_.insert(pass); }
  bool skipped(const std::string& pass) const { return skipped_.count(pass) > 0; }
  /// By the pass' name; empty: nobody tried.
  const std::map<std::string, const char*>& of(pattern::TensorId tensor) const {
    static const std::map<std::string, const char*> none;
    const auto found = reasons_.find(tensor);
    return found == reasons_.end() ? none : found->second;
  }

 private:
  std::map<pattern::TensorId, std::map<std::string, const char*>> reasons_;
  std::set<std::string> skipped_;  ///< passes that are switched off, or that the target has no kernels for
};

}  // namespace tilewright::schedule
