#include "target/toolchain.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <fstream>
#include <cstring>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/process.h"
#include "target/build_cache.h"
#include "target/resources.h"
#include "tilewright/checksum.h"

namespace tilewright {
namespace fs = std::filesystem;
namespace {

const std::vector<std::string> common_flags = {"-std=c++20", "-fPIC", "-fvisibility=hidden", "-w"};

std::vector<std::string> host_flags(int optimisation) {
  std::vector<std::string> flags = common_flags;
  flags.insert(flags.end(), {optimisation > 1 ? "-O2" : fmt::format("-O{}", optimisation)});
  return flags;
}

/// errno and traps are not observed; sums may be contracted to FMA, never reordered except where `omp simd` says so. Jump threading (g++'s; a
/// parameter, because clang ignores those) would tear apart the branches of min and max that are to become vector instructions. Predictive commoning would
/// keep what neighbouring rows share in registers that a register block does not have.
std::vector<std::string> kernel_flags(const Target& target, int optimisation) {
  std::vector<std::string> flags = common_flags;
  flags.insert(flags.end(), {fmt::format("-O{}", optimisation), "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
                             "--param=max-jump-thread-duplication-stmts=0", "-fno-predictive-commoning"});
  flags.insert(flags.end(), target.compile_flags.begin(), target.compile_flags.end());
  return flags;
}

/// Files of runtime/ that artifacts for `target` are made of.
bool belongs(const Resource& resource, const Target& target) {
  if (!resource.path.starts_with("runtime/")) return false;
  if (resource.path == "runtime/host_device.cpp") return target.kind == TargetKind::cpu;
  if (resource.path == "runtime/emulated_device.cpp") return target.kind == TargetKind::emulator;
  return resource.path.ends_with(".cpp") || (target.is_gpu() && resource.path.ends_with(".cu"));
}

bool is_gpu_source(std::string_view file) { return file.ends_with(".cu"); }

/// nvcc's or hipcc's, for kernels and for what runs beside them.
std::vector<std::string> gpu_flags(const Target& target) {
  std::vector<std::string> flags = {"-std=c++20", "-O3", "-w"};
  if (target.kind == TargetKind::cuda)
    flags.insert(flags.end(), {"--expt-relaxed-constexpr", "-cudart=static", "-default-stream=per-thread", "-Xcompiler=-fPIC,-fvisibility=hidden"});
  else
    flags.insert(flags.end(), {"-x", "hip", "-fPIC", "-fvisibility=hidden", "-fgpu-default-stream=per-thread"});
  flags.insert(flags.end(), target.compile_flags.begin(), target.compile_flags.end());
  return flags;
}

struct Unit {
  std::string name, text;
  std::vector<std::string> flags;
  fs::path object;
};

std::vector<Unit> units_of(const EmittedSources& sources, const Target& target, int optimisation) {
  std::vector<Unit> units;
  for (const SourceFile& file : sources.kernels)
    units.push_back({file.name, file.text, is_gpu_source(file.name) ? gpu_flags(target) : kernel_flags(target, optimisation), {}});
  // Straight-line code of thousands of calls: optimising it costs time and gains nothing.
  for (const SourceFile& file : sources.program) units.push_back({file.name, file.text, host_flags(1), {}});
  for (const Resource& resource : resources())
    if (belongs(resource, target))
      units.push_back({"runtime_" + std::string(resource.path.substr(8)),
                       std::string(resource.text),
                       is_gpu_source(resource.path) ? gpu_flags(target) : host_flags(2),
                       {}});
  return units;
}

std::string weights_assembly(const std::string& file) {
  return ".section .rodata.weights,\"a\",%progbits\n.balign 4096\n.global tilewright_weights\n.hidden tilewright_weights\ntilewright_weights:\n.incbin \"" +
         file + "\"\n.global tilewright_weights_end\n.hidden tilewright_weights_end\ntilewright_weights_end:\n.section .note.GNU-stack,\"\",%progbits\n";
}

void write_weights(const fs::path& path, const EmittedSources& sources) {
  static constexpr char zeros[4096] = {};
  FileWriter writer(path);
  int64_t written = 0;
  const auto fill_to = [&](int64_t offset) {
    for (; written < offset; written += std::min<int64_t>(offset - written, sizeof zeros))
      writer.write(zeros, static_cast<size_t>(std::min<int64_t>(offset - written, sizeof zeros)));
  };
  for (size_t i = 0; i < sources.constants.size(); ++i) {
    fill_to(sources.constant_offsets[i]);
    writer.write(sources.constants[i]->data(), sources.constants[i]->byte_size());
    written += static_cast<int64_t>(sources.constants[i]->byte_size());
  }
  fill_to(std::max<int64_t>(sources.weight_bytes, 64));
  writer.commit();
}

const char* const link_flags[] = {"-shared",
                                  "-static-libstdc++",
                                  "-static-libgcc",
                                  "-Wl,--gc-sections",
                                  "-Wl,-z,relro,-z,now",
                                  "-Wl,--no-undefined",
                                  "-Wl,--exclude-libs,ALL",
                                  "-Wl,--build-id=none"};

/// All that an artifact exports. Instances of library templates must not: the program that loads it may have its own, of another version,
/// and unique symbols among them would keep the library from being unloaded.
const char* const export_list = "{ global: tilewright_model; tilewright_model_*; local: *; };\n";

/// What append_footer() does, for source folders: they are built without the compiler of models.
const char* const seal_program = R"(// Appends the footer by which a loader sees that a library is whole and unaltered.
#include <fstream>
#include <iterator>
#include <string>

#include "tilewright/checksum.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::ifstream in(argv[1], std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  const tilewright_footer footer = {TILEWRIGHT_FOOTER_MAGIC, bytes.size() + sizeof footer, tilewright_checksum(bytes.data(), bytes.size())};
  std::ofstream out(argv[1], std::ios::binary | std::ios::app);
  out.write(reinterpret_cast<const char*>(&footer), sizeof footer);
  return in && out.flush() ? 0 : 1;
}
)";

