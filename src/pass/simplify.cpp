#include "pass/simplify.h"

#include <cmath>

#include "pass/editor.h"

namespace tilewright {
namespace {

using Result = std::optional<std::vector<ValueId>>;

/// The one value of a constant whose elements are all the same.
std::optional<double> splat(const Editor& editor, ValueId id) {
  const Tensor* tensor = editor.constant(id);
  if (tensor == nullptr || tensor->element_count() == 0 || tensor->element_count() > 4096) return std::nullopt;
  const double first = tensor->float_at(0);
  for (int64_t i = 1; i < tensor->element_count(); ++i)
    if (tensor->float_at(i) != first || std::signbit(tensor->float_at(i)) != std::signbit(first)) return std::nullopt;
  return first;
}

/// `value` in place of the node, when it has the node's type: neutral elements must not have broadcast.
Result same_type(Editor& editor, const Node& node, ValueId value) {
  if (editor.graph().type(value) != editor.graph().type(node.outputs[0])) return std::nullopt;
  return std::vector<ValueId>{value};
}

Result neutral_elements(Editor& editor, const Node& node) {
  const auto left = splat(editor, node.inputs[0]), right = splat(editor, node.inputs[1]);
  const bool integers = !is_float(editor.graph().type(node.inputs[0]).dtype);
  if (node.op == "mul") {
    if (right == 1.0) return same_type(editor, node, node.inputs[0]);
    if (left == 1.0) return same_type(editor, node, node.inputs[1]);
  }
  if (node.op == "div" && right == 1.0) return same_type(editor, node, node.inputs[0]);
  if (node.op == "pow" && right == 1.0) return same_type(editor, node, node.inputs[0]);
  // x + 0 is -0 + 0 = 0 for floats; x - 0 and x + -0 are x.
  if (node.op == "sub" && right == 0.0 && !std::signbit(*right)) return same_type(editor, node, node.inputs[0]);
  if (node.op == "add") {
    if (right == 0.0 && (integers || std::signbit(*right))) return same_type(editor, node, node.inputs[0]);
    if (left == 0.0 && (integers || std::signbit(*left))) return same_type(editor, node, node.inputs[1]);
  }
  return std::nullopt;
}

Result involutions(Editor& editor, const Node& node) {
  const Node* inner = editor.producer(node.inputs[0]);
  if (inner == nullptr || inner->op != node.op) return std::nullopt;
  return same_type(editor, node, editor.resolve(inner->inputs[0]));
}

/// x², √x and 1/x written as powers.
Result powers(Editor& editor, const Node& node) {
  const auto exponent = splat(editor, node.inputs[1]);
  if (!exponent || !is_float(editor.graph().type(node.inputs[0]).dtype)) return std::nullopt;
  Builder& b = editor.builder();
  if (*exponent == 2.0) return same_type(editor, node, b.mul(node.inputs[0], node.inputs[0]));
  return neutral_elements(editor, node);
}

bool is_identity(const std::vector<int64_t>& permutation) {
  for (size_t i = 0; i < permutation.size(); ++i)
    if (permutation[i] != static_cast<int64_t>(i)) return false;
  return true;
}

/// A slice of one axis that takes each element of a range.
struct Range {
  ValueId of = no_value;
  Dim start, end;
};

std::optional<Range> range_along(Editor& editor, ValueId id, size_t axis) {
  const Node* node = editor.producer(id);
  if (node == nullptr || node->op != "slice") return std::nullopt;
  const ValueId source = editor.resolve(node->inputs[0]);
  const Dims& dims = editor.graph().type(source).dims;
  const auto& starts = std::get<Dims>(node->attributes.at("starts"));
  const auto& counts = std::get<Dims>(node->attributes.at("counts"));
  const auto& steps = std::get<std::vector<int64_t>>(node->attributes.at("steps"));
  for (size_t d = 0; d < dims.size(); ++d)
    if (steps[d] != 1 || (d != axis && !(starts[d] == Dim(0) && counts[d] == dims[d]))) return std::nullopt;
  return Range{source, starts[axis], starts[axis] + counts[axis]};
}

/// [… x[a:b] x[b:c] …] = [… x[a:c] …]
Result concatenations(Editor& editor, const Node& node) {
  if (node.inputs.size() == 1) return same_type(editor, node, node.inputs[0]);
  const auto axis = static_cast<size_t>(std::get<int64_t>(node.attributes.at("axis")));
  std::vector<ValueId> operands;
  std::optional<Range> last;
  for (const ValueId id : node.inputs) {
    const std::optional<Range> range = range_along(editor, id, axis);
    if (last && range && last->of == range->of && last->end == range->start) {
      last->end = range->end;
      Builder& b = editor.builder();
      const bool whole = last->start == Dim(0) && last->end == b.dims(last->of)[axis];
      operands.back() = whole ? last->of : b.slice(last->of, static_cast<int>(axis), last->start, last->end - last->start);
      continue;
    }
    operands.push_back(id);
    last = range;
  }
  if (operands.size() == node.inputs.size()) return std::nullopt;
  if (operands.size() == 1) return same_type(editor, node, operands[0]);
  return same_type(editor, node, editor.builder().concat(operands, static_cast<int>(axis)));
}

Result movements(Editor& editor, const Node& node) {
  const ValueId x = node.inputs[0];
  if (node.op == "concat") return concatenations(editor, node);
  if (node.op == "transpose") {
    const auto& permutation = std::get<std::vector<int64_t>>(node.attributes.at("permutation"));
    if (is_identity(permutation)) return same_type(editor, node, x);
    const Node* inner = editor.producer(x);
    if (inner == nullptr || inner->op != "transpose") return std::nullopt;
    const auto& first = std::get<std::vector<int64_t>>(inner->attributes.at("permutation"));
    std::vector<int64_t> joined;
    for (const int64_t axis : permutation) joined.push_back(first[static_cast<size_t>(axis)]);
    if (is_identity(joined)) return same_type(editor, node, editor.resolve(inner->inputs[0]));
    return same_type(editor, node, editor.builder().transpose(editor.resolve(inner->inputs[0]), joined));
  }
  if (node.op == "slice") {
    const auto& steps = std::get<std::vector<int64_t>>(node.attributes.at("steps"));
    for (const int64_t step : steps)
      if (step != 1) return std::nullopt;
    return same_type(editor, node, x);
  }
  if (const Result same = same_type(editor, node, x)) return same;  // reshape, broadcast, cast to what it is
  const Node* inner = editor.producer(x);
  if (inner == nullptr || inner->op != node.op) return std::nullopt;
  const ValueId source = editor.resolve(inner->inputs[0]);
  if (node.op == "reshape") return same_type(editor, node, editor.builder().reshape(source, editor.graph().type(node.outputs[0]).dims));
  if (node.op == "broadcast") return same_type(editor, node, editor.builder().broadcast(source, editor.graph().type(node.outputs[0]).dims));
  return std::nullopt;
}

Result rule(Editor& editor, const Node& node) {
  const std::string& op = node.op;
  if (op == "mul" || op == "div" || op == "add" || op == "sub") return neutral_elements(editor, node);
  if (op == "pow") return powers(editor, node);
  if (op == "neg" || op == "not" || op == "bit_not") return involutions(editor, node);
  if (op == "reshape" || op == "transpose" || op == "broadcast" || op == "cast" || op == "concat" || op == "slice") return movements(editor, node);
  return std::nullopt;
}

}  // namespace

void simplify(Graph& graph) { apply_rule(graph, rule); }

}  // namespace tilewright
