#pragma once

#include "target/source/nest_body.h"

/// How the results of reductions are begun, combined and read in the text.
namespace tilewright::source {

bool is_arg(pattern::ReduceOp op);
/// What a variable that holds the result is of; arg_*: i64.
DType result_dtype(const pattern::Reduction& reduction);
/// The result over nothing; arg_*: -1, no index yet.
std::string start_value(const pattern::Reduction& reduction);
/// Two partial results as one; not for arg_*.
std::string combined(const pattern::Reduction& reduction, const std::string& a, const std::string& b);
/// Writes the lines that take the value at hand into result `sum`; arg_* keep the value beside its index in `best`.
void write_combine(const LoweredNest& nest, size_t reduction, const std::string& sum, const std::string& best, NestBody& body);
/// `sum` as what is stored computes with it.
Operand finished(const pattern::Reduction& reduction, const std::string& sum);

}  // namespace tilewright::source
