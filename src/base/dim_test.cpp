#include "base/dim.h"

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"

namespace tilewright {
namespace {

Dim d(const char* text) { return Dim::parse(text); }

int64_t floor_div(int64_t a, int64_t b) { return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0); }

/// A random expression built twice: as a Dim, and evaluated directly on plain integers.
struct Sample {
  Dim dim;
  int64_t value;
};

class Generator {
 public:
  Generator(unsigned seed, std::map<std::string, int64_t> values) : random_(seed), values_(std::move(values)) {}

  Sample expression(int depth) {
    if (depth == 0 || pick(6) == 0) {
      if (pick(3) == 0) {
        const int64_t c = pick(17) - 8;
        return {c, c};
      }
      auto it = values_.begin();
      std::advance(it, pick(static_cast<int>(values_.size())));
      return {Dim::symbol(it->first), it->second};
    }
    const Sample a = expression(depth - 1);
    switch (pick(7)) {
      case 0: {
        const Sample b = expression(depth - 1);
        return {a.dim + b.dim, a.value + b.value};
      }
      case 1: {
        const Sample b = expression(depth - 1);
        return {a.dim - b.dim, a.value - b.value};
      }
      case 2: {
        const Sample b = expression(depth - 1);
        return {a.dim * b.dim, a.value * b.value};
      }
      case 3: {
        const Sample b = expression(depth - 1);
        return {min(a.dim, b.dim), std::min(a.value, b.value)};
      }
      case 4: {
        const Sample b = expression(depth - 1);
        return {max(a.dim, b.dim), std::max(a.value, b.value)};
      }
      case 5: {
        const Sample b = divisor();
        return {a.dim / b.dim, floor_div(a.value, b.value)};
      }
      default: {
        const Sample b = divisor();
        return {a.dim % b.dim, a.value - b.value * floor_div(a.value, b.value)};
      }
    }
  }

  int pick(int below) { return static_cast<int>(random_() % static_cast<unsigned>(below)); }

 private:
  /// Positive: a constant, a symbol, or a product of both; sometimes a negative constant.
  Sample divisor() {
    if (pick(8) == 0) {
      const int64_t c = -1 - pick(5);
      return {c, c};
    }
    Sample s{1 + pick(6), 0};
    s.value = s.dim.constant();
    for (int i = pick(3); i > 0; --i) {
      auto it = values_.begin();
      std::advance(it, pick(static_cast<int>(values_.size())));
      s = {s.dim * Dim::symbol(it->first), s.value * it->second};
    }
    if (pick(3) == 0) s = {s.dim + 1, s.value + 1};
    return s;
  }

  std::mt19937 random_;
  std::map<std::string, int64_t> values_;
};

TEST(Dim, RandomExpressionsKeepTheirValueInCanonicalFormAndThroughText) {
  for (unsigned seed = 0; seed < 6000; ++seed) {
    const int64_t n = 1 + seed % 7, h = 1 + (seed / 7) % 5, w = 1 + (seed / 35) % 9;
    const std::map<std::string, int64_t> values{{"N", n}, {"H", h}, {"W", w}};
    Generator make(seed, values);
    const Sample s = make.expression(2 + static_cast<int>(seed % 3));
    ASSERT_EQ(s.dim.evaluate(values), s.value) << s.dim.str();
    ASSERT_EQ(Dim::parse(s.dim.str()), s.dim) << s.dim.str();
    const std::map<std::string, Dim> swap{{"N", Dim::symbol("H") + 1}, {"W", 3}};
    const std::map<std::string, int64_t> inner{{"N", h + 1}, {"H", h}, {"W", 3}};
    ASSERT_EQ(s.dim.substitute(swap).evaluate({{"H", h}}), s.dim.evaluate(inner)) << s.dim.str();
  }
}

TEST(Dim, SimplifyUnderBoundsKeepsTheValueForEveryAssignmentInside) {
  // i in [0, N-1], j in [0, 3], k in [0, i]; N >= 1.
  Bounds world;
  world.of["i"] = {0, Dim::symbol("N") - 1};
  world.of["j"] = {0, 3};
  world.of["k"] = {0, Dim::symbol("i")};
  world.default_low = 1;
  for (unsigned seed = 0; seed < 1500; ++seed) {
    Generator make(seed, {{"N", 1}, {"i", 1}, {"j", 1}, {"k", 1}});
    Dim e = 0;
    try {
      e = make.expression(3).dim;
    } catch (const Error&) {
      continue;
    }
    const Dim simple = simplify(e, world);
    const std::optional<Dim> lowest = lower_bound(e, world), highest = upper_bound(e, world);
    const bool nonnegative = proven_nonnegative(e, world);
    for (int64_t n = 1; n <= 4; ++n)
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < 4; ++j)
          for (int64_t k = 0; k <= i; ++k) {
            const std::map<std::string, int64_t> at{{"N", n}, {"i", i}, {"j", j}, {"k", k}};
            int64_t expected;
            try {
              expected = e.evaluate(at);
            } catch (const Error&) {
              continue;  // a divisor is 0 here
            }
            ASSERT_EQ(simple.evaluate(at), expected) << e.str() << " became " << simple.str();
            if (lowest) {
              ASSERT_LE(lowest->evaluate({{"N", n}}), expected) << e.str() << " >= " << lowest->str();
            }
            if (highest) {
              ASSERT_GE(highest->evaluate({{"N", n}}), expected) << e.str() << " <= " << highest->str();
            }
            if (nonnegative) {
              ASSERT_GE(expected, 0) << e.str();
            }
          }
  }
}

