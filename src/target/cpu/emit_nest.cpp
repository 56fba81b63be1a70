#include <algorithm>
#include <functional>

#include "base/error.h"
#include "target/cpu/kernel_emitters.h"
#include "target/source/reduction_text.h"

namespace tilewright::cpu {
namespace {

using pattern::ReduceOp;
using pattern::Reduction;
using schedule::affine_in;

/// Elements whose sums stay in registers or the first level cache while reduced loops run around them.
constexpr int64_t lane_count = 64;
/// A multiple of the floats in a vector, whatever the machine.
constexpr int64_t widest_vector = 16;
/// Elements of a table that holds what the innermost loop reads unevenly, and times that the loop has to run for it.
constexpr int64_t table_limit = 4096, table_uses = 8;
/// Results that are computed by pieces, at most, and these pieces: as many whatever the team, so that rounding is.
constexpr int64_t results_by_pieces = 512, most_pieces = 64;
/// Results that are enough for all threads to have some.
constexpr int64_t enough_results = 64;
/// Vector operations worth a task of its own.
constexpr int64_t task_cost = 1 << 15;
const char* const block_symbol = "tilewright..block";
const char* const base_symbol = "tilewright..base";
const char* const lane_symbol = "tilewright..lane";

bool may_reduce_nothing(const LoweredNest& nest) {
  return std::any_of(nest.loops.begin(), nest.loops.end(), [](const Loop& loop) { return loop.reduced && loop.extent.as_constant().value_or(0) <= 0; });
}

class NestEmitter {
 public:
  NestEmitter(const KernelText& kernel, LoweredNest nest, Names names, std::map<TensorId, std::string> pointers, Writer& out)
      : kernel_(kernel),
        nest_(std::move(nest)),
        out_(out),
        names_(std::move(names)),
        pointers_(std::move(pointers)),
        reads_nothing_safely_(may_reduce_nothing(nest_)) {
    for (const Reduction& reduction : nest_.reductions) reduced_roots_.push_back(reduction.value);
    for (const Loop& loop : nest_.loops) (loop.reduced ? reduced_ : kept_).push_back(loop);
    body_.emplace(nest_, names_, pointers_, out_);
  }

  /// The whole kernel, shared out to the team.
  void emit_parallel() {
    if (reduces_by_pieces()) return by_pieces();
    plan();
    return_if_empty();
    const std::optional<int64_t> work = total_cost().as_constant();
    const bool only_loop = outer_.empty() && mode_ == Mode::map && !inner_.empty();
    if ((outer_.empty() && !only_loop) || (work && *work <= task_cost)) {
      kernel_.declare_tensors(out_);
      run_sequentially();
      return;
    }
    if (only_loop) std::swap(outer_, inner_);
    size_t parallel = 0;
    int64_t tasks = 1;
    while (parallel < outer_.size() && tasks < 64) {
      if (const auto extent = outer_[parallel].extent.as_constant()) tasks *= *extent;
      ++parallel;
    }
    Dim count = 1, inside = point_cost(nest_, all_roots());
    for (size_t i = 0; i < outer_.size(); ++i) (i < parallel ? count : inside) *= outer_[i].extent;
    for (const Loop& loop : inner_) inside *= loop.extent;
    // One loop alone is cut at whole vectors, so that which elements are left over for its end does not depend on the team.
    if (only_loop) count = (count + (widest_vector - 1)) / Dim(widest_vector), inside *= widest_vector;
    out_.line(fmt::format("const i64 count = {};", text(count)));
    out_.line(fmt::format("const i64 grain = {};", inside.is_constant()
                                                       ? std::to_string(std::max<int64_t>(1, task_cost / std::max<int64_t>(1, inside.constant())))
                                                       : fmt::format("{} / ({} + 1) + 1", task_cost, text(inside))));
    out_.open("a.team.for_range(count, grain, [&](i64 begin, i64 end)");
    kernel_.declare_sizes(out_);
    kernel_.declare_tensors(out_);
    start();
    if (only_loop) {
      out_.line(fmt::format("const i64 first = begin * {0}, last = tile::min<i64>(end * {0}, {1});", widest_vector, text(outer_[0].extent)));
      inside_map(outer_[0], "first", "last");
      out_.close(");");
      return;
    }
    if (parallel == 1) {
      open_loop(outer_[0], "begin", "end");
    } else {
      out_.open("for (i64 p = begin; p < end; ++p)");
      Dim below = 1;
      std::vector<std::string> lines;
      for (size_t i = parallel; i-- > 0;) {
        const std::string name = name_of(outer_[i]);
        std::string digit = below == Dim(1) ? "p" : "p / " + factor(below);
        if (i > 0) digit += " % " + factor(outer_[i].extent);
        lines.insert(lines.begin(), fmt::format("const i64 {} = {};", name, digit));
        below *= outer_[i].extent;
      }
      for (const std::string& line : lines) out_.line(line);
      for (size_t i = 0; i < parallel; ++i) body_->enter(outer_[i].symbol, name_of(outer_[i]));
      if (parallel == outer_.size()) entered_block();
      body_->write_known(reads_nothing_safely_);
    }
    nest_outer(parallel);
    for (size_t i = 0; i < parallel; ++i) body_->leave();
    out_.close();
    out_.close(");");
  }

