#include "import/onnx/import.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "import/onnx/schema.pb.h"
#include "op/op.h"
#include "pattern/interpreter.h"

namespace tilewright::onnx {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// A model under construction: opset 17, one f32 input 'x' of [2,3], one output 'y'.
struct TestModel {
  ModelProto proto;
  GraphProto& graph = *proto.mutable_graph();

  explicit TestModel(int64_t opset = 17) {
    proto.set_ir_version(8);
    auto& import = *proto.add_opset_import();
    import.set_domain("");
    import.set_version(opset);
    graph.set_name("test");
    *graph.add_input() = tensor_info("x", 1, {2, 3});
    *graph.add_output() = tensor_info("y", 1, {});
    graph.mutable_output(0)->mutable_type()->mutable_tensor_type()->clear_shape();
  }

  static ValueInfoProto tensor_info(const std::string& name, int dtype, const std::vector<int64_t>& dims) {
    ValueInfoProto info;
    info.set_name(name);
    auto& type = *info.mutable_type()->mutable_tensor_type();
    type.set_elem_type(dtype);
    type.mutable_shape();
    for (const int64_t dim : dims) type.mutable_shape()->add_dim()->set_dim_value(dim);
    return info;
  }

  static NodeProto make_node(const std::string& op, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs) {
    NodeProto node;
    node.set_op_type(op);
    node.set_name("the_" + op);
    for (const std::string& input : inputs) node.add_input(input);
    for (const std::string& output : outputs) node.add_output(output);
    return node;
  }
  NodeProto& node(const std::string& op, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs) {
    return *graph.add_node() = make_node(op, inputs, outputs), *graph.mutable_node(graph.node_size() - 1);
  }

  TensorProto& weights(const std::string& name, int dtype, const std::vector<int64_t>& dims) {
    TensorProto& tensor = *graph.add_initializer();
    tensor.set_name(name);
    tensor.set_data_type(dtype);
    for (const int64_t dim : dims) tensor.add_dims(dim);
    return tensor;
  }

  Graph import(const ImportOptions& options = {}, const fs::path& folder = {}) const {
    const std::string bytes = proto.SerializeAsString();
    return import_onnx(std::as_bytes(std::span(bytes)), folder, options);
  }

  /// The message of the error of this kind that importing gives.
  std::string refusal(ErrorKind kind, const ImportOptions& options = {}, const fs::path& folder = {}) const {
    try {
      import(options, folder);
    } catch (const Error& error) {
      EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(kind)) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "the model was accepted";
    return "";
  }
};

AttributeProto integer(const std::string& name, int64_t value) {
  AttributeProto attribute;
  attribute.set_name(name);
  attribute.set_type(AttributeProto::INT);
  attribute.set_i(value);
  return attribute;
}

class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / ("tilewright_import_test_" + std::to_string(::getpid()))) { fs::create_directories(path_ / "model"); }
  ~Folder() { fs::remove_all(path_); }
  fs::path outer() const { return path_; }
  fs::path model() const { return path_ / "model"; }
  static void write(const fs::path& file, const std::string& bytes) { std::ofstream(file, std::ios::binary) << bytes; }

 private:
  fs::path path_;
};

TestModel with_external(const std::string& location, const std::string& offset = "", const std::string& length = "") {
  TestModel model;
  TensorProto& tensor = model.weights("w", 1, {3});
  tensor.set_data_location(TensorProto::EXTERNAL);
  const auto add = [&](const std::string& key, const std::string& value) {
    if (value.empty()) return;
    auto& entry = *tensor.add_external_data();
    entry.set_key(key);
    entry.set_value(value);
  };
  add("location", location);
  add("offset", offset);
  add("length", length);
  model.node("Add", {"x", "w"}, {"y"});
  return model;
}

