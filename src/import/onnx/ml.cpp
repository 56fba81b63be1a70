#include <cmath>
#include <limits>

#include "import/onnx/operators.h"

/// ai.onnx.ml on numbers. What works on strings is refused: tensors hold no strings here.
namespace tilewright::onnx {
namespace {

void array_feature_extractor(NodeImport& n) {
  Builder& b = n.b;
  const ValueId x = n.in(0);
  n.require(b.rank(x) >= 1, "input is a scalar; needs an axis of features");
  const ValueId indices = b.reshape(n.in(1), {product(n.dims(1))});
  const ValueId y = b.gather(x, indices, b.rank(x) - 1);
  n.set(b.rank(x) == 1 ? b.unsqueeze(y, {0}) : y);
}

void binarizer(NodeImport& n) {
  Builder& b = n.b;
  const ValueId x = n.in(0);
  n.set(b.cast(b.less(b.scalar(b.dtype(x), n.real("threshold", 0)), x), b.dtype(x)));
}

void scaler(NodeImport& n) {
  Builder& b = n.b;
  auto parameter = [&](const char* name) {
    const std::vector<float> values = n.reals(name);
    n.require(!values.empty(), "attribute '{}' is missing", name);
    return b.constant(Tensor::from_floats(values, {static_cast<int64_t>(values.size())}));
  };
  n.set(b.mul(b.sub(b.cast(n.in(0), DType::f32), parameter("offset")), parameter("scale")));
}

/// The list attribute `stem` with any of its element types, as a vector; null when the model has none of them.
std::optional<Tensor> numbers(NodeImport& n, const std::string& stem) {
  if (n.has_attribute(stem + "_strings")) n.unsupported("attribute '{}_strings': strings are not tensors here", stem);
  if (n.has_attribute(stem + "_int64s")) return Tensor::from_ints(n.integers(stem + "_int64s"));
  if (n.has_attribute(stem + "_floats")) {
    const std::vector<float> values = n.reals(stem + "_floats");
    return Tensor::from_floats(values, {static_cast<int64_t>(values.size())});
  }
  if (n.has_attribute(stem + "_tensor")) {
    const Tensor values = n.tensor(stem + "_tensor");
    return values.reshaped({values.element_count()});
  }
  return std::nullopt;
}

/// Each element that equals a key becomes the key's value, the last of equal keys winning; NaN equals NaN. Others take the default.
void label_encoder(NodeImport& n) {
  Builder& b = n.b;
  if (n.has_attribute("classes_strings")) n.unsupported("its labels are strings");
  const std::optional<Tensor> keys = numbers(n, "keys"), values = numbers(n, "values");
  n.require(keys && values && keys->element_count() == values->element_count(), "keys and values must be given, as many of one as of the other");
  const ValueId x = n.in(0);
  const DType to = values->dtype();
  ValueId otherwise =
      is_float(to) ? b.cast(b.scalar(DType::f32, n.real("default_float", -0.0)), to) : b.cast(b.reshape(b.ints({n.integer("default_int64", -1)}), {}), to);
  if (n.has_attribute("default_tensor")) {
    const Tensor given = n.tensor("default_tensor");
    n.require(given.element_count() == 1, "default_tensor has {} elements; needs 1", given.element_count());
    otherwise = b.cast(b.constant(given.reshaped({})), to);
  } else if (values->element_count() > 0 && n.has_attribute("values_tensor")) {
    otherwise = b.scalar(to, is_float(to) ? -0.0 : -1);
  }
  if (keys->element_count() == 0) {
    n.set(b.broadcast(otherwise, b.dims(x)));
    return;
  }
  const ValueId key = b.cast(b.constant(*keys), b.dtype(x));
  const ValueId wide = b.unsqueeze(x, {b.rank(x)});
  ValueId same = b.equal(wide, key);
  if (is_float(b.dtype(x))) same = b.one("or", {same, b.one("and", {b.unary("is_nan", wide), b.unary("is_nan", key)})});
  const ValueId found = b.reduce("reduce_max", same, {b.rank(x)}, false);
  const ValueId position = b.one("arg_max", {b.cast(same, DType::i32)}, {{"axis", int64_t{b.rank(x)}}, {"keep_dims", int64_t{0}}, {"last", int64_t{1}}});
  n.set(b.where(found, b.gather(b.constant(*values), position, 0), otherwise));
}

/// A forest as one table: inner nodes first, then leaves, which lead to themselves.
struct Forest {
  std::vector<int64_t> feature, next_true, next_false;
  std::vector<double> split;
  std::vector<bool> accept_less, accept_equal, accept_greater, accept_nan;
  std::vector<std::vector<double>> members;  ///< of set tests; empty for others
  int64_t inner = 0, leaves = 0, depth = 0;
  bool has_sets = false;
};

enum SplitMode { less_or_equal, less_than, greater_or_equal, greater_than, equal_to, not_equal_to, member_of, mode_count };

Forest read_forest(NodeImport& n, const std::vector<int64_t>& roots) {
  Forest f;
  const Tensor splits = n.tensor("nodes_splits"), modes = n.tensor("nodes_modes");
  const std::vector<int64_t> features = n.integers("nodes_featureids"), true_leaf = n.integers("nodes_trueleafs"), false_leaf = n.integers("nodes_falseleafs"),
                             true_id = n.integers("nodes_truenodeids"), false_id = n.integers("nodes_falsenodeids"),
                             tracks = n.integers("nodes_missing_value_tracks_true");
  f.inner = static_cast<int64_t>(features.size());
  f.leaves = static_cast<int64_t>(n.integers("leaf_targetids").size());
  const size_t count = features.size();
  n.require(count > 0 && f.leaves > 0 && static_cast<size_t>(splits.element_count()) == count && static_cast<size_t>(modes.element_count()) == count &&
                true_leaf.size() == count && false_leaf.size() == count && true_id.size() == count && false_id.size() == count &&
                (tracks.empty() || tracks.size() == count),
            "the nodes_ attributes differ in length");
  std::vector<double> sets;
  if (n.has_attribute("membership_values")) {
    const Tensor values = n.tensor("membership_values");
    for (int64_t i = 0; i < values.element_count(); ++i) sets.push_back(values.float_at(i));
  }
  auto target = [&](int64_t id, int64_t leaf) {
    n.require(id >= 0 && id < (leaf ? f.leaves : f.inner), "a branch leads to {} {}, which does not exist", leaf ? "leaf" : "node", id);
    return leaf ? f.inner + id : id;
  };
  size_t next_member = 0;
  for (size_t i = 0; i < count; ++i) {
    const int64_t mode = modes.int_at(static_cast<int64_t>(i));
    n.require(mode >= 0 && mode < mode_count, "node {} has mode {}", i, mode);
    n.require(features[i] >= 0, "node {} tests feature {}", i, features[i]);
    f.feature.push_back(features[i]);
    f.next_true.push_back(target(true_id[i], true_leaf[i]));
    f.next_false.push_back(target(false_id[i], false_leaf[i]));
    f.split.push_back(splits.float_at(static_cast<int64_t>(i)));
    f.accept_less.push_back(mode == less_or_equal || mode == less_than || mode == not_equal_to);
    f.accept_equal.push_back(mode == less_or_equal || mode == greater_or_equal || mode == equal_to);
    f.accept_greater.push_back(mode == greater_or_equal || mode == greater_than || mode == not_equal_to);
    f.accept_nan.push_back(mode == not_equal_to || (!tracks.empty() && tracks[i] != 0));
    f.members.emplace_back();
    if (mode != member_of) continue;
    f.has_sets = true;
    while (next_member < sets.size() && !std::isnan(sets[next_member])) f.members.back().push_back(sets[next_member++]);
    n.require(next_member < sets.size(), "membership_values ends before the set of node {}", i);
    ++next_member;
  }
  // The longest way from a root to a leaf; a way longer than there are nodes goes in a circle.
  std::vector<int64_t> level = roots;
  for (f.depth = 0; !level.empty(); ++f.depth) {
    n.require(f.depth <= f.inner, "a tree's branches go in a circle");
    std::vector<char> seen(count, 0);
    std::vector<int64_t> below;
    for (int64_t node : level)
      for (int64_t next : {f.next_true[static_cast<size_t>(node)], f.next_false[static_cast<size_t>(node)]})
        if (next < f.inner && !seen[static_cast<size_t>(next)]++) below.push_back(next);
    level = std::move(below);
  }
  for (int64_t i = 0; i < f.leaves; ++i) {
    f.feature.push_back(0);
    f.next_true.push_back(f.inner + i);
    f.next_false.push_back(f.inner + i);
    f.split.push_back(0);
    for (auto* accept : {&f.accept_less, &f.accept_equal, &f.accept_greater, &f.accept_nan}) accept->push_back(false);
    f.members.emplace_back();
  }
  return f;
}

template <class T>
Tensor table(DType dtype, const std::vector<T>& values) {
  Tensor t(dtype, {static_cast<int64_t>(values.size())});
  for (size_t i = 0; i < values.size(); ++i) t.set_float(static_cast<int64_t>(i), static_cast<double>(values[i]));
  return t;
}

/// Whether each sample's current node of each tree sends it along the true branch; `at` and the result are [batch, trees].
ValueId test_nodes(Builder& b, const Forest& f, ValueId x, ValueId at) {
  auto look_up = [&](DType dtype, const auto& values) { return b.gather(b.constant(table(dtype, values)), at, 0); };
  const ValueId value = b.one("gather_elements", {x, b.gather(b.constant(Tensor::from_ints(f.feature)), at, 0)}, {{"axis", int64_t{1}}});
  const ValueId split = look_up(b.dtype(x), f.split);
  auto both = [&](ValueId p, ValueId q) { return b.one("and", {p, q}); };
  auto either = [&](ValueId p, ValueId q) { return b.one("or", {p, q}); };
  ValueId taken = both(b.less(value, split), look_up(DType::boolean, f.accept_less));
  taken = either(taken, both(b.equal(value, split), look_up(DType::boolean, f.accept_equal)));
  taken = either(taken, both(b.less(split, value), look_up(DType::boolean, f.accept_greater)));
  taken = either(taken, both(b.unary("is_nan", value), look_up(DType::boolean, f.accept_nan)));
  if (!f.has_sets) return taken;
  size_t widest = 1;
  for (const auto& set : f.members) widest = std::max(widest, set.size());
  // NaN equals nothing: it fills sets up to the widest.
  Tensor sets(b.dtype(x), {static_cast<int64_t>(f.members.size()), static_cast<int64_t>(widest)});
  for (size_t i = 0; i < f.members.size(); ++i)
    for (size_t k = 0; k < widest; ++k)
      sets.set_float(static_cast<int64_t>(i * widest + k), k < f.members[i].size() ? f.members[i][k] : std::numeric_limits<double>::quiet_NaN());
  const ValueId members = b.gather(b.constant(sets), at, 0);
  return either(taken, b.reduce("reduce_max", b.equal(b.unsqueeze(value, {2}), members), {2}, false));
}

void tree_ensemble(NodeImport& n) {
  Builder& b = n.b;
  const ValueId x = n.in(0);
  n.require(b.rank(x) == 2, "input is {}; needs [batch, features]", str(b.type(x)));
  const std::vector<int64_t> roots = n.integers("tree_roots"), targets = n.integers("leaf_targetids");
  const int64_t target_count = n.integer("n_targets");
  const int64_t aggregate = n.integer("aggregate_function", 1), post = n.integer("post_transform", 0);
  const Tensor weights = n.tensor("leaf_weights");
  n.require(!roots.empty() && target_count > 0, "{} trees, {} targets", roots.size(), target_count);
  n.require(static_cast<size_t>(weights.element_count()) == targets.size(), "{} weights for {} leaves", weights.element_count(), targets.size());
  n.require(aggregate >= 0 && aggregate <= 3, "aggregate_function is {}; needs 0 to 3", aggregate);
  if (post > 2) n.unsupported("its post_transform {} (softmax of nonzero scores, probit)", post);
  for (int64_t root : roots) n.require(root >= 0 && root < static_cast<int64_t>(n.integers("nodes_featureids").size()), "root {} does not exist", root);
  const Forest f = read_forest(n, roots);
  for (int64_t feature : f.feature)
    n.require(!b.dims(x)[1].is_constant() || feature < b.dims(x)[1].constant(), "feature {} of {}", feature, b.dims(x)[1].str());

  const Dims walkers{b.dims(x)[0], static_cast<int64_t>(roots.size())};
  const ValueId start = b.broadcast(b.constant(Tensor::from_ints(roots)), walkers);
  const ValueId depth = b.constant(Tensor::from_ints({f.depth}).reshaped({}));
  const ValueId end = b.loop(depth, no_value, {start}, {x},
                             [&](Builder& in, ValueId, ValueId condition, const std::vector<ValueId>& carried, const std::vector<ValueId>& inside) {
                               const ValueId taken = test_nodes(in, f, inside[0], carried[0]);
                               auto next = [&](const std::vector<int64_t>& values) { return in.gather(in.constant(Tensor::from_ints(values)), carried[0], 0); };
                               return std::vector<ValueId>{condition, in.where(taken, next(f.next_true), next(f.next_false))};
                             })[0];
  const ValueId leaf = b.sub(end, b.constant(Tensor::from_ints({f.inner}).reshaped({})));
  const ValueId weight = b.cast(b.unsqueeze(b.gather(b.constant(weights), leaf, 0), {2}), b.dtype(x));  // [batch, trees, 1]
  const ValueId target = b.unsqueeze(b.gather(b.constant(Tensor::from_ints(targets)), leaf, 0), {2});
  const ValueId mine = b.equal(target, b.iota(DType::i64, {target_count}, 0));  // [batch, trees, targets]
  const double largest = b.dtype(x) == DType::f64 ? std::numeric_limits<double>::max() : std::numeric_limits<float>::max();
  const double absent = aggregate == 2 ? largest : aggregate == 3 ? -largest : 0;
  const ValueId shares = b.where(mine, weight, b.scalar(b.dtype(x), absent));
  ValueId y = b.reduce(aggregate == 2 ? "reduce_min" : aggregate == 3 ? "reduce_max" : "reduce_sum", shares, {1}, false);
  if (aggregate == 0) y = b.mul(y, 1.0 / static_cast<double>(roots.size()));
  if (post == 1) y = b.softmax(y, 1);
  if (post == 2) y = b.sigmoid(y);
  n.set(y);
}

/// Every column takes memory while compiling, used or not.
constexpr int64_t most_columns = int64_t{1} << 22;

/// Counts of the pool's n-grams in each row: items `skip` apart, for each skip up to max_skip_count + 1 (single items once).
void tf_idf_vectorizer(NodeImport& n) {
  Builder& b = n.b;
  if (n.has_attribute("pool_strings")) n.unsupported("its pool holds strings");
  const std::vector<int64_t> pool = n.integers("pool_int64s"), starts = n.integers("ngram_counts"), columns = n.integers("ngram_indexes");
  const int64_t shortest = n.integer("min_gram_length"), longest = n.integer("max_gram_length"), skips = n.integer("max_skip_count");
  const std::string mode = n.text("mode");
  n.require(mode == "TF" || mode == "IDF" || mode == "TFIDF", "mode is '{}'; needs TF, IDF or TFIDF", mode);
  n.require(!columns.empty() && shortest >= 1 && longest >= shortest && skips >= 0 && skips <= 1000, "lengths {} to {}, skip {}, {} n-grams", shortest, longest,
            skips, columns.size());
  const bool single = n.rank(0) == 1;
  n.require(single || n.rank(0) == 2, "input is {}; needs [items] or [batch, items]", str(b.type(n.in(0))));
  const ValueId x = b.cast(single ? b.unsqueeze(n.in(0), {0}) : n.in(0), DType::i64);
  const Dim batch = b.dims(x)[0], items = b.dims(x)[1];
  int64_t width = 0;
  for (int64_t c : columns) {
    n.require(c >= 0, "an n-gram's column is {}", c);
    if (c >= most_columns) n.unsupported("an n-gram's column is {}; at most {} are supported", c, most_columns);
    width = std::max(width, c + 1);
  }
  std::vector<int64_t> source(static_cast<size_t>(width), static_cast<int64_t>(columns.size()));  // of each column: its n-gram, or none
  for (size_t i = 0; i < columns.size(); ++i) {
    if (source[static_cast<size_t>(columns[i])] != static_cast<int64_t>(columns.size())) n.unsupported("two n-grams share column {}", columns[i]);
    source[static_cast<size_t>(columns[i])] = static_cast<int64_t>(i);
  }

  std::vector<ValueId> counts;  // [batch, n-grams of one length], in the pool's order
  size_t grams = 0;
  for (size_t g = 1; g <= starts.size(); ++g) {
    const int64_t length = static_cast<int64_t>(g);
    const int64_t from = starts[g - 1], to = g < starts.size() ? starts[g] : static_cast<int64_t>(pool.size());
    n.require(from >= 0 && from <= to && to <= static_cast<int64_t>(pool.size()) && (to - from) % length == 0,
              "n-grams of length {} are elements {} to {} of {}", length, from, to, pool.size());
    const int64_t count = (to - from) / length;
    grams += static_cast<size_t>(count);
    if (count == 0) continue;
    ValueId sum = b.broadcast(b.scalar(DType::f32, 0), {batch, count});
    const bool wanted = length >= shortest && length <= longest;
    for (int64_t skip = 1; wanted && skip <= (length == 1 ? 1 : skips + 1); ++skip) {
      const Dim places = items - Dim((length - 1) * skip);
      if (places.is_constant() && places.constant() <= 0) continue;
      ValueId match = no_value;  // [batch, places, count]
      for (int64_t i = 0; i < length; ++i) {
        std::vector<int64_t> item;
        for (int64_t k = 0; k < count; ++k) item.push_back(pool[static_cast<size_t>(from + k * length + i)]);
        const ValueId same = b.equal(b.unsqueeze(b.slice(x, 1, Dim(i * skip), max(places, Dim(0))), {2}), b.ints(item));
        match = match == no_value ? same : b.one("and", {match, same});
      }
      sum = b.add(sum, b.reduce("reduce_sum", b.cast(match, DType::f32), {1}, false));
    }
    counts.push_back(sum);
  }
  n.require(grams == columns.size(), "{} n-grams in the pool, {} columns", grams, columns.size());
  counts.push_back(b.broadcast(b.scalar(DType::f32, 0), {batch, 1}));  // what a column without n-gram counts
  ValueId y = b.gather(b.concat(counts, 1), b.ints(source), 1);
  const std::vector<float> weights = n.reals("weights");
  n.require(weights.empty() || weights.size() == static_cast<size_t>(width), "{} weights for {} columns", weights.size(), width);
  if (mode == "IDF") y = b.cast(b.less(b.scalar(DType::f32, 0), y), DType::f32);
  if (mode != "TF" && !weights.empty()) y = b.mul(y, b.constant(Tensor::from_floats(weights, {width})));
  n.set(single ? b.squeeze(y, {0}) : y);
}

constexpr OperatorEntry entries[] = {
    {"ai.onnx.ml", "ArrayFeatureExtractor", 1, array_feature_extractor},
    {"ai.onnx.ml", "Binarizer", 1, binarizer},
    {"ai.onnx.ml", "LabelEncoder", 1, label_encoder},
    {"ai.onnx.ml", "Scaler", 1, scaler},
    {"", "TfIdfVectorizer", 9, tf_idf_vectorizer},
    {"ai.onnx.ml", "TreeEnsemble", 5, tree_ensemble},
};

}  // namespace

std::span<const OperatorEntry> ml_operators() { return entries; }

}  // namespace tilewright::onnx