  void emit_inside_row() {
    plan();
    run_sequentially();
  }

 private:
  enum class Mode { map, scalar_reduce, reduce_inner, reduce_lanes };

  std::string text(const Dim& e) const { return print_index(e, names_, nest_.bounds); }
  std::string factor(const Dim& e) const { return print_factor(e, names_, nest_.bounds); }

  static std::string name_of(const Loop& loop) {
    if (loop.symbol == block_symbol) return "block";
    const std::string number = loop.symbol.substr(std::string(schedule::reserved_prefix).size() + 1);
    return (loop.reduced ? "r" : "i") + number;
  }

  std::vector<ExprId> all_roots() const {
    std::vector<ExprId> roots = nest_.stored_values;
    roots.insert(roots.end(), reduced_roots_.begin(), reduced_roots_.end());
    return roots;
  }

  Dim total_cost() const {
    Dim total = std::max<int64_t>(1, point_cost(nest_, all_roots()));
    for (const Loop& loop : nest_.loops) total *= loop.extent;
    return total;
  }

  /// Whether some load of the reduced values moves by one element along `loop`.
  bool reads_along(const Loop& loop) const {
    const std::vector<bool> needed = closure(nest_, reduced_roots_);
    for (size_t id = 0; id < nest_.nodes.size(); ++id) {
      if (!needed[id] || nest_.nodes[id].op != ExprOp::load) continue;
      const auto affine = affine_in(nest_.loads[static_cast<size_t>(nest_.nodes[id].integer)].offset, loop.symbol);
      if (affine && affine->slope == Dim(1)) return true;
    }
    return false;
  }

  /// Chooses which loops run outside (outer_), and what happens inside them (mode_, inner_).
  void plan() {
    if (nest_.reductions.empty()) {
      mode_ = Mode::map;
      outer_ = kept_;
      if (outer_.empty()) return;
      inner_ = {outer_.back()};
      outer_.pop_back();
      return;
    }
    const bool any_arg = std::any_of(nest_.reductions.begin(), nest_.reductions.end(), [](const Reduction& r) { return is_arg(r.op); });
    if (lanes_pay()) return plan_lanes();
    mode_ = any_arg || reduced_.empty() ? Mode::scalar_reduce : Mode::reduce_inner;
    outer_ = kept_;
    inner_ = reduced_;
  }

  bool lanes_pay() const {
    if (kept_.empty()) return false;
    const Loop& kept = kept_.back();
    const int64_t extent = kept.extent.as_constant().value_or(lane_count);
    if (reduced_.empty() || reads_along(kept)) return extent >= 4;
    // Short sums side by side beat vectors that are mostly empty.
    const std::optional<int64_t> along = reduced_.back().extent.as_constant();
    if (along && *along < 16) return extent >= 4;
    if (reads_along(reduced_.back())) return false;
    return extent >= 16;
  }

