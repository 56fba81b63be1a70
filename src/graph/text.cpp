#include <algorithm>
#include <charconv>
#include <cctype>

#include "base/error.h"
#include "base/hash.h"
#include "graph/graph.h"

/// The text form, a line a node:
///
///   graph "main" (%x: f32[N,3]) -> (%y) {
///     const %c: f32[3] = {1, 2, 3}
///     %y: f32[N,3] = add(%x, %c) ; "Add_0"
///   }
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

/// Shortest text that reads back as the same number; always with '.', 'e', 'n' or 'i' in it.
std::string real_text(double value) {
  char buffer[40];
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value);
  std::string text(buffer, result.ptr);
  return text.find_first_of(".eni") == std::string::npos ? text + ".0" : text;
}

std::string constant_text(const Tensor& tensor) {
  if (tensor.element_count() > inline_elements) return "#" + sha256(tensor.data(), tensor.byte_size());
  std::string text;
  for (int64_t i = 0; i < tensor.element_count(); ++i)
    text += (i ? ", " : "") + (is_float(tensor.dtype()) ? real_text(tensor.float_at(i)) : std::to_string(tensor.int_at(i)));
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
    for (size_t i = 0; i < node.outputs.size(); ++i) out += (i ? ", " : "") + declared(graph, node.outputs[i]);
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

/// Recursive descent over the text form. Errors are invalid_input and name the line.
class Parser {
 public:
  Parser(std::string_view text, const std::map<std::string, std::shared_ptr<const Tensor>>& constants) : text_(text), constants_(constants) {}

  Graph parse_all() {
    Graph graph = parse_graph();
    space();
    if (at_ != text_.size()) reject("text after the graph");
    return graph;
  }

 private:
  [[noreturn]] void reject(const std::string& what) const {
    const auto line = 1 + std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(at_), '\n');
    fail(ErrorKind::invalid_input, "graph text, line {}: {}", line, what);
  }
  void space() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }
  bool take(std::string_view token) {
    space();
    if (text_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }
  void expect(std::string_view token) {
    if (!take(token)) reject("expected '" + std::string(token) + "'");
  }
  std::string word() {
    space();
    const size_t start = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_')) ++at_;
    if (at_ == start) reject("expected a word");
    return std::string(text_.substr(start, at_ - start));
  }
  std::string quoted_text() {
    expect("\"");
    std::string out;
    for (; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] == '\\' && at_ + 1 < text_.size())
        out += text_[++at_] == 'n' ? '\n' : text_[at_];
      else
        out += text_[at_];
    }
    expect("\"");
    return out;
  }
  std::string number_text() {
    space();
    const size_t start = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '.' || text_[at_] == '-' || text_[at_] == '+')) ++at_;
    if (at_ == start) reject("expected a number");
    return std::string(text_.substr(start, at_ - start));
  }
  static bool is_real(const std::string& text) { return text.find_first_of(".eni") != std::string::npos; }
  double real(const std::string& text) const {
    double value = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), value).ptr != text.data() + text.size()) reject("'" + text + "' is no number");
    return value;
  }
  int64_t integer(const std::string& text) const {
    int64_t value = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), value).ptr != text.data() + text.size()) reject("'" + text + "' is no integer");
    return value;
  }

  Type type() {
    Type result;
    result.dtype = parse_dtype(word());
    expect("[");
    int depth = 0;
    std::string dim;
    for (; at_ < text_.size() && !(text_[at_] == ']' && depth == 0); ++at_) {
      const char c = text_[at_];
      depth += c == '(' ? 1 : c == ')' ? -1 : 0;
      if (c == ',' && depth == 0) {
        result.dims.push_back(Dim::parse(dim));
        dim.clear();
      } else {
        dim += c;
      }
    }
    if (!dim.empty()) result.dims.push_back(Dim::parse(dim));
    expect("]");
    return result;
  }

  ValueId declare(Graph& graph, std::map<std::string, ValueId>& known) {
    expect("%");
    std::string label = quoted_text();
    expect(":");
    graph.values.push_back({type(), label, nullptr, std::nullopt});
    const ValueId id = static_cast<ValueId>(graph.values.size()) - 1;
    if (!known.emplace(std::move(label), id).second) reject("a value is declared twice");
    return id;
  }
  ValueId mention(const std::map<std::string, ValueId>& known) {
    if (take("-")) return no_value;
    expect("%");
    const std::string label = quoted_text();
    const auto found = known.find(label);
    if (found == known.end()) reject("'" + label + "' is not declared");
    return found->second;
  }

  std::shared_ptr<const Tensor> constant(const Type& type) {
    space();
    if (take("#")) {
      const std::string hash = word();
      const auto found = constants_.find(hash);
      if (found == constants_.end()) reject("constant #" + hash + " was not given");
      return found->second;
    }
    std::vector<int64_t> dims;
    for (const Dim& dim : type.dims) {
      if (!dim.is_constant()) reject("a constant has known dims");
      dims.push_back(dim.constant());
    }
    Tensor tensor(type.dtype, dims);
    expect("{");
    for (int64_t i = 0; !take("}"); ++i) {
      if (i > 0) expect(",");
      if (i >= tensor.element_count()) reject("a constant has more elements than its dims");
      const std::string text = number_text();
      is_float(type.dtype) ? tensor.set_float(i, real(text)) : tensor.set_int(i, integer(text));
    }
    return std::make_shared<const Tensor>(std::move(tensor));
  }

  template <class F>
  void list(F&& one) {
    expect("[");
    for (bool first = true; !take("]"); first = false) {
      if (!first) expect(",");
      one();
    }
  }

  Attribute attribute() {
    space();
    if (at_ < text_.size() && text_[at_] == '"') return quoted_text();
    if (take("ints")) {
      std::vector<int64_t> v;
      list([&] { v.push_back(integer(number_text())); });
      return v;
    }
    if (take("reals")) {
      std::vector<double> v;
      list([&] { v.push_back(real(number_text())); });
      return v;
    }
    if (take("texts")) {
      std::vector<std::string> v;
      list([&] { v.push_back(quoted_text()); });
      return v;
    }
    if (take("dims")) {
      Dims v;
      list([&] { v.push_back(Dim::parse(quoted_text())); });
      return v;
    }
    if (take("dtype")) return parse_dtype(word());
    const std::string text = number_text();
    if (is_real(text)) return real(text);
    return integer(text);
  }

  Graph parse_graph() {
    if (++depth_ > 64) reject("bodies are nested too deeply");
    Graph graph;
    std::map<std::string, ValueId> known;
    expect("graph");
    graph.name = quoted_text();
    expect("(");
    for (bool first = true; !take(")"); first = false) {
      if (!first) expect(",");
      graph.inputs.push_back(declare(graph, known));
    }
    expect("->");
    expect("(");
    std::vector<std::string> outputs;
    for (bool first = true; !take(")"); first = false) {
      if (!first) expect(",");
      expect("%");
      outputs.push_back(quoted_text());
    }
    expect("{");
    while (!take("}")) {
      if (take("const ")) {
        const ValueId id = declare(graph, known);
        expect("=");
        graph.value(id).constant = constant(graph.type(id));
      } else {
        graph.nodes.push_back(node(graph, known));
      }
    }
    for (const std::string& label : outputs) {
      const auto found = known.find(label);
      if (found == known.end()) reject("output '" + label + "' is not declared");
      graph.outputs.push_back(found->second);
    }
    --depth_;
    return graph;
  }

  Node node(Graph& graph, std::map<std::string, ValueId>& known) {
    Node result;
    space();
    if (at_ < text_.size() && text_[at_] == '%') {
      do result.outputs.push_back(declare(graph, known));
      while (take(","));
      expect("=");
    }
    result.op = word();
    expect("(");
    for (bool first = true; !take(")"); first = false) {
      if (!first) expect(",");
      result.inputs.push_back(mention(known));
    }
    while (!take(";")) {
      const std::string label = word();
      expect("=");
      result.attributes[label] = attribute();
    }
    result.name = quoted_text();
    while (space(), text_.substr(at_, 7) == "graph \"") result.subgraphs.push_back(std::make_shared<Graph>(parse_graph()));
    return result;
  }

  std::string_view text_;
  const std::map<std::string, std::shared_ptr<const Tensor>>& constants_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

std::string print(const Graph& graph) {
  std::string out;
  print_graph(graph, "", out);
  return out + "\n";
}

Graph parse_graph(std::string_view text, const std::map<std::string, std::shared_ptr<const Tensor>>& constants) { return Parser(text, constants).parse_all(); }

}  // namespace tilewright
