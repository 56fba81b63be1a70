#include "pattern/pattern.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "pattern/expr.h"

namespace tilewright::pattern {
namespace {

template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};

void add_once(std::vector<TensorId>& ids, TensorId id) {
  if (id >= 0 && std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
}

void collect(const Map& map, std::set<std::string>& symbols) {
  for (int d = 0; d < map.rank_in(); ++d) map.extent_in(d).collect_symbols(symbols);
  for (const auto& transform : map.transforms()) transform.amount.collect_symbols(symbols);
  for (const auto& term : map.terms()) term.factor.collect_symbols(symbols);
  for (const auto& condition : map.conditions()) {
    condition.low.collect_symbols(symbols);
    condition.high.collect_symbols(symbols);
  }
}

void collect(const std::vector<Access>& accesses, const std::vector<ExprNode>& nodes, const Dims& space, std::set<std::string>& symbols) {
  for (const Dim& dim : space) dim.collect_symbols(symbols);
  for (const Access& access : accesses) collect(access.map, symbols);
  for (const ExprNode& node : nodes) node.dim.collect_symbols(symbols);
}

}  // namespace

TensorId Program::add_tensor(Type type, std::string label, std::shared_ptr<const Tensor> constant) {
  tensors.push_back({std::move(type), std::move(label), std::move(constant)});
  return static_cast<TensorId>(tensors.size()) - 1;
}

NestKind classify(const Nest& nest) {
  if (nest.reductions.empty()) return NestKind::map;
  if (nest.reductions.size() != 1 || nest.reductions[0].op != ReduceOp::sum) return NestKind::reduce;
  const ExprNode& value = nest.nodes.at(static_cast<size_t>(nest.reductions[0].value));
  if (value.op != ExprOp::mul) return NestKind::reduce;
  // Each factor reads exactly one tensor and no coordinate.
  for (const ExprId factor : value.args) {
    std::vector<ExprId> pending = {factor};
    std::set<int64_t> loads;
    while (!pending.empty()) {
      const ExprNode& node = nest.nodes.at(static_cast<size_t>(pending.back()));
      pending.pop_back();
      if (node.op == ExprOp::index) return NestKind::reduce;
      if (node.op == ExprOp::load) loads.insert(node.integer);
      pending.insert(pending.end(), node.args.begin(), node.args.end());
    }
    if (loads.size() != 1) return NestKind::reduce;
  }
  return NestKind::contract;
}

std::vector<TensorId> reads(const Pattern& pattern) {
  std::vector<TensorId> ids;
  const auto all = [&](const std::vector<TensorId>& more) {
    for (const TensorId id : more) add_once(ids, id);
  };
  const auto accesses = [&](const std::vector<Access>& list) {
    for (const Access& access : list) add_once(ids, access.tensor);
  };
  std::visit(Overloaded{[&](const Nest& p) { accesses(p.accesses); },
                        [&](const Scatter& p) { add_once(ids, p.initial), accesses(p.accesses); },
                        [&](const Cumulate& p) { add_once(ids, p.input); },
                        [&](const Select& p) { all(p.inputs); },
                        [&](const Bind& p) { add_once(ids, p.tensor); },
                        [&](const If& p) { add_once(ids, p.condition), all(p.inputs); },
                        [&](const Loop& p) { add_once(ids, p.trip_count), add_once(ids, p.condition), all(p.carried), all(p.invariants); },
                        [](const Require&) {}},
             pattern);
  return ids;
}

std::vector<TensorId> writes(const Pattern& pattern) {
  std::vector<TensorId> ids;
  const auto all = [&](const std::vector<TensorId>& more) {
    for (const TensorId id : more) add_once(ids, id);
  };
  std::visit(Overloaded{[&](const Nest& p) {
                          for (const Store& store : p.outputs) add_once(ids, store.tensor);
                        },
                        [&](const Scatter& p) { add_once(ids, p.output); },
                        [&](const Cumulate& p) { add_once(ids, p.output); },
                        [&](const Select& p) { all(p.outputs), add_once(ids, p.count); },
                        [&](const If& p) { all(p.outputs); },
                        [&](const Loop& p) { all(p.outputs); },
                        [](const Bind&) {}, [](const Require&) {}},
             pattern);
  return ids;
}

std::vector<std::string> symbols_of(const Pattern& pattern) {
  std::set<std::string> symbols;
  std::visit(Overloaded{[&](const Nest& p) {
                          collect(p.accesses, p.nodes, p.space, symbols);
                          for (const Store& store : p.outputs) collect(store.map, symbols);
                        },
                        [&](const Scatter& p) {
                          collect(p.accesses, p.nodes, p.space, symbols);
                          collect(p.map, symbols);
                        },
                        [&](const Require& p) { p.lhs.collect_symbols(symbols), p.rhs.collect_symbols(symbols); },
                        [](const Cumulate&) {}, [](const Select&) {}, [](const Bind&) {}, [](const If&) {}, [](const Loop&) {}},
             pattern);
  return {symbols.begin(), symbols.end()};
}

namespace {

/// Checks what Nest and Scatter share. Messages name the pattern's source.
class Verifier {
 public:
  explicit Verifier(const Program& program) : program_(program) {}

