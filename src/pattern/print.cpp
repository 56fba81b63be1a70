#include <array>
#include <charconv>

#include "base/error.h"
#include "base/hash.h"
#include "pattern/expr.h"
#include "pattern/text.h"

/// The text form. References carry the tensor's name for the reader; its number alone counts:
///
///   program "main" (%0"x") -> (%1"y")
///     tensor %0 "x": f32[N,64]
///     tensor %1 "y": f32[N]
///     reduce over [N] reduced [64] ; "Softmax_3"
///       a0 = %0"x" {[N,64] -> [$0,$1]}
///       e0 = f32 load a0
///       r0 = f32 max e0
///       e1 = f32 reduced r0
///       store %1"y" {[N] -> [$0]} = e1
///   end
namespace tilewright::pattern {
namespace {

constexpr int64_t inline_elements = 16;  // of constants; larger ones print as a hash

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return out + "\"";
}

std::string real_text(double value) {
  std::array<char, 40> buffer;
  return std::string(buffer.data(), std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr);
}

std::string map_text(const Map& map) { return "{" + str(map) + "}"; }

std::string tensor(const Program& program, TensorId id) { return id < 0 ? "-" : fmt::format("%{}{}", id, quoted(program.tensor(id).name)); }

template <class T, class F>
std::string joined(const std::vector<T>& items, F&& one) {
  std::string text;
  for (const T& item : items) text += (text.empty() ? "" : ", ") + one(item);
  return "(" + text + ")";
}
std::string list(const Program& program, const std::vector<TensorId>& ids) {
  return joined(ids, [&](TensorId id) { return tensor(program, id); });
}
std::string list(const std::vector<ExprId>& ids) {
  return joined(ids, [](ExprId id) { return "e" + std::to_string(id); });
}
std::string list(const std::vector<BoundSymbol>& symbols) {
  return joined(symbols, [](const BoundSymbol& one) { return fmt::format("{} {} {}", one.symbol, one.output, one.axis); });
}

std::string print(const ExprNode& node) {
  const std::string head = fmt::format("{} {}", name(node.dtype), info(node.op).name);
  switch (node.op) {
    case ExprOp::constant: return head + " " + (is_float(node.dtype) ? real_text(node.real) : std::to_string(node.integer));
    case ExprOp::index: return fmt::format("{} i{}", head, node.integer);
    case ExprOp::size: return fmt::format("{} [{}]", head, node.dim.str());
    case ExprOp::load: return fmt::format("{} a{}", head, node.integer);
    case ExprOp::reduced: return fmt::format("{} r{}", head, node.integer);
    default: return head + list(node.args);
  }
}

std::string body(const std::vector<Access>& accesses, const std::vector<ExprNode>& nodes, const Program& program) {
  std::string text;
  for (size_t i = 0; i < accesses.size(); ++i) {
    const Access& access = accesses[i];
    text += fmt::format("    a{} = {} {}", i, tensor(program, access.tensor), map_text(access.map));
    if (!access.indirect.empty()) text += " at " + list(access.indirect);
    if (access.fill) text += fmt::format(" else e{}", *access.fill);
    text += "\n";
  }
  for (size_t i = 0; i < nodes.size(); ++i) text += fmt::format("    e{} = {}\n", i, print(nodes[i]));
  return text;
}

std::string print_program(const Program& program, const std::string& indent);

struct Printer {
  const Program& program;
  std::string indent;

