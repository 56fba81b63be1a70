#include "target/emit_kernel.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <regex>

#include "pattern/interpreter.h"
#include "target/kernel_space.h"
#include "target/testing/random_program.h"
#include "target/testing/run_blocks.h"

namespace tilewright {
namespace {

using pattern::ExprOp;
using pattern::Map;
using pattern::NestBuilder;
using pattern::Program;
using testing::CompiledBlocks;
using testing::RandomProgram;

/// Elementwise: the float functions stay within 3 units in the last place, sums of n terms within n; values are of order one
/// to a hundred, so 2e-5 of the larger of 1 and the value bounds a few of them in a row.
double tolerance(DType dtype, double expected) {
  const double unit = dtype == DType::f64 ? 1e-12 : dtype == DType::f32 ? 2e-5 : dtype == DType::f16 ? 4e-3 : 3e-2;
  return unit * std::max(1.0, std::abs(expected));
}

void expect_close(const Tensor& actual, const Tensor& expected, const std::string& where) {
  ASSERT_EQ(actual.dims(), expected.dims()) << where;
  ASSERT_EQ(actual.dtype(), expected.dtype()) << where;
  for (int64_t i = 0; i < expected.element_count(); ++i) {
    if (is_float(expected.dtype())) {
      const double a = actual.float_at(i), e = expected.float_at(i);
      if (a == e || (std::isnan(a) && std::isnan(e))) continue;
      ASSERT_LE(std::abs(a - e), tolerance(expected.dtype(), e)) << where << ", element " << i << ": " << a << " for " << e;
    } else {
      ASSERT_EQ(actual.int_at(i), expected.int_at(i)) << where << ", element " << i;
    }
  }
}

std::vector<std::string> entry_symbols(const Program& program) {
  std::set<std::string> symbols;
  for (const int id : program.inputs)
    for (const Dim& dim : program.tensor(id).type.dims) dim.collect_symbols(symbols);
  return {symbols.begin(), symbols.end()};
}

struct Case {
  std::string name;
  Program program;
  std::vector<Tensor> inputs;
};

/// How often every kernel runs: threads of emulated machines take another order each time.
int interleavings(const Target& target) {
  const char* wanted = std::getenv("TILEWRIGHT_INTERLEAVINGS");
  return target.kind == TargetKind::cpu ? 1 : wanted ? std::max(1, std::atoi(wanted)) : 2;
}

/// The kernels of the target that the parameter names, against the interpreter.
class EmitKernel : public ::testing::TestWithParam<std::string> {
 protected:
  static void check(const std::vector<Case>& cases, const schedule::Options& options = {}, bool same_for_all_teams = false);
};

INSTANTIATE_TEST_SUITE_P(Targets, EmitKernel, ::testing::Values("native", "emulator:warp32", "emulator:warp64"),
                         [](const auto& target) { return std::regex_replace(target.param, std::regex(":"), "_"); });

/// Schedules, compiles (all in one file) and runs; every case must give what the interpreter gives, and the same bits whatever the team if
/// `same_for_all_teams`.
void EmitKernel::check(const std::vector<Case>& cases, const schedule::Options& options, bool same_for_all_teams) {
  std::vector<schedule::Block> blocks;
  for (const Case& one : cases) {
    pattern::verify(one.program);
    schedule::Options for_target = options;
    for_target.row_bytes = find_target(GetParam()).shared_bytes;
    blocks.push_back(schedule::schedule(one.program, entry_symbols(one.program), for_target));
    plan_kernels(blocks.back(), find_target(GetParam()));
  }
  const CompiledBlocks compiled(std::move(blocks), GetParam());
  for (size_t i = 0; i < cases.size(); ++i) {
    const std::vector<Tensor> expected = pattern::interpret(cases[i].program, cases[i].inputs);
    for (int run = 1; run < interleavings(find_target(GetParam())); ++run) {
      const std::vector<Tensor> again = compiled.run(i, cases[i].inputs);
      for (size_t k = 0; k < expected.size(); ++k) expect_close(again[k], expected[k], cases[i].name + " output " + std::to_string(k));
    }
    const std::vector<Tensor> actual = compiled.run(i, cases[i].inputs);
    ASSERT_EQ(actual.size(), expected.size());
    if (same_for_all_teams && find_target(GetParam()).kind == TargetKind::cpu) {
      for (const int threads : {1, 5})
        for (size_t k = 0; k < expected.size(); ++k)
          ASSERT_EQ(std::memcmp(compiled.run(i, cases[i].inputs, threads)[k].data(), actual[k].data(), actual[k].byte_size()), 0) << cases[i].name;
    }
    for (size_t k = 0; k < expected.size(); ++k) {
      expect_close(actual[k], expected[k], cases[i].name + " output " + std::to_string(k));
      if (::testing::Test::HasFatalFailure()) {
        std::cout << pattern::print(cases[i].program) << "\n" << schedule::print(compiled.block(i)) << "\n";
        return;
      }
    }
  }
}

const schedule::Options baseline{false, false, false, false, false};

TEST_P(EmitKernel, RandomProgramsWithoutFusion) {
  std::vector<Case> cases;
  for (unsigned seed = 0; seed < 60; ++seed) {
    RandomProgram random(seed);
    random.make(4);
    cases.push_back({"seed " + std::to_string(seed), random.program, random.inputs});
  }
  check(cases, baseline);
}

TEST_P(EmitKernel, RandomProgramsWithFusion) {
  std::vector<Case> cases;
  for (unsigned seed = 100; seed < 180; ++seed) {
    RandomProgram random(seed);
    random.make(7);
    cases.push_back({"seed " + std::to_string(seed), random.program, random.inputs});
  }
  check(cases);
}

Tensor ramp(DType dtype, std::vector<int64_t> dims, double from, double step) {
  Tensor tensor(dtype, std::move(dims));
  for (int64_t i = 0; i < tensor.element_count(); ++i) {
    const double value = from + step * static_cast<double>(i);
    if (is_float(dtype))
      tensor.set_float(i, value);
    else
      tensor.set_int(i, static_cast<int64_t>(std::floor(value)));
  }
  return tensor;
}

/// y = f(inputs), all of one shape.
template <class F>
Case elementwise(const std::string& name, const std::vector<Tensor>& inputs, F&& f) {
  Case one{name, {}, inputs};
  Dims dims;
  for (const int64_t d : inputs[0].dims()) dims.push_back(d);
  NestBuilder n(dims);
  std::vector<pattern::Expr> operands;
  for (const Tensor& input : inputs) {
    const int id = one.program.add_tensor({input.dtype(), dims}, "x" + std::to_string(one.program.inputs.size()));
    one.program.inputs.push_back(id);
    operands.push_back(n.load(id, input.dtype(), Map::identity(std::span<const Dim>(dims))));
  }
  const pattern::Expr value = f(n, operands);
  const int y = one.program.add_tensor({value.dtype(), dims}, "y");
  n.store(y, value);
  one.program.patterns.push_back(n.finish(name));
  one.program.outputs = {y};
  return one;
}

TEST_P(EmitKernel, EveryUnaryFunction) {
  std::vector<Case> cases;
  for (int op = static_cast<int>(ExprOp::neg); op <= static_cast<int>(ExprOp::sigmoid); ++op) {
    const ExprOp function = static_cast<ExprOp>(op);
    const bool from_one = function == ExprOp::acosh, positive = function == ExprOp::log || function == ExprOp::sqrt;
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f64}) {
      const Tensor x = from_one ? ramp(dtype, {37}, 1.0625, 0.125) : positive ? ramp(dtype, {37}, 0.125, 0.25) : ramp(dtype, {37}, -0.96875, 0.0527);
      cases.push_back(
          elementwise("unary " + std::to_string(op) + " " + std::string(name(dtype)), {x}, [&](NestBuilder& n, auto& x0) { return n.unary(function, x0[0]); }));
    }
  }
  for (const DType dtype : {DType::i8, DType::i32, DType::i64, DType::u8, DType::u32})
    for (const ExprOp function : {ExprOp::neg, ExprOp::abs, ExprOp::sign, ExprOp::bit_not})
      cases.push_back(elementwise("integer unary " + std::string(name(dtype)), {ramp(dtype, {40}, is_signed(dtype) ? -128 : 0, 6.5)},
                                  [&](NestBuilder& n, auto& x) { return n.unary(function, x[0]); }));
  check(cases, baseline);
}

