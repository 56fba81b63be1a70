#include "tile/exec/emulator.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "tile/testing/emulation.h"

namespace tile::simt {
namespace {

using testing::fault;
using testing::Kernel;
using testing::run;
using testing::says;

template <class T>
T read(const SharedPointer<T>& values, i64 i = 0) {
  return values[i];
}

const auto add = [](auto a, auto b) { return a + b; };

template <int warp>
void numbers_every_thread() {
  std::vector<int> seen(3 * 100);
  run<warp>({.blocks = 3, .threads = 100}, [&](auto& ex) {
    EXPECT_EQ(ex.threads(), 100);
    EXPECT_EQ(ex.blocks(), 3);
    EXPECT_EQ(ex.warp_size, warp);
    EXPECT_EQ(ex.lane(), ex.thread() % warp);
    EXPECT_EQ(ex.warp(), ex.thread() / warp);
    ++seen.at(static_cast<size_t>(ex.block() * 100 + ex.thread()));
  });
  for (int times : seen) EXPECT_EQ(times, 1);
}
TEST(Emulator, NumbersEveryThreadOnce) {
  numbers_every_thread<32>();
  numbers_every_thread<64>();
}

TEST(Emulator, RunsNoBlockOfAnEmptyGrid) {
  run({.blocks = 0, .threads = 32}, [](auto&) { ADD_FAILURE(); });
}

TEST(Emulator, RefusesWhatNoGpuCanLaunch) {
  const auto nothing = [](auto&) {};
  EXPECT_TRUE(says(fault({.threads = 0}, nothing), "0 threads", "1 to 1024"));
  EXPECT_TRUE(says(fault({.threads = 1025}, nothing), "1025 threads", "1 to 1024"));
  EXPECT_TRUE(says(fault({.blocks = -1}, nothing), "-1 blocks", ""));
  EXPECT_TRUE(says(fault({.shared_bytes = (227 << 10) + 1}, nothing), "shared memory", "0 to 232448"));
  run({.threads = 1024, .shared_bytes = 227 << 10}, nothing);
}

/// Sums 0 … n-1 of every block over its warps and then over shared memory.
struct BlockSum {
  int* sums;
  i64 blocks;
  template <class Exec>
  void operator()(Exec& ex) const {
    auto sum = ex.global(sums, blocks);
    auto parts = ex.template shared<int>(0, ex.threads() / Exec::warp_size);
    const int part = reduce_warp(ex, ex.thread() + static_cast<int>(ex.block()), add);
    if (ex.lane() == 0) parts[ex.warp()] = part;
    ex.sync();
    if (ex.thread() == 0) {
      int total = 0;
      for (int i = 0; i < ex.threads() / Exec::warp_size; ++i) total += parts[i];
      sum[ex.block()] = total;
    }
  }
};
template <int warp>
void reduces(Team& team, uint64_t seed) {
  std::vector<int> sums(5);
  launch_emulated<warp>(BlockSum{sums.data(), 5}, {.blocks = 5, .threads = 256, .shared_bytes = 256 / warp * 4}, team, seed);
  for (int block = 0; block < 5; ++block) EXPECT_EQ(sums[static_cast<size_t>(block)], 255 * 128 + 256 * block);
}
TEST(Emulator, ReducesBlocksOverWarpsAndSharedMemoryInEveryOrder) {
  for (int size : {1, 2}) {
    testing::TestTeam threads(size);
    for (uint64_t seed = 0; seed < 20; ++seed) {
      reduces<32>(threads.team(), seed);
      reduces<64>(threads.team(), seed);
    }
  }
}

TEST(Emulator, OrdersOfBlocksAndThreadsDependOnTheSeedAlone) {
  const auto order = [](const Launch& launch, uint64_t seed) {
    std::vector<i64> ran;
    const auto note = [&](auto& ex) {
      ran.push_back(ex.block() * ex.threads() + ex.thread());
      ex.sync();
      ran.push_back(ex.block() * ex.threads() + ex.thread());
    };
    run(launch, note, seed);
    return ran;
  };
  for (const Launch& launch : {Launch{.blocks = 1, .threads = 40}, Launch{.blocks = 40, .threads = 1}}) {
    EXPECT_EQ(order(launch, 1), order(launch, 1));
    EXPECT_NE(order(launch, 1), order(launch, 2));
  }
}

TEST(Emulator, LaunchesWithTheTeamOfTheArguments) {
  testing::TestTeam threads(2);
  std::vector<int> sums(5);
  void* tensors[] = {sums.data()};
  launch(BlockSum{sums.data(), 5}, {.blocks = 5, .threads = 64, .shared_bytes = 8}, Args{tensors, nullptr, threads.team()});
  EXPECT_EQ(sums[1], 63 * 32 + 64);
}

// ---- barriers and shuffles

TEST(Emulator, ShufflesWithinPartialWarps) {
  run({.threads = 40}, [](auto& ex) {
    const int lanes = ex.warp() == 0 ? 32 : 8;
    for (int step = 0; step < 5; ++step)
      EXPECT_EQ(ex.shuffle(ex.thread() * 10 + step, (ex.lane() + 1) % lanes), (ex.warp() * 32 + (ex.lane() + 1) % lanes) * 10 + step);
  });
}

TEST(Emulator, FindsShufflesFromLanesThatDoNotExist) {
  const auto reduce = [](auto& ex) { reduce_warp(ex, 1, add); };
  EXPECT_EQ(fault({.threads = 64}, reduce), "");
  EXPECT_TRUE(says(fault({.threads = 40}, reduce), "block 0, thread 3", "of a warp of 8 threads"));
}

TEST(Emulator, FindsThreadsThatEndWhileOthersWait) {
  const std::string text = fault({.threads = 64}, [](auto& ex) {
    if (ex.thread() < 48) ex.sync();
  });
  EXPECT_TRUE(says(text, "block 0", "0 to 47 at sync() in emulator_test.cpp:")) << text;
  EXPECT_TRUE(says(text, "wait for one another", "48 to 63 at the kernel's end")) << text;
}

TEST(Emulator, FindsThreadsThatWaitAtDifferentBarriers) {
  const auto branch = [](auto& ex) {
    if (ex.lane() < 16) {
      ex.sync_warp();
    } else {
      ex.shuffle(1, 0);
    }
  };
  EXPECT_TRUE(says(fault({.threads = 32}, branch), "block 0, thread ", "comes to "));
  const auto levels = [](auto& ex) {
    if (ex.lane() < 16) {
      ex.sync_warp();
    } else {
      ex.sync();
    }
  };
  EXPECT_TRUE(says(fault({.threads = 32}, levels), "0 to 15 at sync_warp()", "16 to 31 at sync()"));
  const auto sides = [](auto& ex) {
    if (ex.lane() < 16) {
      ex.sync();
    } else {
      ex.sync();
    }
  };
  EXPECT_TRUE(says(fault({.threads = 32}, sides), "comes to sync() in emulator_test.cpp:", "waits at sync() in emulator_test.cpp:"));
}

TEST(Emulator, UnwindsTheOtherThreadsOfAFaultyBlock) {
  int objects = 0, ended = 0;
  struct Counted {
    int& count;
    explicit Counted(int& c) : count(c) { ++count; }
    ~Counted() { --count; }
  };
  const auto planted = [&](auto& ex) {
    Counted counted(objects);
    ex.sync();
    if (ex.thread() == 5) throw EmulationError("planted");
    ex.sync_warp();
    ++ended;
  };
  EXPECT_TRUE(says(fault({.threads = 64}, planted), "block 0, thread 5", "planted"));
  const auto divergent = [&](auto& ex) {
    Counted counted(objects);
    if (ex.thread() < 5) ex.sync();
    ended += ex.thread() < 5;
  };
  EXPECT_TRUE(says(fault({.threads = 64}, divergent), "block 0", "wait for one another"));
  EXPECT_EQ(objects, 0);
  EXPECT_LE(ended, 20 * 32) << "only the warp without the fault can have gone on";
}

TEST(Emulator, BeginsNoBlockAfterAFaultAndGoesOnWithTheNextLaunch) {
  int began = 0;
  const auto every = [&](auto&) {
    ++began;
    throw EmulationError("planted");
  };
  EXPECT_THROW(run({.blocks = 100, .threads = 64}, every), EmulationError);
  EXPECT_EQ(began, 1);
  const auto some = [](auto& ex) {
    ex.sync();
    if (ex.block() % 10 == 7) throw EmulationError("planted");
  };
  testing::TestTeam threads(2);
  EXPECT_THROW(launch_emulated(Kernel<decltype(some)>{some}, {.blocks = 100, .threads = 64}, threads.team(), 1), EmulationError);
  reduces<32>(threads.team(), 1);
}

// ---- device memory

TEST(Emulator, PointersToDeviceMemoryIndexAddAndCompare) {
  std::vector<int> data{0, 1, 2, 3, 4, 5, 6, 7};
  run({.threads = 1}, [&](auto& ex) {
    Pointer<int> p = ex.global(data.data(), 8);
    Pointer<const int> q = p + 3;
    EXPECT_EQ(*q, 3);
    EXPECT_EQ(q[-1], 2);
    EXPECT_EQ(q - p, 3);
    EXPECT_TRUE(p < q && q == p + 3 && p != q);
    EXPECT_EQ(*++q, 4);
    EXPECT_EQ(*q++, 4);
    EXPECT_EQ(*(q -= 2), 3);
    p += 7;
    *p = 70;
  });
  EXPECT_EQ(data[7], 70);
}

TEST(Emulator, FindsAccessesOutsideOfATensor) {
  std::vector<float> data(10);
  for (int at : {10, -1}) {
    const std::string reads = fault({.blocks = 2, .threads = 8}, [&](auto& ex) {
      const Pointer<const float> x = ex.global(data.data(), 10);
      if (ex.block() == 1 && ex.thread() == 6) {
        EXPECT_EQ(x[at], 0);
      }
    });
    EXPECT_TRUE(says(reads, "block 1, thread 6", "of a tensor of 40 bytes in device memory: out of bounds"));
    EXPECT_TRUE(says(fault({}, [&](auto& ex) { (ex.global(data.data(), 10) + at)[0] = 1; }), "block 0, thread ", "out of bounds"));
  }
}

struct alignas(16) Float4 {
  float x, y, z, w;
};
TEST(Emulator, FindsMisalignedVectorAccesses) {
  std::vector<Float4> data(2);
  const auto at = [&](int element) { return [&data, element](auto& ex) { as<Float4>(ex.global(&data[0].x, 8) + element)->w = 1; }; };
  EXPECT_EQ(fault({}, at(4)), "");
  EXPECT_EQ(data[1].w, 1);
  EXPECT_TRUE(says(fault({}, at(2)), "bytes 8 to 23", "not aligned to 16"));
  EXPECT_TRUE(says(fault({}, at(8)), "bytes 32 to 47", "out of bounds"));
}

// ---- shared memory

TEST(Emulator, SharedMemoryHoldsWhatWasWritten) {
  run(
      {.threads = 64, .shared_bytes = 1024},
      [](auto& ex) {
        SharedPointer<float> values = ex.template shared<float>(256, 64);
        values[ex.thread()] = 1;
        values[ex.thread()] += static_cast<float>(ex.thread());
        ex.sync();
        const SharedPointer<const float> other = values + (63 - ex.thread());
        EXPECT_EQ(*other, 64 - ex.thread());
        ex.sync();
        values[ex.thread()] = 1;
        EXPECT_EQ(as<const uint32_t>(values)[ex.thread()], 0x3F800000u);
      },
      3);
}

TEST(Emulator, FindsAccessesOutsideOfSharedMemory) {
  const Launch launch{.threads = 1, .shared_bytes = 128};
  EXPECT_TRUE(says(fault(launch, [](auto& ex) { ex.template shared<int>(64, 17); }), "block 0, thread 0", "the launch has 128"));
  EXPECT_TRUE(says(fault(launch, [](auto& ex) { ex.template shared<int>(0, 8)[8] = 1; }), "bytes 32 to 35", "out of bounds"));
  EXPECT_TRUE(says(fault(launch, [](auto& ex) { ex.template shared<int>(64, 8)[-1] = 1; }), "bytes 60 to 63", "out of bounds"));
  EXPECT_TRUE(says(fault(launch, [](auto& ex) { as<Float4>(ex.template shared<float>(8, 16))[0] = Float4{}; }), "bytes 8 to 23", "not aligned to 16"));
}

TEST(Emulator, FindsReadsOfSharedMemoryThatWasNeverWritten) {
  const Launch launch{.blocks = 2, .threads = 1, .shared_bytes = 64};
  const std::string text = fault(launch, [](auto& ex) {
    auto values = ex.template shared<float>(0, 16);
    for (int i = 0; i < 15; ++i) values[i] = 1;
    EXPECT_EQ(read(values, 14), 1.f);
    EXPECT_NE(read(values, 15), 1.f);
  });
  EXPECT_TRUE(says(text, "reads bytes 60 to 63", "never written"));
  const std::string of_last_block = fault(launch, [](auto& ex) {
    static bool first = true;
    auto values = ex.template shared<float>(0, 16);
    if (std::exchange(first, false)) values[0] = 1;
    EXPECT_EQ(read(values, 0), 1.f);
  });
  EXPECT_TRUE(says(of_last_block, "reads bytes 0 to 3", "never written"));
}

/// Writes by thread % 64 and reads by its neighbour, with what `between` does in between.
template <class Between>
std::string neighbours(Between between, int step) {
  return fault({.threads = 64, .shared_bytes = 256}, [=](auto& ex) {
    auto values = ex.template shared<int>(0, 64);
    values[ex.thread()] = ex.thread();
    between(ex);
    EXPECT_EQ(read(values, ex.thread() ^ step), ex.thread() ^ step);
  });
}
TEST(Emulator, FindsReadsThatNoBarrierSeparatesFromWrites) {
  const auto nothing = [](auto&) {};
  const auto sync = [](auto& ex) { ex.sync(); };
  const auto sync_warp = [](auto& ex) { ex.sync_warp(); };
  const auto shuffle = [](auto& ex) { ex.shuffle(1, 0); };
  EXPECT_TRUE(says(neighbours(nothing, 1), "reads bytes ", ""));
  EXPECT_TRUE(says(neighbours(sync_warp, 32), "reads bytes ", "wrote them with no sync in between"));
  EXPECT_TRUE(says(neighbours(shuffle, 1), "reads bytes ", "wrote them with no sync in between"));
  EXPECT_EQ(neighbours(sync_warp, 1), "");
  EXPECT_EQ(neighbours(sync, 1), "");
  EXPECT_EQ(neighbours(sync, 32), "");
}

/// Threads `readers` … 63 read one value, then thread 0 writes it.
template <class Between>
std::string overwrites(Between between, int from, int to) {
  return fault({.threads = 64, .shared_bytes = 4}, [=](auto& ex) {
    auto value = ex.template shared<int>(0, 1);
    if (ex.thread() == 0) *value = 1;
    ex.sync();
    if (ex.thread() >= from && ex.thread() < to) {
      for (int times = 0; times < 2; ++times) EXPECT_EQ(read(value), 1);
    }
    between(ex);
    if (ex.thread() == 0) *value = 2;
  });
}
TEST(Emulator, FindsWritesThatNoBarrierSeparatesFromReads) {
  const auto nothing = [](auto&) {};
  const auto sync = [](auto& ex) { ex.sync(); };
  const auto sync_warp = [](auto& ex) { ex.sync_warp(); };
  EXPECT_TRUE(says(overwrites(nothing, 1, 2), "thread 0: writes bytes 0 to 3", "thread 1 read them with no sync in between"));
  EXPECT_TRUE(says(overwrites(nothing, 0, 32), "thread 0: writes bytes 0 to 3", "read them with no sync in between"));
  EXPECT_TRUE(says(overwrites(sync_warp, 32, 33), "thread 0: writes bytes 0 to 3", "thread 32 read them"));
  EXPECT_TRUE(says(overwrites(sync_warp, 32, 64), "thread 0: writes bytes 0 to 3", "read them"));
  EXPECT_TRUE(says(overwrites(nothing, 0, 2), "thread 0: writes bytes 0 to 3", "read them"));
  EXPECT_TRUE(says(overwrites(sync_warp, 0, 33), "thread 0: writes bytes 0 to 3", "read them"));
  EXPECT_EQ(overwrites(nothing, 0, 1), "");
  EXPECT_EQ(overwrites(sync_warp, 0, 32), "");
  EXPECT_EQ(overwrites(sync, 0, 64), "");
}

TEST(Emulator, FindsTwoWritesThatNoBarrierSeparates) {
  const auto both = [](auto& ex) { *ex.template shared<int>(0, 1) = 1; };
  EXPECT_EQ(fault({.threads = 1, .shared_bytes = 4}, both), "");
  EXPECT_TRUE(says(fault({.threads = 2, .shared_bytes = 4}, both), "writes bytes 0 to 3", "wrote them with no sync in between"));
}

template <class T>
void neighbours_in_a_word() {
  const auto own = [](auto& ex) {
    auto words = ex.template shared<uint32_t>(0, 64);
    words[ex.thread()] = 0;
    ex.sync();
    auto values = ex.template shared<T>(0, 64);
    EXPECT_EQ(read(values, ex.thread()), T{0});
    values[ex.thread()] = static_cast<T>(ex.thread());
    values[ex.thread()] += 1;
    EXPECT_EQ(read(values, ex.thread()), static_cast<T>(ex.thread() + 1));
  };
  EXPECT_EQ(fault({.threads = 64, .shared_bytes = 256}, own), "");
  const auto others = [](auto& ex) {
    auto values = ex.template shared<T>(0, 2);
    values[ex.thread()] = static_cast<T>(ex.thread());
    EXPECT_GE(read(values, ex.thread() ^ 1), T{0});
  };
  EXPECT_TRUE(says(fault({.threads = 2, .shared_bytes = 4}, others), "reads bytes ", ""));
}
TEST(Emulator, KeepsSmallNeighboursInAWordApart) {
  neighbours_in_a_word<uint8_t>();
  neighbours_in_a_word<uint16_t>();
}

// ---- asynchronous copies

/// Sums tiles of 4 × threads floats over a ring of two buffers, with `under_way` groups of copies left at each wait.
template <int under_way>
struct Pipeline {
  const float* from;
  float* to;
  int tiles;
  template <class Exec>
  void operator()(Exec& ex) const {
    const int n = ex.threads() * 4;
    auto x = ex.global(from, i64{n} * tiles);
    auto y = ex.global(to, n);
    auto buffer = ex.template shared<float>(0, 2 * n);
    const auto fetch = [&](int tile) {
      if (tile < tiles) ex.template copy_async<16>(buffer + (tile % 2 * n + ex.thread() * 4), x + (tile * n + ex.thread() * 4));
      ex.commit_copies();
    };
    float sum[4] = {};
    fetch(0);
    for (int tile = 0; tile < tiles; ++tile) {
      fetch(tile + 1);
      ex.template wait_copies<under_way>();
      ex.sync();
      for (int i = 0; i < 4; ++i) sum[i] += buffer[tile % 2 * n + (ex.thread() + 1) % ex.threads() * 4 + i];
      ex.sync();
    }
    for (int i = 0; i < 4; ++i) y[(ex.thread() + 1) % ex.threads() * 4 + i] = sum[i];
    ex.template wait_copies<0>();
  }
};
TEST(Emulator, PipelinesAsynchronousCopies) {
  testing::TestTeam threads(1);
  std::vector<float> x(5 * 256);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::vector<float> y(256);
    launch_emulated(Pipeline<1>{x.data(), y.data(), 5}, {.threads = 64, .shared_bytes = 2048}, threads.team(), seed);
    for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(y[i], 5 * static_cast<float>(i) + 2560);
    EXPECT_THROW(launch_emulated(Pipeline<2>{x.data(), y.data(), 5}, {.threads = 64, .shared_bytes = 2048}, threads.team(), seed), EmulationError);
  }
}

/// A kernel of 32 threads that copies `x` to shared memory and then does `then(ex, shared)`.
template <class Then>
std::string copies(Then then) {
  std::vector<float> x(32, 7);
  return fault({.threads = 32, .shared_bytes = 128}, [&](auto& ex) {
    auto to = ex.template shared<float>(0, 32);
    ex.template copy_async<4>(to + ex.thread(), ex.global(x.data(), 32) + ex.thread());
    then(ex, to);
  });
}
TEST(Emulator, FindsUsesOfCopiesThatWereNotWaitedFor) {
  const auto waits = [](auto& ex, auto to) {
    ex.commit_copies();
    ex.template wait_copies<0>();
    EXPECT_EQ(read(to, ex.thread()), 7);
    ex.sync();
    EXPECT_EQ(read(to, 31 - ex.thread()), 7);
  };
  EXPECT_EQ(copies(waits), "");
  const auto one_group_too_few = [](auto& ex, auto to) {
    ex.commit_copies();
    ex.template wait_copies<1>();
    ex.sync();
    EXPECT_EQ(read(to, ex.thread()), 7);
    ex.template wait_copies<0>();
  };
  EXPECT_TRUE(says(copies(one_group_too_few), "reads bytes ", "is under way"));
  const auto no_commit = [](auto& ex, auto to) {
    ex.template wait_copies<0>();
    EXPECT_EQ(read(to, ex.thread()), 7);
  };
  EXPECT_TRUE(says(copies(no_commit), "reads bytes ", "is under way"));
  const auto no_sync = [](auto& ex, auto to) {
    ex.commit_copies();
    ex.template wait_copies<0>();
    EXPECT_EQ(read(to, 31 - ex.thread()), 7);
  };
  EXPECT_TRUE(says(copies(no_sync), "reads bytes ", ""));
  const auto writes = [](auto& ex, auto to) { to[ex.thread()] = 1; };
  EXPECT_TRUE(says(copies(writes), "writes bytes ", "is under way"));
  const auto ends = [](auto& ex, auto) { ex.commit_copies(); };
  EXPECT_TRUE(says(copies(ends), "block 0, thread ", "1 asynchronous copies that it has not waited for"));
}

TEST(Emulator, FindsReadsThatNoBarrierSeparatesFromWaitingForTheCopy) {
  std::vector<float> x(1);
  const auto sync_before_waiting = [&](auto& ex) {
    auto to = ex.template shared<float>(0, 1);
    if (ex.thread() == 0) ex.template copy_async<4>(to, ex.global(x.data(), 1));
    ex.commit_copies();
    ex.sync();
    ex.template wait_copies<0>();
    if (ex.thread() == 1) read(to);
  };
  const std::string text = fault({.threads = 2, .shared_bytes = 4}, sync_before_waiting);
  EXPECT_TRUE(says(text, "thread 1: reads bytes 0 to 3", "is under way"));
  EXPECT_TRUE(says(text, "thread 1: reads bytes 0 to 3", "wrote them with no sync in between"));
}

TEST(Emulator, FindsCopiesToWhatOthersStillRead) {
  std::vector<float> x(1);
  const auto overwrite = [&](auto& ex) {
    auto to = ex.template shared<float>(0, 1);
    if (ex.thread() == 0) *to = 1;
    ex.sync();
    if (ex.thread() == 1) {
      EXPECT_EQ(read(to), 1);
    }
    if (ex.thread() == 0) ex.template copy_async<4>(to, ex.global(x.data(), 1));
    ex.commit_copies();
    ex.template wait_copies<0>();
  };
  const std::string text = fault({.threads = 2, .shared_bytes = 4}, overwrite);
  EXPECT_TRUE(says(text, "bytes 0 to 3", ""));
}

TEST(Emulator, FindsCopiesOutOfBoundsAndMisaligned) {
  std::vector<Float4> x(4);
  const auto copy = [&](int to, int from) {
    return fault({.threads = 1, .shared_bytes = 64}, [&x, to, from](auto& ex) {
      ex.template copy_async<16>(ex.template shared<float>(0, 16) + to, ex.global(&x[0].x, 16) + from);
      ex.commit_copies();
      ex.template wait_copies<0>();
    });
  };
  EXPECT_EQ(copy(12, 12), "");
  EXPECT_TRUE(says(copy(1, 0), "of shared memory", "not aligned to 16"));
  EXPECT_TRUE(says(copy(16, 0), "of shared memory", "out of bounds"));
  EXPECT_TRUE(says(copy(0, 2), "device memory", "not aligned to 16"));
  EXPECT_TRUE(says(copy(0, 16), "device memory", "out of bounds"));
}

TEST(Emulator, LandsCopiesAtDifferentMoments) {
  std::set<int> seen;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::vector<int> x(1, 1);
    run(
        {.threads = 32, .shared_bytes = 4},
        [&](auto& ex) {
          auto to = ex.template shared<int>(0, 1);
          auto from = ex.global(x.data(), 1);
          if (ex.thread() == 0) ex.template copy_async<4>(to, from);
          ex.commit_copies();
          ex.sync_warp();
          if (ex.thread() == 0) *from = 2;
          ex.template wait_copies<0>();
          if (ex.thread() == 0) seen.insert(read(to));
        },
        seed);
  }
  EXPECT_EQ(seen, (std::set<int>{1, 2}));
}

