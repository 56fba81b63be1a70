#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "import/onnx/schema.pb.h"

/// Changes to models that keep their encoding valid: what a random flip of bytes hardly ever reaches.
namespace tilewright::onnx {

class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  /// One to four changes somewhere in the model, its sub-graphs and functions included.
  void mutate(ModelProto& model) {
    for (int64_t left = below(4) + 1; left > 0; --left) {
      if (model.functions_size() > 0 && below(8) == 0) {
        FunctionProto& function = *pick(model.mutable_functions());
        change_nodes(*function.mutable_node());
      } else if (model.opset_import_size() > 0 && below(40) == 0) {
        pick(model.mutable_opset_import())->set_version(number());
      } else {
        change(*model.mutable_graph(), 0);
      }
    }
  }

 private:
  int64_t below(int64_t limit) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(limit)); }

  int64_t number() {
    static constexpr int64_t interesting[] = {
        0, 1, -1, 2, 3, 4, 7, 16, 255, 65536, -2, -128, INT32_MAX, INT32_MIN, int64_t{1} << 33, int64_t{1} << 62, INT64_MAX, INT64_MIN};
    return interesting[below(std::size(interesting))];
  }

  template <class Field>
  typename Field::value_type* pick(Field* field) {
    return field->Mutable(static_cast<int>(below(field->size())));
  }

  template <class Field>
  void drop_swap_or_repeat(Field& field) {
    const int size = field.size();
    if (size == 0) return;
    const int at = static_cast<int>(below(size));
    switch (below(3)) {
      case 0: field.DeleteSubrange(at, 1); break;
      case 1: field.SwapElements(at, static_cast<int>(below(size))); break;
      default: {
        const auto copy = field.Get(at);
        *field.Add() = copy;
      }
    }
  }

  void change(GraphProto& graph, int depth) {
    names_.clear();
    collect_names(graph);
    switch (below(10)) {
      case 0:
        if (graph.input_size() > 0) change_type(*pick(graph.mutable_input())->mutable_type());
        break;
      case 1:
        if (graph.output_size() > 0) *pick(graph.mutable_output())->mutable_name() = any_name();
        break;
      case 2:
        if (graph.initializer_size() > 0) change(*pick(graph.mutable_initializer()));
        break;
      case 3:
        switch (below(3)) {
          case 0: drop_swap_or_repeat(*graph.mutable_input()); break;
          case 1: drop_swap_or_repeat(*graph.mutable_output()); break;
          default: drop_swap_or_repeat(*graph.mutable_initializer());
        }
        break;
      case 4: {
        TensorProto made;
        made.set_name(any_name());
        made.set_data_type(static_cast<int>(below(24)));
        for (int64_t rank = below(4); rank > 0; --rank) made.add_dims(below(4));
        change(made);
        *graph.add_initializer() = made;
        break;
      }
      default:
        if (depth < 4 && graph.node_size() > 0 && below(3) == 0) {
          for (AttributeProto& attribute : *pick(graph.mutable_node())->mutable_attribute())
            if (attribute.has_g()) return change(*attribute.mutable_g(), depth + 1);
        }
        change_nodes(*graph.mutable_node());
    }
  }

  void change_nodes(google::protobuf::RepeatedPtrField<NodeProto>& nodes) {
    if (nodes.empty()) return;
    if (below(6) == 0) return drop_swap_or_repeat(nodes);
    NodeProto& node = *pick(&nodes);
    switch (below(7)) {
      case 0:
        if (node.input_size() > 0) *pick(node.mutable_input()) = any_name();
        break;
      case 1: drop_swap_or_repeat(*node.mutable_input()); break;
      case 2: drop_swap_or_repeat(*node.mutable_output()); break;
      case 3: node.set_op_type(pick(&nodes)->op_type()); break;
      case 4: drop_swap_or_repeat(*node.mutable_attribute()); break;
      case 5: *node.mutable_attribute() = pick(&nodes)->attribute(); break;
      default:
        if (node.attribute_size() > 0) change(*pick(node.mutable_attribute()));
    }
  }

  void change(AttributeProto& attribute) {
    switch (below(6)) {
      case 0: attribute.set_i(number()); break;
      case 1: attribute.set_f(static_cast<float>(number()) * 0.25f); break;
      case 2:
        if (attribute.ints_size() > 0) attribute.set_ints(static_cast<int>(below(attribute.ints_size())), number());
        break;
      case 3:
        if (below(2) == 0)
          attribute.add_ints(number());
        else if (attribute.ints_size() > 0)
          attribute.mutable_ints()->RemoveLast();
        break;
      case 4: attribute.set_type(static_cast<AttributeProto::Type>(below(15))); break;
      default:
        if (attribute.has_t())
          change(*attribute.mutable_t());
        else
          attribute.set_s(any_name());
    }
  }

  void change(TensorProto& tensor) {
    switch (below(6)) {
      case 0:
        if (tensor.dims_size() > 0) tensor.set_dims(static_cast<int>(below(tensor.dims_size())), number());
        break;
      case 1: tensor.set_data_type(static_cast<int>(below(25))); break;
      case 2: tensor.add_dims(below(3)); break;
      case 3:
        if (!tensor.raw_data().empty()) tensor.mutable_raw_data()->pop_back();
        break;
      case 4:
        for (char& byte : *tensor.mutable_raw_data())
          if (below(8) == 0) byte = static_cast<char>(below(256));
        break;
      default:
        if (tensor.int64_data_size() > 0)
          tensor.set_int64_data(static_cast<int>(below(tensor.int64_data_size())), number());
        else if (tensor.raw_data().size() == 8)
          *tensor.mutable_raw_data() = little_endian(number());
    }
  }

  static std::string little_endian(int64_t value) {
    std::string bytes;
    for (int i = 0; i < 8; ++i) bytes += static_cast<char>(static_cast<uint64_t>(value) >> (8 * i));
    return bytes;
  }

  void change_type(TypeProto& type) {
    TypeProto::Tensor& tensor = *type.mutable_tensor_type();
    switch (below(4)) {
      case 0: tensor.set_elem_type(static_cast<int>(below(25))); break;
      case 1: drop_swap_or_repeat(*tensor.mutable_shape()->mutable_dim()); break;
      case 2:
        if (tensor.shape().dim_size() > 0) pick(tensor.mutable_shape()->mutable_dim())->set_dim_value(number());
        break;
      default:
        if (tensor.shape().dim_size() > 0) pick(tensor.mutable_shape()->mutable_dim())->set_dim_param(below(2) == 0 ? "n" : "m");
    }
  }

  void collect_names(const GraphProto& graph) {
    for (const ValueInfoProto& input : graph.input()) names_.push_back(input.name());
    for (const TensorProto& tensor : graph.initializer()) names_.push_back(tensor.name());
    for (const NodeProto& node : graph.node())
      for (const std::string& output : node.output()) names_.push_back(output);
  }

  std::string any_name() {
    return names_.empty() || below(12) == 0 ? std::string(static_cast<size_t>(below(3)), 'x')
                                            : names_[static_cast<size_t>(below(static_cast<int64_t>(names_.size())))];
  }

  std::mt19937 random_;
  std::vector<std::string> names_;
};

}  // namespace tilewright::onnx
