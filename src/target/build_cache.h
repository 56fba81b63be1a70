#pragma once

#include <filesystem>
#include <string>

namespace tilewright {

/// Where what was learned and compiled is kept: $TILEWRIGHT_CACHE_DIR, $XDG_CACHE_HOME/tilewright or ~/.cache/tilewright.
std::filesystem::path cache_folder();

/// Compiled objects by content, shared by all processes of a user. Entries appear by rename, so a killed compile leaves
/// none half-written; the least recently used go when the limit is passed.
class BuildCache {
 public:
  BuildCache(std::filesystem::path folder, bool enabled, int64_t limit_bytes);

  bool fetch(const std::string& key, const std::filesystem::path& object) const;
  void store(const std::string& key, const std::filesystem::path& object) const;
  void trim() const;

  std::filesystem::path resource_folder() const;  ///< tile/, runtime/ and include/ as files
  std::filesystem::path scratch_parent() const;   ///< also sweeps scratch folders that killed processes left
  std::filesystem::path keep_failed_source(const std::string& name, const std::string& text) const;

 private:
  std::filesystem::path folder_;
  bool enabled_;
  int64_t limit_bytes_;
};

}  // namespace tilewright
