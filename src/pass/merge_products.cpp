#include "pass/merge_products.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "pass/editor.h"

namespace tilewright {
namespace {

/// What a merge must gain, as a share of the products' own time: less is lost again by rows that lie further apart.
constexpr double least_gain = 0.02;
/// Movements between a product and its readers that are looked through.
constexpr int most_movements = 8;

size_t at(int i) { return static_cast<size_t>(i); }

bool is_one_of(std::string_view op, std::initializer_list<std::string_view> names) { return std::find(names.begin(), names.end(), op) != names.end(); }

bool is_product(const Node& node) { return is_one_of(node.op, {"conv", "conv_transpose", "einsum", "matmul"}); }
bool is_elementwise(const Node& node) {
  return is_one_of(node.op, {"abs", "add", "cast", "div", "erf", "exp", "max", "min", "mul", "neg", "pow", "sigmoid", "sqrt", "sub", "tanh"});
}

int64_t groups_of(const Node& node) {
  const auto groups = node.attributes.find("groups");
  return groups == node.attributes.end() ? 1 : std::get<int64_t>(groups->second);
}

/// One tensor after the other along `axis`.
Tensor joined(const std::vector<const Tensor*>& tensors, size_t axis) {
  std::vector<int64_t> dims = tensors[0]->dims();
  dims[axis] = 0;
  for (const Tensor* tensor : tensors) dims[axis] += tensor->dims()[axis];
  Tensor result(tensors[0]->dtype(), dims);
  int64_t outer = 1;
  for (size_t d = 0; d < axis; ++d) outer *= dims[d];
  char* to = static_cast<char*>(result.mutable_data());
  for (int64_t i = 0; i < outer; ++i)
    for (const Tensor* tensor : tensors) {
      const size_t bytes = tensor->byte_size() / static_cast<size_t>(outer);
      std::memcpy(to, static_cast<const char*>(tensor->data()) + static_cast<size_t>(i) * bytes, bytes);
      to += bytes;
    }
  return result;
}

/// An operator that follows a product element by element.
struct Follower {
  int node = -1;
  std::vector<int> operands;  ///< 0: the product's results, i: those of follower i - 1, -1: a constant
};

/// A product and what follows it.
struct Member {
  int node = -1;
  std::vector<Follower> followers;
  std::vector<int> exits;         ///< whose results others read, counted as operands are
  std::vector<int> moves;         ///< movements from the only exit to a factor
  int factor = -1;                ///< the node that multiplies what they moved with one constant
  const char* refusal = nullptr;  ///< why it stays alone
};

class Merger {
 public:
  Merger(Graph& graph, const ProductCost& cost, MergeReport* report)
      : graph_(graph), editor_(graph), cost_(cost), report_(report), readers_(graph.values.size()) {
    for (size_t i = 0; i < graph.nodes.size(); ++i)
      for (const ValueId id : graph.nodes[i].inputs)
        if (id != no_value) add_once(readers_[at(editor_.resolve(id))], static_cast<int>(i));
  }

  void run() {
    std::vector<std::vector<int>> groups;
    std::map<ValueId, std::vector<size_t>> groups_of_operand;
    for (size_t i = 0; i < editor_.node_count(); ++i) {
      const Node& product = graph_.nodes[i];
      if (!may_join_others(product)) continue;
      std::vector<size_t>& known = groups_of_operand[product.inputs[0]];
      const auto found = std::find_if(known.begin(), known.end(), [&](size_t group) { return may_be_one(node(groups[group][0]), product); });
      if (found == known.end()) {
        known.push_back(groups.size());
        groups.push_back({static_cast<int>(i)});
      } else {
        groups[*found].push_back(static_cast<int>(i));
      }
    }
    for (const std::vector<int>& group : groups)
      if (group.size() > 1) merge_group(group);
    editor_.finish();
  }

 private:
  static void add_once(std::vector<int>& list, int one) {
    if (std::count(list.begin(), list.end(), one) == 0) list.push_back(one);
  }

  const Node& node(int i) const { return graph_.nodes[at(i)]; }
  const Dims& dims(ValueId id) const { return graph_.type(id).dims; }
  ValueId result(int i) const { return node(i).outputs[0]; }
  bool is_result_of_model(ValueId id) const { return std::count(graph_.outputs.begin(), graph_.outputs.end(), id) > 0; }

