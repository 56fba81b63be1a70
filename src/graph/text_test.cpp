#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/hash.h"
#include "graph/graph.h"

namespace tilewright {
namespace {

ValueId add(Graph& graph, const std::string& name, Type type) {
  graph.values.push_back({std::move(type), name, nullptr, std::nullopt});
  return static_cast<ValueId>(graph.values.size()) - 1;
}

ValueId add(Graph& graph, const std::string& name, const Tensor& tensor) {
  const ValueId id = add(graph, name, Type{tensor.dtype(), Dims(tensor.dims().begin(), tensor.dims().end())});
  graph.value(id).constant = std::make_shared<const Tensor>(tensor);
  return id;
}

/// The constant of the text `const %"c": <declaration>`.
Tensor constant_of(const std::string& declaration) { return *parse_graph("graph \"\" () -> () { const %\"c\": " + declaration + " }").values[0].constant; }

std::string text_of(const Tensor& tensor) {
  Graph graph;
  add(graph, "c", tensor);
  return print(graph);
}

std::string error_of(const std::string& text) {
  try {
    parse_graph(text);
  } catch (const Error& e) {
    return e.kind() == ErrorKind::invalid_input ? e.what() : std::string("another kind: ") + e.what();
  }
  return "no error";
}

/// An attribute of every kind, an omitted operand, names that need care, bodies within bodies.
Graph everything() {
  Graph g;
  g.name = "main \"quoted\"";
  const Dim n = Dim::symbol("N"), k = Dim::symbol("size_s1");
  const ValueId x = add(g, "x\\\"\n%:{}", Type{DType::f32, {n, (n + 1) / 2, min(n, 4)}}), flag = add(g, "flag", Type{DType::boolean, {}}),
                c = add(g, "", Tensor::from_ints({1, -2})), y = add(g, "ÿ ; graph \"", Type{DType::f32, {k}}), s = add(g, "s", Type{DType::i64, {2, 1}}),
                z = add(g, "z", Type{DType::bf16, {}});
  g.value(s).contents = Dims{n * 2 + 1, Dim(-3)};
  g.inputs = {x, flag};
  g.outputs = {y, x, y};
  const auto outer = std::make_shared<Graph>(), inner = std::make_shared<Graph>();
  inner->name = "inner";
  const ValueId captured = add(*inner, "x", Type{DType::f32, {n}}), own = add(*inner, "own", Type{DType::f32, {n, 1}});
  inner->inputs = {captured};
  inner->outputs = {own};
  inner->nodes.push_back({"reshape", {captured}, {own}, {{"dims", Dims{n, 1}}}, {}, "r"});
  const ValueId formal = add(*outer, "x", Type{DType::f32, {n}}), last = add(*outer, "y", Type{DType::f32, {n, 1}});
  outer->inputs = {formal};
  outer->outputs = {last};
  outer->nodes.push_back({"loop", {no_value, no_value, formal}, {last}, {{"carried", int64_t{0}}}, {inner}, ""});
  g.nodes.push_back({"bind", {c}, {}, {{"symbols", std::vector<std::string>{"size_s1", ""}}}, {}, "b;\"\n"});
  g.nodes.push_back({"dims", {}, {s}, {{"sizes", Dims{n * 2 + 1, Dim(-3)}}}, {}, ""});
  g.nodes.push_back({"mixed",
                     {x, no_value, c, no_value},
                     {z},
                     {{"a", int64_t{-7}},
                      {"b", 0.1},
                      {"c", "a \"text\"\\\n"},
                      {"d", std::vector<int64_t>{}},
                      {"e", std::vector<double>{1, -HUGE_VAL, 5e-324, -0.0}},
                      {"f", DType::f8e4m3fnuz},
                      {"g", 3.0},
                      {"h", NAN}},
                     {},
                     "m"});
  g.nodes.push_back({"if", {flag, x}, {y}, {}, {outer, inner}, "i"});
  return g;
}

TEST(GraphText, ReadsBackAsTheSameGraph) {
  const Graph g = everything();
  const std::string text = print(g);
  const Graph back = parse_graph(text);
  EXPECT_EQ(print(back), text);
  ASSERT_EQ(back.nodes.size(), g.nodes.size());
  for (size_t i = 0; i < g.nodes.size(); ++i) {
    EXPECT_EQ(back.nodes[i].op, g.nodes[i].op);
    EXPECT_EQ(back.nodes[i].name, g.nodes[i].name);
    EXPECT_EQ(back.nodes[i].subgraphs.size(), g.nodes[i].subgraphs.size());
    for (const auto& [name, value] : g.nodes[i].attributes) {
      if (name == "h") continue;  // a NaN
      EXPECT_EQ(back.nodes[i].attributes.at(name), value) << name;
    }
  }
  EXPECT_TRUE(std::isnan(std::get<double>(back.nodes[2].attributes.at("h"))));
  EXPECT_TRUE(std::signbit(std::get<std::vector<double>>(back.nodes[2].attributes.at("e"))[3]));
  EXPECT_EQ(back.value(back.inputs[0]).name, g.value(g.inputs[0]).name);
  EXPECT_EQ(back.type(back.inputs[0]), g.type(g.inputs[0]));
  EXPECT_EQ(back.nodes[2].inputs[1], no_value);
  EXPECT_EQ(back.value(back.nodes[1].outputs[0]).contents, g.value(g.nodes[1].outputs[0]).contents);
}

TEST(GraphText, IsReadable) {
  Graph g;
  g.name = "main";
  const Dim n = Dim::symbol("N");
  const ValueId x = add(g, "x", Type{DType::f32, {n, 2}}), c = add(g, "c", Tensor::from_floats({1, 0.5}, {2})), y = add(g, "y", Type{DType::f32, {n, 2}});
  g.inputs = {x};
  g.outputs = {y};
  g.nodes.push_back({"add", {x, c}, {y}, {}, {}, "Add_0"});
  EXPECT_EQ(print(g),
            "graph \"main\" (%\"x\": f32[N,2]) -> (%\"y\") {\n"
            "  const %\"c\": f32[2] = {1.0, 0.5}\n"
            "  %\"y\": f32[N,2] = add(%\"x\", %\"c\") ; \"Add_0\"\n"
            "}\n");
}

TEST(GraphText, ContentsThatAreKnownMakeAConstant) {
  const Graph g = parse_graph("graph \"\" () -> (%\"s\") { %\"s\": i64[2] {3, -4} = dims() sizes=dims[\"3\", \"-4\"] ; \"\" }");
  ASSERT_TRUE(g.value(0).constant);
  EXPECT_EQ(g.value(0).constant->ints(), (std::vector<int64_t>{3, -4}));
}

TEST(ConstantText, EveryBitPatternOfNarrowTypesReadsBack) {
  for (int index = 0; index < dtype_count; ++index) {
    const auto dtype = static_cast<DType>(index);
    const int bits = size_of(dtype) > 2 ? 0 : dtype == DType::boolean ? 1 : bits_of(dtype);
    for (uint32_t first = 0; first < (1u << bits) && bits > 0; first += 16) {
      const int64_t count = std::min<int64_t>(16, (int64_t{1} << bits) - first);
      Tensor tensor(dtype, {count});
      for (int64_t i = 0; i < count; ++i) {
        const uint32_t pattern = first + static_cast<uint32_t>(i);
        if (is_float(dtype) && size_of(dtype) == 2)
          static_cast<uint16_t*>(tensor.mutable_data())[i] = static_cast<uint16_t>(pattern);
        else if (is_float(dtype))
          static_cast<uint8_t*>(tensor.mutable_data())[i] = static_cast<uint8_t>(pattern);
        else
          tensor.set_int(i, pattern);
      }
      const std::string text = text_of(tensor);
      ASSERT_TRUE(parse_graph(text).values[0].constant->same_bytes(tensor)) << text;
    }
  }
}

TEST(ConstantText, ExtremesOfWideTypesReadBack) {
  Tensor f32(DType::f32, {7}), f64(DType::f64, {5}), u64(DType::u64, {2}), i64(DType::i64, {2});
  const float singles[] = {std::bit_cast<float>(0x7fc00001u), std::bit_cast<float>(0xff800001u), -0.0f, 1e-45f, 0.1f, INFINITY, 3.4028235e38f};
  std::copy(std::begin(singles), std::end(singles), static_cast<float*>(f32.mutable_data()));
  const double doubles[] = {std::bit_cast<double>(0x7ff8000000000123u), 5e-324, -HUGE_VAL, 0.1, 1e300};
  std::copy(std::begin(doubles), std::end(doubles), static_cast<double*>(f64.mutable_data()));
  u64.set_int(0, -1);
  i64.set_int(0, std::numeric_limits<int64_t>::min());
  i64.set_int(1, std::numeric_limits<int64_t>::max());
  for (const Tensor& tensor : {f32, f64, u64, i64, Tensor(DType::f32, {0, 3}), Tensor::scalar(DType::i8, -128)}) {
    const std::string text = text_of(tensor);
    EXPECT_TRUE(parse_graph(text).values[0].constant->same_bytes(tensor)) << text;
  }
}

TEST(ConstantText, ElementsAreWhatTheTextSays) {
  EXPECT_EQ(constant_of("bf16[2] = {1.5, 0xc040}").float_at(1), -3);  // 1.5·2¹ with sign
  EXPECT_EQ(constant_of("f16[1] = {0x7c00}").float_at(0), HUGE_VAL);
  EXPECT_EQ(constant_of("u8[1,2] = {0, 255}").ints(), (std::vector<int64_t>{0, 255}));
  EXPECT_EQ(constant_of("bool[] = {1}").int_at(0), 1);
}

TEST(ConstantText, LargeOnesAreGivenByHashOfTheirBytes) {
  Graph g;
  const Tensor zeros(DType::f32, {4, 8});
  add(g, "f", zeros);
  add(g, "i", Tensor(DType::i64, {16 + 1}));
  add(g, "r", zeros.reshaped({32}));
  add(g, "b", Tensor(DType::i32, {32}));
  const std::string text = print(g);
  std::map<std::string, std::shared_ptr<const Tensor>> constants;
  for (const Value& value : g.values) constants[sha256(value.constant->data(), value.constant->byte_size())] = value.constant;
  EXPECT_EQ(constants.size(), 2u);  // 128 bytes for three of them
  const Graph back = parse_graph(text, constants);
  for (size_t i = 0; i < g.values.size(); ++i) EXPECT_TRUE(back.values[i].constant->same_bytes(*g.values[i].constant)) << i;
  verify(back);
  EXPECT_NE(error_of(text).find("line 2: constant #" + sha256(zeros.data(), zeros.byte_size()) + " was not given"), std::string::npos) << error_of(text);
}

TEST(BrokenGraphText, IsRefusedWithLineAndReason) {
  const auto in_graph = [](const std::string& line) { return error_of("graph \"g\" (%\"x\": f32[2]) -> () {\n" + line + "\n}\n"); };
  EXPECT_EQ(error_of(""), "graph text, line 1: expected 'graph'");
  EXPECT_EQ(error_of("graph \"g\" () -> () {}\n\nmore"), "graph text, line 3: text after the graph");
  EXPECT_EQ(error_of("graph \"g\" () -> (%\"y\") {\n}"), "graph text, line 2: output 'y' is not declared");
  EXPECT_EQ(in_graph("%\"y\": f32[2] = neg(%\"z\") ; \"\""), "graph text, line 2: 'z' is not declared");
  EXPECT_EQ(in_graph("%\"x\": f32[2] = neg(%\"x\") ; \"\""), "graph text, line 2: 'x' is declared twice");
  EXPECT_EQ(in_graph("%\"y\": f31[2] = neg(%\"x\") ; \"\"").find("graph text, line 2: "), 0u);
  EXPECT_NE(in_graph("%\"y\": f31[2] = neg(%\"x\") ; \"\"").find("f31"), std::string::npos);
  EXPECT_EQ(in_graph("%\"y\": f32[2+] = neg(%\"x\") ; \"\"").find("graph text, line 2: "), 0u);
  EXPECT_EQ(in_graph("%\"y\": f32[,2] = neg(%\"x\") ; \"\"").find("graph text, line 2: "), 0u);
  EXPECT_EQ(in_graph("const %\"c\": f32[2] = {1}"), "graph text, line 2: 1 elements for f32[2]");
  EXPECT_EQ(in_graph("const %\"c\": f32[1] = {1, 2}"), "graph text, line 2: 2 elements for f32[1]");
  EXPECT_EQ(in_graph("const %\"c\": f32[N] = {1}"), "graph text, line 2: a constant has known dims");
  EXPECT_EQ(in_graph("const %\"c\": u8[1] = {256}"), "graph text, line 2: '256' is no u8");
  EXPECT_EQ(in_graph("const %\"c\": i64[1] = {99999999999999999999}"), "graph text, line 2: '99999999999999999999' is no integer");
  EXPECT_EQ(in_graph("const %\"c\": i64[1] = {1.5}"), "graph text, line 2: '1.5' is no integer");
  EXPECT_EQ(in_graph("const %\"c\": f64[1] = {1e999}"), "graph text, line 2: '1e999' is no number");
  EXPECT_EQ(in_graph("const %\"c\": f16[1] = {0x7fc00000}"), "graph text, line 2: '0x7fc00000' is no f16");
  EXPECT_EQ(in_graph("const %\"c\": f32[9999999999,9999999999] = {1}").find("graph text, line 2: "), 0u);
  EXPECT_EQ(in_graph("%\"y\": i64[2] {1} = dims() ; \"\""), "graph text, line 2: 1 elements for i64[2]");
  EXPECT_EQ(in_graph("%\"y\": f32[2] = neg(%\"x\")"), "graph text, line 3: expected a word");  // no name
  std::string nested;
  for (int i = 0; i < 70; ++i) nested += "graph \"\" () -> () { f() ; \"\" ";
  EXPECT_EQ(error_of(nested), "graph text, line 1: bodies are nested too deeply");
}

TEST(BrokenGraphText, EveryPrefixIsRefused) {
  const std::string whole = print(everything());
  for (size_t length = 0; length + 2 < whole.size(); ++length) EXPECT_EQ(error_of(whole.substr(0, length)).find("graph text, line "), 0u) << length;
}

}  // namespace
}  // namespace tilewright
