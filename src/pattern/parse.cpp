#include <algorithm>
#include <cctype>
#include <charconv>
#include <utility>

#include "base/error.h"
#include "base/scanner.h"
#include "pattern/expr.h"
#include "pattern/text.h"

namespace tilewright::pattern {
namespace {

constexpr int max_nesting = 100;

/// Tokens of programs.
class ProgramScanner : public Scanner {
 public:
  explicit ProgramScanner(std::string_view text) : Scanner(text, "program text") {}

  /// Text up to a closing bracket that no other opens, and the bracket.
  std::string until(char close) {
    const size_t start = at_;
    int depth = 0;
    for (; at_ < text_.size() && (text_[at_] != close || depth > 0); ++at_) depth += text_[at_] == '(' ? 1 : text_[at_] == ')' ? -1 : 0;
    if (at_ == text_.size()) reject(fmt::format("expected '{}'", close));
    return std::string(text_.substr(start, at_++ - start));
  }
  template <class T>
  T number() {
    space();
    const size_t start = at_;
    while (at_ < text_.size() && (is_word(text_[at_]) || text_[at_] == '-' || text_[at_] == '+')) ++at_;
    T value{};
    const auto [end, error] = std::from_chars(text_.data() + start, text_.data() + at_, value);
    if (error != std::errc() || end != text_.data() + at_ || at_ == start) reject("expected a number");
    return value;
  }
  template <class F>
  void list(F&& one) {
    expect("(");
    if (take(")")) return;
    do one();
    while (take(","));
    expect(")");
  }
  template <size_t n>
  size_t one_of(const std::string_view (&names)[n]) {
    const std::string found = word();
    const auto at = std::find(std::begin(names), std::end(names), found);
    if (at == std::end(names)) reject("'" + found + "' is not known here");
    return static_cast<size_t>(at - std::begin(names));
  }

  Dim dim() {
    expect("[");
    return Dim::parse(until(']'));
  }
  Dims dims() {
    expect("[");
    const std::string all = until(']');
    Dims result;
    std::string part;
    int depth = 0;
    for (const char c : all + ",") {
      depth += c == '(' ? 1 : c == ')' ? -1 : 0;
      if (c != ',' || depth > 0)
        part += c;
      else if (!all.empty())
        result.push_back(Dim::parse(std::exchange(part, "")));
    }
    return result;
  }
  Map map() {
    expect("{");
    return parse_map(until('}'));
  }
};

class Parser {
 public:
  Parser(ProgramScanner& in, const std::map<std::string, std::shared_ptr<const Tensor>>& constants, int nesting)
      : in_(in), constants_(constants), nesting_(nesting) {
    if (nesting > max_nesting) in.reject("programs are nested too deep");
  }

  Program program() {
    in_.expect("program");
    Program result;
    result.name = in_.quoted();
    result.inputs = tensors();
    in_.expect("->");
    result.outputs = tensors();
    while (in_.take("tensor")) result.tensors.push_back(declaration(result.tensors.size()));
    while (!in_.take("end")) result.patterns.push_back(pattern());
    for (const TensorId id : mentioned_)
      if (id >= static_cast<TensorId>(result.tensors.size())) in_.reject(fmt::format("tensor %{} is not declared", id));
    return result;
  }

 private:
  TensorInfo declaration(size_t id) {
    in_.expect("%");
    if (in_.number<int>() != static_cast<int>(id)) in_.reject(fmt::format("tensor %{} comes next", id));
    TensorInfo info;
    info.name = in_.quoted();
    in_.expect(":");
    info.type.dtype = parse_dtype(in_.word());
    info.type.dims = in_.dims();
    if (in_.take("=")) info.constant = constant(info.type);
    return info;
  }
  std::shared_ptr<const Tensor> constant(const Type& type) {
    if (in_.take("#")) {
      const std::string hash = in_.word();
      const auto found = constants_.find(hash);
      if (found == constants_.end()) in_.reject("constant #" + hash + " was not given");
      return found->second;
    }
    std::vector<int64_t> dims;
    for (const Dim& dim : type.dims) dims.push_back(dim.is_constant() ? dim.constant() : -1);
    if (std::find(dims.begin(), dims.end(), -1) != dims.end()) in_.reject("a constant has known dims");
    Tensor tensor(type.dtype, dims);
    in_.expect("{");
    for (int64_t i = 0; i < tensor.element_count(); ++i) {
      if (i > 0) in_.expect(",");
      is_float(type.dtype) ? tensor.set_float(i, in_.number<double>()) : tensor.set_int(i, in_.number<int64_t>());
    }
    in_.expect("}");
    return std::make_shared<const Tensor>(std::move(tensor));
  }

