#pragma once

#include <functional>
#include <string>

#include "base/dim.h"

namespace tilewright {

/// A size expression as C++ over `symbol(name)`; floor division and remainder as rt::floor_div, rt::floor_mod.
std::string print_dim(const Dim& dim, const std::function<std::string(const std::string&)>& symbol);

/// A C++ identifier for a size or tensor name: letters, digits and '_', never a keyword or empty.
std::string identifier(const std::string& name);

}  // namespace tilewright
