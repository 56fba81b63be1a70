#include "import/onnx/tensor_reader.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "import/onnx/operators.h"

namespace tilewright::onnx {
namespace {

Tensor read(const TensorProto& proto) {
  const auto owned = std::make_shared<TensorProto>(proto);
  return TensorReader(owned, ExternalData({}), {}).read(*owned, "t");
}

TensorProto stored(int32_t data_type, int64_t count) {
  TensorProto proto;
  proto.set_data_type(data_type);
  proto.add_dims(count);
  return proto;
}

TEST(TensorReader, unpacks_four_bit_integers_from_the_low_half_up) {
  TensorProto proto = stored(22, 3);  // INT4
  proto.set_raw_data(std::string("\x8F\x07", 2));
  const Tensor tensor = read(proto);
  EXPECT_EQ(tensor.dtype(), DType::i4);
  EXPECT_EQ(tensor.ints(), (std::vector<int64_t>{-1, -8, 7}));
}

TEST(TensorReader, unpacks_two_bit_integers_from_a_typed_field) {
  TensorProto proto = stored(25, 5);  // UINT2
  proto.add_int32_data(0b11100100);
  proto.add_int32_data(0b00000010);
  EXPECT_EQ(read(proto).ints(), (std::vector<int64_t>{0, 1, 2, 3, 2}));
}

TEST(TensorReader, reads_half_floats_as_bits_from_the_integer_field) {
  TensorProto half = stored(10, 1);
  half.add_int32_data(0x3E00);  // 1.5
  EXPECT_EQ(read(half).float_at(0), 1.5);
  TensorProto brain = stored(16, 1);
  brain.add_int32_data(0xC020);  // -2.5
  EXPECT_EQ(read(brain).float_at(0), -2.5);
}

TEST(TensorReader, reads_unsigned_and_wide_integers) {
  TensorProto wide = stored(13, 1);
  wide.add_uint64_data(18446744073709551615u);
  EXPECT_EQ(read(wide).as<uint64_t>()[0], 18446744073709551615u);
  TensorProto narrow = stored(12, 1);
  narrow.add_uint64_data(4294967295u);
  EXPECT_EQ(read(narrow).as<uint32_t>()[0], 4294967295u);
  TensorProto bytes = stored(3, 1);
  bytes.add_int32_data(-5);
  EXPECT_EQ(read(bytes).int_at(0), -5);
}

TEST(TensorReader, makes_bools_zero_or_one) {
  TensorProto proto = stored(9, 3);
  proto.set_raw_data(std::string("\x00\x07\x01", 3));
  const Tensor tensor = read(proto);
  EXPECT_EQ(tensor.as<uint8_t>()[1], 1);
}

TEST(TensorReader, shares_aligned_raw_bytes_with_the_model) {
  const auto proto = std::make_shared<TensorProto>(stored(1, 64));
  proto->set_raw_data(std::string(256, '\0'));
  const Tensor tensor = TensorReader(proto, ExternalData({}), {}).read(*proto, "t");
  EXPECT_EQ(tensor.data(), proto->raw_data().data());
}

TEST(TensorReader, takes_empty_tensors) {
  TensorProto proto = stored(1, 0);
  EXPECT_EQ(read(proto).element_count(), 0);
  proto.set_raw_data("");
  EXPECT_EQ(read(proto).element_count(), 0);
}

TEST(OperatorTables, are_sorted_by_name) {
  for (const auto& table :
       {activation_operators(),  attention_operators(), cast_operators(),      contraction_operators(), control_flow_operators(),  convolution_operators(),
        elementwise_operators(), index_operators(),     loss_operators(),      movement_operators(),    normalization_operators(), pooling_operators(),
        quantize_operators(),    random_operators(),    recurrent_operators(), reduction_operators(),   resize_operators(),        selection_operators(),
        sequence_operators(),    shape_operators(),     signal_operators(),    vision_operators()}) {
    for (size_t i = 1; i < table.size(); ++i) EXPECT_LE(table[i - 1].name, table[i].name);
  }
}

}  // namespace
}  // namespace tilewright::onnx
