#pragma once

// The units of tile/exec/bulk.h in the emulator: mbarriers, the copy engine and the matrix units of a block.

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tile/exec/bulk.h"
#include "tile/exec/emulated_memory.h"

namespace tile::simt {

/// A tensor and its boxes, as kernels have it.
struct TensorMap {
  unsigned char* data = nullptr;
  TensorShape shape{};
  int element_bytes = 0;
  Swizzle swizzle = Swizzle::none;

  int box_bytes() const { return shape.box[0] * shape.box[1] * shape.box[2] * element_bytes; }
};

/// `count`: elements from `data` on that exist.
template <class T>
TensorMap tensor_map(T* data, i64 count, const TensorShape& shape, Swizzle swizzle) {
  if (const char* fault = fault_of(shape, sizeof(T), swizzle)) throw EmulationError(fault);
  if (reinterpret_cast<uintptr_t>(data) % 16 != 0) throw EmulationError("a tensor map's data begins at a multiple of 16 bytes");
  i64 last = 0;
  for (int axis = 0; axis < 3; ++axis) last += (shape.size[axis] - 1) * shape.stride[axis];
  if (last >= count) throw EmulationError("a tensor map reaches element " + std::to_string(last) + " of a tensor of " + std::to_string(count));
  void* const bytes = const_cast<std::remove_const_t<T>*>(data);
  return {static_cast<unsigned char*>(bytes), shape, static_cast<int>(sizeof(T)), swizzle};
}

namespace detail {

/// A thread's accumulators, as the matrix units see them.
struct ProductSums {
  void* values = nullptr;
  int under_way = 0;        ///< products
  unsigned touched_at = 0;  ///< how many fences of products the warp had passed
};

/// A warp's share of a product that its warpgroup has begun.
struct Product {
  int warp = 0, lanes = 0;
  uint64_t a = 0, b = 0;  ///< descriptors
  bool accumulate = false;
  ProductSums* sums[64] = {};
  /// The 16-byte pieces of shared memory that it reads.
  std::vector<int> pieces;
  void (*compute)(SharedMemory& memory, const Product& product) = nullptr;
  int group = 0;
  bool done = false;
};

class AsyncUnits {
 public:
  /// `completed(barrier)` is called when a phase has become complete.
  AsyncUnits(SharedMemory& memory, int threads, std::function<void(int)> completed)
      : memory_(memory), stores_(static_cast<size_t>(threads)), warps_(static_cast<size_t>(memory.order().warps())), completed_(std::move(completed)) {}

  void begin_block() {
    barriers_.clear();
    loads_.clear();
    landing_.clear();
    for (Stores& stores : stores_) stores = {};
    for (Warp& warp : warps_) warp = {};
    under_way_ = 0;
  }

  // ---- mbarriers

  void init_barrier(int thread, int byte, int count) {
    if (count < 1 || count >= 1 << 20) throw EmulationError("makes an mbarrier of " + std::to_string(count) + " arrivals");
    if (barriers_.size() == Order::most_barriers) throw EmulationError("makes more mbarriers than the emulator has room for");
    memory_.make_barrier(thread, byte, 8);
    barriers_.push_back({.byte = byte, .count = count, .lacking = count, .maker = thread, .made = order().now()});
  }
  /// The barrier at `byte`, which `thread` must see to be one.
  int barrier(int thread, int byte) const {
    for (size_t i = 0; i < barriers_.size(); ++i)
      if (barriers_[i].byte == byte) {
        if (!memory_.order().before(thread, barriers_[i].maker, barriers_[i].made))
          throw EmulationError("uses " + name(static_cast<int>(i)) + ", which thread " + std::to_string(barriers_[i].maker) + " made with no sync in between");
        return static_cast<int>(i);
      }
    throw EmulationError("uses byte " + std::to_string(byte) + " of shared memory as an mbarrier, which it is not");
  }
  void arrive(int thread, int barrier, int bytes) {
    Barrier& b = at(barrier);
    if (b.lacking == 0) throw EmulationError("arrives at " + name(barrier) + " more often than its " + std::to_string(b.count) + " times");
    if (bytes < 0 || bytes >= 1 << 20) throw EmulationError("expects " + std::to_string(bytes) + " bytes at " + name(barrier));
    order().release(thread, b.arriving);
    b.bytes += bytes;
    --b.lacking;
    complete(barrier);
  }
  bool is_complete(int barrier, int parity) const { return (barriers_[static_cast<size_t>(barrier)].phase & 1) != parity; }
  /// What came before the last complete phase is seen by `thread` from here on.
  void passed(int thread, int barrier) {
    at(barrier).passed = at(barrier).phase;
    order().acquire(thread, at(barrier).complete);
  }
  std::string name(int barrier) const { return "the mbarrier at byte " + std::to_string(barriers_[static_cast<size_t>(barrier)].byte); }
  /// What a phase waits for.
  std::string lacks(int barrier) const {
    const Barrier& b = barriers_[static_cast<size_t>(barrier)];
    return "phase " + std::to_string(b.phase) + " of " + name(barrier) + " lacks " + std::to_string(b.lacking) + " arrivals and " + std::to_string(b.bytes) +
           " bytes";
  }

