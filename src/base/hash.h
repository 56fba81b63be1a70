#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace tilewright {

/// SHA-256 in lower-case hexadecimal.
std::string sha256(const void* bytes, size_t count);
/// Of a file's contents, read piece by piece; throws as read_file does.
std::string sha256_of_file(const std::filesystem::path& path, int64_t limit_bytes);
inline std::string sha256(std::string_view text) { return sha256(text.data(), text.size()); }

}  // namespace tilewright