  void plan_lanes() {
    mode_ = Mode::reduce_lanes;
    outer_ = kept_;
    inner_ = reduced_;
    lane_ = outer_.back();
    outer_.pop_back();
    inner_.push_back(lane_);
    const std::optional<int64_t> extent = lane_.extent.as_constant();
    if (extent && *extent <= lane_count) {
      lanes_ = std::to_string(*extent);
      lane_size_ = *extent;
      lane_name_ = name_of(lane_);
      return;
    }
    blocked_ = true;
    lane_size_ = lane_count;
    lanes_ = extent && *extent % lane_count == 0 ? std::to_string(lane_count) : "lanes";
    nest_.bounds.of[base_symbol] = {Dim(0), lane_.extent - 1};
    nest_.bounds.of[lane_symbol] = {Dim(0), Dim(lane_count - 1)};
    nest_.substitute(lane_.symbol, Dim::symbol(base_symbol) + Dim::symbol(lane_symbol));
    nest_.find_symbols();
    outer_.push_back({block_symbol, (lane_.extent + (lane_count - 1)) / Dim(lane_count), false});
    inner_.back() = {lane_symbol, Dim(lane_count), false};
    lane_.symbol = lane_symbol;
    lane_name_ = "lane";
    body_.emplace(nest_, names_, pointers_, out_);
  }

  /// Whether few results are each the sum of so much that threads had better share that out.
  bool reduces_by_pieces() const {
    if (nest_.reductions.empty() || reduced_.empty()) return false;
    const std::optional<int64_t> results = kept_size().as_constant(), pieces = reduced_[0].extent.as_constant(), work = total_cost().as_constant();
    if (!results || *results < 1 || !pieces || *pieces < 4 || !work || *work < 4 * task_cost) return false;
    const bool any_arg = std::any_of(nest_.reductions.begin(), nest_.reductions.end(), [](const Reduction& r) { return is_arg(r.op); });
    const bool all_wide = std::none_of(nest_.reductions.begin(), nest_.reductions.end(), [](const Reduction& r) { return size_of(r.dtype) < 4; });
    return !any_arg && all_wide && *results < (along_kept() ? results_by_pieces : enough_results);
  }
  Dim kept_size() const {
    Dim results = 1;
    for (const Loop& loop : kept_) results *= loop.extent;
    return results;
  }
  /// Whether neighbouring results are made of neighbouring elements.
  bool along_kept() const {
    if (kept_.empty() || kept_.back().extent.as_constant().value_or(0) < 4) return false;
    const std::vector<bool> needed = closure(nest_, reduced_roots_);
    for (size_t id = 0; id < nest_.nodes.size(); ++id) {
      if (!needed[id] || nest_.nodes[id].op != ExprOp::load) continue;
      const Dim& offset = nest_.loads[static_cast<size_t>(nest_.nodes[id].integer)].offset;
      if (std::none_of(reduced_.begin(), reduced_.end(), [&](const Loop& loop) { return schedule::mentions(offset, loop.symbol); })) continue;
      const auto affine = affine_in(offset, kept_.back().symbol);
      if (affine && affine->slope == Dim(1)) return true;
    }
    return false;
  }

