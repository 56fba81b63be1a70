#include "compiler/tuned_choices.h"

#include "base/error.h"
#include "base/hash.h"
#include "target/kernel_space.h"
#include "tune/place.h"

namespace tilewright {

namespace {

std::string fixed_text(const onnx::FixedValue& fixed) {
  if (const auto* tensor = std::get_if<Tensor>(&fixed)) return sha256(tensor->data(), tensor->byte_size());
  if (const auto* integer = std::get_if<int64_t>(&fixed)) return fmt::format("{}", *integer);
  return fmt::format("{}", std::get<double>(fixed));
}

/// The place of another machine's measurements for the target.
tune::Place place_of(const tune::Database& database, const std::string& machine, const Target& target, int threads) {
  std::string known;
  for (const tune::Place& place : database.places()) {
    if (place.space == space_version && place.machine.starts_with(machine) && place.machine.ends_with(tune::machine_fingerprint("", target, threads)))
      return place;
    known += (known.empty() ? "" : "; ") + place.machine;
  }
  fail(ErrorKind::invalid_input, "nothing was measured on a machine '{}' for {} with {} threads; known: {}", machine, target.name, threads, known);
}

}  // namespace

int tuned_threads(const TuningChoice& tuning) { return tuning.threads > 0 ? tuning.threads : usable_cores(); }

SpaceOptions space_options(const CompileOptions& options) {
  return {tuned_threads(options.tuning), options.disabled_passes.count("winograd") == 0, options.precision.names(Policy::bf16), options.tuning.sizes};
}

std::string model_key(const CompileOptions& options, const std::string& source_hash) {
  std::string text = source_hash;
  for (const auto& [name, dims] : options.import.shapes) {
    text += "\nshape " + name;
    for (const Dim& dim : dims) text += " " + dim.str();
  }
  for (const auto& [name, size] : options.import.sizes) text += fmt::format("\nsize {}={}", name, size);
  for (const auto& [name, size] : options.tuning.sizes) text += fmt::format("\nrun {}={}", name, size);
  for (const auto& [name, fixed] : options.import.constants) text += fmt::format("\nconstant {}={}", name, fixed_text(fixed));
  for (const std::string& pass : options.disabled_passes) text += "\nwithout " + pass;
  if (const std::string precision = options.precision.str(); precision != "fp32") text += "\npolicy " + precision;
  return sha256(text);
}

TunedChoices::TunedChoices(const CompileOptions& options, const std::string& source_hash)
    : target_(find_target(options.target)),
      space_(space_options(options)),
      must_know_(options.tuning.must_know),
      database_(options.tuning.database, tune::Database::Access::read),
      place_(options.tuning.machine.empty() ? tune::place_of_choices(database_, target_, space_.threads, options.build)
                                            : place_of(database_, options.tuning.machine, target_, space_.threads)) {
  const std::optional<tune::ModelChoice> model = database_.model_choice(place_, model_key(options, source_hash));
  if (!model) return;
  use_ = model->tuned;
  for (size_t at = 0; at < model->disabled.size();) {
    const size_t end = std::min(model->disabled.find(',', at), model->disabled.size());
    disabled_.insert(model->disabled.substr(at, end - at));
    at = end + 1;
  }
  space_.winograd = space_.winograd && disabled_.count("winograd") == 0;
}

std::optional<schedule::KernelConfig> TunedChoices::choose(const schedule::Block& block, const schedule::Kernel& kernel) {
  const std::optional<KernelSpace> space = kernel_space(block, kernel, target_, space_);
  if (!space || space->configs.size() < 2) return std::nullopt;
  const tune::KernelKey key = tune::key_of(*space);
  const std::optional<tune::Choice> exact = database_.choice(place_, key);
  exact ? static_cast<void>(++known_) : missing_.push_back(kernel.source);
  if (!use_) return std::nullopt;
  const std::optional<tune::Choice> choice = exact ? exact : database_.near_choice(place_, key);
  if (!choice) return std::nullopt;
  const schedule::KernelConfig config = schedule::parse_kernel_config(choice->config);
  // A neighbour's choice has to be one that this kernel's own rules do not rule out.
  if (!exact && std::find(space->configs.begin(), space->configs.end(), config) == space->configs.end()) return std::nullopt;
  return config;
}

void TunedChoices::add_to(CompileReport& report) const {
  report.tuned += known_;
  report.untuned += static_cast<int>(missing_.size());
  if (!must_know_ || missing_.empty()) return;
  fail(ErrorKind::environment,
       "{} of {} kernels were never measured on this machine ({}), the first: {}; run `tilewright tune` on the model, or compile without "
       "--error-on-miss",
       missing_.size(), known_ + static_cast<int>(missing_.size()), place_.machine, missing_[0]);
}

}  // namespace tilewright