  // ---- bulk copies

  void load(int thread, const TensorMap& map, const BoxAt& from, int to, int barrier) {
    Barrier& b = at(barrier);
    if (!order().fenced(thread, b.maker, b.made)) throw EmulationError("copies a box by " + name(barrier) + ", made with no fence_async since");
    check_place(map, from, to);
    memory_.begin_load(thread, barrier, to, map.box_bytes());
    ++b.flying;
    b.loading = b.phase + 1;
    loads_.push_back({map, from, to, barrier});
    ++under_way_;
  }
  void store(int thread, const TensorMap& map, const BoxAt& to, int from) {
    check_place(map, to, from);
    memory_.begin_async_read(thread, from, map.box_bytes());
    Stores& own = stores_[static_cast<size_t>(thread)];
    own.begun.push_back({map, to, from, own.groups});
    ++under_way_;
  }
  void commit_stores(int thread) { ++stores_[static_cast<size_t>(thread)].groups; }
  /// What was waited for has been read; it lands in the tensor at any time until the block's end.
  void wait_stores(int thread, int youngest) {
    Stores& own = stores_[static_cast<size_t>(thread)];
    std::erase_if(own.begun, [&](Store& store) {
      if (store.group >= own.groups - youngest) return false;
      fetch(store);
      memory_.end_async_read(thread, SharedMemory::Reader::thread, store.from, store.map.box_bytes());
      return true;
    });
  }

  // ---- products

  unsigned* fences(int warp) { return &warps_[static_cast<size_t>(warp)].fences; }
  void begin_product(int thread, Product product) {
    Warp& warp = warps_[static_cast<size_t>(product.warp)];
    for (const int piece : product.pieces) memory_.begin_async_read(thread, piece, 16);
    product.group = warp.groups;
    warp.products.push_back(std::move(product));
    ++under_way_;
  }
  void commit_products(int warp) { ++warps_[static_cast<size_t>(warp)].groups; }
  /// By one thread for its warp.
  void wait_products(int thread, int youngest) {
    Warp& warp = warps_[static_cast<size_t>(order().warp_of(thread))];
    while (!warp.products.empty() && warp.products.front().group < warp.groups - youngest) {
      Product& product = warp.products.front();
      compute(product);
      for (const int piece : product.pieces) memory_.end_async_read(thread, SharedMemory::Reader::warp, piece, 16);
      for (int lane = 0; lane < product.lanes; ++lane) --product.sums[lane]->under_way;
      warp.products.pop_front();
    }
  }

  // ---- time

  bool busy() const { return under_way_ > 0; }
  /// The next of something that is under way happens; `random(n)` is below n.
  template <class Random>
  void step(Random random) {
    size_t choice = random(static_cast<size_t>(under_way_));
    if (choice < loads_.size()) return land_load(choice);
    choice -= loads_.size();
    for (Stores& own : stores_)
      for (Store& store : own.begun)
        if (!store.fetched && choice-- == 0) return fetch(store);
    if (choice < landing_.size()) return land(choice);
    choice -= landing_.size();
    const auto first_to_do = [](Warp& warp) { return std::find_if(warp.products.begin(), warp.products.end(), [](const Product& p) { return !p.done; }); };
    for (size_t i = choice % warps_.size(), tried = 0; tried < warps_.size(); ++tried, i = (i + 1) % warps_.size())
      if (const auto product = first_to_do(warps_[i]); product != warps_[i].products.end()) return compute(*product);
  }
  /// What a thread that ends has not waited for, or "".
  std::string left_by(int thread) const {
    if (!stores_[static_cast<size_t>(thread)].begun.empty()) return "bulk stores";
    return warps_[static_cast<size_t>(memory_.order().warp_of(thread))].products.empty() ? "" : "products";
  }
  /// Whether the block, whose threads have ended, began bulk copies that none of them waited for.
  bool loads_left() const {
    return std::any_of(barriers_.begin(), barriers_.end(), [](const Barrier& b) { return b.passed < b.loading; });
  }

 private:
  struct Barrier {
    int byte, count, lacking;
    int maker;
    Order::Time made;
    int phase = 0, flying = 0;
    int loading = 0, passed = 0;  ///< so many phases had to complete before all copies were there; so many were waited for
    i64 bytes = 0;                ///< expected and not landed
    Order::Clock arriving = {}, complete = {};
  };
  struct Load {
    TensorMap map;
    BoxAt from;
    int to, barrier;
  };
  struct Store {
    TensorMap map;
    BoxAt to;
    int from, group;
    bool fetched = false;
  };
  /// What has been read of shared memory and not been written to the tensor.
  struct Landing {
    TensorMap map;
    BoxAt to;
    int from;
    std::vector<unsigned char> box;
  };
  struct Stores {
    int groups = 0;  ///< committed
    std::vector<Store> begun;
  };
  struct Warp {
    unsigned fences = 0;
    int groups = 0;
    std::deque<Product> products;
  };

  Order& order() { return memory_.order(); }
  Barrier& at(int barrier) { return barriers_[static_cast<size_t>(barrier)]; }

