#include "self_check.h"

#include <algorithm>
#include <map>
#include <set>

#include "artifact/run.h"
#include "base/file.h"
#include "inputs.h"
#include "op/op.h"
#include "op/rounding.h"
#include "reference.h"

namespace tilewright::tools {
namespace {

/// Points that the interpreter computes in some ten seconds.
constexpr double most_points = 2e8;

/// How many points the program's nests have; sizes learned on the way count as one.
double points_of(const pattern::Program& program, const std::map<std::string, int64_t>& sizes) {
  double points = 0;
  for (const pattern::Pattern& one : program.patterns) {
    const auto* nest = std::get_if<pattern::Nest>(&one);
    if (!nest) continue;
    double here = 1;
    for (const Dim& dim : nest->space) {
      std::set<std::string> symbols;
      dim.collect_symbols(symbols);
      const bool known = std::all_of(symbols.begin(), symbols.end(), [&](const std::string& symbol) { return sizes.count(symbol) > 0; });
      here *= known ? static_cast<double>(dim.evaluate(sizes)) : 1;
    }
    points += here;
  }
  return points;
}

std::string dims_text(const Tensor& tensor) { return fmt::format("{} {}", tensor.rank(), fmt::join(tensor.dims(), " ")); }

void write_elements(const std::filesystem::path& path, const Tensor& tensor) {
  write_file(path, std::string_view(static_cast<const char*>(tensor.data()), tensor.byte_size()));
}

}  // namespace

std::string write_reference(const std::filesystem::path& folder, const std::filesystem::path& path, const CompileOptions& given) {
  CompileOptions options = given;
  options.target = "native";
  options.emit_source.clear();
  options.on_stage = {};
  options.build.progress = {};
  options.dump_dir.clear();
  const Prepared model = prepare(path, options);
  const std::vector<Tensor> inputs = make_inputs(inputs_of(model.imported), {});
  std::map<std::string, int64_t> sizes;
  for (size_t i = 0; i < inputs.size(); ++i)
    for (size_t axis = 0; axis < inputs[i].rank(); ++axis)
      if (const auto symbol = model.imported.type(model.imported.inputs[i]).dims[axis].as_symbol()) sizes[*symbol] = inputs[i].dims()[axis];
  std::vector<Tensor> outputs;
  std::string by = "the reference interpreter";
  if (points_of(lower(model.imported), sizes) <= most_points) {
    outputs = interpret_graph(model.imported, inputs, false);
  } else {
    by = "the same model compiled for " + find_target("native").name;
    const ScratchFolder scratch(std::filesystem::temp_directory_path());
    const std::string library = (scratch.path() / "model.so").string();
    build_models({model}, library, options);
    const Model loaded = open_model(library);
    Context context = open_context(loaded);
    outputs = run_model(context, loaded, inputs);
  }
  const std::filesystem::path reference = folder / "reference";
  std::filesystem::create_directories(reference);
  std::string text = "by " + by + "\n";
  for (size_t i = 0; i < inputs.size(); ++i) {
    write_elements(reference / fmt::format("input_{}.bin", i), inputs[i]);
    text += fmt::format("input input_{}.bin {}\n", i, dims_text(inputs[i]));
  }
  const double steps = rounding_steps(model.imported);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Tolerance tolerance = tolerance_for(outputs[i], steps);
    write_elements(reference / fmt::format("output_{}.bin", i), outputs[i]);
    text += fmt::format("output output_{}.bin {:.17g} {:.17g} {}\n", i, tolerance.relative, tolerance.absolute, dims_text(outputs[i]));
  }
  write_file(reference / "reference.txt", text);
  return by;
}

}  // namespace tilewright::tools
