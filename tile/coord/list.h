#pragma once

#include <type_traits>
#include <vector>

namespace tile {

/// Outgrowing a fixed capacity: ends a constant evaluation with an error, a program with a trap.
[[noreturn]] inline void capacity_exceeded() { __builtin_trap(); }

/// A vector inside the object, so that what holds it can be a constexpr variable.
template <class T, int capacity>
class InlineList {
 public:
  constexpr int size() const { return size_; }
  constexpr bool empty() const { return size_ == 0; }
  constexpr T& operator[](int i) { return items_[i]; }
  constexpr const T& operator[](int i) const { return items_[i]; }
  constexpr T* begin() { return items_; }
  constexpr T* end() { return items_ + size_; }
  constexpr const T* begin() const { return items_; }
  constexpr const T* end() const { return items_ + size_; }
  constexpr void push_back(const T& item) {
    if (size_ == capacity) capacity_exceeded();
    items_[size_++] = item;
  }
  constexpr void resize(int n) {
    if (n > capacity) capacity_exceeded();
    for (int i = size_; i < n; ++i) items_[i] = T{};
    size_ = n;
  }
  constexpr bool operator==(const InlineList& o) const {
    if (size_ != o.size_) return false;
    for (int i = 0; i < size_; ++i)
      if (!(items_[i] == o.items_[i])) return false;
    return true;
  }

 private:
  T items_[capacity] = {};
  int size_ = 0;
};

/// std::vector with int sizes, for integers that are no literal type.
template <class T>
class HeapList {
 public:
  int size() const { return static_cast<int>(items_.size()); }
  bool empty() const { return items_.empty(); }
  T& operator[](int i) { return items_[static_cast<size_t>(i)]; }
  const T& operator[](int i) const { return items_[static_cast<size_t>(i)]; }
  auto begin() { return items_.begin(); }
  auto end() { return items_.end(); }
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }
  void push_back(T item) { items_.push_back(std::move(item)); }
  void resize(int n) { items_.resize(static_cast<size_t>(n)); }
  bool operator==(const HeapList&) const = default;

 private:
  std::vector<T> items_;
};

/// `capacity` bounds the list for built-in integers only.
template <class T, class Int, int capacity>
using ListFor = std::conditional_t<std::is_integral_v<Int>, InlineList<T, capacity>, HeapList<T>>;

template <class List>
constexpr void erase_at(List& list, int position) {
  for (int i = position; i + 1 < list.size(); ++i) list[i] = list[i + 1];
  list.resize(list.size() - 1);
}

}  // namespace tile
