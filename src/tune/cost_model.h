#pragma once

#include <cstddef>
#include <vector>

/// What measurements teach about configurations that were not measured.
namespace tilewright::tune {

/// What a configuration is expected to take, as a binary logarithm, and how far that may be off.
struct Prediction {
  double mean = 0, deviation = 0;
};

/// Gradient-boosted trees over features of kernel, configuration and machine: several, each fitted to a sample of its own, so
/// that where they disagree little is known.
class CostModel {
 public:
  explicit CostModel(unsigned seed = 1) : seed_(seed) {}
  ~CostModel();
  CostModel(const CostModel&) = delete;
  CostModel& operator=(const CostModel&) = delete;

  /// Fits anew. `rows` are of one length; nothing happens with fewer than `least` of them.
  void fit(const std::vector<std::vector<float>>& rows, const std::vector<float>& targets);
  bool fitted() const { return !trees_.empty(); }
  /// {0, 1} for all before a fit.
  std::vector<Prediction> predict(const std::vector<std::vector<float>>& rows) const;

  static constexpr size_t least = 12;

 private:
  void forget();
  unsigned seed_;
  std::vector<void*> trees_;
};

}  // namespace tilewright::tune
