#pragma once

// What of a machine measurements depend on. Included by the tuner and by the runner, which may be on another machine.

#include <fstream>
#include <string>

namespace tilewright::tune {

/// CPU model and cache sizes: "Intel(R) Xeon(R) Processor, caches 48K 2048K 266240K".
inline std::string describe_machine() {
  std::ifstream information("/proc/cpuinfo");
  std::string line, text = "unknown CPU";
  while (std::getline(information, line)) {
    if (line.compare(0, 10, "model name") != 0) continue;
    const size_t colon = line.find(": ");
    text = colon == std::string::npos ? line : line.substr(colon + 2);
    break;
  }
  text += ", caches";
  for (const char* index : {"0", "2", "3"}) {
    std::ifstream file(std::string("/sys/devices/system/cpu/cpu0/cache/index") + index + "/size");
    std::string size;
    text += ' ' + (std::getline(file, size) ? size : std::string("?"));
  }
  return text;
}

}  // namespace tilewright::tune
