#pragma once

#include <span>

#include "op/op.h"

/// One accessor a file of operators; registry.cpp joins them.
namespace tilewright {

std::span<const OpDef> contraction_ops();
std::span<const OpDef> control_ops();
std::span<const OpDef> convolution_ops();
std::span<const OpDef> cumulate_ops();
std::span<const OpDef> deform_conv_ops();
std::span<const OpDef> determinant_ops();
std::span<const OpDef> dft_ops();
std::span<const OpDef> einsum_ops();
std::span<const OpDef> elementwise_ops();
std::span<const OpDef> gather_ops();
std::span<const OpDef> grid_sample_ops();
std::span<const OpDef> movement_ops();
std::span<const OpDef> pooling_ops();
std::span<const OpDef> reduction_ops();
std::span<const OpDef> resize_ops();
std::span<const OpDef> roi_align_ops();
std::span<const OpDef> scatter_ops();
std::span<const OpDef> select_ops();

}  // namespace tilewright
