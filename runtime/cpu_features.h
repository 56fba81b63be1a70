#pragma once

// What the machine at hand offers, under the names that compilers use. Shared by the compiler, which picks a target, and by
// artifacts, which refuse machines that lack something.

#include <cstring>
#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace tilewright::rt {

struct CpuFeature {
  const char* name;
  bool (*present)();
};

#if defined(__x86_64__)
/// Whether the machine has the bit of CPUID leaf 7, EDX, and Linux lets this process use the tile registers, asking for it (XTILEDATA is
/// component 18 of the state that a process must ask for).
inline bool may_use_amx(int bit) {
#if defined(__linux__) && defined(SYS_arch_prctl)
  constexpr long request_permission = 0x1023, tile_data = 18;
  constexpr unsigned tiles = 24;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d >> tiles & 1) == 0 || (d >> bit & 1) == 0) return false;
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}

#define TILEWRIGHT_CPU_FEATURE(name)                       \
  CpuFeature {                                             \
    name, [] { return __builtin_cpu_supports(name) != 0; } \
  }
inline constexpr CpuFeature cpu_features[] = {
    TILEWRIGHT_CPU_FEATURE("avx2"),
    TILEWRIGHT_CPU_FEATURE("fma"),
    TILEWRIGHT_CPU_FEATURE("bmi2"),
    TILEWRIGHT_CPU_FEATURE("avx512f"),
    TILEWRIGHT_CPU_FEATURE("avx512bw"),
    TILEWRIGHT_CPU_FEATURE("avx512dq"),
    TILEWRIGHT_CPU_FEATURE("avx512vl"),
    TILEWRIGHT_CPU_FEATURE("avx512vnni"),
    TILEWRIGHT_CPU_FEATURE("avx512vbmi"),
    TILEWRIGHT_CPU_FEATURE("avx512bf16"),
    // Compilers came to know this name late, so the bit itself: CPUID leaf 7, EDX bit 23.
    {"avx512fp16",
     [] {
       unsigned a = 0, b = 0, c = 0, d = 0;
       return __builtin_cpu_supports("avx512f") != 0 && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d >> 23 & 1) != 0;
     }},
    {"amx-bf16", [] { return may_use_amx(22); }},
    {"amx-int8", [] { return may_use_amx(25); }},
};
#undef TILEWRIGHT_CPU_FEATURE
#else
inline constexpr CpuFeature cpu_features[] = {{"", [] { return false; }}};
#endif

/// nullptr when there is no feature of that name.
inline const CpuFeature* find_cpu_feature(const char* name) {
  for (const CpuFeature& one : cpu_features)
    if (std::strcmp(one.name, name) == 0) return &one;
  return nullptr;
}

inline bool has_cpu_feature(const char* name) {
  const CpuFeature* found = find_cpu_feature(name);
  return found != nullptr && found->present();
}

}  // namespace tilewright::rt
