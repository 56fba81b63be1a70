#pragma once

// What of a machine measurements depend on. Included by the tuner and by the runner, which may be on another machine.

#include <dlfcn.h>

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

/// The functions of a GPU's driver that name its first device; those of the two vendors differ by their names alone.
struct GpuDriver {
  const char *library, *begin, *name, *attribute, *version;
  int multiprocessors, clock;  ///< attributes; kHz
};

inline std::string describe_gpu(const GpuDriver& driver) {
  void* const library = dlopen(driver.library, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return "";
  const auto begin = reinterpret_cast<int (*)(unsigned)>(dlsym(library, driver.begin));
  const auto name = reinterpret_cast<int (*)(char*, int, int)>(dlsym(library, driver.name));
  const auto attribute = reinterpret_cast<int (*)(int*, int, int)>(dlsym(library, driver.attribute));
  const auto version = reinterpret_cast<int (*)(int*)>(dlsym(library, driver.version));
  char text[256] = {};
  if (begin == nullptr || name == nullptr || attribute == nullptr || version == nullptr || begin(0) != 0 || name(text, sizeof text - 1, 0) != 0) return "";
  std::string all = text;
  int value = 0;
  if (attribute(&value, driver.multiprocessors, 0) == 0) all += ", " + std::to_string(value) + " multiprocessors";
  if (attribute(&value, driver.clock, 0) == 0) all += ", " + std::to_string(value / 1000) + " MHz";
  if (version(&value) == 0) all += ", driver " + std::to_string(value);
  return all;
}

/// What measurements of `device` depend on: "cuda" and "hip" are GPUs, anything else is the CPU. "" where there is no such GPU:
/// "NVIDIA A100-SXM4-80GB, 108 multiprocessors, 1410 MHz, driver 12040".
inline std::string describe_machine(const std::string& device) {
  if (device == "cuda") return describe_gpu({"libcuda.so.1", "cuInit", "cuDeviceGetName", "cuDeviceGetAttribute", "cuDriverGetVersion", 16, 13});
  if (device == "hip") return describe_gpu({"libamdhip64.so", "hipInit", "hipDeviceGetName", "hipDeviceGetAttribute", "hipDriverGetVersion", 63, 5});
  return describe_machine();
}

}  // namespace tilewright::tune
