#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tilewright {

struct ProcessResult {
  int exit_code = -1;       ///< 128 + signal when killed; 127 when the program was not found
  std::string output;       ///< standard output and standard error together, the first 256 KiB
  long peak_kilobytes = 0;  ///< largest resident set
};

/// Runs a program found in PATH (no shell) and waits. Standard input is empty.
ProcessResult run_process(const std::vector<std::string>& command);

/// The largest resident set of this process since it began to run its program (getrusage also counts what the parent had before), in bytes.
int64_t peak_resident_bytes();

}  // namespace tilewright
