#include "runtime/cores.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <map>
#include <string_view>
#include <utility>

namespace tilewright::rt {
namespace {

constexpr int most_cores = 8192;  // that Linux can be built for
struct Mask {
  cpu_set_t parts[most_cores / CPU_SETSIZE] = {};
};

std::string text_of(const std::string& path) {
  std::string text;
  if (std::FILE* file = std::fopen(path.c_str(), "re")) {
    char part[4096];
    for (size_t got; (got = std::fread(part, 1, sizeof part, file)) > 0;) text.append(part, got);
    std::fclose(file);
  }
  return text;
}

/// The numbers above zero that `text` is made of; none where there is anything else, such as "max" or "-1".
std::vector<int64_t> positive_numbers(std::string_view text) {
  constexpr std::string_view blanks = " \t\n";
  std::vector<int64_t> numbers;
  for (size_t begin; (begin = text.find_first_not_of(blanks)) != std::string_view::npos;) {
    text.remove_prefix(begin);
    const std::string_view word = text.substr(0, text.find_first_of(blanks));
    int64_t number = 0;
    const auto [end, failure] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (failure != std::errc() || end != word.data() + word.size() || number <= 0) return {};
    numbers.push_back(number);
    text.remove_prefix(word.size());
  }
  return numbers;
}

/// Where the process stands below the mounted roots of both versions; the roots themselves where nobody tells.
struct Groups {
  std::string unified, cpu;
};

/// Lines are NUMBER:CONTROLLERS:PATH; version 2 is the one without controllers.
Groups groups_of_process(const std::string& root) {
  Groups groups;
  const std::string text = text_of(root + "/proc/self/cgroup");
  for (size_t begin = 0, end; begin < text.size(); begin = end + 1) {
    end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    const size_t first = line.find(':'), second = first == std::string::npos ? std::string::npos : line.find(':', first + 1);
    if (second == std::string::npos || second + 1 == line.size() || line[second + 1] != '/') continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    if (controllers == ",,") groups.unified = line.substr(second + 1);
    if (controllers.find(",cpu,") != std::string::npos) groups.cpu = line.substr(second + 1);
  }
  return groups;
}

/// f(path) for a group and its parents; "" is the root. In a container the path may be the host's: then only some of these exist.
template <class F>
void for_group_and_parents(std::string path, F&& f) {
  for (; !path.empty(); path.resize(path.rfind('/'))) f(path);
  f(path);
}

/// The first of the siblings that share a processor core with `core`.
int first_sibling(int core, const std::string& root) {
  const std::string text = text_of(root + "/sys/devices/system/cpu/cpu" + std::to_string(core) + "/topology/thread_siblings_list");
  int first = core;
  std::from_chars(text.data(), text.data() + text.size(), first);
  return first;
}

}  // namespace

std::vector<int> allowed_cores() {
  std::vector<int> cores;
  Mask mask;
  if (sched_getaffinity(0, sizeof mask, mask.parts) != 0) return cores;
  for (int core = 0; core < most_cores; ++core)
    if (CPU_ISSET_S(static_cast<size_t>(core), sizeof mask, mask.parts)) cores.push_back(core);
  return cores;
}

void bind_to_core(int core) {
  Mask mask;
  CPU_SET_S(static_cast<size_t>(core), sizeof mask, mask.parts);
  sched_setaffinity(0, sizeof mask, mask.parts);
}

std::vector<int> spread_cores(const std::vector<int>& cores, int here, const std::string& root) {
  std::vector<int> around = cores;
  std::rotate(around.begin(), std::find(around.begin(), around.end(), here), around.end());
  std::map<int, int> taken;                   // hardware threads, by the first sibling
  std::vector<std::pair<int, int>> by_turns;  // its turn within its processor core, the core
  for (const int core : around) by_turns.emplace_back(taken[first_sibling(core, root)]++, core);
  std::stable_sort(by_turns.begin(), by_turns.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<int> result;
  for (const auto& [turn, core] : by_turns) result.push_back(core);
  return result;
}

std::optional<int> quota_cores(const std::string& root) {
  constexpr int64_t none = std::numeric_limits<int>::max();
  int64_t least = none;
  const auto limit = [&](const std::string& quota_and_period) {
    const std::vector<int64_t> numbers = positive_numbers(quota_and_period);
    if (numbers.size() == 2) least = std::min(least, (numbers[0] - 1) / numbers[1] + 1);
  };
  const Groups groups = groups_of_process(root);
  for_group_and_parents(groups.unified, [&](const std::string& path) { limit(text_of(root + "/sys/fs/cgroup" + path + "/cpu.max")); });
  for_group_and_parents(groups.cpu, [&](const std::string& path) {
    const std::string folder = root + "/sys/fs/cgroup/cpu" + path;
    limit(text_of(folder + "/cpu.cfs_quota_us") + " " + text_of(folder + "/cpu.cfs_period_us"));
  });
  return least == none ? std::nullopt : std::optional<int>(static_cast<int>(least));
}

int usable_cores() {
  const int allowed = std::max(static_cast<int>(allowed_cores().size()), 1);
  return std::min(allowed, quota_cores().value_or(allowed));
}

}  // namespace tilewright::rt
