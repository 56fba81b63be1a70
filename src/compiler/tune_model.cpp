#include "compiler/tune_model.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "compiler/tuned_choices.h"
#include "target/build_cache.h"

namespace tilewright {
namespace {

/// Passes that serve some models and slow others down.
const char* const competing_passes[] = {"choose_layouts", "fuse_depthwise", "winograd"};
/// Without such a pass the model is expected to take at most so much of its time with it: else it is not measured.
constexpr double close_estimate = 1.3;
/// What is only so much faster than the simpler way is not taken for it.
constexpr double worth_it = 0.99;

CompileOptions untuned(CompileOptions options) {
  options.tuning.database.clear();
  options.on_stage = nullptr;
  options.dump_dir.clear();
  return options;
}

std::vector<std::vector<int64_t>> input_dims(const Prepared& model, const SpaceOptions& space) {
  std::vector<std::vector<int64_t>> all;
  const pattern::Program& program = model.block->program;
  for (const pattern::TensorId id : program.inputs) {
    std::vector<int64_t> dims;
    for (const Dim& dim : program.tensor(id).type.dims) {
      std::set<std::string> symbols;
      dim.collect_symbols(symbols);
      dims.push_back(dim.evaluate(space.complete(symbols)));
    }
    all.push_back(std::move(dims));
  }
  return all;
}

struct Variant {
  std::string name, disabled;  ///< disabled: a pass, or ""
  bool tuned;
};

CompileOptions without(CompileOptions options, const std::string& pass) {
  if (!pass.empty()) options.disabled_passes.insert(pass);
  return options;
}

/// A way to schedule the model: with all passes, or without one of those that compete.
struct Way {
  std::string disabled;  ///< a pass, or ""
  std::shared_ptr<const schedule::Block> block;
  CompileOptions options;
};

/// All passes first, then those without which the model is another and expected to take hardly longer.
std::vector<Way> ways_of(const std::filesystem::path& path, const CompileOptions& given, const Target& target) {
  const CompileOptions plain = untuned(given);
  std::vector<Way> ways = {{"", prepare(path, plain).block, plain}};
  const double expected = expected_cycles(*ways[0].block, target, space_options(plain));
  for (const char* pass : competing_passes) {
    if (given.disabled_passes.count(pass)) continue;
    Way way{pass, ways[0].block, without(plain, pass)};
    // Which method a product takes is decided later: its schedule is the same.
    if (way.disabled != "winograd") way.block = prepare(path, way.options).block;
    const double other = expected_cycles(*way.block, target, space_options(way.options));
    if (other != expected && other < close_estimate * expected) ways.push_back(std::move(way));
  }
  return ways;
}

std::vector<tune::Subject> subjects_of(const std::vector<Way>& ways, const Target& target) {
  std::vector<tune::Subject> subjects;
  std::set<tune::KernelKey> seen;
  for (const Way& way : ways)
    for (tune::Subject& subject : tune::find_subjects(way.block, target, space_options(way.options)))
      if (seen.insert(tune::key_of(subject.space)).second) {
        if (!way.disabled.empty()) subject.uses = 0;
        subjects.push_back(std::move(subject));
      }
  return subjects;
}

void measure_whole(ModelTuning& result, const std::filesystem::path& path, const CompileOptions& options, const tune::TuneOptions& search,
                   tune::Database& database, const tune::Place& place, const std::vector<Way>& ways) {
  std::vector<Variant> variants = {{"untuned", "", false}, {"tuned", "", true}};
  for (const Way& way : ways)
    if (!way.disabled.empty()) variants.push_back({"tuned, without " + way.disabled, way.disabled, true});
  std::vector<Prepared> models;
  for (const Variant& variant : variants) {
    CompileOptions one = without(untuned(options), variant.disabled);
    models.push_back(prepare(path, one));
    if (variant.tuned) {
      one.tuning.database = options.tuning.database;
      models.back().tuned = std::make_shared<TunedChoices>(one, "");
    }
  }
  const std::vector<std::vector<int64_t>> inputs = input_dims(models[0], space_options(options));
  const BuildCache cache(options.build.cache, options.build.use_cache, options.build.cache_limit_bytes);
  const ScratchFolder scratch(cache.scratch_parent());
  CompileOptions build = untuned(options);
  build_models(models, scratch.path() / "variants.so", build);
  models.clear();
  const std::vector<double> ratios = tune::measure_models(scratch.path() / "variants.so", variants.size(), inputs, tuned_threads(options.tuning),
                                                          std::max(10.0, 4 * search.measure.seconds), options.build);
  if (ratios.empty()) {
    result.unchecked = "the model could not be run with the sizes it is tuned for";
    return;
  }
  size_t best = 0;
  for (size_t i = 0; i < variants.size(); ++i) {
    result.variants.push_back({variants[i].name, ratios[i]});
    if (ratios[i] < worth_it * ratios[best]) best = i;
  }
  result.chosen = variants[best].name;
  database.choose_model(place, model_key(options, sha256_of_file(path, options.import.limits.file_bytes)),
                        {variants[best].tuned, variants[best].disabled, ratios[best]});
}

}  // namespace

std::vector<tune::Subject> tuning_subjects(const std::filesystem::path& model, const CompileOptions& compile) {
  const Target& target = find_target(compile.target);
  return subjects_of(ways_of(model, compile, target), target);
}

ModelTuning tune_model(const std::filesystem::path& model, const CompileOptions& compile, const tune::TuneOptions& search, tune::Database& database,
                       bool check_known) {
  const Target& target = find_target(compile.target);
  if (!runs_here(target)) fail(ErrorKind::unsupported, "this machine cannot run kernels for {}; write them for one that can with --emit", target.name);
  if (!tune::device_is_here(target))
    fail(ErrorKind::environment, "there is no GPU here to measure kernels for {} on; write them for a machine that has one with --emit", target.name);
  const tune::Place place = tune::this_place(target, tuned_threads(compile.tuning), compile.build);
  ModelTuning result;
  result.target = target.name;
  const std::vector<Way> ways = ways_of(model, compile, target);
  const std::vector<tune::Subject> subjects = subjects_of(ways, target);
  result.search = tune::tune_kernels(subjects, target, place, database, search);
  if (subjects.empty()) return result;
  const bool decided = database.model_choice(place, model_key(compile, sha256_of_file(model, compile.import.limits.file_bytes))).has_value();
  if (compile.build.cancelled && compile.build.cancelled())
    result.unchecked = "interrupted";
  else if (!search.kernels.empty())
    result.unchecked = "only some of its kernels were tuned";
  else if (result.search.measured == 0 && (decided || !check_known))
    result.unchecked = "nothing new was measured";
  else
    measure_whole(result, model, compile, search, database, place, ways);
  return result;
}

}  // namespace tilewright
