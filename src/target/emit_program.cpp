#include "target/emit_program.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "base/error.h"
#include "base/hash.h"
#include "runtime/memory.h"
#include "schedule/streams.h"
#include "target/source/cpp_text.h"
#include "target/emit_kernel.h"
#include "target/source/print_dim.h"

namespace tilewright {
namespace {

using pattern::TensorId;
using schedule::Block;
using schedule::Placement;
using schedule::Storage;

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 32)
      out += fmt::format("\\{:03o}", static_cast<int>(c));
    else
      out += c;
  }
  return out + "\"";
}

/// What all models of the artifact share.
struct Pool {
  const Target& target;
  EmittedSources out;
  std::unordered_map<const Tensor*, size_t> constant_by_pointer;
  std::map<std::string, size_t> constant_by_content;
  std::map<std::string, int> function_by_text;  ///< kernel text without its name → number
  std::vector<std::string> functions;

  int64_t constant_offset(const std::shared_ptr<const Tensor>& tensor) {
    const auto known = constant_by_pointer.find(tensor.get());
    if (known != constant_by_pointer.end()) return out.constant_offsets[known->second];
    const std::string key = sha256(tensor->data(), tensor->byte_size());
    const auto [entry, added] = constant_by_content.emplace(key, out.constants.size());
    if (added) {
      out.constants.push_back(tensor);
      out.constant_offsets.push_back(out.weight_bytes);
      out.weight_bytes += static_cast<int64_t>((tensor->byte_size() + 63) / 64 * 64);
    }
    constant_by_pointer.emplace(tensor.get(), entry->second);
    return out.constant_offsets[entry->second];
  }

  int function(const Block& block, const schedule::Kernel& kernel) {
    schedule::Kernel anonymous = kernel;
    anonymous.name = "kernel_@";
    anonymous.source = "";
    const std::string text = emit_kernel(block, anonymous, target);
    const auto [entry, added] = function_by_text.emplace(text, static_cast<int>(functions.size()));
    if (added) {
      schedule::Kernel named = kernel;
      named.name = "kernel_" + std::to_string(entry->second);
      functions.push_back(emit_kernel(block, named, target));
    }
    return entry->second;
  }
};

/// Writes one model's namespace.
class ModelWriter {
 public:
  ModelWriter(Pool& pool, const ModelSource& model, int number) : pool_(pool), model_(model), number_(number) {}

  std::string write() {
    collect_sizes(*model_.main);
    std::string blocks;
    const int main_block = write_block(*model_.main, true, blocks);
    std::string text = fmt::format("namespace model_{} {{  // {}\n\nstruct Sizes {{\n", number_, source::one_line(model_.name));
    for (const auto& [symbol, field] : sizes_) text += fmt::format("  i64 {} = 0;\n", field);
    text += "};\n\n" + blocks;
    text += "static void run(rt::Run& r) {\n  Sizes s;\n" + bind_inputs() + fmt::format("  block_{}(r, &s, nullptr, nullptr);\n}}\n\n", main_block);
    text += kernel_table() + value_table("inputs", model_.main->program.inputs) + value_table("outputs", model_.main->program.outputs);
    text += "static const char* const features[] = {";
    for (const std::string& feature : pool_.target.features) text += quoted(feature) + ", ";
    text += "nullptr};\n";
    text += "static const char manifest[] =";
    for (size_t at = 0; at == 0 || at < model_.manifest.size(); at += 1000) text += "\n    " + quoted(model_.manifest.substr(at, 1000));
    const pattern::Program& program = model_.main->program;
    text += fmt::format(
        ";\n\nstatic const rt::Model model = {{{}, manifest, inputs, {}, outputs, {}, kernels, {}, {}, {}, {}, {}, tilewright_weights, tilewright_weights_end, "
        "features, run}};\n",
        quoted(model_.name), program.inputs.size(), program.outputs.size(), kernels_.size(), block_count_, model_.main->streams.streams, event_count_,
        pool_.target.kind != TargetKind::cpu && is_replayable(*model_.main));
    text +=
        "static tilewright_status create(const tilewright_options* options, tilewright_context** context) {\n"
        "  return rt::create(model, options, context);\n}\n"
        "static const tilewright_model_api api = rt::make_api(model, create);\n\n}  // namespace model_" +
        std::to_string(number_) + "\n\n";
    return text;
  }