TEST_P(EmitKernel, EveryBinaryFunction) {
  std::vector<Case> cases;
  const auto operands = [](DType dtype) {
    // All pairs of interesting values; zero divisors among them.
    const std::vector<double> values = is_float(dtype)    ? std::vector<double>{-7.5, -2, -0.5, 0, 1, 2.25, 6}
                                       : is_signed(dtype) ? std::vector<double>{-128, -7, -1, 0, 1, 3, 127}
                                                          : std::vector<double>{0, 1, 2, 7, 100, 200, 255};
    Tensor a(dtype, {49}), b(dtype, {49});
    for (int64_t i = 0; i < 49; ++i) {
      is_float(dtype) ? a.set_float(i, values[static_cast<size_t>(i / 7)]) : a.set_int(i, static_cast<int64_t>(values[static_cast<size_t>(i / 7)]));
      is_float(dtype) ? b.set_float(i, values[static_cast<size_t>(i % 7)]) : b.set_int(i, static_cast<int64_t>(values[static_cast<size_t>(i % 7)]));
    }
    return std::vector<Tensor>{a, b};
  };
  for (const DType dtype : {DType::f32, DType::f16, DType::f64, DType::i8, DType::i32, DType::i64, DType::u8, DType::u64, DType::i4, DType::u4}) {
    std::vector<ExprOp> functions = {ExprOp::add, ExprOp::sub, ExprOp::mul,   ExprOp::div,  ExprOp::mod,       ExprOp::fmod,
                                     ExprOp::min, ExprOp::max, ExprOp::equal, ExprOp::less, ExprOp::less_equal};
    if (!is_float(dtype)) functions.insert(functions.end(), {ExprOp::floor_div, ExprOp::bit_and, ExprOp::bit_or, ExprOp::bit_xor});
    if (is_integer(dtype) && !is_signed(dtype)) functions.insert(functions.end(), {ExprOp::shift_left, ExprOp::shift_right});
    if (!is_float(dtype) || dtype == DType::f32) functions.push_back(ExprOp::pow);
    for (const ExprOp function : functions)
      cases.push_back(elementwise(fmt::format("binary {} {}", static_cast<int>(function), name(dtype)), operands(dtype),
                                  [&](NestBuilder& n, auto& x) { return n.binary(function, x[0], x[1]); }));
  }
  check(cases, baseline);
}

