#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tilewright {

/// SHA-256 in lower-case hexadecimal.
std::string sha256(const void* bytes, size_t count);
inline std::string sha256(std::string_view text) { return sha256(text.data(), text.size()); }

}  // namespace tilewright
