#include "base/error.h"
#include "pattern/expr.h"
#include "pattern/pattern.h"

namespace tilewright::pattern {
namespace {

std::string tensor(const Program& program, TensorId id) { return id < 0 ? "-" : "%" + program.tensor(id).name; }

std::string list(const Program& program, const std::vector<TensorId>& ids) {
  std::string text;
  for (const TensorId id : ids) text += (text.empty() ? "" : ", ") + tensor(program, id);
  return text;
}

std::string refs(const std::vector<ExprId>& ids) {
  std::string text;
  for (const ExprId id : ids) text += (text.empty() ? "e" : ", e") + std::to_string(id);
  return text;
}

std::string print(const ExprNode& node) {
  const std::string head = fmt::format("{} {}", name(node.dtype), info(node.op).name);
  switch (node.op) {
    case ExprOp::constant: return is_float(node.dtype) ? fmt::format("{} {:.17g}", head, node.real) : fmt::format("{} {}", head, node.integer);
    case ExprOp::index: return fmt::format("{} i{}", head, node.integer);
    case ExprOp::size: return fmt::format("{} {}", head, node.dim.str());
    case ExprOp::load: return fmt::format("{} a{}", head, node.integer);
    case ExprOp::reduced: return fmt::format("{} r{}", head, node.integer);
    default: return fmt::format("{}({})", head, refs(node.args));
  }
}

std::string body(const std::vector<Access>& accesses, const std::vector<ExprNode>& nodes, const Program& program) {
  std::string text;
  for (size_t i = 0; i < accesses.size(); ++i) {
    const Access& access = accesses[i];
    text += fmt::format("    a{} = {} {}", i, tensor(program, access.tensor), str(access.map));
    if (!access.indirect.empty()) text += " at (" + refs(access.indirect) + ")";
    if (access.fill) text += fmt::format(" else e{}", *access.fill);
    text += "\n";
  }
  for (size_t i = 0; i < nodes.size(); ++i) text += fmt::format("    e{} = {}\n", i, print(nodes[i]));
  return text;
}

constexpr const char* reductions[] = {"sum", "product", "min", "max", "arg_min", "arg_max", "arg_min_last", "arg_max_last"};
constexpr const char* selections[] = {"nonzero", "top_k", "unique", "compress", "nms"};
constexpr const char* combinations[] = {"assign", "add", "mul", "min", "max"};

std::string indented(const std::string& text) {
  std::string out = "    ";
  for (const char c : text) {
    out += c;
    if (c == '\n') out += "    ";
  }
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

struct Printer {
  const Program& program;

  std::string operator()(const Nest& nest) const {
    constexpr const char* kinds[] = {"map", "reduce", "contract"};
    std::string text = fmt::format("  {} {} over {}", kinds[static_cast<int>(classify(nest))], str(Dims(nest.space.begin(), nest.space.end() - nest.reduced_rank)), str(Dims(nest.space.end() - nest.reduced_rank, nest.space.end())));
    text += fmt::format("  ; {}\n", nest.source) + body(nest.accesses, nest.nodes, program);
    for (size_t i = 0; i < nest.reductions.size(); ++i)
      text += fmt::format("    r{} = {} {} e{}\n", i, name(nest.reductions[i].dtype), reductions[static_cast<int>(nest.reductions[i].op)], nest.reductions[i].value);
    for (const Store& store : nest.outputs) text += fmt::format("    {} {} = e{}\n", tensor(program, store.tensor), str(store.map), store.value);
    return text;
  }
  std::string operator()(const Scatter& s) const {
    return fmt::format("  scatter {} {} from {} over {}  ; {}\n", combinations[static_cast<int>(s.combine)], tensor(program, s.output), tensor(program, s.initial), str(s.space), s.source) + body(s.accesses, s.nodes, program) +
           fmt::format("    {} at ({}) = e{}\n", str(s.map), refs(s.indirect), s.value);
  }
  std::string operator()(const Cumulate& c) const {
    return fmt::format("  cumulate {} = {}{}{} of {} along {}  ; {}\n", tensor(program, c.output), c.product ? "product" : "sum", c.exclusive ? " exclusive" : "", c.reverse ? " reverse" : "", tensor(program, c.input), c.axis, c.source);
  }
  std::string operator()(const Select& s) const {
    return fmt::format("  select {} ({}) count {} = ({}) [{}]  ; {}\n", selections[static_cast<int>(s.kind)], list(program, s.outputs), tensor(program, s.count), list(program, s.inputs), fmt::join(s.ints, ","), s.source);
  }
  std::string operator()(const Bind& b) const { return fmt::format("  bind {} = {}  ; {}\n", fmt::join(b.symbols, ", "), tensor(program, b.tensor), b.source); }
  std::string operator()(const If& b) const {
    return fmt::format("  if {} ({}) = ({}){}  ; {}\n", tensor(program, b.condition), list(program, b.outputs), list(program, b.inputs), bound(b.bound), b.source) + indented(pattern::print(*b.then_program)) + "  else\n" + indented(pattern::print(*b.else_program));
  }
  std::string operator()(const Loop& l) const {
    return fmt::format("  loop {} while {} ({}) = ({}) with ({}){} in body{}  ; {}\n", tensor(program, l.trip_count), tensor(program, l.condition), list(program, l.outputs), list(program, l.carried), list(program, l.invariants), bound(l.bound), bound(l.body_bound), l.source) +
           indented(pattern::print(*l.body));
  }
  std::string operator()(const Require& r) const { return fmt::format("  require {} == {}  ; {}: {}\n", r.lhs.str(), r.rhs.str(), r.source, r.message); }

  static std::string bound(const std::vector<BoundSymbol>& symbols) {
    std::string text;
    for (const BoundSymbol& one : symbols) text += fmt::format(" {}={}.{}", one.symbol, one.output, one.axis);
    return text;
  }
};

}  // namespace

std::string print(const Pattern& pattern, const Program& program) { return std::visit(Printer{program}, pattern); }

std::string print(const Program& program) {
  std::string text = fmt::format("program \"{}\" ({}) -> ({})\n", program.name, list(program, program.inputs), list(program, program.outputs));
  for (const TensorInfo& info : program.tensors) text += fmt::format("  %{}: {}{}\n", info.name, str(info.type), info.constant ? " constant" : "");
  for (const Pattern& pattern : program.patterns) text += print(pattern, program);
  return text;
}

}  // namespace tilewright::pattern
