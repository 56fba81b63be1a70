#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/file.h"
#include "base/npy.h"
#include "commands.h"
#include "common.h"
#include "inputs.h"

namespace tilewright::tools {
namespace {

struct Choice {
  std::string artifact, output_dir, labels;
  InputChoice input;
  ContextChoice context;
  int top = 0;
  bool json = false;
};

/// The `count` largest elements of the last axis of the first row.
std::vector<std::pair<int64_t, double>> largest(const Tensor& tensor, int count) {
  const int64_t width = tensor.rank() == 0 ? 1 : tensor.dims().back();
  std::vector<int64_t> order(static_cast<size_t>(std::min(width, tensor.element_count())));
  std::iota(order.begin(), order.end(), int64_t{0});
  const size_t kept = std::min(order.size(), static_cast<size_t>(count));
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(),
                    [&](int64_t a, int64_t b) { return tensor.float_at(a) > tensor.float_at(b); });
  std::vector<std::pair<int64_t, double>> result;
  for (size_t i = 0; i < kept; ++i) result.emplace_back(order[i], tensor.float_at(order[i]));
  return result;
}

std::vector<std::string> read_labels(const std::string& file) {
  std::vector<std::string> labels;
  if (file.empty()) return labels;
  std::string line;
  for (const char c : read_file(file) + "\n") {
    if (c != '\n') {
      line += c;
      continue;
    }
    labels.push_back(line);
    line.clear();
  }
  return labels;
}

int run(const Choice& choice) {
  const Model model = open_model(choice.artifact);
  Context context = choice.context.open(model);
  const std::vector<Tensor> inputs = make_inputs(inputs_of(model), choice.input);
  const std::vector<Tensor> outputs = run_model(context, model, inputs);
  const std::vector<std::string> labels = read_labels(choice.labels);
  nlohmann::json json = nlohmann::json::array();
  for (size_t i = 0; i < outputs.size(); ++i) {
    const std::string output_name = model.api().outputs[i].name;
    if (!choice.output_dir.empty()) {
      std::filesystem::create_directories(choice.output_dir);
      std::string file = output_name;
      std::replace_if(
          file.begin(), file.end(), [](char c) { return c == '/' || c == ':' || c == '\\'; }, '_');
      write_npy(std::filesystem::path(choice.output_dir) / (file + ".npy"), outputs[i]);
    }
    nlohmann::json entry = {{"name", output_name}, {"dtype", name(outputs[i].dtype())}, {"dims", outputs[i].dims()}};
    if (!choice.json)
      std::printf("%s: %s[%s]\n", output_name.c_str(), std::string(name(outputs[i].dtype())).c_str(),
                  fmt::format("{}", fmt::join(outputs[i].dims(), ",")).c_str());
    const int shown = choice.top > 0 ? choice.top : 5;
    if (choice.top > 0) {
      for (const auto& [index, value] : largest(outputs[i], shown)) {
        const std::string label = static_cast<size_t>(index) < labels.size() ? labels[static_cast<size_t>(index)] : "";
        entry["top"].push_back({{"index", index}, {"value", value}, {"label", label}});
        if (!choice.json) std::printf("  %6ld  %12.6g  %s\n", static_cast<long>(index), value, label.c_str());
      }
    } else if (!choice.json) {
      std::string text;
      for (int64_t k = 0; k < std::min<int64_t>(outputs[i].element_count(), shown); ++k)
        text += is_float(outputs[i].dtype()) ? fmt::format(" {:.6g}", outputs[i].float_at(k)) : fmt::format(" {}", outputs[i].int_at(k));
      std::printf(" %s%s\n", text.c_str(), outputs[i].element_count() > shown ? " …" : "");
    }
    json.push_back(entry);
  }
  if (choice.json) std::printf("%s\n", json.dump().c_str());
  return 0;
}

}  // namespace

void add_run(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("run", "run a compiled model once");
  const auto choice = std::make_shared<Choice>();
  command->add_option("artifact", choice->artifact, "the .so file")->required();
  command->add_option("-i,--input", choice->input.files, "[name=]file.npy, file.npz or file.pb; repeatable; inputs without a file get random values");
  command->add_option("--shape", choice->input.shapes, "sizes of an input without a file: input=2x3x224x224; repeatable");
  command->add_option("--seed", choice->input.seed, "of the random values")->capture_default_str();
  command->add_option("-o,--output-dir", choice->output_dir, "write each output there as .npy");
  command->add_option("--top", choice->top, "print the largest entries of each output's last axis")->check(CLI::Range(1, 1000));
  command->add_option("--labels", choice->labels, "text file, one label a line, for --top");
  choice->context.add_to(*command);
  command->add_flag("--json", choice->json, "print the results as JSON");
  command->footer(
      "Loading an artifact runs its native code: run only what you trust.\nExamples:\n  tilewright run digits.so --input image.npy --top 3\n"
      "  tilewright run bert.so --input ids.npy --input mask=mask.npy --output-dir out");
  command->callback([choice, &exit_code] { exit_code = run(*choice); });
}

}  // namespace tilewright::tools
