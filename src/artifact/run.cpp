#include "artifact/run.h"

#include <cstring>

namespace tilewright {
namespace {

ErrorKind kind_of(tilewright_status status) {
  switch (status) {
    case TILEWRIGHT_INVALID_INPUT: return ErrorKind::invalid_input;
    case TILEWRIGHT_UNSUPPORTED: return ErrorKind::unsupported;
    case TILEWRIGHT_ENVIRONMENT: return ErrorKind::environment;
    default: return ErrorKind::internal;
  }
}

}  // namespace

Error error_of(const ModelError& failure) { return {kind_of(failure.status()), failure.what()}; }

Model open_model(const std::string& path, int index) {
  return translate_errors([&] { return Model(path, index); });
}

Context open_context(const Model& model, int threads, uint64_t flags) {
  return translate_errors([&] { return Context(model, threads, flags); });
}

std::vector<Tensor> run_model(Context& context, const Model& model, const std::vector<Tensor>& inputs) {
  return translate_errors([&] {
    const tilewright_model_api& api = model.api();
    if (inputs.size() != static_cast<size_t>(api.input_count))
      fail(ErrorKind::invalid_input, "the model has {} inputs; {} were given", api.input_count, inputs.size());
    for (size_t i = 0; i < inputs.size(); ++i) {
      const DType wanted = static_cast<DType>(api.inputs[i].dtype);
      if (inputs[i].dtype() != wanted)
        fail(ErrorKind::invalid_input, "input '{}' is {}; the model wants {}", api.inputs[i].name, name(inputs[i].dtype()), name(wanted));
      context.set_input(static_cast<int>(i), inputs[i].data(), inputs[i].dims());
    }
    context.run();
    std::vector<Tensor> outputs;
    for (int i = 0; i < api.output_count; ++i) {
      const Context::Output output = context.output(i);
      Tensor tensor(static_cast<DType>(api.outputs[i].dtype), output.dims);
      if (tensor.byte_size() > 0) std::memcpy(tensor.mutable_data(), output.data, tensor.byte_size());
      outputs.push_back(std::move(tensor));
    }
    return outputs;
  });
}

}  // namespace tilewright
