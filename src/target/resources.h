#pragma once

#include <span>
#include <string>
#include <string_view>

namespace tilewright {

/// A file that travels inside the compiler: tile/, runtime/ and the public headers, by path from the repository root.
struct Resource {
  std::string_view path;
  std::string_view text;
};
std::span<const Resource> resources();

/// SHA-256 over all paths and texts: part of every cache key.
const std::string& resources_hash();

}  // namespace tilewright
