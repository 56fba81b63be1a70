#include "tile/kernels/simt_wgmma_contract.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "tile/cast.h"
#include "tile/exec/emulator.h"
#include "tile/testing/teams.h"

namespace tile::simt {
namespace {

struct Shape {
  i64 batch, m, n, k;
  bool shared_right = false;  ///< all entries of the batch multiply by the same
};

/// Factors of small integers, so that every sum is exact, with rows further apart than they are long, and their product in float64.
template <class T, class Tiles, Along along_left, Along along_right>
struct Problem {
  using Sum = typename Tiles::Sum;
  Shape shape;
  std::vector<T> left, right;
  std::vector<double> expected, result;
  FactorPlace<T> left_place, right_place;

  explicit Problem(const Shape& s) : shape(s) {
    std::mt19937 random(3);  // NOLINT: the same every time
    const auto place = [&](std::vector<T>& data, Along along, i64 batch, i64 rows) {
      constexpr i64 piece = 16 / sizeof(T);
      const i64 length = along == Along::k ? s.k : rows, lines = along == Along::k ? rows : s.k;
      const i64 stride = (length + piece - 1) / piece * piece + piece, count = batch * lines * stride;
      data.resize(static_cast<size_t>(count) + piece);
      T* const begin = data.data() + (16 - reinterpret_cast<uintptr_t>(data.data()) % 16) % 16 / sizeof(T);
      for (i64 i = 0; i < count; ++i)
        begin[i] = i % stride < length ? store_as<T>(static_cast<float>(static_cast<int>(random() % 9)) - (std::is_unsigned_v<T> ? 0.0f : 4.0f)) : T{0x7f};
      return FactorPlace<T>{begin, count, batch, lines * stride, rows, s.k, stride};
    };
    left_place = place(left, along_left, s.batch, s.m);
    right_place = place(right, along_right, s.shared_right ? 1 : s.batch, s.n);
    const auto at = [](const FactorPlace<T>& p, Along along, i64 batch, i64 row, i64 k) {
      return load_as<double>(p.data[(p.batch == 1 ? 0 : batch) * p.batch_stride + (along == Along::k ? row * p.stride + k : k * p.stride + row)]);
    };
    for (i64 b = 0; b < s.batch; ++b)
      for (i64 m = 0; m < s.m; ++m)
        for (i64 n = 0; n < s.n; ++n) {
          double sum = 0;
          for (i64 k = 0; k < s.k; ++k) sum += at(left_place, along_left, b, m, k) * at(right_place, along_right, b, n, k);
          expected.push_back(sum);
        }
  }
  Extents extents() const { return {shape.batch, shape.m, shape.n, shape.k}; }
};

template <class Problem, class Tiles>
struct Kernel {
  Problem* p;
  TensorMap left, right;

  template <class Exec>
  void operator()(Exec& ex) const {
    const Shape& s = p->shape;
    const auto out = ex.global(p->result.data(), s.batch * s.m * s.n);
    Tiles::run(ex, p->extents(), Boxes{&left, 1}, Boxes{&right, s.shared_right ? 0 : 1}, [&](i64 batch, i64 m, i64 n, auto sum) {
      double& to = out[(batch * s.m + m) * s.n + n];
      if (to != -77) throw EmulationError("stores a result twice");
      to = sum;
    });
  }
};

/// The product and, of every result, its row and column modulo 5, stored by boxes to rows further apart than they are long.
template <class Problem, class Tiles, class Result, template <class> class Machine>
struct BoxedKernel {
  Problem* p;
  TensorMap left, right, result;

  static double more(i64 m, i64 n) { return static_cast<double>(m % 5 + n % 5); }

