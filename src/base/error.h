#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace tilewright {

/// What went wrong, in the user's terms. Maps one to one to a C status and a CLI exit code.
enum class ErrorKind {
  invalid_input,  ///< the model, a file or an argument is wrong; the user can fix it
  unsupported,    ///< valid, but Tilewright cannot do it
  environment,    ///< a missing compiler, a full disk, a wrong machine
  internal,       ///< our bug
};

/// The only exception type that leaves a Tilewright function.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

/// Throws Error{kind, format(...)}. The message names the node, the operator, the actual shapes, the rule, then the fix.
template <class... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

/// Checks an invariant of ours (never user data); throws ErrorKind::internal with the place.
inline void ensure(bool holds, const char* what, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  if (!holds) fail(ErrorKind::internal, "internal error: {} ({}:{})", what, file, line);
}

}  // namespace tilewright
