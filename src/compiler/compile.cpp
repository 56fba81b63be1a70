#include "compiler/compile.h"

#include <chrono>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/units.h"
#include "compiler/pipeline.h"
#include "compiler/tuned_choices.h"
#include "op/op.h"
#include "op/rounding.h"
#include "pass/editor.h"
#include "pass/pass.h"
#include "target/emit_kernel.h"
#include "tilewright/tilewright_model.h"

namespace tilewright {
namespace {

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

void report(const CompileOptions& options, const std::string& stage, const std::string& result, const Stopwatch& watch) {
  if (options.on_stage) options.on_stage(stage, result, watch.seconds());
}

int64_t constant_bytes(const Graph& graph) {
  std::set<const Tensor*> seen;
  int64_t bytes = 0;
  for (const Value& value : graph.values)
    if (value.constant && seen.insert(value.constant.get()).second) bytes += static_cast<int64_t>(value.constant->byte_size());
  return bytes;
}

std::string manifest(const Prepared& model, const CompileOptions& options, const Target& target) {
  nlohmann::json json = {{"name", model.name},
                         {"target", target.name},
                         {"policy", name(options.precision.policy)},
                         {"source_sha256", model.source_hash},
                         {"compiler", std::string("tilewright ") + compiler_version},
                         {"abi", TILEWRIGHT_ABI_VERSION}};
  const pattern::Program& program = model.block->program;
  for (const auto& [key, ids] : {std::pair{"inputs", &program.inputs}, std::pair{"outputs", &program.outputs}})
    for (const pattern::TensorId id : *ids) {
      nlohmann::json dims = nlohmann::json::array();
      for (const Dim& dim : program.tensor(id).type.dims) dim.is_constant() ? dims.push_back(dim.constant()) : dims.push_back(dim.str());
      json[key].push_back({{"name", program.tensor(id).name}, {"dtype", name(program.tensor(id).type.dtype)}, {"dims", dims}});
    }
  for (const PolicyRule& rule : options.precision.rules) json["policy_for"].push_back({{"pattern", rule.pattern}, {"policy", name(rule.policy)}});
  for (const PrecisionReport::Kept& kept : model.precision.kept)
    json["kept_fp32"].push_back({{"operator", kept.op}, {"source", kept.source}, {"reason", kept.reason}});
  for (const schedule::Kernel& kernel : model.block->kernels) json["kernels"].push_back({{"name", kernel.name}, {"source", kernel.source}});
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string summary(const Prepared& model, const CompileOptions& options) {
  if (!options.precision.may_lower()) return fmt::format("{}: computed in float32, which is more than it asks for", options.precision.str());
  std::string text = fmt::format("{}: {} products with 16-bit operands, {} of weights", options.precision.str(), model.precision.lowered,
                                 megabytes(constant_bytes(model.optimised)));
  if (!model.precision.kept.empty()) text += fmt::format("; {} stay fp32 (inspect tells why)", model.precision.kept.size());
  return text;
}

/// Which products became one, and why others did not.
std::string explain(const MergeReport& merges) {
  std::string text;
  for (const MergeReport::Group& group : merges.groups)
    text += group.refusal.empty() ? fmt::format("one product: {}\n", group.sources) : fmt::format("merge_products: {}: {}\n", group.sources, group.refusal);
  return text;
}

std::string explain(const Prepared& model) {
  return explain(model.merges) + (model.block ? schedule::explain(*model.block) : "nothing more to explain before 'schedule'\n");
}

schedule::BfloatsStay bfloats_that_stay(const Target& target) {
  using enum schedule::BfloatsStay;
  return target.bfloat_dots > 1 ? all : target.tile_registers ? rows : none;
}

}  // namespace

schedule::Block schedule_model(pattern::Program program, const CompileOptions& options,
                               std::function<void(const char* pass, const pattern::Program& program)> after) {
  std::set<std::string> entry;
  for (const pattern::TensorId id : program.inputs)
    for (const Dim& dim : program.tensor(id).type.dims) dim.collect_symbols(entry);
  const auto enabled = [&](const char* pass) { return options.disabled_passes.count(pass) == 0; };
  // "native" is a CPU, whichever: to verify, a machine need not be one of the targets.
  const Target* const target = options.target == "native" ? native_target() : &find_target(options.target);
  const TargetKind kind = target ? target->kind : TargetKind::cpu;
  return schedule::schedule(std::move(program), {entry.begin(), entry.end()},
                            {.fuse_maps = enabled("fuse_maps"),
                             .fuse_epilogues = enabled("fuse_epilogues"),
                             .fuse_rows = enabled("fuse_rows"),
                             .alias_views = enabled("alias_views"),
                             .write_in_place = enabled("write_in_place"),
                             .drop_roundings = enabled("drop_roundings") && kind == TargetKind::cpu,
                             .bfloats_stay = target ? bfloats_that_stay(*target) : schedule::BfloatsStay::none,
                             .choose_layouts = enabled("choose_layouts") && kind == TargetKind::cpu,
                             .products_of_bytes = target && target->dots_shorts,
                             .streams_attention = enabled("fuse_attention") ? streams_attention(kind) : nullptr,
                             .chains_depthwise = enabled("fuse_depthwise") && target ? chains_depthwise(*target) : nullptr,
                             .after = std::move(after),
                             .row_bytes = target ? target->shared_bytes : 0});
}

PassOptions pass_options(const CompileOptions& options) {
  const Target* const target = options.target == "native" ? native_target() : &find_target(options.target);
  return {.precision = options.precision, .product_cost = target ? product_cost(*target) : nullptr};
}

Prepared prepare(const std::filesystem::path& path, const CompileOptions& given) {
  CompileOptions options = given;
  Prepared model;
  model.name = path.stem().string();
  Stopwatch import_watch;
  model.source_hash = sha256_of_file(path, options.import.limits.file_bytes);
  if (!options.tuning.database.empty()) {
    try {
      model.tuned = std::make_shared<TunedChoices>(options, model.source_hash);
      options.disabled_passes.insert(model.tuned->disabled_passes().begin(), model.tuned->disabled_passes().end());
    } catch (const Error& problem) {
      // Without what was measured the rules still give a good model.
      if (options.tuning.must_know || problem.kind() == ErrorKind::invalid_input) throw;
      report(options, "tune", fmt::format("rules alone: {}", problem.what()), import_watch);
    }
  }
  model.disabled_passes = options.disabled_passes;
  Pipeline pipeline(options);
  model.imported = onnx::import_onnx(path, options.import);
  model.imported_nodes = static_cast<int>(model.imported.nodes.size());
  pipeline.after("import", "graph", [&] { return print(model.imported); });
  report(options, "import",
         fmt::format("{}: {} core operators, {} of weights", path.filename().string(), model.imported_nodes, megabytes(constant_bytes(model.imported))),
         import_watch);

  Stopwatch optimise_watch;
  model.optimised = clone(model.imported);
  PassOptions passes = pass_options(options);
  passes.precision_report = &model.precision;
  passes.merge_report = &model.merges;
  for (const GraphPass& pass : graph_passes(passes)) pipeline.run_pass(std::string(pass.name), pass.run, model.optimised);
  pipeline.reached("optimise");
  if (pipeline.stopped()) return model;
  report(options, "optimise", fmt::format("{} → {} core operators", model.imported_nodes, model.optimised.nodes.size()), optimise_watch);
  if (options.precision.policy != Policy::fp32 || !options.precision.rules.empty()) report(options, "precision", summary(model, options), optimise_watch);

  Stopwatch schedule_watch;
  pattern::Program program = lower(model.optimised);
  pipeline.after("lower", "patterns", [&] { return pattern::print(program); });
  if (pipeline.stopped()) return model;
  const size_t patterns = program.patterns.size();
  model.block = std::make_shared<schedule::Block>(schedule_model(std::move(program), options, [&](const char* pass, const pattern::Program& rewritten) {
    pipeline.after(pass, "patterns", [&] { return pattern::print(rewritten); });
  }));
  pipeline.after("schedule", "schedule", [&] { return schedule::print(*model.block); });
  report(options, "schedule", fmt::format("{} patterns → {} kernels", patterns, model.block->kernels.size()), schedule_watch);
  return model;
}

CompileReport build_models(const std::vector<Prepared>& models, const std::filesystem::path& output, const CompileOptions& options) {
  const Target& target = find_target(options.target);
  CompileReport result;
  result.target = target.name;
  std::vector<ModelSource> sources;
  for (const Prepared& model : models) {
    PlanOptions plan{.winograd = model.disabled_passes.count("winograd") == 0,
                     .streams = model.disabled_passes.count("streams") == 0,
                     .tf32 = options.precision.policy == Policy::tf32 && options.precision.rules.empty() && !hides_products(model.optimised),
                     .rounds = options.precision.names(Policy::bf16)};
    if (model.tuned) plan.choose = [&](const schedule::Block& block, const schedule::Kernel& kernel) { return model.tuned->choose(block, kernel); };
    plan_kernels(*model.block, target, plan);
    if (options.explain) result.explanation += explain(model);
    if (model.tuned) model.tuned->add_to(result);
    result.imported_nodes += model.imported_nodes;
    result.optimised_nodes += static_cast<int>(model.optimised.nodes.size());
    sources.push_back({model.name, manifest(model, options, target), model.block});
  }
  Stopwatch emit_watch;
  const EmittedSources emitted = emit_sources(sources, target, 8);
  result.kernels = emitted.kernel_count;
  result.distinct_kernels = emitted.distinct_kernel_count;
  result.weight_bytes = emitted.weight_bytes;
  result.arena_bytes = emitted.arena_bytes;
  result.peak_live_bytes = emitted.peak_live_bytes;
  if (result.tuned + result.untuned > 0)
    report(options, "tune", fmt::format("{} of {} kernels with a choice as measured", result.tuned, result.tuned + result.untuned), emit_watch);
  report(options, "emit",
         fmt::format("{} kernels ({} distinct), weights {}, {}", result.kernels, result.distinct_kernels, megabytes(result.weight_bytes),
                     result.arena_bytes > 0 ? fmt::format("arena {} (live peak {})", megabytes(result.arena_bytes), megabytes(result.peak_live_bytes))
                                            : std::string("arena laid out for each run's sizes")),
         emit_watch);
  if (options.stop_after == "emit") return result;
  if (!options.emit_source.empty()) {
    write_source_folder(emitted, target, options.emit_source, options.build);
    return result;
  }
  Stopwatch build_watch;
  result.build = build_library(emitted, target, output, options.build);
  report(options, "build", fmt::format("{} files, {} from cache", result.build.units, result.build.from_cache), build_watch);
  return result;
}

CompileReport compile(const std::filesystem::path& model, const std::filesystem::path& output, const CompileOptions& options) {
  std::vector<Prepared> prepared;
  prepared.push_back(prepare(model, options));
  if (!prepared[0].block || options.stop_after == "schedule") {
    CompileReport report;
    if (options.explain) report.explanation = explain(prepared[0]);
    return report;
  }
  prepared[0].imported = {};  // no longer needed; keeps the peak of a compile low
  return build_models(prepared, output, options);
}

}  // namespace tilewright
