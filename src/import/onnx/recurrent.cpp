#include <algorithm>
#include <cctype>
#include <functional>

#include "import/onnx/operators.h"

/// RNN, GRU and LSTM: the inputs' projection x·Wᵀ is one large product before the loop; the loop over time holds the recurrent product
/// and the gates.
namespace tilewright::onnx {
namespace {

/// A gate's non-linearity with its parameters.
struct Activation {
  std::string name;  ///< lower case
  double alpha = 0, beta = 0;
};

struct ActivationDefaults {
  std::string_view name;
  bool takes_alpha, takes_beta;
  double alpha, beta;
};

constexpr ActivationDefaults known_activations[] = {
    {"affine", true, true, 1.0, 0.0}, {"elu", true, false, 1.0, 0},         {"hardsigmoid", true, true, 0.2, 0.5},    {"leakyrelu", true, false, 0.01, 0},
    {"relu", false, false, 0, 0},     {"scaledtanh", true, true, 1.0, 1.0}, {"sigmoid", false, false, 0, 0},          {"softplus", false, false, 0, 0},
    {"softsign", false, false, 0, 0}, {"tanh", false, false, 0, 0},         {"thresholdedrelu", true, false, 1.0, 0},
};

/// The node's activations, direction by direction. `activation_alpha` and `activation_beta` hold one entry for each function that
/// takes such a parameter, in the functions' order; entries left out take the defaults.
std::vector<Activation> read_activations(NodeImport& n, std::vector<std::string> defaults, int directions) {
  std::vector<std::string> names = n.texts("activations");
  if (names.empty())
    for (int d = 0; d < directions; ++d) names.insert(names.end(), defaults.begin(), defaults.end());
  const size_t wanted = defaults.size() * static_cast<size_t>(directions);
  n.require(names.size() == wanted, "has {} activations for {} direction(s); needs {}", names.size(), directions, wanted);
  const std::vector<float> alphas = n.reals("activation_alpha"), betas = n.reals("activation_beta");
  size_t next_alpha = 0, next_beta = 0;
  std::vector<Activation> result;
  for (std::string name : names) {
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const auto* known = std::find_if(std::begin(known_activations), std::end(known_activations), [&](const ActivationDefaults& a) { return a.name == name; });
    if (known == std::end(known_activations)) n.reject("activation '{}' is not one of ONNX's", name);
    Activation a{name, known->alpha, known->beta};
    if (known->takes_alpha && next_alpha < alphas.size()) a.alpha = alphas[next_alpha++];
    if (known->takes_beta && next_beta < betas.size()) a.beta = betas[next_beta++];
    result.push_back(std::move(a));
  }
  return result;
}

ValueId activate(Builder& b, const Activation& a, ValueId x) {
  const DType t = b.dtype(x);
  const ValueId zero = b.scalar(t, 0), one = b.scalar(t, 1);
  if (a.name == "tanh") return b.tanh(x);
  if (a.name == "sigmoid") return b.sigmoid(x);
  if (a.name == "relu") return b.max(x, zero);
  if (a.name == "affine") return b.add(b.mul(x, a.alpha), a.beta);
  if (a.name == "leakyrelu") return b.where(b.less(x, zero), b.mul(x, a.alpha), x);
  if (a.name == "thresholdedrelu") return b.where(b.less(b.scalar(t, a.alpha), x), x, zero);
  if (a.name == "scaledtanh") return b.mul(b.tanh(b.mul(x, a.beta)), a.alpha);
  if (a.name == "hardsigmoid") return b.min(b.max(b.add(b.mul(x, a.alpha), a.beta), 0.0), 1.0);
  if (a.name == "elu") return b.where(b.less(x, zero), b.mul(b.sub(b.exp(x), one), a.alpha), x);
  if (a.name == "softsign") return b.div(x, b.add(b.unary("abs", x), one));
  // softplus, without overflow: max(x, 0) + log(1 + exp(-|x|))
  return b.add(b.max(x, zero), b.log(b.add(b.exp(b.neg(b.unary("abs", x))), one)));
}

/// What a time step sees besides its state; values of the body.
struct StepWeights {
  ValueId recurrent;       ///< Rᵀ of this direction: [hidden, gates*hidden]
  ValueId recurrent_bias;  ///< Rb of this direction: [gates*hidden]; no_value without bias
  ValueId peepholes;       ///< [3*hidden]; no_value without
  Dim hidden;

