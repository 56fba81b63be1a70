#pragma once

// Memory as emulated threads see it: pointers that check every access, and shared memory that finds races.

#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tile/exec/emulated_order.h"
#include "tile/exec/simt.h"

namespace tile::simt {

/// A kernel did what a GPU would not forgive, or a launch asked for what no GPU has. The text names the block and the thread.
struct EmulationError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

namespace detail {

/// What all pointers into emulated memory can do, given `Self::moved(elements)` and `Self::position()` in bytes.
template <class Self, class T>
struct PointerArithmetic {
  friend Self operator+(Self p, i64 n) { return p.moved(n); }
  friend Self operator+(i64 n, Self p) { return p.moved(n); }
  friend Self operator-(Self p, i64 n) { return p.moved(-n); }
  friend Self& operator+=(Self& p, i64 n) { return p = p.moved(n); }
  friend Self& operator-=(Self& p, i64 n) { return p = p.moved(-n); }
  friend Self& operator++(Self& p) { return p = p.moved(1); }
  friend Self& operator--(Self& p) { return p = p.moved(-1); }
  friend Self operator++(Self& p, int) { return std::exchange(p, p.moved(1)); }
  friend Self operator--(Self& p, int) { return std::exchange(p, p.moved(-1)); }
  friend i64 operator-(Self a, Self b) { return (a.position() - b.position()) / static_cast<i64>(sizeof(T)); }
  friend bool operator==(Self a, Self b) { return a.position() == b.position(); }
  friend auto operator<=>(Self a, Self b) { return a.position() <=> b.position(); }
};

/// A byte range as messages name it.
inline std::string bytes_text(i64 byte, i64 bytes) { return "bytes " + std::to_string(byte) + " to " + std::to_string(byte + bytes - 1); }

}  // namespace detail

/// A pointer to elements of one tensor in device memory; accesses outside of the tensor and misaligned ones are EmulationErrors.
template <class T>
class Pointer : public detail::PointerArithmetic<Pointer<T>, T> {
 public:
  Pointer() = default;
  Pointer(T* data, i64 count) : at_(address(data)), begin_(at_), end_(at_ + count * static_cast<i64>(sizeof(T))) {}
  /// Position `at` of the tensor that lies at addresses [begin, end).
  Pointer(i64 at, i64 begin, i64 end) : at_(at), begin_(begin), end_(end) {}

  operator Pointer<const T>() const requires(!std::is_const_v<T>) { return {at_, begin_, end_}; }
  template <class V>
  Pointer<Like<V, T>> as() const {
    return {at_, begin_, end_};
  }

  T& operator[](i64 i) const { return *checked(at_ + i * static_cast<i64>(sizeof(T)), sizeof(T), alignof(T)); }
  T& operator*() const { return (*this)[0]; }
  T* operator->() const { return &(*this)[0]; }
  /// The address of the next `bytes` bytes, which must lie inside and be aligned to `bytes`.
  T* span(int bytes) const { return checked(at_, bytes, bytes); }

  Pointer moved(i64 n) const { return {at_ + n * static_cast<i64>(sizeof(T)), begin_, end_}; }
  i64 position() const { return at_; }

 private:
  static i64 address(const void* data) { return static_cast<i64>(reinterpret_cast<uintptr_t>(data)); }
  T* checked(i64 at, i64 bytes, i64 alignment) const {
    if (at < begin_ || at > end_ - bytes || at % alignment != 0) [[unlikely]]
      fault(at, bytes, alignment);
    return reinterpret_cast<T*>(static_cast<uintptr_t>(at));
  }
  [[noreturn]] TILE_NOINLINE void fault(i64 at, i64 bytes, i64 alignment) const {
    const std::string which =
        "accesses " + detail::bytes_text(at - begin_, bytes) + " of a tensor of " + std::to_string(end_ - begin_) + " bytes in device memory";
    if (at < begin_ || at > end_ - bytes) throw EmulationError(which + ": out of bounds");
    throw EmulationError(which + ": not aligned to " + std::to_string(alignment));
  }

  i64 at_ = 0, begin_ = 0, end_ = 0;
};

namespace detail {

/// The shared memory of the block that a worker runs, and who touched which of its bytes when.
///
/// Two accesses, one of them a write, are a fault unless Order knows which comes first. A cell keeps the last write and the reads since that
/// nothing orders; it stands for a granule of bytes: words, until something smaller is accessed. Copy engine and matrix units
/// ("asynchronous" here) see what threads wrote after a fence alone.
class SharedMemory {
 public:
  SharedMemory(int bytes, int threads, int warp_size) : order_(threads, warp_size), bytes_(bytes) {
    memory_.resize((static_cast<size_t>(bytes) + sizeof(Line) - 1) / sizeof(Line));
    cells_.resize((static_cast<size_t>(bytes) + 3) / 4);
  }