  TensorId tensor() {
    if (in_.take("-")) return -1;
    in_.expect("%");
    mentioned_.push_back(in_.number<int>());
    if (mentioned_.back() < 0) in_.reject("a tensor's number is not negative");
    in_.quoted();
    return mentioned_.back();
  }
  std::vector<TensorId> tensors() {
    std::vector<TensorId> ids;
    in_.list([&] { ids.push_back(tensor()); });
    return ids;
  }
  std::vector<ExprId> expressions() {
    std::vector<ExprId> ids;
    in_.list([&] { ids.push_back(reference("e")); });
    return ids;
  }
  std::vector<BoundSymbol> bound() {
    std::vector<BoundSymbol> symbols;
    in_.list([&] {
      BoundSymbol one;
      one.symbol = in_.word();
      one.output = in_.number<int>();
      one.axis = in_.number<int>();
      symbols.push_back(std::move(one));
    });
    return symbols;
  }
  std::string source() {
    in_.expect(";");
    return in_.quoted();
  }
  /// "e12" is one word: its number.
  int reference(std::string_view kind) {
    const std::string found = in_.word();
    int value = 0;
    const char* end = found.data() + found.size();
    if (found.substr(0, 1) != kind || std::from_chars(found.data() + 1, end, value).ptr != end || found.size() < 2)
      in_.reject(fmt::format("expected {}0, {}1, …", kind, kind));
    return value;
  }
  void numbered(std::string_view kind, const std::string& found, size_t next) {
    if (found != fmt::format("{}{}", kind, next)) in_.reject(fmt::format("expected {}{}", kind, next));
    in_.expect("=");
  }
  std::shared_ptr<Program> nested() { return std::make_shared<Program>(Parser(in_, constants_, nesting_ + 1).program()); }

  Pattern pattern() {
    const std::string kind = in_.word();
    if (kind == "map" || kind == "reduce" || kind == "contract") return nest();
    if (kind == "scatter") return scatter();
    if (kind == "cumulate") return cumulate();
    if (kind == "select") return select();
    if (kind == "bind") {
      Bind b;
      in_.list([&] { b.symbols.push_back(in_.word()); });
      in_.expect("=");
      b.tensor = tensor();
      b.source = source();
      return b;
    }
    if (kind == "require") {
      Require r;
      r.lhs = in_.dim();
      in_.expect("==");
      r.rhs = in_.dim();
      r.message = in_.quoted();
      r.source = source();
      return r;
    }
    if (kind == "if") return branch();
    if (kind == "loop") return loop();
    in_.reject("'" + kind + "' is no pattern");
  }

