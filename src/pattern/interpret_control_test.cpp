#include <gtest/gtest.h>

#include "pattern/testing.h"

namespace tilewright::pattern {
namespace {

using Ints = std::vector<int64_t>;
Dim symbol(const char* name) { return Dim::symbol(name); }

TEST(InterpretCumulate, SumsAndProductsForwardReverseExclusive) {
  const auto run = [](bool product, bool exclusive, bool reverse) {
    Example e;
    Cumulate c;
    c.input = e.input(floats({2, 3}, {1, 2, 3, 4, 5, 6}));
    c.output = e.output({DType::f32, {2, 3}});
    c.axis = 1;
    c.product = product;
    c.exclusive = exclusive;
    c.reverse = reverse;
    e.add(c);
    return reals_of(e.run()[0]);
  };
  EXPECT_EQ(run(false, false, false), (std::vector<double>{1, 3, 6, 4, 9, 15}));
  EXPECT_EQ(run(false, true, false), (std::vector<double>{0, 1, 3, 0, 4, 9}));
  EXPECT_EQ(run(false, false, true), (std::vector<double>{6, 5, 3, 15, 11, 6}));
  EXPECT_EQ(run(false, true, true), (std::vector<double>{5, 3, 0, 11, 6, 0}));
  EXPECT_EQ(run(true, false, false), (std::vector<double>{1, 2, 6, 4, 20, 120}));
  EXPECT_EQ(run(true, true, true), (std::vector<double>{6, 3, 1, 30, 6, 1}));
}

TEST(InterpretCumulate, OuterAxesAndWrappingIntegers) {
  Example e;
  Cumulate c;
  c.input = e.input(integers(DType::i8, {3, 2}, {100, 1, 100, 2, 100, 3}));
  c.output = e.output({DType::i8, {3, 2}});
  e.add(c);
  EXPECT_EQ(e.run()[0].ints(), (Ints{100, 1, -56, 3, 44, 6}));
}

TEST(InterpretScatter, LaterUpdatesWinAndOutOfRangePositionsAreSkipped) {
  const auto run = [](Scatter::Combine combine) {
    Example e;
    Scatter s;
    s.initial = e.input(floats({3}, {10, 20, 30}));
    const TensorId at = e.input(integers(DType::i64, {4}, {1, 5, 1, -1})), updates = e.input(floats({4}, {1, 2, 4, 8}));
    s.output = e.output({DType::f32, {3}});
    NestBuilder n({4});
    const Expr where = n.load_at(at, {DType::i64, {4}}, {n.index(0)}), value = n.load_at(updates, {DType::f32, {4}}, {n.index(0)});
    const Nest nest = n.finish("");
    s.space = nest.space;
    s.accesses = nest.accesses;
    s.nodes = nest.nodes;
    s.map = Map::identity({Dim(3)}).inserted(0, 4);
    s.indirect = {where.id};
    s.value = value.id;
    s.combine = combine;
    e.add(s);
    return reals_of(e.run()[0]);
  };
  EXPECT_EQ(run(Scatter::Combine::assign), (std::vector<double>{10, 4, 30}));
  EXPECT_EQ(run(Scatter::Combine::add), (std::vector<double>{10, 25, 30}));
  EXPECT_EQ(run(Scatter::Combine::mul), (std::vector<double>{10, 80, 30}));
  EXPECT_EQ(run(Scatter::Combine::min), (std::vector<double>{10, 1, 30}));
  EXPECT_EQ(run(Scatter::Combine::max), (std::vector<double>{10, 20, 30}));
}

TEST(InterpretBind, GivesSizesToWhatFollows) {
  Example e;
  const TensorId x = e.input(floats({5}, {1, 2, 3, 4, 5})), count = e.input(integers(DType::i64, {1}, {3}));
  const TensorId y = e.output({DType::f32, {symbol("K")}});
  e.add(Bind{"count", count, {"K"}});
  NestBuilder n({symbol("K")});
  n.store(y, n.load(x, DType::f32, Map::identity({Dim(5)}).sliced(0, 0, 1, symbol("K"))));
  e.add(n.finish("head"));
  EXPECT_EQ(reals_of(e.run()[0]), (std::vector<double>{1, 2, 3}));
  e.inputs[1] = integers(DType::i64, {1}, {-2});
  EXPECT_EQ(error_of(e, ErrorKind::invalid_input), "count: computed the negative size -2");
}

TEST(InterpretRequire, SaysWhatDoesNotHold) {
  Example e;
  const TensorId x = e.input({DType::f32, {symbol("N")}}, floats({3}, {1, 2, 3}));
  const TensorId y = e.output({DType::f32, {symbol("N")}});
  e.add(Require{"reshape_1", symbol("N"), Dim(4), "the numbers of elements differ"});
  NestBuilder n({symbol("N")});
  n.store(y, n.load(x, DType::f32, Map::identity({symbol("N")})));
  e.add(n.finish("copy"));
  EXPECT_EQ(error_of(e, ErrorKind::invalid_input), "reshape_1: the numbers of elements differ: 3 is not 4");
}

/// A body with one input x f32[size] and one result f32[size or head].
std::shared_ptr<Program> scaled(const Dim& size, const Dim& head, double factor) {
  auto body = std::make_shared<Program>();
  const TensorId x = body->add_tensor({DType::f32, {size}}, "x"), y = body->add_tensor({DType::f32, {head}}, "y");
  NestBuilder n({head});
  n.store(y, n.load(x, DType::f32, Map::identity({size}).sliced(0, 0, 1, head)) * factor);
  body->patterns.push_back(n.finish("scale"));
  body->inputs = {x};
  body->outputs = {y};
  return body;
}

TEST(InterpretIf, TakesOneBranchAndLearnsItsSize) {
  for (const int64_t taken : {1, 0}) {
    Example e;
    If branch;
    branch.condition = e.input(integers(DType::boolean, {}, {taken}));
    branch.inputs = {e.input(floats({3}, {1, 2, 3}))};
    branch.outputs = {e.output({DType::f32, {symbol("B")}})};
    branch.bound = {{"B", 0, 0}};
    branch.then_program = scaled(3, 3, 2);
    branch.else_program = scaled(3, 1, -1);
    e.add(branch);
    EXPECT_EQ(reals_of(e.run()[0]), taken ? (std::vector<double>{2, 4, 6}) : (std::vector<double>{-1}));
  }
}

/// carried f32[C] → itself with one element more (its length); scanned: the iteration; goes on while iteration + 1 < limit.
Loop growing(Example& e, TensorId trip_count, int64_t limit) {
  auto body = std::make_shared<Program>();
  const TensorId i = body->add_tensor({DType::i64, {}}, "i"), condition = body->add_tensor({DType::boolean, {}}, "c"),
                 x = body->add_tensor({DType::f32, {symbol("C")}}, "x");
  const TensorId next = body->add_tensor({DType::boolean, {}}, "next"), y = body->add_tensor({DType::f32, {symbol("C") + 1}}, "y"),
                 seen = body->add_tensor({DType::i64, {}}, "seen");
  NestBuilder scalar(Dims{});
  const Expr number = scalar.load(i, DType::i64, Map::identity(std::initializer_list<Dim>{}));
  scalar.store(next, scalar.binary(ExprOp::less, number + 1, scalar.constant(DType::i64, static_cast<double>(limit))));
  scalar.store(seen, number);
  body->patterns.push_back(scalar.finish("count"));
  NestBuilder n({symbol("C") + 1});
  n.store(y, n.load(x, DType::f32, Map::identity({symbol("C")}).padded(0, 0, 1), {}, n.cast(n.size(symbol("C")), DType::f32)));
  body->patterns.push_back(n.finish("append"));
  body->inputs = {i, condition, x};
  body->outputs = {next, y, seen};

  Loop loop;
  loop.trip_count = trip_count;
  loop.carried = {e.input(floats({1}, {7}))};
  loop.outputs = {e.output({DType::f32, {symbol("F")}}), e.output({DType::i64, {symbol("R")}})};
  loop.bound = {{"F", 0, 0}, {"R", 1, 0}};
  loop.body_bound = {{"C", 0, 0}};
  loop.body = body;
  loop.source = "grow";
  return loop;
}

TEST(InterpretLoop, CarriesGrowingTensorsAndStacksScannedOnes) {
  Example e;
  const TensorId trips = e.input(integers(DType::i64, {}, {3}));
  e.add(growing(e, trips, 100));
  const auto out = e.run();
  EXPECT_EQ(reals_of(out[0]), (std::vector<double>{7, 1, 2, 3}));
  EXPECT_EQ(out[1].ints(), (Ints{0, 1, 2}));
}

TEST(InterpretLoop, StopsWhenTheConditionTurnsFalse) {
  Example e;
  e.add(growing(e, -1, 2));
  const auto out = e.run();
  EXPECT_EQ(reals_of(out[0]), (std::vector<double>{7, 1, 2}));
  EXPECT_EQ(out[1].ints(), (Ints{0, 1}));
}

TEST(InterpretLoop, MayRunZeroTimes) {
  for (const int64_t trips : {0, -3}) {
    Example e;
    const TensorId count = e.input(integers(DType::i64, {}, {trips}));
    e.add(growing(e, count, 100));
    const auto out = e.run();
    EXPECT_EQ(reals_of(out[0]), std::vector<double>{7});
    EXPECT_EQ(out[1].dims(), Ints{0});
  }
}

TEST(InterpretLoop, EndlessLoopsReachTheLimit) {
  Example e;
  e.add(growing(e, -1, int64_t{1} << 50));
  InterpreterOptions options;
  options.point_limit = 10000;
  EXPECT_NE(error_of(e, ErrorKind::invalid_input, options).find("more work than the interpreter's limit of 10000 points"), std::string::npos);
}

}  // namespace
}  // namespace tilewright::pattern
