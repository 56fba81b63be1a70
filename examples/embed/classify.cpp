// A whole program around a compiled model: loads the library, gives it one image after the other, prints the likeliest class.
//
//   g++ -std=c++17 -Iinclude examples/embed/classify.cpp -ldl -o classify
//   ./classify build/models/digits.so examples/digits/images/digit_7a.npy
//
// Nothing of Tilewright is linked: the two headers of include/tilewright are all that it takes.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

#include "tilewright/model.hpp"

namespace {

/// The float32 values of a C-ordered .npy file of version 1.0: its header's length stands at byte 8.
std::vector<float> read_floats(const char* file) {
  std::ifstream in(file, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (bytes.size() < 10 || std::memcmp(bytes.data(), "\x93NUMPY\x01", 7) != 0) throw std::runtime_error(std::string(file) + " is no .npy file");
  const size_t start = 10 + static_cast<unsigned char>(bytes[8]) + 256 * static_cast<size_t>(static_cast<unsigned char>(bytes[9]));
  std::vector<float> values((bytes.size() - std::min(start, bytes.size())) / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), bytes.data() + start, values.size() * sizeof(float));
  return values;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::fprintf(stderr, "usage: classify MODEL.so IMAGE.npy...\n");
    return 2;
  }
  const tilewright::Model model(argv[1]);  // checks the file, then loads it: it is native code, so load only what you trust
  tilewright::Context context(model, /*threads=*/1);
  const tilewright_value& input = model.api().inputs[0];
  std::vector<int64_t> dims(input.dims, input.dims + input.rank);
  size_t count = 1;
  for (int64_t& dim : dims) {
    dim = std::max<int64_t>(dim, 1);  // -1: a size that is given at run time
    count *= static_cast<size_t>(dim);
  }
  for (int i = 2; i < argc; ++i) {
    const std::vector<float> image = read_floats(argv[i]);
    if (image.size() != count) throw std::runtime_error(std::string(argv[i]) + " has the wrong size");
    context.set_input(0, image.data(), dims);
    context.run();
    const tilewright::Context::Output output = context.output(0);
    const float* scores = output.as<float>();
    const float* best = std::max_element(scores, scores + output.dims.back());
    std::printf("%ld %.6f\n", static_cast<long>(best - scores), static_cast<double>(*best));
  }
  return 0;
} catch (const std::exception& failure) {
  std::fprintf(stderr, "classify: %s\n", failure.what());
  return 1;
}