TEST_P(EmitKernel, EveryCast) {
  std::vector<Case> cases;
  for (int from = 0; from < dtype_count; ++from)
    for (int to = 0; to < dtype_count; ++to) {
      const DType a = static_cast<DType>(from), b = static_cast<DType>(to);
      if (a == b || b == DType::f8e8m0) continue;
      const Tensor x = a == DType::boolean ? ramp(a, {2}, 0, 1)
                       : is_float(a)
                           ? ramp(a, {64}, a == DType::f8e8m0 ? 1 : -320.5, 10.03125)
                           : ramp(a, {64}, is_signed(a) ? -(1 << std::min(bits_of(a) - 1, 9)) : 0, std::max(1.0, (1 << std::min(bits_of(a), 10)) / 64.0));
      cases.push_back(elementwise(fmt::format("cast {} {}", name(a), name(b)), {x}, [&](NestBuilder& n, auto& v) { return n.cast(v[0], b); }));
      if (is_integer(b))
        cases.push_back(
            elementwise(fmt::format("wrap {} {}", name(a), name(b)), {x}, [&](NestBuilder& n, auto& v) { return n.cast(v[0], b, ExprOp::cast_wrap); }));
    }
  Tensor odd(DType::f32, {6});
  const double values[] = {NAN, INFINITY, -INFINITY, 1e30, -1e30, -0.75};
  for (int i = 0; i < 6; ++i) odd.set_float(i, values[i]);
  for (const DType to : {DType::i8, DType::u8, DType::i32, DType::u32, DType::i64, DType::u64, DType::boolean, DType::i4})
    cases.push_back(elementwise("cast of odd values", {odd}, [&](NestBuilder& n, auto& v) { return n.cast(v[0], to); }));
  check(cases, baseline);
}

/// Values between -1 and 1, in no order.
Tensor scattered(DType dtype, const std::vector<int64_t>& dims) {
  Tensor t(dtype, dims);
  for (int64_t i = 0; i < t.element_count(); ++i) {
    const int64_t at = i * 7919 % 2003;
    is_float(dtype) ? t.set_float(i, static_cast<double>(at) / 1001 - 1) : t.set_int(i, at - 1000);
  }
  return t;
}

/// One nest over `space` that reads `inputs` and gives a tensor of the coordinates that are kept.
Case reducing(const std::string& name, const Dims& space, int reduced_rank, const std::vector<Tensor>& inputs, DType result,
              const std::function<pattern::Expr(NestBuilder&, const std::vector<int>&)>& value) {
  Case one{name, {}, inputs};
  std::vector<int> ids;
  for (const Tensor& input : inputs) {
    ids.push_back(one.program.add_tensor({input.dtype(), Dims(input.dims().begin(), input.dims().end())}, "x" + std::to_string(ids.size())));
    one.program.inputs.push_back(ids.back());
  }
  NestBuilder n(space, reduced_rank);
  const pattern::Expr y = value(n, ids);
  const int id = one.program.add_tensor({result, n.kept()}, "y");
  n.store(id, y);
  one.program.patterns.push_back(n.finish(name));
  one.program.outputs.push_back(id);
  return one;
}

TEST_P(EmitKernel, FewResultsOfMuch) {
  using pattern::ReduceOp;
  std::vector<Case> cases;
  for (const auto& [op, what] : {std::pair{ReduceOp::sum, "sum"}, {ReduceOp::max, "max"}, {ReduceOp::min, "min"}}) {
    for (const DType dtype : {DType::f32, DType::f64, DType::i64}) {
      const auto reduced = [&, op = op](NestBuilder& n, const std::vector<int>& x) {
        const int64_t scale = op == ReduceOp::sum && is_float(dtype) ? 1000 : 1;
        const pattern::Expr all = n.reduce(op, n.load(x[0], dtype, Map::identity(std::span<const Dim>(n.space()))), dtype);
        return scale == 1 ? all : all / n.constant(dtype, static_cast<double>(scale));
      };
      cases.push_back(reducing(fmt::format("{} of all, {}", what, name(dtype)), {300, 1001}, 2, {scattered(dtype, {300, 1001})}, dtype, reduced));
      cases.push_back(reducing(fmt::format("{} of rows, {}", what, name(dtype)), {3, 90001}, 1, {scattered(dtype, {3, 90001})}, dtype, reduced));
    }
    cases.push_back(reducing(fmt::format("{} of columns", what), {130, 1700}, 1, {scattered(DType::f16, {1700, 130})}, DType::f32,
                             [op = op](NestBuilder& n, const std::vector<int>& x) {
                               const std::vector<int> turned = {1, 0};
                               const Map map = Map::identity({Dim(1700), Dim(130)}).transposed(std::span<const int>(turned));
                               return n.reduce(op, n.cast(n.load(x[0], DType::f16, map), DType::f32), DType::f32) / 1000.0;
                             }));
  }
  // Squares of channels' distance from their group's number, channels side by side: addresses have digits of the summed index.
  const Dims image = {1, 24, 26, 96}, space = {1, 32, 3 * 24 * 26};
  const std::vector<int> channels_first = {0, 3, 1, 2};
  const Map groups = Map::identity(std::span<const Dim>(image)).transposed(std::span<const int>(channels_first)).reshaped(std::span<const Dim>(space));
  cases.push_back(reducing("groups of channels", space, 1, {scattered(DType::f32, {1, 24, 26, 96}), scattered(DType::f32, {1, 32})}, DType::f32,
                           [&](NestBuilder& n, const std::vector<int>& x) {
                             const pattern::Expr from = n.load(x[1], DType::f32, Map::identity({Dim(1), Dim(32)}).inserted(2, space[2]));
                             const pattern::Expr distance = n.load(x[0], DType::f32, groups) - from;
                             return n.reduce(ReduceOp::sum, distance * distance, DType::f32) / 1000.0;
                           }));
  check(cases, baseline, true);
}

