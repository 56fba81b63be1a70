#pragma once

#include <map>
#include <string>

#include "base/dim.h"
#include "base/dtype.h"

/// Pieces of C++ text that kernels are made of.
namespace tilewright::source {

/// `text` as it may stand in a `//` comment. Names come from model files: a line break in one, or a backslash at its end, would
/// put what follows into the program.
std::string one_line(std::string text);

/// What memory holds for an element: "float", "tile::bfloat16", "int8_t". bool is held as uint8_t.
std::string storage_type(DType);
/// What expressions compute with: 16-bit and smaller floats compute in float.
std::string value_type(DType);
/// Floats that are narrower in memory than what they are computed with.
bool is_narrow_float(DType);
/// `element`, an lvalue of storage type, as a value.
std::string loaded(DType, const std::string& element);
/// `value` as storage type, rounded where that is narrower. `exact`: it is representable already (infinity of an f8 stays).
std::string stored(DType, const std::string& value, bool exact);
/// `value` as it reads back after storing it.
std::string rounded(DType, const std::string& value);
/// A constant of value type.
std::string literal(DType, double real, int64_t integer);
/// Largest and lowest value of value type; floats: infinities.
std::string highest(DType);
std::string lowest(DType);

/// Lines of C++ with indentation.
class Writer {
 public:
  explicit Writer(int depth = 0) : depth_(depth) {}
  void line(const std::string& text);
  void open(const std::string& text);        ///< "text {" and one deeper
  void close(const std::string& tail = "");  ///< "}tail"
  void pragma(const std::string& text) { text_ += text + "\n"; }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  int depth_;
};

/// What symbols are called in the text.
using Names = std::map<std::string, std::string>;

/// An index expression; division as C++ writes it where `bounds` prove that nothing is negative.
std::string print_index(const Dim& e, const Names& names, const Bounds& bounds);
/// The same in parentheses unless it is a name or a number.
std::string print_factor(const Dim& e, const Names& names, const Bounds& bounds);

}  // namespace tilewright::source