void append_footer(const fs::path& library) {
  tilewright_footer footer;
  {
    const MappedFile file(library);
    footer = {TILEWRIGHT_FOOTER_MAGIC, file.size() + sizeof footer, tilewright_checksum(file.data(), file.size())};
  }
  std::ofstream out(library, std::ios::binary | std::ios::app);
  out.write(reinterpret_cast<const char*>(&footer), sizeof footer);
  if (!out.flush()) fail(ErrorKind::environment, "cannot write '{}'", library.string());
}

[[noreturn]] void report_compiler_failure(const std::string& what, const ProcessResult& result, const std::string& command, const fs::path& kept) {
  if (result.exit_code == 127) fail(ErrorKind::environment, "the compiler '{}' cannot be run: {}; install g++ or name one with --cxx", command, result.output);
  if (result.output.find("No space left") != std::string::npos) fail(ErrorKind::environment, "{}: the disk is full", what);
  if (result.exit_code > 128)
    fail(ErrorKind::environment, "{}: the compiler was killed by signal {} ({})", what, result.exit_code - 128,
         result.exit_code - 128 == SIGINT ? "interrupted" : "out of memory, if nobody stopped it: fewer --jobs need less");
  fail(ErrorKind::internal, "internal error: generated code does not compile; this is a bug of Tilewright. The source lies in {}.\n{}", kept.string(),
       result.output.substr(0, 4000));
}

