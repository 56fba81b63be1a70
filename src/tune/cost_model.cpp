#include "tune/cost_model.h"

#include <xgboost/c_api.h>

#include <cmath>
#include <limits>
#include <random>

#include "base/error.h"

namespace tilewright::tune {
namespace {

constexpr int ensemble = 5, boosting_rounds = 60;

void check(int result) {
  if (result != 0) fail(ErrorKind::internal, "internal error: XGBoost: {}", XGBGetLastError());
}

/// Rows as XGBoost takes them.
class Matrix {
 public:
  explicit Matrix(const std::vector<std::vector<float>>& rows) : count_(rows.size()) {
    std::vector<float> flat;
    for (const std::vector<float>& row : rows) flat.insert(flat.end(), row.begin(), row.end());
    check(XGDMatrixCreateFromMat(flat.data(), count_, rows.at(0).size(), std::numeric_limits<float>::quiet_NaN(), &handle_));
  }
  ~Matrix() { XGDMatrixFree(handle_); }
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;
  void set(const char* field, const std::vector<float>& values) { check(XGDMatrixSetFloatInfo(handle_, field, values.data(), values.size())); }
  DMatrixHandle handle() const { return handle_; }
  size_t count() const { return count_; }

 private:
  DMatrixHandle handle_ = nullptr;
  size_t count_;
};

}  // namespace

CostModel::~CostModel() { forget(); }

void CostModel::forget() {
  for (void* tree : trees_) XGBoosterFree(tree);
  trees_.clear();
}

void CostModel::fit(const std::vector<std::vector<float>>& rows, const std::vector<float>& targets) {
  ensure(rows.size() == targets.size(), "every row has a target");
  if (rows.size() < least) return;
  forget();
  Matrix matrix(rows);
  matrix.set("label", targets);
  std::mt19937 random(seed_);
  for (int member = 0; member < ensemble; ++member) {
    // A bootstrap sample as weights: how often a row was drawn.
    std::poisson_distribution<int> drawn(1);
    std::vector<float> weights;
    for (size_t i = 0; i < rows.size(); ++i) weights.push_back(static_cast<float>(drawn(random)) + 0.02F);
    matrix.set("weight", weights);
    BoosterHandle booster = nullptr;
    const DMatrixHandle handle = matrix.handle();
    check(XGBoosterCreate(&handle, 1, &booster));
    trees_.push_back(booster);
    for (const auto& [name, value] : {std::pair{"objective", "reg:squarederror"},
                                      {"eta", "0.2"},
                                      {"max_depth", "6"},
                                      {"min_child_weight", "1"},
                                      {"lambda", "1"},
                                      {"subsample", "0.9"},
                                      {"base_score", "0"},
                                      {"nthread", "1"},
                                      {"verbosity", "0"}})
      check(XGBoosterSetParam(booster, name, value));
    check(XGBoosterSetParam(booster, "seed", std::to_string(seed_ + static_cast<unsigned>(member)).c_str()));
    for (int round = 0; round < boosting_rounds; ++round) check(XGBoosterUpdateOneIter(booster, round, handle));
  }
}

std::vector<Prediction> CostModel::predict(const std::vector<std::vector<float>>& rows) const {
  std::vector<Prediction> predictions(rows.size(), {0, 1});
  if (trees_.empty() || rows.empty()) return predictions;
  const Matrix matrix(rows);
  std::vector<double> sums(rows.size()), squares(rows.size());
  for (void* tree : trees_) {
    bst_ulong count = 0;
    const float* values = nullptr;
    check(XGBoosterPredict(tree, matrix.handle(), 0, 0, 0, &count, &values));
    ensure(count == rows.size(), "a prediction a row");
    for (size_t i = 0; i < rows.size(); ++i)
      sums[i] += static_cast<double>(values[i]), squares[i] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  }
  const auto members = static_cast<double>(trees_.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    const double mean = sums[i] / members;
    predictions[i] = {mean, std::sqrt(std::max(squares[i] / members - mean * mean, 0.0))};
  }
  return predictions;
}

}  // namespace tilewright::tune