  template <class Exec>
  void operator()(Exec& ex) const {
    const Shape& s = p->shape;
    const auto value = [&](i64 batch, i64 m, i64 n, auto sum) {
      if (batch >= s.batch || m >= s.m || n >= s.n) throw EmulationError("computes a result that is none");
      return store_as<Result>(static_cast<typename Tiles::Sum>(sum + static_cast<typename Tiles::Sum>(more(m, n))));
    };
    Machine<Exec> machine(ex);
    Tiles::run(machine, p->extents(), Boxes{&left, 1}, Boxes{&right, s.shared_right ? 0 : 1}, ResultBoxes{&result, value});
  }
};

/// The machine as it is.
template <class Exec>
struct Whole : Exec {
  explicit Whole(const Exec& ex) : Exec(ex) {}
};
/// A thread does not say that what it wrote may be read by the copy engine.
template <class Exec>
struct Unfenced : Exec {
  explicit Unfenced(const Exec& ex) : Exec(ex) {}
  void fence_async() {
    if (this->thread() != 77) Exec::fence_async();
  }
};
/// The second time, nobody waits until a box has been read.
template <class Exec>
struct Hasty : Exec {
  explicit Hasty(const Exec& ex) : Exec(ex) {}
  template <int youngest>
  void wait_stores() {
    if (++waits != 2) Exec::template wait_stores<youngest>();
  }
  int waits = 0;
};
/// The warps of a warpgroup do not meet.
template <class Exec>
struct Alone : Exec {
  explicit Alone(const Exec& ex) : Exec(ex) {}
  void sync_some(int, int) {}
};

template <int columns, int rows = 128, int ring = 4>
struct Tiling : WgmmaTiling {
  static constexpr int m = rows, n = columns, stages = ring;
};

/// With as many blocks, in twenty orders.
template <class T, int columns, Along along_left = Along::k, Along along_right = Along::k, class Cut = Tiling<columns>>
void check(const Shape& shape, i64 blocks = 3) {
  using Tiles = WgmmaTiles<T, T, Cut, along_left, along_right>;
  Problem<T, Tiles, along_left, along_right> problem(shape);
  testing::TestTeam team;
  const Kernel<decltype(problem), Tiles> kernel{&problem, Tiles::left_map(problem.left_place), Tiles::right_map(problem.right_place)};
  for (uint64_t seed = 0; seed < 20; ++seed) {
    problem.result.assign(problem.expected.size(), -77);
    launch_emulated(kernel, Launch{std::min(blocks, Tiles::Order::blocks(problem.extents())), Tiles::threads, Tiles::shared_bytes}, team.team(), seed);
    ASSERT_EQ(problem.result, problem.expected) << shape.batch << " x " << shape.m << " x " << shape.n << " x " << shape.k << ", seed " << seed;
  }
}

/// The same with results of type Result stored by boxes; what the first of twenty orders that fails says, when all do.
template <class T, class Result, int columns, class Cut = Tiling<columns>, template <class> class Machine = Whole>
std::string check_boxes(const Shape& shape, i64 blocks = 3) {
  using Tiles = WgmmaTiles<T, T, Cut, Along::k, Along::k, Result>;
  Problem<T, Tiles, Along::k, Along::k> problem(shape);
  testing::TestTeam team;
  constexpr i64 piece = 16 / sizeof(Result);
  constexpr double untouched = 3;
  const i64 stride = (shape.n + piece - 1) / piece * piece + piece, count = shape.batch * shape.m * stride;
  std::vector<Result> memory(static_cast<size_t>(count + piece));
  Result* const results = memory.data() + (16 - reinterpret_cast<uintptr_t>(memory.data()) % 16) % 16 / sizeof(Result);
  const BoxedKernel<decltype(problem), Tiles, Result, Machine> kernel{
      &problem, Tiles::left_map(problem.left_place), Tiles::right_map(problem.right_place),
      Tiles::result_map(ResultPlace<Result>{results, count, shape.batch, shape.m * stride, shape.m, shape.n, stride})};
  std::string fault;
  int faults = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    std::fill(results, results + count, store_as<Result>(static_cast<typename Tiles::Sum>(untouched)));
    try {
      launch_emulated(kernel, Launch{std::min(blocks, Tiles::Order::blocks(problem.extents())), Tiles::threads, Tiles::shared_bytes}, team.team(), seed);
    } catch (const EmulationError& error) {
      if (++faults == 1) fault = error.what();
      continue;
    }
    for (i64 i = 0; i < count; ++i) {
      const i64 row = i / stride, n = i % stride, m = row % shape.m;
      const double expected = n < shape.n ? problem.expected[static_cast<size_t>(row * shape.n + n)] + kernel.more(m, n) : untouched;
      EXPECT_EQ(load_as<double>(results[i]), load_as<double>(store_as<Result>(static_cast<float>(expected))))
          << "row " << row << ", column " << n << ", seed " << seed;
      if (::testing::Test::HasFailure()) return "a wrong result";
    }
  }
  return faults == 0 || faults == 20 ? fault : "found in " + std::to_string(faults) + " orders of 20: " + fault;
}

/// A product whose sums come in parts, and then their sums.
template <class Problem, class Tiles, bool adds>
struct SplitKernel {
  Problem* p;
  TensorMap left, right;
  SplitSum split;
  std::vector<float>* partial;