  int bytes() const { return bytes_; }
  Order& order() { return order_; }

  /// All bytes become NaN and count as never written.
  void begin_block() {
    order_.begin_block();
    if (bytes_ == 0) return;
    std::memset(memory_.data(), 0xFF, memory_.size() * sizeof(Line));
    for (Cell& cell : cells_) cell.use = Use::plain, cell.readers_under_way = 0;
  }

  template <class T>
  T read(int thread, int byte) {
    for_cells(byte, sizeof(T), [&](Cell& cell) {
      check_read(cell, thread, byte, sizeof(T));
      note_reader(cell, thread);
    });
    T value;
    std::memcpy(static_cast<void*>(&value), at(byte), sizeof(T));
    return value;
  }
  template <class T>
  void write(int thread, int byte, const T& value) {
    for_cells(byte, sizeof(T), [&](Cell& cell) {
      check_write(cell, thread, byte, sizeof(T));
      set_writer(cell, thread);
    });
    std::memcpy(at(byte), &value, sizeof(T));
  }

  /// An asynchronous copy by `thread`: from begin_copy to end_copy nobody may touch its bytes; land_copy comes in between.
  void begin_copy(int thread, int byte, int bytes) {
    for_cells(byte, bytes, [&](Cell& cell) {
      check_write(cell, thread, byte, bytes);
      set_writer(cell, thread);
      cell.use = Use::copied;
    });
  }
  void land_copy(int byte, const void* from, int bytes) { std::memcpy(at(byte), from, static_cast<size_t>(bytes)); }
  void end_copy(int thread, int byte, int bytes) {
    for_cells(byte, bytes, [&](Cell& cell) {
      set_writer(cell, thread);
      cell.use = Use::plain;
    });
  }

  /// The bytes become an mbarrier, which no other access may touch.
  void make_barrier(int thread, int byte, int bytes) {
    for_cells(byte, bytes, [&](Cell& cell) {
      check_write(cell, thread, byte, bytes);
      set_writer(cell, thread);
      cell.use = Use::barrier;
    });
  }

  /// A bulk copy that completes on a barrier, begun by `thread`: what it wrote is seen by those that have waited for the barrier.
  void begin_load(int thread, int barrier, int byte, int bytes) {
    for_cells(byte, bytes, [&](Cell& cell) {
      check_write(cell, thread, byte, bytes);
      if (cell.write_time >= order_.block_start()) check_fence(cell, thread, "a bulk copy writes", byte, bytes);
      cell.writer = static_cast<int16_t>(order_.threads() + barrier);
      cell.write_time = Order::never;
    });
  }
  void land_load(int byte, const unsigned char* from, int bytes) {
    for_cells(byte, bytes, [&](Cell& cell) { cell.write_time = order_.now(); });
    std::memcpy(at(byte), from, static_cast<size_t>(bytes));
  }

  /// An asynchronous read on behalf of `thread`, or of its warp: until its end nobody may write the bytes.
  void begin_async_read(int thread, int byte, int bytes) {
    for_cells(byte, bytes, [&](Cell& cell) {
      check_read(cell, thread, byte, bytes);
      check_fence(cell, thread, "asynchronously reads", byte, bytes);
      if (cell.readers_under_way == most_readers)
        fault("asynchronously reads", byte, bytes, std::to_string(most_readers) + " reads of them are under way already");
      ++cell.readers_under_way;
    });
  }
  enum class Reader { thread, warp };
  void end_async_read(int thread, Reader reader, int byte, int bytes) {
    for_cells(byte, bytes, [&](Cell& cell) {
      --cell.readers_under_way;
      note_reader(cell, thread);
      if (reader == Reader::warp) note_warp(cell, thread, order_.now());
    });
  }
  /// What copy engine and matrix units read.
  const unsigned char* raw(int byte) { return at(byte); }

 private:
  static constexpr uint16_t most_readers = 0xFFFF;
  enum class Use : uint8_t { plain, copied, barrier };  ///< copied: a copy to it is under way
  struct Cell {
    Order::Time write_time = 0, read_time = 0;
    uint32_t reader_warps = 0;  ///< of the reads that nothing orders, when `reader` is not the only one: since read_time of each warp
    int warp_times = -1;        ///< the first of those in warp_times_, once there were any
    int16_t writer = 0, reader = 0;
    Use use = Use::plain;
    uint16_t readers_under_way = 0;
  };
  struct alignas(128) Line {
    unsigned char bytes[128];
  };