/// With a NaN, infinities and numbers below the normal ones among them.
Tensor scattered_with_specials(DType dtype, const std::vector<int64_t>& dims) {
  Tensor t = scattered(dtype, dims);
  const double specials[] = {std::numeric_limits<double>::quiet_NaN(), INFINITY, -INFINITY, 0x1p-130, -0.0, 6};
  for (int64_t i = 0; i < 6; ++i) t.set_float((i * 131 + 7) % t.element_count(), specials[i]);
  return t;
}

/// y[p, c] of x[p, k, c] and b[c]: loops over channels become vectors, and what is left of these.
TEST_P(EmitKernel, LoopsInVectors) {
  using pattern::ReduceOp;
  std::vector<Case> cases;
  for (const int64_t channels : {5, 16, 24, 33, 64, 100, 288}) {
    const Dims space = {7, channels, 9};
    const Map side_by_side = Map::identity({Dim(7), Dim(9), Dim(channels)}).transposed({0, 2, 1});
    const Map of_channel = Map::identity({Dim(channels)}).inserted(0, 7);
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      const std::string of = fmt::format("{} channels of {}", channels, name(dtype));
      const auto add = [&](const char* what, bool exact, const std::function<pattern::Expr(NestBuilder&, const pattern::Expr&, const pattern::Expr&)>& value) {
        const DType result = exact ? dtype : DType::f32;
        cases.push_back(reducing(fmt::format("{}, {}", what, of), space, 1,
                                 {scattered_with_specials(dtype, {7, 9, channels}), scattered(DType::f32, {channels})}, result,
                                 [&](NestBuilder& n, const std::vector<int>& x) {
                                   const pattern::Expr bias = n.load(x[1], DType::f32, of_channel.inserted(2, 9));
                                   return value(n, n.load(x[0], dtype, side_by_side), bias);
                                 }));
      };
      add("the largest", true, [&](NestBuilder& n, const auto& x, const auto&) { return n.reduce(ReduceOp::max, x, dtype); });
      add("the least", true, [&](NestBuilder& n, const auto& x, const auto&) { return n.reduce(ReduceOp::min, x, dtype); });
      add("limited mean", false, [](NestBuilder& n, const auto& x, const auto&) {
        const pattern::Expr mean = n.reduce(ReduceOp::sum, n.cast(x, DType::f32), DType::f32) / 9.0;
        return n.binary(ExprOp::min, n.binary(ExprOp::max, mean, n.constant(DType::f32, 0)), n.constant(DType::f32, 0.25));
      });
    }
  }
  // Windows that leave their image, what is there as it is in pooling; and nothing to reduce but an axis of one.
  for (const int64_t channels : {20, 72, 100, 192}) {
    const Map windows = Map::identity({Dim(6), Dim(7), Dim(channels)})
                            .padded(0, 1, 1)
                            .padded(1, 1, 1)
                            .windows(1, 7, 3, 1, 1)
                            .windows(0, 6, 3, 1, 1)
                            .reshaped({6, 3, 7, 3, Dim(channels)})
                            .transposed({0, 2, 4, 1, 3});
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const auto pool = [&](const char* what, ReduceOp op, double fill, DType result) {
        cases.push_back(reducing(fmt::format("{} of windows, {} channels of {}", what, channels, name(dtype)), {6, 7, channels, 3, 3}, 2,
                                 {scattered_with_specials(dtype, {6, 7, channels}), scattered(DType::f32, {6})}, result,
                                 [&](NestBuilder& n, const std::vector<int>& x) {
                                   const pattern::Expr value = n.load(x[0], dtype, windows, {}, n.constant(dtype, fill));
                                   return n.reduce(op, result == dtype ? value : n.cast(value, result), result);
                                 }));
      };
      pool("the largest", ReduceOp::max, -INFINITY, dtype);
      pool("the sum", ReduceOp::sum, 0, DType::f32);
    }
    const Map one = Map::identity({Dim(6), Dim(1), Dim(channels)}).transposed({0, 2, 1});
    cases.push_back(reducing(fmt::format("an axis of one, {} channels", channels), {6, channels, 1}, 1, {scattered(DType::f32, {6, 1, channels})}, DType::f32,
                             [&](NestBuilder& n, const std::vector<int>& x) { return n.reduce(ReduceOp::sum, n.load(x[0], DType::f32, one), DType::f32); }));
  }
  // Enough for several threads, which all round alike.
  cases.push_back(reducing("a long map", {100003}, 0, {scattered(DType::f32, {100003})}, DType::f32, [](NestBuilder& n, const std::vector<int>& x) {
    return n.unary(ExprOp::sigmoid, n.load(x[0], DType::f32, Map::identity({Dim(100003)})));
  }));
  for (const int64_t size : {3, 15, 16, 17, 63, 64, 65, 130}) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      const Dims space = {5, size};
      const Map whole = Map::identity(std::span<const Dim>(space));
      cases.push_back(reducing(fmt::format("map of {} {}", size, name(dtype)), space, 0,
                               {scattered_with_specials(dtype, {5, size}), scattered(DType::f32, {size}), scattered(DType::f32, {5})}, dtype,
                               [&](NestBuilder& n, const std::vector<int>& x) {
                                 const pattern::Expr value = n.cast(n.load(x[0], dtype, whole), DType::f32);
                                 const pattern::Expr bias = n.load(x[1], DType::f32, Map::identity({Dim(size)}).inserted(0, 5));
                                 const pattern::Expr of_row = n.load(x[2], DType::f32, Map::identity({Dim(5)}).inserted(1, size));
                                 const pattern::Expr sum = n.binary(ExprOp::max, (value - bias) / of_row, of_row);
                                 return n.cast(sum * n.unary(ExprOp::sigmoid, value), dtype);
                               }));
    }
  }
  check(cases, baseline, true);
}

