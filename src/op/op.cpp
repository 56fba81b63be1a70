#include "op/op.h"

namespace tilewright {

bool InferContext::has(int i) const { return i < static_cast<int>(node_.inputs.size()) && node_.inputs[static_cast<size_t>(i)] != no_value; }

const Type& InferContext::type(int i) const {
  require(has(i), "input {} is missing", i);
  return graph_.type(node_.inputs[static_cast<size_t>(i)]);
}

std::shared_ptr<const Tensor> InferContext::constant(int i) const { return has(i) ? graph_.value(node_.inputs[static_cast<size_t>(i)]).constant : nullptr; }

std::optional<Dims> InferContext::contents(int i) const {
  if (!has(i)) return std::nullopt;
  const Value& value = graph_.value(node_.inputs[static_cast<size_t>(i)]);
  if (value.contents) return value.contents;
  if (!value.constant || is_float(value.type.dtype) || value.constant->element_count() > 4096) return std::nullopt;
  Dims contents;
  for (const int64_t element : value.constant->ints()) contents.push_back(element);
  return contents;
}

namespace {

template <class T>
const T* find_attribute(const Node& node, std::string_view name) {
  const auto found = node.attributes.find(std::string(name));
  return found == node.attributes.end() ? nullptr : std::get_if<T>(&found->second);
}

}  // namespace

int64_t InferContext::integer(std::string_view name) const {
  const int64_t* value = find_attribute<int64_t>(node_, name);
  require(value != nullptr, "attribute '{}' is missing", name);
  return *value;
}

int64_t InferContext::integer_or(std::string_view name, int64_t fallback) const {
  const int64_t* value = find_attribute<int64_t>(node_, name);
  return value != nullptr ? *value : fallback;
}

double InferContext::real_or(std::string_view name, double fallback) const {
  const double* value = find_attribute<double>(node_, name);
  return value != nullptr ? *value : fallback;
}

std::string InferContext::text_or(std::string_view name, const std::string& fallback) const {
  const std::string* value = find_attribute<std::string>(node_, name);
  return value != nullptr ? *value : fallback;
}

std::vector<int64_t> InferContext::integers(std::string_view name) const {
  const auto* value = find_attribute<std::vector<int64_t>>(node_, name);
  return value != nullptr ? *value : std::vector<int64_t>{};
}

Dims InferContext::sizes(std::string_view name) const {
  if (const Dims* value = find_attribute<Dims>(node_, name)) return *value;
  const std::vector<int64_t> numbers = integers(name);
  return {numbers.begin(), numbers.end()};
}

DType InferContext::dtype_attribute(std::string_view name) const {
  const DType* value = find_attribute<DType>(node_, name);
  require(value != nullptr, "attribute '{}' is missing", name);
  return *value;
}

void InferContext::require_equal(const Dim& a, const Dim& b, std::string_view what) const {
  if (a == b) return;
  require(!a.is_constant() || !b.is_constant(), "{}: {} is not {}", what, a.str(), b.str());
  checks_.push_back({a, b, std::string(what)});
}

namespace {

/// Whether a run-time size may turn out to be 1 beside another: named sizes of inputs may. Sizes that were computed are taken as equal, or the
/// sizes of deep networks would grow with every layer.
bool may_repeat(const Dim& a, const Dim& b) {
  const auto simple = [](const Dim& dim) { return dim.is_constant() || dim.as_symbol().has_value(); };
  return simple(a) && simple(b);
}

}  // namespace

void InferContext::require_broadcast(const Dim& a, const Dim& b, std::string_view what) const {
  if (a == b || a == Dim(1) || b == Dim(1)) return;
  if (!may_repeat(a, b)) return require_equal(a, b, what);
  // The smaller is 1, or they are equal: one of the two factors is 0.
  const Dim low = min(a, b), high = max(a, b);
  const Dim differences = (high - low) * (low - 1);
  checks_.push_back({differences, 0, fmt::format("{} ({} and {} are neither equal nor 1)", what, a.str(), b.str())});
}

Dims broadcast_dims(const InferContext& context, const Dims& a, const Dims& b) {
  const size_t rank = std::max(a.size(), b.size());
  Dims result(rank);
  for (size_t i = 0; i < rank; ++i) {  // from the last axis
    const Dim left = i < a.size() ? a[a.size() - 1 - i] : Dim(1), right = i < b.size() ? b[b.size() - 1 - i] : Dim(1);
    Dim& joined = result[rank - 1 - i];
    if (left == Dim(1))
      joined = right;
    else if (right == Dim(1) || left == right)
      joined = left;
    else {
      context.require(!left.is_constant() || !right.is_constant(), "shapes {} and {} do not broadcast: {} is not {} and neither is 1", str(a), str(b),
                      left.str(), right.str());
      context.require_broadcast(left, right, fmt::format("sizes of {} and {} that broadcast", str(a), str(b)));
      joined = left.is_constant() ? left : right.is_constant() ? right : may_repeat(left, right) ? max(left, right) : left;
    }
  }
  return result;
}

pattern::TensorId Lowering::temporary(Type type, std::string_view suffix) {
  return program.add_tensor(std::move(type), fmt::format("{}.{}#{}", node.name, suffix, program.tensors.size()));
}

void Lowering::emit(pattern::NestBuilder& nest) { program.patterns.emplace_back(nest.finish(node.name)); }
void Lowering::emit(pattern::Pattern pattern) { program.patterns.push_back(std::move(pattern)); }

}  // namespace tilewright
