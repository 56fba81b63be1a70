#pragma once

#include <variant>

#include "schedule/product_config.h"
#include "schedule/tile_config.h"

namespace tilewright::schedule {

/// What is left open in a kernel, decided: of a CPU's product with weights, of a GPU's product.
using KernelConfig = std::variant<ProductConfig, TileConfig>;

std::string print(const KernelConfig& config);
/// The inverse. Throws invalid_input naming the word that it cannot read.
KernelConfig parse_kernel_config(std::string_view text);

}  // namespace tilewright::schedule