TEST(ImportOnnx, builds_core_operators_with_types) {
  TestModel model;
  model.node("Relu", {"x"}, {"y"});
  const Graph graph = model.import();
  ASSERT_EQ(graph.outputs.size(), 1u);
  EXPECT_EQ(str(graph.type(graph.outputs[0])), "f32[2,3]");
  EXPECT_EQ(graph.value(graph.outputs[0]).name, "y");
}

TEST(ImportOnnx, takes_nodes_in_any_order) {
  TestModel model;
  model.node("Neg", {"a"}, {"y"});
  model.node("Relu", {"x"}, {"a"});
  EXPECT_NO_THROW(model.import());
}

TEST(ImportOnnx, leaves_out_nodes_that_no_output_needs) {
  TestModel model;
  model.node("Relu", {"x"}, {"y"});
  model.node("NoSuchOperator", {"x"}, {"unused"});
  EXPECT_NO_THROW(model.import());
}

TEST(ImportOnnx, refuses_a_cycle) {
  TestModel model;
  model.node("Add", {"x", "b"}, {"a"});
  model.node("Neg", {"a"}, {"b"});
  model.node("Relu", {"b"}, {"y"});
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input), HasSubstr("cycle"));
}

TEST(ImportOnnx, survives_a_chain_of_very_many_nodes_in_reverse) {
  TestModel model;
  ImportOptions options;
  options.limits.nodes = 100;
  constexpr int length = 200000;
  for (int i = length; i > 0; --i) {
    model.node("Neg", {i == 1 ? "x" : "v" + std::to_string(i - 1)}, {i == length ? "y" : "v" + std::to_string(i)});
  }
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input, options), HasSubstr("more than 100 nodes"));
}

TEST(ImportOnnx, refuses_a_value_that_nothing_defines) {
  TestModel model;
  model.node("Add", {"x", "ghost"}, {"y"});
  const std::string message = model.refusal(ErrorKind::invalid_input);
  EXPECT_THAT(message, HasSubstr("ghost"));
  EXPECT_THAT(message, HasSubstr("the_Add"));
}

TEST(ImportOnnx, refuses_a_value_defined_twice) {
  TestModel twice;
  twice.node("Relu", {"x"}, {"y"});
  twice.node("Neg", {"x"}, {"y"});
  EXPECT_THAT(twice.refusal(ErrorKind::invalid_input), HasSubstr("'y' is defined twice"));
  TestModel shadow;
  shadow.node("Relu", {"x"}, {"x"});
  shadow.node("Neg", {"x"}, {"y"});
  EXPECT_THAT(shadow.refusal(ErrorKind::invalid_input), HasSubstr("'x' is defined twice"));
}

TEST(ImportOnnx, reports_all_unsupported_nodes_at_once_and_not_what_depends_on_them) {
  TestModel model;
  model.node("Mystery", {"x"}, {"a"});
  model.node("Relu", {"a"}, {"b"});
  NodeProto& foreign = model.node("Oddity", {"b"}, {"c"});
  foreign.set_domain("com.example");
  auto& import = *model.proto.add_opset_import();
  import.set_domain("com.example");
  import.set_version(3);
  model.node("Add", {"b", "c"}, {"y"});
  const std::string message = model.refusal(ErrorKind::unsupported);
  EXPECT_THAT(message, HasSubstr("node 'the_Mystery': Mystery (domain ai.onnx, version 17)"));
  EXPECT_THAT(message, HasSubstr("node 'the_Oddity': Oddity (domain com.example, version 3)"));
  EXPECT_THAT(message, testing::Not(HasSubstr("the_Relu")));
}

TEST(ImportOnnx, takes_stored_tensors_that_are_listed_as_inputs) {
  TestModel model;
  *model.graph.add_input() = TestModel::tensor_info("w", 1, {3});
  TensorProto& tensor = model.weights("w", 1, {3});
  for (const float v : {1.f, 2.f, 3.f}) tensor.add_float_data(v);
  model.node("Add", {"x", "w"}, {"y"});
  EXPECT_EQ(model.import().inputs.size(), 1u);
}