TEST(EmitLoops, SimpleOnesAreWrittenInVectors) {
  const auto text = [](const Case& one) {
    const schedule::Block block = schedule::schedule(one.program, {});
    return emit_kernel(block, block.kernels.at(0), find_target("cpu:x86-64-v4"));
  };
  const Dims space = {5, 64};
  const auto map = [&](ExprOp op, DType dtype) {
    return reducing("map", space, 0, {scattered(dtype, {5, 64})}, dtype,
                    [&](NestBuilder& n, const std::vector<int>& x) { return n.unary(op, n.load(x[0], dtype, Map::identity(std::span<const Dim>(space)))); });
  };
  EXPECT_NE(text(map(ExprOp::neg, DType::f32)).find("tile::in_vectors<"), std::string::npos);
  EXPECT_NE(text(map(ExprOp::sigmoid, DType::f32)).find("tile::in_vectors<"), std::string::npos);
  // Other functions and types are left to compilers.
  EXPECT_EQ(text(map(ExprOp::erf, DType::f32)).find("tile::in_vectors<"), std::string::npos);
  EXPECT_EQ(text(map(ExprOp::neg, DType::f64)).find("tile::in_vectors<"), std::string::npos);
  EXPECT_EQ(text(map(ExprOp::sigmoid, DType::bf16)).find("tile::in_vectors<"), std::string::npos);
}

TEST_P(EmitKernel, NumbersOfGroupsForEachChannel) {
  const Dims space = {2, 40, 96};
  const auto value = [&](NestBuilder& n, const std::vector<int>& x) {
    const pattern::Expr of_group = n.load(x[1], DType::f32, Map::identity({Dim(32)}).inserted(1, 3).reshaped({Dim(96)}).inserted(0, 40).inserted(0, 2));
    return n.load(x[0], DType::f32, Map::identity(std::span<const Dim>(space))) * of_group;
  };
  check({reducing("groups", space, 0, {scattered(DType::f32, {2, 40, 96}), scattered(DType::f32, {32})}, DType::f32, value)}, baseline);
}

struct Conv {
  std::string name;
  int64_t batch = 1, groups = 1, in = 3, out = 4;  ///< channels a group
  std::vector<int64_t> input, kernel, stride, dilation, pad;
  DType dtype = DType::f32;
  bool zero_points = false;
  std::vector<int64_t> more = {};  ///< positions beyond those that the padding gives
};

