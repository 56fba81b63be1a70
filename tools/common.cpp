#include "common.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <optional>

#include "arguments.h"

namespace tilewright::tools {
namespace {

std::atomic<int> signals{0};

struct ExitCode {
  int number;
  std::optional<ErrorKind> kind;
  const char* meaning;
};
constexpr ExitCode table_of_exit_codes[] = {
    {exit_done, std::nullopt, "done"},
    {1, ErrorKind::invalid_input, "a model, a file or an option is wrong"},
    {2, ErrorKind::unsupported, "not supported"},
    {3, ErrorKind::environment, "the environment: compiler, disk, memory, machine"},
    {4, ErrorKind::internal, "our bug"},
    {exit_differs, std::nullopt, "verify: results differ by more than is promised"},
};

}  // namespace

int exit_code_of(ErrorKind kind) {
  for (const ExitCode& code : table_of_exit_codes)
    if (code.kind == kind) return code.number;
  return exit_code_of(ErrorKind::internal);
}

std::string exit_codes() {
  std::string text = "Exit codes:\n";
  for (const ExitCode& code : table_of_exit_codes) text += fmt::format("  {}  {}\n", code.number, code.meaning);
  return text;
}

void note_interrupt(int signal) {
  if (signals.fetch_add(1) > 0) _exit(128 + signal);
}
bool interrupted() { return signals.load() > 0; }

void CompileChoice::add_to(CLI::App& command) {
  std::string targets = "machine to compile for: native";
  for (const Target& one : all_targets())
    if (one.name.starts_with("cpu:")) targets += ", " + one.name;
  command.add_option("--target", target, targets)->capture_default_str();
  command.add_option("--policy", policy, "precision of products: fp32, tf32, bf16, fp16 (weights and activations; sums stay fp32)")->capture_default_str();
  command.add_option(
      "--policy-for", policies_for,
      "precision of some: 'head*=fp32' by the model's node names (* and ? stand for characters), conv=bf16 by operator; repeatable, the last one counts");
  command.add_option("--shape", shapes, "sizes of an input: input=1x3x224x224, or ids=batch,128 where batch stays a run-time size; repeatable");
  command.add_option("--size", sizes, "fixes a run-time size of the inputs by its name: batch=8; repeatable");
  command.add_option("--constant", constants, "fixes an input: axes=axes.npy, axes=axes.pb, or a number for all its elements, axis=1; repeatable");
  command.add_option("--disable", disabled, "switch a pass off by name; repeatable");
  command.add_option("--dump-dir", dump_dir, "write the model's text form after every stage there");
  command.add_option("--stop-after", stop_after, "stop after this stage: import, a pass of the graph, optimise, lower, schedule, emit");
  command.add_flag("--verify-passes", verify_passes, "check the graph after every pass");
  command.add_option("--cxx", compiler, "C++ compiler for the kernels (default: $TILEWRIGHT_CXX or g++)");
  command.add_option("-j,--jobs", jobs, "compilers at once (default: one a core)")->check(CLI::Range(0, 256));
  command.add_flag("--no-cache", no_cache, "compile everything anew");
}

CompileOptions CompileChoice::finish() const {
  CompileOptions options;
  options.target = target;
  options.precision.policy = parse_policy(policy);
  for (const std::string& text : policies_for) options.precision.rules.push_back(parse_policy_rule(text));
  options.dump_dir = dump_dir;
  options.stop_after = stop_after;
  options.disabled_passes = {disabled.begin(), disabled.end()};
  options.verify_between_passes = verify_passes;
  options.build.compiler = compiler;
  options.build.jobs = jobs;
  options.build.use_cache = !no_cache;
  options.build.cancelled = interrupted;
  for (const std::string& text : shapes) options.import.shapes.insert(parse_shape(text));
  for (const std::string& text : sizes) options.import.sizes.insert(parse_size(text));
  for (const std::string& text : constants) options.import.constants.insert(parse_constant(text));
  return options;
}

void ContextChoice::add_to(CLI::App& command) {
  command.add_option("--threads", threads, "0: all cores")->check(CLI::Range(0, 1024));
  command.add_flag("--pin", pin, "bind each thread but the calling one to a core of its own");
}

Context ContextChoice::open(const Model& model) const { return open_context(model, threads, pin ? TILEWRIGHT_PIN_WORKERS : 0); }

}  // namespace tilewright::tools
