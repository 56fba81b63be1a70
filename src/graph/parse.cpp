#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstring>

#include "base/error.h"
#include "base/scanner.h"
#include "graph/graph.h"

namespace tilewright {
namespace {

/// Recursive descent over the text form.
class Parser : Scanner {
 public:
  Parser(std::string_view text, const std::map<std::string, std::shared_ptr<const Tensor>>& constants) : Scanner(text, "graph text"), constants_(constants) {}

  Graph parse_all() {
    Graph graph = parse_graph();
    space();
    if (at_ != text_.size()) reject("text after the graph");
    return graph;
  }

 private:
  /// A name that is a word may go without quotes.
  std::string value_name() {
    expect("%");
    return at_ < text_.size() && text_[at_] == '"' ? quoted() : word();
  }
  std::string number_text() {
    space();
    const size_t start = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '.' || text_[at_] == '-' || text_[at_] == '+')) ++at_;
    if (at_ == start) reject("expected a number");
    return std::string(text_.substr(start, at_ - start));
  }
  /// All of `text` is the number, and the number fits.
  template <class T, class... Base>
  static bool reads(std::string_view text, T& value, Base... base) {
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value, base...);
    return failure == std::errc{} && end == text.data() + text.size();
  }
  static bool is_real(const std::string& text) { return text.find_first_of(".eni") != std::string::npos; }
  double real(const std::string& text) const {
    double value = 0;
    if (!reads(text, value)) reject("'" + text + "' is no number");
    return value;
  }
  int64_t integer(const std::string& text) const {
    int64_t value = 0;
    if (!reads(text, value)) reject("'" + text + "' is no integer");
    return value;
  }

  /// What another function reads or computes; its errors get the line.
  template <class F, class T>
  auto read_by(F&& parse, const T& what) const {
    try {
      return parse(what);
    } catch (const Error& problem) {
      reject(problem.what());
    }
  }
  Dim dim(const std::string& text) const { return read_by(Dim::parse, text); }
  int64_t element_count(const Type& type) const {
    return read_by([](const Dims& dims) { return product(dims).constant(); }, type.dims);
  }
  DType dtype() { return read_by(parse_dtype, word()); }

  /// Sizes with commas between them, up to `close`, which is taken too.
  Dims dims_until(char close) {
    Dims result;
    int depth = 0;
    std::string one;
    space();
    for (; at_ < text_.size() && !(text_[at_] == close && depth == 0); ++at_) {
      const char c = text_[at_];
      depth += c == '(' ? 1 : c == ')' ? -1 : 0;
      if (c == ',' && depth == 0) {
        result.push_back(dim(one));
        one.clear();
      } else if (c != ' ') {
        one += c;
      }
    }
    if (!one.empty() || !result.empty()) result.push_back(dim(one));
    expect(std::string_view(&close, 1));
    return result;
  }
  Type type() {
    Type result;
    result.dtype = dtype();
    expect("[");
    result.dims = dims_until(']');
    return result;
  }

  ValueId declare(Graph& graph, std::map<std::string, ValueId>& known) {
    const std::string label = value_name();
    expect(":");
    graph.values.push_back({type(), label, nullptr, std::nullopt});
    const ValueId id = static_cast<ValueId>(graph.values.size()) - 1;
    if (!known.emplace(label, id).second) reject("'" + label + "' is declared twice");
    return id;
  }
  ValueId declare_result(Graph& graph, std::map<std::string, ValueId>& known) {
    const ValueId id = declare(graph, known);
    if (!take("{")) return id;
    Dims contents = dims_until('}');
    for (const Dim& size : graph.type(id).dims)
      if (!size.is_constant()) reject("a value with contents has known dims");
    if (element_count(graph.type(id)) != static_cast<int64_t>(contents.size())) reject(fmt::format("{} elements for {}", contents.size(), str(graph.type(id))));
    Value& value = graph.value(id);
    const bool known_now = std::all_of(contents.begin(), contents.end(), [](const Dim& size) { return size.is_constant(); });
    if (known_now && !is_float(value.type.dtype)) value.constant = integers(value.type, contents);
    value.contents = std::move(contents);
    return id;
  }
  ValueId mention(const std::map<std::string, ValueId>& known) {
    if (take("-")) return no_value;
    const std::string label = value_name();
    const auto found = known.find(label);
    if (found == known.end()) reject("'" + label + "' is not declared");
    return found->second;
  }

  std::shared_ptr<const Tensor> constant(const Type& type) {
    std::vector<int64_t> dims;
    for (const Dim& dim : type.dims) {
      if (!dim.is_constant() || dim.constant() < 0) reject("a constant has known dims");
      dims.push_back(dim.constant());
    }
    if (take("#")) return by_hash(type.dtype, dims);
    std::vector<std::string> elements;
    expect("{");
    for (bool first = true; !take("}"); first = false) {
      if (!first) expect(",");
      elements.push_back(number_text());
    }
    if (element_count(type) != static_cast<int64_t>(elements.size())) reject(fmt::format("{} elements for {}", elements.size(), str(type)));
    Tensor tensor(type.dtype, dims);
    for (size_t i = 0; i < elements.size(); ++i) set_element(tensor, static_cast<int64_t>(i), elements[i]);
    return std::make_shared<const Tensor>(std::move(tensor));
  }
  static std::shared_ptr<const Tensor> integers(const Type& type, const Dims& contents) {
    std::vector<int64_t> dims;
    for (const Dim& dim : type.dims) dims.push_back(dim.constant());
    Tensor tensor(type.dtype, dims);
    for (size_t i = 0; i < contents.size(); ++i) tensor.set_int(static_cast<int64_t>(i), contents[i].constant());
    return std::make_shared<const Tensor>(std::move(tensor));
  }
  /// Hashes are of bytes alone: the same bytes serve any dtype and dims that they fill.
  std::shared_ptr<const Tensor> by_hash(DType dtype, const std::vector<int64_t>& dims) {
    const std::string hash = word();
    const auto found = constants_.find(hash);
    if (found == constants_.end()) reject("constant #" + hash + " was not given");
    const std::shared_ptr<const Tensor>& given = found->second;
    if (given->dtype() == dtype && given->dims() == dims) return given;
    const auto view = std::make_shared<const Tensor>(dtype, dims, given->data(), given);
    if (view->byte_size() != given->byte_size()) reject(fmt::format("constant #{} has {} bytes, its type {}", hash, given->byte_size(), view->byte_size()));
    return view;
  }
  void set_element(Tensor& tensor, int64_t i, const std::string& text) const {
    const DType dtype = tensor.dtype();
    if (!is_float(dtype)) {
      tensor.set_int(i, integer(text));
      if (tensor.int_at(i) != integer(text)) reject("'" + text + "' is no " + std::string(name(dtype)));
    } else if (text.starts_with("0x")) {
      uint64_t bits = 0;
      const size_t size = size_of(dtype);
      if (text.size() != 2 + 2 * size || !reads(std::string_view(text).substr(2), bits, 16)) reject("'" + text + "' is no " + std::string(name(dtype)));
      std::memcpy(static_cast<std::byte*>(tensor.mutable_data()) + static_cast<size_t>(i) * size, &bits, size);
    } else {
      tensor.set_float(i, real(text));
    }
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
    if (at_ < text_.size() && text_[at_] == '"') return quoted();
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
      list([&] { v.push_back(quoted()); });
      return v;
    }
    if (take("dims")) {
      Dims v;
      list([&] { v.push_back(dim(quoted())); });
      return v;
    }
    if (take("dtype")) return dtype();
    const std::string text = number_text();
    if (is_real(text)) return real(text);
    return integer(text);
  }

  Graph parse_graph() {
    if (++depth_ > 64) reject("bodies are nested too deeply");
    Graph graph;
    std::map<std::string, ValueId> known;
    expect("graph");
    graph.name = quoted();
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
      outputs.push_back(value_name());
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
      do result.outputs.push_back(declare_result(graph, known));
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
    result.name = quoted();
    while (space(), text_.substr(at_, 7) == "graph \"") result.subgraphs.push_back(std::make_shared<Graph>(parse_graph()));
    return result;
  }

  const std::map<std::string, std::shared_ptr<const Tensor>>& constants_;
  int depth_ = 0;
};

}  // namespace

Graph parse_graph(std::string_view text, const std::map<std::string, std::shared_ptr<const Tensor>>& constants) { return Parser(text, constants).parse_all(); }

}  // namespace tilewright
