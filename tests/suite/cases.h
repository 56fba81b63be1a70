#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace tilewright::suite {

/// Inputs of one run and what must come out.
struct DataSet {
  std::string name;  ///< "" or "case0"
  std::vector<std::filesystem::path> inputs, outputs;
  std::vector<double> allowed_difference;  ///< by output: what the reference engine differs from itself by; may be empty
  bool generated_inputs = false;           ///< the `light` networks: inputs are a ramp, i / element count
};

struct Case {
  std::string name;  ///< "node/test_abs", "bert_toy"
  std::filesystem::path model;
  std::vector<DataSet> data;
  bool network = false;  ///< tolerance grows with depth
};

/// ONNX backend data: folders node, simple, pytorch-converted, pytorch-operator, light under `folder`, as far as present.
std::vector<Case> conformance_cases(const std::filesystem::path& folder);

/// `<name>/model.onnx` with `<name>/case<k>` and meta.json.
std::vector<Case> model_cases(const std::filesystem::path& folder);

/// `name: reason` a line; '#' starts a comment. Throws invalid_input.
std::map<std::string, std::string> read_known_failures(const std::filesystem::path& file);

}  // namespace tilewright::suite
