#include "target/cpu/product_text.h"

#include <algorithm>
#include <set>

#include "base/error.h"

namespace tilewright::cpu {
namespace {

const char* const column_symbol = "tilewright..column";
const char* const first_column_symbol = "tilewright..first_column";
const char* const row_symbol = "tilewright..row";
const char* const row_step_symbol = "tilewright..row_step";

std::string loop_name(const Loop& loop) {
  const std::string number = loop.symbol.substr(std::string(schedule::reserved_prefix).size() + 1);
  return (loop.reduced ? "r" : "i") + number;
}

template <class F>
void move(Address& address, F&& along) {
  along(address.offset);
  for (Guard& guard : address.guards)
    for (Dim* e : {&guard.value, &guard.low, &guard.high}) along(*e);
}

/// Replaces the group's loops by their joint index where everything that `needed` nodes and the stores ask for lies evenly over them.
bool merge(const LoopGroup& group, LoweredNest& nest, const std::vector<bool>& needed) {
  if (group.loops.size() < 2) return false;
  const auto mentioned = [&](const Dim& e) {
    return std::any_of(group.loops.begin(), group.loops.end(), [&](const Loop& loop) { return schedule::mentions(e, loop.symbol); });
  };
  std::vector<Address*> addresses;
  for (size_t id = 0; id < needed.size(); ++id) {
    if (!needed[id]) continue;
    const ExprNode& node = nest.nodes[id];
    if (node.op == ExprOp::index && mentioned(nest.coordinates[static_cast<size_t>(node.integer)])) return false;
    if (node.op == ExprOp::load) addresses.push_back(&nest.loads[static_cast<size_t>(node.integer)]);
  }
  for (Address& store : nest.stores) addresses.push_back(&store);
  for (const Address* address : addresses) {
    if (!even_over(address->offset, group)) return false;
    for (const Guard& guard : address->guards)
      if (mentioned(guard.value) || mentioned(guard.low) || mentioned(guard.high)) return false;
  }
  nest.bounds.of[group.symbol] = {Dim(0), group.extent() - 1};
  for (Address* address : addresses)
    if (const auto even = even_over(address->offset, group)) address->offset = even->at_zero + even->slope * Dim::symbol(group.symbol);
  return true;
}

}  // namespace

void ProductText::digits(const LoopGroup& group, const std::string& joint, NestBody& body) {
  Dim below = 1;
  std::vector<std::string> lines;
  for (size_t i = group.loops.size(); i-- > 0;) {
    std::string digit = joint;
    if (!(below == Dim(1))) digit += " / " + print_factor(below, kernel_.sizes, shape_.nest.bounds);
    if (i > 0) digit += " % " + print_factor(group.loops[i].extent, kernel_.sizes, shape_.nest.bounds);
    lines.insert(lines.begin(), fmt::format("const i64 {} = {};", loop_name(group.loops[i]), digit));
    below *= group.loops[i].extent;
  }
  for (const std::string& line : lines) out_.line(line);
  for (const Loop& loop : group.loops) body.name(loop.symbol, loop_name(loop));
}

std::string ProductText::batch_view(const Dim& start) {
  if (const auto even = even_over(start, shape_.batch)) return fmt::format("tile::BatchStride{{{}}}", text(even->slope));
  Dim moving = flattened(start, shape_.batch, shape_.nest.bounds);
  Names names = kernel_.sizes;
  names[shape_.batch.symbol] = "batch";
  std::map<std::string, Dim> zero = {{shape_.batch.symbol, Dim(0)}};
  moving -= moving.substitute(zero);
  return fmt::format("[=](i64 batch) {{ return {}; }}", text(moving, names));
}

Dim ProductText::constant_part(Dim start) const {
  for (const Loop& loop : shape_.batch.loops) start = start.substitute({{loop.symbol, Dim(0)}});
  return start;
}

std::string ProductText::pointer(TensorId tensor, const Dim& offset) const {
  const std::string& base = kernel_.pointers.at(tensor);
  return offset == Dim(0) ? base : fmt::format("{} + {}", base, print_factor(offset, kernel_.sizes, shape_.nest.bounds));
}

std::string ProductText::zero_point(const Factor& factor, const std::string& side) {
  if (factor.zero < 0) return "";
  NestBody body(shape_.nest, kernel_.sizes, kernel_.pointers, out_, side + "_");
  body.want({factor.zero});
  body.write_known();
  return fmt::format("static_cast<int32_t>({})", body.value(factor.zero).text);
}

std::string ProductText::dense_left(const DenseShape& dense, const std::string& zero) {
  const TensorId tensor = shape_.nest.loads[static_cast<size_t>(shape_.left.access)].tensor;
  return fmt::format("tile::dense_left({}, {}, {}, {}{})", pointer(tensor, constant_part(dense.start)), text(dense.outer_stride), text(dense.k_stride),
                     batch_view(dense.start), zero.empty() ? "" : ", " + zero);
}

std::string ProductText::dense_right(const DenseShape& dense, const std::string& zero) {
  const TensorId tensor = shape_.nest.loads[static_cast<size_t>(shape_.right.access)].tensor;
  return fmt::format("tile::dense_right({}, {}, {}, {}{})", pointer(tensor, constant_part(dense.start)), text(dense.k_stride), text(dense.outer_stride),
                     batch_view(dense.start), zero.empty() ? "" : ", " + zero);
}

void ProductText::window_fields(const WindowRowsShape& windows, const std::string& end) {
  const auto list = [&](auto&& field) {
    std::string all;
    for (const WindowRowsShape::Axis& axis : windows.axes) all += (all.empty() ? "" : ", ") + text(field(axis));
    return "{" + all + "}";
  };
  out_.line(fmt::format("    .channels = {}, .channel_stride = {},", text(windows.channels), text(windows.channel_stride)));
  out_.line(fmt::format("    .pitch = {}, .input = {}, .output = {}, .kernel = {},", list([](const auto& x) { return x.pitch; }),
                        list([](const auto& x) { return x.input; }), list([](const auto& x) { return x.output; }),
                        list([](const auto& x) { return x.kernel; })));
  out_.line(fmt::format("    .stride = {}, .dilation = {}, .pad = {}{}", list([](const auto& x) { return x.stride; }),
                        list([](const auto& x) { return x.dilation; }), list([](const auto& x) { return x.pad; }), end));
}

void ProductText::epilogue(const LoopGroup& batch, const LoopGroup& row_group, const EpilogueColumns& columns) {
  results("epilogue", batch, row_group, Destination::tensors, columns);
}

void ProductText::scores(const LoopGroup& batch, const LoopGroup& row_group) { results("scores", batch, row_group, Destination::rows); }

void ProductText::fetch_lines(const LoweredNest& after, const std::vector<bool>& needed, const LoopGroup& row_group, NestBody& body) {
  body.enter(column_symbol, "column");
  const std::string at_column = "[column]";
  std::set<std::string> lines;
  const auto add = [&](const char* function, const std::string& element) {
    if (element.ends_with(at_column)) lines.insert(fmt::format("{}({}, columns);", function, element.substr(0, element.size() - at_column.size())));
  };
  for (size_t i = 0; i < after.stores.size(); ++i) add("tile::fetch_to_write", body.stored_element(i));
  for (size_t id = 0; id < needed.size(); ++id) {
    if (!needed[id] || after.nodes[id].op != ExprOp::load) continue;
    const Address& load = after.loads[static_cast<size_t>(after.nodes[id].integer)];
    std::set<std::string> symbols;
    load.offset.collect_symbols(symbols);
    const auto moves = [&](const std::string& symbol) { return symbols.count(symbol) > 0; };
    const bool by_row =
        moves(row_group.symbol) || std::any_of(row_group.loops.begin(), row_group.loops.end(), [&](const Loop& loop) { return moves(loop.symbol); });
    if (by_row && load.guards.empty() && load.indirect.empty()) add("tile::fetch_to_read", body.element_or_zero(static_cast<size_t>(after.nodes[id].integer)));
  }
  body.leave();
  out_.open("if (sums == nullptr)");
  for (const std::string& line : lines) out_.line(line);
  out_.line("continue;");
  out_.close();
}

int64_t ProductText::piece_of_columns(const EpilogueColumns& columns) const {
  const int64_t all = shape_.n.extent().as_constant().value_or(0), lanes = kernel_.target.vector_bytes / static_cast<int64_t>(sizeof(float));
  const auto breaks = [&](const EpilogueColumns& called) {
    Bounds bounds = shape_.nest.bounds;
    const Dim column = column_of(called, bounds);
    return std::any_of(shape_.nest.stores.begin(), shape_.nest.stores.end(), [&](const Address& store) {
      return !schedule::affine_in(simplify(flattened(store.offset, shape_.n, shape_.nest.bounds).substitute({{shape_.n.symbol, column}}), bounds),
                                  column_symbol);
    });
  };
  if (columns.fetch || !breaks(columns)) return 0;
  for (int64_t piece = all / 2; piece >= lanes; --piece)
    if (all % piece == 0 && !breaks({.most = piece, .multiple = piece})) return piece;
  return 0;
}

Dim ProductText::column_of(const EpilogueColumns& columns, Bounds& bounds) const {
  bounds.of[first_column_symbol] = {Dim(0), (shape_.n.extent() - 1) / columns.multiple};
  bounds.of[column_symbol] = {Dim(0), columns.most > 0 ? columns.most - 1 : 1 << 16};
  return Dim::symbol(first_column_symbol) * columns.multiple + Dim::symbol(column_symbol);
}

void ProductText::results(const std::string& name, const LoopGroup& batch, const LoopGroup& row_group, Destination destination, const EpilogueColumns& called) {
  const bool to_rows = destination == Destination::rows;
  // Columns count from where their piece begins, and the first one is a multiple of pieces.
  const int64_t piece = to_rows ? 0 : piece_of_columns(called);
  const EpilogueColumns columns = piece > 0 ? EpilogueColumns{.most = piece, .multiple = piece} : called;
  const int64_t most = piece > 0 ? std::min(called.most, piece) : called.most;  // of a loop
  const std::string begin = piece > 0 ? "begin" : "0", end = piece > 0 ? "end" : "columns", in_loop = piece > 0 ? "column - begin" : "column";
  LoweredNest after = shape_.nest;
  const TensorId first_output = after.stores.at(0).tensor;
  if (to_rows) after.stores = {Address{first_output, DType::f32, Dim::symbol(row_symbol) * Dim::symbol(row_step_symbol), {}, {}, -1}};
  const Dim column = column_of(columns, after.bounds);
  const auto along = [&](Dim& e) { e = simplify(flattened(e, shape_.n, shape_.nest.bounds).substitute({{shape_.n.symbol, column}}), after.bounds); };
  const std::vector<bool> needed = closure(after, after.stored_values);
  std::set<int64_t> moved;
  for (size_t id = 0; id < needed.size(); ++id) {
    if (!needed[id] || after.nodes[id].op != ExprOp::load) continue;
    Address& load = after.loads[static_cast<size_t>(after.nodes[id].integer)];
    if (moved.insert(after.nodes[id].integer).second) move(load, along);
  }
  if (to_rows) after.stores[0].offset += Dim::symbol(column_symbol);
  for (Address& store : after.stores) move(store, along);
  for (Dim& coordinate : after.coordinates) along(coordinate);
  const bool one_row_index = merge(row_group, after, needed);
  after.find_symbols();

  out_.open(fmt::format("const auto {} = [&](i64 batch, i64 row0, i64 column0, i64 rows, const auto columns, const {}* sums, const auto ld{})", name,
                        value_type(shape_.sum), to_rows ? ", float* to, i64 to_ld" : ""));
  out_.line("(void)batch, (void)row0, (void)column0;");
  kernel_.declare_sizes(out_);
  kernel_.declare_tensors(out_);
  const std::map<TensorId, std::string> rows_of_scores = {{first_output, "to"}};
  NestBody body(after, kernel_.sizes, kernel_.pointers, out_, "", to_rows ? rows_of_scores : std::map<TensorId, std::string>{});
  if (piece > 0) {
    out_.open("for (i64 from = column0, left = columns, piece, begin, end; left > 0; from += end - begin, left -= end - begin)");
    out_.line(fmt::format("piece = from / {0}, begin = from - piece * {0}, end = left < {0} - begin ? begin + left : {0};", piece));
  }
  body.name(first_column_symbol, piece > 0 ? "piece" : columns.multiple > 1 ? fmt::format("(column0 / {})", columns.multiple) : "column0");
  body.name(row_step_symbol, "to_ld");
  body.want(after.stored_values);
  digits(batch, "batch", body);
  body.write_known();
  out_.open("for (i64 row = 0; row < rows; ++row)");
  body.enter(row_symbol, "row");
  if (one_row_index) {
    out_.line("const i64 line = row0 + row;");
    body.name(row_group.symbol, "line");
  } else {
    digits(row_group, "(row0 + row)", body);
  }
  const DType result = source_.reductions[0].dtype;
  const std::string sum = value_type(shape_.sum) == value_type(result) ? "sum[column]" : fmt::format("static_cast<{}>(sum[column])", value_type(result));
  const auto rows_of_sums = [&] { out_.line(fmt::format("const auto* const sum = sums + row * ld{};", piece > 0 ? " + (from - column0 - begin)" : "")); };
  if (!columns.fetch) rows_of_sums();
  const Operand scalar_sum{sum, result, !is_narrow_float(result)};
  body.set_reduced(0, scalar_sum, {column_symbol});
  body.write_known();
  std::vector<size_t> stores;
  for (size_t i = 0; i < after.stores.size(); ++i) stores.push_back(i);
  body.write_pointers(column_symbol, stores);
  const std::string at_column = "[column]";
  if (columns.fetch) {
    fetch_lines(after, needed, row_group, body);
    rows_of_sums();
  }
  const bool vectors = value_type(shape_.sum) == "float" && value_type(result) == "float" && body.stores_fit_vectors(column_symbol, stores);
  if (vectors) {
    out_.open("const auto vectors = [&](i64 first, auto count)");
    body.set_reduced(0, {"tile::load(sum + column)", result, !is_narrow_float(result)}, {column_symbol});
    body.write_vector_stores(column_symbol, "column", stores);
    body.set_reduced(0, scalar_sum, {column_symbol});
    out_.close(";");
    out_.line(fmt::format("const i64 rest = tile::in_vectors<2>({}, vectors{});", end, piece > 0 ? ", begin" : ""));
  }
  // Vectors of what short elements are computed from are whole.
  const auto wide = [](size_t i) { return fmt::format("wide{}", i); };
  const auto is_short_float = [&](size_t i) {
    const DType dtype = after.stores[i].dtype;
    return (dtype == DType::bf16 || dtype == DType::f16) &&
           value_type(after.nodes[static_cast<size_t>(after.stored_values[i])].dtype) == value_type(DType::f32);
  };
  const auto is_short = [&](size_t i) {
    const DType dtype = after.stores[i].dtype;
    return !vectors && most > 0 && (is_short_float(i) || (size_of(dtype) == 1 && is_integer(dtype)));
  };
  for (const size_t i : stores)
    if (is_short(i)) out_.line(fmt::format("alignas(64) {} {}[{}];", is_short_float(i) ? "float" : "int32_t", wide(i), most));
  out_.pragma("#pragma omp simd");
  out_.open(fmt::format("for (i64 column = {}; column < {}; ++column)", vectors ? "rest" : begin, end));
  body.enter(column_symbol, "column");
  body.write_known();
  std::vector<std::pair<size_t, std::string>> narrowed;
  for (const size_t i : stores) {
    const std::string element = body.stored_element(i);
    if (!is_short(i) || !element.ends_with(at_column)) {
      body.write_store(i);
      continue;
    }
    out_.line(fmt::format("{}[{}] = {};", wide(i), in_loop, is_short_float(i) ? body.computed_text(i) : body.stored_text(i)));
    narrowed.emplace_back(i, element.substr(0, element.size() - at_column.size()));
  }
  out_.close();
  for (const auto& [i, to] : narrowed) {
    if (is_short_float(i)) {
      out_.line(piece > 0 ? fmt::format("tile::narrow_row({}, end - begin, {} + begin);", wide(i), to)
                          : fmt::format("tile::narrow_row({}, columns, {});", wide(i), to));
      continue;
    }
    out_.pragma("#pragma omp simd");
    out_.open(fmt::format("for (i64 column = {}; column < {}; ++column)", begin, end));
    out_.line(fmt::format("{}[column] = static_cast<{}>({}[{}]);", to, storage_type(after.stores[i].dtype), wide(i), in_loop));
    out_.close();
  }
  out_.close();
  if (piece > 0) out_.close();
  out_.close(";");
}

}  // namespace tilewright::cpu