  /// Whether it is a product with weights of its own, one matrix of them.
  bool may_join_others(const Node& product) const {
    const bool convolution = product.op == "conv";
    if (!convolution && product.op != "matmul") return false;
    const ValueId x = product.inputs[0], w = product.inputs[1];
    const Tensor* weights = graph_.value(w).constant.get();
    if (weights == nullptr || graph_.value(x).constant || readers_[at(w)].size() > 1 || bits_of(weights->dtype()) < 8) return false;
    if (convolution ? groups_of(product) != 1 : weights->rank() != 2 || dims(x).size() < 2) return false;
    return !has_bias(product) || graph_.value(product.inputs[2]).constant;
  }

  static bool has_bias(const Node& product) { return product.inputs.size() > 2 && product.inputs[2] != no_value; }

  /// Whether two of them, of the same operand, differ in their columns alone.
  bool may_be_one(const Node& a, const Node& b) const {
    const Tensor &of_a = *graph_.value(a.inputs[1]).constant, &of_b = *graph_.value(b.inputs[1]).constant;
    if (a.op != b.op || a.attributes != b.attributes || of_a.dtype() != of_b.dtype() || has_bias(a) != has_bias(b)) return false;
    std::vector<int64_t> terms_a = of_a.dims(), terms_b = of_b.dims();
    terms_a[weights_axis(a)] = terms_b[weights_axis(b)] = 0;
    return terms_a == terms_b && graph_.type(a.outputs[0]).dtype == graph_.type(b.outputs[0]).dtype;
  }

  /// Whether what follows both is the same but for constants.
  bool follow_alike(const Member& a, const Member& b) const {
    if (a.exits != b.exits || a.followers.size() != b.followers.size()) return false;
    for (size_t i = 0; i < a.followers.size(); ++i) {
      const Follower &left = a.followers[i], &right = b.followers[i];
      const Node &one = node(left.node), &other = node(right.node);
      if (one.op != other.op || one.attributes != other.attributes || left.operands != right.operands) return false;
      for (size_t k = 0; k < one.inputs.size(); ++k)
        if (graph_.type(one.inputs[k]).dtype != graph_.type(other.inputs[k]).dtype) return false;
    }
    return true;
  }

  /// Along which the weights have the results' columns, and the results.
  static size_t weights_axis(const Node& product) { return product.op == "conv" ? 0 : 1; }
  size_t columns_axis(const Node& product) const { return product.op == "conv" ? 1 : dims(product.outputs[0]).size() - 1; }
  int64_t columns_of(const Node& product) const { return graph_.value(product.inputs[1]).constant->dims()[weights_axis(product)]; }

  /// Whether the constant varies along the results' columns at most.
  bool varies_by_column(const Tensor& constant, const Node& product) const {
    const size_t rank = dims(product.outputs[0]).size(), axis = columns_axis(product);
    if (constant.rank() > rank) return false;
    for (size_t d = 0; d < constant.rank(); ++d)
      if (constant.dims()[d] != 1 && d + rank - constant.rank() != axis) return false;
    return true;
  }

  Member member_of(int i) {
    Member member{.node = i, .followers = {}, .exits = {}, .moves = {}};
    const Node& product = node(i);
    std::vector<ValueId> values = {product.outputs[0]};
    std::vector<int> waiting = readers_[at(values[0])];
    // Nodes are in topological order: what reads several of them comes after the last.
    for (size_t next = 0; next < waiting.size(); ++next) {
      std::sort(waiting.begin() + static_cast<std::ptrdiff_t>(next), waiting.end());
      Follower follower{waiting[next], {}};
      if (!follows(follower, values, product)) continue;
      const ValueId made = result(follower.node);
      member.followers.push_back(std::move(follower));
      values.push_back(made);
      for (const int reader : readers_[at(made)])
        if (std::count(waiting.begin(), waiting.end(), reader) == 0) waiting.push_back(reader);
    }
    for (size_t v = 0; v < values.size(); ++v) {
      const auto inside = [&](int reader) {
        return std::any_of(member.followers.begin(), member.followers.end(), [&](const Follower& one) { return one.node == reader; });
      };
      const std::vector<int>& readers = readers_[at(values[v])];
      if (is_result_of_model(values[v]) || !std::all_of(readers.begin(), readers.end(), inside)) member.exits.push_back(static_cast<int>(v));
    }
    find_factor(member, values);
    for (const int exit : member.exits) {
      const ValueId last = member.factor >= 0 ? result(member.factor) : values[at(exit)];
      if (member.refusal == nullptr) member.refusal = copied_by(last, member.factor >= 0 ? -1 : static_cast<int>(columns_axis(product)), values, 0);
    }
    return member;
  }

