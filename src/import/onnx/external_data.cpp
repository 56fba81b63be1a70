#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "import/onnx/tensor_reader.h"

namespace tilewright::onnx {
namespace {

namespace fs = std::filesystem;

class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  int get() const { return descriptor_; }

 private:
  int descriptor_;
};

bool inside(const fs::path& file, const fs::path& folder) {
  const auto [in_folder, in_file] = std::mismatch(folder.begin(), folder.end(), file.begin(), file.end());
  return in_folder == folder.end() && in_file != file.end();
}

}  // namespace

std::shared_ptr<const std::string> ExternalData::read(std::string_view location, int64_t offset, int64_t length, std::string_view what) const {
  const auto reject = [&](std::string_view why) { fail(ErrorKind::invalid_input, "{}: external data '{}' {}", what, location, why); };
  if (folder_.empty()) reject("cannot be read: the model was given without a folder");
  if (location.empty() || location.find('\0') != std::string_view::npos) reject("is no file name");
  const fs::path relative{location};
  if (relative.is_absolute()) reject("is an absolute path; it must lie in the model's folder");
  if (std::find(relative.begin(), relative.end(), "..") != relative.end()) reject("has '..' in its path; it must lie in the model's folder");

  std::error_code error;
  const fs::path folder = fs::canonical(folder_, error);
  if (error) fail(ErrorKind::environment, "{}: cannot open the model's folder: {}", what, error.message());
  const fs::path path = fs::canonical(folder / relative, error);
  if (error) fail(ErrorKind::invalid_input, "{}: external data '{}' cannot be opened: {}", what, location, error.message());
  if (!inside(path, folder)) reject("leads out of the model's folder");

  // The path has no links left: one that appears only now is not followed. O_NONBLOCK: a pipe must not block the open.
  const File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (file.get() < 0) fail(ErrorKind::environment, "{}: cannot open external data '{}': {}", what, location, std::strerror(errno));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) reject("is no plain file");
  if (offset < 0 || length < 0 || offset > status.st_size || length > status.st_size - offset) {
    fail(ErrorKind::invalid_input, "{}: external data '{}' has {} bytes; the model wants {} from offset {}", what, location,
         static_cast<int64_t>(status.st_size), length, offset);
  }

  auto bytes = std::make_shared<std::string>(static_cast<size_t>(length), '\0');
  for (size_t done = 0; done < bytes->size();) {
    const ssize_t got = ::pread(file.get(), bytes->data() + done, bytes->size() - done, static_cast<off_t>(offset) + static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) fail(ErrorKind::environment, "{}: reading external data '{}' failed: {}", what, location, got ? std::strerror(errno) : "the file shrank");
    done += static_cast<size_t>(got);
  }
  return bytes;
}

}  // namespace tilewright::onnx
