// The device of artifacts for the emulator of GPUs. Kernels wait in their streams until somebody asks for their results, and then run in a random order that
// streams and events allow: an event that is missing shows as a wrong result in some of them. TILEWRIGHT_EMULATOR_SEED in the environment, 1 by
// default, chooses the orders.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "runtime/device.h"
#include "runtime/host_memory.h"

namespace tilewright::rt::device {
namespace {

struct Command {
  enum class Kind { call, copy, record, wait } kind = Kind::call;
  void (*function)(const tile::Args&) = nullptr;
  std::vector<void*> tensors;
  std::vector<int64_t> sizes;
  tile::Team* team = nullptr;
  void* to = nullptr;
  const void* from = nullptr;
  size_t bytes = 0;
  size_t event = 0;
  uint64_t recording = 0;  ///< which record() of the event a wait is for
};

uint64_t chosen_seed() {
  const char* const chosen = std::getenv("TILEWRIGHT_EMULATOR_SEED");
  return chosen != nullptr ? std::strtoull(chosen, nullptr, 10) : 1;
}

}  // namespace

double seconds_between(const Mark& from, const Mark& to) { return to.seconds - from.seconds; }

struct Streams::State {
  State(int streams, int events) : queues(static_cast<size_t>(std::max(streams, 1))), recorded(static_cast<size_t>(events)), happened(recorded.size()) {
    mine().push_back(this);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { std::erase(mine(), this); }

  /// Those of this thread.
  static std::vector<State*>& mine() {
    thread_local std::vector<State*> all;
    return all;
  }

  void add(int stream, Command command) {
    if (capturing) return captured.emplace_back(stream, std::move(command)), void();
    enqueue(static_cast<size_t>(stream), std::move(command));
  }

  void enqueue(size_t stream, Command command) {
    if (command.kind == Command::Kind::record) command.recording = ++recorded[command.event];
    if (command.kind == Command::Kind::wait) command.recording = recorded[command.event];
    queues.at(stream).push_back(std::move(command));
  }

  bool can_go_on(size_t stream) const {
    if (queues[stream].empty()) return false;
    const Command& next = queues[stream].front();
    return next.kind != Command::Kind::wait || happened[next.event] >= next.recording;
  }

  void run_one(size_t stream) {
    Command command = std::move(queues[stream].front());
    queues[stream].pop_front();
    if (command.kind == Command::Kind::call) command.function({command.tensors.data(), command.sizes.data(), *command.team});
    if (command.kind == Command::Kind::copy) std::memcpy(command.to, command.from, command.bytes);
    if (command.kind == Command::Kind::record) happened[command.event] = command.recording;
  }

  /// Runs commands until `stop` says that it is enough. Streams take turns at random, or in a random order each as far as it can go.
  template <class Stop>
  void run_until(const Stop& stop) {
    std::vector<size_t> order(queues.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    const bool mixed = random() % 2 == 0;
    try {
      while (!stop()) {
        if (mixed) std::shuffle(order.begin(), order.end(), random);
        const auto next = std::find_if(order.begin(), order.end(), [&](size_t stream) { return can_go_on(stream); });
        if (next == order.end()) throw Failure{TILEWRIGHT_INTERNAL, "internal error: streams wait for one another"};
        run_one(*next);
      }
    } catch (...) {
      for (auto& queue : queues) queue.clear();
      throw;
    }
  }

  void run_all() {
    run_until([&] { return std::all_of(queues.begin(), queues.end(), [](const auto& queue) { return queue.empty(); }); });
  }

  std::vector<std::deque<Command>> queues;   ///< by stream
  std::vector<uint64_t> recorded, happened;  ///< by event: how often record() was called, and has been reached
  std::vector<std::pair<int, Command>> captured;
  bool capturing = false;
  std::exception_ptr failure;  ///< of what ran when its memory was released
  std::mt19937_64 random{chosen_seed()};
};

void open() {}
bool is_host() { return true; }
void* allocate(size_t bytes) { return allocate_on_host(bytes); }

void release(void* memory) {
  for (Streams::State* state : Streams::State::mine()) {
    try {
      state->run_all();
    } catch (...) {
      state->failure = std::current_exception();
    }
  }
  std::free(memory);
}

const char* weights(const char* bytes, size_t) { return bytes; }

Streams::Streams(int streams, int events) : state_(std::make_unique<State>(streams, events)) {}
Streams::~Streams() = default;

void Streams::call(int stream, const Call& call) {
  Command command;
  command.function = call.function;
  command.tensors.assign(call.tensors, call.tensors + call.tensor_count);
  command.sizes.assign(call.sizes, call.sizes + call.size_count);
  command.team = call.team;
  state_->add(stream, std::move(command));
}

void Streams::copy_later(int stream, void* to, const void* from, size_t bytes) {
  Command command;
  command.kind = Command::Kind::copy;
  command.to = to;
  command.from = from;
  command.bytes = bytes;
  if (bytes > 0) state_->add(stream, std::move(command));
}

void Streams::record(int stream, int event) {
  Command command;
  command.kind = Command::Kind::record;
  command.event = static_cast<size_t>(event);
  state_->add(stream, std::move(command));
}

void Streams::wait(int stream, int event) {
  Command command;
  command.kind = Command::Kind::wait;
  command.event = static_cast<size_t>(event);
  state_->add(stream, std::move(command));
}

void Streams::copy(void* to, const void* from, size_t bytes) {
  state_->run_until([&] { return state_->queues[0].empty(); });
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void Streams::finish() {
  if (const std::exception_ptr failure = std::exchange(state_->failure, nullptr)) std::rethrow_exception(failure);
  state_->run_until([&] { return state_->queues[0].empty(); });
  for (size_t stream = 1; stream < state_->queues.size(); ++stream)
    if (!state_->queues[stream].empty()) {
      for (auto& queue : state_->queues) queue.clear();
      throw Failure{TILEWRIGHT_INTERNAL, "internal error: work is left on stream " + std::to_string(stream) + " that stream 0 does not wait for"};
    }
}

Mark Streams::mark() {
  state_->run_until([&] { return state_->queues[0].empty(); });
  return {nullptr, std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count()};
}

bool Streams::capture(const std::function<void()>& work) {
  state_->captured.clear();
  state_->capturing = true;
  try {
    work();
  } catch (...) {
    state_->capturing = false;
    state_->captured.clear();
    throw;
  }
  state_->capturing = false;
  return true;
}

void Streams::replay() {
  for (const auto& [stream, command] : state_->captured) state_->enqueue(static_cast<size_t>(stream), command);
}

}  // namespace tilewright::rt::device
