#pragma once

// Kernels in the emulator, and what it says of faulty ones.

#include <gtest/gtest.h>

#include <set>
#include <sstream>
#include <string>

#include "tile/exec/emulator.h"
#include "tile/testing/teams.h"

namespace tile::testing {

/// A kernel of what it captures.
template <class Body>
struct Kernel {
  Body body;
  template <class Exec>
  void operator()(Exec& ex) const {
    body(ex);
  }
};

template <int warp = 32, class Body>
void run(const simt::Launch& launch, Body body, uint64_t seed = 1) {
  TestTeam threads(1);
  simt::launch_emulated<warp>(Kernel<Body>{body}, launch, threads.team(), seed);
}

/// The texts of the faults that the kernel has in 20 orders; "" if it has none. Faults do not depend on luck: all or none.
template <class Body>
std::string fault(const simt::Launch& launch, Body body) {
  std::set<std::string> texts;
  int faults = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    try {
      run(launch, body, seed);
    } catch (const simt::EmulationError& error) {
      texts.insert(error.what());
      ++faults;
    }
  }
  EXPECT_TRUE(faults == 0 || faults == 20) << faults << " of 20 orders";
  std::string joined;
  for (const std::string& text : texts) joined += text + "\n";
  return joined;
}

/// Whether one of the faults' texts has both parts.
inline ::testing::AssertionResult says(const std::string& texts, const std::string& who, const std::string& what) {
  std::istringstream lines(texts);
  for (std::string text; std::getline(lines, text);) {
    if (text.find(who) != std::string::npos && text.find(what) != std::string::npos) return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure() << "the faults are '" << texts << "', not '" << who << " … " << what << "'";
}

}  // namespace tile::testing