 private:
  struct CallSite {
    int function;
    std::string name, source;
    size_t tensors, sizes;
  };

  /// Whether equal sizes and pointers start equal work: memory has its place before the first step, and the host looks at no data.
  static bool is_replayable(const Block& block) {
    return std::all_of(block.steps.begin(), block.steps.end(), [&](const schedule::Step& step) { return schedule::runs_on_device(block, step); }) &&
           std::none_of(block.placements.begin(), block.placements.end(), [](const Placement& one) { return one.storage == Storage::dynamic; });
  }

  void collect_sizes(const Block& block) {
    std::set<std::string> symbols(block.entry_symbols.begin(), block.entry_symbols.end());
    for (const pattern::TensorInfo& tensor : block.program.tensors)
      for (const Dim& dim : tensor.type.dims) dim.collect_symbols(symbols);
    for (const schedule::Kernel& kernel : block.kernels) symbols.insert(kernel.sizes.begin(), kernel.sizes.end());
    for (const schedule::Step& step : block.steps) {
      if (const auto* bind = std::get_if<schedule::BindSizes>(&step)) symbols.insert(bind->bind.symbols.begin(), bind->bind.symbols.end());
      if (const auto* check = std::get_if<schedule::CheckSizes>(&step)) {
        check->require.lhs.collect_symbols(symbols);
        check->require.rhs.collect_symbols(symbols);
      }
      if (const auto* call = std::get_if<schedule::CallIf>(&step)) {
        for (const auto& bound : call->pattern.bound) symbols.insert(bound.symbol);
        collect_sizes(*call->then_block);
        collect_sizes(*call->else_block);
      }
      if (const auto* call = std::get_if<schedule::CallLoop>(&step)) {
        for (const auto& bound : call->pattern.bound) symbols.insert(bound.symbol);
        for (const auto& bound : call->pattern.body_bound) symbols.insert(bound.symbol);
        collect_sizes(*call->body);
      }
    }
    for (const Placement& placement : block.placements) placement.alias_offset.collect_symbols(symbols);
    for (const std::string& symbol : symbols) {
      if (sizes_.count(symbol)) continue;
      std::string field = identifier(symbol);
      while (!fields_.insert(field).second) field += "_";
      sizes_[symbol] = field;
    }
  }

  std::string cpp(const Dim& dim) const {
    return print_dim(dim, [&](const std::string& symbol) { return "s." + sizes_.at(symbol); });
  }
  std::string list(const Dims& dims) const {
    std::string text = "{";
    for (size_t i = 0; i < dims.size(); ++i) text += (i ? ", " : "") + cpp(dims[i]);
    return text + "}";
  }
  std::string bytes(const Type& type) const { return fmt::format("rt::bytes_of({}, {})", size_of(type.dtype), list(type.dims)); }

  std::string bind_inputs() const {
    std::string text;
    std::set<std::string> bound;
    const pattern::Program& program = model_.main->program;
    for (const bool checking : {false, true})
      for (size_t i = 0; i < program.inputs.size(); ++i) {
        const pattern::TensorInfo& info = program.tensor(program.inputs[i]);
        for (size_t axis = 0; axis < info.type.dims.size(); ++axis) {
          const Dim& dim = info.type.dims[axis];
          if (dim.is_constant()) continue;
          const auto symbol = dim.as_symbol();
          const bool defines = symbol && !checking && bound.insert(*symbol).second;
          if (defines) text += fmt::format("  s.{} = r.input_dim({}, {});\n", sizes_.at(*symbol), i, axis);
          if (checking)
            text += fmt::format("  r.require_equal(r.input_dim({}, {}), {}, {});\n", i, axis, cpp(dim),
                                quoted(fmt::format("input '{}' size of axis {}", info.name, axis)));
        }
      }
    return text;
  }

