#include "pass/apply_precision.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "base/error.h"

namespace tilewright {
namespace {

/// Products of fewer multiply-adds are plain loops: nothing would be gained.
constexpr int64_t least_work = 2048;
/// Elements of a table that a gather reads, from which on its size counts.
constexpr int64_t least_table = 1 << 16;

size_t at(int i) { return static_cast<size_t>(i); }

bool is_one_of(std::string_view op, std::initializer_list<std::string_view> names) { return std::find(names.begin(), names.end(), op) != names.end(); }

bool is_product(std::string_view op) { return is_one_of(op, {"conv", "conv_transpose", "einsum", "matmul"}); }

/// Operators that give elements of their operands as they are.
bool moves(const Node& node) { return is_one_of(node.op, {"broadcast", "concat", "gather", "max_pool", "pad", "reshape", "slice", "transpose"}); }

/// Whether a relative error of an operand is about one of the result.
bool bears_rounding(std::string_view op) {
  return is_one_of(op, {"abs", "add", "average_pool", "cast", "div", "erf", "max", "min", "mul", "neg", "sigmoid", "sqrt", "tanh", "where"});
}

bool is_arithmetic(std::string_view op) { return is_one_of(op, {"add", "cast", "div", "max", "min", "mul", "neg", "sub", "where"}); }

/// Operands whose elements the product multiplies, or the movement moves.
std::vector<size_t> elements_of(const Node& node) {
  std::vector<size_t> operands = {0};
  if (node.op == "conv" || node.op == "conv_transpose" || node.op == "matmul" || node.op == "pad") operands.push_back(1);
  if (node.op == "einsum" || node.op == "concat")
    for (size_t i = 1; i < node.inputs.size(); ++i) operands.push_back(i);
  std::erase_if(operands, [&](size_t i) { return i >= node.inputs.size() || node.inputs[i] == no_value; });
  return operands;
}

bool is_wide_integer(DType dtype) { return is_integer(dtype) && bits_of(dtype) > 8; }

/// By axis of a constant: whether its coordinate tells elements of different results apart (output channels, columns, rows of a table).
using ResultAxes = std::vector<bool>;

ResultAxes result_axes_of(const Graph& graph, const Node& node, size_t operand) {
  const size_t rank = graph.type(node.inputs[operand]).dims.size();
  ResultAxes axes(rank, false);
  if (node.op == "conv" && operand == 1) axes[0] = true;
  if (node.op == "conv_transpose" && operand == 1) axes[1] = true;
  if (node.op == "gather") axes[at(static_cast<int>(std::get<int64_t>(node.attributes.at("axis"))))] = true;
  if (node.op == "matmul" && rank > 0) {
    axes.assign(rank, true);
    axes[operand == 0 || rank == 1 ? rank - 1 : rank - 2] = false;
  }
  if (node.op == "einsum") {
    std::string_view equation = std::get<std::string>(node.attributes.at("equation"));
    const std::string_view result = equation.substr(equation.find("->") + 2);
    for (size_t i = 0; i < operand; ++i) equation.remove_prefix(equation.find(',') + 1);
    for (size_t axis = 0; axis < rank; ++axis) axes[axis] = result.find(equation[axis]) != std::string_view::npos;
  }
  return axes;
}

/// Why `rounded` may not stand for `tensor`, or "". Every result's elements are judged by themselves.
std::string problem_of(const Tensor& tensor, const Tensor& rounded, const ResultAxes& results) {
  struct Sums {
    double squares = 0, errors = 0, largest = 0;
  };
  const std::vector<int64_t>& dims = tensor.dims();
  std::vector<int64_t> steps(dims.size(), 0), index(dims.size(), 0);
  int64_t count = 1;
  for (size_t axis = dims.size(); axis-- > 0;)
    if (results[axis]) steps[axis] = count, count *= dims[axis];
  std::vector<Sums> all(at(static_cast<int>(count)));
  const Tensor back = rounded.cast_to(DType::f32);
  const auto *was = tensor.as<float>(), *is = back.as<float>();
  int64_t row = 0;
  for (int64_t i = 0; i < tensor.element_count(); ++i) {
    if (std::isfinite(was[i])) {  // else it is what it was
      Sums& sums = all[static_cast<size_t>(row)];
      const double value = was[i], error = value - static_cast<double>(is[i]);
      sums.squares += value * value;
      sums.errors += error * error;
      sums.largest = std::max(sums.largest, std::abs(value));
    }
    for (size_t axis = dims.size(); axis-- > 0;) {
      row += steps[axis];
      if (++index[axis] < dims[axis]) break;
      row -= steps[axis] * dims[axis];
      index[axis] = 0;
    }
  }
  const std::string_view half = name(rounded.dtype());
  const double step = rounded.dtype() == DType::bf16 ? 0x1p-8 : 0x1p-11;
  for (const Sums& sums : all) {
    if (std::isinf(sums.errors)) return fmt::format("a constant of magnitude {:.4g} is beyond {}", sums.largest, half);
    if (sums.errors > step * step * sums.squares) return fmt::format("constants of magnitude {:.2g} at most are too small for {}", sums.largest, half);
  }
  return "";
}

class PrecisionPass {
 public:
  PrecisionPass(Graph& graph, const Precision& precision, PrecisionReport& report) : graph_(graph), precision_(precision), report_(report) {}

