#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>

namespace tilewright {

/// "102.4 MB"; a megabyte is 10^6 bytes.
inline std::string megabytes(int64_t bytes) { return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6); }

}  // namespace tilewright
