#pragma once

#include <vector>

#include "base/tensor.h"
#include "tilewright/model.hpp"

namespace tilewright {

/// Runs a loaded model once: inputs in the model's order, outputs copied out. ModelError becomes Error of the same kind.
std::vector<Tensor> run_model(Context& context, const Model& model, const std::vector<Tensor>& inputs);

/// A model of an artifact, opened; ModelError becomes Error.
Model open_model(const std::string& path, int index = 0);

}  // namespace tilewright
