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
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

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
  std::visit(
      Overloaded{[&](const Nest& p) { accesses(p.accesses); }, [&](const Scatter& p) { add_once(ids, p.initial), accesses(p.accesses); },
                 [&](const Cumulate& p) { add_once(ids, p.input); }, [&](const Select& p) { all(p.inputs); }, [&](const Bind& p) { add_once(ids, p.tensor); },
                 [&](const If& p) { add_once(ids, p.condition), all(p.inputs); },
                 [&](const Loop& p) { add_once(ids, p.trip_count), add_once(ids, p.condition), all(p.carried), all(p.invariants); }, [](const Require&) {}},
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
                        [&](const Scatter& p) { add_once(ids, p.output); }, [&](const Cumulate& p) { add_once(ids, p.output); },
                        [&](const Select& p) { all(p.outputs), add_once(ids, p.count); }, [&](const If& p) { all(p.outputs); },
                        [&](const Loop& p) { all(p.outputs); }, [](const Bind&) {}, [](const Require&) {}},
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
                        [&](const Require& p) { p.lhs.collect_symbols(symbols), p.rhs.collect_symbols(symbols); }, [](const Cumulate&) {}, [](const Select&) {},
                        [](const Bind&) {}, [](const If&) {}, [](const Loop&) {}},
             pattern);
  return {symbols.begin(), symbols.end()};
}

}  // namespace tilewright::pattern