  unsigned char* at(int byte) { return memory_.data()->bytes + byte; }

  template <class F>
  void for_cells(int byte, int bytes, F&& f) {
    while (((byte | bytes) & ((1 << shift_) - 1)) != 0) [[unlikely]] halve_granule();
    Cell* const cells = cells_.data();
    for (int i = byte >> shift_, end = (byte + bytes) >> shift_; i < end; ++i) f(cells[i]);
  }
  void halve_granule() {
    std::vector<Cell> halves;
    for (const Cell& cell : cells_) {
      halves.insert(halves.end(), 2, cell);
      if (cell.warp_times < 0) continue;
      halves.back().warp_times = static_cast<int>(warp_times_.size());
      for (int warp = 0; warp < order_.warps(); ++warp) warp_times_.push_back(warp_times_[static_cast<size_t>(cell.warp_times + warp)]);
    }
    cells_ = std::move(halves);
    --shift_;
  }

  bool reads_before(const Cell& cell, int thread) {
    if (cell.read_time < order_.block_synced_at()) return true;
    if (cell.reader_warps == 0) return order_.before(thread, cell.reader, cell.read_time);
    for (int warp = 0; warp < order_.warps(); ++warp)
      if ((cell.reader_warps >> warp & 1) != 0 && !order_.before_of_warp(thread, warp, warp_times_[static_cast<size_t>(cell.warp_times + warp)])) return false;
    return true;
  }

  void check_use(const Cell& cell, const char* does, int byte, int bytes) const {
    if (cell.use == Use::copied) fault_copied(cell, does, byte, bytes);
    if (cell.use == Use::barrier) fault(does, byte, bytes, "an mbarrier lies there");
  }
  void check_read(const Cell& cell, int thread, int byte, int bytes) const {
    check_use(cell, "reads", byte, bytes);
    if (cell.write_time < order_.block_start()) fault("reads", byte, bytes, "never written");
    if (!order_.before(thread, cell.writer, cell.write_time)) fault_race(cell.writer, "reads", "wrote", byte, bytes);
  }
  void check_write(const Cell& cell, int thread, int byte, int bytes) {
    check_use(cell, "writes", byte, bytes);
    if (cell.readers_under_way > 0) fault("writes", byte, bytes, "a bulk store or a product reads them, which has not been waited for");
    if (cell.write_time >= order_.block_start() && !order_.before(thread, cell.writer, cell.write_time))
      fault_race(cell.writer, "writes", "wrote", byte, bytes);
    if (!reads_before(cell, thread)) fault_race(cell.reader, "writes", "read", byte, bytes);
  }
  /// Asynchronous accesses by `thread` need a fence of the thread that wrote.
  void check_fence(const Cell& cell, int thread, const char* does, int byte, int bytes) const {
    if (cell.writer < order_.threads() && !order_.fenced(thread, cell.writer, cell.write_time))
      fault(does, byte, bytes, "thread " + std::to_string(cell.writer) + " wrote them with no fence_async since");
  }
  void set_writer(Cell& cell, int thread) {
    cell.write_time = order_.now();
    cell.writer = static_cast<int16_t>(thread);
  }
  void note_reader(Cell& cell, int thread) {
    if (cell.read_time >= order_.block_synced_at() && (cell.reader_warps != 0 || cell.reader != thread)) {
      if (cell.reader_warps != 0) {
        note_warp(cell, thread, order_.now());
      } else if (!order_.before(thread, cell.reader, cell.read_time)) {
        note_warp(cell, cell.reader, cell.read_time);
        note_warp(cell, thread, order_.now());
      }
    } else {
      cell.reader_warps = 0;
    }
    cell.read_time = order_.now();
    cell.reader = static_cast<int16_t>(thread);
  }

  /// The thread's warp is one of several readers.
  void note_warp(Cell& cell, int thread, Order::Time time) {
    if (cell.warp_times < 0) {
      cell.warp_times = static_cast<int>(warp_times_.size());
      warp_times_.resize(warp_times_.size() + static_cast<size_t>(order_.warps()));
    }
    const int warp = order_.warp_of(thread);
    cell.reader_warps |= uint32_t{1} << warp;
    warp_times_[static_cast<size_t>(cell.warp_times + warp)] = time;
  }

