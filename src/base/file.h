#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace tilewright {

/// The whole file. Throws invalid_input (missing, a directory, larger than `limit_bytes`) or environment (cannot be read).
std::string read_file(const std::filesystem::path& path, int64_t limit_bytes = int64_t{1} << 40);

/// Writes beside the target, flushes, renames: a reader sees the old file or the whole new one. Throws environment.
void write_file(const std::filesystem::path& path, std::string_view bytes);

/// A folder of this process' own under `parent`, removed with everything in it at the end of the scope.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::filesystem::path& parent);
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace tilewright