/// y[n, g·out + o, position…] = Σ x[n, g·in + c, window…] · w[g·out + o, c, kernel…] + b
Case convolution(const Conv& c) {
  Case one{c.name, {}, {}};
  Program& p = one.program;
  const size_t rank = c.input.size();
  Dims x_dims = {c.batch, c.groups * c.in}, w_dims = {c.groups * c.out, c.in}, y_dims = {c.batch, c.groups * c.out}, space = {c.batch, c.groups, c.out};
  std::vector<int64_t> positions;
  for (size_t d = 0; d < rank; ++d) {
    const int64_t more = c.more.empty() ? 0 : c.more[d];
    positions.push_back((c.input[d] + 2 * c.pad[d] - (c.kernel[d] - 1) * c.dilation[d] - 1) / c.stride[d] + 1 + more);
    x_dims.push_back(c.input[d]);
    w_dims.push_back(c.kernel[d]);
    y_dims.push_back(positions[d]);
    space.push_back(positions[d]);
  }
  space.push_back(c.in);
  for (size_t d = 0; d < rank; ++d) space.push_back(c.kernel[d]);
  const auto concrete = [](const Dims& dims) {
    std::vector<int64_t> all;
    for (const Dim& d : dims) all.push_back(d.constant());
    return all;
  };
  const auto input = [&](const std::string& name, const Dims& dims, DType dtype) {
    const int id = p.add_tensor({dtype, dims}, name);
    p.inputs.push_back(id);
    Tensor t(dtype, concrete(dims));
    for (int64_t i = 0; i < t.element_count(); ++i)
      is_float(dtype) ? t.set_float(i, static_cast<double>(i * 7919 % 41) / 32 - 0.6) : t.set_int(i, i * 7919 % 41 - (is_signed(dtype) ? 20 : 0));
    one.inputs.push_back(t);
    return id;
  };
  const DType sum = is_float(c.dtype) ? DType::f32 : DType::i32;
  const int x = input("x", x_dims, c.dtype), w = input("w", w_dims, c.dtype == DType::u8 ? DType::i8 : c.dtype), b = input("b", {c.groups * c.out}, sum);

  // x over [n, g, (o), position…, c, kernel…]
  Map xm = Map::identity(std::span<const Dim>(x_dims));
  for (size_t d = 0; d < rank; ++d)
    xm = xm.padded(static_cast<int>(2 + d), c.pad[d], c.pad[d] + c.stride[d] * (1 + (c.more.empty() ? 0 : c.more[d])));  // spare room: windows need not fill it
  for (size_t d = rank; d-- > 0;) xm = xm.windows(static_cast<int>(2 + d), positions[d], c.kernel[d], c.stride[d], c.dilation[d]);
  Dims parted = {c.batch, c.groups, c.in};
  for (size_t d = 0; d < rank; ++d) parted.insert(parted.end(), {Dim(positions[d]), Dim(c.kernel[d])});
  xm = xm.reshaped(std::span<const Dim>(parted));
  std::vector<int> order = {0, 1};
  for (size_t d = 0; d < rank; ++d) order.push_back(static_cast<int>(3 + 2 * d));
  order.push_back(2);
  for (size_t d = 0; d < rank; ++d) order.push_back(static_cast<int>(4 + 2 * d));
  xm = xm.transposed(std::span<const int>(order)).inserted(2, c.out);
  // w over [(n), g, o, (position…), c, kernel…]
  Dims w_parted = {c.groups, c.out};
  for (size_t d = 1; d < w_dims.size(); ++d) w_parted.push_back(w_dims[d]);
  Map wm = Map::identity(std::span<const Dim>(w_dims)).reshaped(std::span<const Dim>(w_parted));
  for (size_t d = 0; d < rank; ++d) wm = wm.inserted(static_cast<int>(2 + d), positions[d]);
  wm = wm.inserted(0, c.batch);
  Map bm = Map::identity({Dim(c.groups * c.out)}).reshaped({c.groups, c.out}).inserted(0, c.batch);
  for (size_t d = 3; d < space.size(); ++d) bm = bm.inserted(static_cast<int>(d), space[d]);
  Map ym = Map::identity(std::span<const Dim>(y_dims));
  Dims y_parted = {c.batch, c.groups, c.out};
  for (size_t d = 0; d < rank; ++d) y_parted.push_back(positions[d]);
  ym = ym.reshaped(std::span<const Dim>(y_parted));

  NestBuilder n(space, static_cast<int>(1 + rank));
  const double zero = c.zero_points ? 3 : 0;
  pattern::Expr xv = n.cast(n.load(x, c.dtype, xm, {}, n.constant(c.dtype, zero)), sum), wv = n.cast(n.load(w, p.tensor(w).type.dtype, wm), sum);
  if (c.zero_points) xv = xv - n.constant(sum, zero);
  pattern::Expr y = n.reduce(pattern::ReduceOp::sum, xv * wv, sum) + n.load(b, sum, bm);
  if (is_float(c.dtype)) y = n.binary(ExprOp::max, y, n.constant(sum, 0));
  const int result = p.add_tensor({sum, y_dims}, "y");
  n.store(result, ym, y);
  p.patterns.push_back(n.finish(c.name));
  p.outputs = {result};
  return one;
}

