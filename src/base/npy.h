#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/tensor.h"

namespace tilewright {

/// Reads a NumPy .npy file (versions 1 to 3, little-endian, C or Fortran order). Throws invalid_input for broken files and
/// unsupported for element types that Tilewright lacks.
Tensor read_npy(const std::filesystem::path& path);
Tensor parse_npy(const std::string& bytes, const std::string& what);

/// Writes version 1.0. Types NumPy lacks are widened to float32 (floats) or int8/uint8 (4- and 2-bit integers).
void write_npy(const std::filesystem::path& path, const Tensor& tensor);
std::string format_npy(const Tensor& tensor);

/// Reads a .npz archive (stored members; a compressed one is unsupported): name → array.
std::vector<std::pair<std::string, Tensor>> read_npz(const std::filesystem::path& path);
void write_npz(const std::filesystem::path& path, const std::vector<std::pair<std::string, Tensor>>& arrays);

}  // namespace tilewright
