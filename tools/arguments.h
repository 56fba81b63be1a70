#pragma once

#include <string>
#include <utility>

#include "base/dim.h"
#include "base/tensor.h"
#include "import/onnx/import.h"
#include "pass/precision.h"

/// Texts of options, NAME=VALUE each, read strictly. Throws invalid_input that says what is wrong.
namespace tilewright::tools {

/// "x=1x3x224x224": numbers, separated by 'x' or ','. "x=batch,3,max_len": names, [A-Za-z_][A-Za-z0-9_.]*, are separated by ','.
/// "x=[]": a scalar.
std::pair<std::string, Dims> parse_shape(const std::string& text);

/// "max_len=128".
std::pair<std::string, int64_t> parse_size(const std::string& text);

/// "axes=axes.npy", "axes=axes.pb", "axis=1", "scale=0.5"; reads the file.
std::pair<std::string, onnx::FixedValue> parse_constant(const std::string& text);

/// "head*=fp32".
PolicyRule parse_policy_rule(const std::string& text);

/// The options that give it: "--policy bf16 --policy-for 'head*=fp32'".
std::string policy_options(const Precision& precision);
/// What a library's manifest says it keeps; fp32 where it says nothing.
Precision promised_precision(const std::string& manifest);

/// "90", "90s", "5m", "1.5h": seconds, more than none.
double parse_seconds(const std::string& text);

/// A tensor of a .npy or .pb file.
Tensor read_tensor(const std::string& file);

}  // namespace tilewright::tools