TEST(ImportOnnx, refuses_stored_tensors_whose_bytes_do_not_fit_their_dims) {
  TestModel raw;
  raw.weights("w", 1, {3}).set_raw_data(std::string(8, '\0'));
  raw.node("Add", {"x", "w"}, {"y"});
  EXPECT_THAT(raw.refusal(ErrorKind::invalid_input), HasSubstr("tensor 'w': raw_data has 8 bytes"));

  TestModel typed;
  typed.weights("w", 1, {3}).add_float_data(1);
  typed.node("Add", {"x", "w"}, {"y"});
  EXPECT_THAT(typed.refusal(ErrorKind::invalid_input), HasSubstr("has 1 entries; its dims need 3"));

  TestModel negative;
  negative.weights("w", 1, {-3});
  negative.node("Add", {"x", "w"}, {"y"});
  EXPECT_THAT(negative.refusal(ErrorKind::invalid_input), HasSubstr("negative dim -3"));

  TestModel huge;
  huge.weights("w", 1, {int64_t{1} << 40, int64_t{1} << 40});
  huge.node("Add", {"x", "w"}, {"y"});
  EXPECT_THAT(huge.refusal(ErrorKind::invalid_input), HasSubstr("2^62"));

  TestModel claims_much;
  claims_much.weights("w", 1, {int64_t{1} << 40});
  claims_much.node("Add", {"x", "w"}, {"y"});
  EXPECT_THAT(claims_much.refusal(ErrorKind::invalid_input), HasSubstr("limit"));

  TestModel no_type;
  no_type.weights("w", 0, {3});
  no_type.node("Add", {"x", "w"}, {"y"});
  EXPECT_THAT(no_type.refusal(ErrorKind::invalid_input), HasSubstr("no element type"));
}

TEST(ImportOnnx, refuses_strings_where_they_are_used) {
  TestModel model;
  model.weights("words", 8, {1}).add_string_data("hello");
  model.node("Identity", {"words"}, {"unused"});
  model.node("Relu", {"x"}, {"y"});
  EXPECT_NO_THROW(model.import());
  model.graph.mutable_node(1)->add_input("words");
  EXPECT_THAT(model.refusal(ErrorKind::unsupported), HasSubstr("STRING"));
}

TEST(ImportOnnx, reads_external_data_from_the_models_folder_only) {
  const Folder folder;
  const std::string bytes(20, '\0');
  Folder::write(folder.model() / "w.bin", bytes);
  Folder::write(folder.outer() / "secret.bin", bytes);
  fs::create_symlink("../secret.bin", folder.model() / "link.bin");
  fs::create_symlink("w.bin", folder.model() / "inner.bin");
  const auto refusal = [&](const TestModel& model) { return model.refusal(ErrorKind::invalid_input, {}, folder.model()); };

  EXPECT_NO_THROW(with_external("w.bin").import({}, folder.model()));
  EXPECT_NO_THROW(with_external("w.bin", "8", "12").import({}, folder.model()));
  EXPECT_NO_THROW(with_external("inner.bin").import({}, folder.model()));
  EXPECT_THAT(refusal(with_external("../secret.bin")), HasSubstr("'..'"));
  EXPECT_THAT(refusal(with_external((folder.outer() / "secret.bin").string())), HasSubstr("absolute"));
  EXPECT_THAT(refusal(with_external("link.bin")), HasSubstr("leads out of the model's folder"));
  EXPECT_THAT(refusal(with_external("missing.bin")), HasSubstr("cannot be opened"));
  EXPECT_THAT(refusal(with_external("")), HasSubstr("no file name"));
  EXPECT_THAT(refusal(with_external(".")), HasSubstr("folder"));
  EXPECT_THAT(refusal(with_external("w.bin", "12")), HasSubstr("has 20 bytes"));
  EXPECT_THAT(refusal(with_external("w.bin", "-4")), HasSubstr("no size"));
  EXPECT_THAT(refusal(with_external("w.bin", "9223372036854775807")), HasSubstr("has 20 bytes"));
  EXPECT_THAT(refusal(with_external("w.bin", "0", "16")), HasSubstr("length 16"));
  EXPECT_THAT(with_external("w.bin").refusal(ErrorKind::invalid_input), HasSubstr("without a folder"));
}

