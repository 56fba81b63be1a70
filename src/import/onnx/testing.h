#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "import/onnx/import.h"
#include "import/onnx/schema.pb.h"
#include "op/op.h"
#include "pattern/interpreter.h"

/// For tests of single operators: a model of one node, imported, lowered and run by the reference interpreter.
namespace tilewright::onnx::testing_support {

/// ONNX's number of a dtype that tests use.
inline int32_t number_of(DType dtype) {
  switch (dtype) {
    case DType::f32: return 1;
    case DType::u8: return 2;
    case DType::i8: return 3;
    case DType::i32: return 6;
    case DType::i64: return 7;
    case DType::boolean: return 9;
    case DType::f16: return 10;
    case DType::f64: return 11;
    default: fail(ErrorKind::internal, "tests do not use {}", name(dtype));
  }
}

class OneNode {
 public:
  explicit OneNode(const std::string& op, int64_t opset, const std::string& domain = "") {
    model_.set_ir_version(9);
    import_set("", domain.empty() ? opset : 17);
    if (!domain.empty()) import_set(domain, opset);
    model_.mutable_graph()->set_name("test");
    node().set_op_type(op);
    node().set_domain(domain);
  }

  /// An input that the model is given when it runs.
  OneNode& input(Tensor value) {
    auto& info = *model_.mutable_graph()->add_input();
    info.set_name("in" + std::to_string(node().input_size()));
    auto& type = *info.mutable_type()->mutable_tensor_type();
    type.set_elem_type(number_of(value.dtype()));
    type.mutable_shape();
    for (const int64_t dim : value.dims()) type.mutable_shape()->add_dim()->set_dim_value(dim);
    node().add_input(info.name());
    inputs_.push_back(std::move(value));
    return *this;
  }
  OneNode& omitted() { return node().add_input(""), *this; }
  OneNode& attribute(const std::string& key, int64_t v) { return add(key, AttributeProto::INT).set_i(v), *this; }
  OneNode& attribute(const std::string& key, float v) { return add(key, AttributeProto::FLOAT).set_f(v), *this; }
  OneNode& attribute(const std::string& key, const char* v) { return add(key, AttributeProto::STRING).set_s(v), *this; }
  OneNode& attribute(const std::string& key, const std::vector<int64_t>& v) {
    auto& a = add(key, AttributeProto::INTS);
    for (int64_t one : v) a.add_ints(one);
    return *this;
  }
  OneNode& attribute(const std::string& key, const std::vector<float>& v) {
    auto& a = add(key, AttributeProto::FLOATS);
    for (float one : v) a.add_floats(one);
    return *this;
  }
  OneNode& attribute(const std::string& key, const std::vector<std::string>& v) {
    auto& a = add(key, AttributeProto::STRINGS);
    for (const std::string& one : v) a.add_strings(one);
    return *this;
  }

  Graph import(int outputs = 1) {
    for (int i = 0; i < outputs; ++i) {
      const std::string name = "out" + std::to_string(i);
      node().add_output(name);
      auto& info = *model_.mutable_graph()->add_output();
      info.set_name(name);
      info.mutable_type()->mutable_tensor_type();
    }
    const std::string bytes = model_.SerializeAsString();
    return import_onnx(std::as_bytes(std::span(bytes)));
  }
  std::vector<Tensor> run(int outputs = 1) { return pattern::interpret(lower(import(outputs)), inputs_); }

 private:
  NodeProto& node() {
    auto& graph = *model_.mutable_graph();
    return graph.node_size() == 0 ? *graph.add_node() : *graph.mutable_node(0);
  }
  void import_set(const std::string& domain, int64_t version) {
    auto& set = *model_.add_opset_import();
    set.set_domain(domain);
    set.set_version(version);
  }
  AttributeProto& add(const std::string& key, AttributeProto::Type type) {
    auto& a = *node().add_attribute();
    a.set_name(key);
    a.set_type(type);
    return a;
  }

  ModelProto model_;
  std::vector<Tensor> inputs_;
};

inline std::vector<double> values(const Tensor& t) {
  std::vector<double> result;
  for (int64_t i = 0; i < t.element_count(); ++i) result.push_back(t.float_at(i));
  return result;
}

inline Tensor tensor_of(DType dtype, std::vector<int64_t> dims, const std::vector<double>& elements) {
  Tensor t(dtype, std::move(dims));
  for (size_t i = 0; i < elements.size(); ++i) t.set_float(static_cast<int64_t>(i), elements[i]);
  return t;
}

}  // namespace tilewright::onnx::testing_support
