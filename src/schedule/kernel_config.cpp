#include "schedule/kernel_config.h"

namespace tilewright::schedule {

std::string print(const KernelConfig& config) {
  return std::visit([](const auto& one) { return print(one); }, config);
}

KernelConfig parse_kernel_config(std::string_view text) {
  // All of the one have a unit, none of the other.
  if (text.starts_with("unit=") || text.find(" unit=") != std::string_view::npos) return parse_tile_config(text);
  return parse_product_config(text);
}

}  // namespace tilewright::schedule
