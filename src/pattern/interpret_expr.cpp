#include <algorithm>

#include "base/error.h"
#include "pattern/expr.h"
#include "pattern/interpret.h"

namespace tilewright::pattern {

void Points::enumerate(const std::vector<int64_t>& extents, const std::vector<size_t>& axes, int64_t from, int64_t n) {
  first = from;
  count = n;
  for (auto& column : coordinates)
    if (!column.empty()) std::fill_n(column.begin(), n, int64_t{0});
  // Axes of extent 1 stay 0; the others count up, the last one in runs.
  std::vector<size_t> moving;
  for (const size_t axis : axes)
    if (extents[axis] != 1) moving.push_back(axis);
  if (moving.empty()) return;
  std::vector<int64_t> point(moving.size());
  for (size_t i = moving.size(); i-- > 0; from /= extents[moving[i]]) point[i] = from % extents[moving[i]];
  const int64_t row = extents[moving.back()];
  for (int64_t done = 0; done < n;) {
    const int64_t run = std::min(row - point.back(), n - done);
    for (size_t i = 0; i + 1 < moving.size(); ++i) std::fill_n(coordinates[moving[i]].begin() + done, run, point[i]);
    int64_t* last = coordinates[moving.back()].data() + done;
    for (int64_t k = 0; k < run; ++k) last[k] = point.back() + k;
    done += run;
    point.back() += run;
    for (size_t i = moving.size(); i-- > 1 && point[i] == extents[moving[i]];) {
      point[i] = 0;
      ++point[i - 1];
    }
  }
}

Evaluator::Evaluator(Machine& machine, const std::string& source, const std::vector<Access>& accesses, const std::vector<ExprNode>& nodes,
                     std::vector<int64_t> extents, const std::vector<ExprId>& roots, const std::vector<Array>* reduced)
    : machine_(machine), source_(source), nodes_(nodes), extents_(std::move(extents)), reduced_(reduced), columns_(nodes.size()) {
  std::vector<char> needed(nodes.size(), 0);
  for (const ExprId root : roots) needed.at(static_cast<size_t>(root)) = 1;
  const auto access_of = [&](const ExprNode& node) -> const Access& { return accesses.at(static_cast<size_t>(node.integer)); };
  for (size_t i = nodes.size(); i-- > 0;) {
    if (!needed[i]) continue;
    for (const ExprId id : nodes[i].args) needed[static_cast<size_t>(id)] = 1;
    if (nodes[i].op != ExprOp::load) continue;
    for (const ExprId id : access_of(nodes[i]).indirect) needed[static_cast<size_t>(id)] = 1;
    if (access_of(nodes[i]).fill) needed[static_cast<size_t>(*access_of(nodes[i]).fill)] = 1;
  }

  constexpr size_t capacity = static_cast<size_t>(Points::capacity);
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (!needed[i]) continue;
    const ExprNode& node = nodes[i];
    is_float(node.dtype) ? columns_[i].reals.assign(capacity, node.real) : columns_[i].integers.assign(capacity, node.integer);
    if (node.op == ExprOp::constant) continue;
    if (node.op == ExprOp::size) {
      columns_[i].integers.assign(capacity, node.dim.evaluate(machine.run.sizes));
      continue;
    }
    Step step{i, {}, {}, -1};
    for (const ExprId id : node.args) {
      step.args.push_back(&columns_[static_cast<size_t>(id)]);
      step.dtypes.push_back(nodes[static_cast<size_t>(id)].dtype);
    }
    if (node.op == ExprOp::load) {
      const Access& access = access_of(node);
      std::vector<int64_t> upper = extents_, indirect;
      for (size_t k = 0; k < access.indirect.size(); ++k) {
        indirect.push_back(access.map.extent_in(static_cast<int>(extents_.size() + k)).evaluate(machine.run.sizes));
        upper.push_back(indirect.back());
      }
      const Array& array = machine.get(access.tensor);
      step.reader = static_cast<int>(readers_.size());
      readers_.push_back({&access,
                          &array,
                          std::move(indirect),
                          Addressing(access.map, machine.run.sizes, upper, array.dims),
                          std::vector<std::vector<int64_t>>(access.indirect.size(), std::vector<int64_t>(capacity)),
                          {}});
    }
    steps_.push_back(std::move(step));
  }
}

