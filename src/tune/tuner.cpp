#include "tune/tuner.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <regex>

#include "base/error.h"

namespace tilewright::tune {
namespace {

/// A choice has to be so much faster than the default: less is within what a measurement is off by.
constexpr double worth_it = 0.985;
/// A search ends where no configuration is expected to gain more.
constexpr double enough = 0.004;
/// Of a library: candidates, and bytes of their weights.
constexpr size_t library_candidates = 36;
constexpr int64_t library_bytes = int64_t{400} << 20;
constexpr size_t batch = 8, fast_batches = 2, finalists = 3, all_finalists = 12;
constexpr double fast_thoroughness = 0.5, stopped_thoroughness = 0.1;

/// One kernel's search.
struct Search {
  const Subject* subject = nullptr;
  KernelKey key;
  std::map<std::string, size_t> index;    ///< of configurations, by text
  std::map<size_t, Measurement> results;  ///< by configuration
  Measured measured;                      ///< good ones
  std::vector<size_t> next;
  double expected_gain = 1;
  size_t batches = 0;
  int known = 0, now = 0;
  bool done = false;
  std::string trouble;              ///< why nothing can be said of it
  std::map<size_t, double> finals;  ///< measured among the leaders alone: logarithms as in `measured`
  std::optional<Choice> choice;

  void take(const Measurement& m) {
    const auto found = index.find(m.config);
    if (found == index.end()) return;
    results[found->second] = m;
    if (m.status == Measurement::Status::good && m.ratio > 0)
      measured[found->second] = std::log2(m.ratio);
    else
      measured.erase(found->second);
  }
  /// Those of `measured` and those that must not be asked again.
  Measured closed() const {
    Measured all = measured;
    for (const auto& [config, m] : results) all.try_emplace(config, 0);
    return all;
  }
  size_t best() const {
    size_t config = 0;
    double least = 0;
    for (const auto& [i, ratio] : measured)
      if (ratio < least) config = i, least = ratio;
    return config;
  }
  double seconds() const {
    const auto found = results.find(0);
    return found != results.end() && found->second.seconds > 0 ? found->second.seconds : subject->space.cycles[0] / 3e9;
  }
  /// Seconds of the model's run that the next batch may save.
  double promise() const { return subject->uses * seconds() * std::min(expected_gain, 1.0); }
  double ratio() const {
    if (choice) return choice->ratio;
    const auto found = measured.find(best());
    return found == measured.end() ? 1 : std::exp2(std::min(found->second, 0.0));
  }
};

class Tuner {
 public:
  Tuner(const std::vector<Subject>& subjects, const Target& target, const Place& place, Database& database, const TuneOptions& options)
      : target_(target), place_(place), database_(database), options_(options), random_(11) {
    std::regex wanted;
    try {
      wanted = std::regex(options.kernels.empty() ? "" : options.kernels);
    } catch (const std::regex_error&) {
      fail(ErrorKind::invalid_input, "--kernels '{}' is no regular expression", options.kernels);
    }
    for (const Subject& subject : subjects)
      if (options.kernels.empty() || std::regex_search(subject.name, wanted)) begin(subject);
  }

  TuneResult run() {
    try {
      while (!over() && round()) {
      }
      finals();
    } catch (const Error&) {
      // A compiler that was interrupted; what was measured before is kept.
      if (!cancelled()) throw;
    }
    TuneResult result;
    for (const Search& search : searches_) result.kernels.push_back(report(search));
    result.measured = measured_;
    result.seconds = elapsed();
    result.finished = std::all_of(searches_.begin(), searches_.end(), [](const Search& search) { return search.done; });
    return result;
  }

  /// The first batch of every kernel.
  std::vector<Trial> first_trials(size_t count) {
    learn();
    std::vector<Trial> trials;
    for (Search& search : searches_) {
      Trial trial{search.subject, {search.subject->space.configs[0]}};
      for (const size_t config : propose_for(search, count).configs)
        if (config != 0) trial.configs.push_back(search.subject->space.configs[config]);
      trials.push_back(std::move(trial));
    }
    return trials;
  }