  bool follows(Follower& follower, const std::vector<ValueId>& values, const Node& product) const {
    const Node& one = node(follower.node);
    if (!is_elementwise(one) || one.outputs.size() != 1 || !(dims(one.outputs[0]) == dims(product.outputs[0]))) return false;
    for (const ValueId id : one.inputs) {
      const auto made = std::find(values.begin(), values.end(), id);
      const Tensor* constant = graph_.value(id).constant.get();
      if (made == values.end() && (constant == nullptr || !varies_by_column(*constant, product) || bits_of(constant->dtype()) < 8)) return false;
      follower.operands.push_back(made == values.end() ? -1 : static_cast<int>(made - values.begin()));
    }
    return true;
  }

  /// x·s for one float s, seen through movements: the factor may come before them.
  void find_factor(Member& member, const std::vector<ValueId>& values) const {
    if (member.exits.size() != 1) return;
    ValueId value = values[at(member.exits[0])];
    std::vector<int> moves;
    while (readers_[at(value)].size() == 1 && !is_result_of_model(value)) {
      const int reader = readers_[at(value)][0];
      const Node& one = node(reader);
      if (is_one_of(one.op, {"reshape", "transpose"})) {
        moves.push_back(reader);
        value = one.outputs[0];
        continue;
      }
      if (one.op != "mul" || moves.empty() || graph_.type(value).dtype != DType::f32) return;
      const Tensor* constant = graph_.value(one.inputs[one.inputs[0] == value ? 1 : 0]).constant.get();
      if (constant == nullptr || constant->element_count() != 1 || !(dims(one.outputs[0]) == dims(value))) return;
      member.moves = std::move(moves);
      member.factor = reader;
      return;
    }
  }

  /// Why a reader would copy the slice `value` or make a kernel of its own of what it does with it; null: none does. `axis`: of the columns, where it is
  /// still one axis.
  const char* copied_by(ValueId value, int axis, const std::vector<ValueId>& values, int depth) const {
    if (is_result_of_model(value)) return "one is a result of the model";
    if (depth > most_movements) return "one is moved too often";
    for (const int reader : readers_[at(value)]) {
      const Node& one = node(reader);
      if (one.op == "matmul" || one.op == "einsum") continue;
      if (one.op == "conv" && one.inputs[0] == value && groups_of(one) == 1) continue;
      if (is_one_of(one.op, {"reshape", "transpose", "broadcast"})) {
        if (one.op == "reshape" && axis >= 0 && !keeps_columns(dims(value), dims(one.outputs[0]), at(axis))) return "one is read as rows without gaps";
        if (const char* why = copied_by(one.outputs[0], one.op == "reshape" ? -1 : axis_after(one, axis), values, depth + 1)) return why;
        continue;
      }
      if (is_one_of(one.op, {"average_pool", "max_pool", "reduce_mean"})) continue;
      if (is_elementwise(one) && joins_other_product(one, value, values)) continue;
      if (is_elementwise(one)) return "what follows them element by element is not alike, and would be a kernel of its own";
      return "one is read by what would copy it";
    }
    return nullptr;
  }

  static int axis_after(const Node& movement, int axis) {
    if (movement.op != "transpose" || axis < 0) return -1;
    const auto& order = std::get<std::vector<int64_t>>(movement.attributes.at("permutation"));
    return static_cast<int>(std::find(order.begin(), order.end(), axis) - order.begin());
  }

  /// Whether a reshape joins the columns with no other axis.
  static bool keeps_columns(const Dims& from, const Dims& to, size_t axis) {
    const auto has_boundary = [&](const Dim& below) {
      Dim total = 1;
      if (total == below) return true;
      for (size_t d = to.size(); d-- > 0;) {
        total *= to[d];
        if (total == below) return true;
      }
      return false;
    };
    const Dim below = product(Dims(from.begin() + static_cast<std::ptrdiff_t>(axis) + 1, from.end()));
    return has_boundary(below) && has_boundary(below * from[axis]);
  }

  /// Whether the map may be computed with another product's results: it has an operand of that product's, as large as its own result.
  bool joins_other_product(const Node& map, ValueId value, const std::vector<ValueId>& values) const {
    for (ValueId id : map.inputs) {
      if (id == value || !(dims(id) == dims(map.outputs[0]))) continue;
      for (int step = 0; step < most_movements; ++step) {
        const Node* made = editor_.producer(id);
        if (made == nullptr || std::count(values.begin(), values.end(), id) > 0) break;
        if (is_product(*made)) return editor_.resolve(made->inputs[0]) != editor_.resolve(input_of(values[0]));
        if (!is_elementwise(*made)) break;
        const Dims& wanted = dims(id);
        const auto source =
            std::find_if(made->inputs.begin(), made->inputs.end(), [&](ValueId one) { return editor_.producer(one) != nullptr && dims(one) == wanted; });
        if (source == made->inputs.end()) break;
        id = *source;
      }
    }
    return false;
  }
  ValueId input_of(ValueId product) const { return editor_.producer(product)->inputs[0]; }