void Evaluator::evaluate(const Points& points) {
  const size_t count = static_cast<size_t>(points.count);
  for (const Step& step : steps_) {
    const ExprNode& node = nodes_[step.node];
    Column& result = columns_[step.node];
    switch (node.op) {
      case ExprOp::index: std::copy_n(points.coordinates[static_cast<size_t>(node.integer)].begin(), count, result.integers.begin()); break;
      case ExprOp::load: load(readers_[static_cast<size_t>(step.reader)], points, result); break;
      case ExprOp::reduced: {
        ensure(reduced_ != nullptr, "a reduction's result is read only by what is stored");
        const Array& results = reduced_->at(static_cast<size_t>(node.integer));
        if (results.real())
          std::copy_n(results.reals.begin() + points.first, count, result.reals.begin());
        else
          std::copy_n(results.integers.begin() + points.first, count, result.integers.begin());
        break;
      }
      default: apply_block(node, step.dtypes, step.args, result, count, machine_.run.rounds());
    }
  }
}

/// Columns of the space's coordinates and the indirect ones, brought into their extents; `empty`: one has no coordinate at all.
std::vector<const int64_t*> Evaluator::upper_of(Reader& reader, const Points& points, bool& empty) {
  const size_t count = static_cast<size_t>(points.count);
  const Access& access = *reader.access;
  std::vector<const int64_t*> upper;
  for (size_t d = 0; d < extents_.size(); ++d) upper.push_back(points.coordinates[d].data());
  if (!access.indirect.empty() && access.fill) reader.mask.assign(count, 1);
  for (size_t k = 0; k < access.indirect.size(); ++k) {
    const int64_t extent = reader.indirect_extents[k];
    empty |= extent <= 0;
    const int64_t* asked = columns_[static_cast<size_t>(access.indirect[k])].integers.data();
    int64_t* held = reader.indirect[k].data();
    for (size_t p = 0; p < count; ++p) {
      held[p] = std::max<int64_t>(0, std::min(asked[p], extent - 1));
      if (access.fill) reader.mask[p] &= static_cast<uint8_t>(held[p] == asked[p] && extent > 0);
    }
    upper.push_back(held);
  }
  return upper;
}

void Evaluator::load(Reader& reader, const Points& points, Column& result) {
  const size_t count = static_cast<size_t>(points.count);
  const Access& access = *reader.access;
  const Array& array = *reader.array;
  bool empty = false;
  const std::vector<const int64_t*> upper = upper_of(reader, points, empty);
  if (empty && !access.fill) {  // nothing to clamp to: reads zeros
    array.real() ? void(std::fill_n(result.reals.begin(), count, 0.0)) : void(std::fill_n(result.integers.begin(), count, int64_t{0}));
    return;
  }
  reader.addressing.compute(upper, count, reader.mask.empty() ? nullptr : reader.mask.data(), source_);
  const int64_t* address = reader.addressing.addresses();
  const uint8_t* valid = reader.addressing.validity();
  if (valid == nullptr) {
    if (array.real())
      for (size_t p = 0; p < count; ++p) result.reals[p] = array.reals[static_cast<size_t>(address[p])];
    else
      for (size_t p = 0; p < count; ++p) result.integers[p] = array.integers[static_cast<size_t>(address[p])];
    return;
  }
  if (!access.fill) ensure(std::find(valid, valid + count, 0) == valid + count, "an access that may be invalid has a fill");
  const Column* fill = access.fill ? &columns_[static_cast<size_t>(*access.fill)] : nullptr;
  for (size_t p = 0; p < count; ++p) {
    const size_t at = static_cast<size_t>(address[p]);
    if (array.real())
      result.reals[p] = valid[p] ? array.reals[at] : fill->reals[p];
    else
      result.integers[p] = valid[p] ? array.integers[at] : fill->integers[p];
  }
}

std::vector<char> Evaluator::depends_on(ExprId id) const {
  const size_t rank = extents_.size();
  std::vector<std::vector<char>> depends(nodes_.size(), std::vector<char>(rank, 0));
  const auto join = [&](size_t into, const std::vector<char>& more) {
    for (size_t d = 0; d < rank; ++d) depends[into][d] |= more[d];
  };
  for (const Step& step : steps_) {
    const ExprNode& node = nodes_[step.node];
    if (node.op == ExprOp::index) depends[step.node][static_cast<size_t>(node.integer)] = 1;
    for (const ExprId arg : node.args) join(step.node, depends[static_cast<size_t>(arg)]);
    if (node.op != ExprOp::load) continue;
    const Reader& reader = readers_[static_cast<size_t>(step.reader)];
    join(step.node, reader.addressing.depends_on(rank));
    for (const ExprId arg : reader.access->indirect) join(step.node, depends[static_cast<size_t>(arg)]);
    if (reader.access->fill) join(step.node, depends[static_cast<size_t>(*reader.access->fill)]);
  }
  return depends[static_cast<size_t>(id)];
}

}  // namespace tilewright::pattern