  std::string operator()(const Nest& nest) const {
    constexpr const char* kinds[] = {"map", "reduce", "contract"};
    const auto kept = nest.space.end() - nest.reduced_rank;
    std::string text = fmt::format("  {} over {}", kinds[static_cast<int>(classify(nest))], str(Dims(nest.space.begin(), kept)));
    if (nest.reduced_rank > 0) text += " reduced " + str(Dims(kept, nest.space.end()));
    text += fmt::format(" ; {}\n", quoted(nest.source)) + body(nest.accesses, nest.nodes, program);
    for (size_t i = 0; i < nest.reductions.size(); ++i) {
      const Reduction& reduction = nest.reductions[i];
      text += fmt::format("    r{} = {} {} e{}\n", i, name(reduction.dtype), reduction_names[static_cast<size_t>(reduction.op)], reduction.value);
    }
    for (const Store& store : nest.outputs) text += fmt::format("    store {} {} = e{}\n", tensor(program, store.tensor), map_text(store.map), store.value);
    return text;
  }
  std::string operator()(const Scatter& s) const {
    return fmt::format("  scatter {} {} from {} over {} ; {}\n", combination_names[static_cast<size_t>(s.combine)], tensor(program, s.output),
                       tensor(program, s.initial), str(s.space), quoted(s.source)) +
           body(s.accesses, s.nodes, program) + fmt::format("    store {} at {} = e{}\n", map_text(s.map), list(s.indirect), s.value);
  }
  std::string operator()(const Cumulate& c) const {
    return fmt::format("  cumulate {} = {}{}{} {} axis {} ; {}\n", tensor(program, c.output), c.product ? "product" : "sum", c.exclusive ? " exclusive" : "",
                       c.reverse ? " reverse" : "", tensor(program, c.input), c.axis, quoted(c.source));
  }
  std::string operator()(const Select& s) const {
    const std::string ints = joined(s.ints, [](int64_t v) { return std::to_string(v); });
    return fmt::format("  select {} {} count {} = {} {} ; {}\n", selection_names[static_cast<size_t>(s.kind)], list(program, s.outputs),
                       tensor(program, s.count), list(program, s.inputs), ints, quoted(s.source));
  }
  std::string operator()(const Bind& b) const {
    return fmt::format("  bind {} = {} ; {}\n", joined(b.symbols, [](const std::string& s) { return s; }), tensor(program, b.tensor), quoted(b.source));
  }
  std::string operator()(const If& b) const {
    return fmt::format("  if {} {} = {} bound {} ; {}\n", tensor(program, b.condition), list(program, b.outputs), list(program, b.inputs), list(b.bound),
                       quoted(b.source)) +
           print_program(*b.then_program, indent + "    ") + print_program(*b.else_program, indent + "    ");
  }
  std::string operator()(const Loop& l) const {
    return fmt::format("  loop {} while {} {} = {} with {} bound {} body {} ; {}\n", tensor(program, l.trip_count), tensor(program, l.condition),
                       list(program, l.outputs), list(program, l.carried), list(program, l.invariants), list(l.bound), list(l.body_bound), quoted(l.source)) +
           print_program(*l.body, indent + "    ");
  }
  std::string operator()(const Require& r) const {
    return fmt::format("  require [{}] == [{}] {} ; {}\n", r.lhs.str(), r.rhs.str(), quoted(r.message), quoted(r.source));
  }
};

std::string indented(const std::string& text, const std::string& indent) {
  if (indent.empty()) return text;
  std::string out = indent;
  for (size_t i = 0; i < text.size(); ++i) {
    out += text[i];
    if (text[i] == '\n' && i + 1 < text.size()) out += indent;
  }
  return out;
}

std::string constant_text(const Tensor& t) {
  if (t.element_count() > inline_elements) return "#" + hash_of(t);
  std::string text;
  for (int64_t i = 0; i < t.element_count(); ++i) text += (i ? ", " : "") + (is_float(t.dtype()) ? real_text(t.float_at(i)) : std::to_string(t.int_at(i)));
  return "{" + text + "}";
}

std::string print_program(const Program& program, const std::string& indent) {
  std::string text = fmt::format("program {} {} -> {}\n", quoted(program.name), list(program, program.inputs), list(program, program.outputs));
  for (size_t id = 0; id < program.tensors.size(); ++id) {
    const TensorInfo& info = program.tensors[id];
    text += fmt::format("  tensor %{} {}: {}{}\n", id, quoted(info.name), str(info.type), info.constant ? " = " + constant_text(*info.constant) : "");
  }
  text = indented(text, indent);
  for (const Pattern& pattern : program.patterns) {
    const bool nested = std::holds_alternative<If>(pattern) || std::holds_alternative<Loop>(pattern);
    const std::string own = std::visit(Printer{program, indent}, pattern);
    const size_t first_line = own.find('\n') + 1;  // bodies are indented already
    text += nested ? indent + own.substr(0, first_line) + own.substr(first_line) : indented(own, indent);
  }
  return text + indent + "end\n";
}

}  // namespace

std::string hash_of(const Tensor& tensor) { return sha256(tensor.data(), tensor.byte_size()); }

std::string print(const Pattern& pattern, const Program& program) { return std::visit(Printer{program, ""}, pattern); }
std::string print(const Program& program) { return print_program(program, ""); }

}  // namespace tilewright::pattern
