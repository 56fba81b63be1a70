#pragma once

#include <string>

#include "tilewright/tilewright_model.h"

namespace tilewright::rt {

/// What a run throws inside the artifact; becomes a status and a text at the C interface.
struct Failure {
  tilewright_status status;
  std::string text;
};

}  // namespace tilewright::rt
