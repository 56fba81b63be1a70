#pragma once

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/process.h"
#include "base/tensor.h"
#include "target/emit_kernel.h"
#include "tile/testing/teams.h"

/// Compiles the kernels of blocks and runs them over plain memory, for tests: no runtime, no artifact.
namespace tilewright::testing {

class CompiledBlocks {
 public:
  /// Kernel k of block b becomes `b<b>_k<k>`. `optimisation`: -O2 for CPUs, -O0 for emulated machines, unless told: of many kernels that run once,
  /// most of the time is the compiler's.
  explicit CompiledBlocks(std::vector<schedule::Block> blocks, const std::string& target_name = "native", std::string optimisation = {})
      : blocks_(std::move(blocks)) {
    const Target& target = find_target(target_name);
    if (optimisation.empty()) optimisation = target.kind == TargetKind::cpu ? "-O2" : "-O0";
    std::string text = kernel_includes(target) + "namespace kernels {\n", entries;
    for (size_t b = 0; b < blocks_.size(); ++b)
      for (size_t k = 0; k < blocks_[b].kernels.size(); ++k) {
        schedule::Kernel kernel = blocks_[b].kernels[k];
        kernel.name = function_name(b, k);
        text += emit_kernel(blocks_[b], kernel, target) + "\n";
        entries += fmt::format("extern \"C\" void {0}(const tile::Args& a) {{ kernels::{0}(a); }}\n", kernel.name);
      }
    text += "}\n" + entries;
    const char* kept = std::getenv("TILEWRIGHT_TEST_KEEP");
    const std::filesystem::path folder =
        kept ? kept : std::filesystem::temp_directory_path() / ("tilewright_kernels_" + std::to_string(getpid()) + "_" + std::to_string(counter()++));
    std::filesystem::create_directories(folder);
    const std::filesystem::path source = folder / "kernels.cpp", library = folder / "kernels.so";
    write_file(source, text);
    std::vector<std::string> command = {
        "g++",     "-std=c++20", optimisation, "-ftree-vectorize",    "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
        "-shared", "-fPIC",      "-w",         "-I" TILEWRIGHT_SOURCE};
    command.insert(command.end(), target.compile_flags.begin(), target.compile_flags.end());
    command.insert(command.end(), {"-o", library.string(), source.string()});
    command.insert(command.end(), target.link_flags.begin(), target.link_flags.end());
    const ProcessResult result = run_process(command);
    if (result.exit_code != 0) fail(ErrorKind::internal, "generated kernels do not compile ({}):\n{}", source.string(), result.output.substr(0, 6000));
    handle_ = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ == nullptr) fail(ErrorKind::internal, "cannot load {}: {}", library.string(), dlerror());
    if (kept == nullptr) std::filesystem::remove_all(folder);
  }
  ~CompiledBlocks() {
    if (handle_) dlclose(handle_);
  }
  CompiledBlocks(const CompiledBlocks&) = delete;
  CompiledBlocks& operator=(const CompiledBlocks&) = delete;

  const schedule::Block& block(size_t b) const { return blocks_.at(b); }

  /// Runs block `b` with a team of `threads`.
  std::vector<Tensor> run(size_t b, const std::vector<Tensor>& inputs, int threads = 2) const {
    std::map<std::string, int64_t> sizes;
    return Run{*this, b, inputs, threads, sizes, {}, {}}.all();
  }

 private:
  static std::string function_name(size_t b, size_t k) { return "b" + std::to_string(b) + "_k" + std::to_string(k); }
  static std::atomic<int>& counter() {
    static std::atomic<int> count = 0;
    return count;
  }

  struct Run {
    const CompiledBlocks& compiled;
    size_t b;
    const std::vector<Tensor>& inputs;
    int threads;
    std::map<std::string, int64_t>& sizes;
    std::map<int, std::vector<char>> memory;  ///< by tensor
    std::map<int, const void*> outside;       ///< inputs and constants

    const schedule::Block& block() const { return compiled.blocks_[b]; }

    int64_t bytes(int id) const {
      const Type& type = block().program.tensor(id).type;
      return product(type.dims).evaluate(sizes) * static_cast<int64_t>(size_of(type.dtype));
    }

