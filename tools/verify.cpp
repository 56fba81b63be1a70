#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "arguments.h"
#include "base/file.h"
#include "base/npy.h"
#include "commands.h"
#include "common.h"
#include "inputs.h"
#include "op/rounding.h"
#include "reference.h"

namespace tilewright::tools {
namespace {

constexpr const char* rounded_graph = "rounded graph";

struct Choice {
  CompileChoice compile;
  std::string model, artifact, reference_out;
  std::vector<std::string> expected;
  InputChoice input;
  double relative = -1, absolute = -1;
  ContextChoice context;
  bool float64 = false, no_interpreter = false, json = false, tensors = false;
};

/// An artifact says which file it was compiled from, and what it promises; a different one is the likeliest cause of every difference.
void warn_of_another_source(const Model& artifact, const Prepared& model, const Precision& precision) {
  const nlohmann::json manifest = nlohmann::json::parse(artifact.api().manifest, nullptr, false);
  if (!manifest.is_object()) return;
  if (manifest.value("source_sha256", model.source_hash) != model.source_hash)
    std::fprintf(stderr, "tilewright: the artifact was compiled from another file than %s.onnx\n", model.name.c_str());
  const Precision its = promised_precision(artifact.api().manifest);
  if (its.str() != precision.str())
    std::fprintf(stderr, "tilewright: the artifact promises %s and is held to %s; give %s\n", its.str().c_str(), precision.str().c_str(),
                 policy_options(its).c_str());
}

std::string output_names(const Graph& graph) {
  std::vector<std::string> names;
  for (const ValueId id : graph.outputs) names.push_back(graph.value(id).name);
  return fmt::format("{}", fmt::join(names, ", "));
}

/// Whether kernels round what the compiled graph does not: Winograd's method, where dots of bfloats multiply.
bool rounds_more(const CompileOptions& options) {
  const Target* const target = options.target == "native" ? native_target() : &find_target(options.target);
  return target != nullptr && target->bfloat_dots > 1 && options.precision.names(Policy::bf16) && options.disabled_passes.count("winograd") == 0;
}

int run(const Choice& choice) {
  const CompileOptions options = choice.compile.finish();
  if (!options.stop_after.empty())
    fail(ErrorKind::invalid_input, "verify wants the whole way; leave --stop-after '{}' to compile and inspect", options.stop_after);
  if (choice.no_interpreter && choice.expected.empty()) fail(ErrorKind::invalid_input, "--no-interpreter leaves nothing to compare with; give --expected");
  const Prepared model = prepare(choice.model, options);
  if (!choice.expected.empty() && choice.expected.size() != model.imported.outputs.size())
    fail(ErrorKind::invalid_input, "--expected gives {} file{}; the model's outputs, each of which wants one in this order: {}", choice.expected.size(),
         choice.expected.size() == 1 ? "" : "s", output_names(model.imported));
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
  if (!choice.artifact.empty()) warn_of_another_source(loaded, model, options.precision);
  Context context = choice.context.open(loaded);
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
    // Of a model that rounds more than its file says, float64 is the measure; where nothing drops a rounding or adds one, its own graph is a closer one.
    if (!options.precision.may_lower())
      references.push_back({"interpreter", interpret_graph(model.imported, inputs, false)});
    else if (options.disabled_passes.count("drop_roundings") && !rounds_more(options))
      references.push_back({rounded_graph, interpret_graph(model.optimised, inputs, false)});
    references.push_back({"float64", interpret_graph(model.imported, inputs, true)});
  }
  bool good = true, locate = false;
  nlohmann::json json = nlohmann::json::array();
  const double steps = rounding_steps(model.imported);
  const std::vector<HalfError> half = promised_half_errors(model.optimised, options.precision);
  for (const Reference& reference : references) {
    for (size_t i = 0; i < reference.outputs.size(); ++i) {
      Tensor expected = reference.outputs[i];
      if (reference.name == "float64" && expected.dtype() != actual[i].dtype())
        expected = [&] {
          Tensor narrowed(actual[i].dtype(), expected.dims());
          for (int64_t k = 0; k < expected.element_count(); ++k) narrowed.set_float(k, expected.float_at(k));
          return narrowed;
        }();
      Tolerance tolerance = tolerance_for(expected, steps, half[i]);
      if (choice.relative >= 0) tolerance.relative = choice.relative;
      if (choice.absolute >= 0) tolerance.absolute = choice.absolute;
      Comparison result = compare(actual[i], expected, tolerance);
      // As a whole a tensor keeps a closer promise than its worst element.
      const double wide = is_float(expected.dtype()) ? epsilon_of(expected.dtype()) * steps : 0;
      const double promised = half[i].rms == 0 || !is_float(expected.dtype()) ? tolerance.relative
                              : reference.name == rounded_graph               ? repeated_error(half[i], wide)
                                                                              : half[i].rms + wide;
      if (result.same && half[i].rms > 0 && choice.relative < 0 && result.relative_rms > promised) {
        result.same = false;
        result.reason = fmt::format("relative rms {:.3g}, promised {:.3g}", result.relative_rms, promised);
      }
      good &= result.same;
      locate |= !result.same && reference.name != "files" && (reference.name == "interpreter" || options.precision.may_lower());
      const std::string output_name = loaded.api().outputs[i].name;
      json.push_back({{"output", output_name},
                      {"reference", reference.name},
                      {"same", result.same},
                      {"largest_absolute", result.largest_absolute},
                      {"relative_rms", result.relative_rms},
                      {"promised", promised},
                      {"reason", result.reason}});
      if (!choice.json)
        std::printf("%-8s %s against %s: largest difference %.3g at magnitude %.3g, relative rms %.3g, promised %.3g%s%s\n", result.same ? "same" : "DIFFERS",
                    output_name.c_str(), reference.name.c_str(), result.largest_absolute, result.largest_expected, result.relative_rms, promised,
                    result.same ? "" : ": ", result.reason.c_str());
    }
  }
  if (choice.tensors) {
    for (const TensorError& one : tensor_errors(model, options, choice.model, inputs, choice.context.threads)) {
      if (choice.json)
        json.push_back({{"tensor", one.name}, {"operator", one.op}, {"reference", "float64"}, {"relative_rms", one.error}, {"promised", one.promised}});
      else
        fmt::print("{:<8} {}, {}: relative rms {:.3g}, promised {:.3g}\n", one.error <= one.promised ? "tensor" : "TENSOR", one.name, one.op, one.error,
                   one.promised);
    }
  }
  if (choice.json) std::printf("%s\n", json.dump().c_str());
  if (locate && !choice.json) {
    std::printf("looking for the first node that differs …\n");
    std::fflush(stdout);
    std::printf("first      %s\n", locate_difference(model, options, inputs, choice.context.threads, !choice.artifact.empty()).c_str());
  }
  return good ? exit_done : exit_differs;
}

}  // namespace

