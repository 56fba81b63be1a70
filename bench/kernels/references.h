#pragma once

#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

/// What one core of this machine can do at most, measured: compiled for the machine it runs on.
namespace tilewright::kernel_bench {

/// Operations a second of multiply-adds in 32-bit floats that touch registers alone: the median of some bursts of 0.1 ms.
double float_peak();

/// The same of VNNI's products of four 8-bit integers, a multiplication and an addition each; 0 without VNNI.
double vnni_peak();

/// The same of products of two bfloats, summed in f32; 0 without AVX512-BF16.
double bfloat_peak();

/// The same of products of tile registers, of bytes and of bfloats; 0 without AMX, or where this process may not use it.
double amx_byte_peak();
double amx_bfloat_peak();
/// Of the six products of bfloats that stand for one of floats.
inline double amx_float_peak() { return amx_bfloat_peak() / 6; }

/// Whether the core is this thread's alone, as far as a short loop tells: it takes as long as the shortest that this process saw. Where another thread
/// of the core runs, be it another virtual machine's, it gets every second of the jumps.
bool alone();
struct Measured {
  double rate;
  bool alone;  ///< whether the core was this thread's alone: half a second brought such a moment
};
/// The rate that `measure` returns.
template <class Measure>
Measured measure_alone(const Measure& measure);

/// Memory to be read from its beginning to its end.
class ReadBuffer {
 public:
  explicit ReadBuffer(int64_t bytes);
  int64_t bytes() const { return static_cast<int64_t>(values_.size() * sizeof(float)); }
  void read() const;

 private:
  std::vector<float> values_;
};

/// Bytes a second at which `buffer` is read; `before` is called before each of the readings, whose median counts.
template <class Before>
double read_rate(const ReadBuffer& buffer, const Before& before);

/// Of this thread alone: what other programs take of the core does not count.
double seconds_now();
double median(std::vector<double> values);

template <class Measure>
Measured measure_alone(const Measure& measure) {
  using Clock = std::chrono::steady_clock;
  for (const auto end = Clock::now() + std::chrono::milliseconds(500);;) {
    const bool before = alone();
    const double rate = measure();
    const bool all_along = before && alone();
    if (all_along || Clock::now() > end) return {rate, all_along};
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

template <class Before>
double read_rate(const ReadBuffer& buffer, const Before& before) {
  std::vector<double> seconds;
  for (int i = 0; i < 9; ++i) {
    before();
    const double start = seconds_now();
    buffer.read();
    seconds.push_back(seconds_now() - start);
  }
  return static_cast<double>(buffer.bytes()) / median(seconds);
}

}  // namespace tilewright::kernel_bench
