#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "pattern/pattern.h"

/// Text of programs; print() is declared beside Program.
namespace tilewright::pattern {

// In the order of their enumerations.
inline constexpr std::string_view reduction_names[] = {"sum", "product", "min", "max", "arg_min", "arg_max", "arg_min_last", "arg_max_last"};
inline constexpr std::string_view selection_names[] = {"nonzero", "top_k", "unique", "compress", "nms"};
inline constexpr std::string_view combination_names[] = {"assign", "add", "mul", "min", "max"};

/// What a large constant prints as, after '#'.
std::string hash_of(const Tensor& tensor);

/// The reverse of print(): print(parse_program(print(p))) == print(p). `constants`: by hash, for those too large to print; one that is not
/// there, or text that is no program, throws invalid_input naming the line. The result is not verified.
Program parse_program(std::string_view text, const std::map<std::string, std::shared_ptr<const Tensor>>& constants = {});

}  // namespace tilewright::pattern