  /// The outermost reduced loop in pieces, each with results of its own; then these are combined in order.
  void by_pieces() {
    mode_ = Mode::reduce_inner;
    const Loop outer = reduced_.front();
    const int64_t results = kept_size().constant(), work = total_cost().constant();
    const int64_t pieces = std::min({outer.extent.constant(), most_pieces, std::max<int64_t>(work / task_cost, 2)});
    const auto of_piece = [&](size_t r) { return fmt::format("results{}", r); };
    // A piece's results fill whole cache lines: threads write neighbouring ones.
    const auto apart = [&](size_t r) {
      const auto line = static_cast<int64_t>(64 / size_of(nest_.reductions[r].dtype));
      return (results + line - 1) / line * line;
    };
    out_.line(fmt::format("constexpr i64 pieces = {}, results = {};", pieces, results));
    std::vector<int64_t> starts;
    int64_t bytes = 0;
    for (size_t r = 0; r < nest_.reductions.size(); ++r) {
      starts.push_back(bytes);
      bytes += pieces * apart(r) * static_cast<int64_t>(size_of(nest_.reductions[r].dtype));
    }
    out_.line(fmt::format("char* const memory = a.team.scratch_as<char>(a.team.shared_slot(), {});", bytes));
    for (size_t r = 0; r < nest_.reductions.size(); ++r)
      out_.line(fmt::format("{0}* const all{1} = reinterpret_cast<{0}*>(memory + {2});", value_type(nest_.reductions[r].dtype), r, starts[r]));
    out_.open("a.team.for_each(pieces, [&](i64 piece, int)");
    kernel_.declare_sizes(out_);
    kernel_.declare_tensors(out_);
    for (size_t r = 0; r < nest_.reductions.size(); ++r) {
      out_.line(fmt::format("{}* const {} = all{} + piece * {};", value_type(nest_.reductions[r].dtype), of_piece(r), r, apart(r)));
      out_.line(fmt::format("for (i64 i = 0; i < results; ++i) {}[i] = {};", of_piece(r), start_value(nest_.reductions[r])));
    }
    body_->want(reduced_roots_);
    body_->write_known();
    const std::string extent = text(outer.extent), begin = fmt::format("piece * {} / pieces", extent), end = fmt::format("(piece + 1) * {} / pieces", extent);
    // Inside of the pieces' loop: the other reduced ones, the results, and one of all these as vectors.
    const bool lanes = along_kept(), alone = !lanes && reduced_.size() == 1;
    if (!alone) open_loop(outer, begin, end);
    std::vector<Loop> around(reduced_.begin() + 1, reduced_.end());
    if (!lanes && !alone) around.pop_back();
    around.insert(around.end(), kept_.begin(), kept_.end());
    if (lanes) around.pop_back();
    for (const Loop& loop : around) open_loop(loop, "0", text(loop.extent));
    std::string at = "0";
    for (const Loop& loop : kept_) at = at == "0" ? name_of(loop) : fmt::format("({}) * {} + {}", at, text(loop.extent), name_of(loop));
    const Loop& innermost = lanes ? kept_.back() : reduced_.back();
    if (!lanes)
      for (size_t r = 0; r < nest_.reductions.size(); ++r)
        out_.line(fmt::format("{} sum{} = {};", value_type(nest_.reductions[r].dtype), r, start_value(nest_.reductions[r])));
    body_->write_pointers(innermost.symbol, {});
    const std::string pragma = vectorisable() ? "#pragma omp simd" + (lanes ? "" : clauses()) : "";
    vector_loop(innermost.symbol, name_of(innermost), alone ? begin : "0", alone ? end : text(innermost.extent), pragma, false, [&] {
      body_->write_known();
      for (size_t r = 0; r < nest_.reductions.size(); ++r)
        write_combine(nest_, r, lanes ? fmt::format("{}[{}]", of_piece(r), at) : fmt::format("sum{}", r), "", *body_);
    });
    for (size_t r = 0; !lanes && r < nest_.reductions.size(); ++r)
      out_.line(
          fmt::format("{0}[{1}] = {2};", of_piece(r), at, combined(nest_.reductions[r], fmt::format("{}[{}]", of_piece(r), at), fmt::format("sum{}", r))));
    for (size_t i = 0; i < around.size() + (alone ? 0 : 1); ++i) {
      body_->leave();
      out_.close();
    }
    out_.close(");");
    out_.open("for (i64 piece = 1; piece < pieces; ++piece)");
    for (size_t r = 0; r < nest_.reductions.size(); ++r)
      out_.line(fmt::format("for (i64 i = 0; i < results; ++i) all{0}[i] = {1};", r,
                            combined(nest_.reductions[r], fmt::format("all{}[i]", r), fmt::format("all{}[piece * {} + i]", r, apart(r)))));
    out_.close();
    kernel_.declare_tensors(out_);
    body_.emplace(nest_, names_, pointers_, out_);
    body_->want(nest_.stored_values);
    std::set<std::string> symbols;
    for (const Loop& loop : kept_) symbols.insert(loop.symbol);
    for (size_t r = 0; r < nest_.reductions.size(); ++r)
      body_->set_reduced(static_cast<int>(r), finished(nest_.reductions[r], fmt::format("all{}[{}]", r, at)), symbols);
    body_->write_known();
    for (const Loop& loop : kept_) open_loop(loop, "0", text(loop.extent));
    write_stores();
    for (size_t i = 0; i < kept_.size(); ++i) {
      body_->leave();
      out_.close();
    }
  }

  /// Nothing to do when a kept extent is 0; inside the loops reads are then safe to hoist.
  void return_if_empty() {
    for (const Loop& loop : kept_)
      if (!loop.extent.is_constant())
        out_.line(fmt::format("if ({} <= 0) return;", text(loop.extent)));
      else if (loop.extent.constant() <= 0)
        out_.line("return;");
  }