  std::string kernel_table() const {
    std::string text = "static const rt::KernelInfo kernels[] = {\n";
    for (const CallSite& site : kernels_)
      text += fmt::format("    {{{}, {}, kernels::kernel_{}, {}, {}}},\n", quoted(site.name), quoted(site.source), site.function, site.tensors, site.sizes);
    return text + "    {nullptr, nullptr, nullptr, 0, 0}};\n";
  }

  std::string value_table(const std::string& what, const std::vector<TensorId>& ids) const {
    std::string dims, table = fmt::format("static const tilewright_value {}[] = {{\n", what);
    for (size_t i = 0; i < ids.size(); ++i) {
      const pattern::TensorInfo& info = model_.main->program.tensor(ids[i]);
      std::string numbers, names;
      for (const Dim& dim : info.type.dims) {
        numbers += (dim.is_constant() ? dim.str() : "-1") + ", ";
        names += (dim.is_constant() ? "nullptr" : quoted(dim.str())) + ", ";
      }
      dims +=
          fmt::format("static const int64_t {0}_dims_{1}[] = {{{2}0}};\nstatic const char* const {0}_names_{1}[] = {{{3}nullptr}};\n", what, i, numbers, names);
      table += fmt::format("    {{{}, static_cast<tilewright_dtype>({}), {}, {}_dims_{}, {}_names_{}}},\n", quoted(info.name),
                           static_cast<int>(info.type.dtype), info.type.dims.size(), what, i, what, i);
    }
    return dims + table + "    {}};\n";
  }

  /// A block being written: what its tensors are called.
  struct Scope {
    const Block& block;
    bool main;
    std::map<TensorId, std::string> pointers;  ///< of tensors that are not aliases
    std::string code;
    std::map<int, int> events = {};  ///< by the step that they follow

    schedule::StreamPlan::At at(size_t step) const { return step < block.streams.steps.size() ? block.streams.steps[step] : schedule::StreamPlan::At{}; }
    /// The last argument of what is started on a stream.
    std::string stream(int step) const {
      const int number = at(static_cast<size_t>(step)).stream;
      return number == 0 ? "" : fmt::format(", {}", number);
    }
  };

  void number_events(Scope& scope) {
    std::set<int> awaited(scope.block.streams.joined.begin(), scope.block.streams.joined.end());
    for (const schedule::StreamPlan::At& at : scope.block.streams.steps) awaited.insert(at.waits.begin(), at.waits.end());
    for (const int step : awaited) scope.events[step] = event_count_++;
  }

  std::string pointer(const Scope& scope, TensorId id) {
    const Placement& placement = scope.block.placements.at(static_cast<size_t>(id));
    if (placement.storage == Storage::alias) {
      const std::string base = pointer(scope, placement.alias_of);
      if (placement.alias_offset == Dim(0)) return base;
      return fmt::format("static_cast<void*>(static_cast<char*>({}) + {} * {})", base, cpp(placement.alias_offset),
                         size_of(scope.block.program.tensor(id).type.dtype));
    }
    const auto found = scope.pointers.find(id);
    if (found == scope.pointers.end())
      fail(ErrorKind::internal, "tensor '{}' is used before it has memory (block '{}')", scope.block.program.tensor(id).name, scope.block.program.name);
    return found->second;
  }

  std::string view(const Scope& scope, TensorId id) {
    const Type& type = scope.block.program.tensor(id).type;
    return fmt::format("rt::view({}, {}, {})", pointer(scope, id), size_of(type.dtype), list(type.dims));
  }