  void merge_group(const std::vector<int>& group) {
    std::vector<std::vector<Member>> alike;
    for (const int i : group) {
      Member member = member_of(i);
      if (member.refusal != nullptr) {
        note({member}, member.refusal);
        continue;
      }
      const auto found = std::find_if(alike.begin(), alike.end(), [&](const std::vector<Member>& members) { return follow_alike(members[0], member); });
      if (found == alike.end())
        alike.push_back({std::move(member)});
      else
        found->push_back(std::move(member));
    }
    for (std::vector<Member>& members : alike) {
      members = worthwhile(std::move(members));
      if (members.size() > 1) merge(members);
    }
  }

  void note(const std::vector<Member>& members, const std::string& refusal) {
    if (report_ == nullptr) return;
    std::string sources;
    for (const Member& member : members) sources = joined_sources(sources, node(member.node).name);
    report_->groups.push_back({sources, refusal});
  }

  double cost_of(int64_t columns, const Node& product) const {
    const Dims& all = dims(product.outputs[0]);
    Dim rows = 1;
    for (size_t d = 0; d < all.size(); ++d)
      if (d != columns_axis(product)) rows *= all[d];
    const Tensor& weights = *graph_.value(product.inputs[1]).constant;
    const int64_t terms = weights.element_count() / std::max<int64_t>(columns_of(product), 1);
    const bool windows = product.op == "conv" && terms > weights.dims()[1];
    return cost_({rows.as_constant().value_or(0), columns, terms, tilewright::product(dims(product.inputs[0])).as_constant().value_or(0), windows});
  }

  /// The narrowest members and as many others as gain by joining them; fewer than two: none do.
  std::vector<Member> worthwhile(std::vector<Member> members) {
    if (members.size() < 2) {
      if (!members.empty()) note(members, "no other may join it");
      return {};
    }
    if (!cost_) return members;
    std::stable_sort(members.begin(), members.end(), [&](const Member& a, const Member& b) { return columns_of(node(a.node)) < columns_of(node(b.node)); });
    std::vector<Member> taken, left;
    int64_t columns = 0;
    double apart = 0, together = 0;
    for (Member& member : members) {
      const Node& product = node(member.node);
      const double alone = cost_of(columns_of(product), product), with = cost_of(columns + columns_of(product), product);
      if (!taken.empty() && with > together + alone) {
        left.push_back(std::move(member));
        continue;
      }
      columns += columns_of(product);
      apart += alone;
      together = with;
      taken.push_back(std::move(member));
    }
    const bool gains = taken.size() > 1 && apart - together > least_gain * apart;
    if (!gains) {
      note(members_of(taken, left), fmt::format("it would take {:.0f} % of their time", 100 * together / apart));
      return {};
    }
    if (!left.empty()) note(left, "the others take less time without it");
    std::sort(taken.begin(), taken.end(), [](const Member& a, const Member& b) { return a.node < b.node; });
    return taken;
  }

  static std::vector<Member> members_of(std::vector<Member> a, const std::vector<Member>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }

  /// Constant `operand` of what `nodes` stand for in the members, side by side along the columns.
  ValueId joined_constant(const std::vector<Member>& members, const std::vector<int>& nodes, size_t operand) {
    std::vector<Tensor> parts;
    std::vector<const Tensor*> pointers;
    bool equal = true;
    for (size_t m = 0; m < members.size(); ++m) {
      const Node& product = node(members[m].node);
      const Tensor& constant = *graph_.value(node(nodes[m]).inputs[operand]).constant;
      const int64_t columns = columns_of(product);
      std::vector<int64_t> wide(dims(product.outputs[0]).size() - columns_axis(product), 1);
      wide[0] = columns;
      Tensor part(constant.dtype(), wide);
      const size_t element = size_of(constant.dtype());
      char* const to = static_cast<char*>(part.mutable_data());
      for (int64_t c = 0; c < columns; ++c)
        std::memcpy(to + static_cast<size_t>(c) * element,
                    static_cast<const char*>(constant.data()) + (constant.element_count() > 1 ? static_cast<size_t>(c) * element : 0), element);
      equal = equal && constant.element_count() == 1 && (m == 0 || constant.same_bytes(*graph_.value(node(nodes[0]).inputs[operand]).constant));
      parts.push_back(std::move(part));
    }
    if (equal) return node(nodes[0]).inputs[operand];
    for (const Tensor& part : parts) pointers.push_back(&part);
    return editor_.builder().constant(joined(pointers, 0));
  }

