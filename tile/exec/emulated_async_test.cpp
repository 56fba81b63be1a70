#include "tile/exec/emulated_async.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "tile/atoms/wgmma.h"
#include "tile/cast.h"
#include "tile/testing/emulation.h"

// What a kernel does with barriers, copies and products, and the fault that each planted error is found as, whatever order the threads run in.

namespace tile::simt {
namespace {

using testing::fault;
using testing::run;
using testing::says;

template <class T>
T read(const SharedPointer<T>& values, i64 i = 0) {
  return values[i];
}

/// Thread 0 makes barriers of so many arrivals at byte 0, 8, …
template <class Exec>
SharedPointer<uint64_t> make_barriers(Exec& ex, std::initializer_list<int> counts) {
  const auto barriers = ex.template shared<uint64_t>(0, static_cast<int>(counts.size()));
  if (ex.thread() == 0) {
    for (const int* count = counts.begin(); count != counts.end(); ++count) ex.init_barrier(barriers + (count - counts.begin()), *count);
    ex.fence_async();
  }
  ex.sync();
  return barriers;
}

// ---- mbarriers and named barriers

/// Thread 0 writes a value and arrives, thread 32 waits and reads it, `turns` times; `write`, `read`: the parities waited for, added to the right ones.
std::string hand_over(int turns, int wrong_write, int wrong_read, bool release = true) {
  return fault({.threads = 64, .shared_bytes = 32}, [=](auto& ex) {
    const auto full = make_barriers(ex, {1, 1}), empty = full + 1;
    const auto value = ex.template shared<int>(16, 1);
    for (int turn = 0; turn < turns; ++turn) {
      if (ex.thread() == 0) {
        if (release) ex.wait(empty, turn % 2 ^ 1 ^ wrong_write);
        *value = turn;
        ex.arrive(full);
      } else if (ex.thread() == 32) {
        ex.wait(full, turn % 2 ^ wrong_read);
        EXPECT_EQ(read(value), turn);
        ex.arrive(empty);
      }
    }
  });
}
TEST(AsyncUnits, BarriersHandOverWhatWasWritten) {
  EXPECT_EQ(hand_over(5, 0, 0), "");
  EXPECT_TRUE(says(hand_over(1, 0, 1), "thread 32: reads bytes 16 to 19", ""));
  EXPECT_TRUE(says(hand_over(1, 1, 0), "wait for one another", "0 at wait() in emulated_async_test.cpp:"));
  EXPECT_TRUE(says(hand_over(1, 1, 0), "for parity 0", "phase 0 of the mbarrier at byte 8 lacks 1 arrivals and 0 bytes"));
  EXPECT_TRUE(says(hand_over(2, 0, 0, false), "", "with no sync in between"));
}

TEST(AsyncUnits, BarriersCountTheirArrivals) {
  const auto arrivals = [](int count, int arriving) {
    return fault({.threads = 64, .shared_bytes = 8}, [=](auto& ex) {
      const auto barrier = make_barriers(ex, {count});
      if (ex.thread() < arriving) ex.arrive(barrier);
      if (ex.thread() == 63) ex.wait(barrier, 0);
    });
  };
  EXPECT_EQ(arrivals(20, 20), "");
  EXPECT_TRUE(says(arrivals(20, 19), "63 at wait()", "lacks 1 arrivals"));
}

TEST(AsyncUnits, FindsMisusedBarriers) {
  const Launch launch{.threads = 64, .shared_bytes = 64};
  EXPECT_TRUE(
      says(fault(launch, [](auto& ex) { ex.arrive(ex.template shared<uint64_t>(0, 1)); }), "byte 0 of shared memory as an mbarrier", "which it is not"));
  EXPECT_TRUE(says(fault(launch,
                         [](auto& ex) {
                           const auto barrier = ex.template shared<uint64_t>(0, 1);
                           if (ex.thread() == 0) ex.init_barrier(barrier, 64);
                           ex.sync_warp();
                           if (ex.warp() == 0) ex.arrive(barrier);
                           ex.sync_warp();
                           if (ex.warp() == 1) ex.arrive(barrier);
                         }),
                   "thread ", "the mbarrier at byte 0"));
  EXPECT_TRUE(says(fault(launch,
                         [](auto& ex) {
                           make_barriers(ex, {1});
                           if (ex.thread() == 5) ex.template shared<int>(0, 2)[1] = 7;
                         }),
                   "thread 5: writes bytes 4 to 7", "an mbarrier lies there"));
  EXPECT_TRUE(says(fault(launch,
                         [](auto& ex) {
                           const auto barrier = make_barriers(ex, {1});
                           if (ex.thread() == 5) ex.arrive_expecting(barrier, 16), ex.arrive(barrier);
                         }),
                   "thread 5", "more often than its 1 times"));
}

TEST(AsyncUnits, TriesWithoutWaiting) {
  EXPECT_EQ(fault({.threads = 64, .shared_bytes = 16},
                  [](auto& ex) {
                    const auto barrier = make_barriers(ex, {1});
                    EXPECT_TRUE(ex.try_wait(barrier, 1));
                    EXPECT_FALSE(ex.try_wait(barrier, 0));
                    ex.sync();
                    if (ex.thread() == 0) ex.arrive(barrier);
                    while (!ex.try_wait(barrier, 0)) {
                    }
                  }),
            "");
}

TEST(AsyncUnits, SomeThreadsWaitForOneAnother) {
  const auto halves = [](int threads_of_first) {
    return fault({.threads = 128, .shared_bytes = 512}, [=](auto& ex) {
      const auto values = ex.template shared<int>(0, 128);
      const int half = ex.thread() / 64, other = half * 64 + (ex.thread() + 32) % 64;
      values[ex.thread()] = ex.thread();
      ex.sync_some(1 + half, half == 0 ? threads_of_first : 64);
      EXPECT_EQ(read(values, other), other);
    });
  };
  EXPECT_EQ(halves(64), "");
  EXPECT_TRUE(says(halves(96), "wait for one another", "0 to 63 at sync_some()"));
  EXPECT_TRUE(says(halves(48), "a barrier of 48 threads", "whole warps"));
  EXPECT_TRUE(says(fault({.threads = 64, .shared_bytes = 512},
                         [](auto& ex) {
                           const auto values = ex.template shared<int>(0, 64);
                           values[ex.thread()] = 1;
                           ex.sync_some(1 + ex.warp(), 32);
                           EXPECT_EQ(read(values, ex.thread() ^ 32), 1);
                         }),
                   "reads bytes ", "wrote them with no sync in between"));
  EXPECT_TRUE(says(fault({.threads = 64}, [](auto& ex) { ex.sync_some(16, 64); }), "barrier 16", "1 to 15"));
}

// ---- bulk copies

/// A tensor of 3 × 5 × 16 words, elements numbered, and boxes of 1 × 4 × 8 of it at bytes 128 and 256.
struct Words {
  std::vector<uint32_t> words = std::vector<uint32_t>(256);
  TensorMap map;

