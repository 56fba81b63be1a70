#include "pattern/text.h"

#include <gtest/gtest.h>

#include "pattern/testing.h"

namespace tilewright::pattern {
namespace {

/// A program with every pattern in it.
Program everything() {
  Program p;
  const Dim n = Dim::symbol("N"), k = Dim::symbol("K.1");
  const TensorId x = p.add_tensor({DType::f32, {n, 4}}, "x \"quoted\"\n"),
                 i = p.add_tensor({DType::i64, {3}}, "105", std::make_shared<Tensor>(integers(DType::i64, {3}, {1, -2, 0})));
  const TensorId y = p.add_tensor({DType::f32, {(n + 1) / 2}}, "y"), z = p.add_tensor({DType::f32, {n, 4}}, "z"),
                 count = p.add_tensor({DType::i64, {}}, "count"), flag = p.add_tensor({DType::boolean, {}}, "flag");
  const TensorId w = p.add_tensor({DType::f32, {2}}, "w", std::make_shared<Tensor>(floats({2}, {0.1, HUGE_VAL})));
  p.name = "main";
  p.inputs = {x, flag};
  p.outputs = {y};
  NestBuilder b({(n + 1) / 2, 3}, 1);
  const Expr at = b.load(i, DType::i64, Map::identity({Dim(3)}).inserted(0, (n + 1) / 2));
  const Expr v = b.load(x, DType::f32, Map::identity({n, Dim(4)}).padded(0, 0, 1).frozen(0, 1).inserted(0, (n + 1) / 2).inserted(1, 3), {at},
                        b.constant(DType::f32, -1.5));
  b.store(y, b.reduce(ReduceOp::max, b.select(b.binary(ExprOp::less, b.index(1), b.size(n)), v, b.constant(DType::f32, HUGE_VAL)), DType::f32));
  p.patterns.push_back(b.finish("Softmax_3;max"));
  Scatter s;
  s.source = "Scatter";
  s.initial = x;
  s.output = z;
  s.space = {3};
  s.accesses = {{i, Map::identity({Dim(3)}), {}, {}}};
  s.nodes = {{ExprOp::load, DType::i64, {}, 0, 0, 0}, {ExprOp::cast, DType::f32, {0}, 0, 0, 0}};
  s.map = Map::identity({n, Dim(4)}).frozen(1, 2).inserted(0, 3);
  s.indirect = {0};
  s.value = 1;
  s.combine = Scatter::Combine::max;
  p.patterns.push_back(s);
  p.patterns.push_back(Cumulate{"CumSum", x, z, 1, false, true, true});
  p.patterns.push_back(Cumulate{"CumProd", x, z, 0, true, false, false});
  Select t;
  t.kind = Select::Kind::unique;
  t.inputs = {w};
  t.outputs = {w, i, i, i};
  t.count = count;
  t.ints = {-1000, 1};
  p.patterns.push_back(t);
  p.patterns.push_back(Bind{"bind", count, {"K.1"}});
  p.patterns.push_back(Require{"Reshape", n * 4, min(k, n) % 3, "sizes \"differ\""});
  auto body = std::make_shared<Program>();
  const TensorId a = body->add_tensor({DType::i64, {}}, "i"), c = body->add_tensor({DType::boolean, {}}, "c");
  body->inputs = {a, c};
  body->outputs = {c};
  p.patterns.push_back(If{"If", flag, {}, {y}, {{"B", 0, 0}}, body, body});
  p.patterns.push_back(Loop{"Loop", -1, flag, {x}, {w}, {y}, {{"B", 0, 0}}, {{"C", 0, 1}}, body});
  return p;
}

TEST(ProgramText, ReadsBackAsTheSameProgram) {
  const std::string text = print(everything());
  EXPECT_EQ(print(parse_program(text)), text);
}

TEST(ProgramText, IsReadable) {
  Example e;
  const Dim n = Dim::symbol("N");
  const TensorId x = e.input({DType::f32, {n, 64}}, floats({1, 64}, {})), y = e.output({DType::f32, {n}});
  NestBuilder b({n, 64}, 1);
  b.store(y, b.reduce(ReduceOp::max, b.load(x, DType::f32, Map::identity({n, Dim(64)})), DType::f32) * 2);
  e.add(b.finish("Softmax_3"));
  e.program.name = "main";
  EXPECT_EQ(print(e.program),
            "program \"main\" (%0\"in0\") -> (%1\"out0\")\n"
            "  tensor %0 \"in0\": f32[N,64]\n"
            "  tensor %1 \"out0\": f32[N]\n"
            "  reduce over [N] reduced [64] ; \"Softmax_3\"\n"
            "    a0 = %0\"in0\" {[N,64] -> [$0,$1]}\n"
            "    e0 = f32 load a0\n"
            "    e1 = f32 reduced r0\n"
            "    e2 = f32 constant 2\n"
            "    e3 = f32 mul(e1, e2)\n"
            "    r0 = f32 max e0\n"
            "    store %1\"out0\" {[N] -> [$0]} = e3\n"
            "end\n");
}

TEST(ProgramText, ParsedProgramsRun) {
  const Program p = parse_program(R"(program "double" (%0"x") -> (%1"y")
    tensor %0 "x": f32[N]
    tensor %1 "y": f32[N]
    map over [N] ; ""
      a0 = %0"x" {[N] -> [$0]}
      e0 = f32 load a0
      e1 = f32 add(e0, e0)
      store %1"y" {[N] -> [$0]} = e1
    end)");
  verify(p);
  EXPECT_EQ(reals_of(interpret(p, {floats({2}, {1, 2.5})})[0]), (std::vector<double>{2, 5}));
}

TEST(ProgramText, LargeConstantsAreGivenByHash) {
  Program p;
  const auto large = std::make_shared<Tensor>(random_floats({20}, 3));
  p.outputs = {p.add_tensor({DType::f32, {20}}, "w", large)};
  const std::string text = print(p);
  EXPECT_NE(text.find("= #" + hash_of(*large)), std::string::npos);
  EXPECT_TRUE(parse_program(text, {{hash_of(*large), large}}).tensors[0].constant->same_bytes(*large));
  EXPECT_THROW(parse_program(text), Error);
}

TEST(ProgramText, BrokenTextIsRefusedWithItsLine) {
  const auto error = [](const std::string& text) {
    try {
      parse_program(text);
    } catch (const Error& e) {
      return e.kind() == ErrorKind::invalid_input ? std::string(e.what()) : "another kind";
    }
    return std::string("no error");
  };
  EXPECT_EQ(error("program \"a\" () -> ()\n  spin\nend\n"), "program text, line 2: 'spin' is no pattern");
  EXPECT_EQ(error("program \"a\" (%0\"x\") -> ()\nend\n"), "program text, line 2: tensor %0 is not declared");
  EXPECT_EQ(error("program \"a\" () -> ()\n tensor %1 \"x\": f32[2]\nend"), "program text, line 2: tensor %0 comes next");
  // Every prefix of a program is refused, none crashes.
  const std::string whole = print(everything());
  for (size_t length = 0; length + 2 < whole.size(); ++length) EXPECT_NE(error(whole.substr(0, length)), "no error") << length;
}

}  // namespace
}  // namespace tilewright::pattern