/// 32 rows of four words in shared memory, a row a thread; `between`; then a matrix load, lane l from word `row(l)` on.
template <class Between, class Row>
std::string matrices(Between between, Row row, int threads = 32) {
  return fault({.threads = threads, .shared_bytes = 32 * 16}, [=](auto& ex) {
    const auto words = ex.template shared<uint32_t>(0, 32 * 4);
    for (int row_at = ex.thread(); row_at < 32; row_at += threads)
      for (int word = 0; word < 4; ++word) words[4 * row_at + word] = static_cast<uint32_t>(word);
    between(ex);
    uint32_t loaded[4];
    ex.load_matrices(loaded, ex.template shared<const uint32_t>(0, 32 * 4) + row(ex.lane()));
  });
}

const auto wait_for_warp = [](auto& ex) { ex.sync_warp(); };
const auto own_row = [](int lane) { return 4 * lane; };

// PTX ISA, ldmatrix: threads 8 i to 8 i + 7 give the rows of matrix i, in any order in memory; thread t gets elements 2 (t % 4) and the next, which are
// word t % 4, of row t / 4.
TEST(Emulator, LoadsMatricesWhereTheInstructionSetSays) {
  std::vector<uint32_t> seen(4 * 32);
  run({.threads = 32, .shared_bytes = 32 * 16}, [&](auto& ex) {
    const auto words = ex.template shared<uint32_t>(0, 32 * 4);
    for (int word = 0; word < 4; ++word) words[4 * ex.lane() + word] = static_cast<uint32_t>(100 * ex.lane() + word);
    ex.sync();
    uint32_t loaded[4];
    const int row = 31 - ex.lane();
    ex.load_matrices(loaded, ex.template shared<const uint32_t>(0, 32 * 4) + 4 * row);
    for (int i = 0; i < 4; ++i) seen.at(static_cast<size_t>(4 * ex.lane() + i)) = loaded[i];
  });
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) EXPECT_EQ(seen.at(static_cast<size_t>(4 * lane + i)), 100 * (31 - (8 * i + lane / 4)) + lane % 4) << lane << ", " << i;
}

