#include "base/npy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "base/error.h"
#include "base/file.h"

namespace tilewright {
namespace {

struct Code {
  DType dtype;
  const char* code;
};
constexpr Code codes[] = {
    {DType::f64, "<f8"}, {DType::f32, "<f4"}, {DType::f16, "<f2"}, {DType::i64, "<i8"}, {DType::i32, "<i4"}, {DType::i16, "<i2"},
    {DType::i8, "|i1"},  {DType::u64, "<u8"}, {DType::u32, "<u4"}, {DType::u16, "<u2"}, {DType::u8, "|u1"},  {DType::boolean, "|b1"},
};

const char* code_of(DType dtype) {
  for (const Code& one : codes)
    if (one.dtype == dtype) return one.code;
  return nullptr;
}

/// Text after `key` in the header's dict, from its first character that is no space or colon.
std::string_view field(std::string_view header, std::string_view key, const std::string& what) {
  const size_t at = header.find(key);
  if (at == std::string_view::npos) fail(ErrorKind::invalid_input, "'{}': the .npy header has no {}", what, key);
  const size_t start = header.find_first_not_of(": ", at + key.size());
  return start == std::string_view::npos ? std::string_view{} : header.substr(start);
}

uint32_t crc32(const std::string& bytes) {
  static const auto table = [] {
    std::array<uint32_t, 256> entries{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) ? 0xEDB88320u : 0u);
      entries[i] = value;
    }
    return entries;
  }();
  uint32_t sum = ~0u;
  for (const char byte : bytes) sum = table[(sum ^ static_cast<unsigned char>(byte)) & 255] ^ (sum >> 8);
  return ~sum;
}

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class T>
T get(const std::string& bytes, size_t at, const std::string& what) {
  if (at + sizeof(T) > bytes.size()) fail(ErrorKind::invalid_input, "'{}' is truncated", what);
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

Tensor to_row_major(const Tensor& column_major) {
  const auto& dims = column_major.dims();
  Tensor result(column_major.dtype(), dims);
  char* out = static_cast<char*>(result.mutable_data());
  const size_t width = size_of(column_major.dtype());
  std::vector<int64_t> index(dims.size(), 0);
  for (int64_t i = 0; i < result.element_count(); ++i) {
    int64_t from = 0;
    for (size_t axis = dims.size(); axis-- > 0;) from = from * dims[axis] + index[axis];
    std::memcpy(out + static_cast<size_t>(i) * width, static_cast<const char*>(column_major.data()) + static_cast<size_t>(from) * width, width);
    for (size_t axis = dims.size(); axis-- > 0 && ++index[axis] == dims[axis];) index[axis] = 0;
  }
  return result;
}

}  // namespace

Tensor parse_npy(const std::string& bytes, const std::string& what) {
  if (bytes.size() < 10 || bytes.compare(0, 6, "\x93NUMPY") != 0) fail(ErrorKind::invalid_input, "'{}' is no .npy file", what);
  const int version = static_cast<unsigned char>(bytes[6]);
  const size_t start = version == 1 ? 10 : 12;
  const size_t length = version == 1 ? get<uint16_t>(bytes, 8, what) : get<uint32_t>(bytes, 8, what);
  if (version < 1 || version > 3 || start + length > bytes.size()) fail(ErrorKind::invalid_input, "'{}' has a broken .npy header", what);
  const std::string_view header(bytes.data() + start, length);

  const std::string_view descr = field(header, "'descr'", what);
  const DType* dtype = nullptr;
  for (const Code& one : codes)
    if (descr.size() > 4 && (descr.substr(1, 3) == one.code || (descr[1] == '=' && descr.substr(2, 2) == one.code + 1))) dtype = &one.dtype;
  if (dtype == nullptr) fail(ErrorKind::unsupported, "'{}': the .npy element type {} is not supported", what, descr.substr(0, 8));
  std::string_view shape = field(header, "'shape'", what);
  shape = shape.substr(0, shape.find(')'));
  std::vector<int64_t> dims;
  for (size_t at = 1; at < shape.size();) {
    int64_t dim = 0;
    const auto [end, failure] = std::from_chars(shape.data() + at, shape.data() + shape.size(), dim);
    if (failure != std::errc{}) {
      ++at;
      continue;
    }
    dims.push_back(dim);
    at = static_cast<size_t>(end - shape.data());
  }
  auto owner = std::make_shared<std::string>(bytes.substr(start + length));
  int64_t count = static_cast<int64_t>(size_of(*dtype));
  for (const int64_t dim : dims)
    if (dim < 0 || __builtin_mul_overflow(count, dim, &count)) fail(ErrorKind::invalid_input, "'{}': the .npy shape {} is impossible", what, shape);
  if (static_cast<size_t>(count) != owner->size()) fail(ErrorKind::invalid_input, "'{}' has {} bytes of data; its shape needs {}", what, owner->size(), count);
  const Tensor tensor(*dtype, dims, owner->data(), owner);
  return field(header, "'fortran_order'", what).starts_with("True") ? to_row_major(tensor) : tensor;
}