TEST(ImportOnnx, names_run_time_sizes) {
  TestModel model;
  auto& shape = *model.graph.mutable_input(0)->mutable_type()->mutable_tensor_type()->mutable_shape();
  shape.mutable_dim(0)->set_dim_param("batch size");
  shape.mutable_dim(1)->clear_dim_value();
  model.node("Relu", {"x"}, {"y"});
  Graph graph = model.import();
  EXPECT_EQ(str(graph.type(graph.inputs[0])), "f32[batch_size,x_dim1]");
  ImportOptions options;
  options.sizes["batch size"] = 4;
  graph = model.import(options);
  EXPECT_EQ(str(graph.type(graph.outputs[0])), "f32[4,x_dim1]");
  options.sizes = {{"batch_size", 5}, {"x_dim1", 6}};
  graph = model.import(options);
  EXPECT_EQ(str(graph.type(graph.outputs[0])), "f32[5,6]");
  options.sizes = {{"M", 7}};
  options.shapes["x"] = {Dim::symbol("M"), Dim::symbol("L")};
  graph = model.import(options);
  EXPECT_EQ(str(graph.type(graph.inputs[0])), "f32[7,L]");
  options.sizes.clear();
  options.shapes["x"] = {Dim(8), Dim(3)};
  graph = model.import(options);
  EXPECT_EQ(str(graph.type(graph.inputs[0])), "f32[8,3]");
}

TEST(ImportOnnx, fixes_an_input_to_a_given_value) {
  TestModel model;
  *model.graph.add_input() = TestModel::tensor_info("axes", 7, {1});
  model.node("ReduceSum", {"x", "axes"}, {"y"});
  ImportOptions options;
  options.constants["axes"] = Tensor::from_ints({1});
  const Graph graph = model.import(options);
  EXPECT_EQ(graph.inputs.size(), 1u);
  EXPECT_EQ(str(graph.type(graph.outputs[0])), "f32[2,1]");
  options.constants["axes"] = Tensor::from_ints({1, 0});
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input, options), HasSubstr("the given value i64[2] does not fit it"));
}

TEST(ImportOnnx, fixes_an_input_to_a_number_of_its_own_type) {
  TestModel model;
  *model.graph.add_input() = TestModel::tensor_info("k", 7, {2});
  *model.graph.add_input() = TestModel::tensor_info("scale", 1, {});
  model.node("Expand", {"scale", "k"}, {"wide"});
  model.node("Add", {"wide", "wide"}, {"y"});
  ImportOptions options;
  options.constants = {{"k", int64_t{3}}, {"scale", 0.5}};
  const Graph graph = model.import(options);
  EXPECT_EQ(graph.inputs.size(), 1u);
  EXPECT_EQ(str(graph.type(graph.outputs[0])), "f32[3,3]");
}

TEST(ImportOnnx, refuses_numbers_that_an_input_cannot_hold) {
  TestModel model;
  *model.graph.add_input() = TestModel::tensor_info("k", 3, {2});
  model.node("Relu", {"x"}, {"y"});
  ImportOptions options;
  options.constants["k"] = 0.5;
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input, options), HasSubstr("input 'k' is i8[2]: needs a whole number, not 0.5"));
  options.constants["k"] = int64_t{128};
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input, options), HasSubstr("input 'k' is i8[2]: cannot hold 128"));
  model.graph.mutable_input(1)->mutable_type()->mutable_tensor_type()->mutable_shape()->mutable_dim(0)->set_dim_param("N");
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input, options), HasSubstr("a number cannot fill a run-time size; give --shape or --size"));
}

