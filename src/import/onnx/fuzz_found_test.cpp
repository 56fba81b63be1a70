#include <gtest/gtest.h>

#include "base/error.h"
#include "import/onnx/import.h"
#include "import/onnx/schema.pb.h"

/// Small forms of what fuzzing found: each once crashed, or blamed Tilewright.
namespace tilewright::onnx {
namespace {

struct Model {
  ModelProto proto;
  GraphProto& graph = *proto.mutable_graph();
  NodeProto* node = nullptr;

  explicit Model(const std::string& op) {
    proto.set_ir_version(8);
    proto.add_opset_import()->set_version(18);
    node = graph.add_node();
    node->set_op_type(op);
    node->add_output("y");
    graph.add_output()->set_name("y");
  }

  Model& input(const std::string& name, int dtype, const std::vector<int64_t>& dims) {
    ValueInfoProto& info = *graph.add_input();
    info.set_name(name);
    TypeProto::Tensor& tensor = *info.mutable_type()->mutable_tensor_type();
    tensor.set_elem_type(dtype);
    tensor.mutable_shape();
    for (const int64_t dim : dims) tensor.mutable_shape()->add_dim()->set_dim_value(dim);
    node->add_input(name);
    return *this;
  }
  AttributeProto& attribute(const std::string& name, AttributeProto::Type type) {
    AttributeProto& made = *node->add_attribute();
    made.set_name(name);
    made.set_type(type);
    return made;
  }

  void expect_refused(const std::string& part) const {
    const std::string bytes = proto.SerializeAsString();
    try {
      import_onnx(std::as_bytes(std::span(bytes)));
      FAIL() << "accepted";
    } catch (const Error& error) {
      EXPECT_NE(error.kind(), ErrorKind::internal) << error.what();
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }
};

constexpr int f32 = 1, u8 = 2, i64 = 7;

TEST(FuzzFound, ALoopWhoseConditionIsNoBool) {
  Model model("Loop");
  model.input("n", i64, {}).input("go_on", i64, {}).input("state", f32, {2});
  GraphProto& body = *model.attribute("body", AttributeProto::GRAPH).mutable_g();
  for (const char* name : {"i", "condition", "carried"}) body.add_input()->set_name(name);
  for (const char* name : {"condition", "carried"}) body.add_output()->set_name(name);
  model.expect_refused("needs a bool");
}

TEST(FuzzFound, AnIntegerConvolutionOfAVector) {
  Model model("ConvInteger");
  model.input("x", u8, {4}).input("w", u8, {1, 1, 2}).input("zero", u8, {4}).expect_refused("needs [n,c,spatial");
}

TEST(FuzzFound, AWindowThatIsAScalar) {
  Model model("STFT");
  model.input("signal", f32, {1, 16, 1}).input("step", i64, {}).input("window", f32, {}).expect_refused("needs a vector");
}

TEST(FuzzFound, AShapeOfMoreAxesThanMemoryHolds) {
  Model model("Reshape");
  model.input("x", f32, {4}).input("shape", i64, {int64_t{1} << 62}).expect_refused("axes");
}

TEST(FuzzFound, IndicesDeeperThanEveryTensor) {
  Model model("GatherND");
  model.input("x", f32, {2, 2}).input("indices", i64, {2, INT64_MAX}).attribute("batch_dims", AttributeProto::INT).set_i(1);
  model.expect_refused("do not fit");
}

TEST(FuzzFound, AnNGramInAFarColumn) {
  Model model("TfIdfVectorizer");
  model.input("x", i64, {4});
  for (const char* name : {"min_gram_length", "max_gram_length"}) model.attribute(name, AttributeProto::INT).set_i(1);
  model.attribute("max_skip_count", AttributeProto::INT).set_i(0);
  model.attribute("mode", AttributeProto::STRING).set_s("TF");
  model.attribute("ngram_counts", AttributeProto::INTS).add_ints(0);
  model.attribute("ngram_indexes", AttributeProto::INTS).add_ints(int64_t{1} << 30);
  model.attribute("pool_int64s", AttributeProto::INTS).add_ints(7);
  model.expect_refused("column");
}

}  // namespace
}  // namespace tilewright::onnx
