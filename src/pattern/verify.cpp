#include <algorithm>

#include "base/error.h"
#include "pattern/expr.h"
#include "pattern/pattern.h"

namespace tilewright::pattern {
namespace {

/// Checks one pattern. Messages name its source.
class Verifier {
 public:
  explicit Verifier(const Program& program) : program_(program) {}

  void operator()(const Nest& nest) const {
    const size_t rank = nest.space.size();
    check(nest.source, nest.reduced_rank >= 0 && static_cast<size_t>(nest.reduced_rank) <= rank, "the reduced coordinates are part of the space");
    check(nest.source, !nest.outputs.empty(), "something is stored");
    expressions(nest.source, nest.nodes, nest.accesses, rank, &nest.reductions);
    for (const Reduction& reduction : nest.reductions) {
      node(nest.source, nest.nodes, reduction.value);
      check(nest.source, !mentions_reduced(nest.nodes, reduction.value), "a reduction does not depend on another of its nest");
      const DType value = nest.nodes[static_cast<size_t>(reduction.value)].dtype;
      if (reduction.op >= ReduceOp::arg_min)
        check(nest.source, reduction.dtype == DType::i64, "positions are i64");
      else
        check(nest.source, is_float(value) == is_float(reduction.dtype), "an accumulator is a float where its values are");
    }
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
    expressions(scatter.source, scatter.nodes, scatter.accesses, scatter.space.size(), nullptr);
    node(scatter.source, scatter.nodes, scatter.value);
    for (const ExprId id : scatter.indirect) {
      node(scatter.source, scatter.nodes, id);
      check(scatter.source, scatter.nodes[static_cast<size_t>(id)].dtype == DType::i64, "indirect coordinates are i64");
    }
    tensor(scatter.source, scatter.initial);
    tensor(scatter.source, scatter.output);
    const Type& type = program_.tensor(scatter.output).type;
    check(scatter.source, program_.tensor(scatter.initial).type == type, "the output has the type of what it starts from");
    check(scatter.source, scatter.nodes[static_cast<size_t>(scatter.value)].dtype == type.dtype, "what is scattered has the tensor's dtype");
    check(scatter.source,
          scatter.map.rank_in() == static_cast<int>(scatter.space.size() + scatter.indirect.size()) &&
              scatter.map.rank_out() == static_cast<int>(type.dims.size()),
          "the map leads from the space to the output");
  }

  void operator()(const Cumulate& cumulate) const {
    tensor(cumulate.source, cumulate.input);
    tensor(cumulate.source, cumulate.output);
    const Type& type = program_.tensor(cumulate.input).type;
    check(cumulate.source, program_.tensor(cumulate.output).type.dtype == type.dtype, "the output has the input's dtype");
    check(cumulate.source, cumulate.axis >= 0 && cumulate.axis < static_cast<int>(type.dims.size()), "the axis exists");
  }

  void operator()(const Select& select) const {
    struct Shape {
      size_t inputs, outputs, ints;
      bool counts;
    };
    constexpr Shape shapes[] = {{1, 1, 0, true}, {1, 2, 3, false}, {1, 4, 2, true}, {1, 1, 0, true}, {5, 1, 1, true}};
    const Shape& shape = shapes[static_cast<size_t>(select.kind)];
    check(select.source, select.inputs.size() == shape.inputs && select.outputs.size() == shape.outputs && select.ints.size() >= shape.ints,
          "a selection has its number of operands and results");
    check(select.source, (select.count >= 0) == shape.counts, "a selection of unknown length counts");
    for (const auto* ids : {&select.inputs, &select.outputs})
      for (const TensorId id : *ids) tensor(select.source, id);
    if (shape.counts) scalar(select.source, select.count, DType::i64);
  }

  void operator()(const Bind& bind) const {
    tensor(bind.source, bind.tensor);
    check(bind.source, is_integer(program_.tensor(bind.tensor).type.dtype), "sizes are integers");
  }