TEST(ImportOnnx, lists_the_known_names_when_it_refuses_one) {
  TestModel model;
  model.graph.mutable_input(0)->mutable_type()->mutable_tensor_type()->mutable_shape()->mutable_dim(0)->set_dim_param("N");
  *model.graph.add_input() = TestModel::tensor_info("axes", 7, {1});
  model.node("ReduceSum", {"x", "axes"}, {"y"});
  ImportOptions size, shape, constant;
  size.sizes["M"] = 4;
  size.constants["axes"] = int64_t{1};
  shape.shapes["z"] = {Dim(8)};
  constant.constants["axis"] = int64_t{1};
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input, size), HasSubstr("'M'; the inputs' run-time sizes are: N"));
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input, shape), HasSubstr("'z', which is no input of the model; inputs: axes, x"));
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input, constant), HasSubstr("'axis', which is no input of the model; inputs: axes, x"));
}

TEST(ImportOnnx, names_the_option_that_fixes_an_input) {
  TestModel model;
  *model.graph.add_input() = TestModel::tensor_info("training", 9, {});
  model.node("Dropout", {"x", "", "training"}, {"y"});
  EXPECT_THAT(model.refusal(ErrorKind::unsupported), HasSubstr("fix its value with --constant training=…"));
  ImportOptions options;
  options.constants["training"] = int64_t{0};
  EXPECT_EQ(model.import(options).inputs.size(), 1u);
}

TEST(ImportOnnx, refuses_given_shapes_that_do_not_fit) {
  TestModel model;
  model.node("Relu", {"x"}, {"y"});
  ImportOptions wrong_rank;
  wrong_rank.shapes["x"] = {Dim(8)};
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input, wrong_rank), HasSubstr("does not fit"));
  ImportOptions wrong_name;
  wrong_name.shapes["z"] = {Dim(8)};
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input, wrong_name), HasSubstr("'z'"));
  model.graph.mutable_input(0)->mutable_type()->mutable_tensor_type()->mutable_shape()->mutable_dim(0)->set_dim_value(-2);
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input), HasSubstr("dim 0 is -2"));
}

TEST(ImportOnnx, refuses_attributes_of_the_wrong_kind_or_missing) {
  TestModel wrong;
  *wrong.node("LeakyRelu", {"x"}, {"y"}).add_attribute() = integer("alpha", 1);
  EXPECT_THAT(wrong.refusal(ErrorKind::invalid_input), HasSubstr("LeakyRelu 'the_LeakyRelu': attribute 'alpha' must be a float"));
  TestModel missing;
  missing.node("Cast", {"x"}, {"y"});
  EXPECT_THAT(missing.refusal(ErrorKind::invalid_input), HasSubstr("attribute 'to' is missing"));
}

TEST(ImportOnnx, refuses_a_missing_required_input) {
  TestModel model;
  model.node("MatMul", {"x"}, {"y"});
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input), HasSubstr("input 1 is missing"));
}

TEST(ImportOnnx, refuses_an_output_stated_as_another_type) {
  TestModel model;
  model.node("Relu", {"x"}, {"y"});
  model.graph.mutable_output(0)->mutable_type()->mutable_tensor_type()->set_elem_type(7);
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input), HasSubstr("stated as INT64"));
}

TEST(ImportOnnx, refuses_names_that_are_no_utf8) {
  TestModel model;
  model.node("Relu", {"x"}, {"y"}).set_name("\xC3\x28");
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input), HasSubstr("UTF-8"));
}

TEST(ImportOnnx, refuses_what_is_no_model) {
  const std::string noise = "this is no protobuf";
  EXPECT_THROW(import_onnx(std::as_bytes(std::span(noise))), Error);
  EXPECT_THROW(import_onnx(std::span<const std::byte>{}), Error);
  try {
    import_onnx(fs::path("does_not_exist.onnx"));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.kind()), static_cast<int>(ErrorKind::invalid_input));
  }
}

