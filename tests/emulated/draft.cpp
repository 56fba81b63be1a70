#include "draft.h"

#include <algorithm>
#include <cmath>

namespace tilewright::emulated {

Dim Draft::size(int64_t value) {
  if (sizes_ == Sizes::constant) return Dim(value);
  const std::string symbol = std::string(1, static_cast<char>('A' + values_.size()));
  values_[symbol] = value;
  return Dim::symbol(symbol);
}

ValueId Draft::add(DType dtype, const Dims& dims, Tensor& tensor) {
  std::vector<int64_t> extents;
  for (const Dim& dim : dims) extents.push_back(value(dim));
  tensor = Tensor(dtype, extents);
  return build.input("x" + std::to_string(inputs.size()), {dtype, dims});
}

ValueId Draft::input(DType dtype, const Dims& dims, double low, double high) {
  if (dtype == DType::boolean) return integers(dtype, dims, 0, 1);
  if (!is_float(dtype)) return integers(dtype, dims, is_signed(dtype) ? -9 : 0, 9);
  Tensor tensor;
  const ValueId id = add(dtype, dims, tensor);
  for (int64_t i = 0; i < tensor.element_count(); ++i)
    tensor.set_float(i, static_cast<double>(between(std::llround(std::ceil(low * 8)), std::llround(std::floor(high * 8)))) / 8);
  inputs.push_back(tensor);
  return id;
}

ValueId Draft::weights(DType dtype, const std::vector<int64_t>& dims) {
  Tensor tensor(dtype, dims);
  for (int64_t i = 0; i < tensor.element_count(); ++i) {
    const int value = static_cast<int>(choose(17)) - (is_signed(dtype) ? 8 : 0);
    is_float(dtype) ? tensor.set_float(i, value / 8.0) : tensor.set_int(i, value);
  }
  return build.constant(tensor);
}

ValueId Draft::integers(DType dtype, const Dims& dims, int64_t low, int64_t high) {
  Tensor tensor;
  const ValueId id = add(dtype, dims, tensor);
  for (int64_t i = 0; i < tensor.element_count(); ++i)
    is_float(dtype) ? tensor.set_float(i, static_cast<double>(between(low, high))) : tensor.set_int(i, between(low, high));
  inputs.push_back(tensor);
  return id;
}

}  // namespace tilewright::emulated