  void operator()(const If& branch) const {
    scalar(branch.source, branch.condition, DType::boolean);
    for (const auto& program : {branch.then_program, branch.else_program}) {
      check(branch.source, program != nullptr, "both branches exist");
      check(branch.source, program->inputs.size() == branch.inputs.size() && program->outputs.size() == branch.outputs.size(),
            "branches take and give what the pattern says");
      verify(*program);
    }
    for (const auto* ids : {&branch.inputs, &branch.outputs})
      for (const TensorId id : *ids) tensor(branch.source, id);
    bound(branch.source, branch.bound, branch.outputs);
  }

  void operator()(const Loop& loop) const {
    if (loop.trip_count >= 0) scalar(loop.source, loop.trip_count, DType::i64);
    if (loop.condition >= 0) scalar(loop.source, loop.condition, DType::boolean);
    for (const auto* ids : {&loop.carried, &loop.invariants, &loop.outputs})
      for (const TensorId id : *ids) tensor(loop.source, id);
    check(loop.source, loop.body != nullptr, "the body exists");
    check(loop.source,
          loop.outputs.size() >= loop.carried.size() && loop.body->inputs.size() == 2 + loop.carried.size() + loop.invariants.size() &&
              loop.body->outputs.size() == 1 + loop.outputs.size(),
          "the body takes and gives what the pattern says");
    bound(loop.source, loop.bound, loop.outputs);
    bound(loop.source, loop.body_bound, loop.carried);
    verify(*loop.body);
  }

  void operator()(const Require&) const {}

 private:
  static void check(const std::string& source, bool holds, const char* rule) {
    if (!holds) fail(ErrorKind::internal, "internal error: pattern '{}': {}", source, rule);
  }
  void tensor(const std::string& source, TensorId id) const { check(source, id >= 0 && id < static_cast<TensorId>(program_.tensors.size()), "tensors exist"); }
  static void node(const std::string& source, const std::vector<ExprNode>& nodes, ExprId id) {
    check(source, id >= 0 && id < static_cast<ExprId>(nodes.size()), "expressions exist");
  }

  void scalar(const std::string& source, TensorId id, DType dtype) const {
    tensor(source, id);
    const Type& type = program_.tensor(id).type;
    check(source, type.dtype == dtype && product(type.dims) == Dim(1), "counts are i64 and conditions bool, of one element");
  }
  void bound(const std::string& source, const std::vector<BoundSymbol>& symbols, const std::vector<TensorId>& tensors) const {
    for (const BoundSymbol& one : symbols) {
      check(source, one.output >= 0 && one.output < static_cast<int>(tensors.size()), "a size comes from a tensor");
      const size_t rank = program_.tensor(tensors[static_cast<size_t>(one.output)]).type.dims.size();
      check(source, one.axis >= 0 && one.axis < static_cast<int>(rank), "a size comes from an axis");
    }
  }

  static bool mentions_reduced(const std::vector<ExprNode>& nodes, ExprId root) {
    std::vector<char> mentions(nodes.size(), 0);
    for (size_t i = 0; i <= static_cast<size_t>(root); ++i)
      mentions[i] = nodes[i].op == ExprOp::reduced ||
                    std::any_of(nodes[i].args.begin(), nodes[i].args.end(), [&](ExprId id) { return mentions[static_cast<size_t>(id)]; });
    return mentions[static_cast<size_t>(root)];
  }

  /// The dtype rules of ExprOp.
  static void dtypes(const std::string& source, const ExprNode& one, const std::vector<ExprNode>& nodes) {
    const auto of = [&](size_t k) { return nodes[static_cast<size_t>(one.args[k])].dtype; };
    switch (info(one.op).kind) {
      case ExprClass::unary: check(source, one.dtype == of(0), "a unary operation keeps the dtype"); break;
      case ExprClass::binary:
        check(source, one.dtype == of(0), "an operation has its first operand's dtype");
        if (one.op != ExprOp::pow && one.op != ExprOp::shift_left && one.op != ExprOp::shift_right) check(source, of(0) == of(1), "operands share a dtype");
        break;
      case ExprClass::compare: check(source, one.dtype == DType::boolean && of(0) == of(1), "a comparison of one dtype gives bool"); break;
      case ExprClass::ternary:
        check(source, of(0) == DType::boolean && of(1) == of(2) && one.dtype == of(1), "select takes a bool and two values of its dtype");
        break;
      case ExprClass::convert:
        if (one.op == ExprOp::bitcast) check(source, size_of(one.dtype) == size_of(of(0)), "bitcast keeps the width");
        if (one.op == ExprOp::is_nan || one.op == ExprOp::is_inf) check(source, one.dtype == DType::boolean && is_float(of(0)), "tests of floats give bool");
        break;
      case ExprClass::leaf:
        if (one.op == ExprOp::index || one.op == ExprOp::size) check(source, one.dtype == DType::i64, "coordinates and sizes are i64");
    }
  }