TEST(Dim, RingLawsDecideEquality) {
  EXPECT_EQ(d("(N+1)*(N-1)"), d("N*N-1"));
  EXPECT_EQ(d("N+N"), d("2*N"));
  EXPECT_EQ(d("N-N"), Dim(0));
  EXPECT_EQ(d("H*W*N"), d("N*W*H"));
  EXPECT_FALSE(d("N") == d("H"));
}

TEST(Dim, DivisionTakesOutWholeMultiples) {
  EXPECT_EQ(d("(4*N+8*H)/4"), d("N+2*H"));
  EXPECT_EQ(d("(4*N+j)/4"), d("N+j/4"));
  EXPECT_EQ(d("(4*N+j)%4"), d("j%4"));
  EXPECT_EQ(d("(N*H*W)/(N*W)"), d("H"));
  EXPECT_EQ(d("(N*i+j)/N"), d("i+j/N"));
  EXPECT_EQ(d("N/N"), Dim(1));
  EXPECT_EQ(d("((H+1)*(W+2))/(H+1)"), d("W+2"));
  EXPECT_EQ(d("(N/2)/3"), d("N/6"));
  EXPECT_EQ(d("(N%12)%4"), d("N%4"));
  EXPECT_EQ(d("(2*N)/(4*H)"), d("N/(2*H)"));
  EXPECT_EQ(d("(6*N)%4"), d("2*(N%2)"));
}

TEST(Dim, QuotientAndRemainderRecombine) {
  EXPECT_EQ(d("4*(x/4)+x%4"), d("x"));
  EXPECT_EQ(d("W*(x/W)+x%W"), d("x"));
  EXPECT_EQ(d("H*W*(x/(H*W)) + W*((x/W)%H) + x%W"), d("x"));
  EXPECT_EQ(d("3*((N+5)/3)+(N+5)%3"), d("N+5"));
}

TEST(Dim, MinAndMaxFoldWhatDiffersByAConstant) {
  EXPECT_EQ(d("min(N,N)"), d("N"));
  EXPECT_EQ(d("min(N,N+3)"), d("N"));
  EXPECT_EQ(d("max(N,N+3)"), d("N+3"));
  EXPECT_EQ(d("min(H,min(W,H))"), d("min(W,H)"));
}

TEST(Dim, TextIsShortAndReadable) {
  EXPECT_EQ(Dim(3).str(), "3");
  EXPECT_EQ(d("1+2*N").str(), "2*N+1");
  EXPECT_EQ(d("(H+1)/2").str(), "(H+1)/2");
  EXPECT_EQ(d("H%2").str(), "H%2");
  EXPECT_EQ(d("min(H,W)").str(), "min(H,W)");
  EXPECT_EQ(d("N-H").str(), "-H+N");
  EXPECT_EQ(str(Dims{2, Dim::symbol("N"), 64}), "[2,N,64]");
}

TEST(Dim, LoopIndicesProveTheirLinearAddressInRange) {
  Bounds world;
  world.of["i"] = {0, d("M-1")};
  world.of["j"] = {0, d("N-1")};
  EXPECT_TRUE(proven_less(d("N*i+j"), d("M*N"), world));
  EXPECT_TRUE(proven_nonnegative(d("N*i+j"), world));
  EXPECT_FALSE(proven_less(d("N*i+j+1"), d("M*N"), world));
  EXPECT_EQ(simplify(d("(N*i+j)/N"), world), d("i"));
  EXPECT_EQ(simplify(d("(N*i+j)%N"), world), d("j"));
  EXPECT_EQ(simplify(d("((N*i+j)/N)%M"), world), d("i"));
  EXPECT_EQ(simplify(d("(N*i+j)%(N*M)"), world), d("N*i+j"));
  EXPECT_EQ(upper_bound(d("N*i+j"), world), d("M*N-1"));
  world.of["t"] = {0, 63};
  EXPECT_EQ(simplify(d("(64*x+t)/64"), world), d("x"));
  EXPECT_EQ(simplify(d("(64*x+t)%64"), world), d("t"));
  world.of["s"] = {0, 7};
  EXPECT_EQ(simplify(d("(8*x+s)/64"), world), d("x/8"));
  EXPECT_EQ(simplify(d("(8*x+s)%64"), world), d("8*(x%8)+s"));
  EXPECT_EQ(simplify(d("min(t,64)"), world), d("t"));
}

TEST(Dim, BadTextAndOverflowAreInvalidInput) {
  for (const char* text : {"", "N+", "(N", "N)", "3N", "N N", "min(N)", "9223372036854775808", "N/0", "9223372036854775807+1", "4611686018427387904*2", "$"}) {
    try {
      Dim::parse(text);
      ADD_FAILURE() << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::invalid_input) << text;
    }
  }
  EXPECT_THROW(Dim::parse(std::string(100000, '(')), Error);
  EXPECT_THROW(Dim::symbol("batch size"), Error);
  EXPECT_THROW(d("N").evaluate({}), Error);
  EXPECT_THROW(d("N*N").evaluate({{"N", int64_t{1} << 40}}), Error);
  EXPECT_EQ(Dim::parse("-9223372036854775808").constant(), INT64_MIN);
}

TEST(Dim, RunawayExpressionsEndInAnErrorNotInMemory) {
  Dim x = Dim::symbol("N");
  EXPECT_THROW(
      {
        for (int i = 0; i < 200; ++i) x = (x / 3) * (x % 5) + min(x, Dim::symbol("H") * x);
      },
      Error);
}

}  // namespace
}  // namespace tilewright