  void run() {
    index();
    choose_products();
    spread();
    rewrite();
  }

 private:
  struct Use {
    int node;
    size_t operand;
  };
  using Key = std::pair<ValueId, DType>;

  void index() {
    uses_.resize(graph_.values.size());
    producer_.assign(graph_.values.size(), -1);
    is_output_.assign(graph_.values.size(), false);
    for (const ValueId id : graph_.outputs) is_output_[at(id)] = true;
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      for (size_t k = 0; k < node.inputs.size(); ++k)
        if (node.inputs[k] != no_value) uses_[at(node.inputs[k])].push_back({static_cast<int>(i), k});
      for (const ValueId id : node.outputs) producer_[at(id)] = static_cast<int>(i);
    }
    lowered_.resize(graph_.nodes.size());
    find_positions();
    find_fragile_uses();
  }

  const Node* producer(ValueId id) const { return producer_[at(id)] < 0 ? nullptr : &graph_.nodes[at(producer_[at(id)])]; }
  bool is_f32(ValueId id) const { return graph_.type(id).dtype == DType::f32; }

  /// Floats made of integers alone: positions, counts.
  void find_positions() {
    made_of_integers_.assign(graph_.values.size(), false);
    for (const Node& node : graph_.nodes) {
      if (node.outputs.size() != 1 || !is_float(graph_.type(node.outputs[0]).dtype)) continue;
      bool all = false;
      if (node.op == "iota") all = true;
      if (node.op == "cast") all = is_wide_integer(graph_.type(node.inputs[0]).dtype) || made_of_integers_[at(node.inputs[0])];
      if ((is_arithmetic(node.op) && node.op != "cast") || moves(node)) {
        bool any = false;
        all = true;
        for (const ValueId id : node.inputs) {
          if (id == no_value || graph_.value(id).constant || !is_float(graph_.type(id).dtype)) continue;
          any = true;
          all = all && made_of_integers_[at(id)];
        }
        all = all && any;
      }
      made_of_integers_[at(node.outputs[0])] = all;
    }
  }

  /// Floats that become indices, coordinates or angles, and those that become logarithms: of a spectrum, whose small values are differences of large ones,
  /// so that products before it count, too.
  void find_fragile_uses() {
    becomes_position_.assign(graph_.values.size(), false);
    becomes_logarithm_.assign(graph_.values.size(), false);
    for (size_t i = graph_.nodes.size(); i-- > 0;) {
      const Node& node = graph_.nodes[i];
      const bool passes_on = (is_arithmetic(node.op) || moves(node)) && node.outputs.size() == 1 && becomes_position_[at(node.outputs[0])];
      const bool to_integer = node.op == "cast" && is_wide_integer(graph_.type(node.outputs[0]).dtype);
      for (size_t k = 0; k < node.inputs.size(); ++k) {
        if (node.inputs[k] == no_value || !is_float(graph_.type(node.inputs[k]).dtype)) continue;
        const bool position = is_one_of(node.op, {"cos", "sin", "tan"}) || (k == 1 && is_one_of(node.op, {"grid_sample", "roi_align"}));
        if (passes_on || to_integer || position) becomes_position_[at(node.inputs[k])] = true;
        const bool passes_spectrum =
            is_arithmetic(node.op) || moves(node) || is_one_of(node.op, {"pow", "reduce_sum", "sqrt"}) || (is_product(node.op) && k == 0);
        if (node.op == "log" || (passes_spectrum && becomes_logarithm_[at(node.outputs[0])])) becomes_logarithm_[at(node.inputs[k])] = true;
      }
    }
  }

  /// The 16-bit dtype that the node's policy asks for.
  std::optional<DType> wanted(const PolicyRule* rule) const {
    const Policy policy = rule != nullptr ? rule->policy : precision_.policy;
    if (policy == Policy::bf16) return DType::bf16;
    if (policy == Policy::fp16) return DType::f16;
    return std::nullopt;
  }

