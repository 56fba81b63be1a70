#pragma once

#include <functional>

#include "target/source/attention_shape.h"
#include "target/source/cpp_text.h"
#include "target/source/kernel_text.h"

namespace tilewright::source {

/// The Nests of a kernel that schedule::is_attention(): those of schedule::Attention, in order.
std::vector<const pattern::Nest*> stages_of(const schedule::Kernel& kernel);

/// `const auto weight = [&](i64 batch, i64 row, float total) -> float …`: what the softmax's last stage makes of a power, when the power is
/// one: 1 / total, or the zero that stands for it. `declare`: writes what the lambda needs before its first line.
void write_weight(const KernelText& kernel, const AttentionShape& shape, const std::vector<const pattern::Nest*>& stages, const std::function<void()>& declare,
                  Writer& out);

}  // namespace tilewright::source
