#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include <fmt/format.h>

#include "base/hash.h"
#include "graph/graph.h"

/// The text form, a line a node:
///
///   graph "main" (%"x": f32[N,3]) -> (%"y") {
///     const %"c": f32[3] = {1.0, 2.5, 0x7fc00001}
///     %"y": f32[N,3] = add(%"x", %"c") ; "Add_0"
///     %"s": i64[2] {N, 3} = dims() sizes=dims["N", "3"] ; "Shape_1"
///   }
///
/// Braces behind a type hold the value's known contents. A float that no decimal number gives back (a NaN's payload, an infinity of an 8-bit
/// float) is written as the hexadecimal of its bits; attributes follow the operands, bodies of control flow the node's name.
namespace tilewright {
namespace {

constexpr int64_t inline_elements = 16;

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n') {
      out += "\\n";
      continue;
    }
    out += c;
  }
  return out + "\"";
}

std::string value_name(const Graph& graph, ValueId id) { return id == no_value ? "-" : "%" + quoted(graph.value(id).name); }
std::string declared(const Graph& graph, ValueId id) { return value_name(graph, id) + ": " + str(graph.type(id)); }

/// Declared by a node: with the contents, which a constant has in its elements.
std::string result(const Graph& graph, ValueId id) {
  std::string text = declared(graph, id);
  const auto& contents = graph.value(id).contents;
  if (!contents) return text;
  text += " {";
  for (size_t i = 0; i < contents->size(); ++i) text += (i ? ", " : "") + (*contents)[i].str();
  return text + "}";
}

/// Shortest text that reads back as the same number; always with '.', 'e', 'n' or 'i' in it.
std::string real_text(double value) {
  char buffer[40];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value);
  std::string text(buffer, result.ptr);
  return text.find_first_of(".eni") == std::string::npos ? text + ".0" : text;
}

/// Element i as a number, or its bits where the number does not give them back.
std::string float_text(const Tensor& tensor, int64_t i) {
  const size_t size = size_of(tensor.dtype());
  const std::byte* element = tensor.as<std::byte>() + static_cast<size_t>(i) * size;
  const double value = tensor.float_at(i);
  std::byte written[8] = {};
  write_float(tensor.dtype(), written, 0, std::isnan(value) ? std::copysign(std::numeric_limits<double>::quiet_NaN(), value) : value);
  if (std::memcmp(written, element, size) == 0) return real_text(value);
  uint64_t bits = 0;
  std::memcpy(&bits, element, size);
  return fmt::format("0x{:0{}x}", bits, 2 * size);
}

std::string constant_text(const Tensor& tensor) {
  if (tensor.element_count() > inline_elements) return "#" + sha256(tensor.data(), tensor.byte_size());
  std::string text;
  for (int64_t i = 0; i < tensor.element_count(); ++i)
    text += (i ? ", " : "") + (is_float(tensor.dtype()) ? float_text(tensor, i) : std::to_string(tensor.int_at(i)));
  return "{" + text + "}";
}

struct AttributePrinter {
  template <class T, class F>
  static std::string list(const char* kind, const std::vector<T>& values, F&& one) {
    std::string text;
    for (size_t i = 0; i < values.size(); ++i) text += (i ? ", " : "") + one(values[i]);
    return std::string(kind) + "[" + text + "]";
  }
  std::string operator()(int64_t v) const { return std::to_string(v); }
  std::string operator()(double v) const { return real_text(v); }
  std::string operator()(const std::string& v) const { return quoted(v); }
  std::string operator()(const std::vector<int64_t>& v) const {
    return list("ints", v, [](int64_t one) { return std::to_string(one); });
  }
  std::string operator()(const std::vector<double>& v) const { return list("reals", v, real_text); }
  std::string operator()(const std::vector<std::string>& v) const { return list("texts", v, quoted); }
  std::string operator()(const Dims& v) const {
    return list("dims", v, [](const Dim& one) { return quoted(one.str()); });
  }
  std::string operator()(DType v) const { return "dtype " + std::string(name(v)); }
};

void print_graph(const Graph& graph, const std::string& indent, std::string& out) {
  out += "graph " + quoted(graph.name) + " (";
  for (size_t i = 0; i < graph.inputs.size(); ++i) out += (i ? ", " : "") + declared(graph, graph.inputs[i]);
  out += ") -> (";
  for (size_t i = 0; i < graph.outputs.size(); ++i) out += (i ? ", " : "") + value_name(graph, graph.outputs[i]);
  out += ") {\n";
  std::vector<char> made(graph.values.size(), 0);
  for (const Node& node : graph.nodes)
    for (const ValueId id : node.outputs) made[static_cast<size_t>(id)] = 1;
  for (size_t id = 0; id < graph.values.size(); ++id)
    if (graph.values[id].constant && !made[id])
      out += indent + "  const " + declared(graph, static_cast<ValueId>(id)) + " = " + constant_text(*graph.values[id].constant) + "\n";
  for (const Node& node : graph.nodes) {
    out += indent + "  ";
    for (size_t i = 0; i < node.outputs.size(); ++i) out += (i ? ", " : "") + result(graph, node.outputs[i]);
    out += (node.outputs.empty() ? "" : " = ") + node.op + "(";
    for (size_t i = 0; i < node.inputs.size(); ++i) out += (i ? ", " : "") + value_name(graph, node.inputs[i]);
    out += ")";
    for (const auto& [attribute, value] : node.attributes) out += " " + attribute + "=" + std::visit(AttributePrinter{}, value);
    out += " ; " + quoted(node.name);
    for (const auto& body : node.subgraphs) {
      out += "\n" + indent + "    ";
      print_graph(*body, indent + "    ", out);
    }
    out += "\n";
  }
  out += indent + "}";
}

}  // namespace

std::string print(const Graph& graph) {
  std::string out;
  print_graph(graph, "", out);
  return out + "\n";
}

}  // namespace tilewright