  Words() {
    std::iota(words.begin(), words.end(), 1u);
    map = tensor_map(aligned(), 240, {{16, 5, 3}, {1, 16, 80}, {8, 4, 1}}, Swizzle::none);
  }
  uint32_t* aligned() { return words.data() + (16 - reinterpret_cast<uintptr_t>(words.data()) % 16) % 16 / 4; }
};
constexpr int box = 8 * 4 * 4;
constexpr Launch copying{.threads = 64, .shared_bytes = 128 + 2 * box};

/// Thread 0 copies a box from `from`, all wait and compare it.
std::string loads(const BoxAt& from, int expected_bytes = box, int wrong_parity = 0, int boxes = 1) {
  Words x;
  return fault(copying, [&](auto& ex) {
    const auto barrier = make_barriers(ex, {1});
    const auto to = ex.template shared<uint32_t>(128, 2 * box / 4);
    if (ex.thread() == 0) {
      ex.arrive_expecting(barrier, expected_bytes);
      for (int i = 0; i < boxes; ++i) ex.load_box(to + i * box / 4, x.map, from, barrier);
    }
    ex.wait(barrier, wrong_parity);
    const int i = ex.thread() % 32;
    const i64 column = from.index[0] + i % 8, row = from.index[1] + i / 8, entry = from.index[2];
    const bool inside = column >= 0 && column < 16 && row >= 0 && row < 5 && entry >= 0 && entry < 3;
    EXPECT_EQ(read(to, i), inside ? x.aligned()[entry * 80 + row * 16 + column] : 0) << i;
  });
}
TEST(AsyncUnits, CopiesBoxesAndZerosOutsideOfTheTensor) {
  for (const BoxAt& from : {BoxAt{{0, 0, 0}}, {{8, 1, 2}}, {{3, 2, 1}}, {{12, 3, 1}}, {{-5, -2, 0}}, {{0, 0, 3}}, {{0, -9, 1}}}) EXPECT_EQ(loads(from), "");
}

TEST(AsyncUnits, FindsWrongCountsOfBytes) {
  EXPECT_TRUE(says(loads({}, box + 16), "0 to 63 at wait()", "lacks 0 arrivals and 16 bytes"));
  EXPECT_TRUE(says(loads({}, box - 16), "block 0", "16 bytes more landed at the mbarrier at byte 0 than it expected"));
  EXPECT_TRUE(says(loads({}, box, 0, 2), "block 0", "bulk copies under way: it expected too few bytes"));
}

TEST(AsyncUnits, FindsBoxesReadBeforeTheyLand) {
  EXPECT_TRUE(says(loads({}, box, 1), "reads bytes ", ""));
  Words x;
  const auto waits_for_another = [&](auto& ex) {
    const auto first = make_barriers(ex, {1, 1}), second = first + 1;
    const auto to = ex.template shared<uint32_t>(128, 2 * box / 4);
    if (ex.thread() == 0) {
      ex.arrive_expecting(first, box);
      ex.load_box(to, x.map, BoxAt{}, first);
      ex.wait(first, 0);
      ex.arrive_expecting(second, box);
      ex.load_box(to + box / 4, x.map, BoxAt{}, second);
    }
    if (ex.thread() == 40) {
      ex.wait(second, 0);
      read(to);
    }
  };
  // What thread 0 had seen when it arrived is seen by those that wait for it: no fault; the barrier's own copies are not.
  EXPECT_EQ(fault(copying, waits_for_another), "");
  const auto arrives_first = [&](auto& ex) {
    const auto first = make_barriers(ex, {1, 1}), second = first + 1;
    const auto to = ex.template shared<uint32_t>(128, 2 * box / 4);
    if (ex.thread() == 0) {
      ex.arrive_expecting(second, box);
      ex.arrive_expecting(first, box);
      ex.load_box(to, x.map, BoxAt{}, first);
      ex.wait(first, 0);
      ex.load_box(to + box / 4, x.map, BoxAt{}, second);
    }
    if (ex.thread() == 40) {
      ex.wait(second, 0);
      read(to);
    }
  };
  EXPECT_TRUE(says(fault(copying, arrives_first), "thread 40: reads bytes 128 to 131", "its mbarrier has not been waited for"));
}

TEST(AsyncUnits, FindsBoxesCopiedOverWhatIsStillRead) {
  Words x;
  const auto twice = [&](bool waits, bool releases) {
    return fault(copying, [&, waits, releases](auto& ex) {
      const auto full = make_barriers(ex, {1, 32}), empty = full + 1;
      const auto to = ex.template shared<uint32_t>(128, box / 4);
      for (int turn = 0; turn < 2; ++turn) {
        if (ex.thread() == 0) {
          if (waits) ex.wait(empty, turn ^ 1);
          ex.arrive_expecting(full, box);
          ex.load_box(to, x.map, BoxAt{}, full);
          if (!waits && turn == 0) ex.wait(full, 0);
        } else if (ex.warp() == 1) {
          ex.wait(full, turn);
          read(to, ex.lane());
          if (releases) ex.arrive(empty);
        }
      }
      if (ex.thread() == 0) ex.wait(full, 1);
    });
  };
  EXPECT_EQ(twice(true, true), "");
  EXPECT_TRUE(says(twice(false, true), "bytes ", "of shared memory"));
  EXPECT_TRUE(says(twice(true, false), "0 at wait()", "lacks 32 arrivals"));
}

TEST(AsyncUnits, FindsBoxesThatNobodyWaitedFor) {
  Words x;
  EXPECT_TRUE(says(fault(copying,
                         [&](auto& ex) {
                           const auto barrier = make_barriers(ex, {2});
                           if (ex.thread() == 0) ex.load_box(ex.template shared<uint32_t>(128, box / 4), x.map, BoxAt{}, barrier);
                           if (ex.thread() == 0) ex.arrive_expecting(barrier, box);
                         }),
                   "block 0", "ends with bulk copies that no thread has waited for"));
}

TEST(AsyncUnits, FindsBoxesOutOfBoundsAndMisaligned) {
  Words x;
  const auto copy = [&](int byte, int bytes) {
    return fault(copying, [&, byte, bytes](auto& ex) {
      const auto barrier = make_barriers(ex, {1});
      if (ex.thread() != 0) return;
      ex.arrive_expecting(barrier, box);
      ex.load_box(ex.template shared<uint32_t>(byte, bytes / 4), x.map, BoxAt{}, barrier);
      ex.wait(barrier, 0);
    });
  };
  EXPECT_EQ(copy(128, box), "");
  EXPECT_TRUE(says(copy(128, box - 16), "thread 0: accesses bytes 128 to 255", "out of bounds of the part"));
  EXPECT_TRUE(says(copy(144, box), "bytes 144 to 271", "not aligned to 128"));
  EXPECT_THROW(tensor_map(x.aligned(), 239, {{16, 5, 3}, {1, 16, 80}, {8, 4, 1}}, Swizzle::none), EmulationError);
  EXPECT_THROW(tensor_map(x.aligned() + 1, 200, {{8, 2, 1}, {1, 16, 80}, {8, 2, 1}}, Swizzle::none), EmulationError);
  EXPECT_THROW(tensor_map(x.aligned(), 200, {{8, 2, 1}, {1, 9, 80}, {8, 2, 1}}, Swizzle::none), EmulationError);
  EXPECT_THROW(tensor_map(x.aligned(), 200, {{8, 2, 1}, {1, 16, 80}, {8, 2, 1}}, Swizzle::bytes128), EmulationError);
}

TEST(AsyncUnits, TensorMapsHaveLimits) {
  const auto fault = [](const TensorShape& shape) { return std::string(fault_of(shape, 4, Swizzle::none) ? fault_of(shape, 4, Swizzle::none) : ""); };
  constexpr i64 axis = (i64{1} << 31) - 1, stride = (i64{1} << 38) - 4;
  EXPECT_EQ(fault({{axis, axis, 1}, {1, stride, stride}, {256, 256, 1}}), "");
  EXPECT_EQ(fault({{axis + 1, 1, 1}, {1, 16, 80}, {8, 1, 1}}), "a tensor map's axis has elements whose coordinates are beyond 32 bits");
  EXPECT_EQ(fault({{8, 2, 2}, {1, 16, stride + 4}, {8, 1, 1}}), "a tensor map's strides are positive and below 2^40 bytes");
  EXPECT_EQ(fault({{8, 2, 2}, {1, 0, 80}, {8, 1, 1}}), "a tensor map's strides are positive and below 2^40 bytes");
  EXPECT_EQ(fault({{8, 2, 2}, {1, 18, 80}, {8, 1, 1}}), "a tensor map's strides are multiples of 16 bytes");
  EXPECT_EQ(fault({{512, 2, 2}, {1, 512, 1024}, {260, 1, 1}}), "a tensor map's box has 1 to 256 elements an axis");
  EXPECT_EQ(fault({{8, 2, 2}, {1, 16, 80}, {6, 1, 1}}), "a tensor map's box has a multiple of 16 bytes along its first axis");
  EXPECT_TRUE(says(loads({{i64{1} << 32, 0, 0}}), "thread 0: copies a box at 4294967296", "no coordinate of 32 bits"));
}

/// Every thread writes words of a box; `between`; thread 0 stores it.
template <class Between, class After>
std::string stores(Words& x, Between between, After after, int column = 12) {
  return fault(copying, [&, column](auto& ex) {
    const auto from = ex.template shared<uint32_t>(128, box / 4);
    if (ex.warp() == 0) from[ex.lane()] = static_cast<uint32_t>(1000 + ex.lane());
    between(ex);
    ex.sync();
    if (ex.thread() == 0) {
      ex.store_box(x.map, BoxAt{{column, 3, 1}}, from);
      ex.commit_stores();
    }
    after(ex, from);
  });
}
const auto fence = [](auto& ex) { ex.fence_async(); };
/// What the tensor has in column 12 of row 3 when thread 0 goes on after its store, order by order.
std::set<uint32_t> seen_after_storing() {
  std::set<uint32_t> seen;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Words x;
    run(
        copying,
        [&](auto& ex) {
          const auto from = ex.template shared<uint32_t>(128, box / 4);
          if (ex.warp() == 0) from[ex.lane()] = 1000;
          ex.fence_async();
          ex.sync();
          if (ex.thread() == 0) {
            ex.store_box(x.map, BoxAt{{12, 3, 1}}, from);
            ex.commit_stores();
            ex.template wait_stores<0>();
            from[0] = 7;  // has been read
            seen.insert(x.aligned()[80 + 3 * 16 + 12]);
          }
        },
        seed);
    EXPECT_EQ(x.aligned()[80 + 3 * 16 + 12], 1000u);
  }
  return seen;
}
const auto wait_for_stores = [](auto& ex, auto) { ex.template wait_stores<0>(); };
TEST(AsyncUnits, StoresBoxesInsideOfTheTensor) {
  Words x, before;
  EXPECT_EQ(stores(x, fence, wait_for_stores), "");
  for (int i = 0; i < 240; ++i) {
    const int entry = i / 80, row = i / 16 % 5, column = i % 16;
    const bool stored = entry == 1 && row >= 3 && column >= 12;
    EXPECT_EQ(x.aligned()[i], stored ? static_cast<uint32_t>(1000 + (row - 3) * 8 + column - 12) : before.aligned()[i]) << i;
  }
}

TEST(AsyncUnits, StoresWaitedForHaveBeenReadAndLandLater) { EXPECT_TRUE(seen_after_storing().contains(80 + 3 * 16 + 12 + 1)); }

TEST(AsyncUnits, CountsReadsUnderWay) {
  Words x;
  x.map = tensor_map(x.aligned(), 240, {{16, 5, 3}, {1, 16, 80}, {4, 1, 1}}, Swizzle::none);
  const auto stores = [&](int times) {
    return fault({.threads = 32, .shared_bytes = 144}, [&, times](auto& ex) {
      const auto from = ex.template shared<uint32_t>(128, 4);
      if (ex.lane() != 0) return;
      for (int i = 0; i < 4; ++i) from[i] = 1;
      ex.fence_async();
      for (int i = 0; i < times; ++i) ex.store_box(x.map, BoxAt{}, from);
      ex.commit_stores();
      ex.template wait_stores<0>();
    });
  };
  EXPECT_TRUE(says(stores(1 << 16), "asynchronously reads bytes 128 to 143", "65535 reads of them are under way"));
}

TEST(AsyncUnits, FindsFaultyStoresOfBoxes) {
  Words x;
  EXPECT_TRUE(says(stores(
                       x, [](auto&) {}, wait_for_stores),
                   "thread 0: asynchronously reads", "with no fence_async since"));
  EXPECT_TRUE(says(stores(
                       x,
                       [](auto& ex) {
                         if (ex.thread() != 7) ex.fence_async();
                       },
                       wait_for_stores),
                   "thread 7 wrote them", "with no fence_async since"));
  EXPECT_TRUE(says(stores(x, fence, [](auto&, auto) {}), "thread 0: ends with bulk stores", "not waited for"));
  const auto overwrites = [](auto& ex, auto from) {
    if (ex.thread() == 0) from[0] = 7;
    ex.template wait_stores<0>();
  };
  EXPECT_TRUE(says(stores(x, fence, overwrites), "thread 0: writes bytes 128 to 131", "has not been waited for"));
  const auto waits_for_one_too_few = [](auto& ex, auto from) {
    ex.template wait_stores<1>();
    if (ex.thread() == 0) from[0] = 7;
    ex.template wait_stores<0>();
  };
  EXPECT_TRUE(says(stores(x, fence, waits_for_one_too_few), "thread 0: writes bytes 128 to 131", "has not been waited for"));
  const auto others_overwrite = [](auto& ex, auto from) {
    ex.template wait_stores<0>();
    if (ex.thread() == 33) from[0] = 7;
  };
  EXPECT_TRUE(says(stores(x, fence, others_overwrite), "thread 33: writes bytes 128 to 131", ""));
  const auto others_wait = [](auto& ex, auto from) {
    ex.template wait_stores<0>();
    ex.sync();
    if (ex.thread() == 33) from[0] = 7;
  };
  EXPECT_EQ(stores(x, fence, others_wait), "");
}

// ---- products

using Atom = Wgmma<float16, float16, 64>;
constexpr int a_at = 1024, b_at = 1024 + 64 * 128;
constexpr Launch multiplying{.threads = 128, .shared_bytes = b_at + 64 * 128};

/// A warpgroup writes factors of ones; `between`; a product of 16 ones; `after(ex, sums)`.
template <class Between, class Fence, class After>
std::string products(Between between, Fence fence_sums, After after) {
  return fault(multiplying, [&](auto& ex) {
    const auto factors = ex.template shared<float16>(a_at, 2 * 64 * 64);
    for (int i = ex.thread(); i < 2 * 64 * 64; i += 128) factors[i] = float16{0x3c00};
    between(ex);
    ex.sync();
    typename std::decay_t<decltype(ex)>::template Sums<float, Atom::values> sums(ex);
    fence_sums(ex, sums);
    Atom::begin(ex, sums, Factor{a_at}, Factor{b_at}, false);
    ex.commit_products();
    after(ex, sums);
  });
}
const auto fence_sums = [](auto& ex, auto& sums) { ex.fence_products(sums); };
const auto see_sums = [](auto& ex, auto& sums) {
  ex.template wait_products<0>();
  ex.settle(sums);
  for (int i = 0; i < Atom::values; ++i) EXPECT_EQ(sums[i], 16);
};
TEST(AsyncUnits, ProductsAreThereOnceWaitedFor) { EXPECT_EQ(products(fence, fence_sums, see_sums), ""); }

TEST(AsyncUnits, FindsFaultyProducts) {
  EXPECT_TRUE(says(products([](auto&) {}, fence_sums, see_sums), "asynchronously reads", "with no fence_async since"));
  EXPECT_TRUE(says(products(
                       fence, [](auto&, auto&) {}, see_sums),
                   "begins a product", "no fence_products since"));
  EXPECT_TRUE(says(products(
                       fence,
                       [](auto& ex, auto& sums) {
                         ex.fence_products(sums);
                         sums[3] = 0;
                       },
                       see_sums),
                   "begins a product", "no fence_products since"));
  const auto reads_early = [](auto& ex, auto& sums) {
    EXPECT_EQ(sums[0], 16);
    ex.template wait_products<0>();
  };
  EXPECT_TRUE(says(products(fence, fence_sums, reads_early), "accesses the sums of a product", "not waited for"));
  const auto one_too_few = [](auto& ex, auto& sums) {
    ex.template wait_products<1>();
    EXPECT_EQ(sums[0], 16);
    ex.template wait_products<0>();
  };
  EXPECT_TRUE(says(products(fence, fence_sums, one_too_few), "accesses the sums of a product", "not waited for"));
  EXPECT_TRUE(says(products(fence, fence_sums, [](auto&, auto&) {}), "ends with products", "not waited for"));
  const auto overwrites = [](auto& ex, auto&) {
    if (ex.thread() == 9) ex.template shared<float16>(a_at, 1)[0] = float16{};
    ex.template wait_products<0>();
  };
  EXPECT_TRUE(says(products(fence, fence_sums, overwrites), "of shared memory", ""));
  const auto overwrites_after_its_own = [](auto& ex, auto&) {
    ex.template wait_products<0>();
    if (ex.thread() == 9) ex.template shared<float16>(b_at, 1)[0] = float16{};
  };
  EXPECT_TRUE(says(products(fence, fence_sums, overwrites_after_its_own), "of shared memory", ""));
  const auto overwrites_after_all = [](auto& ex, auto&) {
    ex.template wait_products<0>();
    ex.sync();
    if (ex.thread() == 9) ex.template shared<float16>(b_at, 1)[0] = float16{};
  };
  EXPECT_EQ(products(fence, fence_sums, overwrites_after_all), "");
}

TEST(AsyncUnits, FindsProductsThatLanesBeginDifferently) {
  const auto text = fault(multiplying, [](auto& ex) {
    typename std::decay_t<decltype(ex)>::template Sums<float, Atom::values> sums(ex);
    ex.fence_products(sums);
    Atom::begin(ex, sums, Factor{a_at}, Factor{static_cast<uint32_t>(ex.lane() == 5 ? a_at : b_at)}, false);
    ex.template wait_products<0>();
  });
  EXPECT_TRUE(says(text, "begins a product", "differs from lane to lane"));
}

/// A product of zeros in those warps that `takes_part` names, of the factors that `factors(warp)` names.
template <class Takes, class Factors>
std::string warpgroup(int threads, Takes takes_part, Factors factors) {
  return fault({.threads = threads, .shared_bytes = multiplying.shared_bytes}, [=](auto& ex) {
    const auto memory = ex.template shared<float16>(a_at, 2 * 64 * 64);
    for (int i = ex.thread(); i < 2 * 64 * 64; i += threads) memory[i] = float16{};
    ex.fence_async();
    ex.sync();
    if (!takes_part(ex.warp())) return;
    typename std::decay_t<decltype(ex)>::template Sums<float, Atom::values> sums(ex);
    ex.fence_products(sums);
    const auto [a, b, accumulate] = factors(ex.warp());
    Atom::begin(ex, sums, Factor{static_cast<uint32_t>(a)}, Factor{static_cast<uint32_t>(b)}, accumulate);
    ex.commit_products();
    ex.template wait_products<0>();
  });
}
struct Multiplied {
  int a = a_at, b = b_at;
  bool accumulate = false;
};
TEST(AsyncUnits, FourWarpsMultiplyTogether) {
  const auto all = [](int) { return true; };
  const auto same = [](int) { return Multiplied{}; };
  EXPECT_EQ(warpgroup(256, all, same), "");
  EXPECT_EQ(warpgroup(
                256, [](int warp) { return warp >= 4; }, same),
            "");
  // Warpgroups have nothing to do with one another.
  EXPECT_EQ(warpgroup(256, all, [](int warp) { return Multiplied{.accumulate = warp >= 4}; }), "");

  EXPECT_TRUE(says(warpgroup(
                       128, [](int warp) { return warp != 2; }, same),
                   "warp 2 has ended, but warp", "of its warpgroup begins a product"));
  EXPECT_TRUE(says(warpgroup(
                       256, [](int warp) { return warp >= 2 && warp < 6; }, same),
                   "has ended, but warp", "of its warpgroup begins a product"));
  EXPECT_TRUE(says(warpgroup(
                       224, [](int warp) { return warp >= 3; }, same),
                   "the four warps from 4 on", "the block has not all of them"));
  EXPECT_TRUE(says(warpgroup(112, all, same), "the four warps from 0 on", "the block has not all of them"));
  const char* const differs = "begins a product that differs from that of warp";
  EXPECT_TRUE(says(warpgroup(128, all, [](int warp) { return Multiplied{.b = warp == 3 ? a_at : b_at}; }), "block 0, thread", differs));
  EXPECT_TRUE(says(warpgroup(128, all, [](int warp) { return Multiplied{.a = warp == 1 ? b_at : a_at}; }), "block 0, thread", differs));
  EXPECT_TRUE(says(warpgroup(128, all, [](int warp) { return Multiplied{.accumulate = warp == 0}; }), "block 0, thread", differs));
}

TEST(AsyncUnits, FourWarpsBeginProductsInTheSameOrder) {
  const auto twice = [](auto accumulate) {
    return fault(multiplying, [=](auto& ex) {
      const auto memory = ex.template shared<float16>(a_at, 2 * 64 * 64);
      for (int i = ex.thread(); i < 2 * 64 * 64; i += 128) memory[i] = float16{};
      ex.fence_async();
      ex.sync();
      typename std::decay_t<decltype(ex)>::template Sums<float, Atom::values> sums(ex);
      ex.fence_products(sums);
      for (int turn = 0; turn < accumulate(ex.warp(), 2); ++turn) Atom::begin(ex, sums, Factor{a_at}, Factor{b_at}, accumulate(ex.warp(), turn) != 0);
      ex.commit_products();
      ex.template wait_products<0>();
    });
  };
  EXPECT_EQ(twice([](int, int turn) { return turn; }), "");
  EXPECT_TRUE(says(twice([](int warp, int turn) { return turn == 2 ? 2 : warp == 1 ? 1 - turn : turn; }), "begins a product", "differs from that of warp"));
  EXPECT_TRUE(says(twice([](int warp, int turn) { return turn == 2 && warp == 1 ? 1 : turn; }), "warp 1 has ended", "begins a product"));
}

// ---- registers

TEST(AsyncUnits, FourWarpsChangeTheirRegistersTogether) {
  const auto give = [](int threads, auto gives) {
    return fault({.threads = threads}, [=](auto& ex) {
      if (gives(ex.thread())) ex.template give_registers<40>();
    });
  };
  EXPECT_EQ(give(256, [](int thread) { return thread >= 128; }), "");
  EXPECT_TRUE(says(give(128, [](int thread) { return thread < 96; }), "warp 3 has ended", "gives registers up to have 40"));
  EXPECT_TRUE(says(give(128, [](int thread) { return thread % 32 < 16; }), "wait for one another", "at give_registers()"));
  EXPECT_TRUE(says(give(256, [](int thread) { return thread >= 64 && thread < 192; }), "has ended", "gives registers up to have 40"));
  EXPECT_TRUE(says(give(64, [](int) { return true; }), "gives registers up to have 40", "the block has not all of them"));
  EXPECT_TRUE(says(fault({.threads = 384},
                         [](auto& ex) {
                           if (ex.warp() == 2)
                             ex.template give_registers<48>();
                           else
                             ex.template give_registers<40>();
                         }),
                   "gives registers up to have ", "where warp"));
}

TEST(AsyncUnits, RegistersComeFromThoseWhoGiveThem) {
  const auto share = [](auto given, auto taken) {
    return fault({.threads = 384}, [=](auto& ex) {
      if (ex.warp() < 8)
        ex.template take_registers<taken()>();
      else
        ex.template give_registers<given()>();
    });
  };
  using std::integral_constant;
  EXPECT_EQ(share(integral_constant<int, 40>(), integral_constant<int, 232>()), "");
  // 3 × 168 are there: 2 × 232 + 48 are more, though a multiprocessor has them.
  EXPECT_TRUE(says(share(integral_constant<int, 48>(), integral_constant<int, 232>()), "wait for one another", "take_registers()"));
  EXPECT_TRUE(says(share(integral_constant<int, 72>(), integral_constant<int, 232>()), "wait for one another", "take_registers()"));
  EXPECT_TRUE(says(share(integral_constant<int, 176>(), integral_constant<int, 168>()), "gives registers up to have 176", "has 168"));
}

}  // namespace
}  // namespace tile::simt
