#include "runtime/memory.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <numeric>

#include "runtime/device.h"
#include "runtime/failure.h"

namespace tilewright::rt {
namespace {

i64 rounded(i64 bytes) { return (bytes + tensor_alignment - 1) / tensor_alignment * tensor_alignment; }

}  // namespace

Layout lay_out(const Lifetime* lifetimes, const i64* bytes, size_t count) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return bytes[a] > bytes[b]; });
  Layout layout;
  layout.offsets.assign(count, 0);
  std::vector<size_t> placed;  // sorted by offset
  for (size_t tensor : order) {
    const i64 size = rounded(bytes[tensor]);
    if (size == 0) continue;
    i64 offset = 0;
    for (size_t other : placed) {
      const bool together = lifetimes[other].first <= lifetimes[tensor].last && lifetimes[tensor].first <= lifetimes[other].last;
      if (!together) continue;
      if (offset + size <= layout.offsets[other]) break;
      offset = std::max(offset, layout.offsets[other] + rounded(bytes[other]));
    }
    layout.offsets[tensor] = offset;
    layout.total = std::max(layout.total, offset + size);
    const auto at = std::upper_bound(placed.begin(), placed.end(), offset, [&](i64 value, size_t other) { return value < layout.offsets[other]; });
    placed.insert(at, tensor);
  }
  return layout;
}

i64 peak_live_bytes(const Lifetime* lifetimes, const i64* bytes, size_t count) {
  std::map<int, i64> change;
  for (size_t i = 0; i < count; ++i) {
    change[lifetimes[i].first] += rounded(bytes[i]);
    change[lifetimes[i].last + 1] -= rounded(bytes[i]);
  }
  i64 live = 0, peak = 0;
  for (const auto& [step, delta] : change) peak = std::max(peak, live += delta);
  return peak;
}

char* const* Arena::place(const Lifetime* lifetimes, const i64* bytes, size_t count) {
  const auto same = [&](const Entry& entry) { return std::equal(entry.key.begin(), entry.key.end(), bytes, bytes + count); };
  auto found = std::find_if(recent_.begin(), recent_.end(), same);
  if (found == recent_.end()) {
    recent_.push_front({std::vector<i64>(bytes, bytes + count), lay_out(lifetimes, bytes, count)});
    if (recent_.size() > layouts_kept) recent_.pop_back();
  } else if (found != recent_.begin()) {
    recent_.splice(recent_.begin(), recent_, found);
  }
  i64 largest = 0;
  for (const Entry& entry : recent_) largest = std::max(largest, entry.layout.total);
  const Layout& layout = recent_.front().layout;
  if (memory_.capacity() > (size_t{1} << 20) && memory_.capacity() / 2 > static_cast<size_t>(largest)) memory_.release();
  char* base = memory_.reserve(static_cast<size_t>(layout.total));
  pointers_.resize(count);
  for (size_t i = 0; i < count; ++i) pointers_[i] = base + layout.offsets[i];
  return pointers_.data();
}

Pool::~Pool() {
  for (const auto& [memory, bytes] : live_) device::release(memory);
  for (const auto& [bytes, list] : free_)
    for (void* memory : list) device::release(memory);
}

void* Pool::allocate(i64 bytes) {
  const size_t size = std::bit_ceil(static_cast<size_t>(std::max<i64>(bytes, tensor_alignment)));
  void* memory = nullptr;
  if (auto list = free_.find(size); list != free_.end() && !list->second.empty()) {
    memory = list->second.back();
    list->second.pop_back();
  } else {
    memory = device::allocate(size);
    held_ += size;
  }
  live_.emplace(memory, size);
  live_bytes_ += size;
  peak_live_ = std::max(peak_live_, live_bytes_);
  return memory;
}

void Pool::release(void* memory) {
  const auto found = live_.find(memory);
  if (found == live_.end()) return;
  free_[found->second].push_back(memory);
  live_bytes_ -= found->second;
  live_.erase(found);
}

void Pool::finish_run() {
  while (!live_.empty()) release(live_.begin()->first);
  for (auto list = free_.rbegin(); list != free_.rend() && held_ > 2 * peak_live_; ++list)
    for (; !list->second.empty() && held_ > 2 * peak_live_; list->second.pop_back(), held_ -= list->first) device::release(list->second.back());
  peak_live_ = 0;
}

}  // namespace tilewright::rt
