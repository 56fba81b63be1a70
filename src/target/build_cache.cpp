#include "target/build_cache.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "target/resources.h"

namespace tilewright {
namespace fs = std::filesystem;
fs::path cache_folder() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr ? std::string(value) : std::string();
  };
  if (const std::string own = variable("TILEWRIGHT_CACHE_DIR"); !own.empty()) return own;
  if (const std::string shared = variable("XDG_CACHE_HOME"); !shared.empty()) return fs::path(shared) / "tilewright";
  if (const std::string home = variable("HOME"); !home.empty()) return fs::path(home) / ".cache" / "tilewright";
  return fs::temp_directory_path() / fmt::format("tilewright-{}", getuid());
}

namespace {

/// Removes what was not touched for that long, of entries whose name begins so.
void drop_older(const fs::path& folder, std::string_view prefix, std::chrono::hours age) {
  const auto oldest = fs::file_time_type::clock::now() - age;
  std::error_code ignored;
  for (const fs::directory_entry& one : fs::directory_iterator(folder, ignored)) {
    std::error_code gone;
    if (one.path().filename().string().starts_with(prefix) && one.last_write_time(gone) < oldest && !gone) fs::remove_all(one.path(), ignored);
  }
}

}  // namespace

BuildCache::BuildCache(fs::path folder, bool enabled, int64_t limit_bytes)
    : folder_(folder.empty() ? cache_folder() : std::move(folder)), enabled_(enabled), limit_bytes_(limit_bytes) {
  std::error_code failure;
  fs::create_directories(folder_ / "objects", failure);
  if (failure) fail(ErrorKind::environment, "cannot create the cache folder '{}': {}; set TILEWRIGHT_CACHE_DIR", folder_.string(), failure.message());
  // Objects of the cache are linked and run: nobody else may have put them there.
  struct stat folder_is {};
  if (stat(folder_.c_str(), &folder_is) != 0 || (folder_is.st_uid != getuid() && folder_is.st_uid != 0) || (folder_is.st_mode & S_IWOTH) != 0)
    fail(ErrorKind::environment, "the cache folder '{}' belongs to another user or is writable by all; set TILEWRIGHT_CACHE_DIR", folder_.string());
}

bool BuildCache::fetch(const std::string& key, const fs::path& object) const {
  if (!enabled_) return false;
  const fs::path entry = folder_ / "objects" / key;
  std::error_code failure;
  fs::copy_file(entry, object, fs::copy_options::overwrite_existing, failure);
  if (failure) return false;
  fs::last_write_time(entry, fs::file_time_type::clock::now(), failure);
  return true;
}

void BuildCache::store(const std::string& key, const fs::path& object) const {
  if (!enabled_) return;
  const fs::path entry = folder_ / "objects" / key, beside = folder_ / "objects" / fmt::format("{}.{}", key, getpid());
  std::error_code failure;  // a cache that cannot be written is slower, not wrong
  fs::copy_file(object, beside, fs::copy_options::overwrite_existing, failure);
  if (!failure) fs::rename(beside, entry, failure);
  if (failure) fs::remove(beside, failure);
}

void BuildCache::trim() const {
  struct Entry {
    fs::path path;
    fs::file_time_type used;
    int64_t bytes;
  };
  std::vector<Entry> entries;
  int64_t total = 0;
  std::error_code ignored;
  for (const fs::directory_entry& one : fs::directory_iterator(folder_ / "objects", ignored)) {
    std::error_code gone;
    const Entry entry{one.path(), one.last_write_time(gone), static_cast<int64_t>(one.file_size(gone))};
    if (gone) continue;
    total += entry.bytes;
    entries.push_back(entry);
  }
  if (total <= limit_bytes_) return;
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.used < b.used; });
  for (const Entry& entry : entries) {
    if (total <= limit_bytes_ * 3 / 4) break;
    fs::remove(entry.path, ignored);
    total -= entry.bytes;
  }
}

fs::path BuildCache::resource_folder() const {
  const fs::path folder = folder_ / ("sources-" + resources_hash().substr(0, 16));
  if (fs::exists(folder)) {
    std::error_code ignored;
    fs::last_write_time(folder, fs::file_time_type::clock::now(), ignored);
    return folder;
  }
  for (const char* kind : {"sources-", "failed-"}) drop_older(folder_, kind, std::chrono::hours(24 * 7));
  const fs::path beside = folder.string() + fmt::format(".{}", getpid());
  for (const Resource& resource : resources()) {
    const fs::path file = beside / resource.path;
    fs::create_directories(file.parent_path());
    write_file(file, resource.text);
  }
  std::error_code failure;
  fs::rename(beside, folder, failure);  // another process may have been first
  if (failure) fs::remove_all(beside, failure);
  if (!fs::exists(folder)) fail(ErrorKind::environment, "cannot write '{}'", folder.string());
  return folder;
}

fs::path BuildCache::scratch_parent() const {
  const fs::path parent = folder_ / "scratch";
  fs::create_directories(parent);
  drop_older(parent, "", std::chrono::hours(24));
  return parent;
}

fs::path BuildCache::keep_failed_source(const std::string& name, const std::string& text) const {
  const fs::path kept = folder_ / ("failed-" + name);
  write_file(kept, text);
  return kept;
}

}  // namespace tilewright
