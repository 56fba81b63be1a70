// Runs with streams, events and kept work on the emulated device: a program of its own (test_device), because an artifact holds one device.

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "runtime/program.h"

namespace tilewright::rt {
namespace {

constexpr i64 count = 5;
using Execution = Run;  // tests have a Run() of their own

void double_it(const tile::Args& a) {
  for (i64 i = 0; i < a.size[0]; ++i) a.at<float>(1)[i] = 2 * a.at<const float>(0)[i];
}
void add(const tile::Args& a) {
  for (i64 i = 0; i < a.size[0]; ++i) a.at<float>(2)[i] = a.at<const float>(0)[i] + a.at<const float>(1)[i];
}

struct Fault {
  bool first_wait = true, last_wait = true;
};
Fault present;
int times_started = 0;

/// y = 2 · (2x + 2x): two branches, then their sum, then one step more on the other stream.
void run(Run& r) {
  ++times_started;
  const i64 n = r.input_dim(0, 0), bytes = n * 4;
  static const Lifetime lifetimes[] = {{0, 3}, {0, 3}, {0, 3}};
  const i64 sizes_of_tensors[] = {bytes, bytes, bytes};
  char* const* const m = r.arena(0, lifetimes, sizes_of_tensors, 3);
  void* const y = r.output(0, bytes, {n});
  r.record(0, 0);
  const i64 sizes[] = {n};
  void* const left[] = {r.input(0), m[0]};
  r.call(0, left, sizes);
  r.wait(1, 0);
  void* const right[] = {r.input(0), m[1]};
  r.call(0, right, sizes, 1);
  r.record(1, 1);
  if (present.first_wait) r.wait(0, 1);
  void* const both[] = {m[0], m[1], m[2]};
  r.call(1, both, sizes);
  r.record(0, 2);
  r.wait(1, 2);
  void* const last[] = {m[2], y};
  r.call(0, last, sizes, 1);
  r.record(1, 3);
  if (present.last_wait) r.wait(0, 3);
}

const int64_t dims[] = {-1};
const char* const names[] = {"N"};
const tilewright_value inputs[] = {{"x", TILEWRIGHT_F32, 1, dims, names}}, outputs[] = {{"y", TILEWRIGHT_F32, 1, dims, names}};
const KernelInfo kernels[] = {{"double_it", "", double_it, 2, 1}, {"add", "", add, 3, 1}};
const char* const features[] = {nullptr};
const char weights[] = "";
const Model model = {"branches", "", inputs, 1, outputs, 1, kernels, 2, 1, 2, 4, true, weights, weights, features, run};

class EmulatedDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    present = {};
    times_started = 0;
  }

  static void give(Execution& r, std::vector<float>& x) {
    Tensor& input = r.inputs[0];
    input.data = x.data();
    input.rank = 1;
    input.dims[0] = static_cast<i64>(x.size());
    input.bytes = input.dims[0] * 4;
  }
  static std::vector<float> result(const Execution& r) {
    const float* const data = static_cast<const float*>(r.outputs[0].data);
    return {data, data + r.outputs[0].dims[0]};
  }
};

const std::vector<float> ones = {1, 2, 3, 4, 5}, eights = {8, 16, 24, 32, 40};

TEST_F(EmulatedDevice, events_order_streams_whatever_their_pace) {
  for (int i = 0; i < 50; ++i) {
    Execution r(model, 1);
    std::vector<float> x = ones;
    give(r, x);
    r.profiling = i % 10 == 0;
    r.execute();
    ASSERT_EQ(result(r), eights);
  }
}

TEST_F(EmulatedDevice, a_missing_event_shows) {
  present.first_wait = false;
  Execution r(model, 1);
  int wrong = 0;
  for (int i = 0; i < 50; ++i) {
    std::vector<float> x = ones;  // at another address each time, or the results of the time before would do
    for (float& value : x) value += static_cast<float>(i);
    give(r, x);
    r.execute();
    for (size_t k = 0; k < x.size(); ++k) wrong += result(r)[k] != 8 * x[k];
  }
  EXPECT_GT(wrong, 0);
}

TEST_F(EmulatedDevice, work_that_nothing_waits_for_shows) {
  present.last_wait = false;
  int failed = 0;
  for (int i = 0; i < 50; ++i) {
    Execution r(model, 1);
    std::vector<float> x = ones;
    give(r, x);
    try {
      r.execute();
    } catch (const Failure& failure) {
      EXPECT_NE(failure.text.find("work is left on stream 1"), std::string::npos) << failure.text;
      ++failed;
    }
  }
  EXPECT_GT(failed, 0);
}

TEST_F(EmulatedDevice, equal_runs_are_replayed) {
  Execution r(model, 1);
  std::vector<float> x = ones;
  for (int i = 0; i < 6; ++i) {
    for (float& value : x) value += 1;
    give(r, x);
    r.execute();
    for (size_t k = 0; k < x.size(); ++k) ASSERT_EQ(result(r)[k], 8 * x[k]) << "run " << i;
  }
  EXPECT_EQ(times_started, 2) << "once to start it, once to keep it";
}

TEST_F(EmulatedDevice, other_pointers_and_sizes_start_anew) {
  Execution r(model, 1);
  std::vector<std::vector<float>> all;
  for (const size_t length : {5, 5, 5, 900, 5, 5, 900, 900, 900, 5}) all.emplace_back(length, static_cast<float>(all.size() + 1));
  for (std::vector<float>& x : all)
    for (int again = 0; again < 3; ++again) {
      give(r, x);
      std::vector<float> own(x.size());
      r.destinations[0] = again == 2 ? Execution::Destination{own.data(), own.size() * 4} : Execution::Destination{};
      r.execute();
      ASSERT_EQ(result(r), std::vector<float>(x.size(), 8 * x[0]));
      EXPECT_EQ(r.outputs[0].data == own.data(), again == 2);
    }
}

TEST_F(EmulatedDevice, a_wait_for_what_was_never_recorded_is_none) {
  device::Streams streams(2, 1);
  streams.wait(0, 0);
  streams.finish();
}

TEST_F(EmulatedDevice, memory_is_released_after_its_users) {
  device::Streams streams(1, 0);
  tile::Team team{};
  std::array<float, count> x = {1, 2, 3, 4, 5}, y = {};
  float* const memory = static_cast<float*>(device::allocate(sizeof x));
  const i64 sizes[] = {count};
  void* const first[] = {x.data(), memory};
  streams.call(0, {double_it, first, 2, sizes, 1, &team});
  void* const second[] = {memory, y.data()};
  streams.call(0, {double_it, second, 2, sizes, 1, &team});
  device::release(memory);
  EXPECT_EQ(y[4], 20);
}

}  // namespace
}  // namespace tilewright::rt
