#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"
#include "tilewright/model.hpp"

namespace tilewright {

/// The Error of the same kind and text.
Error error_of(const ModelError& failure);

/// body(), whose ModelError becomes Error.
template <class Body>
auto translate_errors(Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (const ModelError& failure) {
    throw error_of(failure);
  }
}

/// A model of an artifact, opened; throws Error.
Model open_model(const std::string& path, int index = 0);

/// A context of it; throws Error, `environment` when this machine lacks what the artifact was compiled for. `threads` 0: all cores.
/// `flags`: those of tilewright_options.
Context open_context(const Model& model, int threads = 0, uint64_t flags = 0);

/// Runs a loaded model once: inputs in the model's order, outputs copied out; throws Error.
std::vector<Tensor> run_model(Context& context, const Model& model, const std::vector<Tensor>& inputs);

}  // namespace tilewright
