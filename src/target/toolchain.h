#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "target/emit_program.h"
#include "target/target.h"

namespace tilewright {

struct BuildOptions {
  std::string compiler;  ///< empty: $TILEWRIGHT_CXX, else the target's usual one
  int jobs = 0;          ///< compilers at once; 0: one a core
  int optimisation = 3;  ///< -O level of the kernels
  bool use_cache = true;
  std::filesystem::path cache;  ///< empty: $TILEWRIGHT_CACHE_DIR, $XDG_CACHE_HOME/tilewright or ~/.cache/tilewright
  int64_t cache_limit_bytes = int64_t{2} << 30;
  std::function<void(int done, int total)> progress;
  std::function<bool()> cancelled;  ///< asked between compilations; true ends the build with an Error
};

struct BuildReport {
  int units = 0, from_cache = 0;
  int64_t file_bytes = 0;
};

/// Compiles and links `sources` into the shared library `output`: built beside it, checked by a footer, renamed into place.
/// Throws Error: environment (no compiler, disk full), internal (our code does not compile; the message shows the place).
BuildReport build_library(const EmittedSources& sources, const Target& target, const std::filesystem::path& output, const BuildOptions& options);

/// Writes everything that `build_library` would compile, with a Makefile: needs nothing but make and a compiler.
void write_source_folder(const EmittedSources& sources, const Target& target, const std::filesystem::path& folder, const BuildOptions& options);

/// The compiler `build_library` would run: its command, and the first line of its --version ("" when it cannot be run).
struct CompilerInfo {
  std::string command, version;
  std::string library_folder;  ///< of nvcc: where the CUDA runtime's static library lies
};
CompilerInfo find_compiler(const Target& target, const BuildOptions& options);
/// nvcc or hipcc: $TILEWRIGHT_NVCC, $TILEWRIGHT_HIPCC, or the one in the path. Throws environment when it or its libraries are missing.
CompilerInfo find_gpu_compiler(const Target& target);

}  // namespace tilewright
