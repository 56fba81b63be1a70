#include <cstdio>
#include <map>
#include <memory>

#include "commands.h"
#include "common.h"
#include "pattern/pattern.h"

namespace tilewright::tools {
namespace {

struct Choice {
  CompileChoice compile;
  std::string model;
  bool graph = false, kernels = false, full = false;
};

void print_histogram(const char* title, const Graph& graph) {
  std::map<std::string, int> counts;
  for (const Node& node : graph.nodes) ++counts[node.op];
  std::printf("%s: %zu operators\n ", title, graph.nodes.size());
  for (const auto& [op, count] : counts) std::printf(" %s×%d", op.c_str(), count);
  std::printf("\n");
}

void print_ports(const char* title, const Graph& graph, const std::vector<ValueId>& ids) {
  std::printf("%s\n", title);
  for (const ValueId id : ids) std::printf("  %s: %s\n", graph.value(id).name.c_str(), str(graph.type(id)).c_str());
}

int run(const Choice& choice) {
  const CompileOptions options = choice.compile.finish();
  const Prepared model = prepare(choice.model, options);
  print_ports("inputs", model.imported, model.imported.inputs);
  print_ports("outputs", model.imported, model.imported.outputs);
  print_histogram("imported", model.imported);
  if (options.stop_after == "import") return 0;
  print_histogram("optimised", model.optimised);
  if (options.precision.may_lower()) {
    fmt::print("precision {}: {} products with 16-bit operands, {} stay fp32\n", options.precision.str(), model.precision.lowered, model.precision.kept.size());
    for (const PrecisionReport::Kept& kept : model.precision.kept) fmt::print("  {} '{}': {}\n", kept.op, kept.source, kept.reason);
  }
  if (choice.graph) std::printf("\n%s\n", print(model.optimised).c_str());
  if (!model.block) return 0;
  std::printf("kernels: %zu\n", model.block->kernels.size());
  if (choice.full) {
    std::printf("\n%s\n", schedule::print(*model.block).c_str());
  } else if (choice.kernels) {
    for (const schedule::Kernel& kernel : model.block->kernels) fmt::print("  {:<12} {}\n", kernel.name, kernel.source);
  }
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("inspect", "show what becomes of a model: graph before and after, kernels, memory plan");
  const auto choice = std::make_shared<Choice>();
  command->add_option("model", choice->model, "the .onnx file")->required();
  choice->compile.add_to(*command);
  command->add_flag("--graph", choice->graph, "print the optimised graph");
  command->add_flag("--kernels", choice->kernels, "list the kernels and the model's nodes they compute");
  command->add_flag("--schedule", choice->full, "print patterns, kernels and the memory plan");
  command->footer(
      "Examples:\n  tilewright inspect model.onnx --kernels\n  tilewright inspect model.onnx --graph --disable fold_constants\n  tilewright inspect "
      "model.onnx --policy fp16");
  command->callback([choice, &exit_code] { exit_code = run(*choice); });
}

}  // namespace tilewright::tools