TEST(Emulator, FindsFaultyLoadsOfMatrices) {
  EXPECT_EQ(matrices(wait_for_warp, own_row), "");
  const auto nothing = [](auto&) {};
  EXPECT_TRUE(says(matrices(nothing, own_row), "reads", "with no sync in between"));
  EXPECT_TRUE(says(matrices(wait_for_warp, [](int lane) { return 4 * lane + (lane == 9 ? 2 : 0); }), "thread 9", "not aligned to 16"));
  EXPECT_TRUE(says(matrices(wait_for_warp, [](int lane) { return 4 * lane + 4; }), "thread 31", "out of bounds"));
  EXPECT_TRUE(says(matrices(wait_for_warp, own_row, 24), "thread", "a warp of 24 threads"));
  const auto wait_but_one = [](auto& ex) {
    ex.sync_warp();
    if (ex.lane() == 5) ex.sync_warp();
  };
  EXPECT_TRUE(says(matrices(wait_but_one, own_row), "thread", "comes to"));
}

TEST(Emulator, FindsLoadsOfMatricesThatAreStillBeingCopied) {
  std::vector<uint32_t> source(32 * 4);
  const auto text = fault({.threads = 32, .shared_bytes = 32 * 16}, [&](auto& ex) {
    const auto from = ex.global(static_cast<const uint32_t*>(source.data()), 32 * 4);
    ex.template copy_async<16>(ex.template shared<uint32_t>(0, 32 * 4) + 4 * ex.lane(), from + 4 * ex.lane());
    ex.commit_copies();
    ex.sync();
    uint32_t loaded[4];
    ex.load_matrices(loaded, ex.template shared<const uint32_t>(0, 32 * 4) + 4 * ex.lane());
    ex.template wait_copies<0>();
  });
  EXPECT_TRUE(says(text, "reads", "is under way"));
}

}  // namespace
}  // namespace tile::simt
