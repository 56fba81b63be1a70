#pragma once

// Fibers: stacks that one OS thread switches between, which AddressSanitizer and ThreadSanitizer are told of.

#include <boost/context/fiber.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#if defined(__has_feature)
#define TILE_HAS_SANITIZER(name) __has_feature(name)
#else
#define TILE_HAS_SANITIZER(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || TILE_HAS_SANITIZER(address_sanitizer)
#define TILE_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#elif defined(__SANITIZE_THREAD__) || TILE_HAS_SANITIZER(thread_sanitizer)
#define TILE_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace tile::simt::detail {

/// Boost's stack allocator: the stacks of fibers that have ended are kept for the next ones of this OS thread.
class FiberStacks {
 public:
  boost::context::stack_context allocate() {
    std::vector<boost::context::stack_context>& stacks = kept().stacks;
    if (stacks.empty()) return source().allocate();
    const boost::context::stack_context stack = stacks.back();
    stacks.pop_back();
    return stack;
  }
  void deallocate(boost::context::stack_context& stack) noexcept {
#ifdef TILE_ASAN
    ASAN_UNPOISON_MEMORY_REGION(static_cast<char*>(stack.sp) - stack.size, stack.size);
#endif
    kept().stacks.push_back(stack);
  }

 private:
  struct Kept {
    std::vector<boost::context::stack_context> stacks;
    ~Kept() {
      for (boost::context::stack_context& stack : stacks) source().deallocate(stack);
    }
  };
#if defined(TILE_ASAN) || defined(TILE_TSAN)
  static constexpr size_t stack_bytes = 256 << 10;  // their frames are larger
#else
  static constexpr size_t stack_bytes = 64 << 10;
#endif
  static boost::context::protected_fixedsize_stack source() { return boost::context::protected_fixedsize_stack(stack_bytes); }
  static Kept& kept() {
    static thread_local Kept kept;
    return kept;
  }
};

/// Fibers at numbered places, of which one runs. The caller, who makes this and goes to the first, has the place after the others.
class Fibers {
 public:
  /// `run()` is what new fibers do; at its end it returns the place to go on with, where a fiber waits.
  Fibers(int places, std::function<int()> run) : current_(places), run_(std::move(run)), places_(static_cast<size_t>(places) + 1) {}

  Fibers(const Fibers&) = delete;
  Fibers& operator=(const Fibers&) = delete;

  int caller() const { return static_cast<int>(places_.size()) - 1; }
  int current() const { return current_; }
  /// Whether a fiber waits at `place` to be gone to.
  bool waits(int place) const { return static_cast<bool>(places_[static_cast<size_t>(place)].context); }

  /// Goes on at `place`, in a new fiber if none waits there, and returns when somebody goes to the current place.
  void go(int place) {
    if (!waits(place)) begin(place);
    left_ = std::exchange(current_, place);
    void* fake_stack = nullptr;
    at(left_).stack.leave(at(place).stack, &fake_stack);
    boost::context::fiber from = std::move(at(place).context).resume();
    arrive(std::move(from), fake_stack);
  }
  /// The fiber that runs moves to another place, where none waits.
  void move_to(int place) {
    at(place).stack = at(current_).stack;
    current_ = place;
  }

 private:
  /// What the sanitizers have to know of a stack.
  struct Stack {
#if defined(TILE_ASAN)
    const void* bottom = nullptr;
    size_t bytes = 0;
    void leave(const Stack& to, void** fake_stack) { __sanitizer_start_switch_fiber(fake_stack, to.bottom, to.bytes); }
    void arrive(Stack& from, void* fake_stack) { __sanitizer_finish_switch_fiber(fake_stack, &from.bottom, &from.bytes); }
    void end(const Stack& to) { leave(to, nullptr); }
    void arrive_from_end(Stack& from, void* fake_stack) { arrive(from, fake_stack); }
    template <class Create>
    void create(const boost::context::stack_context& stack, Create create) {
      bottom = static_cast<char*>(stack.sp) - stack.size;
      bytes = stack.size;
      create();
    }
#elif defined(TILE_TSAN)
    void* fiber = nullptr;
    void leave(const Stack& to, void**) {
      fiber = __tsan_get_current_fiber();
      __tsan_switch_to_fiber(to.fiber, 0);
    }
    void arrive(Stack&, void*) {}
    void end(const Stack&) {}  // its last frames still count as its own
    void arrive_from_end(Stack& from, void*) {
      __tsan_switch_to_fiber(fiber, 0);
      __tsan_destroy_fiber(from.fiber);
    }
    template <class Create>
    void create(const boost::context::stack_context&, Create create) {
      void* const creator = __tsan_get_current_fiber();
      fiber = __tsan_create_fiber(0);
      __tsan_switch_to_fiber(fiber, 0);
      create();
      __tsan_switch_to_fiber(creator, 0);
    }
#else
    void leave(const Stack&, void**) {}
    void arrive(Stack&, void*) {}
    void end(const Stack&) {}
    void arrive_from_end(Stack&, void*) {}
    template <class Create>
    void create(const boost::context::stack_context&, Create create) {
      create();
    }
#endif
  };
  struct Place {
    boost::context::fiber context;  ///< of the fiber that waits here
    [[no_unique_address]] Stack stack;
  };

  Place& at(int place) { return places_[static_cast<size_t>(place)]; }

  void begin(int place) {
    const boost::context::stack_context stack = FiberStacks().allocate();
    at(place).stack.create(stack, [&] {
      at(place).context = boost::context::fiber(std::allocator_arg, boost::context::preallocated(stack.sp, stack.size, stack), FiberStacks(),
                                                [this](boost::context::fiber&& from) {
                                                  arrive(std::move(from), nullptr);
                                                  const int next = run_();
                                                  left_ = std::exchange(current_, next);
                                                  at(left_).stack.end(at(next).stack);
                                                  return std::move(at(next).context);
                                                });
    });
  }
  void arrive(boost::context::fiber&& from, void* fake_stack) {
    if (from) {
      at(current_).stack.arrive(at(left_).stack, fake_stack);
      at(left_).context = std::move(from);
    } else {
      at(current_).stack.arrive_from_end(at(left_).stack, fake_stack);
    }
  }

  int current_, left_ = 0;  ///< who runs, and who ran before
  std::function<int()> run_;
  std::vector<Place> places_;
};

}  // namespace tile::simt::detail