  bool is_table(const Node& node) const {
    if (node.op != "gather" || !graph_.value(node.inputs[0]).constant) return false;
    const Tensor& table = *graph_.value(node.inputs[0]).constant;
    return table.rank() >= 2 && table.element_count() >= least_table;
  }

  void choose_products() {
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      const Node& node = graph_.nodes[i];
      if ((!is_product(node.op) && !is_table(node)) || !is_f32(node.outputs[0])) continue;
      const std::vector<size_t> operands = elements_of(node);
      if (!std::all_of(operands.begin(), operands.end(), [&](size_t k) { return is_f32(node.inputs[k]); })) continue;
      const PolicyRule* rule = precision_.rule_for(node);
      const std::optional<DType> half = wanted(rule);
      if (!half || is_small(node)) continue;
      std::string reason = rule != nullptr ? "" : why_fragile(node, operands);
      for (const size_t k : operands)
        if (reason.empty() && graph_.value(node.inputs[k]).constant && !is_filter_of_channels(node, k)) reason = problem_in(node, k, *half);
      if (reason.empty()) {
        lowered_[i] = half;
        report_.lowered += is_product(node.op);
      } else {
        report_.kept.push_back({node.op, node.name, reason});
      }
    }
  }

  bool is_small(const Node& node) const {
    if (!is_product(node.op)) return false;
    Dim work = product(graph_.type(node.outputs[0]).dims);
    const Dims& weights = graph_.type(node.inputs[node.inputs.size() > 1 ? 1 : 0]).dims;
    if (node.op == "matmul") work *= graph_.type(node.inputs[0]).dims.back();
    if (node.op == "conv") work *= product(Dims(weights.begin() + 1, weights.end()));
    if (node.op == "conv_transpose" || node.op == "einsum") work *= product(weights);
    return work.as_constant().value_or(least_work) < least_work;
  }

  std::string why_fragile(const Node& node, const std::vector<size_t>& operands) const {
    if (!is_product(node.op)) return "";
    bool quantised = true;
    for (const size_t k : operands) {
      const Node* cast = producer(node.inputs[k]);
      quantised = quantised && cast != nullptr && cast->op == "cast" && is_integer(graph_.type(cast->inputs[0]).dtype);
      if (made_of_integers_[at(node.inputs[k])]) return "an operand is made of integers";
    }
    if (quantised || sums_quantised(node)) return "quantised operands";
    if (becomes_position_[at(node.outputs[0])]) return "the result becomes an index or an angle";
    if (becomes_logarithm_[at(node.outputs[0])]) return "the result becomes a logarithm";
    return "";
  }

  /// Activations made of 8-bit integers: with weights that were, too, sums are exact.
  bool sums_quantised(const Node& node) const {
    const Node* cast = producer(node.inputs[0]);
    return cast != nullptr && cast->op == "cast" && is_integer(graph_.type(cast->inputs[0]).dtype) && node.inputs.size() > 1 &&
           graph_.value(node.inputs[1]).constant != nullptr && has_small_integers(*graph_.value(node.inputs[1]).constant);
  }

  static bool has_small_integers(const Tensor& tensor) {
    const auto* values = tensor.as<float>();
    return std::all_of(values, values + tensor.element_count(), [](float value) { return std::abs(value) <= 255 && value == std::trunc(value); });
  }

  /// Weights of a convolution with one filter a channel: few, and kernels multiply them as they are.
  bool is_filter_of_channels(const Node& node, size_t operand) const {
    return node.op == "conv" && operand == 1 && graph_.type(node.inputs[1]).dims[1] == Dim(1) && !(graph_.type(node.inputs[0]).dims[1] == Dim(1));
  }

  std::shared_ptr<const Tensor> constant_in(ValueId id, DType half) {
    auto& rounded = constants_[{id, half}];
    if (!rounded) rounded = std::make_shared<const Tensor>(graph_.value(id).constant->cast_to(half));
    return rounded;
  }

  /// Why the node cannot read its constant operand in 16 bits, or "".
  std::string problem_in(const Node& node, size_t operand, DType half) {
    const ValueId id = node.inputs[operand];
    return problem_of(*graph_.value(id).constant, *constant_in(id, half), result_axes_of(graph_, node, operand));
  }