    void* pointer(int id) {
      const schedule::Placement& placement = block().placements.at(static_cast<size_t>(id));
      if (placement.storage == schedule::Storage::alias) {
        const int64_t offset = placement.alias_offset.evaluate(sizes) * static_cast<int64_t>(size_of(block().program.tensor(id).type.dtype));
        return static_cast<char*>(pointer(placement.alias_of)) + offset;
      }
      if (outside.count(id)) return const_cast<void*>(outside[id]);
      if (placement.storage == schedule::Storage::unused) fail(ErrorKind::internal, "tensor {} has no place", id);
      auto [entry, added] = memory.try_emplace(id);
      // Room for nothing behind: what is read or written outside shows up under a sanitizer.
      if (added) entry->second.assign(static_cast<size_t>(bytes(id)), '\x7f');
      return entry->second.data();
    }

    std::vector<Tensor> all() {
      const pattern::Program& program = block().program;
      for (const bool checking : {false, true})
        for (size_t i = 0; i < inputs.size(); ++i)
          for (size_t axis = 0; axis < inputs[i].rank(); ++axis) {
            const Dim& dim = program.tensor(program.inputs[i]).type.dims.at(axis);
            if (const auto symbol = dim.as_symbol(); symbol && !checking) sizes.emplace(*symbol, inputs[i].dims()[axis]);
          }
      for (size_t i = 0; i < inputs.size(); ++i) outside[program.inputs[i]] = inputs[i].data();
      for (size_t id = 0; id < program.tensors.size(); ++id)
        if (program.tensors[id].constant) outside[static_cast<int>(id)] = program.tensors[id].constant->data();
      for (size_t s = 0; s < block().steps.size(); ++s) step(block().steps[s], static_cast<int>(s));
      std::vector<Tensor> results;
      for (const int id : program.outputs) {
        std::vector<int64_t> dims;
        for (const Dim& dim : program.tensor(id).type.dims) dims.push_back(dim.evaluate(sizes));
        Tensor tensor(program.tensor(id).type.dtype, dims);
        if (tensor.byte_size() > 0) std::memcpy(tensor.mutable_data(), pointer(id), tensor.byte_size());
        results.push_back(tensor);
      }
      return results;
    }

    void step(const schedule::Step& one, int index) {
      if (const auto* run = std::get_if<schedule::RunKernel>(&one)) {
        const schedule::Kernel& kernel = block().kernels.at(static_cast<size_t>(run->kernel));
        std::vector<void*> tensors;
        std::vector<int64_t> values;
        for (const int id : kernel.tensors) tensors.push_back(pointer(id));
        for (const std::string& symbol : kernel.sizes) values.push_back(sizes.at(symbol));
        auto* function = reinterpret_cast<void (*)(const tile::Args&)>(dlsym(compiled.handle_, function_name(b, static_cast<size_t>(run->kernel)).c_str()));
        ensure(function != nullptr, "a kernel's function is in the library");
        tile::testing::TestTeam team(threads);
        function(tile::Args{tensors.data(), values.data(), team.team()});
      } else if (const auto* bind = std::get_if<schedule::BindSizes>(&one)) {
        const DType dtype = block().program.tensor(bind->bind.tensor).type.dtype;
        for (size_t i = 0; i < bind->bind.symbols.size(); ++i) sizes[bind->bind.symbols[i]] = read_int(dtype, pointer(bind->bind.tensor), i);
      } else if (const auto* copy = std::get_if<schedule::CopyTensor>(&one)) {
        std::memcpy(pointer(copy->to), pointer(copy->from), static_cast<size_t>(bytes(copy->to)));
      } else if (const auto* call = std::get_if<schedule::CallIf>(&one); call || std::holds_alternative<schedule::CallLoop>(one)) {
        fail(ErrorKind::internal, "control flow is not for this harness");
      }
      // What is dead may be written over: fill it with rubbish, so that reading it later shows.
      for (auto& [id, data] : memory) {
        const schedule::Placement& placement = block().placements.at(static_cast<size_t>(id));
        if (placement.storage != schedule::Storage::output && placement.last_step == index) std::fill(data.begin(), data.end(), '\x7f');
      }
    }
  };

  std::vector<schedule::Block> blocks_;
  void* handle_ = nullptr;
};

}  // namespace tilewright::testing