  static void check_place(const TensorMap& map, const BoxAt& at, int byte) {
    for (const i64 index : at.index)
      if (index != static_cast<int32_t>(index)) throw EmulationError("copies a box at " + std::to_string(index) + ", which is no coordinate of 32 bits");
    const int alignment = map.swizzle == Swizzle::bytes128 ? 1024 : 128;
    if (byte % alignment != 0)
      throw EmulationError("copies a box to or from byte " + std::to_string(byte) + " of shared memory: not aligned to " + std::to_string(alignment));
  }

  void complete(int barrier) {
    Barrier& b = at(barrier);
    if (b.lacking > 0) return;
    if (b.bytes < 0) throw EmulationError(std::to_string(-b.bytes) + " bytes more landed at " + name(barrier) + " than it expected");
    if (b.bytes > 0) return;
    if (b.flying > 0) throw EmulationError(name(barrier) + " completes a phase with bulk copies under way: it expected too few bytes");
    b.complete = std::exchange(b.arriving, {});
    ++b.phase;
    b.lacking = b.count;
    completed_(barrier);
  }

  /// f(byte in the box as it lies in shared memory, address in the tensor or null outside of it) for every element.
  template <class F>
  static void for_box(const TensorMap& map, const BoxAt& at, int place, F&& f) {
    int byte = 0;
    for (int z = 0; z < map.shape.box[2]; ++z)
      for (int y = 0; y < map.shape.box[1]; ++y)
        for (int x = 0; x < map.shape.box[0]; ++x, byte += map.element_bytes) {
          const i64 index[3] = {at.index[0] + x, at.index[1] + y, at.index[2] + z};
          i64 offset = 0;
          bool inside = true;
          for (int axis = 0; axis < 3; ++axis) {
            inside = inside && index[axis] >= 0 && index[axis] < map.shape.size[axis];
            offset += index[axis] * map.shape.stride[axis];
          }
          f((map.swizzle == Swizzle::bytes128 ? swizzled(place + byte) - place : byte), inside ? map.data + offset * map.element_bytes : nullptr);
        }
  }
  void land_load(size_t index) {
    const Load load = loads_[index];
    loads_[index] = loads_.back();
    loads_.pop_back();
    --under_way_;
    std::vector<unsigned char> box(static_cast<size_t>(load.map.box_bytes()));
    const auto bytes = static_cast<size_t>(load.map.element_bytes);
    for_box(load.map, load.from, load.to, [&](int byte, const unsigned char* element) {
      if (element != nullptr) std::memcpy(&box[static_cast<size_t>(byte)], element, bytes);
    });
    memory_.land_load(load.to, box.data(), load.map.box_bytes());
    Barrier& b = at(load.barrier);
    order().release_barrier(load.barrier, b.arriving);
    --b.flying;
    b.bytes -= load.map.box_bytes();
    complete(load.barrier);
  }
  void fetch(Store& store) {
    if (std::exchange(store.fetched, true)) return;
    const unsigned char* const box = memory_.raw(store.from);
    landing_.push_back({store.map, store.to, store.from, {box, box + store.map.box_bytes()}});
  }
  void land(size_t index) {
    std::swap(landing_[index], landing_.back());
    const Landing store = std::move(landing_.back());
    landing_.pop_back();
    --under_way_;
    for_box(store.map, store.to, store.from, [&](int byte, unsigned char* element) {
      if (element != nullptr) std::memcpy(element, &store.box[static_cast<size_t>(byte)], static_cast<size_t>(store.map.element_bytes));
    });
  }
  void compute(Product& product) {
    if (std::exchange(product.done, true)) return;
    --under_way_;
    product.compute(memory_, product);
  }

  SharedMemory& memory_;
  std::vector<Barrier> barriers_;
  std::vector<Load> loads_;
  std::vector<Stores> stores_;  ///< by thread
  std::vector<Landing> landing_;
  std::vector<Warp> warps_;
  std::function<void(int)> completed_;
  int under_way_ = 0;  ///< loads, stores and products that are yet to happen
};

}  // namespace detail

/// A thread's part of a product's result: an error to touch while a product is under way.
template <class T, int count>
class EmulatedSums {
 public:
  template <class Exec>
  explicit EmulatedSums(Exec& ex) : fences_(ex.product_fences()) {
    std::memset(static_cast<void*>(values_), 0xFF, sizeof values_);
    state_.values = values_;
    touch();
  }
  EmulatedSums(const EmulatedSums&) = delete;
  EmulatedSums& operator=(const EmulatedSums&) = delete;

  T& operator[](int i) {
    if (i < 0 || i >= count) throw EmulationError("accesses sum " + std::to_string(i) + " of " + std::to_string(count));
    if (state_.under_way > 0) throw EmulationError("accesses the sums of a product that it has not waited for");
    touch();
    return values_[i];
  }
  detail::ProductSums& state() { return state_; }

 private:
  void touch() { state_.touched_at = *fences_; }

  const unsigned* fences_;
  detail::ProductSums state_;
  T values_[count];
};

}  // namespace tile::simt
