#include <algorithm>

#include "import/onnx/operands.h"
#include "import/onnx/operators.h"

/// Sequences exist at import only: as lists of values whose length is known.
namespace tilewright::onnx {
namespace {

Operand sequence_of(std::vector<ValueId> values) { return {Operand::Kind::sequence, no_value, std::move(values)}; }

/// A position in a sequence, from input i; `end` may be named too when inserting.
size_t position(NodeImport& n, int i, size_t size, bool end_too) {
  const std::vector<int64_t> at = known_integers(n, i, "position");
  n.require(at.size() == 1, "needs one position");
  const auto length = static_cast<int64_t>(size);
  const int64_t index = at[0] < 0 ? at[0] + length : at[0];
  n.require(index >= 0 && index < length + (end_too ? 1 : 0), "position {} is outside of a sequence of {}", at[0], length);
  return static_cast<size_t>(index);
}

void construct(NodeImport& n) { n.set(0, sequence_of(n.all_inputs())); }
void empty(NodeImport& n) { n.set(0, sequence_of({})); }

void at(NodeImport& n) {
  const std::vector<ValueId>& values = n.sequence(0);
  n.set(values[position(n, 1, values.size(), false)]);
}

void insert(NodeImport& n) {
  std::vector<ValueId> values = n.sequence(0);
  const size_t where = n.has(2) ? position(n, 2, values.size(), true) : values.size();
  values.insert(values.begin() + static_cast<std::ptrdiff_t>(where), n.in(1));
  n.set(0, sequence_of(std::move(values)));
}

void erase(NodeImport& n) {
  std::vector<ValueId> values = n.sequence(0);
  n.require(!values.empty(), "nothing can be erased from an empty sequence");
  const size_t where = n.has(1) ? position(n, 1, values.size(), false) : values.size() - 1;
  values.erase(values.begin() + static_cast<std::ptrdiff_t>(where));
  n.set(0, sequence_of(std::move(values)));
}

void length(NodeImport& n) { n.set(n.b.constant(Tensor::from_ints({static_cast<int64_t>(n.sequence(0).size())}).reshaped({}))); }

void concat_from_sequence(NodeImport& n) {
  std::vector<ValueId> values = n.sequence(0);
  n.require(!values.empty(), "cannot join an empty sequence");
  const int rank = n.b.rank(values[0]);
  for (const ValueId value : values) n.require(n.b.rank(value) == rank, "its tensors {} and {} differ in rank", str(n.b.type(values[0])), str(n.b.type(value)));
  if (!n.flag("new_axis", false)) return n.set(n.b.concat(values, n.axis(n.integer("axis"), rank)));
  const int axis = n.axis(n.integer("axis"), rank + 1);
  for (ValueId& value : values) value = n.b.unsqueeze(value, {axis});
  n.set(n.b.concat(values, axis));
}

void split_to_sequence(NodeImport& n) {
  const ValueId x = n.in(0);
  const int axis = n.axis(n.integer("axis", 0), n.b.rank(x));
  const Dim total = n.b.dims(x)[static_cast<size_t>(axis)];
  if (!total.is_constant()) n.unsupported("the size of the split axis must be known, not {}; give --shape or --size", total.str());
  std::vector<int64_t> sizes;
  const bool listed = n.has(1) && n.rank(1) == 1;
  if (listed) {
    sizes = known_integers(n, 1, "split");
  } else {
    const std::vector<int64_t> size = n.has(1) ? known_integers(n, 1, "split") : std::vector<int64_t>{1};
    n.require(size.size() == 1 && size[0] > 0, "its parts have no size");
    n.require(total.constant() / size[0] <= 65536, "makes more than 65536 parts");
    for (int64_t start = 0; start < total.constant(); start += size[0]) sizes.push_back(std::min(size[0], total.constant() - start));
  }
  std::vector<ValueId> parts;
  Dim start = 0;
  for (const int64_t size : sizes) {
    n.require(size >= 0, "a part has size {}", size);
    ValueId part = n.b.slice(x, axis, start, size);
    if (!n.has(1) && !n.flag("keepdims", true)) part = n.b.squeeze(part, {axis});
    parts.push_back(part);
    start += size;
  }
  n.require(start == total, "parts add up to {}, not {}", start.str(), total.str());
  n.set(0, sequence_of(std::move(parts)));
}

/// Applies the body to each element; further sequences go along element by element, tensors as they are.
void sequence_map(NodeImport& n) {
  const GraphProto& body = n.graph("body");
  std::vector<std::vector<ValueId>> results(static_cast<size_t>(body.output_size()));
  const size_t count = n.sequence(0).size();
  for (size_t i = 0; i < count; ++i) {
    std::vector<ValueId> arguments;
    for (int k = 0; k < n.input_count(); ++k) {
      if (n.operand(k).kind != Operand::Kind::sequence) {
        arguments.push_back(n.in(k));
        continue;
      }
      n.require(n.sequence(k).size() == count, "its sequences have different lengths");
      arguments.push_back(n.sequence(k)[i]);
    }
    const std::vector<Operand> outputs = n.expand_subgraph(body, arguments);
    for (size_t k = 0; k < outputs.size(); ++k) {
      if (outputs[k].kind != Operand::Kind::tensor) n.unsupported("its body gives sequences");
      results[k].push_back(outputs[k].tensor);
    }
  }
  for (size_t k = 0; k < results.size(); ++k) n.set(static_cast<int>(k), sequence_of(results[k]));
}

constexpr OperatorEntry table[] = {
    {"", "ConcatFromSequence", 11, concat_from_sequence},
    {"", "SequenceAt", 11, at},
    {"", "SequenceConstruct", 11, construct},
    {"", "SequenceEmpty", 11, empty},
    {"", "SequenceErase", 11, erase},
    {"", "SequenceInsert", 11, insert},
    {"", "SequenceLength", 11, length},
    {"", "SequenceMap", 17, sequence_map},
    {"", "SplitToSequence", 11, split_to_sequence},
};

}  // namespace

std::span<const OperatorEntry> sequence_operators() { return table; }

}  // namespace tilewright::onnx
