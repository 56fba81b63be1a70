#include "schedule/tile_config.h"

#include "schedule/config_text.h"

namespace tilewright::schedule {
namespace {

using Unit = TileConfig::Unit;

struct UnitWords {
  Unit unit;
  const char* name;
  const char* parts;  ///< what the tile is divided into
  Pair TileConfig::*value;
};
constexpr UnitWords units[] = {
    {Unit::fma, "fma", "each", &TileConfig::each}, {Unit::mma, "mma", "warps", &TileConfig::warps}, {Unit::wgmma, "wgmma", "warps", &TileConfig::warps}};

const UnitWords& words_of(Unit unit) {
  for (const UnitWords& words : units)
    if (words.unit == unit) return words;
  fail(ErrorKind::internal, "internal error: a unit has no name");
}

Unit unit_of(std::string_view name, std::string_view word) {
  for (const UnitWords& words : units)
    if (words.name == name) return words.unit;
  refuse(word);
}

}  // namespace

const char* name(Unit unit) { return words_of(unit).name; }

std::string print(const TileConfig& c) {
  const UnitWords& words = words_of(c.unit);
  const Pair& parts = c.*words.value;
  return fmt::format("unit={} tile={}x{} {}={}x{} depth={} stages={} group={}", words.name, c.tile.m, c.tile.n, words.parts, parts.m, parts.n, c.depth,
                     c.stages, c.group);
}

TileConfig parse_tile_config(std::string_view text) {
  TileConfig c;
  for_each_word(text, [&](std::string_view key, std::string_view value, std::string_view word) {
    if (key == "unit") {
      c.unit = unit_of(value, word);
    } else if (key == "tile") {
      c.tile = pair<Pair>(value, word);
    } else if (key == "each") {
      c.each = pair<Pair>(value, word);
    } else if (key == "warps") {
      c.warps = pair<Pair>(value, word);
    } else if (key == "depth") {
      c.depth = number<int>(value, word);
    } else if (key == "stages") {
      c.stages = number<int>(value, word);
    } else if (key == "group") {
      c.group = number<int>(value, word);
    } else {
      refuse(word);
    }
  });
  const UnitWords& words = words_of(c.unit);
  const Pair& parts = c.*words.value;
  for (const int value : {c.tile.m, c.tile.n, parts.m, parts.n, c.depth, c.stages, c.group})
    if (value < 1 || value > 4096)
      fail(ErrorKind::invalid_input, "the configuration '{}' needs tile=, {}=, depth=, stages= and group= between 1 and 4096", text, words.parts);
  return c;
}

}  // namespace tilewright::schedule
