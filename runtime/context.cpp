// The C interface over Run. Compiled for the architecture's baseline, so that a machine without the target's features
// gets an error and not an illegal instruction.
#include "runtime/context.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>
#include <string>

#include "runtime/cores.h"
#include "runtime/cpu_features.h"

namespace tilewright::rt {
namespace {

thread_local std::string creation_failure;

/// The first that the machine lacks; empty: none.
std::string missing_feature(const Model& model) {
  for (const char* const* feature = model.features; *feature != nullptr; ++feature)
    if (!has_cpu_feature(*feature)) return *feature;
  return {};
}

}  // namespace
}  // namespace tilewright::rt

struct tilewright_context {
  tilewright::rt::Run run;
  std::string error;
  tilewright_context(const tilewright::rt::Model& model, int threads, tilewright::rt::Pinning pinning) : run(model, threads, pinning) {}
};

namespace tilewright::rt {
namespace {

/// Runs `body`; failures become the context's text.
template <class F>
tilewright_status guarded(std::string& error, F&& body) {
  try {
    body();
    error.clear();
    return TILEWRIGHT_OK;
  } catch (const Failure& failure) {
    error = failure.text;
    return failure.status;
  } catch (const std::bad_alloc&) {
    error = "out of memory";
    return TILEWRIGHT_ENVIRONMENT;
  } catch (const std::exception& failure) {
    error = failure.what();
    return TILEWRIGHT_INTERNAL;
  }
}

std::string dims_text(const int64_t* dims, int rank) {
  std::string text = "[";
  for (int i = 0; i < rank; ++i) text += (i ? "," : "") + std::to_string(dims[i]);
  return text + "]";
}

std::string expected_text(const tilewright_value& value) {
  std::string text = "[";
  for (int i = 0; i < value.rank; ++i) text += std::string(i ? "," : "") + (value.dims[i] >= 0 ? std::to_string(value.dims[i]) : value.dim_names[i]);
  return text + "]";
}

void check_index(int32_t index, int count, const char* what) {
  if (index < 0 || index >= count)
    throw Failure{TILEWRIGHT_INVALID_INPUT,
                  std::string("the model has ") + std::to_string(count) + " " + what + "s; there is no " + what + " " + std::to_string(index)};
}

constexpr i64 element_bytes[] = {8, 4, 2, 2, 1, 1, 1, 1, 1, 1, 8, 4, 2, 1, 1, 1, 8, 4, 2, 1, 1, 1, 1};

void bind_input(Run& run, int32_t index, const void* data, const int64_t* dims, int32_t rank) {
  check_index(index, run.model().input_count, "input");
  const tilewright_value& value = run.model().inputs[index];
  bool fits = rank == value.rank && (rank == 0 || dims != nullptr);
  for (int i = 0; fits && i < rank; ++i) fits = dims[i] >= 0 && (value.dims[i] < 0 || value.dims[i] == dims[i]);
  if (!fits)
    throw Failure{TILEWRIGHT_INVALID_INPUT,
                  std::string("input '") + value.name + "' got " + (dims || rank == 0 ? dims_text(dims, rank) : "no dims") + ", wants " + expected_text(value)};
  Tensor tensor;
  tensor.data = const_cast<void*>(data);
  tensor.rank = rank;
  const bool empty = std::count(dims, dims + rank, 0) > 0;
  tensor.bytes = empty ? 0 : element_bytes[value.dtype];
  for (int i = 0; i < rank; ++i) {
    tensor.dims[i] = dims[i];
    if (__builtin_mul_overflow(tensor.bytes, dims[i], &tensor.bytes))
      throw Failure{TILEWRIGHT_INVALID_INPUT, std::string("input '") + value.name + "' " + dims_text(dims, rank) + " is too large"};
  }
  if (data == nullptr && tensor.bytes != 0) throw Failure{TILEWRIGHT_INVALID_INPUT, std::string("input '") + value.name + "' has no data"};
  static const char nothing[64] = {};
  if (data == nullptr) tensor.data = const_cast<char*>(nothing);
  run.inputs[static_cast<size_t>(index)] = tensor;
}

void run_once(Run& run) {
  for (int i = 0; i < run.model().input_count; ++i)
    if (run.inputs[static_cast<size_t>(i)].data == nullptr)
      throw Failure{TILEWRIGHT_INVALID_INPUT, std::string("input '") + run.model().inputs[i].name + "' was not set"};
  struct Finish {
    Pool& pool;
    ~Finish() { pool.finish_run(); }
  } finish{run.pool};
  run.timed.clear();
  run.execute();
  run.add_timings();
}

/// What the caller gave; fields that are younger than its header are 0.
tilewright_options known_options(const tilewright_options* options) {
  constexpr size_t least_size = offsetof(tilewright_options, flags);  // sizeof(tilewright_options) before there were flags
  tilewright_options known{};
  if (options == nullptr) return known;
  if (options->struct_size < least_size)
    throw Failure{TILEWRIGHT_INVALID_INPUT, "options.struct_size is " + std::to_string(options->struct_size) + "; set it to sizeof(tilewright_options)"};
  std::memcpy(&known, options, std::min(options->struct_size, sizeof known));
  return known;
}

}  // namespace

tilewright_status create(const Model& model, const tilewright_options* options, tilewright_context** context) {
  if (context == nullptr) return TILEWRIGHT_INVALID_INPUT;
  *context = nullptr;
  return guarded(creation_failure, [&] {
    if (const std::string feature = missing_feature(model); !feature.empty())
      throw Failure{TILEWRIGHT_ENVIRONMENT, std::string("model '") + model.name + "' was compiled for a machine with " + feature + ", which this one lacks" +
                                                (feature.starts_with("amx") ? " or keeps from this process" : "") +
                                                "; compile it again with --target native here"};
    device::open();
    const tilewright_options known = known_options(options);
    if (known.threads < 0 || known.threads > 1024) throw Failure{TILEWRIGHT_INVALID_INPUT, "threads must be 0 (all cores) to 1024"};
    if ((known.flags & ~uint64_t{TILEWRIGHT_PIN_WORKERS}) != 0)
      throw Failure{TILEWRIGHT_INVALID_INPUT, "options.flags is " + std::to_string(known.flags) + "; this artifact knows TILEWRIGHT_PIN_WORKERS (1) alone"};
    *context = new tilewright_context(model, known.threads == 0 ? usable_cores() : known.threads,
                                      (known.flags & TILEWRIGHT_PIN_WORKERS) != 0 ? Pinning::workers : Pinning::none);
  });
}

const char* creation_error() { return creation_failure.c_str(); }
void destroy(tilewright_context* context) { delete context; }

tilewright_status set_input(tilewright_context* context, int32_t index, const void* data, const int64_t* dims, int32_t rank) {
  return guarded(context->error, [&] { bind_input(context->run, index, data, dims, rank); });
}

tilewright_status set_output(tilewright_context* context, int32_t index, void* data, size_t bytes) {
  return guarded(context->error, [&] {
    check_index(index, context->run.model().output_count, "output");
    context->run.destinations[static_cast<size_t>(index)] = {data, bytes};
  });
}

tilewright_status run(tilewright_context* context) {
  return guarded(context->error, [&] { run_once(context->run); });
}

tilewright_status get_output(tilewright_context* context, int32_t index, const void** data, const int64_t** dims, int32_t* rank) {
  return guarded(context->error, [&] {
    check_index(index, context->run.model().output_count, "output");
    const Tensor& tensor = context->run.outputs[static_cast<size_t>(index)];
    if (tensor.data == nullptr) throw Failure{TILEWRIGHT_INVALID_INPUT, "there are no outputs before the first successful run"};
    *data = tensor.data;
    *dims = tensor.dims;
    *rank = tensor.rank;
  });
}

const char* error_text(const tilewright_context* context) { return context->error.c_str(); }

tilewright_status set_profiling(tilewright_context* context, int32_t on) {
  context->run.profiling = on != 0;
  std::fill(context->run.timings.begin(), context->run.timings.end(), Run::Timing{});
  return TILEWRIGHT_OK;
}

int32_t read_profile(const tilewright_context* context, tilewright_profile_entry* entries, int32_t capacity) {
  const Model& model = context->run.model();
  for (int i = 0; i < model.kernel_count && i < capacity; ++i) {
    const Run::Timing& timing = context->run.timings[static_cast<size_t>(i)];
    entries[i] = {model.kernels[i].name, model.kernels[i].source, timing.calls, timing.seconds};
  }
  return model.kernel_count;
}

size_t memory_bytes(const tilewright_context* context) {
  const Run& run = context->run;
  size_t total = run.pool.held_bytes() + run.threads.scratch_bytes();
  for (const Arena& arena : run.arenas) total += arena.capacity();
  for (const auto* buffers : {&run.device_inputs, &run.device_outputs})
    for (const DeviceBuffer& buffer : *buffers) total += buffer.capacity();
  for (const Buffer& buffer : run.output_memory) total += buffer.capacity();
  return total;
}

tilewright_model_api make_api(const Model& model, tilewright_status (*create_this)(const tilewright_options*, tilewright_context**)) {
  return {TILEWRIGHT_ABI_VERSION,
          sizeof(tilewright_model_api),
          model.name,
          model.manifest,
          model.input_count,
          model.output_count,
          model.inputs,
          model.outputs,
          create_this,
          creation_error,
          destroy,
          set_input,
          set_output,
          run,
          get_output,
          error_text,
          set_profiling,
          read_profile,
          memory_bytes};
}

}  // namespace tilewright::rt
