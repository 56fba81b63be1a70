#include <gtest/gtest.h>

#include "base/error.h"
#include "runtime/cpu_features.h"
#include "target/target.h"

namespace tilewright {
namespace {

// Otherwise no machine would ever be let run them.
TEST(Targets, NeedFeaturesThatTheRuntimeKnows) {
#if defined(__x86_64__)
  for (const Target& target : all_targets()) {
    if (target.architecture != "x86_64") continue;
    for (const std::string& feature : target.features) EXPECT_NE(rt::find_cpu_feature(feature.c_str()), nullptr) << target.name << ": " << feature;
  }
#endif
}

TEST(Targets, NativeIsACpuThatRunsHere) {
  const Target& native = find_target("native");
  EXPECT_EQ(native.kind, TargetKind::cpu);
  EXPECT_TRUE(runs_here(native));
}

TEST(Targets, UnknownNamesListTheKnown) {
  try {
    find_target("cpu:z80");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::invalid_input);
    for (const Target& target : all_targets()) EXPECT_NE(std::string(error.what()).find(target.name), std::string::npos);
  }
}

}  // namespace
}  // namespace tilewright
