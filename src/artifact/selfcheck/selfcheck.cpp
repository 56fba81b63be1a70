// Part of a source folder (`tilewright compile --emit-source`): runs the model that was built from it with the inputs in reference/, compares with
// the results there (check), or measures it (bench).
//
//   selfcheck check|bench MODEL FOLDER
//
// FOLDER/reference.txt: a line a tensor, `input FILE RANK DIMS…` and `output FILE RELATIVE ABSOLUTE RANK DIMS…`, both in the model's order; a line
// `by TEXT` says where the results are from. Files are the elements, one behind another.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "tilewright/model.hpp"

namespace {

struct Array {
  std::vector<int64_t> dims;
  std::vector<char> bytes;
  double relative = 0, absolute = 0;

  int64_t count() const {
    int64_t product = 1;
    for (const int64_t dim : dims) product *= dim;
    return product;
  }
};

struct Reference {
  std::string by;
  std::vector<Array> inputs, outputs;
};

Array read_array(std::istream& line, const std::string& folder, bool with_bounds) {
  Array array;
  std::string file;
  int rank = 0;
  line >> file;
  if (with_bounds) line >> array.relative >> array.absolute;
  line >> rank;
  array.dims.resize(static_cast<size_t>(rank));
  for (int64_t& dim : array.dims) line >> dim;
  std::ifstream in(folder + "/" + file, std::ios::binary);
  array.bytes.assign(std::istreambuf_iterator<char>(in), {});
  if (!line || !in) throw std::runtime_error("cannot read " + folder + "/" + file);
  return array;
}

Reference read_reference(const std::string& folder) {
  Reference reference;
  std::ifstream in(folder + "/reference.txt");
  if (!in) throw std::runtime_error("cannot read " + folder + "/reference.txt");
  for (std::string text; std::getline(in, text);) {
    std::istringstream line(text);
    std::string what;
    line >> what;
    if (what == "by") std::getline(line >> std::ws, reference.by);
    if (what == "input") reference.inputs.push_back(read_array(line, folder, false));
    if (what == "output") reference.outputs.push_back(read_array(line, folder, true));
  }
  return reference;
}

template <class T>
T element(const void* data, int64_t i) {
  T value;
  std::memcpy(&value, static_cast<const char*>(data) + i * static_cast<int64_t>(sizeof value), sizeof value);
  return value;
}

/// A binary float of 16 bits.
double half_float(uint16_t bits, int exponent_bits) {
  const int fraction_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = bits >> fraction_bits & ((1 << exponent_bits) - 1), fraction = bits & ((1 << fraction_bits) - 1);
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return fraction ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits);
}

/// False for types whose elements must agree bit by bit.
bool is_float(tilewright_dtype dtype) { return dtype == TILEWRIGHT_F64 || dtype == TILEWRIGHT_F32 || dtype == TILEWRIGHT_F16 || dtype == TILEWRIGHT_BF16; }

double value_of(tilewright_dtype dtype, const void* data, int64_t i) {
  if (dtype == TILEWRIGHT_F64) return element<double>(data, i);
  if (dtype == TILEWRIGHT_F32) return element<float>(data, i);
  return half_float(element<uint16_t>(data, i), dtype == TILEWRIGHT_F16 ? 5 : 8);
}

/// Prints a line; whether all elements are as near as they should be.
bool agrees(const tilewright_value& output, const tilewright::Context::Output& actual, const Array& expected) {
  if (actual.dims != expected.dims) return std::printf("DIFFERS  %s has other dims than the reference\n", output.name), false;
  if (!is_float(output.dtype)) {
    const bool same = std::memcmp(actual.data, expected.bytes.data(), expected.bytes.size()) == 0;
    return std::printf("%s %s: bit by bit\n", same ? "same    " : "DIFFERS ", output.name), same;
  }
  double largest = 0, largest_expected = 0;
  int64_t outside = 0;
  for (int64_t i = 0; i < expected.count(); ++i) {
    const double a = value_of(output.dtype, actual.data, i), e = value_of(output.dtype, expected.bytes.data(), i);
    if (a == e || (std::isnan(a) && std::isnan(e))) continue;
    outside += !(std::fabs(a - e) <= expected.absolute + expected.relative * std::fabs(e));
    largest = std::max(largest, std::fabs(a - e));
    largest_expected = std::max(largest_expected, std::fabs(e));
  }
  std::printf("%s %s: largest difference %.3g, %lld of %lld elements outside of their bounds\n", outside == 0 ? "same    " : "DIFFERS ", output.name, largest,
              static_cast<long long>(outside), static_cast<long long>(expected.count()));
  return outside == 0;
}

int check(const tilewright::Model& model, tilewright::Context& context, const Reference& reference) {
  bool good = true;
  for (int run = 0; run < 3; ++run) context.run();  // what is kept from run to run must not change results
  for (size_t i = 0; i < reference.outputs.size(); ++i)
    good = agrees(model.api().outputs[i], context.output(static_cast<int>(i)), reference.outputs[i]) && good;
  std::printf("%s: results by %s\n", good ? "good" : "NOT GOOD", reference.by.c_str());
  return good ? 0 : 1;
}

int bench(tilewright::Context& context) {
  using Clock = std::chrono::steady_clock;
  std::vector<double> milliseconds;
  for (int run = 0; run < 3; ++run) context.run();
  for (const auto begin = Clock::now(); milliseconds.size() < 10 || (Clock::now() - begin < std::chrono::seconds(2) && milliseconds.size() < 10000);) {
    const auto start = Clock::now();
    context.run();
    milliseconds.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  const auto at = [&](double part) { return milliseconds[static_cast<size_t>(part * static_cast<double>(milliseconds.size() - 1))]; };
  std::printf("median %.4f ms, fastest %.4f ms, 95 %% within %.4f ms; %zu runs, copies of inputs and outputs included\n", at(0.5), at(0), at(0.95),
              milliseconds.size());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc == 4 ? argv[1] : "";
  if (what != "check" && what != "bench") return std::fprintf(stderr, "usage: selfcheck check|bench MODEL FOLDER\n"), 2;
  try {
    const Reference reference = read_reference(argv[3]);
    const tilewright::Model model(argv[2]);
    tilewright::Context context(model);
    for (size_t i = 0; i < reference.inputs.size(); ++i) context.set_input(static_cast<int>(i), reference.inputs[i].bytes.data(), reference.inputs[i].dims);
    return what == "check" ? check(model, context, reference) : bench(context);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "%s\n", failure.what());
    return 3;
  }
}
