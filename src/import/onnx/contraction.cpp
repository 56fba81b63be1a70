#include <algorithm>
#include <map>
#include <set>

#include "import/onnx/operands.h"
#include "import/onnx/operators.h"

namespace tilewright::onnx {
namespace {

void matmul(NodeImport& n) { n.set(n.b.matmul(n.in(0), n.in(1))); }

/// alpha·A'·B' + beta·C
void gemm(NodeImport& n) {
  Builder& b = n.b;
  n.require(n.rank(0) == 2 && n.rank(1) == 2, "needs matrices, not {} and {}", str(b.type(n.in(0))), str(b.type(n.in(1))));
  const auto matrix = [&](int i, std::string_view transposed) { return n.flag(transposed, false) ? b.transpose(n.in(i), {1, 0}) : n.in(i); };
  const auto scaled = [&](ValueId x, double factor) { return factor == 1 ? x : b.mul(x, factor); };
  ValueId result = scaled(b.matmul(matrix(0, "transA"), matrix(1, "transB")), n.real("alpha", 1));
  const double beta = n.real("beta", 1);
  if (n.has(2) && beta != 0) {
    const ValueId c = scaled(n.in(2), beta);
    n.require(b.rank(c) <= 2, "C is {}; it must broadcast to {}", str(b.type(c)), str(b.type(result)));
    result = b.add(result, c);
  }
  n.set(result);
}

/// An equation with one lower-case letter a dim: no spaces, no ellipsis, the result written out.
class Equation {
 public:
  Equation(NodeImport& n, const std::vector<ValueId>& operands) : n_(n) {
    std::string text = n.text("equation");
    std::erase(text, ' ');
    const size_t arrow = text.find("->");
    const std::string left = text.substr(0, arrow);
    for (const char c : text) {
      if (std::isalpha(static_cast<unsigned char>(c))) used_.insert(c);
    }
    size_t begin = 0;
    for (size_t i = 0; i < operands.size(); ++i) {
      const size_t end = std::min(left.find(',', begin), left.size());
      n.require(begin <= left.size(), "equation '{}' has fewer terms than its {} operands", text, operands.size());
      widest_ = std::max(widest_, ellipsis_rank(left.substr(begin, end - begin), n.b.rank(operands[i])));
      terms_.push_back(left.substr(begin, end - begin));
      begin = end + 1;
    }
    n.require(begin > left.size(), "equation '{}' has more terms than its {} operands", text, operands.size());
    for (size_t i = 0; i < terms_.size(); ++i) terms_[i] = expanded(terms_[i], ellipsis_rank(terms_[i], n.b.rank(operands[i])));
    result_ = arrow == std::string::npos ? implied_result() : expanded(text.substr(arrow + 2), widest_);
    for (const char c : result_) {
      n.require(std::count(result_.begin(), result_.end(), c) == 1, "equation '{}' has '{}' twice in its result", text, c);
    }
  }

  std::string str() const {
    std::string text;
    for (const std::string& term : terms_) text += (text.empty() ? "" : ",") + term;
    return text + "->" + result_;
  }

 private:
  static constexpr std::string_view dots = "...";

  int ellipsis_rank(const std::string& term, int rank) const {
    if (term.find(dots) == std::string::npos) {
      n_.require(static_cast<int>(term.size()) == rank, "term '{}' does not fit an operand of {} dims", term, rank);
      return 0;
    }
    const int letters = static_cast<int>(term.size() - dots.size());
    n_.require(letters <= rank, "term '{}' does not fit an operand of {} dims", term, rank);
    return rank - letters;
  }

  /// Ellipses line up at their last dims, as in broadcasting.
  std::string expanded(const std::string& term, int ellipsis) {
    std::string result;
    for (size_t i = 0; i < term.size();) {
      if (term.compare(i, dots.size(), dots) == 0) {
        for (int k = widest_ - ellipsis; k < widest_; ++k) result += lower(k);
        i += dots.size();
      } else {
        n_.require(std::isalpha(static_cast<unsigned char>(term[i])), "term '{}' has '{}', which is no letter", term, term[i]);
        result += lower(term[i++]);
      }
    }
    return result;
  }

  /// Without an arrow: the ellipsis, then letters that stand once, in the alphabet's order.
  std::string implied_result() {
    std::map<char, int> seen;
    for (const auto& [key, letter] : letters_) {
      if (key >= ellipsis_key) continue;
      for (const std::string& term : terms_) seen[static_cast<char>(key)] += static_cast<int>(std::count(term.begin(), term.end(), letter));
    }
    std::string result;
    for (int k = 0; k < widest_; ++k) result += lower(k);
    for (const auto& [key, count] : seen) {
      if (count == 1) result += letters_.at(key);
    }
    return result;
  }

  static constexpr int ellipsis_key = 1000;
  char lower(int ellipsis_dim) { return letter_for(ellipsis_key + ellipsis_dim); }
  char lower(char letter) { return letter_for(letter); }
  char letter_for(int key) {
    if (const auto found = letters_.find(key); found != letters_.end()) return found->second;
    if (key < ellipsis_key && std::islower(key)) return letters_[key] = static_cast<char>(key);
    for (char c = 'a'; c <= 'z'; ++c) {
      if (used_.insert(c).second) return letters_[key] = c;
    }
    n_.unsupported("its equation needs more than 26 different letters");
  }

  NodeImport& n_;
  std::vector<std::string> terms_;
  std::string result_;
  int widest_ = 0;
  std::set<char> used_;
  std::map<int, char> letters_;
};

void einsum(NodeImport& n) {
  const std::vector<ValueId> operands = n.all_inputs();
  n.set(n.b.one("einsum", operands, {{"equation", Equation(n, operands).str()}}));
}

constexpr OperatorEntry table[] = {
    {"", "Einsum", 12, einsum},
    {"", "Gemm", 1, gemm},
    {"", "MatMul", 1, matmul},
};

}  // namespace

std::span<const OperatorEntry> contraction_operators() { return table; }

}  // namespace tilewright::onnx