  void operator()(const Nest& nest) const {
    const size_t rank = nest.space.size();
    check(nest.source, nest.reduced_rank >= 0 && static_cast<size_t>(nest.reduced_rank) <= rank, "the reduced coordinates are part of the space");
    check(nest.source, !nest.outputs.empty(), "something is stored");
    expressions(nest.source, nest.nodes, nest.accesses, rank, nest.reductions.size());
    for (const Reduction& reduction : nest.reductions) node(nest.source, nest.nodes, reduction.value);
    for (const Store& store : nest.outputs) {
      node(nest.source, nest.nodes, store.value);
      tensor(nest.source, store.tensor);
      const Type& type = program_.tensor(store.tensor).type;
      check(nest.source, type.dtype == nest.nodes[static_cast<size_t>(store.value)].dtype, "what is stored has the tensor's dtype");
      check(nest.source, store.map.rank_in() == static_cast<int>(rank) - nest.reduced_rank && store.map.rank_out() == static_cast<int>(type.dims.size()),
            "a store maps the kept coordinates to the tensor's");
    }
  }
  void operator()(const Scatter& scatter) const {
    expressions(scatter.source, scatter.nodes, scatter.accesses, scatter.space.size(), 0);
    node(scatter.source, scatter.nodes, scatter.value);
    tensor(scatter.source, scatter.initial);
    tensor(scatter.source, scatter.output);
    check(scatter.source, program_.tensor(scatter.initial).type == program_.tensor(scatter.output).type, "the output has the type of what it starts from");
    check(scatter.source, scatter.map.rank_in() == static_cast<int>(scatter.space.size() + scatter.indirect.size()) &&
                              scatter.map.rank_out() == static_cast<int>(program_.tensor(scatter.output).type.dims.size()), "the map leads from the space to the output");
  }
  template <class Other>
  void operator()(const Other&) const {}

 private:
  static void check(const std::string& source, bool holds, const char* rule) {
    if (!holds) fail(ErrorKind::internal, "pattern '{}': {}", source, rule);
  }
  void tensor(const std::string& source, TensorId id) const { check(source, id >= 0 && id < static_cast<TensorId>(program_.tensors.size()), "tensors exist"); }
  static void node(const std::string& source, const std::vector<ExprNode>& nodes, ExprId id) { check(source, id >= 0 && id < static_cast<ExprId>(nodes.size()), "expressions exist"); }

  void expressions(const std::string& source, const std::vector<ExprNode>& nodes, const std::vector<Access>& accesses, size_t rank, size_t reductions) const {
    for (size_t i = 0; i < nodes.size(); ++i) {
      const ExprNode& one = nodes[i];
      check(source, static_cast<int>(one.args.size()) == info(one.op).arity, "an operation has its number of operands");
      for (const ExprId id : one.args) check(source, id >= 0 && id < static_cast<ExprId>(i), "operands come before their users");
      if (one.op == ExprOp::index) check(source, one.integer >= 0 && one.integer < static_cast<int64_t>(rank), "an index names a coordinate");
      if (one.op == ExprOp::reduced) check(source, one.integer >= 0 && one.integer < static_cast<int64_t>(reductions), "a reduced value exists");
      if (one.op != ExprOp::load) continue;
      check(source, one.integer >= 0 && one.integer < static_cast<int64_t>(accesses.size()), "a load names an access");
      const Access& access = accesses[static_cast<size_t>(one.integer)];
      for (const ExprId id : access.indirect) check(source, id >= 0 && id < static_cast<ExprId>(i), "indirect coordinates come before their load");
      if (access.fill) check(source, *access.fill < static_cast<ExprId>(i), "the fill comes before its load");
    }
    for (const Access& access : accesses) {
      tensor(source, access.tensor);
      check(source, access.map.rank_in() == static_cast<int>(rank + access.indirect.size()), "an access maps the space and its indirect coordinates");
      check(source, access.map.rank_out() == static_cast<int>(program_.tensor(access.tensor).type.dims.size()), "an access leads to the tensor's coordinates");
    }
  }

  const Program& program_;
};

}  // namespace

void verify(const Program& program) {
  for (const Pattern& pattern : program.patterns) {
    std::visit(Verifier(program), pattern);
    if (const If* branch = std::get_if<If>(&pattern)) {
      verify(*branch->then_program);
      verify(*branch->else_program);
    }
    if (const Loop* loop = std::get_if<Loop>(&pattern)) verify(*loop->body);
  }
}

}  // namespace tilewright::pattern