TEST(ImportOnnx, gives_a_value_that_is_an_output_under_two_names_two_values) {
  TestModel model;
  model.node("Relu", {"x"}, {"y"});
  *model.graph.add_output() = TestModel::tensor_info("x", 1, {2, 3});
  model.node("Identity", {"y"}, {"z"});
  *model.graph.add_output() = TestModel::tensor_info("z", 1, {2, 3});
  const Graph graph = model.import();
  EXPECT_EQ(graph.outputs.size(), 3u);
  EXPECT_NE(graph.outputs[0], graph.outputs[2]);
  EXPECT_EQ(graph.value(graph.outputs[2]).name, "z");
  EXPECT_EQ(graph.value(graph.inputs[0]).name, "x");
}

FunctionProto& add_function(ModelProto& model, const std::string& name, const NodeProto& body) {
  FunctionProto& function = *model.add_functions();
  function.set_name(name);
  function.set_domain("local");
  function.add_input("a");
  function.add_output("b");
  *function.add_node() = body;
  auto& import = *function.add_opset_import();
  import.set_version(17);
  auto& own = *function.add_opset_import();
  own.set_domain("local");
  own.set_version(1);
  return function;
}

TestModel calling(const std::string& name) {
  TestModel model;
  model.node(name, {"x"}, {"y"}).set_domain("local");
  auto& import = *model.proto.add_opset_import();
  import.set_domain("local");
  import.set_version(1);
  return model;
}

TEST(ImportOnnx, expands_functions_with_references_to_attributes) {
  TestModel model = calling("Leak");
  NodeProto body = TestModel::make_node("LeakyRelu", {"a"}, {"b"});
  AttributeProto& reference = *body.add_attribute();
  reference.set_name("alpha");
  reference.set_ref_attr_name("slope");
  reference.set_type(AttributeProto::FLOAT);
  add_function(model.proto, "Leak", body).add_attribute("slope");
  EXPECT_NO_THROW(model.import());
  // The kind of what is referred to counts.
  *model.graph.mutable_node(0)->add_attribute() = integer("slope", 1);
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input), HasSubstr("must be a float"));
}

TEST(ImportOnnx, refuses_functions_that_call_themselves) {
  TestModel model = calling("F");
  NodeProto call_g = TestModel::make_node("G", {"a"}, {"b"});
  call_g.set_domain("local");
  NodeProto call_f = TestModel::make_node("F", {"a"}, {"b"});
  call_f.set_domain("local");
  add_function(model.proto, "F", call_g);
  add_function(model.proto, "G", call_f);
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input), HasSubstr("calls itself"));
}

TEST(ImportOnnx, bounds_functions_that_double_at_each_level) {
  TestModel model = calling("F0");
  for (int level = 0; level < 20; ++level) {
    NodeProto first = TestModel::make_node("F" + std::to_string(level + 1), {"a"}, {"m"});
    NodeProto second = TestModel::make_node("F" + std::to_string(level + 1), {"m"}, {"b"});
    first.set_domain("local");
    second.set_domain("local");
    *add_function(model.proto, "F" + std::to_string(level), first).add_node() = second;
  }
  add_function(model.proto, "F20", TestModel::make_node("Neg", {"a"}, {"b"}));
  ImportOptions options;
  options.limits.nodes = 1000;
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input, options), HasSubstr("more than 1000 nodes"));
  options.limits.nodes = 1'000'000;
  options.limits.nesting = 8;
  EXPECT_THAT(model.refusal(ErrorKind::invalid_input, options), HasSubstr("nested deeper than 8"));
}

TEST(ImportOnnx, gives_sub_graphs_what_they_mention_of_the_outer_graph) {
  TestModel model;
  *model.graph.add_input() = TestModel::tensor_info("which", 9, {});
  model.node("Neg", {"x"}, {"outer"});
  NodeProto& branch = model.node("If", {"which"}, {"y"});
  const auto add_branch = [&](const std::string& name, const std::string& op) {
    AttributeProto& attribute = *branch.add_attribute();
    attribute.set_name(name);
    attribute.set_type(AttributeProto::GRAPH);
    *attribute.mutable_g()->add_node() = TestModel::make_node(op, {"outer"}, {"inner"});
    *attribute.mutable_g()->add_output() = TestModel::tensor_info("inner", 1, {2, 3});
  };
  add_branch("then_branch", "Relu");
  add_branch("else_branch", "Abs");
  const Graph graph = model.import();
  EXPECT_EQ(graph.nodes.back().op, "if");
  EXPECT_EQ(str(graph.type(graph.outputs[0])), "f32[2,3]");
}