  /// What the innermost loop of a map reads unevenly and each time the same, as a group's numbers for each of its channels: laid out evenly, once.
  void write_tables() {
    if (mode_ != Mode::map || outer_.empty() || inner_.size() != 1) return;
    const Loop& loop = inner_[0];
    const std::optional<int64_t> extent = loop.extent.as_constant();
    Dim runs = 1;
    for (const Loop& outer : outer_) runs *= outer.extent;
    if (!extent || *extent < 2 || *extent > table_limit || runs.as_constant().value_or(table_uses) < table_uses) return;
    const std::vector<bool> needed = closure(nest_, nest_.stored_values);
    std::map<std::string, TensorId> tables;  // by what they hold
    for (size_t id = 0; id < needed.size(); ++id) {
      if (!needed[id] || nest_.nodes[id].op != ExprOp::load) continue;
      Address& address = nest_.loads[static_cast<size_t>(nest_.nodes[id].integer)];
      const bool alone = nest_.symbols[id] == std::set<std::string>{loop.symbol} && address.guards.empty() && address.indirect.empty();
      if (!alone || affine_in(address.offset, loop.symbol)) continue;
      Names names = names_;
      names[loop.symbol] = name_of(loop);
      const std::string element = fmt::format("{}[{}]", pointers_.at(address.tensor), print_index(address.offset, names, nest_.bounds));
      const auto [table, fresh] = tables.emplace(element, -2 - static_cast<TensorId>(tables.size()));
      if (fresh) {
        const std::string name = fmt::format("table{}", tables.size());
        out_.line(fmt::format("{} {}[{}];", storage_type(address.dtype), name, *extent));
        out_.line(fmt::format("for (i64 {0} = 0; {0} < {1}; ++{0}) {2}[{0}] = {3};", name_of(loop), *extent, name, element));
        pointers_[table->second] = name;
      }
      address.tensor = table->second;
      address.offset = Dim::symbol(loop.symbol);
    }
    if (!tables.empty()) body_.emplace(nest_, names_, pointers_, out_);
  }

  void start() {
    write_tables();
    body_->want(mode_ == Mode::map ? nest_.stored_values : reduced_roots_);
    body_->write_known(reads_nothing_safely_);
  }

  void run_sequentially() {
    start();
    if (outer_.empty()) {
      inside();
      return;
    }
    open_loop(outer_[0], "0", text(outer_[0].extent));
    nest_outer(1);
    body_->leave();
    out_.close();
  }

  void open_loop(const Loop& loop, const std::string& from, const std::string& to) {
    const std::string name = name_of(loop);
    out_.open(fmt::format("for (i64 {0} = {1}; {0} < {2}; ++{0})", name, from, to));
    body_->enter(loop.symbol, name);
    if (loop.symbol == block_symbol) entered_block();
    body_->write_known(reads_nothing_safely_);
  }

  void entered_block() {
    if (!blocked_) return;
    out_.line(fmt::format("const i64 base = block * {};", lane_count));
    if (lanes_ == "lanes") out_.line(fmt::format("const i64 lanes = tile::min<i64>({}, {} - base);", lane_count, text(lane_.extent)));
    body_->name(base_symbol, "base");
  }

  void nest_outer(size_t from) {
    if (from >= outer_.size()) return inside();
    open_loop(outer_[from], "0", text(outer_[from].extent));
    nest_outer(from + 1);
    body_->leave();
    out_.close();
  }

  bool vectorisable() const {
    // Functions of the C library run one element at a time; asking for vectors there only costs compile time.
    return std::none_of(nest_.nodes.begin(), nest_.nodes.end(),
                        [](const ExprNode& node) { return cost_of(node) >= 40 && !(node.op == ExprOp::pow && node.dtype == DType::f32); });
  }

  void inside() {
    switch (mode_) {
      case Mode::map: return inner_.empty() ? write_stores() : inside_map(inner_[0], "0", text(inner_[0].extent));
      case Mode::scalar_reduce:
      case Mode::reduce_inner: return inside_reduce();
      case Mode::reduce_lanes: return inside_lanes();
    }
  }