const std::vector<Conv>& convolutions() {
  static const std::vector<Conv> shapes = {
      {"3x3", 2, 1, 5, 6, {9, 11}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
      {"1x1", 1, 1, 16, 8, {7, 5}, {1, 1}, {1, 1}, {1, 1}, {0, 0}},
      {"1x1 strided", 1, 1, 32, 8, {7, 5}, {1, 1}, {2, 2}, {1, 1}, {0, 0}},
      {"7x7 strided", 1, 1, 3, 10, {23, 19}, {7, 7}, {2, 2}, {1, 1}, {3, 3}},
      {"dilated", 2, 1, 4, 4, {12, 13}, {3, 3}, {1, 1}, {2, 3}, {2, 3}},
      {"grouped", 1, 3, 4, 5, {8, 9}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
      {"depthwise", 2, 6, 1, 1, {14, 9}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
      {"depthwise strided", 1, 6, 1, 1, {14, 9}, {5, 5}, {2, 2}, {1, 1}, {2, 2}},
      {"depthwise multiplied", 1, 4, 1, 3, {14, 9}, {3, 3}, {1, 1}, {1, 1}, {1, 1}},
      {"one dimension", 2, 1, 8, 8, {40}, {5}, {1}, {1}, {2}},
      {"depthwise in one dimension", 2, 8, 1, 1, {40}, {5}, {1}, {1}, {2}},
      {"three dimensions", 1, 1, 2, 4, {5, 6, 7}, {3, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}},
      {"half", 1, 1, 5, 6, {9, 11}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, DType::f16},
      {"half, many channels", 1, 1, 16, 40, {9, 11}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, DType::f16},
      {"bfloat16, many channels", 2, 1, 16, 40, {9, 11}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, DType::bf16},
      {"bytes, many channels", 1, 1, 16, 40, {9, 11}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, DType::u8},
      {"bytes", 1, 1, 5, 6, {9, 11}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, DType::u8},
      {"bytes with zero points", 1, 1, 5, 6, {9, 11}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, DType::u8, true},
      {"depthwise bytes", 1, 6, 1, 1, {14, 9}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, DType::u8, true},
  };
  return shapes;
}

/// The convolution with its weights known, its input made from a row of numbers and its result turned into one: nothing
/// holds them to a layout.
Case with_weights(const Conv& shape) {
  Case one = convolution(shape);
  Program& p = one.program;
  const int x = p.inputs[0], w = p.inputs[1], y = p.outputs[0];
  p.tensors[static_cast<size_t>(w)].constant = std::make_shared<const Tensor>(one.inputs[1]);
  p.inputs.erase(p.inputs.begin() + 1);
  one.inputs.erase(one.inputs.begin() + 1);
  const Type x_type = p.tensor(x).type, y_type = p.tensor(y).type;
  const int before = p.add_tensor({x_type.dtype, {product(x_type.dims)}}, "before"), after = p.add_tensor({y_type.dtype, {product(y_type.dims)}}, "after");
  const auto row_of = [](const Type& type) { return Map::identity({product(type.dims)}).reshaped(std::span<const Dim>(type.dims)); };
  NestBuilder give(x_type.dims), take(y_type.dims);
  give.store(x, give.unary(ExprOp::neg, give.load(before, x_type.dtype, row_of(x_type))));
  take.store(after, row_of(y_type), take.unary(ExprOp::neg, take.load_broadcast(y, y_type)));
  p.patterns.insert(p.patterns.begin(), give.finish("before"));
  p.patterns.push_back(take.finish("after"));
  p.inputs[0] = before;
  p.outputs[0] = after;
  one.inputs[0] = one.inputs[0].reshaped({one.inputs[0].element_count()});
  return one;
}

TEST_P(EmitKernel, ConvolutionsWithWeights) {
  std::vector<Case> cases;
  std::vector<Conv> shapes = convolutions();
  std::erase_if(shapes, [](const Conv& shape) { return !is_float(shape.dtype); });
  shapes.push_back({"one filter", 1, 1, 16, 1, {9, 11}, {3, 3}, {1, 1}, {1, 1}, {1, 1}});
  shapes.push_back({"padded at the end", 1, 1, 16, 16, {4, 8, 8}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}, DType::f32, false, {2, 0, 0}});
  shapes.push_back({"3x3, wide", 2, 1, 24, 70, {9, 30}, {3, 3}, {1, 1}, {1, 1}, {1, 1}});
  shapes.push_back({"1x1, wide", 1, 1, 300, 70, {9, 11}, {1, 1}, {1, 1}, {1, 1}, {0, 0}});
  shapes.push_back({"3x3 strided, wide", 1, 2, 16, 20, {9, 30}, {3, 3}, {2, 2}, {1, 1}, {1, 1}});
  for (const Conv& shape : shapes) cases.push_back(with_weights(shape));
  schedule::Options options = baseline;
  options.choose_layouts = find_target(GetParam()).kind == TargetKind::cpu;
  check(cases, options);
  if (GetParam() != "native") return;
  for (const Case& one : cases) {
    schedule::Block block = schedule::schedule(one.program, {}, options);
    const Target& target = find_target("cpu:x86-64-v3");
    plan_kernels(block, target);
    const std::string text = emit_kernel(block, block.kernels.at(1), target);
    if (one.name.starts_with("depthwise")) {
      EXPECT_EQ(text.find("tile::depthwise_rows<") != std::string::npos, !one.name.ends_with("multiplied")) << one.name << "\n" << text;
      continue;
    }
    EXPECT_NE(text.find(one.name == "3x3, wide" ? "tile::winograd<" : "tile::contract_rows<"), std::string::npos) << one.name << "\n" << text;
  }
}

TEST_P(EmitKernel, Convolutions) {
  std::vector<Case> cases;
  for (const Conv& shape : convolutions()) cases.push_back(convolution(shape));
  check(cases, baseline);
  // Short elements in many channels may go to the matrix instructions where there are any.
  for (const Case& one : cases) {
    schedule::Block block = schedule::schedule(one.program, {}, baseline);
    const Target& target = find_target(GetParam());
    if (target.kind == TargetKind::cpu) break;
    const bool wide = GetParam() == "emulator:warp64", short_elements = one.name.ends_with("many channels"), of_bytes = one.name.starts_with("bytes");
    const std::optional<KernelSpace> space = kernel_space(block, block.kernels.at(0), target, {});
    const schedule::KernelConfig* by_matrix = nullptr;
    if (space)
      for (const schedule::KernelConfig& config : space->configs)
        if (std::get<schedule::TileConfig>(config).unit == schedule::TileConfig::Unit::mma) by_matrix = &config;
    ASSERT_EQ(by_matrix != nullptr, short_elements && !(wide && of_bytes)) << one.name;
    if (by_matrix == nullptr) continue;
    plan_kernels(block, target, {.choose = [&](const auto&, const auto&) { return *by_matrix; }});
    EXPECT_NE(emit_kernel(block, block.kernels.at(0), target).find(wide ? "MfmaTiles<" : "MmaTiles<"), std::string::npos) << one.name;
  }
  // The library's kernels serve them on CPUs: no plain loops.
  if (GetParam() != "native") return;
  for (const Case& one : cases) {
    const schedule::Block block = schedule::schedule(one.program, {}, baseline);
    const std::string text = emit_kernel(block, block.kernels.at(0), find_target("cpu:x86-64-v3"));
    const bool depthwise = one.name.starts_with("depthwise");
    EXPECT_NE(text.find(depthwise ? "tile::depthwise<" : "tile::contract<"), std::string::npos) << one.name << "\n" << text;
    EXPECT_EQ(text.find("tile::Mapped"), std::string::npos) << one.name << "\n" << text;
  }
}

/// out[b, m, n] = Σk x[b, m, k] · y[b, n, k]: rows of both one behind the other, as windows of a convolution by channels could lie.
TEST(EmitContract, ProductsOfManyMatricesAreNoConvolution) {
  const Dim batch = 6, m = 20, n = 24, k = 32;
  Program program;
  for (const Dims& dims : {Dims{batch, m, k}, Dims{batch, n, k}}) program.inputs.push_back(program.add_tensor({DType::f32, dims}, "x"));
  const auto whole = [&](int id) { return Map::identity(std::span<const Dim>(program.tensor(id).type.dims)); };
  NestBuilder nest({batch, m, n, k}, 1);
  const auto x = nest.load(program.inputs[0], DType::f32, whole(program.inputs[0]).inserted(2, n));
  const auto y = nest.load(program.inputs[1], DType::f32, whole(program.inputs[1]).inserted(1, m));
  program.outputs = {program.add_tensor({DType::f32, {batch, m, n}}, "out")};
  nest.store(program.outputs[0], nest.reduce(pattern::ReduceOp::sum, x * y, DType::f32));
  program.patterns.push_back(nest.finish("products"));
  const schedule::Block block = schedule::schedule(program, {});
  const std::string text = emit_kernel(block, block.kernels.at(0), find_target("cpu:x86-64-v3"));
  EXPECT_NE(text.find("tile::contract<"), std::string::npos) << text;
}

constexpr int64_t split_rows = 88;  // strips of 11, with two vectors of columns

/// out[heads, m, d] = x[m, k] · weights[k, heads · d], selected to zero where a row or a column is not wanted.
Case split_columns(const Dim& heads, const Dim& depth) {
  const Dim m = split_rows, k = 20, n = heads * depth;
  Case one;
  Program& p = one.program;
  const int x = p.add_tensor({DType::f32, {m, k}}, "x"), row = p.add_tensor({DType::boolean, {m}}, "row"),
            column = p.add_tensor({DType::boolean, {n}}, "column");
  p.inputs = {x, row, column};
  Tensor values(DType::f32, {k.constant(), n.constant()});
  for (int64_t i = 0; i < values.element_count(); ++i) values.set_float(i, static_cast<double>(i * 37 % 11 - 5));
  const int weights = p.add_tensor({DType::f32, {k, n}}, "weights", std::make_shared<Tensor>(values));
  p.outputs = {p.add_tensor({DType::f32, {heads, m, depth}}, "out")};
  const auto whole = [&](int id) { return Map::identity(std::span<const Dim>(p.tensor(id).type.dims)); };
  NestBuilder nest({m, n, k}, 1);
  const auto sum = nest.reduce(
      pattern::ReduceOp::sum,
      nest.load(x, DType::f32, whole(x).inserted(1, n)) * nest.load(weights, DType::f32, whole(weights).transposed({1, 0}).inserted(0, m)), DType::f32);
  const auto wanted = nest.binary(ExprOp::logical_and, nest.load(row, DType::boolean, whole(row).inserted(1, n).inserted(2, k)),
                                  nest.load(column, DType::boolean, whole(column).inserted(0, m).inserted(2, k)));
  nest.store(p.outputs[0], whole(p.outputs[0]).transposed({1, 0, 2}).reshaped(std::initializer_list<Dim>{m, n}),
             nest.select(wanted, sum, nest.constant(DType::f32, 0)));
  p.patterns.push_back(nest.finish("split columns"));
  return one;
}

TEST(EmitContract, PanelsOfSplitColumnsAreStoredSideBySide) {
  struct Expected {
    int64_t heads, depth;
    bool side_by_side;
  };
  for (const Expected& expected : {Expected{3, 64, true}, Expected{24, 8, false}}) {
    const Case one = split_columns(expected.heads, expected.depth);
    schedule::Block block = schedule::schedule(one.program, {});
    const Target& target = find_target("cpu:x86-64-v4");
    plan_kernels(block, target);
    const std::string text = emit_kernel(block, block.kernels.at(0), target);
    ASSERT_NE(text.find("tile::contract_rows<"), std::string::npos) << text;
    EXPECT_EQ(text.find("q0[column] = ") != std::string::npos, expected.side_by_side) << text;
  }
}

TEST(EmitContract, WhatARowDecidesIsACondition) {
  const Case one = split_columns(3, 64);
  schedule::Block block = schedule::schedule(one.program, {});
  const Target& target = find_target("cpu:x86-64-v4");
  plan_kernels(block, target);
  const std::string text = emit_kernel(block, block.kernels.at(0), target);
  EXPECT_TRUE(std::regex_search(text, std::regex(R"(const bool v\d+ = v\d+ \? v\d+ : false;)"))) << text;
}

TEST_P(EmitKernel, SplitColumns) {
  std::vector<Case> cases;
  for (const auto& [heads, depth] : {std::pair<int64_t, int64_t>{3, 64}, {24, 8}, {2, 48}, {5, 7}}) {
    Case one = split_columns(heads, depth);
    one.name = fmt::format("{} heads of {}", heads, depth);
    Tensor x(DType::f32, {split_rows, 20}), row(DType::boolean, {split_rows}), column(DType::boolean, {heads * depth});
    for (int64_t i = 0; i < x.element_count(); ++i) x.set_float(i, static_cast<double>(i * 7 % 5 - 2));
    for (int64_t i = 0; i < row.element_count(); ++i) row.set_int(i, i % 4 != 1);
    for (int64_t i = 0; i < column.element_count(); ++i) column.set_int(i, i % 3 != 1);
    one.inputs = {x, row, column};
    cases.push_back(std::move(one));
  }
  check(cases);
}

}  // namespace
}  // namespace tilewright
