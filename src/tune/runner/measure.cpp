// Measures the candidates in a library against each other: `measure LIBRARY JOB`. Needs nothing but the library, so that it also runs
// where there is no compiler of models.
//
// A job is lines of words:
//   device NAME                cuda, hip or cpu: what the machine is called by
//   threads N
//   seconds S                  to spend on a group, at most
//   group FIRST COUNT          models of the library that compute the same kernel; the first is what others are compared with
//   whole                      of the group above the whole run is measured, not its last kernel
//   input RANK DIM...          one a model's input, for the group above
// and the results, on standard output, are lines
//   machine TEXT
//   result MODEL RATIO SECONDS ROUNDS ERROR LARGEST .   median of (its time / the first one's in the same round), its median time, the
//                                                       RMS and the largest difference of its results from the first one's, by their RMS
//   failed MODEL TEXT
//
// Rounds are interleaved: every model that is still in the race runs once a round, in another order each, the first model before and
// after the others. Who is clearly slower leaves early. A job that takes far longer than it may is ended by an alarm.

#include <dlfcn.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "machine.h"
#include "tilewright/tilewright_model.h"

namespace {

struct Group {
  int first = 0, count = 0;
  bool whole = false;
  std::vector<std::vector<int64_t>> inputs;
};

struct Job {
  std::string device;
  int threads = 1;
  double seconds = 1;
  std::vector<Group> groups;
};

Job read_job(const char* path) {
  std::ifstream in(path);
  Job job;
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string kind;
    words >> kind;
    if (kind == "device") words >> job.device;
    if (kind == "threads") words >> job.threads;
    if (kind == "seconds") words >> job.seconds;
    if (kind == "group") {
      Group group;
      words >> group.first >> group.count;
      job.groups.push_back(group);
    }
    if (kind == "whole" && !job.groups.empty()) job.groups.back().whole = true;
    if (kind == "input" && !job.groups.empty()) {
      size_t rank = 0;
      words >> rank;
      std::vector<int64_t> dims(std::min<size_t>(rank, TILEWRIGHT_MAX_RANK));
      for (int64_t& dim : dims) words >> dim;
      job.groups.back().inputs.push_back(dims);
    }
  }
  return job;
}

int64_t elements(const std::vector<int64_t>& dims) {
  int64_t count = 1;
  for (const int64_t dim : dims) count *= dim;
  return count;
}

size_t element_bytes(tilewright_dtype dtype) {
  switch (dtype) {
    case TILEWRIGHT_F64:
    case TILEWRIGHT_I64:
    case TILEWRIGHT_U64: return 8;
    case TILEWRIGHT_F32:
    case TILEWRIGHT_I32:
    case TILEWRIGHT_U32: return 4;
    case TILEWRIGHT_F16:
    case TILEWRIGHT_BF16:
    case TILEWRIGHT_I16:
    case TILEWRIGHT_U16: return 2;
    default: return 1;
  }
}

double from_half(uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == 31) return mantissa ? NAN : sign * INFINITY;
  return exponent == 0 ? sign * std::ldexp(mantissa, -24) : sign * std::ldexp(1024 + mantissa, exponent - 25);
}

float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

double value_at(tilewright_dtype dtype, const void* data, int64_t i) {
  switch (dtype) {
    case TILEWRIGHT_F64: return static_cast<const double*>(data)[i];
    case TILEWRIGHT_F32: return static_cast<double>(static_cast<const float*>(data)[i]);
    case TILEWRIGHT_F16: return from_half(static_cast<const uint16_t*>(data)[i]);
    case TILEWRIGHT_BF16: return static_cast<double>(from_bits(static_cast<uint32_t>(static_cast<const uint16_t*>(data)[i]) << 16));
    case TILEWRIGHT_I64: return static_cast<double>(static_cast<const int64_t*>(data)[i]);
    case TILEWRIGHT_U64: return static_cast<double>(static_cast<const uint64_t*>(data)[i]);
    case TILEWRIGHT_I32: return static_cast<const int32_t*>(data)[i];
    case TILEWRIGHT_U32: return static_cast<const uint32_t*>(data)[i];
    case TILEWRIGHT_I16: return static_cast<const int16_t*>(data)[i];
    case TILEWRIGHT_U16: return static_cast<const uint16_t*>(data)[i];
    case TILEWRIGHT_I8: return static_cast<const int8_t*>(data)[i];
    default: return static_cast<const uint8_t*>(data)[i];
  }
}