  int write_block(const Block& block, bool main, std::string& text) {
    const int number = block_count_++;
    Scope scope{block, main, {}, {}};
    const pattern::Program& program = block.program;
    for (size_t i = 0; i < program.inputs.size(); ++i) scope.pointers[program.inputs[i]] = main ? fmt::format("r.input({})", i) : fmt::format("in[{}].data", i);
    for (size_t id = 0; id < program.tensors.size(); ++id)
      if (block.placements[id].storage == Storage::constant)
        scope.pointers[static_cast<TensorId>(id)] = fmt::format("r.weight({})", pool_.constant_offset(program.tensors[id].constant));
    place_arena(scope, number);
    number_events(scope);
    if (const auto event = scope.events.find(schedule::StreamPlan::beginning); event != scope.events.end())
      scope.code += fmt::format("  r.record(0, {});\n", event->second);
    for (size_t step = 0; step < block.steps.size(); ++step) {
      for (const int other : scope.at(step).waits) scope.code += fmt::format("  r.wait({}, {});\n", scope.at(step).stream, scope.events.at(other));
      std::visit([&](const auto& one) { write_step(scope, static_cast<int>(step), one, text); }, block.steps[step]);
      if (const auto event = scope.events.find(static_cast<int>(step)); event != scope.events.end())
        scope.code += fmt::format("  r.record({}, {});\n", scope.at(step).stream, event->second);
      for (size_t id = 0; id < program.tensors.size(); ++id)
        if (block.placements[id].storage == Storage::dynamic && block.placements[id].last_step == static_cast<int>(step) &&
            scope.pointers.count(static_cast<TensorId>(id)))
          scope.code += fmt::format("  r.release({});\n", scope.pointers[static_cast<TensorId>(id)]);
    }
    for (const int step : block.streams.joined) scope.code += fmt::format("  r.wait(0, {});\n", scope.events.at(step));
    text += fmt::format(
        "// {}\nstatic void block_{}(rt::Run& r, void* sizes, const rt::Tensor* in, rt::Tensor* out) {{\n"
        "  Sizes& s = *static_cast<Sizes*>(sizes);\n  (void)r, (void)s, (void)in, (void)out;\n",
        source::one_line(program.name), number);
    text += scope.code + "}\n\n";
    return number;
  }

  void place_arena(Scope& scope, int number) {
    std::vector<TensorId> tensors;
    bool constant = true;
    for (size_t id = 0; id < scope.block.program.tensors.size(); ++id) {
      if (scope.block.placements[id].storage != Storage::arena) continue;
      tensors.push_back(static_cast<TensorId>(id));
      constant &= product(scope.block.program.tensors[id].type.dims).is_constant();
    }
    if (tensors.empty()) return;
    std::vector<rt::Lifetime> lifetimes;
    for (const TensorId id : tensors) {
      const Placement& placement = scope.block.placements[static_cast<size_t>(id)];
      lifetimes.push_back({placement.first_step, placement.last_step});
    }
    if (constant) {
      std::vector<int64_t> sizes;
      for (const TensorId id : tensors) {
        const Type& type = scope.block.program.tensor(id).type;
        sizes.push_back((product(type.dims) * Dim(static_cast<int64_t>(size_of(type.dtype)))).constant());
      }
      const rt::Layout layout = rt::lay_out(lifetimes.data(), sizes.data(), sizes.size());
      if (scope.main) {
        pool_.out.arena_bytes += layout.total;
        pool_.out.peak_live_bytes += rt::peak_live_bytes(lifetimes.data(), sizes.data(), sizes.size());
      }
      scope.code += fmt::format("  char* const m = r.arena({}, {});\n", number, layout.total);
      for (size_t i = 0; i < tensors.size(); ++i) scope.pointers[tensors[i]] = fmt::format("static_cast<void*>(m + {})", layout.offsets[i]);
      return;
    }
    scope.code += "  static const rt::Lifetime lifetimes[] = {";
    for (const rt::Lifetime& one : lifetimes) scope.code += fmt::format("{{{}, {}}}, ", one.first, one.last);
    scope.code += "};\n  const i64 bytes[] = {\n";
    for (const TensorId id : tensors) scope.code += "      " + bytes(scope.block.program.tensor(id).type) + ",\n";
    scope.code += fmt::format("  }};\n  char* const* const m = r.arena({}, lifetimes, bytes, {});\n", number, tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) scope.pointers[tensors[i]] = fmt::format("static_cast<void*>(m[{}])", i);
  }

