#include "target/source/sequential_text.h"

#include "base/error.h"
#include "target/source/nest_body.h"

namespace tilewright::source {
namespace {

std::string loop(const std::string& name, const std::string& to) { return fmt::format("for (i64 {0} = 0; {0} < {1}; ++{0})", name, to); }

std::string scatter_combined(const pattern::Scatter& scatter, const std::string& old, const std::string& value, DType dtype) {
  using Combine = pattern::Scatter::Combine;
  const bool floating = is_float(dtype);
  switch (scatter.combine) {
    case Combine::assign: return value;
    case Combine::add: return floating ? fmt::format("{} + {}", old, value) : fmt::format("tile::wrapping_add({}, {})", old, value);
    case Combine::mul: return floating ? fmt::format("{} * {}", old, value) : fmt::format("tile::wrapping_mul({}, {})", old, value);
    case Combine::min: return fmt::format("tile::min({}, {})", old, value);
    case Combine::max: return fmt::format("tile::max({}, {})", old, value);
  }
  return value;
}

}  // namespace

std::set<size_t> axes_apart(const pattern::Scatter& scatter) {
  Dims upper = schedule::coordinates_of(scatter.space);
  std::vector<std::string> symbols;
  for (size_t axis = 0; axis < scatter.space.size(); ++axis) symbols.push_back(schedule::coordinate_symbol(static_cast<int>(axis)));
  for (size_t k = 0; k < scatter.indirect.size(); ++k) {
    symbols.push_back(schedule::indirect_symbol(0, static_cast<int>(k)));
    upper.push_back(Dim::symbol(symbols.back()));
  }
  std::set<size_t> apart;
  for (const Dim& coordinate : schedule::lower_map(scatter.map, upper, schedule::space_bounds(scatter.space)).coordinates) {
    std::vector<size_t> moved_by;
    for (size_t i = 0; i < symbols.size(); ++i)
      if (schedule::mentions(coordinate, symbols[i])) moved_by.push_back(i);
    if (moved_by.size() != 1 || moved_by[0] >= scatter.space.size()) continue;
    const auto affine = schedule::affine_in(coordinate, symbols[moved_by[0]]);
    if (affine && affine->slope.as_constant().value_or(0) != 0) apart.insert(moved_by[0]);
  }
  return apart;
}

void write_scatter_points(const KernelText& kernel, const pattern::Scatter& scatter, const std::set<size_t>& given, Writer& out) {
  const pattern::Program& program = kernel.program();
  const Type& type = program.tensor(scatter.output).type;
  const std::string& y = kernel.pointers.at(scatter.output);
  Bounds sizes;
  // The place that a point writes is an access of the output whose fill says "nowhere".
  LoweredNest nest;
  nest.nodes = scatter.nodes;
  nest.bounds = schedule::space_bounds(scatter.space);
  nest.coordinates = schedule::coordinates_of(scatter.space);
  for (size_t i = 0; i < scatter.accesses.size(); ++i)
    nest.loads.push_back(lower_access(scatter.accesses[i], static_cast<int>(i), nest.coordinates, program, nest.bounds));
  pattern::Access target;
  target.tensor = scatter.output;
  target.map = scatter.map;
  target.indirect = scatter.indirect;
  target.fill = scatter.value;
  const Address place = lower_access(target, static_cast<int>(scatter.accesses.size()), nest.coordinates, program, nest.bounds);
  nest.find_symbols();

  NestBody body(nest, kernel.sizes, kernel.pointers, out);
  std::vector<ExprId> roots = scatter.indirect;
  roots.push_back(scatter.value);
  body.want(roots);
  // Points run in order: later ones win, sums keep theirs.
  std::vector<size_t> loops;
  for (size_t i = 0; i < scatter.space.size(); ++i) {
    if (given.contains(i))
      body.name(schedule::coordinate_symbol(static_cast<int>(i)), fmt::format("i{}", i));
    else
      loops.push_back(i);
  }
  for (const size_t i : loops) {
    out.open(loop(fmt::format("i{}", i), print_index(scatter.space[i], kernel.sizes, sizes)));
    body.enter(schedule::coordinate_symbol(static_cast<int>(i)), fmt::format("i{}", i));
    body.write_known(i != loops.back());
  }
  if (loops.empty()) body.write_known();
  std::string inside;
  for (size_t k = 0; k < place.indirect.size(); ++k) {
    const std::string name = fmt::format("to{}", k);
    out.line(fmt::format("const i64 {} = {};", name, body.value(place.indirect[k].value).text));
    body.name(place.indirect[k].symbol, name);
    inside += fmt::format("{}static_cast<uint64_t>({}) < static_cast<uint64_t>({})", inside.empty() ? "" : " && ", name, body.index(place.indirect[k].extent));
  }
  for (const Guard& guard : place.guards) {
    if (!inside.empty()) inside += " && ";
    if (guard.kind == Guard::divisible)
      inside += fmt::format("tile::mod<i64>({}, {}) == 0", body.index(guard.value), body.index(guard.high));
    else
      inside += fmt::format("{} >= {} && {} < {}", body.index(guard.value), body.index(guard.low), body.index(guard.value), body.index(guard.high));
  }
  if (!inside.empty()) out.open(fmt::format("if ({})", inside));
  const Operand value = body.value(scatter.value);
  const std::string element = "element";
  out.line(fmt::format("auto& element = {}[{}];", y, body.index(place.offset)));
  const std::string old = "(" + loaded(type.dtype, element) + ")";
  out.line(fmt::format("{} = {};", element,
                       stored(type.dtype, scatter_combined(scatter, old, converted(value, type.dtype), type.dtype),
                              scatter.combine == pattern::Scatter::Combine::assign && value.exact)));
  if (!inside.empty()) out.close();
  for (size_t i = 0; i < loops.size(); ++i) out.close();
}

void write_select(const KernelText& kernel, const pattern::Select& select, Writer& out) {
  using Kind = pattern::Select::Kind;
  const pattern::Program& program = kernel.program();
  const auto text = [&](const Dim& e) { return print_index(e, kernel.sizes, {}); };
  const auto dims = [&](TensorId id) { return program.tensor(id).type.dims; };
  const auto pointer = [&](TensorId id) { return id < 0 ? std::string("nullptr") : kernel.pointers.at(id); };
  const auto in = [&](size_t i) { return pointer(select.inputs.at(i)); };
  const auto result = [&](size_t i) { return pointer(select.outputs.at(i)); };
  const auto flag = [&](size_t i) { return select.ints.at(i) != 0; };
  const std::string count = select.count < 0 ? "" : "*" + pointer(select.count) + " = ";
  const Dims shape = dims(select.inputs.at(0));
  // The three extents that `axis` parts a shape into.
  const auto around = [&](int64_t axis) {
    const auto at = shape.begin() + axis;
    return fmt::format("{}, {}, {}", text(product(Dims(shape.begin(), at))), text(*at), text(product(Dims(at + 1, shape.end()))));
  };
  switch (select.kind) {
    case Kind::nonzero: {
      std::string list;
      for (const Dim& dim : shape) list += text(dim) + ", ";
      out.line(fmt::format("const i64 shape[] = {{{}0}};", list));
      out.line(fmt::format("{}tile::nonzero({}, {}, shape, {}, {});", count, in(0), shape.size(), result(0), text(dims(select.outputs.at(0)).at(1))));
      return;
    }
    case Kind::compress: out.line(fmt::format("{}tile::compress_indices({}, {}, {});", count, in(0), text(shape.at(0)), result(0))); return;
    case Kind::top_k: {
      const size_t axis = static_cast<size_t>(select.ints.at(0));
      out.line(fmt::format("tile::top_k({}, {}, {}, {{.largest = {}}}, {}, {}, a.team);", in(0), around(select.ints.at(0)),
                           text(dims(select.outputs.at(0)).at(axis)), flag(1), result(0), result(1)));
      return;
    }
    case Kind::unique: {
      const bool flat = select.ints.at(0) < 0;
      const std::string extents = flat ? fmt::format("1, {}, 1", text(product(shape))) : around(select.ints.at(0));
      const Dim pitch = dims(select.outputs.at(0)).at(flat ? 0 : static_cast<size_t>(select.ints.at(0)));
      out.line(fmt::format("{}tile::unique({}, {}, {{.sorted = {}}}, {}, {}, {}, {}, a.team, {});", count, in(0), extents, flag(1), result(0), result(1),
                           result(2), result(3), text(pitch)));
      return;
    }
    case Kind::nms: {
      const Dims scores = dims(select.inputs.at(1));
      out.line(
          fmt::format("const tile::SuppressOptions options{{.center_point = {}, .most_per_class = *{}, .overlap = *{}, .has_score_threshold = true, "
                      ".score_threshold = *{}}};",
                      flag(0), in(2), in(3), in(4)));
      out.line(fmt::format("{}tile::suppress({}, {}, {}, {}, {}, options, {}, a.team);", count, in(0), in(1), text(scores.at(0)), text(scores.at(1)),
                           text(scores.at(2)), result(0)));
      return;
    }
  }
}

}  // namespace tilewright::source
