#pragma once

#include "runtime/program.h"

namespace tilewright::rt {

tilewright_status create(const Model& model, const tilewright_options* options, tilewright_context** context);

/// The table that an artifact exports for `model`; `create_this` calls create() with it.
tilewright_model_api make_api(const Model& model, tilewright_status (*create_this)(const tilewright_options*, tilewright_context**));

}  // namespace tilewright::rt
