#include <map>

#include "op/tables.h"

namespace tilewright {
namespace {

using pattern::Expr;
using pattern::Map;
using pattern::NestBuilder;
using pattern::ReduceOp;

/// "ij,jk->ik": the letters of each operand's axes, and of the result's.
struct Equation {
  std::vector<std::string> operands;
  std::string result;
  std::map<char, Dim> sizes;
  std::string summed;  ///< letters that the result lacks, in order of first mention
};

Equation parse(const InferContext& c) {
  const std::string text = c.text_or("equation", "");
  const size_t arrow = text.find("->");
  c.require(arrow != std::string::npos, "equation '{}' has no '->'", text);
  Equation e;
  e.result = text.substr(arrow + 2);
  std::string labels;
  for (const char letter : text.substr(0, arrow) + ",") {
    if (letter != ',') {
      labels += letter;
      continue;
    }
    e.operands.push_back(labels);
    labels.clear();
  }
  c.require(static_cast<int>(e.operands.size()) == c.input_count(), "equation '{}' is for {} operands; {} are given", text, e.operands.size(), c.input_count());
  for (int i = 0; i < c.input_count(); ++i) {
    const std::string& axes = e.operands[static_cast<size_t>(i)];
    c.require(static_cast<int>(axes.size()) == c.rank(i), "operand {} is {}; equation '{}' gives it {} axes", i, str(c.dims(i)), text, axes.size());
    for (size_t axis = 0; axis < axes.size(); ++axis) {
      const Dim& size = c.dims(i)[axis];
      const auto [known, added] = e.sizes.emplace(axes[axis], size);
      if (added || size == Dim(1)) continue;
      if (known->second == Dim(1))
        known->second = size;
      else
        c.require_equal(known->second, size, fmt::format("sizes of axis '{}' in '{}'", axes[axis], text));
    }
  }
  for (size_t at = 0; at < e.result.size(); ++at)
    c.require(e.sizes.count(e.result[at]) && e.result.find(e.result[at]) == at, "result axis '{}' of '{}' is unknown or repeated", e.result[at], text);
  for (const std::string& axes : e.operands)
    for (const char letter : axes)
      if (e.result.find(letter) == std::string::npos && e.summed.find(letter) == std::string::npos) e.summed += letter;
  return e;
}

std::vector<Type> infer_einsum(const InferContext& c) {
  const Equation e = parse(c);
  for (int i = 1; i < c.input_count(); ++i) c.require(c.dtype(i) == c.dtype(0), "operands are {} and {}; dtypes must agree", str(c.type(0)), str(c.type(i)));
  Dims dims;
  for (const char letter : e.result) dims.push_back(e.sizes.at(letter));
  return {{c.node().attributes.count("dtype") > 0 ? c.dtype_attribute("dtype") : c.dtype(0), dims}};
}

/// Result axes kept, all others reduced; a letter that an operand repeats reads its diagonal.
void lower_einsum(Lowering& l) {
  const InferContext c = l.context();
  const Equation e = parse(c);
  const std::string letters = e.result + e.summed;
  Dims space;
  Map::Extents extents;
  for (const char letter : letters) {
    space.push_back(e.sizes.at(letter));
    extents.push_back(e.sizes.at(letter));
  }
  const DType dtype = l.out_type().dtype, wide = dtype == DType::f16 || dtype == DType::bf16 ? DType::f32 : dtype;
  NestBuilder n(space, static_cast<int>(e.summed.size()));
  std::optional<Expr> product;
  for (size_t i = 0; i < e.operands.size(); ++i) {
    const Dims dims = l.in_type(static_cast<int>(i)).dims;
    Map::Outputs outputs;
    Map::Transforms zeros;
    for (size_t axis = 0; axis < dims.size(); ++axis) {
      const int slot = static_cast<int>(letters.find(e.operands[i][axis]));
      if (dims[axis] == Dim(1) && !(space[static_cast<size_t>(slot)] == Dim(1))) {
        zeros.push_back({});
        outputs.push_back(static_cast<int>(letters.size()) + zeros.size() - 1);
      } else {
        outputs.push_back(slot);
      }
    }
    const Expr factor = n.cast(n.load(l.in(static_cast<int>(i)), l.in_type(static_cast<int>(i)).dtype, Map::from_parts(extents, zeros, {}, {}, outputs)), wide);
    product = product ? *product * factor : factor;
  }
  n.store(l.out(), n.cast(e.summed.empty() ? *product : n.reduce(ReduceOp::sum, *product, wide), dtype));
  l.emit(n);
}

constexpr OpDef ops[] = {{"einsum", 1, -1, infer_einsum, lower_einsum}};

}  // namespace

std::span<const OpDef> einsum_ops() { return ops; }

}  // namespace tilewright
