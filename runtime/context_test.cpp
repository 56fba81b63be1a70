// The options of a context, through the C interface. Part of test_device, which has all that an artifact has.
#include "runtime/context.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <thread>

#include "runtime/cores.h"

namespace tilewright::rt {
namespace {

/// By worker: the cores that it may run on.
std::vector<std::vector<int>> cores_of_workers;

/// Each worker gets one task, because none ends before all have begun.
void ask_workers(const tile::Args& a) {
  std::atomic<int> begun{0};
  cores_of_workers.assign(static_cast<size_t>(a.team.size), {});
  a.team.for_each(a.team.size, [&](i64, int worker) {
    cores_of_workers[static_cast<size_t>(worker)] = allowed_cores();
    ++begun;
    while (begun < a.team.size) std::this_thread::yield();
  });
}

void run_model(Run& run) { run.call(0, nullptr, nullptr); }

const KernelInfo kernels[] = {{"ask_workers", "", ask_workers, 0, 0}};
const char* const features[] = {nullptr};
const char weights[] = "";
const Model model = {"workers", "", nullptr, 0, nullptr, 0, kernels, 1, 1, 1, 0, false, weights, weights, features, run_model};

tilewright_status create_this(const tilewright_options* options, tilewright_context** context) { return create(model, options, context); }

class ContextOptions : public ::testing::Test {
 protected:
  /// Runs the model once; the failure of create(), "" when there was none.
  std::string run_with(const tilewright_options* options) const {
    tilewright_context* context = nullptr;
    if (api_.create(options, &context) != TILEWRIGHT_OK) return api_.creation_error();
    EXPECT_EQ(api_.run(context), TILEWRIGHT_OK) << api_.error(context);
    api_.destroy(context);
    return "";
  }

 private:
  const tilewright_model_api api_ = make_api(model, create_this);
};

constexpr size_t size_before_flags = offsetof(tilewright_options, flags);

TEST_F(ContextOptions, pin_workers_where_asked_and_leave_the_caller) {
  const std::vector<int> mine = allowed_cores();
  const tilewright_options pinned = {sizeof(tilewright_options), 3, TILEWRIGHT_PIN_WORKERS};
  EXPECT_EQ(run_with(&pinned), "");
  ASSERT_EQ(cores_of_workers.size(), 3u);
  EXPECT_EQ(cores_of_workers[0], mine);
  EXPECT_EQ(cores_of_workers[1].size(), 1u);
  EXPECT_EQ(cores_of_workers[2].size(), 1u);
  const tilewright_options free = {sizeof(tilewright_options), 3, 0};
  EXPECT_EQ(run_with(&free), "");
  for (const std::vector<int>& cores : cores_of_workers) EXPECT_EQ(cores, mine);
}

TEST_F(ContextOptions, may_be_left_out) {
  EXPECT_EQ(run_with(nullptr), "");
  EXPECT_EQ(static_cast<int>(cores_of_workers.size()), usable_cores());
}

TEST_F(ContextOptions, of_programs_older_than_flags_are_taken_without_reading_further) {
  const tilewright_options options = {size_before_flags, 2, ~uint64_t{0}};
  EXPECT_EQ(run_with(&options), "");
  EXPECT_EQ(cores_of_workers, std::vector<std::vector<int>>(2, allowed_cores()));
}

TEST_F(ContextOptions, without_their_size_are_refused) {
  const tilewright_options options = {size_before_flags - 1, 2, 0};
  EXPECT_EQ(run_with(&options), "options.struct_size is " + std::to_string(size_before_flags - 1) + "; set it to sizeof(tilewright_options)");
}

TEST_F(ContextOptions, with_unknown_flags_are_refused) {
  const tilewright_options options = {sizeof(tilewright_options), 2, 6};
  EXPECT_EQ(run_with(&options), "options.flags is 6; this artifact knows TILEWRIGHT_PIN_WORKERS (1) alone");
}

TEST_F(ContextOptions, with_too_many_threads_are_refused) {
  for (const int threads : {-1, 1025}) {
    const tilewright_options options = {sizeof(tilewright_options), threads, 0};
    EXPECT_EQ(run_with(&options), "threads must be 0 (all cores) to 1024");
  }
}

}  // namespace
}  // namespace tilewright::rt
