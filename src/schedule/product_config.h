#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tilewright::schedule {

/// How a product is cut for vector registers: rows of one operand times vectors of the other.
struct ProductBlock {
  int rows = 0, vectors = 0;
  bool operator==(const ProductBlock&) const = default;
};

/// How a product with weights is computed: a value that can be listed, printed, stored and replaced. What is said of panels,
/// strips and shares goes for `rows` alone.
struct ProductConfig {
  enum class Method {
    rows,       ///< rows of one operand times panels
    winograd,   ///< transformed tiles of an image times transformed filters
    depthwise,  ///< one filter a channel, no sums over channels
  } method = Method::rows;
  ProductBlock block;
  /// What threads share out.
  enum class Split {
    automatic,  ///< panels where there are enough for all, else rows
    panels,
    rows,
  } split = Split::automatic;
  int64_t panel_bytes = 0;  ///< panels that stay in the second level cache while strips of rows run past them
  int64_t strip_bytes = 0;  ///< strips that stay there while groups of panels follow each other
  bool ahead = true;        ///< whether the next group of panels is fetched while one is used
  /// What a step along the sum is: tile/atoms/dot.h, and amx.h for blocks on tile registers.
  enum class Atom {
    fma,         ///< a multiply-add of floats
    dot8,        ///< products of four unsigned and signed bytes
    dot16,       ///< products of two 16-bit integers
    bf16,        ///< products of two bfloats
    amx8,        ///< up to 16 of dot8's, of 16 rows and a vector at once
    amx_bf16,    ///< the same of pairs of bfloats
    amx_f32,     ///< products of floats by the six of their three parts: tile/atoms/amx_split.h
    amx_tf32,    ///< by the three of two parts
    amx_digits,  ///< by eight of nine products of digits: tile/atoms/amx_digits.h
    fma24,       ///< a multiply-add of floats whose weights are stored in 24 bits: tile/atoms/fixed24.h
  } atom = Atom::fma;
  bool widened = false;  ///< whether panels of short floats are widened a group at a time, for all strips that pass, instead of at each load
  bool joined = false;   ///< whether strips of a convolution's windows go on in the next line: tile/kernels/joined_windows.h
  bool operator==(const ProductConfig&) const = default;
};

/// "method=rows block=6x4 split=automatic panels=512K strips=768K ahead=on", with "atom=dot8" where it is no multiply-add, "weights=widened" and "lines=joined"
std::string print(const ProductConfig& config);
/// The inverse. Throws invalid_input naming the word that it cannot read.
ProductConfig parse_product_config(std::string_view text);

const char* name(ProductConfig::Method method);
const char* name(ProductConfig::Atom atom);
/// Neighbouring k of a step, which share a lane.
int64_t group_of(ProductConfig::Atom atom);
/// Bfloats or digits that stand for a float; 1: none do.
int64_t parts_of(ProductConfig::Atom atom);
/// Elements that a lane of weights has: of all these k, and of all parts; of 24 bits three bytes.
int64_t lane_elements(ProductConfig::Atom atom);
/// Whether blocks are tiles of AMX.
bool on_tiles(ProductConfig::Atom atom);

}  // namespace tilewright::schedule