  [[noreturn]] TILE_NOINLINE static void fault(const char* does, int byte, int bytes, const std::string& which) {
    throw EmulationError(std::string(does) + " " + bytes_text(byte, bytes) + " of shared memory: " + which);
  }
  [[noreturn]] TILE_NOINLINE static void fault_copied(const Cell& cell, const char* does, int byte, int bytes) {
    fault(does, byte, bytes, "a copy to them by thread " + std::to_string(cell.writer) + " is under way, which has not waited for it");
  }
  [[noreturn]] TILE_NOINLINE void fault_race(int other, const char* does, const char* did, int byte, int bytes) const {
    if (other >= order_.threads()) fault(does, byte, bytes, "a bulk copy writes them, and its mbarrier has not been waited for");
    fault(does, byte, bytes, "thread " + std::to_string(other) + " " + did + " them with no sync in between");
  }

  Order order_;
  int bytes_;
  int shift_ = 2;  ///< log2 of the granule's bytes
  std::vector<Line> memory_;
  std::vector<Cell> cells_;
  std::vector<Order::Time> warp_times_;
};

/// An element of shared memory: reading and writing it is what SharedMemory checks. Lives no longer than the expression.
template <class T>
class SharedElement {
 public:
  SharedElement(SharedMemory& memory, int thread, int byte) : memory_(memory), thread_(thread), byte_(byte) {}
  SharedElement(const SharedElement&) = delete;

  operator T() && { return get(); }
  void operator=(const T& value) && { memory_.write(thread_, byte_, value); }
  void operator=(SharedElement&& other) && { memory_.write(thread_, byte_, other.get()); }
  void operator+=(const T& value) && { memory_.write(thread_, byte_, static_cast<T>(get() + value)); }
  void operator-=(const T& value) && { memory_.write(thread_, byte_, static_cast<T>(get() - value)); }
  void operator*=(const T& value) && { memory_.write(thread_, byte_, static_cast<T>(get() * value)); }

 private:
  T get() { return memory_.read<T>(thread_, byte_); }

  SharedMemory& memory_;
  int thread_, byte_;
};

}  // namespace detail

/// One thread's pointer into a part of the block's shared memory. Elements are read and written whole, as values.
template <class T>
class SharedPointer : public detail::PointerArithmetic<SharedPointer<T>, T> {
 public:
  SharedPointer() = default;
  /// Position `byte` of the part [begin, end) of `memory`.
  SharedPointer(detail::SharedMemory* memory, int thread, i64 byte, int begin, int end)
      : memory_(memory), byte_(byte), begin_(begin), end_(end), thread_(thread) {}

  operator SharedPointer<const T>() const requires(!std::is_const_v<T>) { return as<const T>(); }
  template <class V>
  SharedPointer<Like<V, T>> as() const {
    return {memory_, thread_, byte_, begin_, end_};
  }

  decltype(auto) operator[](i64 i) const {
    const int byte = checked(byte_ + i * static_cast<i64>(sizeof(T)), sizeof(T), alignof(T));
    if constexpr (std::is_const_v<T>) {
      return memory_->read<std::remove_const_t<T>>(thread_, byte);
    } else {
      return detail::SharedElement<T>(*memory_, thread_, byte);
    }
  }
  decltype(auto) operator*() const { return (*this)[0]; }
  /// The position of the next `bytes` bytes, which must lie inside and be aligned to `bytes`.
  int span(int bytes) const { return span(bytes, bytes); }
  int span(int bytes, int alignment) const { return checked(byte_, bytes, alignment); }

  SharedPointer moved(i64 n) const { return {memory_, thread_, byte_ + n * static_cast<i64>(sizeof(T)), begin_, end_}; }
  i64 position() const { return byte_; }

 private:
  int checked(i64 byte, i64 bytes, i64 alignment) const {
    if (byte < begin_ || byte > end_ - bytes || byte % alignment != 0) [[unlikely]]
      fault(byte, bytes, alignment);
    return static_cast<int>(byte);
  }
  [[noreturn]] TILE_NOINLINE void fault(i64 byte, i64 bytes, i64 alignment) const {
    const std::string which = "accesses " + detail::bytes_text(byte, bytes) + " of shared memory";
    if (byte % alignment != 0) throw EmulationError(which + ": not aligned to " + std::to_string(alignment));
    throw EmulationError(which + ": out of bounds of the part " + detail::bytes_text(begin_, end_ - begin_));
  }

  detail::SharedMemory* memory_ = nullptr;
  i64 byte_ = 0;
  int begin_ = 0, end_ = 0;
  int thread_ = 0;
};

template <class V, class T>
Pointer<Like<V, T>> as(Pointer<T> data) {
  return data.template as<V>();
}
template <class V, class T>
SharedPointer<Like<V, T>> as(SharedPointer<T> data) {
  return data.template as<V>();
}

}  // namespace tile::simt
