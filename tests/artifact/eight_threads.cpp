// Eight threads, each with its own contexts on one loaded artifact, half of them pinned, must get the same bytes. Built apart, so that it and the
// artifact's emitted source can be compiled with the thread sanitizer: see scripts/check_artifacts.
#include <cstdio>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>

#include "tilewright/model.hpp"

namespace {

using Bytes = std::vector<unsigned char>;

size_t element_bytes(tilewright_dtype dtype) {
  switch (dtype) {
    case TILEWRIGHT_F64:
    case TILEWRIGHT_I64:
    case TILEWRIGHT_U64: return 8;
    case TILEWRIGHT_F32:
    case TILEWRIGHT_I32:
    case TILEWRIGHT_U32: return 4;
    case TILEWRIGHT_F16:
    case TILEWRIGHT_BF16:
    case TILEWRIGHT_I16:
    case TILEWRIGHT_U16: return 2;
    default: return 1;
  }
}

size_t byte_size(tilewright_dtype dtype, const std::vector<int64_t>& dims) {
  size_t bytes = element_bytes(dtype);
  for (const int64_t dim : dims) bytes *= static_cast<size_t>(dim);
  return bytes;
}

/// All outputs of `runs` runs, with run-time sizes 1 and 2 by turns: each context plans its memory anew.
Bytes run_all(const tilewright::Model& model, int runs, int pool_threads, uint64_t flags) {
  tilewright::Context context(model, pool_threads, flags);
  Bytes all;
  for (int run = 0; run < runs; ++run) {
    std::mt19937 random(static_cast<unsigned>(run));
    std::vector<std::vector<float>> inputs;
    for (int i = 0; i < model.api().input_count; ++i) {
      const tilewright_value& value = model.api().inputs[i];
      std::vector<int64_t> dims(value.dims, value.dims + value.rank);
      for (int64_t& dim : dims) dim = dim < 0 ? 1 + run % 2 : dim;
      inputs.emplace_back((byte_size(value.dtype, dims) + 3) / 4);
      if (value.dtype == TILEWRIGHT_F32)
        for (float& element : inputs.back()) element = static_cast<float>(random() % 1000) / 1000;
      context.set_input(i, inputs.back().data(), dims);
    }
    context.run();
    for (int i = 0; i < model.api().output_count; ++i) {
      const auto output = context.output(i);
      const auto* bytes = static_cast<const unsigned char*>(output.data);
      all.insert(all.end(), bytes, bytes + byte_size(model.api().outputs[i].dtype, output.dims));
    }
  }
  return all;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) return 2;
  const tilewright::Model model(argv[1]);
  constexpr int threads = 8, runs = 20;
  const Bytes expected = run_all(model, runs, 1, 0);
  std::mutex guard;
  int wrong = 0;
  std::vector<std::thread> team;
  for (int i = 0; i < threads; ++i)
    team.emplace_back([&, i] {
      std::string trouble;
      try {
        if (run_all(model, runs, 1 + i % 3, i < threads / 2 ? 0 : TILEWRIGHT_PIN_WORKERS) != expected) trouble = "other bytes than one thread alone";
      } catch (const std::exception& failure) {
        trouble = failure.what();
      }
      const std::lock_guard lock(guard);
      if (!trouble.empty()) std::printf("thread %d: %s\n", i, trouble.c_str()), ++wrong;
    });
  for (std::thread& thread : team) thread.join();
  std::printf("%d of %d threads agree over %d runs, %zu bytes\n", threads - wrong, threads, runs, expected.size());
  return wrong == 0 ? 0 : 1;
} catch (const std::exception& failure) {
  std::fprintf(stderr, "eight_threads: %s\n", failure.what());
  return 1;
}