  template <class Exec>
  void operator()(Exec& ex) const {
    const Extents e = p->extents();
    const auto parts = ex.global(partial->data(), static_cast<i64>(partial->size()));
    const auto out = ex.global(p->result.data(), static_cast<i64>(p->result.size()));
    if constexpr (adds)
      add_parts<float>(ex, e, split, parts, [&](i64 batch, i64 m, i64 n, float sum) { out[(batch * e.m + m) * e.n + n] = sum; });
    else
      Tiles::run(ex, split.of(e), part_of(split, Boxes{&left, 1}), part_of(split, Boxes{&right, p->shape.shared_right ? 0 : 1}), store_parts(e, parts));
  }
};

/// Parts of `piece` terms.
template <Along along_left = Along::k, Along along_right = Along::k>
void check_parts(const Shape& shape, i64 piece) {
  using Tiles = WgmmaTiles<float16, float16, Tiling<64, 64, 3>, along_left, along_right>;
  using Given = Problem<float16, Tiles, along_left, along_right>;
  Given problem(shape);
  testing::TestTeam team;
  const SplitSum split{(shape.k + piece - 1) / piece, piece, shape.k};
  const TensorMap left = Tiles::left_map(problem.left_place), right = Tiles::right_map(problem.right_place);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    problem.result.assign(problem.expected.size(), -77);
    std::vector<float> partial(problem.expected.size() * static_cast<size_t>(split.parts), -77.0f);
    launch_emulated(SplitKernel<Given, Tiles, false>{&problem, left, right, split, &partial}, Launch{3, Tiles::threads, Tiles::shared_bytes}, team.team(),
                    seed);
    launch_emulated(SplitKernel<Given, Tiles, true>{&problem, left, right, split, &partial}, Launch{3, 64, 0}, team.team(), seed);
    ASSERT_EQ(problem.result, problem.expected) << shape.batch << " x " << shape.m << " x " << shape.n << " x " << shape.k << ", seed " << seed;
  }
}

bool says(const std::string& fault, const std::string& text) {
  if (fault.find(text) != std::string::npos) return true;
  ADD_FAILURE() << "the fault is '" << fault << "'";
  return false;
}

TEST(WgmmaContract, MultipliesOneTile) {
  check<float16, 128>({1, 128, 128, 64});
  check<bfloat16, 256>({1, 128, 256, 64});
  check<int8_t, 128>({1, 128, 128, 128});
}

TEST(WgmmaContract, MultipliesWhatFillsNoTile) {
  check<float16, 128>({1, 16, 16, 16});
  check<float16, 128>({1, 130, 17, 72});
  check<uint8_t, 128>({1, 65, 129, 144});
  check<bfloat16, 256>({1, 40, 300, 40});
}

TEST(WgmmaContract, GoesRoundTheRingOfStages) {
  check<float16, 128>({1, 24, 136, 64 * 9 + 8});
  check<int8_t, 256>({1, 24, 24, 128 * 5 + 16});
}

