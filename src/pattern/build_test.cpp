#include "pattern/build.h"

#include <gtest/gtest.h>

#include "pattern/testing.h"

namespace tilewright::pattern {
namespace {

TEST(NestBuilder, EqualExpressionsAndAccessesAreShared) {
  NestBuilder n({4});
  const Expr a = n.load(0, DType::f32, Map::identity({Dim(4)})), b = n.load(0, DType::f32, Map::identity({Dim(4)}));
  EXPECT_EQ(a.id, b.id);
  EXPECT_EQ((a + 1).id, (b + 1).id);
  EXPECT_NE((a + 1).id, (a + 2).id);
  EXPECT_NE(n.constant(DType::f32, 0.0).id, n.constant(DType::f32, -0.0).id);
  n.store(1, a);
  EXPECT_EQ(n.finish("").accesses.size(), 1u);
}

TEST(NestBuilder, IntegerConstantsFoldAndFloatsStayAsWritten) {
  NestBuilder n({4});
  const Expr three = n.constant_int(DType::i64, 3), i = n.index(0);
  EXPECT_EQ((three * 5.0 - 1).id, n.constant_int(DType::i64, 14).id);
  EXPECT_EQ(n.binary(ExprOp::less, three, n.constant_int(DType::i64, 4)).id, n.constant_int(DType::boolean, 1).id);
  EXPECT_EQ(n.cast(n.constant_int(DType::i64, 300), DType::u8).id, n.constant_int(DType::u8, 255).id);
  EXPECT_EQ((i + 0).id, i.id);
  EXPECT_EQ((i * 1).id, i.id);
  const Expr x = n.constant(DType::f32, 1);
  EXPECT_NE((x + 1).id, n.constant(DType::f32, 2).id);
}

TEST(NestBuilder, PlainIndicesPassThroughAndOthersAreIndirect) {
  const Dim size = Dim::symbol("N");
  NestBuilder n({size, 5});
  const Type type{DType::f32, {size, 5, 7}};
  const Expr i = n.index(0), j = n.index(1);
  n.store(1, n.load_at(0, type, {i, j + 1, n.constant_int(DType::i64, 6)}));
  const Nest nest = n.finish("");
  ASSERT_EQ(nest.accesses.size(), 1u);
  const Access& access = nest.accesses[0];
  ASSERT_EQ(access.indirect.size(), 1u);
  EXPECT_EQ(access.map.rank_in(), 3);
  EXPECT_EQ(access.map.extent_in(2), Dim(5));
  EXPECT_EQ(str(access.map), "[N,5,5] -> [$0,$2,$3] with $3=6");
}

TEST(NestBuilder, BroadcastAxesOfOneAreFrozen) {
  const Dim size = Dim::symbol("N");
  NestBuilder n({2, size, 3, 9}, 1);  // the last coordinate is reduced
  n.store(1, n.load_broadcast(0, {DType::f32, {size, 1}}));
  EXPECT_EQ(str(n.finish("").accesses[0].map), "[2,N,3,9] -> [$1,$4] with $4=0");
}

TEST(NestBuilder, ClassifiesBySumsOfProducts) {
  const Map rows = Map::identity({Dim(2), Dim(3)});
  const auto kind = [&](ReduceOp op, bool product) {
    NestBuilder n({2, 3}, 1);
    const Expr a = n.load(0, DType::f32, rows), b = n.load(1, DType::f32, rows);
    n.store(2, n.reduce(op, product ? a * b : a + b, DType::f32));
    return classify(n.finish(""));
  };
  EXPECT_EQ(kind(ReduceOp::sum, true), NestKind::contract);
  EXPECT_EQ(kind(ReduceOp::sum, false), NestKind::reduce);
  EXPECT_EQ(kind(ReduceOp::max, true), NestKind::reduce);
}

TEST(Program, TellsWhatPatternsReadWriteAndMention) {
  NestBuilder n({Dim::symbol("N"), 2});
  const Expr a = n.load(3, DType::f32, Map::identity({Dim::symbol("N"), Dim(2)}));
  n.store(5, a + n.load(1, DType::f32, Map::identity({Dim::symbol("M"), Dim(2)}).sliced(0, 0, 1, Dim::symbol("N"))));
  const Pattern pattern = n.finish("");
  EXPECT_EQ(reads(pattern), (std::vector<TensorId>{3, 1}));
  EXPECT_EQ(writes(pattern), std::vector<TensorId>{5});
  EXPECT_EQ(symbols_of(pattern), (std::vector<std::string>{"N"}));
  EXPECT_EQ(symbols_of(Require{"", Dim::symbol("B"), Dim::symbol("A") * 2, ""}), (std::vector<std::string>{"A", "B"}));
}

/// A nest y = x + x that `spoil` breaks.
template <class F>
std::string broken(F&& spoil) {
  Example e;
  const TensorId x = e.input(floats({2}, {1, 2})), y = e.output({DType::f32, {2}});
  NestBuilder n({2});
  const Expr v = n.load(x, DType::f32, Map::identity({Dim(2)}));
  n.store(y, v + v);
  Nest nest = n.finish("sum");
  spoil(e.program, nest);
  e.add(nest);
  return error_of(e, ErrorKind::internal);
}

TEST(Verify, NamesThePatternAndTheRule) {
  EXPECT_EQ(broken([](Program&, Nest&) {}), "no error");
  EXPECT_EQ(broken([](Program& p, Nest&) { p.tensors[0].type.dtype = DType::i32; }), "internal error: pattern 'sum': a load has the tensor's dtype");
  EXPECT_EQ(broken([](Program&, Nest& n) { n.nodes[1].args = {1, 0}; }), "internal error: pattern 'sum': operands come before their users");
  EXPECT_EQ(broken([](Program&, Nest& n) { n.nodes[1].args = {0}; }), "internal error: pattern 'sum': an operation has its number of operands");
  EXPECT_EQ(broken([](Program&, Nest& n) { n.outputs.clear(); }), "internal error: pattern 'sum': something is stored");
  EXPECT_EQ(broken([](Program&, Nest& n) { n.accesses[0].tensor = 9; }), "internal error: pattern 'sum': tensors exist");
  EXPECT_EQ(broken([](Program&, Nest& n) { n.accesses[0].map = Map::identity({Dim(1)}).padded(0, 0, 1); }),
            "internal error: pattern 'sum': an access that may be invalid has a fill");
  EXPECT_EQ(broken([](Program& p, Nest&) { p.inputs.clear(); }), "internal error: program '': tensor 'in0' is read before it is written");
}

}  // namespace
}  // namespace tilewright::pattern