  /// Gives memory to the tensors that are first written in this step and have none yet.
  void define(Scope& scope, int step) {
    for (size_t index = 0; index < scope.block.program.tensors.size(); ++index) {
      const TensorId id = static_cast<TensorId>(index);
      if (scope.block.placements[index].first_step == step && !scope.pointers.count(id)) allocate(scope, id);
    }
  }

  void allocate(Scope& scope, TensorId id) {
    const Type& type = scope.block.program.tensor(id).type;
    const Storage storage = scope.block.placements[static_cast<size_t>(id)].storage;
    const std::string name = fmt::format("t{}", id);
    if (storage == Storage::dynamic) {
      scope.code += fmt::format("  void* const {} = r.allocate({});\n", name, bytes(type));
    } else if (storage == Storage::output) {
      const auto& outputs = scope.block.program.outputs;
      const auto index = std::find(outputs.begin(), outputs.end(), id) - outputs.begin();
      if (scope.main)
        scope.code += fmt::format("  void* const {} = r.output({}, {}, {});\n", name, index, bytes(type), list(type.dims));
      else
        scope.code +=
            fmt::format("  out[{0}] = r.new_tensor({1}, {2});\n  void* const {3} = out[{0}].data;\n", index, size_of(type.dtype), list(type.dims), name);
    } else {
      return;
    }
    scope.pointers[id] = name;
  }

  void write_step(Scope& scope, int step, const schedule::RunKernel& run, std::string&) {
    define(scope, step);
    const schedule::Kernel& kernel = scope.block.kernels.at(static_cast<size_t>(run.kernel));
    const int function = pool_.function(scope.block, kernel);
    std::string tensors, sizes;
    for (const TensorId id : kernel.tensors) tensors += (tensors.empty() ? "" : ", ") + pointer(scope, id);
    for (const std::string& symbol : kernel.sizes) sizes += (sizes.empty() ? "s." : ", s.") + sizes_.at(symbol);
    scope.code += fmt::format("  {{  // {}\n    void* const tensors[] = {{{}}};\n", source::one_line(kernel.source), tensors);
    if (!sizes.empty()) scope.code += fmt::format("    const i64 sizes_of_kernel[] = {{{}}};\n", sizes);
    scope.code += fmt::format("    r.call({}, tensors, {}{});\n  }}\n", kernels_.size(), sizes.empty() ? "nullptr" : "sizes_of_kernel", scope.stream(step));
    kernels_.push_back({function, kernel.name, kernel.source, kernel.tensors.size(), kernel.sizes.size()});
    ++pool_.out.kernel_count;
  }

  void write_step(Scope& scope, int step, const schedule::BindSizes& bind, std::string&) {
    define(scope, step);
    const pattern::TensorInfo& info = scope.block.program.tensor(bind.bind.tensor);
    for (size_t i = 0; i < bind.bind.symbols.size(); ++i)
      scope.code += fmt::format("  s.{} = r.size_from(r.read<{}>({}, {}), {});\n", sizes_.at(bind.bind.symbols[i]),
                                info.type.dtype == DType::i32 ? "int32_t" : "i64", pointer(scope, bind.bind.tensor), i, quoted(bind.bind.source));
  }

  void write_step(Scope& scope, int step, const schedule::CheckSizes& check, std::string&) {
    define(scope, step);
    scope.code += fmt::format("  r.require_equal({}, {}, {});\n", cpp(check.require.lhs), cpp(check.require.rhs),
                              quoted(check.require.source + ": " + check.require.message));
  }

  void write_step(Scope& scope, int step, const schedule::CopyTensor& copy, std::string&) {
    define(scope, step);
    scope.code += fmt::format("  r.copy({}, {}, {}{});\n", pointer(scope, copy.to), pointer(scope, copy.from), bytes(scope.block.program.tensor(copy.to).type),
                              scope.stream(step));
  }