void add_verify(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("verify", "compare a compiled model with the reference interpreter or with reference files");
  const auto choice = std::make_shared<Choice>();
  command->add_option("model", choice->model, "the .onnx file")->required();
  command->add_option("--artifact", choice->artifact, "the library to check (default: compile one)");
  command->add_option("-i,--input", choice->input.files, "[name=]file.npy, .npz or .pb; inputs without a file get random values");
  command->add_option("--expected", choice->expected, "reference outputs, all, in the model's order (.npy or .pb); repeatable");
  choice->compile.add_to(*command);
  command->add_option("--seed", choice->input.seed, "of the random values")->capture_default_str();
  command->add_option("--relative", choice->relative, "allowed relative difference (default: from dtype and depth)");
  command->add_option("--absolute", choice->absolute, "allowed absolute difference (default: from dtype, depth and the output's magnitude)");
  choice->context.add_to(*command);
  command->add_flag("--no-interpreter", choice->no_interpreter, "compare with the files only");
  command->add_option("--reference-out", choice->reference_out, "only write the interpreter's inputs and outputs there as .npy");
  command->add_flag("--float64", choice->float64, "with --reference-out: compute in float64");
  command->add_flag("--tensors", choice->tensors, "print the error of every tensor against float64, too (compiles once more, with all stored)");
  command->add_flag("--json", choice->json, "print the comparisons as JSON");
  command->footer(
      "--shape applies to the compile and to random inputs. What is promised follows from dtype and depth (docs/precision.md).\nExamples:\n  tilewright verify "
      "model.onnx\n  tilewright verify model.onnx --policy bf16 --tensors\n  tilewright verify model.onnx --artifact model.so "
      "--input in.npy --expected out.npy\n" +
      exit_codes());
  command->callback([choice, &exit_code] { exit_code = run(*choice); });
}

}  // namespace tilewright::tools
