#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace tilewright {
namespace fs = std::filesystem;
namespace {

std::string unique_suffix() {
  static std::atomic<int> count{0};
  return fmt::format(".{}.{}", getpid(), count++);
}

struct File {
  int descriptor;
  ~File() {
    if (descriptor >= 0) close(descriptor);
  }
};

}  // namespace

void read_pieces(const fs::path& path, int64_t limit_bytes, const std::function<void(std::string_view)>& take) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) fail(ErrorKind::invalid_input, "file '{}' does not exist", path.string());
  if (fs::is_directory(path, ignored)) fail(ErrorKind::invalid_input, "'{}' is a folder; a file is wanted", path.string());
  const File file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.descriptor < 0) fail(ErrorKind::environment, "cannot read '{}': {}", path.string(), std::strerror(errno));
  int64_t total = 0;
  char buffer[1 << 16];
  for (ssize_t got; (got = read(file.descriptor, buffer, sizeof buffer)) != 0;) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(ErrorKind::environment, "cannot read '{}': {}", path.string(), std::strerror(errno));
    if ((total += got) > limit_bytes) fail(ErrorKind::invalid_input, "file '{}' is larger than the limit of {} bytes", path.string(), limit_bytes);
    take({buffer, static_cast<size_t>(got)});
  }
}

std::string read_file(const fs::path& path, int64_t limit_bytes) {
  std::string bytes;
  std::error_code unknown;
  const auto size = fs::file_size(path, unknown);
  if (!unknown && size <= static_cast<uintmax_t>(limit_bytes)) bytes.reserve(size);
  read_pieces(path, limit_bytes, [&](std::string_view piece) { bytes.append(piece); });
  return bytes;
}

MappedFile::MappedFile(const fs::path& path) {
  const File file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  struct stat status = {};
  if (file.descriptor < 0 || fstat(file.descriptor, &status) != 0) fail(ErrorKind::environment, "cannot read '{}': {}", path.string(), std::strerror(errno));
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) return;
  bytes_ = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.descriptor, 0);
  if (bytes_ == MAP_FAILED) fail(ErrorKind::environment, "cannot map '{}': {}", path.string(), std::strerror(errno));
}

MappedFile::~MappedFile() {
  if (size_ > 0) munmap(bytes_, size_);
}

FileWriter::FileWriter(fs::path goal)
    : goal_(std::move(goal)), beside_(goal_.string() + unique_suffix()), descriptor_(open(beside_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) {
  if (descriptor_ >= 0) return;
  beside_.clear();
  give_up("create");
}

FileWriter::~FileWriter() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!beside_.empty()) unlink(beside_.c_str());
}

void FileWriter::write(const void* bytes, size_t count) {
  for (size_t done = 0; done < count;) {
    const ssize_t wrote = ::write(descriptor_, static_cast<const char*>(bytes) + done, count - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) give_up("write");
    done += static_cast<size_t>(wrote);
  }
}

void FileWriter::commit(Durable durable) {
  if (durable == Durable::yes && fsync(descriptor_) != 0) give_up("write");
  if (close(std::exchange(descriptor_, -1)) != 0) give_up("write");
  if (rename(beside_.c_str(), goal_.c_str()) != 0) give_up("rename to");
  beside_.clear();
}

void FileWriter::give_up(const char* what) const { fail(ErrorKind::environment, "cannot {} '{}': {}", what, goal_.string(), std::strerror(errno)); }

void write_file(const fs::path& path, std::string_view bytes) {
  FileWriter writer(path);
  writer.write(bytes.data(), bytes.size());
  writer.commit();
}

ScratchFolder::ScratchFolder(const fs::path& parent) {
  std::error_code failure;
  fs::create_directories(parent, failure);
  if (failure) fail(ErrorKind::environment, "cannot create folder '{}': {}", parent.string(), failure.message());
  std::string name = (parent / "scratch.XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) fail(ErrorKind::environment, "cannot create a folder in '{}': {}", parent.string(), std::strerror(errno));
  path_ = name;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

}  // namespace tilewright