TEST(WgmmaContract, OneWarpgroupAndFewStagesDo) {
  check<float16, 64, Along::k, Along::k, Tiling<64, 64, 2>>({1, 70, 70, 64 * 5});
  check<bfloat16, 256, Along::rows, Along::rows, Tiling<256, 64, 3>>({1, 72, 264, 200});
}

TEST(WgmmaContract, MultipliesBatches) {
  check<float16, 128>({3, 20, 24, 80});
  check<float16, 128>({3, 20, 24, 80, true});
}

TEST(WgmmaContract, MultipliesFactorsThatLieAlongTheirRows) {
  check<float16, 128, Along::k, Along::rows>({2, 72, 136, 80});
  check<bfloat16, 128, Along::rows, Along::k>({2, 136, 40, 72});
  check<float16, 256, Along::rows, Along::rows>({1, 72, 200, 130, true});
}

TEST(WgmmaContract, BlocksComputeOneTileAfterAnother) {
  check<float16, 128>({1, 500, 140, 80}, 1);
  check<float16, 128>({2, 140, 140, 24}, 3);
}

TEST(WgmmaContract, PartsOfSumsAddUp) {
  check_parts({1, 40, 70, 64 * 9 + 8}, 128);
  check_parts({2, 20, 24, 200, true}, 64);
  check_parts<Along::rows, Along::rows>({2, 24, 72, 300}, 128);
}

TEST(WgmmaContract, StoresBoxesOfWholeTiles) {
  EXPECT_EQ((check_boxes<float16, float16, 128>({1, 128, 128, 64})), "");
  EXPECT_EQ((check_boxes<float16, float, 128>({1, 128, 128, 64})), "");
  EXPECT_EQ((check_boxes<bfloat16, bfloat16, 256>({1, 128, 256, 64})), "");
  EXPECT_EQ((check_boxes<int8_t, int32_t, 256>({1, 128, 256, 128})), "");
}

TEST(WgmmaContract, StoresBoxesThatReachBeyondTheResult) {
  EXPECT_EQ((check_boxes<float16, float16, 128>({1, 16, 16, 16})), "");
  EXPECT_EQ((check_boxes<float16, float, 128>({1, 130, 17, 72})), "");
  EXPECT_EQ((check_boxes<uint8_t, int32_t, 128>({1, 65, 129, 144})), "");
  EXPECT_EQ((check_boxes<bfloat16, bfloat16, 256>({2, 40, 300, 40})), "");
  EXPECT_EQ((check_boxes<float16, float, 256, Tiling<256, 64, 3>>({3, 70, 70, 80, true})), "");
}

TEST(WgmmaContract, StoresBoxesOfOneTileAfterAnother) {
  EXPECT_EQ((check_boxes<float16, float16, 64, Tiling<64, 64, 2>>({1, 200, 200, 72}, 1)), "");
  EXPECT_EQ((check_boxes<bfloat16, float, 128>({2, 140, 140, 24})), "");
}

TEST(WgmmaContract, FindsAMissingFenceOfWhatIsStored) {
  EXPECT_TRUE(says(check_boxes<float16, float16, 128, Tiling<128>, Unfenced>({1, 128, 128, 64}), "thread 77 wrote them with no fence_async since"));
}

TEST(WgmmaContract, FindsABoxThatIsWrittenBeforeItHasBeenRead) {
  EXPECT_TRUE(
      says(check_boxes<float16, float, 128, Tiling<128>, Hasty>({1, 128, 128, 64}), "a bulk store or a product reads them, which has not been waited for"));
  EXPECT_TRUE(says(check_boxes<float16, float16, 64, Tiling<64, 64, 2>, Hasty>({1, 64, 200, 72}, 1),
                   "a bulk store or a product reads them, which has not been waited for"));
}

TEST(WgmmaContract, FindsAWarpgroupThatDoesNotMeetBeforeItsBoxIsStored) {
  EXPECT_TRUE(says(check_boxes<float16, float16, 128, Tiling<128>, Alone>({1, 128, 128, 64}), "of shared memory"));
}

}  // namespace
}  // namespace tile::simt
