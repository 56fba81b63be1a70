#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "artifact/compare.h"
#include "base/file.h"
#include "base/npy.h"
#include "commands.h"
#include "common.h"
#include "op/op.h"
#include "op/rounding.h"
#include "pattern/interpreter.h"

namespace tilewright::tools {
namespace {

struct Choice {
  CompileChoice compile;
  std::string model, artifact, reference_out;
  std::vector<std::string> expected;
  InputChoice input;
  double relative = -1, absolute = -1;
  int threads = 0;
  bool float64 = false, no_interpreter = false, json = false;
};

std::vector<Tensor> interpret_graph(const Graph& graph, const std::vector<Tensor>& inputs, bool float64) {
  pattern::InterpreterOptions options;
  options.arithmetic = float64 ? pattern::InterpreterOptions::Arithmetic::float64 : pattern::InterpreterOptions::Arithmetic::as_written;
  return pattern::interpret(lower(graph), inputs, options);
}

double scale_of(const Tensor& tensor) {
  double largest = 0;
  for (int64_t i = 0; i < tensor.element_count(); ++i)
    if (const double value = std::abs(tensor.float_at(i)); std::isfinite(value)) largest = std::max(largest, value);
  return largest;
}

/// Every intermediate result of the main graph becomes an output of a library of its own; the first that differs from the interpreter names the node.
void find_first_difference(const Choice& choice, const Prepared& model, const std::vector<Tensor>& inputs) {
  std::printf("looking for the first node that differs …\n");
  std::fflush(stdout);
  Prepared probe = model;
  std::vector<std::string> nodes;
  probe.optimised.outputs.clear();
  for (const Node& node : model.optimised.nodes)
    for (const ValueId id : node.outputs) {
      probe.optimised.outputs.push_back(id);
      nodes.push_back(fmt::format("{} '{}' → {}", node.op, node.name, model.optimised.value(id).name));
    }
  CompileOptions options = choice.compile.finish();
  pattern::Program program = lower(probe.optimised);
  std::set<std::string> entry;
  for (const pattern::TensorId id : program.inputs)
    for (const Dim& dim : program.tensor(id).type.dims) dim.collect_symbols(entry);
  probe.block = std::make_shared<schedule::Block>(schedule::schedule(std::move(program), {entry.begin(), entry.end()}));
  const ScratchFolder folder(std::filesystem::temp_directory_path());
  const std::string library = (folder.path() / "probe.so").string();
  build_models({probe}, library, options);
  const Model loaded = open_model(library);
  Context context(loaded, choice.threads);
  const std::vector<Tensor> actual = run_model(context, loaded, inputs), expected = interpret_graph(probe.optimised, inputs, false);
  const double steps = rounding_steps(probe.optimised);
  for (size_t i = 0; i < actual.size(); ++i) {
    const Comparison result = compare(actual[i], expected[i], network_tolerance(expected[i].dtype(), steps, scale_of(expected[i])));
    if (result.same) continue;
    std::printf("first      %s: %s\n", nodes[i].c_str(), result.reason.c_str());
    return;
  }
  std::printf("first      none: with every result stored, all agree; the difference comes from fusion (try --disable fuse_maps, fuse_epilogues, fuse_rows)\n");
}

int run(const Choice& choice) {
  const CompileOptions options = choice.compile.finish();
  const Prepared model = prepare(choice.model, options);
  const std::vector<Tensor> inputs = make_inputs(inputs_of(model.imported), choice.input);
  if (!choice.reference_out.empty()) {
    const std::vector<Tensor> reference = interpret_graph(model.imported, inputs, choice.float64);
    std::filesystem::create_directories(choice.reference_out);
    for (size_t i = 0; i < inputs.size(); ++i) write_npy(std::filesystem::path(choice.reference_out) / fmt::format("in_{}.npy", i), inputs[i]);
    for (size_t i = 0; i < reference.size(); ++i) write_npy(std::filesystem::path(choice.reference_out) / fmt::format("out_{}.npy", i), reference[i]);
    std::printf("wrote      %zu inputs and %zu reference outputs (%s) to %s\n", inputs.size(), reference.size(), choice.float64 ? "float64" : "as written",
                choice.reference_out.c_str());
    return 0;
  }

  const ScratchFolder folder(std::filesystem::temp_directory_path());
  std::string library = choice.artifact;
  if (library.empty()) {
    library = (folder.path() / "model.so").string();
    build_models({model}, library, options);
  }
  const Model loaded = open_model(library);
  Context context(loaded, choice.threads);
  const std::vector<Tensor> actual = run_model(context, loaded, inputs);

  struct Reference {
    std::string name;
    std::vector<Tensor> outputs;
  };
  std::vector<Reference> references;
  if (!choice.expected.empty()) {
    Reference files{"files", {}};
    for (const std::string& file : choice.expected) files.outputs.push_back(read_tensor(file));
    references.push_back(std::move(files));
  }
  if (!choice.no_interpreter) {
    references.push_back({"interpreter", interpret_graph(model.imported, inputs, false)});
    references.push_back({"float64", interpret_graph(model.imported, inputs, true)});
  }
  bool good = true, interpreter_differs = false;
  nlohmann::json json = nlohmann::json::array();
  const double steps = rounding_steps(model.imported);
  for (const Reference& reference : references) {
    if (reference.outputs.size() > actual.size())
      fail(ErrorKind::invalid_input, "{} reference outputs were given; the model has {}", reference.outputs.size(), actual.size());
    for (size_t i = 0; i < reference.outputs.size(); ++i) {
      Tensor expected = reference.outputs[i];
      if (reference.name == "float64" && expected.dtype() != actual[i].dtype())
        expected = [&] {
          Tensor narrowed(actual[i].dtype(), expected.dims());
          for (int64_t k = 0; k < expected.element_count(); ++k) narrowed.set_float(k, expected.float_at(k));
          return narrowed;
        }();
      Tolerance tolerance = network_tolerance(expected.dtype(), steps, scale_of(expected));
      if (choice.relative >= 0) tolerance.relative = choice.relative;
      if (choice.absolute >= 0) tolerance.absolute = choice.absolute;
      const Comparison result = compare(actual[i], expected, tolerance);
      good &= result.same;
      interpreter_differs |= !result.same && reference.name == "interpreter";
      const std::string output_name = loaded.api().outputs[i].name;
      json.push_back({{"output", output_name},
                      {"reference", reference.name},
                      {"same", result.same},
                      {"largest_absolute", result.largest_absolute},
                      {"relative_rms", result.relative_rms},
                      {"reason", result.reason}});
      if (!choice.json)
        std::printf("%-8s %s against %s: largest difference %.3g at magnitude %.3g, relative rms %.3g%s%s\n", result.same ? "same" : "DIFFERS",
                    output_name.c_str(), reference.name.c_str(), result.largest_absolute, result.largest_expected, result.relative_rms, result.same ? "" : ": ",
                    result.reason.c_str());
    }
  }
  if (choice.json) std::printf("%s\n", json.dump().c_str());
  if (interpreter_differs && !choice.json) find_first_difference(choice, model, inputs);
  return good ? 0 : 1;
}

}  // namespace

void add_verify(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("verify", "compare a compiled model with the reference interpreter or with reference files");
  const auto choice = std::make_shared<Choice>();
  command->add_option("model", choice->model, "the .onnx file")->required();
  command->add_option("--artifact", choice->artifact, "the library to check (default: compile one)");
  command->add_option("-i,--input", choice->input.files, "[name=]file.npy, .npz or .pb; inputs without a file get random values");
  command->add_option("--expected", choice->expected, "reference outputs in the model's order (.npy or .pb); repeatable");
  choice->compile.add_to(*command);
  command->add_option("--seed", choice->input.seed, "of the random values")->capture_default_str();
  command->add_option("--relative", choice->relative, "allowed relative difference (default: from dtype and depth)");
  command->add_option("--absolute", choice->absolute, "allowed absolute difference (default: from dtype, depth and the output's magnitude)");
  command->add_option("--threads", choice->threads, "0: all cores")->check(CLI::Range(0, 1024));
  command->add_flag("--no-interpreter", choice->no_interpreter, "compare with the files only");
  command->add_option("--reference-out", choice->reference_out, "only write the interpreter's inputs and outputs there as .npy");
  command->add_flag("--float64", choice->float64, "with --reference-out: compute in float64");
  command->add_flag("--json", choice->json, "print the comparisons as JSON");
  command->footer(
      "--shape applies to the compile and to random inputs.\nExamples:\n  tilewright verify model.onnx\n  tilewright verify model.onnx --artifact model.so "
      "--input in.npy --expected out.npy");
  command->callback([choice, &exit_code] {
    choice->input.shapes = choice->compile.shapes;
    exit_code = run(*choice);
  });
}

}  // namespace tilewright::tools
