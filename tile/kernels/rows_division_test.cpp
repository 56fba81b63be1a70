#include "tile/kernels/rows_division.h"

#include <gtest/gtest.h>

namespace tile {
namespace {

using Split = RowsBlocking::Split;

TEST(RowsDivision, PanelsThatFitTheCacheAreStillSharedOut) {
  // 1 x 1 convolution of 64 filters, 256 channels, 56 x 56: two panels of 32 KiB, 224 strips.
  const RowsDivision division(1, 2, 32 << 10, 224, 2, {.split = Split::panels});
  EXPECT_EQ(division.tasks(), 2);
  EXPECT_EQ(division.strip_tasks, 1);
}

TEST(RowsDivision, OneGroupOfPanelsIsSharedOutByStrips) {
  const RowsDivision division(1, 3, 32 << 10, 224, 2, {});
  EXPECT_EQ(division.groups, 1);
  EXPECT_FALSE(division.by_units);
  EXPECT_EQ(division.tasks(), 8);
}

TEST(RowsDivision, EveryThreadHasATaskWhereThereIsOne) {
  for (const i64 batch : {1, 3})
    for (const i64 panels : {1, 2, 5, 17})
      for (const i64 strips : {1, 4, 60})
        for (const i64 team : {1, 2, 7, 16})
          for (const Split split : {Split::automatic, Split::panels, Split::rows})
            for (const i64 bytes : {0, 1 << 10, 1 << 20, -1}) {  // -1: as few tasks as there are threads
              const RowsDivision d(batch, panels, bytes < 0 ? 1 << 10 : bytes, strips, team, {.split = split, .pieces = bytes < 0 ? 1 : 4});
              const i64 pieces = split == Split::panels ? batch * panels : split == Split::rows ? batch * strips : batch * panels * strips;
              EXPECT_GE(d.tasks(), pieces < team ? pieces : team) << batch << " " << panels << " " << strips << " " << team << " " << static_cast<int>(split);
              EXPECT_LE(d.unit_tasks, d.units);
              EXPECT_LE(d.strip_tasks, strips);
              EXPECT_EQ(d.units, batch * d.groups);
              EXPECT_GE(d.groups * d.group, panels);
            }
}

TEST(RowsDivision, OfOneTaskAThreadEvensOutABatch) {
  EXPECT_EQ(RowsDivision(1, 3, 32 << 10, 224, 2, {.pieces = 1}).tasks(), 2);
  const RowsDivision five_images(5, 2, 32 << 10, 196, 4, {.pieces = 1});
  EXPECT_EQ(five_images.unit_tasks, 5);
  EXPECT_EQ(five_images.tasks() % 4, 0);
}

}  // namespace
}  // namespace tile