TEST(ImportOnnx, densifies_sparse_tensors_within_bounds) {
  const auto sparse = [](int64_t dim, int64_t index) {
    TestModel model;
    SparseTensorProto& tensor = *model.graph.add_sparse_initializer();
    tensor.mutable_values()->set_name("w");
    tensor.mutable_values()->set_data_type(1);
    tensor.mutable_values()->add_dims(1);
    tensor.mutable_values()->add_float_data(7);
    tensor.mutable_indices()->set_data_type(7);
    tensor.mutable_indices()->add_dims(1);
    tensor.mutable_indices()->add_int64_data(index);
    tensor.add_dims(dim);
    model.node("Add", {"x", "w"}, {"y"});
    return model;
  };
  EXPECT_NO_THROW(sparse(3, 2).import());
  EXPECT_THAT(sparse(3, 3).refusal(ErrorKind::invalid_input), HasSubstr("outside its dims"));
  EXPECT_THAT(sparse(3, -1).refusal(ErrorKind::invalid_input), HasSubstr("outside its dims"));
  EXPECT_THAT(sparse(int64_t{1} << 31, 0).refusal(ErrorKind::invalid_input), HasSubstr("dense form"));
}

/// x: f32[N] split at run time or into given parts: the error of running it with so many elements, "" for none.
std::string split_error(int64_t elements, const std::vector<int64_t>& parts, int count) {
  TestModel model(18);
  auto& shape = *model.graph.mutable_input(0)->mutable_type()->mutable_tensor_type()->mutable_shape();
  shape.clear_dim();
  shape.add_dim()->set_dim_param("N");
  model.graph.clear_output();
  NodeProto& node = model.node("Split", {"x"}, {});
  if (parts.empty())
    *node.add_attribute() = integer("num_outputs", count);
  else
    node.add_input("sizes");
  if (!parts.empty()) {
    TensorProto& sizes = model.weights("sizes", 7, {static_cast<int64_t>(parts.size())});
    for (const int64_t part : parts) sizes.add_int64_data(part);
  }
  for (int i = 0; i < count; ++i) {
    node.add_output("y" + std::to_string(i));
    *model.graph.add_output() = TestModel::tensor_info("y" + std::to_string(i), 1, {});
    model.graph.mutable_output(i)->mutable_type()->mutable_tensor_type()->clear_shape();
  }
  try {
    pattern::interpret(lower(model.import()), {Tensor(DType::f32, {elements})});
    return "";
  } catch (const Error& error) {
    return error.kind() == ErrorKind::invalid_input ? error.what() : std::string("another kind: ") + error.what();
  }
}

TEST(Split, PartsThatDoNotFillTheAxisAtRunTimeAreRefused) {
  EXPECT_EQ(split_error(5, {2, 3}, 2), "");
  EXPECT_THAT(split_error(4, {2, 3}, 2), HasSubstr("parts [2,3] of axis 0 of [N]: 5 is not 4"));
  EXPECT_THAT(split_error(6, {2, 3}, 2), HasSubstr("5 is not 6"));
  EXPECT_EQ(split_error(5, {}, 3), "");  // 2, 2, 1
  EXPECT_EQ(split_error(4, {}, 3), "");  // 2, 2, 0
  EXPECT_THAT(split_error(1, {}, 3), HasSubstr("what 3 equal parts of axis 0 of [N] leave for the last: -1 is not 0"));
}

}  // namespace
}  // namespace tilewright::onnx