  /// Whether the use reads 16-bit elements.
  std::optional<DType> read_as(const Use& use) const {
    const Node& node = graph_.nodes[at(use.node)];
    const std::optional<DType> half = is_product(node.op) || is_table(node) ? lowered_[at(use.node)] : native_in(use.node);
    if (!half) return std::nullopt;
    if (is_filter_of_channels(node, use.operand)) return std::nullopt;
    const std::vector<size_t> elements = elements_of(node);
    return std::count(elements.begin(), elements.end(), use.operand) ? half : std::nullopt;
  }

  std::optional<DType> native_in(int node) const {
    const auto found = native_.find(node);
    return found == native_.end() ? std::nullopt : std::optional(found->second);
  }

  /// The one 16-bit dtype that products and movements read `id` in.
  std::optional<DType> demanded(ValueId id) const {
    std::optional<DType> found;
    for (const Use& use : uses_[at(id)])
      if (const std::optional<DType> half = read_as(use); half && (!found || *half == *found))
        found = half;
      else if (half)
        return std::nullopt;
    return found;
  }

  bool is_read(ValueId id) const { return is_output_[at(id)] || !uses_[at(id)].empty(); }

  /// Whether all who read float32 elements of `id` may read rounded ones.
  bool bears_rounding_once(ValueId id) const {
    if (is_output_[at(id)]) return false;
    return std::all_of(uses_[at(id)].begin(), uses_[at(id)].end(), [&](const Use& use) {
      const Node& node = graph_.nodes[at(use.node)];
      return read_as(use) || (bears_rounding(node.op) && is_float(graph_.type(node.outputs[0]).dtype));
    });
  }

  /// From products back to where tensors are made: movements between the two move 16-bit elements.
  void spread() {
    for (size_t i = graph_.nodes.size(); i-- > 0;) {
      const Node& node = graph_.nodes[i];
      if (!moves(node) || !is_f32(node.outputs[0]) || is_table(node)) continue;
      const std::optional<DType> half = demanded(node.outputs[0]);
      if (!half || !bears_rounding_once(node.outputs[0]) || (node.outputs.size() > 1 && is_read(node.outputs[1]))) continue;
      const std::vector<size_t> elements = elements_of(node);
      const bool possible = std::all_of(elements.begin(), elements.end(), [&](size_t k) {
        const Value& value = graph_.value(node.inputs[k]);
        return value.constant ? problem_in(node, k, *half).empty() : node.op != "pad" || k == 0;
      });
      if (possible) native_[static_cast<int>(i)] = *half;
    }
    for (size_t i = 0; i < graph_.nodes.size(); ++i)
      if (lowered_[i] && is_table(graph_.nodes[i])) native_[static_cast<int>(i)] = *lowered_[i];
  }

  ValueId add_value(Type type, const std::string& base) {
    std::string text = base + "." + std::string(name(type.dtype));
    while (!names_.insert(text).second) text += "'";
    graph_.values.push_back({std::move(type), std::move(text), nullptr, std::nullopt});
    return static_cast<ValueId>(graph_.values.size()) - 1;
  }

  static Node cast_node(ValueId from, ValueId result, DType to, const std::string& source) {
    return {"cast", {from}, {result}, {{"mode", std::string("saturate")}, {"to", to}}, {}, source};
  }

  ValueId cast(ValueId id, DType to, const std::string& source) {
    const ValueId result = add_value({to, graph_.type(id).dims}, graph_.value(id).name);
    nodes_.push_back(cast_node(id, result, to, source));
    casts_.insert(result);
    return result;
  }

  /// `id` with 16-bit elements, made right here where it is not there yet.
  ValueId in_half(ValueId id, DType half, const std::string& source) {
    if (graph_.type(id).dtype == half) return id;
    const auto [found, added] = halves_.try_emplace({id, half}, no_value);
    if (!added) return found->second;
    ValueId result = no_value;
    if (graph_.value(id).constant) {
      result = add_value({half, graph_.type(id).dims}, graph_.value(id).name);
      graph_.value(result).constant = constant_in(id, half);
    } else if (const Node* made = producer(id); made != nullptr && made->op == "cast" && graph_.type(made->inputs[0]).dtype == half) {
      result = made->inputs[0];  // was widened for the product
    } else {
      result = cast(id, half, source);
    }
    return halves_[{id, half}] = result;
  }

  /// 16-bit dtypes that `id` is read in.
  std::set<DType> halves_of(ValueId id) const {
    std::set<DType> all;
    for (const Use& use : uses_[at(id)])
      if (const std::optional<DType> half = read_as(use)) all.insert(*half);
    return all;
  }

