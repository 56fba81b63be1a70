#include "schedule/tile_config.h"

#include <gmock/gmock.h>

#include "base/error.h"
#include "schedule/kernel_config.h"

namespace tilewright::schedule {
namespace {

TEST(TileConfig, PrintsAndParses) {
  const TileConfig mma{.unit = TileConfig::Unit::mma, .tile = {128, 256}, .warps = {2, 4}, .depth = 32, .stages = 3, .group = 8};
  EXPECT_EQ(print(mma), "unit=mma tile=128x256 warps=2x4 depth=32 stages=3 group=8");
  EXPECT_EQ(parse_tile_config(print(mma)), mma);
  const TileConfig fma{.tile = {64, 32}, .each = {4, 2}, .depth = 16};
  EXPECT_EQ(print(fma), "unit=fma tile=64x32 each=4x2 depth=16 stages=1 group=1");
  EXPECT_EQ(parse_tile_config("tile=64x32 each=4x2 depth=16"), fma);
}

TEST(TileConfig, RefusesWhatItCannotReadByName) {
  for (const char* text : {"unit=mma tile=64x64 each=4x4 depth=16", "unit=tensor tile=64x64", "tile=64 each=4x4 depth=16", "tile=64x64 each=4x4", "nonsense",
                           "tile=64x64 each=4x4 depth=16 colour=red", "tile=0x64 each=4x4 depth=16", "tile=64x64 each=4x4 depth=16 stages=99999", ""}) {
    try {
      parse_tile_config(text);
      ADD_FAILURE() << text << " was taken";
    } catch (const Error& problem) {
      EXPECT_EQ(problem.kind(), ErrorKind::invalid_input);
      EXPECT_THAT(problem.what(), testing::HasSubstr("configuration")) << text;
    }
  }
}

TEST(KernelConfig, IsEitherByItsText) {
  const char* const product = "method=winograd block=6x4";
  const char* const tile = "unit=fma tile=64x64 each=4x4 depth=16 stages=2 group=1";
  EXPECT_TRUE(std::holds_alternative<ProductConfig>(parse_kernel_config(product)));
  EXPECT_TRUE(std::holds_alternative<TileConfig>(parse_kernel_config(tile)));
  EXPECT_TRUE(std::holds_alternative<TileConfig>(parse_kernel_config("tile=64x64 each=4x4 depth=16 unit=fma")));
  for (const char* text : {product, tile}) EXPECT_EQ(print(parse_kernel_config(text)), text);
}

}  // namespace
}  // namespace tilewright::schedule