  ValueId gate(Builder& b, ValueId all, int index) const { return b.slice(all, b.rank(all) - 1, hidden * index, hidden); }
};

/// New state (h first) from the projected input [batch, gates*hidden] and the state.
using Step =
    std::function<std::vector<ValueId>(Builder&, const StepWeights&, const std::vector<Activation>&, ValueId projected, const std::vector<ValueId>& state)>;

/// A recurrent operator, as its own step and the numbers that differ.
struct Recurrence {
  int gates;
  std::vector<std::string> activations;
  int peepholes_input = -1;             ///< index of P
  int states;                           ///< 1: h, 2: h and c
  int gates_with_outer_recurrent_bias;  ///< leading gates whose Rb can be added before the loop
  Step step;
};

/// A tensor that bodies of loops read: a constant is made anew inside, so that it stays a constant there; else it is passed in.
class BodyValues {
 public:
  explicit BodyValues(Builder& outer) : outer_(outer) {}
  int add(ValueId v) {
    values_.push_back(v);
    return static_cast<int>(values_.size()) - 1;
  }
  std::vector<ValueId> invariants() const {
    std::vector<ValueId> result;
    for (ValueId v : values_)
      if (v != no_value && !outer_.constant_of(v)) result.push_back(v);
    return result;
  }
  std::vector<ValueId> inside(Builder& body, const std::vector<ValueId>& invariants) const {
    std::vector<ValueId> result;
    size_t next = 0;
    for (ValueId v : values_) {
      if (v == no_value)
        result.push_back(no_value);
      else if (auto constant = outer_.constant_of(v))
        result.push_back(body.constant(*constant));
      else
        result.push_back(invariants.at(next++));
    }
    return result;
  }

