#include "schedule/schedule.h"

#include <gtest/gtest.h>

#include "pattern/build.h"
#include "pattern/interpreter.h"
#include "schedule/fuse.h"
#include "schedule/place.h"

namespace tilewright::schedule {
namespace {

using pattern::Expr;
using pattern::ExprOp;
using pattern::Map;
using pattern::Nest;
using pattern::NestBuilder;
using pattern::NestKind;
using pattern::Program;
using pattern::ReduceOp;

/// A program written as calls, all f32.
struct Writer {
  Program program;

  int input(Dims dims) {
    const int id = program.add_tensor({DType::f32, std::move(dims)}, "x" + std::to_string(program.inputs.size()));
    program.inputs.push_back(id);
    return id;
  }
  int constant(std::vector<int64_t> dims) {
    const auto tensor = std::make_shared<Tensor>(DType::f32, dims);
    return program.add_tensor({DType::f32, Dims(dims.begin(), dims.end())}, "w", tensor);
  }
  const Dims& dims(int id) const { return program.tensor(id).type.dims; }

  int store(NestBuilder& n, Expr value, const std::string& name, const std::optional<Dims>& as = {}) {
    const int id = program.add_tensor({value.dtype(), as.value_or(n.kept())}, name);
    n.store(id, value);
    program.patterns.push_back(n.finish(name));
    return id;
  }
  Expr load(NestBuilder& n, int id) { return n.load_broadcast(id, program.tensor(id).type); }

  template <class F>
  int map(const std::string& name, const std::vector<int>& ids, F&& f) {
    NestBuilder n(dims(ids[0]));
    std::vector<Expr> values;
    for (const int id : ids) values.push_back(load(n, id));
    return store(n, f(n, values), name);
  }
  int relu(int x) {
    return map("relu", {x}, [](NestBuilder& n, auto& v) { return n.binary(ExprOp::max, v[0], n.constant(DType::f32, 0)); });
  }
  int exp(int x) {
    return map("exp", {x}, [](NestBuilder& n, auto& v) { return n.unary(ExprOp::exp, v[0]); });
  }
  int add(int a, int b) {
    return map("add", {a, b}, [](NestBuilder&, auto& v) { return v[0] + v[1]; });
  }
  int view(const std::string& name, int x, const Map& map) {
    Dims to;
    for (int d = 0; d < map.rank_in(); ++d) to.push_back(map.extent_in(d));
    NestBuilder n(to);
    return store(n, n.load(x, DType::f32, map), name);
  }
  Map whole(int x) const { return Map::identity(std::span<const Dim>(dims(x))); }

  int matmul(int a, int b) {
    const Dim m = dims(a)[0], k = dims(a)[1], c = dims(b)[1];
    NestBuilder n({m, c, k}, 1);
    const Expr x = n.load(a, DType::f32, whole(a).inserted(1, c)), y = n.load(b, DType::f32, whole(b).transposed({1, 0}).inserted(0, m));
    return store(n, n.reduce(ReduceOp::sum, x * y, DType::f32), "matmul");
  }
  /// Over the last axis.
  int reduce(ReduceOp op, int x) {
    NestBuilder n(dims(x), 1);
    return store(n, n.reduce(op, n.load(x, DType::f32, whole(x)), DType::f32), "reduce");
  }
  /// x[…, i] combined with rows[…].
  template <class F>
  int by_row(const std::string& name, int x, int rows, F&& f) {
    NestBuilder n(dims(x));
    const Map row = whole(rows).inserted(static_cast<int>(dims(rows).size()), dims(x).back());
    return store(n, f(n, n.load(x, DType::f32, whole(x)), n.load(rows, DType::f32, row)), name);
  }
  int softmax(int x) {
    const int top = reduce(ReduceOp::max, x);
    const int e = by_row("exp", x, top, [](NestBuilder& n, Expr a, Expr b) { return n.unary(ExprOp::exp, a - b); });
    return by_row("divide", e, reduce(ReduceOp::sum, e), [](NestBuilder&, Expr a, Expr b) { return a / b; });
  }

