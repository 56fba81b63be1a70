#include "runtime/cores.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

namespace tilewright::rt {
namespace {

namespace fs = std::filesystem;

/// A folder that stands for the system's root.
class System : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    root_ = fs::path(::testing::TempDir()) / ("tilewright_" + name + std::to_string(getpid()));
    fs::create_directories(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const std::string& path, const std::string& text) const {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  void write_first_version(const std::string& group, const std::string& quota, const std::string& period) const {
    write("sys/fs/cgroup/cpu" + group + "/cpu.cfs_quota_us", quota);
    write("sys/fs/cgroup/cpu" + group + "/cpu.cfs_period_us", period);
  }
  std::optional<int> quota() const { return quota_cores(root_.string()); }
  std::string root() const { return root_.string(); }

 private:
  fs::path root_;
};

using QuotaCores = System;
using SpreadCores = System;

TEST_F(QuotaCores, are_none_without_files) { EXPECT_EQ(quota(), std::nullopt); }

TEST_F(QuotaCores, of_version_2_are_rounded_up) {
  write("proc/self/cgroup", "0::/\n");
  for (const auto& [text, cores] : {std::pair("200000 100000\n", 2), std::pair("150000 100000\n", 2), std::pair("1000 100000\n", 1)}) {
    write("sys/fs/cgroup/cpu.max", text);
    EXPECT_EQ(quota(), cores) << text;
  }
}

TEST_F(QuotaCores, of_max_are_none) {
  write("proc/self/cgroup", "0::/service\n");
  write("sys/fs/cgroup/service/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), std::nullopt);
}

TEST_F(QuotaCores, are_the_least_of_the_group_and_its_parents) {
  write("proc/self/cgroup", "0::/pod/container/service\n");
  write("sys/fs/cgroup/pod/container/service/cpu.max", "800000 100000\n");
  EXPECT_EQ(quota(), 8);
  write("sys/fs/cgroup/pod/cpu.max", "300000 100000\n");  // none in between
  EXPECT_EQ(quota(), 3);
  write("sys/fs/cgroup/pod/container/service/cpu.max", "max 100000\n");
  EXPECT_EQ(quota(), 3);
  write("sys/fs/cgroup/pod/container/cpu.max", "50000 50000\n");
  EXPECT_EQ(quota(), 1);
}

TEST_F(QuotaCores, of_other_groups_do_not_count) {
  write("proc/self/cgroup", "0::/a\n");
  write("sys/fs/cgroup/b/cpu.max", "100000 100000\n");
  write("sys/fs/cgroup/a/child/cpu.max", "100000 100000\n");
  EXPECT_EQ(quota(), std::nullopt);
}

TEST_F(QuotaCores, of_a_container_that_sees_its_path_on_the_host_are_those_of_what_is_mounted) {
  write("proc/self/cgroup", "0::/docker/0123456789abcdef\n");
  write("sys/fs/cgroup/cpu.max", "400000 100000\n");
  EXPECT_EQ(quota(), 4);
}

TEST_F(QuotaCores, are_read_without_proc) {
  write("sys/fs/cgroup/cpu.max", "400000 100000\n");
  EXPECT_EQ(quota(), 4);
}

TEST_F(QuotaCores, of_version_1_have_parents_too) {
  for (const std::string controllers : {"cpu", "cpu,cpuacct", "cpuacct,cpu"}) {
    write("proc/self/cgroup", "7:memory:/elsewhere\n4:" + controllers + ":/docker/box\n2:cpuset:/\n0::/\n");
    write_first_version("/docker/box", "500000\n", "100000\n");
    write_first_version("/docker", "-1\n", "100000\n");
    EXPECT_EQ(quota(), 5) << controllers;
    write_first_version("", "250000\n", "100000\n");
    EXPECT_EQ(quota(), 3) << controllers;
    fs::remove_all(root() + "/sys");
  }
}

TEST_F(QuotaCores, of_version_1_without_a_limit_are_none) {
  write("proc/self/cgroup", "1:cpu:/\n");
  write_first_version("", "-1\n", "100000\n");
  EXPECT_EQ(quota(), std::nullopt);
  write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n");
  fs::remove(root() + "/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  EXPECT_EQ(quota(), std::nullopt);
}

TEST_F(QuotaCores, of_nonsense_are_none) {
  write("proc/self/cgroup", "0::/\n");
  for (const std::string text : {"", "\n", "100000", "0 100000", "100000 0", "-100000 100000", "100000 -1", "1e5 100000", "100000 100000 100000", "two cores",
                                 "99999999999999999999 100000", "100000 99999999999999999999"}) {
    write("sys/fs/cgroup/cpu.max", text);
    EXPECT_EQ(quota(), std::nullopt) << text;
  }
  write("sys/fs/cgroup/cpu.max", "9223372036854775807 1\n");  // more than any machine has
  EXPECT_EQ(quota(), std::nullopt);
}

TEST_F(QuotaCores, survive_a_list_of_groups_that_makes_no_sense) {
  write("sys/fs/cgroup/cpu.max", "400000 100000\n");
  for (const std::string text : {"", ":", "::", "0:", "0::", "0::relative\n", "::/\n\n\n", "no colon\n0::/..\n", ":::::", "0::/../../x\n1:cpu:\n"}) {
    write("proc/self/cgroup", text);
    EXPECT_EQ(quota(), 4) << text;
  }
}

TEST_F(SpreadCores, take_one_thread_of_each_processor_core_first) {
  for (int core = 0; core < 8; ++core)  // pairs of neighbours
    write("sys/devices/system/cpu/cpu" + std::to_string(core) + "/topology/thread_siblings_list",
          std::to_string(core / 2 * 2) + "-" + std::to_string(core / 2 * 2 + 1) + "\n");
  EXPECT_EQ(spread_cores({0, 1, 2, 3, 4, 5, 6, 7}, 0, root()), (std::vector<int>{0, 2, 4, 6, 1, 3, 5, 7}));
  EXPECT_EQ(spread_cores({0, 1, 2, 3, 4, 5, 6, 7}, 3, root()), (std::vector<int>{3, 4, 6, 0, 5, 7, 1, 2}));
  EXPECT_EQ(spread_cores({1, 2, 3, 5}, 1, root()), (std::vector<int>{1, 2, 5, 3}));
  EXPECT_EQ(spread_cores({1, 2, 3, 5}, 7, root()), (std::vector<int>{1, 2, 5, 3}));  // the caller is none of them
  for (int core = 0; core < 8; ++core)                                               // a half apart
    write("sys/devices/system/cpu/cpu" + std::to_string(core) + "/topology/thread_siblings_list",
          std::to_string(core % 4) + "," + std::to_string(core % 4 + 4) + "\n");
  EXPECT_EQ(spread_cores({0, 1, 4, 5, 6}, 0, root()), (std::vector<int>{0, 1, 6, 4, 5}));
}

TEST_F(SpreadCores, leave_the_sibling_of_the_caller_for_last) {
  for (const auto& [core, siblings] : {std::pair(0, "0-1\n"), std::pair(1, "0-1\n"), std::pair(2, "2\n"), std::pair(3, "3\n")})
    write("sys/devices/system/cpu/cpu" + std::to_string(core) + "/topology/thread_siblings_list", siblings);
  EXPECT_EQ(spread_cores({0, 1, 2, 3}, 1, root()), (std::vector<int>{1, 2, 3, 0}));
  EXPECT_EQ(spread_cores({0, 1, 2, 3}, 2, root()), (std::vector<int>{2, 3, 0, 1}));
}

TEST_F(SpreadCores, stay_in_order_where_the_system_does_not_tell) {
  EXPECT_EQ(spread_cores({3, 5, 8}, 5, root()), (std::vector<int>{5, 8, 3}));
  EXPECT_EQ(spread_cores({}, 0, root()), std::vector<int>{});
}

TEST(BindToCore, leaves_the_thread_that_core_alone) {
  const std::vector<int> before = allowed_cores();
  ASSERT_FALSE(before.empty());
  std::vector<int> bound;
  std::thread([&] {
    bind_to_core(before.back());
    bound = allowed_cores();
  }).join();
  EXPECT_EQ(bound, std::vector<int>{before.back()});
  EXPECT_EQ(allowed_cores(), before);
}

TEST(BindToCore, of_a_core_that_does_not_exist_changes_nothing) {
  const std::vector<int> before = allowed_cores();
  bind_to_core(8191);
  EXPECT_EQ(allowed_cores(), before);
}

TEST(UsableCores, are_at_least_one_and_at_most_those_allowed) {
  EXPECT_GE(usable_cores(), 1);
  EXPECT_LE(usable_cores(), static_cast<int>(allowed_cores().size()));
}

}  // namespace
}  // namespace tilewright::rt
