// A model from an untrusted file, up to its schedule: any Error is right but one that says that Tilewright itself is wrong.

#include <cstdlib>
#include <iostream>

#include "base/error.h"
#include "import/onnx/import.h"
#include "import/onnx/testing/mutations.h"
#include "op/op.h"
#include "pass/pass.h"
#include "schedule/schedule.h"

namespace {

using namespace tilewright;

void compile_to_schedule(std::span<const std::byte> bytes) {
  onnx::ImportOptions options;
  options.limits.nodes = 5000;
  options.limits.tensor_bytes = options.limits.sparse_bytes = int64_t{1} << 24;
  options.limits.total_tensor_bytes = int64_t{1} << 26;
  Graph graph = onnx::import_onnx(bytes, {}, options);
  verify(graph);
  for (const GraphPass& pass : graph_passes({.precision = {bytes.size() % 2 == 0 ? Policy::fp32 : Policy::fp16, {}}})) {
    pass.run(graph);
    verify(graph);
  }
  pattern::Program program = lower(graph);
  pattern::verify(program);
  std::set<std::string> sizes;
  for (const pattern::TensorId id : program.inputs)
    for (const Dim& dim : program.tensor(id).type.dims) dim.collect_symbols(sizes);
  schedule::schedule(std::move(program), {sizes.begin(), sizes.end()}, {});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    compile_to_schedule(std::as_bytes(std::span(data, size)));
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::internal) {
      std::cerr << error.what() << "\n";
      std::abort();
    }
  }
  return 0;
}

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t limit);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t limit, unsigned seed) {
  onnx::ModelProto model;
  if (seed % 8 == 0 || !model.ParseFromArray(data, static_cast<int>(size))) return LLVMFuzzerMutate(data, size, limit);
  onnx::Mutator(seed).mutate(model);
  const std::string changed = model.SerializeAsString();
  if (changed.size() > limit) return LLVMFuzzerMutate(data, size, limit);
  std::copy(changed.begin(), changed.end(), data);
  return changed.size();
}