 private:
  double wanted_thoroughness() const { return options_.mode == Mode::fast ? fast_thoroughness : 1; }
  double elapsed() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  bool cancelled() const { return options_.measure.build.cancelled && options_.measure.build.cancelled(); }
  /// Finals take their share of the budget.
  bool over() const { return cancelled() || (options_.budget > 0 && elapsed() > options_.budget * 0.8); }

  void begin(const Subject& subject) {
    Search search;
    search.subject = &subject;
    search.key = key_of(subject.space);
    for (size_t i = 0; i < subject.space.configs.size(); ++i) search.index.emplace(schedule::print(subject.space.configs[i]), i);
    if (!options_.fresh) {
      for (const Measurement& m : database_.measurements(place_, search.key)) search.take(m);
      search.known = static_cast<int>(search.results.size());
      const std::optional<Choice> choice = database_.choice(place_, search.key);
      const bool complete = options_.mode != Mode::all || search.results.size() >= subject.space.configs.size();
      if (choice && choice->thoroughness >= wanted_thoroughness() && complete) search.choice = choice, search.done = true;
    }
    searches_.push_back(std::move(search));
  }

  /// Fits the trees to all measurements of this place, of other models, too.
  void learn() {
    std::vector<std::vector<float>> rows;
    std::vector<float> targets;
    for (const Row& row : database_.of_machine(place_)) {
      const Measurement& m = row.measurement;
      if (m.status != Measurement::Status::good || m.features.size() != feature_count || !(m.ratio > 0)) continue;
      rows.push_back(m.features);
      // The second feature is the estimated ratio's logarithm.
      targets.push_back(static_cast<float>(std::log2(m.ratio)) - m.features[1]);
    }
    model_.fit(rows, targets);
  }

  Proposal propose_for(const Search& search, size_t count) {
    Measured closed = search.closed();
    if (closed.empty()) closed[0] = 0;
    return propose(search.subject->space, closed, model_, options_.strategy, count, target_, options_.measure.space.threads, random_);
  }

  /// One library of candidates. False when there is nothing left to measure.
  bool round() {
    if (std::all_of(searches_.begin(), searches_.end(), [](const Search& search) { return search.done; })) return false;
    learn();
    std::vector<Search*> open;
    for (Search& search : searches_) {
      if (search.done) continue;
      const Proposal proposal = propose_for(search, batch);
      search.next = proposal.configs;
      search.expected_gain = proposal.expected_gain;
      const bool enough_measured = options_.mode == Mode::fast && search.results.size() > fast_batches * batch;
      const bool hopeless = options_.mode != Mode::all && options_.strategy == Strategy::learned && search.batches > 0 && search.expected_gain < enough;
      if (!search.next.empty() && !enough_measured && !hopeless) open.push_back(&search);
    }
    if (open.empty()) return false;
    // Where most time may be gained first.
    std::stable_sort(open.begin(), open.end(), [](const Search* a, const Search* b) { return a->promise() > b->promise(); });
    std::vector<Search*> now;
    size_t candidates = 0;
    int64_t bytes = 0;
    for (Search* search : open) {
      const int64_t more = static_cast<int64_t>(search->next.size() + 2) * search->subject->space.weight_bytes;
      if (!now.empty() && (candidates + search->next.size() + 2 > library_candidates || bytes + more > library_bytes)) continue;
      candidates += search->next.size() + 2;
      bytes += more;
      now.push_back(search);
    }
    measure_batch(now);
    return true;
  }

  /// Builds and runs the defaults and `next` of each, and returns what can be used.
  std::vector<std::vector<Measurement>> run_trials(const std::vector<Search*>& now, double seconds) {
    std::vector<Trial> trials;
    for (const Search* search : now) {
      Trial trial{search->subject, {search->subject->space.configs[0]}};
      for (const size_t config : search->next)
        if (config != 0) trial.configs.push_back(search->subject->space.configs[config]);
      trials.push_back(std::move(trial));
    }
    MeasureOptions how = options_.measure;
    how.seconds = seconds;
    std::vector<std::vector<Measurement>> results = measure(trials, target_, how);
    for (std::vector<Measurement>& some : results)
      std::erase_if(some, [](const Measurement& m) { return m.rounds == 0 && m.status == Measurement::Status::good; });
    return results;
  }