  /// The reductions' one padded access, when what it gives outside its tensor changes no result.
  std::optional<size_t> skippable() const {
    std::optional<size_t> found;
    for (const Reduction& reduction : nest_.reductions) {
      const ExprNode* node = &nest_.nodes[static_cast<size_t>(reduction.value)];
      while (node->op == ExprOp::cast && is_float(node->dtype)) node = &nest_.nodes[static_cast<size_t>(node->args[0])];
      if (node->op != ExprOp::load || is_arg(reduction.op)) return std::nullopt;
      const Address& address = nest_.loads[static_cast<size_t>(node->integer)];
      if (address.fill < 0 || (found && *found != static_cast<size_t>(node->integer))) return std::nullopt;
      const ExprNode& fill = nest_.nodes[static_cast<size_t>(address.fill)];
      if (fill.op != ExprOp::constant || literal(fill.dtype, fill.real, fill.integer) != start_value({reduction.op, reduction.value, fill.dtype}))
        return std::nullopt;
      found = static_cast<size_t>(node->integer);
    }
    return found;
  }

  /// The innermost loop, over [from, to). Where padded accesses are inside their tensors in one stretch of it, that
  /// stretch runs without checks, as vectors; the ends run with them, or not at all when `skip`.
  void vector_loop(const std::string& symbol, const std::string& name, const std::string& from, const std::string& to, const std::string& pragma, bool skip,
                   const std::function<void()>& content) {
    const auto loop = [&](const std::string& begin, const std::string& end, bool vectors) {
      if (vectors && !pragma.empty()) out_.pragma(pragma);
      out_.open(fmt::format("for (i64 {0} = {1}; {0} < {2}; ++{0})", name, begin, end));
      body_->enter(symbol, name);
      content();
      body_->leave();
      out_.close();
    };
    NestBody::Interior interior = body_->interior(symbol);
    skip = skip && interior.accesses.size() == 1 && interior.accesses[0] == skippable();
    if (interior.accesses.empty() || (!skip && interior.first.empty() && interior.last.empty())) return loop(from, to, true);
    const auto joined = [](const char* function, const std::vector<std::string>& values, const std::string& otherwise) {
      std::string all = values.empty() ? otherwise : values[0];
      for (size_t i = 1; i < values.size(); ++i) all = fmt::format("tile::{}<i64>({}, {})", function, all, values[i]);
      return all;
    };
    // The name carries the loop's, so that nested loops keep theirs apart.
    const std::string first = "first_" + name, last = "last_" + name;
    out_.line(fmt::format("i64 {} = tile::clamp<i64>({}, {}, {});", first, joined("max", interior.first, from), from, to));
    out_.line(fmt::format("i64 {} = tile::clamp<i64>({}, {}, {});", last, joined("min", interior.last, to), first, to));
    if (!interior.inside.empty()) out_.line(fmt::format("if (!({})) {} = {} = {};", interior.inside, first, last, to));
    if (!skip) loop(from, first, false);
    body_->assume_inside(interior.accesses);
    loop(first, last, true);
    body_->assume_inside({});
    if (!skip) loop(last, to, false);
  }

  std::vector<size_t> all_stores() const {
    std::vector<size_t> stores;
    for (size_t i = 0; i < nest_.stores.size(); ++i) stores.push_back(i);
    return stores;
  }

  void write_stores() {
    for (const size_t i : all_stores()) body_->write_store(i);
  }

  void inside_map(const Loop& loop, const std::string& from, const std::string& to) {
    body_->write_pointers(loop.symbol, all_stores());
    std::string rest = from;
    if (fills_vectors(loop) && body_->stores_fit_vectors(loop.symbol, all_stores())) {
      out_.open("const auto vectors = [&](i64 first, auto count)");
      body_->write_vector_stores(loop.symbol, name_of(loop), all_stores());
      out_.close(";");
      rest = "rest";
      out_.line(fmt::format("const i64 rest = tile::in_vectors<4>({}, vectors, {});", to, from));
    }
    vector_loop(loop.symbol, name_of(loop), rest, to, vectorisable() ? "#pragma omp simd" : "", false, [&] {
      body_->write_known();
      write_stores();
    });
  }

  bool fills_vectors(const Loop& loop) const {
    const int64_t lanes = std::max(1, kernel_.target.vector_bytes / static_cast<int>(sizeof(float)));
    return loop.extent.as_constant().value_or(lanes) >= lanes;
  }

  DType value_dtype(const Reduction& reduction) const { return nest_.nodes[static_cast<size_t>(reduction.value)].dtype; }