  /// Makes what the uses of a result read, right behind the node that makes the result.
  void settle(ValueId id, const std::string& source) {
    const DType dtype = graph_.type(id).dtype;
    const auto wants_f32 = [&](const Use& use) { return !read_as(use); };
    const bool in_f32 = std::any_of(uses_[at(id)].begin(), uses_[at(id)].end(), wants_f32);
    if (dtype == DType::bf16 || dtype == DType::f16) {
      if (in_f32 && native_in(producer_[at(id)])) widened_[id] = cast(id, DType::f32, source);
      return;
    }
    if (dtype != DType::f32) return;
    const std::set<DType> halves = halves_of(id);
    for (const DType half : halves) in_half(id, half, source);
    if (halves.size() != 1 || !in_f32 || !bears_rounding_once(id)) return;
    const ValueId rounded = halves_.at({id, *halves.begin()});
    if (casts_.count(rounded)) widened_[id] = cast(rounded, DType::f32, source);
  }

  void rewrite() {
    for (const Value& value : graph_.values) names_.insert(value.name);
    for (size_t i = 0; i < graph_.nodes.size(); ++i) {
      Node node = graph_.nodes[i];
      for (size_t k = 0; k < node.inputs.size(); ++k) {
        if (node.inputs[k] == no_value) continue;
        if (const std::optional<DType> half = read_as({static_cast<int>(i), k}))
          node.inputs[k] = in_half(node.inputs[k], *half, node.name);
        else if (const auto widened = widened_.find(node.inputs[k]); widened != widened_.end())
          node.inputs[k] = widened->second;
      }
      if (lowered_[i] && is_product(node.op)) node.attributes["dtype"] = DType::f32;
      const std::vector<ValueId> results = node.outputs;
      const std::string source = node.name;
      const std::optional<DType> half = native_in(static_cast<int>(i));
      const bool widens = half && is_output_[at(results[0])];  // whose dtype is a promise
      if (widens) {
        node.outputs[0] = halves_[{results[0], *half}] = add_value({*half, graph_.type(results[0]).dims}, graph_.value(results[0]).name);
      } else if (half) {
        graph_.value(results[0]).type.dtype = *half;
        graph_.value(results[0]).contents.reset();
      }
      nodes_.push_back(std::move(node));
      if (widens) nodes_.push_back(cast_node(halves_.at({results[0], *half}), results[0], DType::f32, source));
      for (const ValueId id : results) settle(id, source);
    }
    graph_.nodes = std::move(nodes_);
    compact(graph_);
  }

  Graph& graph_;
  const Precision& precision_;
  PrecisionReport& report_;
  std::vector<std::vector<Use>> uses_;
  std::vector<int> producer_;
  std::vector<bool> is_output_, made_of_integers_, becomes_position_, becomes_logarithm_;
  std::vector<std::optional<DType>> lowered_;  ///< by node: products and tables with 16-bit operands
  std::map<int, DType> native_;                ///< by node: movements of 16-bit elements
  std::map<Key, std::shared_ptr<const Tensor>> constants_;
  std::map<Key, ValueId> halves_;
  std::map<ValueId, ValueId> widened_;  ///< what those read who want float32, where it is not the value itself
  std::set<ValueId> casts_;             ///< results of casts that were not there before
  std::set<std::string> names_;
  std::vector<Node> nodes_;
};

void apply_everywhere(Graph& graph, const Precision& precision, PrecisionReport& report) {
  PrecisionPass(graph, precision, report).run();
  for (Node& node : graph.nodes)
    for (auto& body : node.subgraphs) apply_everywhere(*body, precision, report);
}

void note_matches(const Graph& graph, const Precision& precision, std::set<std::string>& matched) {
  for (const Node& node : graph.nodes) {
    if (is_product(node.op) || node.op == "gather")
      for (const PolicyRule& rule : precision.rules)
        if (Precision{Policy::fp32, {rule}}.rule_for(node) != nullptr) matched.insert(rule.pattern);
    for (const auto& body : node.subgraphs) note_matches(*body, precision, matched);
  }
}

}  // namespace

void apply_precision(Graph& graph, const Precision& precision, PrecisionReport* report) {
  std::set<std::string> matched;
  if (!precision.rules.empty()) note_matches(graph, precision, matched);
  for (const PolicyRule& rule : precision.rules)
    if (matched.count(rule.pattern) == 0)
      fail(ErrorKind::invalid_input,
           "the policy for '{}' is for no product of the model; give an operator (conv, conv_transpose, einsum, gather, matmul) or the name of a node, "
           "* standing for any characters; `tilewright inspect --graph` shows names",
           rule.pattern);
  if (!precision.may_lower()) return;
  PrecisionReport unread;
  apply_everywhere(graph, precision, report != nullptr ? *report : unread);
}

}  // namespace tilewright