/// Runs tasks 0..count-1 on `jobs` threads; the first failure stops the rest and is thrown.
template <class F>
void run_parallel(int count, int jobs, F&& task) {
  std::atomic<int> next{0};
  std::atomic<bool> stop{false};
  std::exception_ptr failure;
  std::mutex guard;
  const auto worker = [&] {
    for (int i; !stop && (i = next++) < count;) {
      try {
        task(i);
      } catch (...) {
        const std::lock_guard lock(guard);
        if (!failure) failure = std::current_exception();
        stop = true;
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < std::min(jobs, count); ++i) threads.emplace_back(worker);
  worker();
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

CompilerInfo find_compiler(const Target& target, const BuildOptions& options) {
  CompilerInfo info;
  const char* chosen = std::getenv("TILEWRIGHT_CXX");
#if defined(__x86_64__)
  const bool native = target.architecture == "x86_64";
#else
  const bool native = target.architecture == "aarch64";
#endif
  info.command = !options.compiler.empty() ? options.compiler : chosen != nullptr && *chosen ? chosen : native ? "g++" : target.architecture + "-linux-gnu-g++";
  const ProcessResult result = run_process({info.command, "--version"});
  if (result.exit_code == 0) info.version = result.output.substr(0, result.output.find('\n'));
  return info;
}

CompilerInfo find_gpu_compiler(const Target& target) {
  const bool cuda = target.kind == TargetKind::cuda;
  CompilerInfo info;
  const char* chosen = std::getenv(cuda ? "TILEWRIGHT_NVCC" : "TILEWRIGHT_HIPCC");
  info.command = chosen != nullptr && *chosen ? chosen : cuda ? "nvcc" : "hipcc";
  const ProcessResult version = run_process({info.command, "--version"});
  if (version.exit_code != 0 && cuda)
    fail(ErrorKind::environment, "the CUDA compiler '{}' cannot be run; install NVIDIA's CUDA toolkit, or name its nvcc with TILEWRIGHT_NVCC", info.command);
  if (version.exit_code != 0)
    fail(ErrorKind::environment, "the HIP compiler '{}' cannot be run; install it (Debian: apt install hipcc), or name one with TILEWRIGHT_HIPCC",
         info.command);
  info.version = version.output;
  if (!cuda) {
    std::vector<std::string> probe = {info.command, "-x", "hip", "-nogpulib", "-fsyntax-only"};
    probe.insert(probe.end(), target.compile_flags.begin(), target.compile_flags.end());
    probe.emplace_back("/dev/null");
    if (run_process(probe).exit_code != 0)
      fail(ErrorKind::environment, "the HIP compiler '{}' does not know {}; install a ROCm that does, and name its hipcc with TILEWRIGHT_HIPCC", info.command,
           target.name.substr(target.name.find(':') + 1));
    return info;
  }
  // A dry run tells where the toolkit lies.
  const std::string output = run_process({info.command, "--dryrun", "-x", "cu", "/dev/null"}).output;
  if (const size_t top = output.find("#$ TOP="); top != std::string::npos) {
    const fs::path toolkit = output.substr(top + 7, output.find('\n', top) - top - 7);
    for (const char* folder : {"lib64", "targets/x86_64-linux/lib", "lib"})
      if (info.library_folder.empty() && fs::exists(toolkit / folder / "libcudart_static.a")) info.library_folder = (toolkit / folder).lexically_normal();
  }
  if (info.library_folder.empty()) fail(ErrorKind::environment, "'{}' is there, but not its libcudart_static.a; install the whole CUDA toolkit", info.command);
  return info;
}

BuildReport build_library(const EmittedSources& sources, const Target& target, const fs::path& output, const BuildOptions& options) {
  const CompilerInfo compiler = find_compiler(target, options);
  if (compiler.version.empty())
    fail(ErrorKind::environment, "the compiler '{}' cannot be run; install g++ (Debian: apt install g++) or name one with --cxx", compiler.command);
  BuildCache cache(options.cache, options.use_cache, options.cache_limit_bytes);
  const CompilerInfo gpu = target.is_gpu() ? find_gpu_compiler(target) : CompilerInfo{};
  const fs::path headers = cache.resource_folder();
  const ScratchFolder scratch(cache.scratch_parent());

  std::vector<Unit> units = units_of(sources, target, options.optimisation);
  const int jobs = options.jobs > 0 ? options.jobs : std::max(1u, std::thread::hardware_concurrency());
  BuildReport report;
  report.units = static_cast<int>(units.size());
  std::atomic<int> done{0}, cached{0};
  std::mutex progress_guard;
  run_parallel(report.units, jobs, [&](int index) {
    if (options.cancelled && options.cancelled()) fail(ErrorKind::environment, "interrupted");
    Unit& unit = units[static_cast<size_t>(index)];
    const CompilerInfo& mine = is_gpu_source(unit.name) ? gpu : compiler;
    std::string key_text = mine.command + '\n' + mine.version + '\n' + resources_hash() + '\n' + unit.text;
    for (const std::string& flag : unit.flags) key_text += '\n' + flag;
    const std::string key = sha256(key_text);
    unit.object = scratch.path() / (unit.name + ".o");
    if (cache.fetch(key, unit.object)) {
      ++cached;
    } else {
      const fs::path source = scratch.path() / unit.name;
      write_file(source, unit.text);
      std::vector<std::string> command = {mine.command};
      command.insert(command.end(), unit.flags.begin(), unit.flags.end());
      if (is_gpu_source(unit.name) && target.kind == TargetKind::cuda) command.insert(command.end(), {"-ccbin", compiler.command});
      command.insert(command.end(), {"-I" + headers.string(), "-I" + (headers / "include").string(), "-c", source.string(), "-o", unit.object.string()});
      const ProcessResult result = run_process(command);
      if (result.exit_code != 0) {
        // A compiler that was interrupted says nothing about the source.
        const fs::path kept = result.exit_code < 127 ? cache.keep_failed_source(unit.name, unit.text) : fs::path();
        report_compiler_failure("compiling " + unit.name, result, mine.command, kept);
      }
      cache.store(key, unit.object);
    }
    const std::lock_guard lock(progress_guard);
    ++done;
    if (options.progress) options.progress(done, report.units + 1);
  });
  report.from_cache = cached;

  write_weights(scratch.path() / "weights.bin", sources);
  write_file(scratch.path() / "weights.S", weights_assembly((scratch.path() / "weights.bin").string()));
  write_file(scratch.path() / "exports.map", export_list);
  const fs::path library = scratch.path() / "model.so";
  std::vector<std::string> command = {compiler.command};
  command.insert(command.end(), std::begin(link_flags), std::end(link_flags));
  command.insert(command.end(), {"-Wl,-soname," + output.filename().string(), "-Wl,--version-script=" + (scratch.path() / "exports.map").string(), "-o",
                                 library.string(), (scratch.path() / "weights.S").string()});
  for (const Unit& unit : units) command.push_back(unit.object.string());
  command.insert(command.end(), target.link_flags.begin(), target.link_flags.end());
  if (!gpu.library_folder.empty()) command.push_back("-L" + gpu.library_folder);
  command.insert(command.end(), {"-lm", "-pthread"});
  if (const ProcessResult result = run_process(command); result.exit_code != 0)
    report_compiler_failure("linking " + output.filename().string(), result, compiler.command, scratch.path());
  append_footer(library);
  report.file_bytes = static_cast<int64_t>(fs::file_size(library));

  {
    const MappedFile whole(library);
    FileWriter writer(output);
    writer.write(whole.data(), whole.size());
    writer.commit(FileWriter::Durable::yes);
    chmod(output.c_str(), 0755);
  }
  cache.trim();
  if (options.progress) options.progress(report.units + 1, report.units + 1);
  return report;
}

void write_source_folder(const EmittedSources& sources, const Target& target, const fs::path& folder, const BuildOptions& options) {
  std::error_code failure;
  const auto write = [&](const fs::path& path, std::string_view text) {
    fs::create_directories(path.parent_path(), failure);
    if (failure) fail(ErrorKind::environment, "cannot create '{}': {}", path.parent_path().string(), failure.message());
    write_file(path, text);
  };
  const auto joined = [](const std::vector<std::string>& flags) {
    std::string text;
    for (const std::string& flag : flags) text += (text.empty() ? "" : " ") + flag;
    return text;
  };
  std::string kernels, program, runtime;
  for (const SourceFile& file : sources.kernels) {
    write(folder / file.name, file.text);
    kernels += " " + fs::path(file.name).replace_extension(".o").string();
  }
  for (const SourceFile& file : sources.program) {
    write(folder / file.name, file.text);
    program += " " + fs::path(file.name).replace_extension(".o").string();
  }
  for (const Resource& resource : resources()) {
    write(folder / resource.path, resource.text);
    if (belongs(resource, target)) runtime += " " + fs::path(resource.path).replace_extension(".o").string();
  }
  write_weights(folder / "weights.bin", sources);
  write(folder / "weights.S", weights_assembly("weights.bin"));
  write(folder / "seal.cpp", seal_program);
  write(folder / "exports.map", export_list);
  std::string links;
  for (const char* flag : link_flags) links += std::string(flag) + " ";
  const bool cuda = target.kind == TargetKind::cuda;
  std::string libraries = joined(target.link_flags);
  if (cuda) libraries += " -L$(CUDA)/lib64";
  std::string makefile = fmt::format(
      "# Builds the model as model.so. Target: {}. Needs make{} and a C++20 compiler; HOST_CXX makes programs for this machine.\n"
      "CXX = {}\nHOST_CXX = g++\nKERNEL_FLAGS = {}\nHOST_FLAGS = {}\nINCLUDES = -I. -Iinclude\n",
      target.name,
      cuda              ? ", the CUDA toolkit"
      : target.is_gpu() ? ", hipcc"
                        : "",
      find_compiler(target, options).command, joined(kernel_flags(target, options.optimisation)), joined(host_flags(2)));
  if (cuda) makefile += "GPU_CXX = nvcc -ccbin $(CXX)\nCUDA = $(dir $(shell which nvcc))..\n";
  if (target.kind == TargetKind::hip) makefile += "GPU_CXX = hipcc\n";
  if (target.is_gpu()) makefile += fmt::format("GPU_FLAGS = {}\n", joined(gpu_flags(target)));
  makefile += fmt::format(
      "KERNELS ={}\nPROGRAM ={}{}\n\n"
      "model.so: $(KERNELS) $(PROGRAM) weights.S weights.bin exports.map seal\n\t$(CXX) {}-Wl,--version-script=exports.map -o $@.part weights.S "
      "$(KERNELS) $(PROGRAM) {} -lm -pthread\n"
      "\t./seal $@.part\n\tmv $@.part $@\n\n"
      "seal: seal.cpp\n\t$(HOST_CXX) -Iinclude $< -o $@\n\n",
      kernels, program, runtime, links, libraries);
  if (target.is_gpu())
    makefile += "%.o: %.cu\n\t$(GPU_CXX) $(GPU_FLAGS) $(INCLUDES) -c $< -o $@\n";
  else
    makefile += "$(KERNELS): %.o: %.cpp\n\t$(CXX) $(KERNEL_FLAGS) $(INCLUDES) -c $< -o $@\n";
  makefile += fmt::format("{}%.o: %.cpp\n\t$(CXX) $(HOST_FLAGS) $(INCLUDES) -c $< -o $@\n\n", target.is_gpu() ? "" : "$(PROGRAM): ");
  makefile +=
      "# Compares with the results in reference/, and measures.\n"
      "selfcheck: src/artifact/selfcheck/selfcheck.cpp\n\t$(CXX) -std=c++20 -O2 -Iinclude $< -o $@ -ldl -pthread\n\n"
      "check bench: model.so selfcheck\n\t./selfcheck $@ model.so reference\n\n"
      "clean:\n\trm -f model.so model.so.part seal selfcheck $(KERNELS) $(PROGRAM)\n.PHONY: bench check clean\n";
  write(folder / "Makefile", makefile);
}

}  // namespace tilewright
