#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <variant>

#include "graph/graph.h"

namespace tilewright::onnx {

/// What a model may cost before it is refused (invalid_input naming the limit).
struct ImportLimits {
  int64_t file_bytes = (int64_t{1} << 31) - 1;    ///< of the model file; the wire format itself ends here
  int64_t nodes = 1'000'000;                      ///< imported, calls of functions and repeated bodies included
  int64_t tensor_bytes = int64_t{1} << 34;        ///< of one stored tensor in memory
  int64_t total_tensor_bytes = int64_t{1} << 36;  ///< of all stored tensors together
  int64_t sparse_bytes = int64_t{1} << 30;        ///< of the dense form of one sparse tensor
  int nesting = 24;                               ///< sub-graphs and function calls inside each other
};

/// A tensor, or a number that fills the input's own shape, converted to its dtype.
using FixedValue = std::variant<Tensor, int64_t, double>;

struct ImportOptions {
  std::map<std::string, Dims> shapes;  ///< input name → dims, instead of those the model states
  /// Value of a run-time size of the inputs: under the model's name for it (dim_param), the one that the graph prints, or one of `shapes`.
  std::map<std::string, int64_t> sizes;
  /// Input name → a value fixed at compile time; it is no input of the result then. For operators that must know a value, an axis
  /// or a scale, which the model leaves to its caller.
  std::map<std::string, FixedValue> constants;
  ImportLimits limits;
};

/// Reads an ONNX model file and builds its graph of core operators. Stored weights become constants that share the file's bytes
/// where they can. External data is read from the model's own folder only.
/// Throws invalid_input for a broken model, and one Error{unsupported} that lists every node Tilewright cannot do.
Graph import_onnx(const std::filesystem::path& model, const ImportOptions& options = {});

/// The same from memory. `folder` is where external data may lie; empty: the model may have none.
Graph import_onnx(std::span<const std::byte> model, const std::filesystem::path& folder = {}, const ImportOptions& options = {});

}  // namespace tilewright::onnx
