#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "pattern/pattern.h"

namespace tilewright::schedule {

/// Why fusions left tensors in memory, by tensor, the fusion's name and what reads it: the last word of each. Tensors that are fused away later keep
/// theirs, and nobody asks.
class Refusals {
 public:
  void note(pattern::TensorId tensor, const char* pass, const char* why) { reasons_[tensor][pass][every_reader] = why; }
  /// A reason of `reader` alone, which is known by what it writes.
  void note(pattern::TensorId tensor, const char* pass, const char* why, const pattern::Pattern& reader) {
    const std::vector<pattern::TensorId> written = pattern::writes(reader);
    reasons_[tensor][pass][written.empty() ? every_reader : written[0]] = why;
  }
  void note_skipped(const char* pass) { skipped_.insert(pass); }
  bool skipped(const std::string& pass) const { return skipped_.count(pass) > 0; }
  /// By the pass' name, for a reader that writes `written`; empty: nobody tried. A reader without a reason of its own is held back by another's.
  std::map<std::string, const char*> of(pattern::TensorId tensor, const std::set<pattern::TensorId>& written) const {
    std::map<std::string, const char*> all;
    const auto found = reasons_.find(tensor);
    if (found == reasons_.end()) return all;
    for (const auto& [pass, by_reader] : found->second) {
      all[pass] = by_reader.begin()->second;
      for (const auto& [reader, why] : by_reader)
        if (written.count(reader)) all[pass] = why;
    }
    return all;
  }

 private:
  static constexpr pattern::TensorId every_reader = -1;

  std::map<pattern::TensorId, std::map<std::string, std::map<pattern::TensorId, const char*>>> reasons_;
  std::set<std::string> skipped_;  ///< passes that are switched off, or that the target has no kernels for
};

}  // namespace tilewright::schedule
