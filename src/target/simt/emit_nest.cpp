// Maps and reductions: a thread a point, or a warp a point where sums are long.

#include <algorithm>

#include "base/error.h"
#include "target/simt/kernel_emitters.h"
#include "target/source/reduction_text.h"

namespace tilewright::simt {
namespace {

/// Sums at least this long are shared by the threads of a warp.
constexpr int64_t long_sum = 128;
constexpr int block_threads = 256;
/// Blocks that fill any GPU; threads stride over what is more.
constexpr int64_t most_blocks = 1 << 14;

class PointsWriter {
 public:
  PointsWriter(const KernelText& kernel, const LoweredNest& nest, const Names& names, const std::map<TensorId, std::string>& loads,
               const std::map<TensorId, std::string>& stores, Sharing sharing, Writer& out)
      : kernel_(kernel), nest_(nest), names_(names), sharing_(sharing), out_(out), body_(nest, names, loads, out, "", stores) {
    for (const Loop& loop : nest_.loops) (loop.reduced ? reduced_ : kept_).push_back(loop);
    for (const Loop& loop : kept_) count_ *= loop.extent;
    for (const Loop& loop : reduced_) sum_length_ *= loop.extent;
  }

  Dim write() {
    const std::string warp = "Exec::warp_size";
    const std::string lanes = together() ? warp : "1";
    const std::string first = sharing_ == Sharing::grid ? "ex.block() * ex.threads() + ex.thread()" : "ex.thread()";
    const std::string all = sharing_ == Sharing::grid ? "ex.blocks() * ex.threads()" : "ex.threads()";
    const std::string from = together() ? fmt::format("({}) / {}", first, warp) : first, step = together() ? fmt::format("({}) / {}", all, warp) : all;
    out_.open(fmt::format("for (i64 p = {}; p < {}; p += {})", from, text(count_), step));
    write_digits(kept_, "p", names_, nest_.bounds, out_);
    for (const Loop& loop : kept_) body_.enter(loop.symbol, loop_name(loop));
    if (nest_.reductions.empty()) {
      body_.want(nest_.stored_values);
    } else {
      reduce();
      body_.want(nest_.stored_values);
    }
    body_.write_known();
    if (together()) out_.open("if (ex.lane() == 0)");
    for (size_t i = 0; i < nest_.stores.size(); ++i) body_.write_store(i);
    if (together()) out_.close();
    for (size_t i = 0; i < kept_.size(); ++i) body_.leave();
    out_.close();
    return together() ? count_ * Dim(kernel_.target.warp_size) : count_;
  }

 private:
  std::string text(const Dim& e) const { return print_index(e, names_, nest_.bounds); }

  /// Whether the lanes of a warp share a point's sum.
  bool together() const {
    if (nest_.reductions.empty()) return false;
    for (const pattern::Reduction& reduction : nest_.reductions)
      if (is_arg(reduction.op)) return false;
    return sum_length_.as_constant().value_or(long_sum) >= long_sum;
  }

  void reduce() {
    std::vector<ExprId> roots;
    for (size_t r = 0; r < nest_.reductions.size(); ++r) {
      const pattern::Reduction& reduction = nest_.reductions[r];
      roots.push_back(reduction.value);
      out_.line(fmt::format("{} sum{} = {};", value_type(result_dtype(reduction)), r, start_value(reduction)));
      if (is_arg(reduction.op)) out_.line(fmt::format("{} best{} = {{}};", value_type(nest_.nodes[static_cast<size_t>(reduction.value)].dtype), r));
    }
    body_.want(roots);
    const bool may_be_empty = sum_length_.as_constant().value_or(0) <= 0;
    body_.write_known(may_be_empty);
    if (together()) {
      out_.open(fmt::format("for (i64 q = ex.lane(); q < {}; q += Exec::warp_size)", text(sum_length_)));
      write_digits(reduced_, "q", names_, nest_.bounds, out_);
      for (const Loop& loop : reduced_) body_.enter(loop.symbol, loop_name(loop));
    } else {
      for (const Loop& loop : reduced_) {
        out_.open(fmt::format("for (i64 {0} = 0; {0} < {1}; ++{0})", loop_name(loop), text(loop.extent)));
        body_.enter(loop.symbol, loop_name(loop));
        if (&loop != &reduced_.back()) body_.write_known(may_be_empty);
      }
    }
    body_.write_known();
    for (size_t r = 0; r < nest_.reductions.size(); ++r) write_combine(nest_, r, fmt::format("sum{}", r), fmt::format("best{}", r), body_);
    for (size_t i = 0; i < reduced_.size(); ++i) {
      body_.leave();
      if (!together()) out_.close();
    }
    if (together()) {
      out_.close();
      for (size_t r = 0; r < nest_.reductions.size(); ++r)
        out_.line(fmt::format("sum{0} = tile::simt::reduce_warp(ex, sum{0}, [](auto a, auto b) {{ return static_cast<decltype(a)>({1}); }});", r,
                              combined(nest_.reductions[r], "a", "b")));
    }
    for (size_t r = 0; r < nest_.reductions.size(); ++r) body_.set_reduced(static_cast<int>(r), finished(nest_.reductions[r], fmt::format("sum{}", r)), {});
  }

  const KernelText& kernel_;
  const LoweredNest& nest_;
  const Names& names_;
  Sharing sharing_;
  Writer& out_;
  NestBody body_;
  std::vector<Loop> kept_, reduced_;
  Dim count_ = 1, sum_length_ = 1;
};

}  // namespace

std::string loop_name(const Loop& loop) {
  const std::string number = loop.symbol.substr(std::string(schedule::reserved_prefix).size() + 1);
  return (loop.reduced ? "r" : "i") + number;
}

void write_digits(const std::vector<Loop>& loops, const std::string& joint, const Names& names, const Bounds& bounds, Writer& out) {
  Dim below = 1;
  std::vector<std::string> lines;
  for (size_t i = loops.size(); i-- > 0;) {
    std::string digit = joint;
    if (!(below == Dim(1))) digit += " / " + print_factor(below, names, bounds);
    if (i > 0) digit += " % " + print_factor(loops[i].extent, names, bounds);
    lines.insert(lines.begin(), fmt::format("const i64 {} = {};", loop_name(loops[i]), digit));
    below *= loops[i].extent;
  }
  for (const std::string& line : lines) out.line(line);
}

Dim write_points(const KernelText& kernel, const LoweredNest& nest, const Names& names, const std::map<TensorId, std::string>& loads,
                 const std::map<TensorId, std::string>& stores, Sharing sharing, Writer& out) {
  return PointsWriter(kernel, nest, names, loads, stores, sharing, out).write();
}

void emit_nest(const KernelText& kernel, const pattern::Nest& nest, Function& function) {
  const LoweredNest lowered = lower_nest(nest, kernel.program());
  Writer body(Function::body_depth);
  const Dim threads = write_points(kernel, lowered, kernel.sizes, kernel.pointers, {}, Sharing::grid, body);
  const std::string blocks = print_index((threads + (block_threads - 1)) / Dim(block_threads), kernel.sizes, {});
  function.launch(body, {fmt::format("tile::min<i64>({}, {})", blocks, most_blocks), std::to_string(block_threads)});
}

}  // namespace tilewright::simt