Tensor read_npy(const std::filesystem::path& path) { return parse_npy(read_file(path), path.string()); }

std::string format_npy(const Tensor& tensor) {
  Tensor stored = tensor;
  if (code_of(tensor.dtype()) == nullptr) {
    stored = Tensor(is_float(tensor.dtype()) ? DType::f32 : is_signed(tensor.dtype()) ? DType::i8 : DType::u8, tensor.dims());
    for (int64_t i = 0; i < tensor.element_count(); ++i)
      is_float(tensor.dtype()) ? stored.set_float(i, tensor.float_at(i)) : stored.set_int(i, tensor.int_at(i));
  }
  std::string shape;
  for (const int64_t dim : stored.dims()) shape += std::to_string(dim) + ",";
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", code_of(stored.dtype()), shape);
  header.append(63 - (10 + header.size()) % 64, ' ');
  header += '\n';
  std::string out = "\x93NUMPY";
  out += '\x01';
  out += '\x00';
  put(out, static_cast<uint16_t>(header.size()));
  out += header;
  out.append(static_cast<const char*>(stored.data()), stored.byte_size());
  return out;
}

void write_npy(const std::filesystem::path& path, const Tensor& tensor) { write_file(path, format_npy(tensor)); }

std::vector<std::pair<std::string, Tensor>> read_npz(const std::filesystem::path& path) {
  const std::string bytes = read_file(path), what = path.string();
  std::vector<std::pair<std::string, Tensor>> arrays;
  size_t end = bytes.rfind("PK\x05\x06");
  if (end == std::string::npos) fail(ErrorKind::invalid_input, "'{}' is no .npz archive", what);
  const int count = get<uint16_t>(bytes, end + 10, what);
  size_t at = get<uint32_t>(bytes, end + 16, what);
  for (int i = 0; i < count; ++i) {
    if (get<uint32_t>(bytes, at, what) != 0x02014b50) fail(ErrorKind::invalid_input, "'{}' has a broken archive directory", what);
    const uint16_t method = get<uint16_t>(bytes, at + 10, what), name_length = get<uint16_t>(bytes, at + 28, what);
    const size_t size = get<uint32_t>(bytes, at + 20, what), local = get<uint32_t>(bytes, at + 42, what);
    if (at + 46 + name_length > bytes.size()) fail(ErrorKind::invalid_input, "'{}' is truncated", what);
    std::string member = bytes.substr(at + 46, name_length);
    if (method != 0) fail(ErrorKind::unsupported, "'{}': member '{}' is compressed; save with numpy.savez, not savez_compressed", what, member);
    const size_t data = local + 30 + get<uint16_t>(bytes, local + 26, what) + get<uint16_t>(bytes, local + 28, what);
    if (data > bytes.size() || size > bytes.size() - data) fail(ErrorKind::invalid_input, "'{}' is truncated", what);
    Tensor tensor = parse_npy(bytes.substr(data, size), what + ":" + member);
    if (member.ends_with(".npy")) member.resize(member.size() - 4);
    arrays.emplace_back(std::move(member), std::move(tensor));
    at += 46u + name_length + get<uint16_t>(bytes, at + 30, what) + get<uint16_t>(bytes, at + 32, what);
  }
  return arrays;
}

void write_npz(const std::filesystem::path& path, const std::vector<std::pair<std::string, Tensor>>& arrays) {
  std::string out, directory;
  for (const auto& [array_name, tensor] : arrays) {
    const std::string member = array_name + ".npy", data = format_npy(tensor);
    if (data.size() > 0xFFFFFFFFu || out.size() > 0xFFFFFFFFu) fail(ErrorKind::unsupported, "'{}': an .npz archive holds at most 4 GiB", path.string());
    const auto common = [&](std::string& to) {
      put<uint16_t>(to, 20), put<uint16_t>(to, 0), put<uint16_t>(to, 0), put<uint16_t>(to, 0), put<uint16_t>(to, 33);
      put<uint32_t>(to, crc32(data)), put(to, static_cast<uint32_t>(data.size())), put(to, static_cast<uint32_t>(data.size()));
      put(to, static_cast<uint16_t>(member.size())), put<uint16_t>(to, 0);
    };
    const uint32_t offset = static_cast<uint32_t>(out.size());
    put<uint32_t>(out, 0x04034b50);
    common(out);
    out += member + data;
    put<uint32_t>(directory, 0x02014b50), put<uint16_t>(directory, 20);
    common(directory);
    put<uint16_t>(directory, 0), put<uint16_t>(directory, 0), put<uint16_t>(directory, 0), put<uint32_t>(directory, 0), put(directory, offset);
    directory += member;
  }
  const uint32_t start = static_cast<uint32_t>(out.size());
  out += directory;
  put<uint32_t>(out, 0x06054b50), put<uint16_t>(out, 0), put<uint16_t>(out, 0);
  put(out, static_cast<uint16_t>(arrays.size())), put(out, static_cast<uint16_t>(arrays.size()));
  put(out, static_cast<uint32_t>(directory.size())), put(out, start), put<uint16_t>(out, 0);
  write_file(path, out);
}

}  // namespace tilewright