  Block schedule(const Options& options = {}) const {
    std::set<std::string> symbols;
    for (const int id : program.inputs)
      for (const Dim& dim : program.tensor(id).type.dims) dim.collect_symbols(symbols);
    return schedule::schedule(program, {symbols.begin(), symbols.end()}, options);
  }
};

std::vector<NestKind> kinds(const Program& program) {
  std::vector<NestKind> all;
  for (const pattern::Pattern& one : program.patterns) all.push_back(pattern::classify(std::get<Nest>(one)));
  return all;
}

const Nest& nest_of(const Program& program, size_t i) { return std::get<Nest>(program.patterns.at(i)); }

TEST(FuseMaps, ChainBecomesOneMap) {
  Writer w;
  w.program.outputs = {w.relu(w.exp(w.relu(w.input({4, 8}))))};
  fuse_maps(w.program);
  ASSERT_EQ(w.program.patterns.size(), 1u);
  EXPECT_EQ(nest_of(w.program, 0).source, "relu, exp");
}

TEST(FuseMaps, MovementVanishesIntoEveryReader) {
  Writer w;
  const int x = w.input({4, 8});
  const int t = w.view("transpose", x, w.whole(x).transposed({1, 0}));
  w.program.outputs = {w.relu(t), w.exp(t)};
  fuse_maps(w.program);
  ASSERT_EQ(w.program.patterns.size(), 2u);
  EXPECT_EQ(nest_of(w.program, 0).accesses[0].tensor, x);
  EXPECT_EQ(nest_of(w.program, 1).accesses[0].tensor, x);
}

TEST(FuseMaps, PaddingOfPaddingWithTheSameValueIsOneAccess) {
  Writer w;
  const int x = w.input({6});
  NestBuilder inner({Dim(8)});
  const int a = w.store(inner, inner.load(x, DType::f32, w.whole(x).padded(0, 1, 1), {}, inner.constant(DType::f32, 0)), "pad");
  NestBuilder outer({Dim(10)});
  w.program.outputs = {w.store(outer, outer.load(a, DType::f32, w.whole(a).padded(0, 1, 1), {}, outer.constant(DType::f32, 0)), "pad again")};
  fuse_maps(w.program);
  ASSERT_EQ(w.program.patterns.size(), 1u);
  EXPECT_EQ(nest_of(w.program, 0).accesses.size(), 1u);
  EXPECT_EQ(nest_of(w.program, 0).nodes[static_cast<size_t>(nest_of(w.program, 0).outputs[0].value)].op, ExprOp::load);
}

TEST(FuseMaps, PaddedArithmeticIsSelected) {
  Writer w;
  const int x = w.input({6}), e = w.exp(x);
  NestBuilder n({Dim(8)});
  w.program.outputs = {w.store(n, n.load(e, DType::f32, w.whole(e).padded(0, 1, 1), {}, n.constant(DType::f32, 7)), "pad")};
  fuse_maps(w.program);
  ASSERT_EQ(w.program.patterns.size(), 1u);
  EXPECT_EQ(nest_of(w.program, 0).nodes[static_cast<size_t>(nest_of(w.program, 0).outputs[0].value)].op, ExprOp::select);
}

TEST(FuseMaps, DoesNotRepeatExpensiveArithmeticForSeveralReaders) {
  Writer w;
  const int e = w.exp(w.input({4, 8}));
  w.program.outputs = {w.reduce(ReduceOp::sum, e), w.reduce(ReduceOp::max, e)};
  fuse_maps(w.program);
  EXPECT_EQ(w.program.patterns.size(), 3u);
}

TEST(FuseMaps, DoesNotRepeatExpensiveArithmeticByBroadcasting) {
  Writer w;
  const int rows = w.exp(w.input({4}));
  const int x = w.input({4, 100});
  w.program.outputs = {w.by_row("scale", x, rows, [](NestBuilder&, Expr a, Expr b) { return a * b; })};
  fuse_maps(w.program);
  EXPECT_EQ(w.program.patterns.size(), 2u);
}

TEST(FuseMaps, GathersOnceForManyReads) {
  for (const bool broadcast : {false, true}) {
    Writer w;
    const int table = w.input({50}), places = w.input({4});
    NestBuilder n({Dim(4)});
    const Expr place = n.cast(n.load(places, DType::f32, w.whole(places)), DType::i64);
    const int rows = w.store(n, n.load_at(table, w.program.tensor(table).type, {place}), "gather");
    w.program.outputs = {broadcast ? w.by_row("scale", w.input({4, 100}), rows, [](NestBuilder&, Expr a, Expr b) { return a * b; }) : w.exp(rows)};
    fuse_maps(w.program);
    EXPECT_EQ(w.program.patterns.size(), broadcast ? 2u : 1u);
  }
}

TEST(FuseMaps, DoesNotPutArithmeticIntoTheOperandOfAProduct) {
  Writer w;
  w.program.outputs = {w.matmul(w.relu(w.input({16, 16})), w.input({16, 16}))};
  fuse_maps(w.program);
  EXPECT_EQ(kinds(w.program), (std::vector{NestKind::map, NestKind::contract}));
}

TEST(FuseMaps, ProductTakesTransposedOperand) {
  Writer w;
  const int x = w.input({16, 8});
  w.program.outputs = {w.matmul(w.view("transpose", x, w.whole(x).transposed({1, 0})), w.input({16, 4}))};
  fuse_maps(w.program);
  EXPECT_EQ(kinds(w.program), (std::vector{NestKind::contract}));
}

TEST(FuseMaps, ProductTakesAnOperandThatSeveralMatricesShare) {
  Writer w;
  const int x = w.input({8, 16, 32}), y = w.input({2, 32, 24});  // four of x's matrices meet one of y's
  const Dims joined = {8, 32, 24};
  const int repeated = w.view("repeat", y, w.whole(y).inserted(1, 4).reshaped(std::span<const Dim>(joined)));
  NestBuilder n({8, 16, 24, 32}, 1);
  const Expr a = n.load(x, DType::f32, w.whole(x).inserted(2, 24)), b = n.load(repeated, DType::f32, w.whole(repeated).transposed({0, 2, 1}).inserted(1, 16));
  w.program.outputs = {w.store(n, n.reduce(ReduceOp::sum, a * b, DType::f32), "products")};
  fuse_maps(w.program);
  EXPECT_EQ(kinds(w.program), (std::vector{NestKind::contract}));
}

TEST(FuseMaps, ProductDoesNotTakeRowsWhoseElementsLieUnevenly) {
  Writer w;
  const int x = w.input({16, 4, 2, 12});  // flattened with channels first
  const Dims flat = {16, 96};
  const int rows = w.view("flatten", x, w.whole(x).transposed({0, 3, 1, 2}).reshaped(std::span<const Dim>(flat)));
  w.program.outputs = {w.matmul(rows, w.input({96, 10}))};
  fuse_maps(w.program);
  EXPECT_EQ(kinds(w.program), (std::vector{NestKind::map, NestKind::contract}));
}

TEST(FuseMaps, KeepsResultsOfTheModel) {
  Writer w;
  const int a = w.relu(w.input({4}));
  w.program.outputs = {a, w.exp(a)};
  fuse_maps(w.program);
  EXPECT_EQ(w.program.patterns.size(), 2u);
}

TEST(FuseEpilogues, BiasActivationAndResidualJoinTheProduct) {
  Writer w;
  const int x = w.input({16, 16}), skip = w.input({16, 16});
  const int bias = w.constant({16});
  w.program.outputs = {w.relu(w.add(w.add(w.matmul(x, w.input({16, 16})), bias), skip))};
  fuse_maps(w.program);
  fuse_epilogues(w.program);
  ASSERT_EQ(kinds(w.program), (std::vector{NestKind::contract}));
  EXPECT_EQ(nest_of(w.program, 0).outputs[0].tensor, w.program.outputs[0]);
}

TEST(FuseEpilogues, TransposedResultIsStoredWhereItGoes) {
  Writer w;
  const int y = w.matmul(w.input({16, 8}), w.input({8, 4}));
  w.program.outputs = {w.view("transpose", y, w.whole(y).transposed({1, 0}))};
  fuse_maps(w.program);
  fuse_epilogues(w.program);
  EXPECT_EQ(kinds(w.program), (std::vector{NestKind::contract}));
}

TEST(FuseEpilogues, ProductsWriteTheirSlicesOfAConcatenation) {
  Writer w;
  const int a = w.matmul(w.input({16, 8}), w.input({8, 4})), b = w.matmul(w.input({16, 8}), w.input({8, 4}));
  const int joined = w.program.add_tensor({DType::f32, {32, 4}}, "joined");
  for (int part = 0; part < 2; ++part) {
    NestBuilder n({Dim(16), Dim(4)});
    const int from = part == 0 ? a : b;
    n.store(joined, Map::identity({Dim(32), Dim(4)}).sliced(0, part * 16, 1, 16), n.load(from, DType::f32, w.whole(from)));
    w.program.patterns.push_back(n.finish("concat"));
  }
  w.program.outputs = {joined};
  fuse_maps(w.program);
  fuse_epilogues(w.program);
  ASSERT_EQ(kinds(w.program), (std::vector{NestKind::contract, NestKind::contract}));
  EXPECT_EQ(nest_of(w.program, 0).outputs[0].tensor, joined);
  EXPECT_EQ(nest_of(w.program, 1).outputs[0].tensor, joined);
}

TEST(FuseEpilogues, DoesNotTakeInWhatReadsNeighbours) {
  Writer w;
  const int y = w.matmul(w.input({16, 8}), w.input({8, 4}));
  NestBuilder n({Dim(16), Dim(4)});
  const Expr here = n.load(y, DType::f32, w.whole(y)), there = n.load(y, DType::f32, w.whole(y).reversed(0));
  w.program.outputs = {w.store(n, here + there, "fold")};
  fuse_maps(w.program);
  fuse_epilogues(w.program);
  EXPECT_EQ(kinds(w.program), (std::vector{NestKind::contract, NestKind::map}));
}

TEST(FuseEpilogues, StoresBothWhenOthersReadTheProductToo) {
  Writer w;
  const int y = w.matmul(w.input({16, 16}), w.input({16, 16}));
  w.program.outputs = {w.exp(y), w.matmul(y, w.input({16, 16}))};
  fuse_maps(w.program);
  fuse_epilogues(w.program);
  ASSERT_EQ(kinds(w.program), (std::vector{NestKind::contract, NestKind::contract}));
  EXPECT_EQ(nest_of(w.program, 0).outputs.size(), 2u);
}

/// x rounded to bf16, transposed if asked for, times weights of bf16; the sum in f32.
struct Rounded : Writer {
  int x, rounded, result;
  explicit Rounded(bool second_reader, const Dim& rows = Dim::symbol("N")) {
    x = input({rows, 64});
    rounded = map("cast", {x}, [](NestBuilder& n, auto& v) { return n.cast(v[0], DType::bf16); });
    const auto weights = std::make_shared<Tensor>(DType::bf16, std::vector<int64_t>{64, 32});
    const int w = program.add_tensor({DType::bf16, {64, 32}}, "w", weights);
    NestBuilder n({dims(x)[0], 32, 64}, 1);
    const Expr a = n.load(rounded, DType::bf16, whole(rounded).inserted(1, 32)),
               b = n.load(w, DType::bf16, whole(w).transposed({1, 0}).inserted(0, dims(x)[0]));
    result = store(n, n.reduce(ReduceOp::sum, n.cast(a, DType::f32) * n.cast(b, DType::f32), DType::f32), "matmul");
    program.outputs = {result};
    if (second_reader) program.outputs.push_back(map("neg", {rounded}, [](NestBuilder& m, auto& v) { return m.unary(ExprOp::neg, v[0]); }));
  }
};

TEST(DropRoundings, AProductReadsAnInputOfTheModelAsItIs) {
  Rounded w(false);
  drop_roundings(w.program);
  pattern::verify(w.program);
  EXPECT_EQ(kinds(w.program), std::vector{NestKind::contract});
  std::vector<DType> operands;
  for (const pattern::Access& access : nest_of(w.program, 0).accesses) operands.push_back(w.program.tensor(access.tensor).type.dtype);
  EXPECT_EQ(operands, (std::vector{DType::f32, DType::bf16}));
}

TEST(DropRoundings, RowsOfBfloatsStayForMachinesThatMultiplyThem) {
  Rounded rows(false);
  drop_roundings(rows.program, BfloatsStay::rows);
  EXPECT_EQ(kinds(rows.program), (std::vector{NestKind::map, NestKind::contract}));
  Rounded row(false, 1);
  drop_roundings(row.program, BfloatsStay::rows);
  EXPECT_EQ(kinds(row.program), std::vector{NestKind::contract});
  Rounded one(false, 1);
  drop_roundings(one.program, BfloatsStay::all);
  EXPECT_EQ(kinds(one.program), (std::vector{NestKind::map, NestKind::contract}));
}

TEST(DropRoundings, WhatOthersReadRoundedStays) {
  Rounded w(true);
  drop_roundings(w.program);
  EXPECT_EQ(kinds(w.program), (std::vector{NestKind::map, NestKind::contract, NestKind::map}));
}

TEST(DropRoundings, RoundingsOfAnotherPatternsResultBecomeItsEpilogueBefore) {
  Writer w;
  const int x = w.input({Dim::symbol("N"), 64}), p = w.matmul(x, w.constant({64, 64}));
  w.program.outputs = {w.map("cast", {p}, [](NestBuilder& n, auto& v) { return n.cast(v[0], DType::bf16); })};
  fuse_epilogues(w.program);
  drop_roundings(w.program);
  EXPECT_EQ(kinds(w.program), std::vector{NestKind::contract});
  EXPECT_EQ(w.program.tensor(nest_of(w.program, 0).outputs[0].tensor).type.dtype, DType::bf16);
}

std::string explained(Writer& w, int result, const Options& options = {}) {
  w.program.outputs = {result};
  return explain(w.schedule(options));
}
bool tells(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(Explain, SaysWhyAFusionLeftATensorInMemory) {
  Writer mapped;
  EXPECT_TRUE(tells(explained(mapped, mapped.matmul(mapped.relu(mapped.input({16, 16})), mapped.input({16, 16}))), "fuse_maps: a product reads it"));

  Writer folded;
  const int y = folded.matmul(folded.input({16, 8}), folded.input({8, 4}));
  NestBuilder n({Dim(16), Dim(4)});
  const Expr here = n.load(y, DType::f32, folded.whole(y)), there = n.load(y, DType::f32, folded.whole(y).reversed(0));
  EXPECT_TRUE(tells(explained(folded, folded.store(n, here + there, "fold")), "fuse_epilogues: the map that reads it does not read each element once"));

  for (const bool chains : {false, true}) {
    Writer twice;
    Options options;
    if (chains) options.chains_depthwise = [](const auto&, const auto&) { return false; };
    const std::string text = explained(twice, twice.matmul(twice.matmul(twice.input({16, 8}), twice.input({8, 4})), twice.input({4, 4})), options);
    EXPECT_TRUE(tells(text, chains ? "fuse_depthwise: neither product is a depthwise convolution" : "fuse_depthwise: switched off")) << text;
  }

  Writer rows;
  const int x = rows.input({64, 32});
  EXPECT_TRUE(tells(explained(rows, rows.softmax(x), {.row_bytes = 16}), "fuse_rows: a row takes more memory"));
}

TEST(Explain, KnowsWhichReaderAndWhichPass) {
  Writer off;
  const int y = off.matmul(off.input({16, 16}), off.input({16, 16}));
  const std::string text = explained(off, off.relu(y), {.fuse_epilogues = false});
  EXPECT_TRUE(tells(text, "fuse_epilogues: switched off")) << text;

  Writer norm;
  const int e = norm.softmax(norm.input({64, 32}));
  EXPECT_TRUE(tells(explained(norm, norm.matmul(e, norm.input({32, 8}))), "fuse_rows: what reads it is a product"));

  // Two kernels write their slices of what a third one reads.
  Writer parts;
  const int joined = parts.program.add_tensor({DType::f32, {32, 4}}, "joined");
  for (int part = 0; part < 2; ++part) {
    const int from = parts.matmul(parts.input({16, 8}), parts.input({8, 4}));
    NestBuilder n({Dim(16), Dim(4)});
    n.store(joined, Map::identity({Dim(32), Dim(4)}).sliced(0, part * 16, 1, 16), n.load(from, DType::f32, parts.whole(from)));
    parts.program.patterns.push_back(n.finish("concat"));
  }
  const std::string both = explained(parts, parts.matmul(joined, parts.input({4, 8})));
  EXPECT_TRUE(tells(both, "of kernel_0 from memory") && tells(both, "of kernel_1 from memory")) << both;
}

TEST(Explain, TellsEachReaderItsOwnReason) {
  Writer w;
  const int e = w.map("exp", {w.input({16, 16})}, [](NestBuilder& n, auto& v) { return n.unary(pattern::ExprOp::exp, v[0]); });
  const int product = w.matmul(e, w.input({16, 4}));
  NestBuilder n({Dim(8), Dim(16), Dim(16)});
  const int repeated = w.store(n, n.load(e, DType::f32, w.whole(e).inserted(0, 8)), "repeat");
  w.program.outputs = {product, repeated};
  const std::string text = explain(w.schedule());
  const size_t second = text.find("kernel_2");
  ASSERT_NE(second, std::string::npos) << text;
  const std::string of_product = text.substr(0, second), of_map = text.substr(second);
  EXPECT_TRUE(tells(of_product, "fuse_maps: a product reads it") && !tells(of_product, "several times")) << text;
  EXPECT_TRUE(tells(of_map, "fuse_maps: its arithmetic would be done several times") && !tells(of_map, "a product reads it")) << text;
}

TEST(Explain, TellsWhatAProductLacksOfAttention) {
  const auto text_of = [](auto&& mixture_and_others) {
    Writer w;
    const int scores = w.matmul(w.input({16, 8}), w.input({8, 32}));
    Options options;
    options.streams_attention = [](const auto&, const auto&) { return true; };
    w.program.outputs = mixture_and_others(w, scores);
    return explain(w.schedule(options));
  };
  const auto says = [](const std::string& text, const char* why) { return tells(text, (std::string("fuse_attention: ") + why).c_str()); };
  using Ids = std::vector<pattern::TensorId>;
  const std::string whole = text_of([](Writer& w, int scores) { return Ids{w.matmul(w.softmax(scores), w.input({32, 4}))}; });
  EXPECT_FALSE(tells(whole, "fuse_attention")) << whole;
  const std::string changed = text_of([](Writer& w, int scores) {
    const int halves = w.constant({16, 32});
    return Ids{w.matmul(w.add(w.softmax(scores), halves), w.input({32, 4}))};
  });
  EXPECT_TRUE(says(changed, "more is done to the softmax's results than to clear rows")) << changed;
  const std::string kept = text_of([](Writer& w, int scores) {
    const int weights = w.softmax(scores);
    return Ids{w.matmul(weights, w.input({32, 4})), weights};
  });
  EXPECT_TRUE(says(kept, "the softmax's results are a result of the model")) << kept;
  const std::string twice = text_of([](Writer& w, int scores) {
    return Ids{w.matmul(w.softmax(scores), w.input({32, 4})), w.matmul(scores, w.input({32, 4}))};
  });
  EXPECT_TRUE(says(twice, "more than a softmax reads the scores")) << twice;
  const std::string largest = text_of([](Writer& w, int scores) { return Ids{w.reduce(ReduceOp::max, scores)}; });
  EXPECT_FALSE(tells(largest, "fuse_attention")) << largest;
}

TEST(Explain, SaysNothingOfWhatWasFused) {
  Writer w;
  const int x = w.input({16, 16});
  const std::string chain = explained(w, w.relu(w.add(w.matmul(x, w.input({16, 16})), w.constant({16}))));
  EXPECT_TRUE(tells(chain, "1 kernels with 1 products")) << chain;
  EXPECT_FALSE(tells(chain, "from memory")) << chain;

  Writer rows;
  const std::string softmax = explained(rows, rows.softmax(rows.input({64, 32})));
  EXPECT_TRUE(tells(softmax, "pass from stage to stage")) << softmax;
  EXPECT_FALSE(tells(softmax, "from memory")) << softmax;
}

TEST(FuseMaps, DoesNotTurnWindowsChannelsLast) {
  Writer w;
  const int x = w.input({10, 10, 16}), weights = w.input({8, 16, 3, 3});
  const int t = w.view("transpose", x, w.whole(x).transposed({2, 0, 1}));
  NestBuilder n({Dim(8), Dim(8), Dim(8), Dim(16), Dim(3), Dim(3)}, 3);
  Map windows = w.whole(t).windows(2, 8, 3, 1, 1).windows(1, 8, 3, 1, 1).transposed({1, 3, 0, 2, 4}).inserted(0, 8);
  Map filter = w.whole(weights).inserted(1, 8).inserted(2, 8);
  const Expr product = n.load(t, DType::f32, windows) * n.load(weights, DType::f32, filter);
  w.program.outputs = {w.store(n, n.reduce(ReduceOp::sum, product, DType::f32), "conv")};
  fuse_maps(w.program);
  EXPECT_EQ(kinds(w.program), (std::vector{NestKind::map, NestKind::contract}));
}

/// y[m, i] = Σ c, r  x[c, (i - r) / 2] · w[m, c, r], where 2 divides i - r.
Program transposed_convolution(int64_t taps) {
  Writer w;
  const int x = w.input({16, 20}), weights = w.input({8, 16, taps});
  const int64_t length = 38 + taps;
  const Map spread =
      w.whole(x).undilated(1, 2, 39).padded(1, taps - 1, taps - 1).windows(1, length, taps, 1, 1).reversed(2).transposed({1, 0, 2}).inserted(0, 8);
  NestBuilder n({Dim(8), Dim(length), Dim(16), Dim(taps)}, 2);
  const Expr product = n.load(x, DType::f32, spread, {}, n.constant(DType::f32, 0)) * n.load(weights, DType::f32, w.whole(weights).inserted(1, length));
  w.program.outputs = {w.store(n, n.reduce(ReduceOp::sum, product, DType::f32) + 1.0, "transposed convolution")};
  return w.program;
}

TEST(SplitPhases, StrideBecomesPhasesWithoutHoles) {
  for (const int64_t taps : {1, 2, 3, 5}) {
    Program program = transposed_convolution(taps);
    std::vector<Tensor> inputs;
    for (const int id : program.inputs) {
      std::vector<int64_t> dims;
      for (const Dim& dim : program.tensor(id).type.dims) dims.push_back(dim.constant());
      Tensor tensor(DType::f32, dims);
      for (int64_t i = 0; i < tensor.element_count(); ++i) tensor.set_float(i, static_cast<double>(i * 37 % 11) - 5);
      inputs.push_back(tensor);
    }
    const std::vector<Tensor> before = pattern::interpret(program, inputs);
    split_phases(program);
    EXPECT_EQ(program.patterns.size(), 2u);
    for (const pattern::Pattern& phase : program.patterns)
      for (const pattern::Access& access : taps > 1 ? std::get<Nest>(phase).accesses : std::vector<pattern::Access>{})
        for (const auto& condition : access.map.conditions()) EXPECT_NE(condition.kind, tile::Condition<Dim>::divisible);
    const std::vector<Tensor> after = pattern::interpret(program, inputs);
    EXPECT_TRUE(before[0].same_bytes(after[0])) << taps;  // small integers: sums are exact
  }
}

TEST(SplitPhases, TakesNoLongerForMoreTaps) {
  Program program = transposed_convolution(int64_t{1} << 40);
  split_phases(program);
  ASSERT_EQ(program.patterns.size(), 2u);
  for (const pattern::Pattern& phase : program.patterns) EXPECT_EQ(std::get<Nest>(phase).space.back().as_constant(), int64_t{1} << 39);
}

/// 3 x 3 convolutions of [channels, size, size], a map before and behind each.
Writer convolutions(int count, int64_t channels, int64_t size) {
  Writer w;
  const auto convolution = [&](int x) {
    const int64_t out = size - 2;
    size = out;
    const int weights = w.constant({channels, channels, 3, 3});
    auto& values = const_cast<Tensor&>(*w.program.tensors[static_cast<size_t>(weights)].constant);
    for (int64_t i = 0; i < values.element_count(); ++i) values.set_float(i, static_cast<double>(i * 37 % 11 - 5));
    NestBuilder n({Dim(channels), Dim(out), Dim(out), Dim(channels), Dim(3), Dim(3)}, 3);
    const Map windows = w.whole(x).windows(2, out, 3, 1, 1).windows(1, out, 3, 1, 1).transposed({1, 3, 0, 2, 4}).inserted(0, channels);
    const Map filter = w.whole(weights).inserted(1, out).inserted(2, out);
    return w.store(n, n.reduce(ReduceOp::sum, n.load(x, DType::f32, windows) * n.load(weights, DType::f32, filter), DType::f32), "conv");
  };
  const auto doubled = [&](int x) { return w.map("doubled", {x}, [](NestBuilder&, auto& v) { return v[0] + v[0]; }); };
  int x = doubled(w.input({channels, size, size}));
  for (int i = 0; i < count; ++i) x = doubled(convolution(x));
  w.program.outputs = {x};
  return w;
}

TEST(ChooseLayouts, PutsChannelsLastBetweenProducts) {
  Program program = convolutions(2, 64, 20).program;
  Tensor x(DType::f32, {64, 20, 20});
  for (int64_t i = 0; i < x.element_count(); ++i) x.set_float(i, static_cast<double>(i * 7 % 5 - 2));
  const std::vector<Tensor> before = pattern::interpret(program, {x});
  choose_layouts(program);
  pattern::verify(program);
  const auto dims_of = [&](size_t pattern) { return program.tensor(nest_of(program, pattern).outputs[0].tensor).type.dims; };
  EXPECT_EQ(dims_of(0), (Dims{20, 20, 64}));
  EXPECT_EQ(dims_of(1), (Dims{18, 18, 64}));
  EXPECT_EQ(dims_of(2), (Dims{18, 18, 64}));
  EXPECT_EQ(dims_of(4), (Dims{64, 16, 16}));                               // the model's result stays as it is
  EXPECT_TRUE(before[0].same_bytes(pattern::interpret(program, {x})[0]));  // small integers: sums are exact
}

TEST(ChooseLayouts, LeavesTensorsThatWouldCostMoreToMove) {
  Program program = convolutions(1, 2, 20).program;
  const std::string before = pattern::print(program);
  choose_layouts(program);
  EXPECT_EQ(pattern::print(program), before);
}

/// Keys, a product with weights whose columns are split into 4 heads of 16 elements and stored [heads, elements, keys], meet queries; or an
/// element-by-element reader.
Program keys_of_heads(bool meet_queries, DType of_keys = DType::f32) {
  const int64_t heads = 4, depth = 16, keys = 40, in = 64;
  Writer w;
  const int x = w.input({keys, in}), queries = w.input({heads, keys, depth}), weights = w.constant({in, heads * depth});
  auto& values = const_cast<Tensor&>(*w.program.tensors[static_cast<size_t>(weights)].constant);
  for (int64_t i = 0; i < values.element_count(); ++i) values.set_float(i, static_cast<double>(i * 37 % 11 - 5));
  const int stored = w.program.add_tensor({of_keys, {heads, depth, keys}}, "keys");
  NestBuilder product({Dim(keys), Dim(heads * depth), Dim(in)}, 1);
  const auto term = product.load(x, DType::f32, w.whole(x).inserted(1, heads * depth)) *
                    product.load(weights, DType::f32, w.whole(weights).transposed({1, 0}).inserted(0, keys));
  product.store(stored, w.whole(stored).transposed({2, 0, 1}).reshaped({keys, heads * depth}),
                product.cast(product.reduce(ReduceOp::sum, term, DType::f32), of_keys));
  w.program.patterns.push_back(product.finish("keys"));
  // The scores' mask moves with keys alone, as one axis of the keys does.
  const int mask = w.relu(w.input({1, 1, keys}));
  if (meet_queries) {
    NestBuilder scores({Dim(heads), Dim(keys), Dim(keys), Dim(depth)}, 1);
    const auto each = scores.load(queries, DType::f32, w.whole(queries).inserted(2, keys)) *
                      scores.cast(scores.load(stored, of_keys, w.whole(stored).transposed({0, 2, 1}).inserted(1, keys)), DType::f32);
    const auto masked = scores.reduce(ReduceOp::sum, each, DType::f32) +
                        scores.load(mask, DType::f32, w.whole(mask).reshaped({keys}).inserted(0, heads).inserted(1, keys).inserted(3, depth));
    w.program.outputs = {w.relu(w.relu(w.store(scores, masked, "scores")))};
  } else {
    w.program.outputs = {w.map("doubled", {stored}, [](NestBuilder&, auto& v) { return v[0] + v[0]; })};
  }
  return w.program;
}

TEST(ChooseLayouts, KeepsElementsOfAHeadTogether) {
  for (const DType of_keys : {DType::f32, DType::bf16}) {
    Program program = keys_of_heads(true, of_keys);
    Tensor x(DType::f32, {40, 64}), queries(DType::f32, {4, 40, 16}), mask(DType::f32, {1, 1, 40});
    for (int64_t i = 0; i < x.element_count(); ++i) x.set_float(i, static_cast<double>(i * 7 % 5 - 2));
    for (int64_t i = 0; i < queries.element_count(); ++i) queries.set_float(i, static_cast<double>(i * 5 % 7 - 3));
    const std::vector<Tensor> before = pattern::interpret(program, {x, queries, mask});
    choose_layouts(program);
    pattern::verify(program);
    EXPECT_EQ(program.tensor(nest_of(program, 0).outputs[0].tensor).type.dims, (Dims{4, 40, 16}));
    const TensorId scores = nest_of(program, 2).outputs[0].tensor;
    EXPECT_TRUE(nest_of(program, 2).outputs[0].map == Map::identity(std::span<const Dim>(program.tensor(scores).type.dims)));  // as it was
    EXPECT_TRUE(before[0].same_bytes(pattern::interpret(program, {x, queries, mask})[0]));                                     // small integers: sums are exact
  }
}

TEST(ChooseLayouts, LeavesSplitColumnsToOtherReaders) {
  Program program = keys_of_heads(false);
  const std::string before = pattern::print(program);
  choose_layouts(program);
  EXPECT_EQ(pattern::print(program), before);
}

TEST(FuseRows, SoftmaxIsOneKernel) {
  Writer w;
  w.program.outputs = {w.softmax(w.input({8, 100}))};
  const Block block = w.schedule();
  ASSERT_EQ(block.kernels.size(), 1u);
  EXPECT_EQ(block.kernels[0].stages.size(), 4u);
  EXPECT_EQ(block.kernels[0].shared_rank, 1);
  EXPECT_EQ(block.kernels[0].row_local.size(), 3u);
  EXPECT_EQ(block.kernels[0].tensors.size(), 2u);
}

TEST(FuseRows, ABatchOfOneMakesNoDifference) {
  Writer w;
  w.program.outputs = {w.softmax(w.input({1, 8, 64}))};
  const Block block = w.schedule();
  ASSERT_EQ(block.kernels.size(), 1u);
  EXPECT_EQ(block.kernels[0].shared_rank, 2);
}

TEST(FuseRows, LeavesReductionsAcrossRowsAlone) {
  Writer w;
  const int x = w.input({8, 100});
  w.program.outputs = {w.softmax(w.view("transpose", x, w.whole(x).transposed({1, 0})))};
  const Block block = w.schedule();
  EXPECT_GT(block.kernels.size(), 1u);
}

TEST(FuseRows, CanBeSwitchedOff) {
  Writer w;
  w.program.outputs = {w.softmax(w.input({8, 100}))};
  Options options;
  options.fuse_rows = false;
  EXPECT_EQ(w.schedule(options).kernels.size(), 4u);
}

TEST(Place, ReshapeIsAnAlias) {
  Writer w;
  const int x = w.relu(w.input({4, 8})), y = w.view("reshape", x, w.whole(x).reshaped({32}));
  NestBuilder n({Dim(32)}, 1);
  w.program.outputs = {w.store(n, n.reduce(ReduceOp::sum, n.load(y, DType::f32, w.whole(y)), DType::f32), "sum")};
  Options options;
  options.fuse_maps = false;
  const Block block = w.schedule(options);
  EXPECT_EQ(block.kernels.size(), 2u);
  EXPECT_EQ(block.placements[static_cast<size_t>(y)].storage, Storage::alias);
}

TEST(Place, ReshapedResultSharesTheMemoryOfTheResult) {
  Writer w;
  const int x = w.relu(w.input({4, 8}));
  w.program.outputs = {w.view("reshape", x, w.whole(x).reshaped({32}))};
  Options options;
  options.fuse_maps = false;
  const Block block = w.schedule(options);
  ASSERT_EQ(block.steps.size(), 1u);
  EXPECT_EQ(block.placements[static_cast<size_t>(x)].alias_of, w.program.outputs[0]);
}

TEST(Place, ResultThatIsAnInputIsCopied) {
  Writer w;
  const int x = w.input({4, 8});
  w.program.outputs = {x, w.view("reshape", x, w.whole(x).reshaped({32})), x};
  const Block block = w.schedule();
  EXPECT_EQ(block.kernels.size(), 0u);
  EXPECT_EQ(block.steps.size(), 3u);
  for (const Step& step : block.steps) EXPECT_TRUE(std::holds_alternative<CopyTensor>(step));
  EXPECT_NE(block.program.outputs[0], block.program.outputs[2]);
}

TEST(Place, MapWritesOverWhatNobodyReadsAnyMore) {
  Writer w;
  const int a = w.exp(w.input({4, 8})), b = w.relu(a);
  w.program.outputs = {w.reduce(ReduceOp::sum, b)};
  Options options;
  options.fuse_maps = false;
  const Block block = w.schedule(options);
  EXPECT_EQ(block.placements[static_cast<size_t>(b)].alias_of, a);
  EXPECT_EQ(block.placements[static_cast<size_t>(a)].last_step, 2);
}

TEST(Place, DoesNotWriteOverWhatIsReadElsewhere) {
  Writer w;
  const int a = w.exp(w.input({4, 8}));
  NestBuilder n({Dim(4), Dim(8)});
  const int b = w.store(n, n.load(a, DType::f32, w.whole(a)) + n.load(a, DType::f32, w.whole(a).reversed(1)), "fold");
  w.program.outputs = {w.reduce(ReduceOp::sum, b)};
  Options options;
  options.fuse_maps = false;
  const Block block = w.schedule(options);
  EXPECT_EQ(block.placements[static_cast<size_t>(b)].storage, Storage::arena);
}

TEST(Place, SizesLearntOnTheWayAreDynamic) {
  Writer w;
  const int x = w.input({4});
  const int count = w.program.add_tensor({DType::i64, {}}, "count"), positions = w.program.add_tensor({DType::i64, {Dim(4)}}, "positions");
  w.program.patterns.push_back(pattern::Select{pattern::Select::Kind::compress, "compress", {x}, {positions}, count, {}});
  w.program.patterns.push_back(pattern::Bind{"bind", count, {"K"}});
  NestBuilder n({Dim::symbol("K")});
  const int kept = w.store(n, n.load(x, DType::f32, w.whole(x).sliced(0, 0, 1, Dim::symbol("K"))) * 2.0, "kept");
  NestBuilder sum({Dim::symbol("K")}, 1);
  w.program.outputs = {w.store(sum, sum.reduce(ReduceOp::sum, sum.load(kept, DType::f32, w.whole(kept)), DType::f32), "sum")};
  Options options;
  options.fuse_maps = false;
  const Block block = w.schedule(options);
  EXPECT_EQ(block.placements[static_cast<size_t>(kept)].storage, Storage::dynamic);
  EXPECT_EQ(block.placements[static_cast<size_t>(positions)].storage, Storage::arena);
}

}  // namespace
}  // namespace tilewright::schedule
