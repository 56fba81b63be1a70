#include <array>

#include "import/onnx/operators.h"

namespace tilewright::onnx {
namespace {

/// A tensor of one element as a scalar.
ValueId as_scalar(NodeImport& n, ValueId v, std::string_view what) {
  n.require(n.b.rank(v) == 0 || (n.b.rank(v) == 1 && (!n.b.dims(v)[0].is_constant() || n.b.dims(v)[0] == Dim(1))), "{} is {}; needs a scalar", what,
            str(n.b.type(v)));
  return n.b.rank(v) == 0 ? v : n.b.reshape(v, {});
}

std::shared_ptr<Graph> build_branch(NodeImport& n, const GraphProto& proto, const Captures& captures) {
  auto graph = std::make_shared<Graph>();
  graph->name = proto.name();
  Builder body(*graph, n.b);
  std::vector<ValueId> captured;
  for (ValueId v : captures.values) captured.push_back(body.input(n.b.graph().value(v).name, n.b.type(v)));
  for (ValueId v : n.import_subgraph(proto, body, {}, captures, captured)) body.output(v);
  return graph;
}

/// Where the branches' results differ in rank, a scalar becomes a single element of the other's rank: all that broadcasts treats both alike.
void agree_on_ranks(NodeImport& n, Graph& one, Graph& other) {
  for (size_t i = 0; i < one.outputs.size() && i < other.outputs.size(); ++i) {
    const size_t rank = one.type(one.outputs[i]).dims.size(), wanted = other.type(other.outputs[i]).dims.size();
    if (rank != 0 || wanted == 0) continue;
    Builder body(one, n.b);
    one.outputs[i] = body.reshape(one.outputs[i], Dims(wanted, Dim(1)));
  }
}

bool ranks_agree(const Graph& one, const Graph& other) {
  for (size_t i = 0; i < one.outputs.size() && i < other.outputs.size(); ++i)
    if (one.type(one.outputs[i]).dims.size() != other.type(other.outputs[i]).dims.size()) return false;
  return true;
}

/// The two sizes that the condition compares for equality, when it does.
std::optional<std::pair<Dim, Dim>> compared_sizes(Builder& b, ValueId condition) {
  const Graph& graph = b.graph();
  for (size_t i = graph.nodes.size(); i-- > 0;) {
    const Node& node = graph.nodes[i];
    if (node.outputs.size() != 1 || node.outputs[0] != condition) continue;
    if (node.op == "reshape" || node.op == "cast") {
      condition = node.inputs[0];
      continue;
    }
    if (node.op != "equal") return std::nullopt;
    const auto left = b.contents(node.inputs[0]), right = b.contents(node.inputs[1]);
    if (!left || !right || left->size() != 1 || right->size() != 1) return std::nullopt;
    return std::pair{left->front(), right->front()};
  }
  return std::nullopt;
}

/// A branch known at import is expanded in place; there its outputs may be sequences or optionals.
void if_operator(NodeImport& n) {
  const GraphProto& then_graph = n.graph("then_branch");
  const GraphProto& else_graph = n.graph("else_branch");
  n.require(then_graph.output_size() == n.output_count() && else_graph.output_size() == n.output_count(), "branches have {} and {} outputs; needs {}",
            then_graph.output_size(), else_graph.output_size(), n.output_count());
  if (auto known = n.constant(0)) {
    n.require(known->element_count() == 1, "the condition has {} elements; needs 1", known->element_count());
    std::vector<Operand> results = n.expand_subgraph(known->int_at(0) != 0 ? then_graph : else_graph, {});
    for (size_t i = 0; i < results.size(); ++i) n.set(static_cast<int>(i), std::move(results[i]));
    return;
  }
  const std::array<const GraphProto*, 2> graphs{&then_graph, &else_graph};
  const Captures captures = n.captures(graphs);
  const ValueId condition = as_scalar(n, n.in(0), "the condition");
  const auto then_body = build_branch(n, then_graph, captures), else_body = build_branch(n, else_graph, captures);
  agree_on_ranks(n, *then_body, *else_body);
  agree_on_ranks(n, *else_body, *then_body);
  if (!ranks_agree(*then_body, *else_body)) {
    // "If this size is 1, squeeze it": ranks are fixed at import, so the branch that squeezes is taken, and the size is checked when the model runs.
    if (const auto sizes = compared_sizes(n.b, condition)) {
      n.b.require_equal(sizes->first, sizes->second, "the rank of a result depends on this size");
      std::vector<Operand> results = n.expand_subgraph(then_graph, {});
      for (size_t i = 0; i < results.size(); ++i) n.set(static_cast<int>(i), std::move(results[i]));
      return;
    }
  }
  const std::vector<ValueId> results = n.b.if_else(condition, then_body, else_body, captures.values);
  for (size_t i = 0; i < results.size(); ++i) n.set(static_cast<int>(i), results[i]);
}

void loop_operator(NodeImport& n) {
  const GraphProto& proto = n.graph("body");
  const int carried_count = std::max(0, n.input_count() - 2);
  n.require(proto.input_size() == carried_count + 2, "the body has {} inputs for {} carried values; needs {}", proto.input_size(), carried_count,
            carried_count + 2);
  n.require(proto.output_size() == n.output_count() + 1, "the body has {} outputs; needs {}", proto.output_size(), n.output_count() + 1);
  n.require(proto.output_size() > carried_count, "the body has {} outputs; needs the condition and {} carried values", proto.output_size(), carried_count);
  const ValueId trip_count = n.has(0) ? as_scalar(n, n.in(0), "the trip count") : no_value;
  const ValueId condition = n.has(1) ? as_scalar(n, n.in(1), "the condition") : no_value;
  std::vector<ValueId> carried;
  for (int i = 0; i < carried_count; ++i) carried.push_back(n.in(2 + i));
  const std::array<const GraphProto*, 1> graphs{&proto};
  const Captures captures = n.captures(graphs);
  const std::vector<ValueId> results =
      n.b.loop(trip_count, condition, carried, captures.values,
               [&](Builder& body, ValueId iteration, ValueId condition_in, const std::vector<ValueId>& state, const std::vector<ValueId>& captured) {
                 std::vector<ValueId> arguments{iteration, condition_in};
                 arguments.insert(arguments.end(), state.begin(), state.end());
                 std::vector<ValueId> outputs = n.import_subgraph(proto, body, arguments, captures, captured);
                 outputs.at(0) = body.rank(outputs.at(0)) == 0 ? outputs[0] : body.reshape(outputs[0], {});
                 return outputs;
               });
  for (size_t i = 0; i < results.size(); ++i) n.set(static_cast<int>(i), results[i]);
}

/// One Scan over unbatched data: how its inputs are cut and its outputs are stacked.
struct ScanPlan {
  const GraphProto* body = nullptr;
  Captures captures;
  size_t states = 0;
  std::vector<int> input_axes, output_axes;
  std::vector<bool> input_reversed, output_reversed;
};

/// Runs the scan with values of `b`. `length` (no_value: all) is the i64 scalar from which on steps leave the states alone and emit zeros.
std::vector<ValueId> run_scan(NodeImport& n, Builder& b, const ScanPlan& plan, const std::vector<ValueId>& states, const std::vector<ValueId>& scanned,
                              const std::vector<ValueId>& captured, ValueId length) {
  const Dim time = b.dims(scanned[0])[static_cast<size_t>(plan.input_axes[0])];
  std::vector<ValueId> invariants = scanned;
  invariants.insert(invariants.end(), captured.begin(), captured.end());
  if (length != no_value) invariants.push_back(length);
  auto step = [&](Builder& body, ValueId iteration, ValueId condition, const std::vector<ValueId>& carried, const std::vector<ValueId>& inside) {
    std::vector<ValueId> arguments = carried;
    for (size_t i = 0; i < scanned.size(); ++i) {
      const ValueId at = plan.input_reversed[i] ? body.sub(body.reshape(body.sizes({time - 1}), {}), iteration) : iteration;
      arguments.push_back(body.gather(inside[i], at, plan.input_axes[i]));
    }
    const auto first_captured = inside.begin() + static_cast<std::ptrdiff_t>(scanned.size());
    const std::vector<ValueId> inner(first_captured, first_captured + static_cast<std::ptrdiff_t>(captured.size()));
    std::vector<ValueId> results = n.import_subgraph(*plan.body, body, arguments, plan.captures, inner);
    if (length != no_value) {
      const ValueId active = body.less(iteration, inside.back());
      for (size_t i = 0; i < results.size(); ++i)
        results[i] = body.where(active, results[i], i < plan.states ? carried[i] : body.scalar(body.dtype(results[i]), 0));
    }
    results.insert(results.begin(), condition);
    return results;
  };
  std::vector<ValueId> results = b.loop(b.reshape(b.sizes({time}), {}), no_value, states, invariants, step);
  for (size_t i = plan.states; i < results.size(); ++i) {
    const size_t output = i - plan.states;
    if (plan.output_reversed.at(output)) results[i] = b.slice(results[i], 0, time - 1, time, -1);
    const int axis = plan.output_axes.at(output) < 0 ? plan.output_axes[output] + b.rank(results[i]) : plan.output_axes[output];
    n.require(axis >= 0 && axis < b.rank(results[i]), "scan_output_axes: axis {} of a tensor of rank {}", plan.output_axes[output], b.rank(results[i]));
    std::vector<int64_t> permutation;
    for (int a = 1; a < b.rank(results[i]); ++a) permutation.push_back(a);
    permutation.insert(permutation.begin() + axis, 0);
    if (axis != 0) results[i] = b.transpose(results[i], permutation);
  }
  return results;
}

/// Entries of an attribute that gives one flag or axis a scan input or output; `otherwise` when absent.
std::vector<int64_t> one_each(NodeImport& n, std::string_view attribute, size_t count) {
  std::vector<int64_t> values = n.integers(attribute);
  if (values.empty()) values.assign(count, 0);
  n.require(values.size() == count, "{} has {} entries; needs {}", attribute, values.size(), count);
  return values;
}

/// `first` is the index of the first state among the node's inputs.
ScanPlan read_scan(NodeImport& n, int first) {
  ScanPlan plan;
  plan.body = &n.graph("body");
  const std::array<const GraphProto*, 1> graphs{plan.body};
  plan.captures = n.captures(graphs);
  const int64_t scans = n.integer("num_scan_inputs");
  const int64_t inputs = n.input_count() - first;
  n.require(scans >= 1 && scans <= inputs, "num_scan_inputs is {} with {} inputs", scans, inputs);
  plan.states = static_cast<size_t>(inputs - scans);
  n.require(plan.body->input_size() == inputs, "the body has {} inputs; needs {}", plan.body->input_size(), inputs);
  n.require(plan.body->output_size() == n.output_count() && plan.body->output_size() >= static_cast<int>(plan.states),
            "the body has {} outputs for {} outputs of the node and {} states", plan.body->output_size(), n.output_count(), plan.states);
  return plan;
}

/// Opset 9 on: no batches; axes and directions for inputs and outputs.
void scan_unbatched(NodeImport& n) {
  ScanPlan plan = read_scan(n, 0);
  const size_t scans = static_cast<size_t>(n.input_count()) - plan.states, outputs = static_cast<size_t>(n.output_count()) - plan.states;
  std::vector<ValueId> states, scanned;
  const std::vector<int64_t> input_axes = one_each(n, "scan_input_axes", scans);
  for (int64_t v : one_each(n, "scan_input_directions", scans)) plan.input_reversed.push_back(v != 0);
  for (int64_t v : one_each(n, "scan_output_directions", outputs)) plan.output_reversed.push_back(v != 0);
  for (int64_t v : one_each(n, "scan_output_axes", outputs)) plan.output_axes.push_back(static_cast<int>(v));
  for (size_t i = 0; i < plan.states; ++i) states.push_back(n.in(static_cast<int>(i)));
  for (size_t i = 0; i < scans; ++i) {
    const int input = static_cast<int>(plan.states + i);
    scanned.push_back(n.in(input));
    plan.input_axes.push_back(n.axis(input_axes[i], n.rank(input)));
  }
  const std::vector<ValueId> results = run_scan(n, n.b, plan, states, scanned, plan.captures.values, no_value);
  for (size_t i = 0; i < results.size(); ++i) n.set(static_cast<int>(i), results[i]);
}

/// Opset 8: everything has a leading batch axis and sequences may have their own lengths: a loop over batches around the scan.
void scan_batched(NodeImport& n) {
  ScanPlan plan = read_scan(n, 1);
  const size_t scans = static_cast<size_t>(n.input_count() - 1) - plan.states, outputs = static_cast<size_t>(n.output_count()) - plan.states;
  for (int64_t v : one_each(n, "directions", scans)) plan.input_reversed.push_back(v != 0);
  plan.output_reversed.assign(outputs, false);
  plan.input_axes.assign(scans, 0);
  plan.output_axes.assign(outputs, 0);
  std::vector<ValueId> invariants;
  for (int i = 1; i < n.input_count(); ++i) {
    n.require(n.rank(i) >= (i <= static_cast<int>(plan.states) ? 1 : 2), "input {} is {}; needs a batch axis", i, str(n.b.type(n.in(i))));
    invariants.push_back(n.in(i));
  }
  const size_t own = invariants.size();
  invariants.insert(invariants.end(), plan.captures.values.begin(), plan.captures.values.end());
  const bool has_lengths = n.has(0);
  if (has_lengths) invariants.push_back(n.in(0));
  const Dim batch = n.dims(1)[0];
  auto one_batch = [&](Builder& body, ValueId iteration, ValueId condition, const std::vector<ValueId>&, const std::vector<ValueId>& inside) {
    std::vector<ValueId> states, scanned;
    for (size_t i = 0; i < own; ++i) (i < plan.states ? states : scanned).push_back(body.gather(inside[i], iteration, 0));
    const auto first_captured = inside.begin() + static_cast<std::ptrdiff_t>(own);
    const std::vector<ValueId> captured(first_captured, first_captured + static_cast<std::ptrdiff_t>(plan.captures.values.size()));
    const ValueId length = has_lengths ? body.gather(inside.back(), iteration, 0) : no_value;
    std::vector<ValueId> results = run_scan(n, body, plan, states, scanned, captured, length);
    results.insert(results.begin(), condition);
    return results;
  };
  const std::vector<ValueId> results = n.b.loop(n.b.reshape(n.b.sizes({batch}), {}), no_value, {}, invariants, one_batch);
  for (size_t i = 0; i < results.size(); ++i) n.set(static_cast<int>(i), results[i]);
}

void scan(NodeImport& n) { n.opset() < 9 ? scan_batched(n) : scan_unbatched(n); }

constexpr OperatorEntry entries[] = {
    {"", "If", 1, if_operator},
    {"", "Loop", 1, loop_operator},
    {"", "Scan", 8, scan},
};

}  // namespace

std::span<const OperatorEntry> control_flow_operators() { return entries; }

}  // namespace tilewright::onnx