  void measure_batch(const std::vector<Search*>& now) {
    const double before = elapsed();
    std::vector<size_t> bridges;
    for (Search* search : now) {
      // The best one so far runs with them: a bridge between batches.
      const size_t best = search->best();
      if (best != 0 && std::find(search->next.begin(), search->next.end(), best) == search->next.end()) search->next.push_back(best);
      bridges.push_back(best);
    }
    std::vector<std::vector<Measurement>> results = run_trials(now, options_.measure.seconds);
    for (size_t i = 0; i < now.size(); ++i) {
      Search& search = *now[i];
      std::vector<Measurement>& good = results[i];
      join(search, bridges[i], good);
      database_.add(place_, search.key, good);
      const size_t known = search.results.size();
      for (const Measurement& m : good) search.take(m);
      const int fresh = static_cast<int>(search.results.size() - known);
      search.now += fresh;
      measured_ += fresh;
      ++search.batches;
      if (!cancelled() && (fresh == 0 || search.measured.count(0) == 0)) {
        search.trouble = "its candidates cannot be built or run";
        search.done = true;
      } else {
        provisional(search);
      }
    }
    last_round_ = elapsed() - before;
    tell();
  }

  /// Ratios of two batches differ by how well the default ran in each: half of what the bridge tells is taken off this one.
  static void join(const Search& search, size_t bridge, std::vector<Measurement>& batch_results) {
    const auto old = search.measured.find(bridge);
    if (bridge == 0 || old == search.measured.end()) return;
    const std::string name = schedule::print(search.subject->space.configs[bridge]);
    const auto found = std::find_if(batch_results.begin(), batch_results.end(), [&](const Measurement& m) { return m.config == name; });
    if (found == batch_results.end() || found->status != Measurement::Status::good) return;
    const double shift = std::sqrt(std::exp2(old->second) / found->ratio);
    for (Measurement& m : batch_results)
      if (m.config != schedule::print(search.subject->space.configs[0])) m.ratio *= shift;
  }

  /// So that a kill leaves a choice, too. It gives way to any other.
  void provisional(const Search& search) {
    const size_t best = search.best();
    const double ratio = search.measured.count(best) ? std::exp2(search.measured.at(best)) : 1;
    const size_t taken = ratio < worth_it ? best : 0;
    database_.choose(place_, search.key, {schedule::print(search.subject->space.configs[taken]), std::min(ratio, 1.0), stopped_thoroughness});
  }

  /// The leaders against each other, and the decisions, which are by these runs alone.
  void finals() {
    std::vector<Search*> open;
    for (Search& search : searches_) {
      if (search.done) continue;
      std::vector<std::pair<double, size_t>> leaders;
      for (const auto& [config, ratio] : search.measured)
        if (config != 0 && ratio < std::log2(0.995)) leaders.emplace_back(ratio, config);
      std::sort(leaders.begin(), leaders.end());
      search.next.clear();
      for (size_t i = 0; i < std::min(leaders.size(), options_.mode == Mode::all ? all_finalists : finalists); ++i) search.next.push_back(leaders[i].second);
      if (!search.next.empty())
        open.push_back(&search);
      else if (!search.measured.empty())
        decide(search);
    }
    std::stable_sort(open.begin(), open.end(), [](const Search* a, const Search* b) { return a->promise() > b->promise(); });
    for (size_t first = 0; first < open.size() && !cancelled() && (options_.budget == 0 || elapsed() < options_.budget);) {
      std::vector<Search*> now;
      int64_t bytes = 0;
      size_t candidates = 0;
      for (; first < open.size(); ++first) {
        const size_t more = open[first]->next.size() + 1;
        const int64_t more_bytes = static_cast<int64_t>(more) * open[first]->subject->space.weight_bytes;
        if (!now.empty() && (candidates + more > library_candidates || bytes + more_bytes > library_bytes)) break;
        candidates += more;
        bytes += more_bytes;
        now.push_back(open[first]);
      }
      const std::vector<std::vector<Measurement>> results = run_trials(now, 2 * options_.measure.seconds);
      for (size_t i = 0; i < now.size(); ++i) {
        database_.add(place_, now[i]->key, results[i]);
        for (const Measurement& m : results[i]) {
          now[i]->take(m);
          if (m.status == Measurement::Status::good) now[i]->finals[now[i]->index.at(m.config)] = std::log2(m.ratio);
        }
        if (now[i]->finals.size() > 1) decide(*now[i]);
      }
    }
    tell();
  }

