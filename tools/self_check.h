#pragma once

#include <filesystem>
#include <string>

#include "compiler/compile.h"

namespace tilewright::tools {

/// Writes `folder`/reference: seeded inputs and what the model makes of them, for `make check` and `make bench` of a source folder. The results are the
/// reference interpreter's; where that would take long, those of the model compiled for this machine's CPU. Returns which, as a text.
std::string write_reference(const std::filesystem::path& folder, const std::filesystem::path& model, const CompileOptions& options);

}  // namespace tilewright::tools