  /// Takes over the tensors that a called block returned in `results`.
  void receive(Scope& scope, const std::vector<TensorId>& outputs, const std::vector<pattern::BoundSymbol>& bound, const std::string& results) {
    for (const pattern::BoundSymbol& one : bound)
      scope.code += fmt::format("  s.{} = {}[{}].dims[{}];\n", sizes_.at(one.symbol), results, one.output, one.axis);
    for (size_t i = 0; i < outputs.size(); ++i) {
      const TensorId id = outputs[i];
      const Placement& placement = scope.block.placements.at(static_cast<size_t>(id));
      const std::string result = fmt::format("{}[{}]", results, i);
      if (placement.storage == Storage::dynamic) {
        scope.pointers[id] = result + ".data";
        continue;
      }
      if (placement.storage != Storage::unused) {
        if (!scope.pointers.count(id)) allocate(scope, id);
        scope.code += fmt::format("  r.copy({1}, {0}.data, {0}.bytes);\n", result, pointer(scope, id));
      }
      scope.code += fmt::format("  r.release({}.data);\n", result);
    }
  }

  std::string operands(const Scope& scope, const std::string& name, const std::vector<TensorId>& first, const std::vector<TensorId>& second) {
    std::string text = fmt::format("  const rt::Tensor {}[] = {{", name);
    for (const auto* ids : {&first, &second})
      for (const TensorId id : *ids) text += view(scope, id) + ", ";
    return text + "{}};\n";
  }

  void write_step(Scope& scope, int step, const schedule::CallIf& call, std::string& text) {
    const int then_number = write_block(*call.then_block, false, text);
    const int else_number = write_block(*call.else_block, false, text);
    const std::string results = fmt::format("results_{}", step), inputs = fmt::format("operands_{}", step);
    scope.code += operands(scope, inputs, call.pattern.inputs, {});
    scope.code += fmt::format("  rt::Tensor {}[{}];\n", results, call.pattern.outputs.size() + 1);
    scope.code += fmt::format("  if (r.read<bool>({})) block_{}(r, sizes, {}, {});\n  else block_{}(r, sizes, {}, {});\n",
                              pointer(scope, call.pattern.condition), then_number, inputs, results, else_number, inputs, results);
    receive(scope, call.pattern.outputs, call.pattern.bound, results);
  }

  void write_step(Scope& scope, int step, const schedule::CallLoop& call, std::string& text) {
    const pattern::Loop& loop = call.pattern;
    const int body = write_block(*call.body, false, text);
    const std::string results = fmt::format("results_{}", step), inputs = fmt::format("operands_{}", step), elements = fmt::format("elements_{}", step);
    const size_t scanned = loop.outputs.size() - loop.carried.size();
    scope.code += operands(scope, inputs, loop.carried, loop.invariants);
    scope.code += fmt::format("  rt::Tensor {}[{}];\n", results, loop.outputs.size() + 1);
    scope.code += fmt::format("  const rt::Tensor {}[] = {{", elements);
    for (size_t i = 0; i < scanned; ++i) {
      const Type& stacked = scope.block.program.tensor(loop.outputs[loop.carried.size() + i]).type;
      const Dims inner(stacked.dims.begin() + 1, stacked.dims.end());
      std::set<std::string> bound_after;
      for (const auto& one : loop.bound) bound_after.insert(one.symbol);
      Dims known;
      for (const Dim& dim : inner) {
        std::set<std::string> symbols;
        dim.collect_symbols(symbols);
        const bool late = std::any_of(symbols.begin(), symbols.end(), [&](const std::string& symbol) { return bound_after.count(symbol) > 0; });
        known.push_back(late ? Dim(0) : dim);
      }
      scope.code += fmt::format("rt::view(nullptr, {}, {}), ", size_of(stacked.dtype), list(known));
    }
    scope.code += "{}};\n";
    std::string before = "nullptr";
    if (!loop.body_bound.empty()) {
      before = "[](void* z, const rt::Tensor* carried) {";
      for (const auto& one : loop.body_bound)
        before += fmt::format(" static_cast<Sizes*>(z)->{} = carried[{}].dims[{}];", sizes_.at(one.symbol), one.output, one.axis);
      before += " }";
    }
    const std::string trip = loop.trip_count < 0 ? "-1" : fmt::format("rt::max(0, r.read<i64>({}))", pointer(scope, loop.trip_count));
    const std::string condition = loop.condition < 0 ? "true" : fmt::format("r.read<bool>({})", pointer(scope, loop.condition));
    scope.code += fmt::format("  rt::run_loop(r, sizes, {{{}, {}, {}, {}, {}}}, {}, {}, block_{}, {}, {});\n", trip, condition, loop.carried.size(),
                              loop.invariants.size(), scanned, inputs, results, body, before, elements);
    receive(scope, loop.outputs, loop.bound, results);
  }

