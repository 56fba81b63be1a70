#include "base/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

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

std::string read_file(const fs::path& path, int64_t limit_bytes) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) fail(ErrorKind::invalid_input, "file '{}' does not exist", path.string());
  if (fs::is_directory(path, ignored)) fail(ErrorKind::invalid_input, "'{}' is a folder; a file is wanted", path.string());
  const File file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.descriptor < 0) fail(ErrorKind::environment, "cannot read '{}': {}", path.string(), std::strerror(errno));
  std::string bytes;
  const auto size = fs::file_size(path, ignored);
  if (!ignored) {
    if (size > static_cast<uintmax_t>(limit_bytes)) fail(ErrorKind::invalid_input, "file '{}' has {} bytes; the limit is {}", path.string(), size, limit_bytes);
    bytes.reserve(size);
  }
  char buffer[1 << 16];
  for (ssize_t got; (got = read(file.descriptor, buffer, sizeof buffer)) != 0;) {
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(ErrorKind::environment, "cannot read '{}': {}", path.string(), std::strerror(errno));
    bytes.append(buffer, static_cast<size_t>(got));
    if (bytes.size() > static_cast<size_t>(limit_bytes))
      fail(ErrorKind::invalid_input, "file '{}' is larger than the limit of {} bytes", path.string(), limit_bytes);
  }
  return bytes;
}

void write_file(const fs::path& path, std::string_view bytes) {
  const fs::path beside = path.string() + unique_suffix();
  const auto give_up = [&](const char* what) {
    const int reason = errno;
    unlink(beside.c_str());
    fail(ErrorKind::environment, "cannot {} '{}': {}", what, path.string(), std::strerror(reason));
  };
  {
    const File file{open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)};
    if (file.descriptor < 0) give_up("create");
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t wrote = write(file.descriptor, bytes.data() + done, bytes.size() - done);
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) give_up("write");
      done += static_cast<size_t>(wrote);
    }
  }
  if (rename(beside.c_str(), path.c_str()) != 0) give_up("rename to");
}

ScratchFolder::ScratchFolder(const fs::path& parent) : path_(parent / ("scratch" + unique_suffix())) {
  std::error_code failure;
  fs::create_directories(path_, failure);
  if (failure) fail(ErrorKind::environment, "cannot create folder '{}': {}", path_.string(), failure.message());
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

}  // namespace tilewright
