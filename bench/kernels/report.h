#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "bench/kernels/layers.h"

namespace tilewright::kernel_bench {

/// A layer's rate, and which share it makes of the highest that was measured beside it (`possible`).
struct Rate {
  double achieved = 0;             ///< operations of Layer::operations() a second; bytes a second where memory_bound()
  double possible = 0, share = 0;  ///< 0: not known. The share counts the operations that the method does
  bool alone = false;              ///< whether most repetitions had moments in which the core was ours alone, of which alone their figures are
};

struct Row {
  Layer layer;
  std::string method;  ///< "rows 14×2"
  Rate warm, cold;
};

struct Report {
  std::string cpu, date;
  std::vector<Row> rows;
};

/// The processor's name and today's date.
Report empty_report();

nlohmann::json json(const Report& report);
/// Tables and the summary; the same on a screen and as a page.
std::string markdown(const Report& report);

}  // namespace tilewright::kernel_bench