  std::string clauses() const {
    std::string text;
    for (size_t r = 0; r < nest_.reductions.size(); ++r) {
      const Reduction& reduction = nest_.reductions[r];
      const bool floating = is_float(reduction.dtype);
      const char* how = reduction.op == ReduceOp::sum       ? "+"
                        : reduction.op == ReduceOp::product ? "*"
                        : reduction.op == ReduceOp::min     ? (floating ? "tile::least" : "min")
                                                            : (floating ? "tile::greatest" : "max");
      text += fmt::format(" reduction({} : sum{})", how, r);
    }
    return text;
  }

  /// The reduced loops around `innermost`; the last one as vector code when `vector`.
  void reduce_loops(size_t from, bool vector, const std::function<void()>& innermost) {
    if (from == reduced_.size()) return innermost();
    const Loop& loop = reduced_[from];
    if (from + 1 == reduced_.size() && vector) {
      body_->write_pointers(loop.symbol, {});
      const bool of_bool = std::any_of(nest_.reductions.begin(), nest_.reductions.end(), [](const Reduction& r) { return r.dtype == DType::boolean; });
      return vector_loop(loop.symbol, name_of(loop), "0", text(loop.extent), vectorisable() && !of_bool ? "#pragma omp simd" + clauses() : "", true, [&] {
        body_->write_known();
        innermost();
      });
    }
    out_.open(fmt::format("for (i64 {0} = 0; {0} < {1}; ++{0})", name_of(loop), text(loop.extent)));
    body_->enter(loop.symbol, name_of(loop));
    body_->write_known(from + 1 < reduced_.size() && reads_nothing_safely_);
    reduce_loops(from + 1, vector, innermost);
    body_->leave();
    out_.close();
  }

  void inside_reduce() {
    for (size_t r = 0; r < nest_.reductions.size(); ++r) {
      const Reduction& reduction = nest_.reductions[r];
      out_.line(fmt::format("{} sum{} = {};", value_type(result_dtype(reduction)), r, start_value(reduction)));
      if (is_arg(reduction.op)) out_.line(fmt::format("{} best{} = {{}};", value_type(value_dtype(reduction)), r));
    }
    reduce_loops(0, mode_ == Mode::reduce_inner, [&] {
      for (size_t r = 0; r < nest_.reductions.size(); ++r) write_combine(nest_, r, fmt::format("sum{}", r), fmt::format("best{}", r), *body_);
    });
    finish(fmt::format("sum{{}}"), {});
    body_->want(nest_.stored_values);
    body_->write_known();
    write_stores();
  }

  /// Tells the body how the results are written: "sum{}" or "sum{}[lane]".
  void finish(const std::string& form, const std::set<std::string>& symbols) {
    for (size_t r = 0; r < nest_.reductions.size(); ++r)
      body_->set_reduced(static_cast<int>(r), finished(nest_.reductions[r], fmt::format(fmt::runtime(form), r)), symbols);
  }

  /// Lanes in whole vectors keep their sums in registers over all reduced loops; what is left of them, or all where values are no vectors, keeps
  /// them in arrays, which every step reads and writes.
  void inside_lanes() {
    if (!fits_vectors()) return lanes_in_arrays("0");
    lanes_in_vectors();
    const std::string call = fmt::format("tile::in_vectors<4>({}, vectors);", lanes_);
    if (lane_.extent.as_constant().value_or(1) % widest_vector == 0) return out_.line(call);
    out_.line("const i64 rest = " + call);
    out_.open(fmt::format("if (rest < {})", lanes_));
    lanes_in_arrays("rest");
    out_.close();
  }

  bool fits_vectors() const {
    const auto in_registers = [&](const Reduction& r) {
      const bool exact = r.op == ReduceOp::min || r.op == ReduceOp::max;
      return value_dtype(r) == r.dtype && (r.dtype == DType::f32 || (exact && (r.dtype == DType::bf16 || r.dtype == DType::f16)));
    };
    const bool any_arg = std::any_of(nest_.reductions.begin(), nest_.reductions.end(), [](const Reduction& r) { return is_arg(r.op); });
    return !any_arg && fills_vectors(lane_) && std::all_of(nest_.reductions.begin(), nest_.reductions.end(), in_registers) &&
           body_->values_fit_vectors(lane_.symbol, reduced_roots_) && body_->stores_fit_vectors(lane_.symbol, all_stores());
  }