/// Floats between -1 and 1, any bytes, other integers 0 or 1; the same for every model.
std::vector<char> random_values(tilewright_dtype dtype, int64_t count, unsigned seed) {
  std::vector<char> bytes(static_cast<size_t>(count) * element_bytes(dtype));
  std::mt19937 random(seed);
  for (int64_t i = 0; i < count; ++i) {
    const double value = static_cast<double>(random() % 65536) / 32768 - 1;
    char* const at = bytes.data() + static_cast<size_t>(i) * element_bytes(dtype);
    const auto put = [&](auto x) { std::memcpy(at, &x, sizeof x); };
    const float single = static_cast<float>(value);
    uint32_t bits;
    std::memcpy(&bits, &single, sizeof bits);
    switch (dtype) {
      case TILEWRIGHT_F64: put(value); break;
      case TILEWRIGHT_F32: put(single); break;
      case TILEWRIGHT_BF16: put(static_cast<uint16_t>(bits >> 16)); break;
      // Normal numbers from 2^-14 on, the rest zero.
      case TILEWRIGHT_F16: {
        const int exponent = static_cast<int>(bits >> 23 & 255) - 112;
        put(static_cast<uint16_t>(exponent <= 0 ? 0 : (bits >> 16 & 0x8000) | static_cast<uint32_t>(exponent) << 10 | (bits >> 13 & 1023)));
        break;
      }
      case TILEWRIGHT_I8:
      case TILEWRIGHT_U8: *at = static_cast<char>(random()); break;
      default: *at = static_cast<char>(random() & 1);
    }
  }
  return bytes;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

struct Runner {
  int model = 0;
  const tilewright_model_api* api = nullptr;
  tilewright_context* context = nullptr;
  std::vector<std::vector<char>> outputs;
  std::vector<tilewright_profile_entry> profile;
  std::vector<double> seconds, ratios;
  bool whole = false, racing = true;
  double error = 0, largest = 0;

  bool fail(const char* text) {
    std::printf("failed %d %s\n", model, text);
    racing = false;
    return false;
  }

  bool open(int threads, const std::vector<std::vector<char>>& data, const std::vector<std::vector<int64_t>>& dims) {
    const tilewright_options options = {sizeof options, threads, 0};
    if (api->create(&options, &context) != TILEWRIGHT_OK) return fail(api->creation_error());
    for (int i = 0; i < api->input_count; ++i)
      if (api->set_input(context, i, data[static_cast<size_t>(i)].data(), dims[static_cast<size_t>(i)].data(),
                         static_cast<int32_t>(dims[static_cast<size_t>(i)].size())) != TILEWRIGHT_OK)
        return fail(api->error(context));
    if (api->run(context) != TILEWRIGHT_OK) return fail(api->error(context));
    outputs.resize(static_cast<size_t>(api->output_count));
    // Where an output is written in parts, the rest stays as it was.
    for (int i = 0; i < api->output_count; ++i) {
      const void* bytes;
      const int64_t* sizes;
      int32_t rank;
      if (api->get_output(context, i, &bytes, &sizes, &rank) != TILEWRIGHT_OK) return fail(api->error(context));
      outputs[static_cast<size_t>(i)].assign(static_cast<size_t>(elements({sizes, sizes + rank})) * element_bytes(api->outputs[i].dtype), 0);
      if (api->set_output(context, i, outputs[static_cast<size_t>(i)].data(), outputs[static_cast<size_t>(i)].size()) != TILEWRIGHT_OK)
        return fail(api->error(context));
    }
    if (api->run(context) != TILEWRIGHT_OK) return fail(api->error(context));
    profile.resize(static_cast<size_t>(api->read_profile(context, nullptr, 0)));
    return true;
  }

  /// Seconds of the last kernel; those before it set the stage. Of a whole model: of a run after others of its own, as where it is alone.
  double run() {
    // Until the threads of the one before sleep.
    std::this_thread::sleep_for(std::chrono::microseconds(400));
    if (whole) {
      constexpr int timed = 2;
      if (!once()) return 0;
      const double start = now();
      for (int i = 0; i < timed; ++i)
        if (!once()) return 0;
      return (now() - start) / timed;
    }
    api->set_profiling(context, 1);
    if (!once()) return 0;
    api->read_profile(context, profile.data(), static_cast<int32_t>(profile.size()));
    return profile.back().seconds;
  }

  bool once() { return api->run(context) == TILEWRIGHT_OK || fail(api->error(context)); }

  void compare(const Runner& other) {
    for (int i = 0; i < api->output_count; ++i) {
      const tilewright_dtype dtype = api->outputs[i].dtype;
      const auto& mine = outputs[static_cast<size_t>(i)];
      const auto& theirs = other.outputs[static_cast<size_t>(i)];
      const auto count = static_cast<int64_t>(mine.size() / element_bytes(dtype));
      double difference = 0, size = 0, farthest = 0;
      for (int64_t at = 0; at < count; ++at) {
        const double a = value_at(dtype, mine.data(), at), b = value_at(dtype, theirs.data(), at);
        if (a == b || (std::isnan(a) && std::isnan(b))) {
          if (std::isfinite(b)) size += b * b;
          continue;
        }
        difference += (a - b) * (a - b);
        size += b * b;
        farthest = std::max(farthest, std::isnan(a - b) ? INFINITY : std::fabs(a - b));
      }
      const double scale = size > 0 ? std::sqrt(size / static_cast<double>(count)) : 1;
      const double relative = difference > 0 ? std::sqrt(difference / (size > 0 ? size : 1)) : 0;
      largest = std::max(largest, farthest / scale);
      error = std::max(error, std::isnan(relative) ? INFINITY : relative);
    }
  }

  ~Runner() {
    if (context != nullptr) api->destroy(context);
  }
};

void race(std::vector<Runner>& runners, double limit) {
  constexpr size_t first_look = 3, second_look = 7, most = 25;
  const double start = now();
  std::mt19937 random(3);
  for (size_t round = 1; round <= most; ++round) {
    std::vector<std::pair<Runner*, double>> times;
    for (Runner& runner : runners)
      if (&runner != &runners[0] && runner.racing) times.emplace_back(&runner, 0);
    std::shuffle(times.begin(), times.end(), random);
    const double before = runners[0].run();
    for (auto& [runner, seconds] : times) seconds = runner->run();
    const double after = times.empty() ? before : runners[0].run();
    if (!runners[0].racing) return;
    const double reference = (before + after) / 2;
    runners[0].seconds.push_back(reference);
    runners[0].ratios.push_back(1);
    for (const auto& [runner, seconds] : times) {
      if (!runner->racing) continue;
      runner->seconds.push_back(seconds);
      runner->ratios.push_back(reference > 0 ? seconds / reference : 1);
    }
    if (round >= first_look && now() - start > limit) return;
    if (round != first_look && round != second_look) continue;
    double best = 1;
    for (const Runner& runner : runners)
      if (!runner.ratios.empty()) best = std::min(best, median(runner.ratios));
    // The least a model took of the first one's time tells that it cannot come near the best.
    const double slack = round == first_look ? 1.15 : 1.05;
    for (Runner& runner : runners)
      if (&runner != &runners[0] && runner.racing && *std::min_element(runner.ratios.begin(), runner.ratios.end()) > best * slack) runner.racing = false;
  }
}

void measure(const Job& job, const Group& group, tilewright_model_function model) {
  std::vector<Runner> runners(static_cast<size_t>(group.count));
  std::vector<std::vector<char>> data;
  const tilewright_model_api* const first = model(group.first);
  if (first == nullptr || first->input_count != static_cast<int>(group.inputs.size())) {
    std::printf("failed %d the job does not fit the library\n", group.first);
    return;
  }
  for (int i = 0; i < first->input_count; ++i)
    data.push_back(random_values(first->inputs[i].dtype, elements(group.inputs[static_cast<size_t>(i)]), 7 + static_cast<unsigned>(i)));
  for (int i = 0; i < group.count; ++i) {
    Runner& runner = runners[static_cast<size_t>(i)];
    runner.model = group.first + i;
    runner.whole = group.whole;
    runner.api = model(runner.model);
    if (runner.api == nullptr) {
      runner.fail("the library has no such model");
      continue;
    }
    if (!runner.open(job.threads, data, group.inputs)) continue;
    if (i > 0 && runners[0].racing) runner.compare(runners[0]);
  }
  if (runners[0].racing) race(runners, job.seconds);
  for (const Runner& runner : runners)
    if (!runner.ratios.empty() && runners[0].racing)
      std::printf("result %d %.5f %.9f %zu %.3g %.3g .\n", runner.model, median(runner.ratios), median(runner.seconds), runner.ratios.size(), runner.error,
                  runner.largest);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s LIBRARY JOB\n", argv[0]);
    return 2;
  }
  void* const library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  const auto model = reinterpret_cast<tilewright_model_function>(dlsym(library, "tilewright_model"));
  if (model == nullptr) {
    std::fprintf(stderr, "%s is no library of models\n", argv[1]);
    return 1;
  }
  const Job job = read_job(argv[2]);
  std::printf("machine %s\n", tilewright::tune::describe_machine(job.device).c_str());
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (const Group& group : job.groups) {
    alarm(static_cast<unsigned>(60 + 20 * job.seconds));
    measure(job, group, model);
  }
  return 0;
}
