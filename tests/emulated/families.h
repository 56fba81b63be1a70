#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "draft.h"

namespace tilewright::emulated {

/// A kind of kernels: programs of `build` for one of `dtypes`, with sizes and variants as the draft's seeds draw them.
struct Family {
  std::string_view name;
  std::vector<DType> dtypes;
  void (*build)(Draft& draft, DType dtype);
};

/// All families, those of each file one after the other.
std::vector<Family> families();

std::span<const Family> product_families();
std::span<const Family> attention_families();
std::span<const Family> row_families();
std::span<const Family> point_families();
std::span<const Family> selection_families();

}  // namespace tilewright::emulated