  void lanes_in_vectors() {
    out_.open("const auto vectors = [&](i64 first, auto count)");
    body_->enter("tilewright..vectors", "");
    for (size_t r = 0; r < nest_.reductions.size(); ++r) {
      out_.line(fmt::format("tile::vec<float> sum{}[count];", r));
      out_.line(fmt::format("for (int i = 0; i < count; ++i) sum{}[i] = {};", r, NestBody::as_vector(start_value(nest_.reductions[r]))));
    }
    reduce_loops(0, false, [&] {
      body_->write_pointers(lane_.symbol, {});
      body_->each_vector(lane_.symbol, lane_name_, [&] {
        for (size_t r = 0; r < nest_.reductions.size(); ++r) write_combine(nest_, r, fmt::format("sum{}[i]", r), "", *body_);
      });
    });
    body_->want(nest_.stored_values);
    body_->enter("tilewright..after", "");
    finish("sum{}[i]", {lane_.symbol});
    body_->write_known();
    body_->write_pointers(lane_.symbol, all_stores());
    body_->write_vector_stores(lane_.symbol, lane_name_, all_stores());
    body_->leave();
    body_->leave();
    out_.close(";");
    body_->want(reduced_roots_);
  }

  void lanes_in_arrays(const std::string& first) {
    for (size_t r = 0; r < nest_.reductions.size(); ++r) {
      const Reduction& reduction = nest_.reductions[r];
      out_.line(fmt::format("{} sum{}[{}];", value_type(result_dtype(reduction)), r, lane_size_));
      if (is_arg(reduction.op)) out_.line(fmt::format("{} best{}[{}] = {{}};", value_type(value_dtype(reduction)), r, lane_size_));
    }
    out_.open(fmt::format("for (i64 {0} = {1}; {0} < {2}; ++{0})", lane_name_, first, lanes_));
    for (size_t r = 0; r < nest_.reductions.size(); ++r) out_.line(fmt::format("sum{}[{}] = {};", r, lane_name_, start_value(nest_.reductions[r])));
    out_.close();
    reduce_loops(0, false, [&] {
      body_->write_pointers(lane_.symbol, {});
      vector_loop(lane_.symbol, lane_name_, first, lanes_, vectorisable() ? "#pragma omp simd" : "", true, [&] {
        body_->write_known();
        for (size_t r = 0; r < nest_.reductions.size(); ++r)
          write_combine(nest_, r, fmt::format("sum{}[{}]", r, lane_name_), fmt::format("best{}[{}]", r, lane_name_), *body_);
      });
    });
    body_->want(nest_.stored_values);
    out_.open("");
    body_->enter("tilewright..after", "");
    finish("sum{}[" + lane_name_ + "]", {lane_.symbol});
    body_->write_known();
    body_->write_pointers(lane_.symbol, all_stores());
    vector_loop(lane_.symbol, lane_name_, first, lanes_, vectorisable() ? "#pragma omp simd" : "", false, [&] {
      body_->write_known();
      write_stores();
    });
    body_->leave();
    out_.close();
  }

  const KernelText& kernel_;
  LoweredNest nest_;
  Writer& out_;
  Names names_;
  std::map<TensorId, std::string> pointers_;
  std::optional<NestBody> body_;
  std::vector<Loop> kept_, reduced_, outer_, inner_;
  std::vector<ExprId> reduced_roots_;
  Mode mode_ = Mode::map;
  bool reads_nothing_safely_;  ///< a reduced loop may be empty: loads stay inside it
  bool blocked_ = false;       ///< the vectorised loop is cut into blocks of lane_count
  Loop lane_;
  std::string lanes_, lane_name_;
  int64_t lane_size_ = 0;
};

}  // namespace

void emit_nest(const KernelText& kernel, const pattern::Nest& nest, Writer& out) {
  kernel.declare_sizes(out);
  NestEmitter(kernel, lower_nest(nest, kernel.program()), kernel.sizes, kernel.pointers, out).emit_parallel();
}

void emit_stage(const KernelText& kernel, const pattern::Nest& nest, const RowContext& row, const Names& shared_names,
                const std::map<TensorId, std::string>& pointers, Writer& out) {
  Names names = kernel.sizes;
  names.insert(shared_names.begin(), shared_names.end());
  NestEmitter(kernel, lower_nest(nest, kernel.program(), row), names, pointers, out).emit_inside_row();
}

}  // namespace tilewright::cpu
