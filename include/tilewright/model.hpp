// C++ over the C interface of a compiled model: header only, needs the C library and the loader. Loading a model is running
// its native code: load only artifacts that you trust.
#pragma once

#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tilewright/checksum.h"
#include "tilewright/tilewright_model.h"

namespace tilewright {

/// What every function here throws.
class ModelError : public std::runtime_error {
 public:
  ModelError(tilewright_status status, const std::string& text) : std::runtime_error(text), status_(status) {}
  tilewright_status status() const { return status_; }

 private:
  tilewright_status status_;
};

/// A loaded artifact. Copies share it; it is unloaded with the last copy and context.
class Model {
 public:
  /// Checks length and checksum before any of the file's code runs. Throws ModelError: a missing, truncated, altered or
  /// foreign file, another machine's file, an unknown ABI version.
  explicit Model(const std::string& path, int index = 0) {
    check_file(path);
    void* handle = dlopen(absolute(path).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) throw ModelError(TILEWRIGHT_ENVIRONMENT, "cannot load '" + path + "': " + dlerror());
    library_ = std::shared_ptr<void>(handle, [](void* h) { dlclose(h); });
    const auto table = reinterpret_cast<tilewright_model_function>(dlsym(handle, "tilewright_model"));
    if (table == nullptr) throw ModelError(TILEWRIGHT_INVALID_INPUT, "'" + path + "' is a shared library but no Tilewright model");
    api_ = table(index);
    if (api_ == nullptr) throw ModelError(TILEWRIGHT_INVALID_INPUT, "'" + path + "' has no model " + std::to_string(index));
    if (api_->abi_version != TILEWRIGHT_ABI_VERSION)
      throw ModelError(TILEWRIGHT_INVALID_INPUT, "'" + path + "' has ABI version " + std::to_string(api_->abi_version) + ", this program knows " +
                                                     std::to_string(TILEWRIGHT_ABI_VERSION) + "; compile the model again");
  }

  const tilewright_model_api& api() const { return *api_; }
  const std::shared_ptr<void>& library() const { return library_; }

 private:
  static std::string absolute(const std::string& path) { return path.find('/') == std::string::npos ? "./" + path : path; }

  static void check_file(const std::string& path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) throw ModelError(TILEWRIGHT_INVALID_INPUT, "cannot open '" + path + "': " + std::strerror(errno));
    struct stat info {};
    if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode)) {
      close(file);
      throw ModelError(TILEWRIGHT_INVALID_INPUT, "'" + path + "' is not a file");
    }
    const size_t size = static_cast<size_t>(info.st_size);
    void* bytes = size > sizeof(tilewright_footer) ? mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
    close(file);
    if (bytes == MAP_FAILED) throw ModelError(TILEWRIGHT_INVALID_INPUT, "'" + path + "' is too short to be a Tilewright model");
    tilewright_footer footer;
    std::memcpy(&footer, static_cast<const char*>(bytes) + size - sizeof footer, sizeof footer);
    const char* fault = nullptr;
    if (footer.magic != TILEWRIGHT_FOOTER_MAGIC)
      fault = "is no Tilewright model, or is truncated";
    else if (footer.file_bytes != size)
      fault = "is truncated or has bytes added";
    else if (footer.checksum != tilewright_checksum(bytes, size - sizeof footer))
      fault = "is damaged: its checksum does not match";
    munmap(bytes, size);
    if (fault != nullptr) throw ModelError(TILEWRIGHT_INVALID_INPUT, "'" + path + "' " + fault + "; copy or compile it again");
  }

  std::shared_ptr<void> library_;
  const tilewright_model_api* api_ = nullptr;
};

/// One stream of runs of a model. One thread at a time; make a context for each thread.
class Context {
 public:
  /// `threads` 0: one for each core this process may use. `flags`: those of tilewright_options.
  explicit Context(const Model& model, int threads = 0, uint64_t flags = 0) : library_(model.library()), api_(&model.api()) {
    const tilewright_options options{sizeof(tilewright_options), threads, flags};
    if (const auto status = api_->create(&options, &context_); status != TILEWRIGHT_OK) throw ModelError(status, api_->creation_error());
  }
  Context(Context&& other) noexcept : library_(std::move(other.library_)), api_(other.api_), context_(std::exchange(other.context_, nullptr)) {}
  Context& operator=(Context&&) = delete;
  ~Context() {
    if (context_ != nullptr) api_->destroy(context_);
  }

  /// `data` must live until run() returns.
  void set_input(int index, const void* data, const std::vector<int64_t>& dims) {
    check(api_->set_input(context_, index, data, dims.data(), static_cast<int32_t>(dims.size())));
  }
  void set_output(int index, void* data, size_t bytes) { check(api_->set_output(context_, index, data, bytes)); }
  void run() { check(api_->run(context_)); }

  struct Output {
    const void* data;
    std::vector<int64_t> dims;
    template <class T>
    const T* as() const {
      return static_cast<const T*>(data);
    }
  };
  /// Valid until the next run().
  Output output(int index) {
    const void* data = nullptr;
    const int64_t* dims = nullptr;
    int32_t rank = 0;
    check(api_->get_output(context_, index, &data, &dims, &rank));
    return {data, std::vector<int64_t>(dims, dims + rank)};
  }

  void set_profiling(bool on) { check(api_->set_profiling(context_, on ? 1 : 0)); }
  std::vector<tilewright_profile_entry> profile() const {
    std::vector<tilewright_profile_entry> entries(static_cast<size_t>(api_->read_profile(context_, nullptr, 0)));
    api_->read_profile(context_, entries.data(), static_cast<int32_t>(entries.size()));
    return entries;
  }
  size_t memory_bytes() const { return api_->memory_bytes(context_); }

 private:
  void check(tilewright_status status) const {
    if (status != TILEWRIGHT_OK) throw ModelError(status, api_->error(context_));
  }

  std::shared_ptr<void> library_;
  const tilewright_model_api* api_;
  tilewright_context* context_ = nullptr;
};

}  // namespace tilewright