  ExprNode node() {
    ExprNode one;
    one.dtype = parse_dtype(in_.word());
    const std::string operation = in_.word();
    constexpr int count = static_cast<int>(ExprOp::select) + 1;
    int op = 0;
    while (op < count && info(static_cast<ExprOp>(op)).name != operation) ++op;
    if (op == count) in_.reject("'" + operation + "' is no operation");
    one.op = static_cast<ExprOp>(op);
    switch (one.op) {
      case ExprOp::constant: is_float(one.dtype) ? void(one.real = in_.number<double>()) : void(one.integer = in_.number<int64_t>()); break;
      case ExprOp::index: one.integer = reference("i"); break;
      case ExprOp::size: one.dim = in_.dim(); break;
      case ExprOp::load: one.integer = reference("a"); break;
      case ExprOp::reduced: one.integer = reference("r"); break;
      default: one.args = expressions();
    }
    return one;
  }
  Access access() {
    Access one;
    one.tensor = tensor();
    one.map = in_.map();
    if (in_.take("at")) one.indirect = expressions();
    if (in_.take("else")) one.fill = reference("e");
    return one;
  }
  /// Accesses and expressions, and reductions where there may be some; ends after the word "store".
  void body(std::vector<Access>& accesses, std::vector<ExprNode>& nodes, std::vector<Reduction>* reductions) {
    for (std::string word = in_.word(); word != "store"; word = in_.word()) {
      if (word[0] == 'a') {
        numbered("a", word, accesses.size());
        accesses.push_back(access());
      } else if (word[0] == 'e') {
        numbered("e", word, nodes.size());
        nodes.push_back(node());
      } else {
        if (reductions == nullptr) in_.reject("expected an access, an expression or store");
        numbered("r", word, reductions->size());
        Reduction one;
        one.dtype = parse_dtype(in_.word());
        one.op = static_cast<ReduceOp>(in_.one_of(reduction_names));
        one.value = reference("e");
        reductions->push_back(one);
      }
    }
  }

  Nest nest() {
    Nest n;
    in_.expect("over");
    n.space = in_.dims();
    if (in_.take("reduced")) {
      const Dims reduced = in_.dims();
      n.reduced_rank = static_cast<int>(reduced.size());
      n.space.insert(n.space.end(), reduced.begin(), reduced.end());
    }
    n.source = source();
    body(n.accesses, n.nodes, &n.reductions);
    do {
      Store store;
      store.tensor = tensor();
      store.map = in_.map();
      in_.expect("=");
      store.value = reference("e");
      n.outputs.push_back(std::move(store));
    } while (in_.take("store"));
    return n;
  }
  Scatter scatter() {
    Scatter s;
    s.combine = static_cast<Scatter::Combine>(in_.one_of(combination_names));
    s.output = tensor();
    in_.expect("from");
    s.initial = tensor();
    in_.expect("over");
    s.space = in_.dims();
    s.source = source();
    body(s.accesses, s.nodes, nullptr);
    s.map = in_.map();
    in_.expect("at");
    s.indirect = expressions();
    in_.expect("=");
    s.value = reference("e");
    return s;
  }
  Cumulate cumulate() {
    Cumulate c;
    c.output = tensor();
    in_.expect("=");
    c.product = !in_.take("sum");
    if (c.product) in_.expect("product");
    c.exclusive = in_.take("exclusive");
    c.reverse = in_.take("reverse");
    c.input = tensor();
    in_.expect("axis");
    c.axis = in_.number<int>();
    c.source = source();
    return c;
  }
  Select select() {
    Select s;
    s.kind = static_cast<Select::Kind>(in_.one_of(selection_names));
    s.outputs = tensors();
    in_.expect("count");
    s.count = tensor();
    in_.expect("=");
    s.inputs = tensors();
    in_.list([&] { s.ints.push_back(in_.number<int64_t>()); });
    s.source = source();
    return s;
  }
  If branch() {
    If b;
    b.condition = tensor();
    b.outputs = tensors();
    in_.expect("=");
    b.inputs = tensors();
    in_.expect("bound");
    b.bound = bound();
    b.source = source();
    b.then_program = nested();
    b.else_program = nested();
    return b;
  }
  Loop loop() {
    Loop l;
    l.trip_count = tensor();
    in_.expect("while");
    l.condition = tensor();
    l.outputs = tensors();
    in_.expect("=");
    l.carried = tensors();
    in_.expect("with");
    l.invariants = tensors();
    in_.expect("bound");
    l.bound = bound();
    in_.expect("body");
    l.body_bound = bound();
    l.source = source();
    l.body = nested();
    return l;
  }

  ProgramScanner& in_;
  const std::map<std::string, std::shared_ptr<const Tensor>>& constants_;
  int nesting_;
  std::vector<TensorId> mentioned_;
};

}  // namespace

Program parse_program(std::string_view text, const std::map<std::string, std::shared_ptr<const Tensor>>& constants) {
  ProgramScanner in(text);
  Program program = Parser(in, constants, 0).program();
  if (!in.at_end()) in.reject("text after the program");
  return program;
}

}  // namespace tilewright::pattern
