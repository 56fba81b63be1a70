#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace tilewright {

/// Hands a file's bytes over in pieces, in order. Throws as read_file does.
void read_pieces(const std::filesystem::path& path, int64_t limit_bytes, const std::function<void(std::string_view)>& take);

/// The whole file. Throws invalid_input (missing, a directory, larger than `limit_bytes`) or environment (cannot be read).
std::string read_file(const std::filesystem::path& path, int64_t limit_bytes = int64_t{1} << 40);

/// A file being written beside its goal and renamed at `commit`: a reader sees the old file or the whole new one. Without commit nothing
/// stays behind. Throws environment.
class FileWriter {
 public:
  explicit FileWriter(std::filesystem::path goal);
  ~FileWriter();
  FileWriter(const FileWriter&) = delete;
  FileWriter& operator=(const FileWriter&) = delete;
  void write(const void* bytes, size_t count);
  /// Puts the file in its place. `yes`: its bytes are on the disk before, so that not even a power failure leaves half of it.
  enum class Durable { no, yes };
  void commit(Durable durable = Durable::no);

 private:
  [[noreturn]] void give_up(const char* what) const;
  std::filesystem::path goal_, beside_;
  int descriptor_;
};

/// The same for bytes at hand.
void write_file(const std::filesystem::path& path, std::string_view bytes);

/// A file of our own, mapped to be read. (Somebody else's may shrink meanwhile, and reading on would be a fault.) Throws environment.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  const void* data() const { return bytes_; }
  size_t size() const { return size_; }

 private:
  void* bytes_ = nullptr;
  size_t size_ = 0;
};

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