  void expressions(const std::string& source, const std::vector<ExprNode>& nodes, const std::vector<Access>& accesses, size_t rank,
                   const std::vector<Reduction>* reductions) const {
    for (const Access& access : accesses) {
      tensor(source, access.tensor);
      check(source, access.map.rank_in() == static_cast<int>(rank + access.indirect.size()), "an access maps the space and its indirect coordinates");
      check(source, access.map.rank_out() == static_cast<int>(program_.tensor(access.tensor).type.dims.size()), "an access leads to the tensor's coordinates");
    }
    for (size_t i = 0; i < nodes.size(); ++i) {
      const ExprNode& one = nodes[i];
      check(source, static_cast<int>(one.args.size()) == info(one.op).arity, "an operation has its number of operands");
      const auto earlier = [&](ExprId id) { return id >= 0 && id < static_cast<ExprId>(i); };
      check(source, std::all_of(one.args.begin(), one.args.end(), earlier), "operands come before their users");
      dtypes(source, one, nodes);
      if (one.op == ExprOp::index) check(source, one.integer >= 0 && one.integer < static_cast<int64_t>(rank), "an index names a coordinate");
      if (one.op == ExprOp::reduced) {
        check(source, reductions != nullptr && one.integer >= 0 && one.integer < static_cast<int64_t>(reductions->size()), "a reduced value exists");
        check(source, one.dtype == (*reductions)[static_cast<size_t>(one.integer)].dtype, "a reduced value has its reduction's dtype");
      }
      if (one.op != ExprOp::load) continue;
      check(source, one.integer >= 0 && one.integer < static_cast<int64_t>(accesses.size()), "a load names an access");
      const Access& access = accesses[static_cast<size_t>(one.integer)];
      check(source, one.dtype == program_.tensor(access.tensor).type.dtype, "a load has the tensor's dtype");
      for (const ExprId id : access.indirect) {
        check(source, earlier(id), "indirect coordinates come before their load");
        check(source, nodes[static_cast<size_t>(id)].dtype == DType::i64, "indirect coordinates are i64");
      }
      if (access.fill) {
        check(source, earlier(*access.fill), "the fill comes before its load");
        check(source, nodes[static_cast<size_t>(*access.fill)].dtype == one.dtype, "the fill has the tensor's dtype");
      }
      check(source, access.fill || !access.map.may_be_invalid(), "an access that may be invalid has a fill");
    }
  }

  const Program& program_;
};

}  // namespace

void verify(const Program& program) {
  std::vector<char> written(program.tensors.size(), 0);
  const auto known = [&](TensorId id) { return id >= 0 && static_cast<size_t>(id) < written.size(); };
  for (const auto* ids : {&program.inputs, &program.outputs})
    for (const TensorId id : *ids)
      if (!known(id)) fail(ErrorKind::internal, "internal error: program '{}': inputs and outputs are tensors of it", program.name);
  for (const TensorId id : program.inputs) written[static_cast<size_t>(id)] = 1;
  for (size_t i = 0; i < program.tensors.size(); ++i) written[i] |= program.tensors[i].constant != nullptr;
  const auto read = [&](TensorId id) {
    if (!written[static_cast<size_t>(id)])
      fail(ErrorKind::internal, "internal error: program '{}': tensor '{}' is read before it is written", program.name, program.tensor(id).name);
  };
  for (const Pattern& pattern : program.patterns) {
    std::visit(Verifier(program), pattern);
    for (const TensorId id : reads(pattern)) read(id);
    for (const TensorId id : writes(pattern)) written[static_cast<size_t>(id)] = 1;
  }
  for (const TensorId id : program.outputs) read(id);
}

}  // namespace tilewright::pattern