 private:
  Builder& outer_;
  std::vector<ValueId> values_;
};

/// Entry `direction` of a [directions, …] parameter, without that axis.
ValueId of_direction(Builder& b, ValueId x, int direction) { return b.squeeze(b.slice(x, 0, direction, 1), {0}); }

/// The input's share of all gates, biases included: [time, batch, gates*hidden].
ValueId project_input(NodeImport& n, const Recurrence& r, ValueId x, int direction, const Dim& hidden) {
  Builder& b = n.b;
  const Dims dims = b.dims(x);
  const ValueId w = of_direction(b, n.in(1), direction);
  ValueId rows = b.matmul(b.reshape(x, {dims[0] * dims[1], dims[2]}), b.transpose(w, {1, 0}));
  if (n.has(3)) {
    const ValueId bias = of_direction(b, n.in(3), direction);
    const Dim all = hidden * r.gates, outer = hidden * r.gates_with_outer_recurrent_bias;
    ValueId recurrent = b.slice(bias, 0, all, outer);
    if (r.gates_with_outer_recurrent_bias < r.gates) recurrent = b.pad(recurrent, {Dim(0)}, {all - outer});
    rows = b.add(rows, b.add(b.slice(bias, 0, Dim(0), all), recurrent));
  }
  return b.reshape(rows, {dims[0], dims[1], hidden * r.gates});
}

struct DirectionResult {
  ValueId all;                 ///< [time, batch, hidden]
  std::vector<ValueId> state;  ///< final h (and c): [batch, hidden]
};

/// Runs one direction. A sequence that has ended keeps its state and gives zeros; backwards, it has not begun until its last element.
DirectionResult run_direction(NodeImport& n, const Recurrence& r, ValueId x, const std::vector<Activation>& activations, int direction, bool reverse,
                              std::vector<ValueId> state) {
  Builder& b = n.b;
  const Dim time = b.dims(x)[0], hidden = b.dims(n.in(2))[2];
  BodyValues used(b);
  const int projected = used.add(project_input(n, r, x, direction, hidden));
  const int recurrent = used.add(n.in(2));
  const int bias = used.add(n.in_or(3));
  const int peepholes = used.add(r.peepholes_input < 0 ? no_value : n.in_or(r.peepholes_input));
  const int lengths = used.add(n.in_or(4));

  auto body = [&](Builder& in, ValueId iteration, ValueId condition, const std::vector<ValueId>& carried, const std::vector<ValueId>& invariants) {
    const std::vector<ValueId> v = used.inside(in, invariants);
    auto at = [&](int i) { return v[static_cast<size_t>(i)]; };
    const ValueId t = reverse ? in.sub(in.reshape(in.sizes({time - 1}), {}), iteration) : iteration;
    StepWeights weights{in.transpose(of_direction(in, at(recurrent), direction), {1, 0}), no_value, no_value, hidden};
    if (at(bias) != no_value) weights.recurrent_bias = in.slice(of_direction(in, at(bias), direction), 0, hidden * r.gates, hidden * r.gates);
    if (at(peepholes) != no_value) weights.peepholes = of_direction(in, at(peepholes), direction);
    std::vector<ValueId> next = r.step(in, weights, activations, in.gather(at(projected), t, 0), carried);
    ValueId emitted = next[0];
    if (at(lengths) != no_value) {
      const ValueId active = in.unsqueeze(in.less(in.cast(t, in.dtype(at(lengths))), at(lengths)), {1});
      for (size_t i = 0; i < next.size(); ++i) next[i] = in.where(active, next[i], carried[i]);
      emitted = in.where(active, emitted, in.scalar(in.dtype(emitted), 0));
    }
    std::vector<ValueId> results{condition};
    results.insert(results.end(), next.begin(), next.end());
    results.push_back(emitted);
    return results;
  };
  const ValueId trip_count = b.reshape(b.sizes({time}), {});
  std::vector<ValueId> results = b.loop(trip_count, no_value, std::move(state), used.invariants(), body);
  DirectionResult result;
  result.all = results.back();
  results.pop_back();
  result.state = std::move(results);
  if (reverse) result.all = b.slice(result.all, 0, time - 1, time, -1);
  return result;
}

void check_shapes(NodeImport& n, const Recurrence& r, int directions) {
  for (int i : {0, 1, 2}) n.require(n.rank(i) == 3, "input {} has rank {}; needs 3", i, n.rank(i));
  const Dim hidden = n.dims(2)[2];
  auto expect = [&](int input, int axis, const Dim& size, std::string_view what) {
    const Dim& actual = n.dims(input).at(static_cast<size_t>(axis));
    n.require(!actual.is_constant() || !size.is_constant() || actual == size, "{} has size {} on axis {}; needs {}", what, actual.str(), axis, size.str());
  };
  expect(1, 0, directions, "W");
  expect(2, 0, directions, "R");
  expect(1, 1, hidden * r.gates, "W");
  expect(2, 1, hidden * r.gates, "R");
  if (n.has(3)) {
    n.require(n.rank(3) == 2, "B has rank {}; needs 2", n.rank(3));
    expect(3, 0, directions, "B");
    expect(3, 1, hidden * (2 * r.gates), "B");
  }
  if (n.has(4)) n.require(n.rank(4) == 1, "sequence_lens has rank {}; needs 1", n.rank(4));
  for (int i = 0; i < r.states; ++i)
    if (n.has(5 + i)) n.require(n.rank(5 + i) == 3, "initial state {} has rank {}; needs 3", i, n.rank(5 + i));
  if (r.peepholes_input >= 0 && n.has(r.peepholes_input)) {
    n.require(n.rank(r.peepholes_input) == 2, "P has rank {}; needs 2", n.rank(r.peepholes_input));
    expect(r.peepholes_input, 1, hidden * 3, "P");
  }
}

void import_recurrence(NodeImport& n, const Recurrence& r) {
  Builder& b = n.b;
  const std::string direction = n.text("direction", "forward");
  n.require(direction == "forward" || direction == "reverse" || direction == "bidirectional", "direction is '{}'; needs forward, reverse or bidirectional",
            direction);
  const int directions = direction == "bidirectional" ? 2 : 1;
  const bool batch_first = n.integer("layout", 0) != 0;
  check_shapes(n, r, directions);
  const ValueId x = batch_first ? b.transpose(n.in(0), {1, 0, 2}) : n.in(0);
  const Dim time = b.dims(x)[0], batch = b.dims(x)[1], hidden = n.dims(2)[2];
  const std::vector<Activation> all_activations = read_activations(n, r.activations, directions);

  std::vector<ValueId> sequences;
  std::vector<std::vector<ValueId>> finals(static_cast<size_t>(r.states));
  for (int d = 0; d < directions; ++d) {
    std::vector<ValueId> state;
    for (int i = 0; i < r.states; ++i) {
      // The stated batch of an initial state must be x's, which a reshape sees to.
      if (!n.has(5 + i))
        state.push_back(b.broadcast(b.scalar(b.dtype(x), 0), {batch, hidden}));
      else
        state.push_back(b.reshape(b.slice(n.in(5 + i), batch_first ? 1 : 0, d, 1), {batch, hidden}));
    }
    const auto first = all_activations.begin() + d * static_cast<int>(r.activations.size());
    const std::vector<Activation> activations(first, first + static_cast<int>(r.activations.size()));
    DirectionResult run = run_direction(n, r, x, activations, d, direction == "reverse" || d == 1, std::move(state));
    // Y is [time, directions, batch, hidden], or [batch, time, directions, hidden] when batches come first.
    sequences.push_back(batch_first ? b.reshape(b.transpose(run.all, {1, 0, 2}), {batch, time, 1, hidden}) : b.reshape(run.all, {time, 1, batch, hidden}));
    for (size_t i = 0; i < run.state.size(); ++i) finals[i].push_back(b.unsqueeze(run.state[i], {batch_first ? 1 : 0}));
  }
  if (n.wants(0)) n.set(0, directions == 1 ? sequences[0] : b.concat(sequences, batch_first ? 2 : 1));
  for (int i = 0; i < r.states; ++i) {
    const auto& parts = finals[static_cast<size_t>(i)];
    if (n.wants(1 + i)) n.set(1 + i, directions == 1 ? parts[0] : b.concat(parts, batch_first ? 1 : 0));
  }
}

/// Bounds what enters a gate's activation to [-clip, clip]; absent: no bound. A cell's own value passes unbounded, as ONNX Runtime has it.
std::function<ValueId(Builder&, ValueId)> clipper(NodeImport& n) {
  if (!n.has_attribute("clip")) return [](Builder&, ValueId x) { return x; };
  const double bound = n.real("clip");
  return [bound](Builder& b, ValueId x) { return b.min(b.max(x, -bound), bound); };
}

/// h' = f(x·Wᵀ + h·Rᵀ + Wb + Rb)
void rnn(NodeImport& n) {
  auto clip = clipper(n);
  import_recurrence(n, {.gates = 1,
                        .activations = {"Tanh"},
                        .states = 1,
                        .gates_with_outer_recurrent_bias = 1,
                        .step = [clip](Builder& b, const StepWeights& w, const std::vector<Activation>& f, ValueId projected, const std::vector<ValueId>& state)
                            -> std::vector<ValueId> { return {activate(b, f[0], clip(b, b.add(projected, b.matmul(state[0], w.recurrent))))}; }});
}

/// Gates in the order update z, reset r, hidden: h' = (1 - z)·g(hidden) + z·h
void gru(NodeImport& n) {
  auto clip = clipper(n);
  const bool linear_before_reset = n.flag("linear_before_reset", false);
  auto step = [clip, linear_before_reset](Builder& b, const StepWeights& w, const std::vector<Activation>& f, ValueId projected,
                                          const std::vector<ValueId>& state) -> std::vector<ValueId> {
    const ValueId h = state[0];
    ValueId z, reset, candidate;
    if (linear_before_reset) {
      const ValueId product = b.matmul(h, w.recurrent);
      ValueId product_h = w.gate(b, product, 2);
      if (w.recurrent_bias != no_value) product_h = b.add(product_h, w.gate(b, w.recurrent_bias, 2));
      z = activate(b, f[0], clip(b, b.add(w.gate(b, projected, 0), w.gate(b, product, 0))));
      reset = activate(b, f[0], clip(b, b.add(w.gate(b, projected, 1), w.gate(b, product, 1))));
      candidate = b.add(w.gate(b, projected, 2), b.mul(reset, product_h));
    } else {
      const ValueId product = b.matmul(h, b.slice(w.recurrent, 1, Dim(0), w.hidden * 2));
      z = activate(b, f[0], clip(b, b.add(w.gate(b, projected, 0), w.gate(b, product, 0))));
      reset = activate(b, f[0], clip(b, b.add(w.gate(b, projected, 1), w.gate(b, product, 1))));
      candidate = b.add(w.gate(b, projected, 2), b.matmul(b.mul(reset, h), w.gate(b, w.recurrent, 2)));
    }
    candidate = activate(b, f[1], clip(b, candidate));
    return {b.add(b.mul(b.sub(b.scalar(b.dtype(z), 1), z), candidate), b.mul(z, h))};
  };
  import_recurrence(
      n, {.gates = 3, .activations = {"Sigmoid", "Tanh"}, .states = 1, .gates_with_outer_recurrent_bias = linear_before_reset ? 2 : 3, .step = step});
}

/// Gates in the order input i, output o, forget f, cell: c' = f·c + i·g(cell); h' = o·h(c'). Peepholes P are in the order i, o, f.
void lstm(NodeImport& n) {
  auto clip = clipper(n);
  const bool couple = n.flag("input_forget", false);
  auto step = [clip, couple](Builder& b, const StepWeights& w, const std::vector<Activation>& f, ValueId projected,
                             const std::vector<ValueId>& state) -> std::vector<ValueId> {
    const ValueId c = state[1];
    const ValueId gates = b.add(projected, b.matmul(state[0], w.recurrent));
    auto gate = [&](int index, int peephole, ValueId cell) {
      ValueId v = w.gate(b, gates, index);
      if (w.peepholes != no_value) v = b.add(v, b.mul(w.gate(b, w.peepholes, peephole), cell));
      return activate(b, f[0], clip(b, v));
    };
    const ValueId input = gate(0, 0, c);
    const ValueId forget = couple ? b.sub(b.scalar(b.dtype(input), 1), input) : gate(2, 2, c);
    const ValueId candidate = activate(b, f[1], clip(b, w.gate(b, gates, 3)));
    const ValueId cell = b.add(b.mul(forget, c), b.mul(input, candidate));
    const ValueId output = gate(1, 1, cell);
    return {b.mul(output, activate(b, f[2], cell)), cell};
  };
  import_recurrence(
      n, {.gates = 4, .activations = {"Sigmoid", "Tanh", "Tanh"}, .peepholes_input = 7, .states = 2, .gates_with_outer_recurrent_bias = 4, .step = step});
}

constexpr OperatorEntry entries[] = {
    {"", "GRU", 1, gru},
    {"", "LSTM", 1, lstm},
    {"", "RNN", 1, rnn},
};

}  // namespace

std::span<const OperatorEntry> recurrent_operators() { return entries; }

}  // namespace tilewright::onnx