  ValueId merged_product(const std::vector<Member>& members) {
    std::vector<const Tensor*> weights, biases;
    for (const Member& member : members) {
      const Node& product = node(member.node);
      weights.push_back(graph_.value(product.inputs[1]).constant.get());
      if (has_bias(product)) biases.push_back(graph_.value(product.inputs[2]).constant.get());
    }
    const Node first = node(members[0].node);
    Builder& b = editor_.builder();
    std::vector<ValueId> inputs = {editor_.resolve(first.inputs[0]), b.constant(joined(weights, weights_axis(first)))};
    if (!biases.empty()) inputs.push_back(b.constant(joined(biases, 0)));
    return b.one(first.op, inputs, first.attributes);
  }

  void merge(const std::vector<Member>& members) {
    note(members, "");
    Builder& b = editor_.builder();
    std::string sources;
    for (const Member& member : members) sources = joined_sources(sources, node(member.node).name);
    b.set_source(sources);
    const int axis = static_cast<int>(columns_axis(node(members[0].node)));
    std::vector<int64_t> columns;
    for (const Member& member : members) columns.push_back(columns_of(node(member.node)));
    std::vector<ValueId> values = {merged_product(members)};
    for (size_t f = 0; f < members[0].followers.size(); ++f) {
      std::vector<int> nodes;
      std::string names;
      for (const Member& member : members) {
        nodes.push_back(member.followers[f].node);
        names = joined_sources(names, node(nodes.back()).name);
      }
      b.set_source(names);
      std::vector<ValueId> inputs;
      const std::vector<int>& operands = members[0].followers[f].operands;
      for (size_t k = 0; k < operands.size(); ++k) inputs.push_back(operands[k] >= 0 ? values[at(operands[k])] : joined_constant(members, nodes, k));
      const Node first = node(nodes[0]);
      values.push_back(b.one(first.op, inputs, first.attributes));
    }
    const ValueId scaled = with_factors(members, values);
    for (const int exit : members[0].exits) {
      int64_t start = 0;
      for (size_t m = 0; m < members.size(); ++m) {
        const Member& member = members[m];
        b.set_source(node(member.node).name);
        ValueId slice = b.slice(scaled == no_value ? values[at(exit)] : scaled, axis, start, columns[m]);
        start += columns[m];
        ValueId stood = exit == 0 ? result(member.node) : result(member.followers[at(exit) - 1].node);
        for (const int move : member.moves) {
          const Node one = node(move);
          slice = b.one(one.op, {slice}, one.attributes);
        }
        if (member.factor >= 0) stood = result(member.factor);
        editor_.replace(stood, slice);
      }
    }
  }

  /// The only exit's values times each member's factor; none where no member has one.
  ValueId with_factors(const std::vector<Member>& members, const std::vector<ValueId>& values) {
    if (std::none_of(members.begin(), members.end(), [](const Member& member) { return member.factor >= 0; })) return no_value;
    std::vector<float> factors;
    for (const Member& member : members) {
      float factor = 1;
      if (member.factor >= 0)
        for (const ValueId id : node(member.factor).inputs)
          if (graph_.value(id).constant) factor = static_cast<float>(graph_.value(id).constant->float_at(0));
      factors.insert(factors.end(), static_cast<size_t>(columns_of(node(member.node))), factor);
    }
    const Node& product = node(members[0].node);
    std::vector<int64_t> wide(dims(product.outputs[0]).size() - columns_axis(product), 1);
    wide[0] = static_cast<int64_t>(factors.size());
    Builder& b = editor_.builder();
    return b.mul(values[at(members[0].exits[0])], b.constant(Tensor::from_floats(factors, wide)));
  }

  Graph& graph_;
  Editor editor_;
  const ProductCost& cost_;
  MergeReport* report_;
  std::vector<std::vector<int>> readers_;  ///< by value: nodes of the graph as it was
};

}  // namespace

void merge_products(Graph& graph, const ProductCost& cost, MergeReport* report) {
  Merger(graph, cost, report).run();
  for (Node& node : graph.nodes)
    for (auto& body : node.subgraphs) merge_products(*body, cost, report);
}

}  // namespace tilewright