  Pool& pool_;
  const ModelSource& model_;
  int number_;
  int block_count_ = 0, event_count_ = 0;
  std::vector<CallSite> kernels_;
  std::map<std::string, std::string> sizes_;  ///< named size → field of Sizes
  std::set<std::string> fields_;
};

std::string exports(const std::vector<ModelSource>& models) {
  std::string text =
      "extern \"C\" __attribute__((visibility(\"default\"))) const tilewright_model_api* tilewright_model(int32_t index) {\n"
      "  static const tilewright_model_api* const models[] = {";
  for (size_t i = 0; i < models.size(); ++i) text += fmt::format("{}&model_{}::api", i ? ", " : "", i);
  text += fmt::format("}};\n  return index >= 0 && index < {} ? models[index] : nullptr;\n}}\n", models.size());
  std::set<std::string> named;
  for (size_t i = 0; i < models.size(); ++i)
    if (const std::string name = identifier(models[i].name); named.insert(name).second)
      text += fmt::format(
          "extern \"C\" __attribute__((visibility(\"default\"))) const tilewright_model_api* tilewright_model_{}(int32_t index) {{\n"
          "  return index == 0 ? &model_{}::api : nullptr;\n}}\n",
          name, i);
  return text;
}

}  // namespace

EmittedSources emit_sources(const std::vector<ModelSource>& models, const Target& target, int units) {
  Pool pool{target, {}, {}, {}, {}, {}};
  std::string bodies;
  for (size_t i = 0; i < models.size(); ++i) bodies += ModelWriter(pool, models[i], static_cast<int>(i)).write();

  std::string program =
      "// The host program: sizes, memory and the order of kernels. Written by tilewright.\n#include <cstring>\n\n#include \"runtime/context.h\"\n\n"
      "namespace rt = tilewright::rt;\nusing rt::i64;\nextern \"C\" const char tilewright_weights[], tilewright_weights_end[];\n"
      "\nnamespace kernels {\n";
  for (size_t i = 0; i < pool.functions.size(); ++i) program += fmt::format("void kernel_{}(const tile::Args& a);\n", i);
  program += "}  // namespace kernels\n\n" + bodies + exports(models);
  pool.out.program.push_back({"model.cpp", std::move(program)});

  const int count = static_cast<int>(pool.functions.size());
  const int files = std::clamp(units, 1, std::max(count, 1));
  const std::string includes = kernel_includes(target);
  for (int file = 0; file < files && count > 0; ++file) {
    std::string text = includes + "\nnamespace kernels {\n\n";
    for (int i = file; i < count; i += files) text += pool.functions[static_cast<size_t>(i)] + "\n";
    pool.out.kernels.push_back({fmt::format("kernels_{}.{}", file, target.is_gpu() ? "cu" : "cpp"), text + "}  // namespace kernels\n"});
  }
  pool.out.distinct_kernel_count = count;
  return std::move(pool.out);
}

}  // namespace tilewright
