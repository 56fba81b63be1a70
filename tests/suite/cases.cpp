#include "cases.h"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"

namespace tilewright::suite {
namespace fs = std::filesystem;
namespace {

std::vector<fs::path> sorted_entries(const fs::path& folder) {
  std::vector<fs::path> entries;
  if (fs::is_directory(folder))
    for (const fs::directory_entry& one : fs::directory_iterator(folder)) entries.push_back(one.path());
  std::sort(entries.begin(), entries.end());
  return entries;
}

/// prefix_0.pb, prefix_1.pb, … as far as they go.
std::vector<fs::path> numbered(const fs::path& folder, const std::string& prefix) {
  std::vector<fs::path> files;
  for (int i = 0;; ++i) {
    const fs::path file = folder / fmt::format("{}_{}.pb", prefix, i);
    if (!fs::exists(file)) return files;
    files.push_back(file);
  }
}

Case light_case(const fs::path& model) {
  Case one{"light/" + model.stem().string(), model, {}, true};
  const fs::path output = model.parent_path() / (model.stem().string() + "_output_0.pb");
  one.data.push_back({"", {}, {output}, {}, true});
  return one;
}

}  // namespace

std::vector<Case> conformance_cases(const fs::path& folder) {
  std::vector<Case> cases;
  for (const char* suite : {"node", "simple", "pytorch-converted", "pytorch-operator"})
    for (const fs::path& entry : sorted_entries(folder / suite)) {
      if (!fs::exists(entry / "model.onnx")) continue;
      Case one{std::string(suite) + "/" + entry.filename().string(), entry / "model.onnx", {}, false};
      for (const fs::path& data : sorted_entries(entry))
        if (data.filename().string().starts_with("test_data_set_"))
          one.data.push_back({data.filename().string(), numbered(data, "input"), numbered(data, "output"), {}, false});
      cases.push_back(std::move(one));
    }
  for (const fs::path& entry : sorted_entries(folder / "light"))
    if (entry.extension() == ".onnx") cases.push_back(light_case(entry));
  return cases;
}

std::vector<Case> model_cases(const fs::path& folder) {
  std::vector<Case> cases;
  for (const fs::path& entry : sorted_entries(folder)) {
    if (!fs::exists(entry / "model.onnx") || !fs::exists(entry / "meta.json")) continue;
    const nlohmann::json meta = nlohmann::json::parse(read_file(entry / "meta.json"));
    Case one{entry.filename().string(), entry / "model.onnx", {}, true};
    for (const auto& data : meta.at("cases")) {
      DataSet set{data.at("dir"), {}, {}, {}, false};
      for (const auto& input : data.at("inputs")) set.inputs.push_back(entry / set.name / std::string(input.at("file")));
      for (const auto& output : data.at("outputs")) {
        set.outputs.push_back(entry / set.name / std::string(output.at("file")));
        set.allowed_difference.push_back(
            output.contains("max_abs_diff_optimised") && output.at("max_abs_diff_optimised").is_number() ? double(output.at("max_abs_diff_optimised")) : 0.0);
      }
      one.data.push_back(std::move(set));
    }
    cases.push_back(std::move(one));
  }
  return cases;
}

std::map<std::string, std::string> read_known_failures(const fs::path& file) {
  std::map<std::string, std::string> known;
  std::ifstream in(file);
  if (!in) fail(ErrorKind::invalid_input, "cannot read '{}'", file.string());
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.empty() || line[0] == '#') continue;
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) fail(ErrorKind::invalid_input, "{}:{}: wants 'name: reason'", file.string(), number);
    known[line.substr(0, colon)] = line.substr(colon + 2);
  }
  return known;
}

}  // namespace tilewright::suite