  void decide(Search& search) {
    size_t best = 0;
    double least = std::log2(worth_it);
    for (const auto& [config, ratio] : search.finals)
      if (config != 0 && ratio < least) best = config, least = ratio;
    const bool exhausted = search.results.size() >= search.subject->space.configs.size();
    const bool searched =
        !cancelled() && (exhausted || search.expected_gain < enough || (options_.mode == Mode::fast && search.results.size() > fast_batches * batch));
    search.choice =
        Choice{schedule::print(search.subject->space.configs[best]), best == 0 ? 1 : std::exp2(least), searched ? wanted_thoroughness() : stopped_thoroughness};
    search.done = searched;
    database_.choose(place_, search.key, *search.choice);
  }

  KernelResult report(const Search& search) const {
    KernelResult result;
    result.name = search.subject->name;
    result.key = search.key;
    result.uses = search.subject->uses;
    result.space = search.subject->space.configs.size();
    result.known = search.known;
    result.measured = search.now;
    result.standard = schedule::print(search.subject->space.configs[0]);
    result.chosen = search.choice ? search.choice->config : result.standard;
    result.ratio = search.choice ? search.choice->ratio : 1;
    result.trouble = search.trouble;
    result.seconds = search.seconds();
    return result;
  }

  void tell() const {
    if (!options_.progress) return;
    Progress progress;
    std::vector<KernelResult> results;
    size_t waiting = 0;
    for (const Search& search : searches_) {
      results.push_back(report(search));
      results.back().ratio = search.ratio();
      progress.decided += search.done ? 1 : 0;
      if (!search.done) waiting += options_.mode == Mode::fast ? fast_batches - std::min(fast_batches, search.batches) : 1;
    }
    progress.kernels = static_cast<int>(searches_.size());
    progress.measured = measured_;
    progress.seconds = elapsed();
    progress.left = last_round_ * static_cast<double>(waiting) / 4;
    if (options_.budget > 0) progress.left = std::min(progress.left, std::max(options_.budget - progress.seconds, 0.0));
    progress.gain = gain_of(results);
    options_.progress(progress);
  }

  const Target& target_;
  const Place& place_;
  Database& database_;
  const TuneOptions& options_;
  std::mt19937 random_;
  CostModel model_;
  std::vector<Search> searches_;
  int measured_ = 0;
  double last_round_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

TuneResult tune_kernels(const std::vector<Subject>& subjects, const Target& target, const Place& place, Database& database, const TuneOptions& options) {
  return Tuner(subjects, target, place, database, options).run();
}

std::vector<Trial> trials_for(const std::vector<Subject>& subjects, const Target& target, const Place& place, Database& database, const TuneOptions& options,
                              size_t count) {
  return Tuner(subjects, target, place, database, options).first_trials(count);
}

void choose_best(const std::vector<Subject>& subjects, const Place& place, Database& database) {
  for (const Subject& subject : subjects) {
    const KernelKey key = key_of(subject.space);
    // They come in the order of their ratios.
    for (const Measurement& m : database.measurements(place, key)) {
      if (m.status != Measurement::Status::good) continue;
      const bool gains = m.ratio < worth_it;
      database.choose(place, key, {gains ? m.config : schedule::print(subject.space.configs[0]), gains ? m.ratio : 1, fast_thoroughness});
      break;
    }
  }
}

double gain_of(const std::vector<KernelResult>& kernels) {
  double all = 0, saved = 0;
  for (const KernelResult& kernel : kernels) {
    all += kernel.uses * kernel.seconds;
    saved += kernel.uses * kernel.seconds * (1 - kernel.ratio);
  }
  return all > 0 ? saved / all : 0;
}

}  // namespace tilewright::tune
