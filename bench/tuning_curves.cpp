// How good the guesses are, and how fast the search: replays searches over kernels whose whole space was measured (tilewright tune --mode all).
//
//   build/bin/tilewright-curves MODEL... [--database FILE] [--threads N] [--markdown FILE] [--plot FILE.svg]
//
// For each kernel of the models that the database knows whole: the rank correlation of estimates with measurements, the default's time by the best
// one's, and how many measurements each way of choosing needs until the best time found is within 5 % of the space's best. `transferred` begins with
// what was measured of the other kernels; random is the mean of ten draws.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "base/error.h"
#include "base/file.h"
#include "compiler/tune_model.h"
#include "compiler/tuned_choices.h"
#include "tune/selection.h"

using namespace tilewright;  // NOLINT
using namespace tilewright::tune;

namespace {

constexpr size_t batch = 8;
constexpr double near_best = 1.05;

struct Kernel {
  Subject subject;
  std::map<size_t, double> times;  ///< log2 of the ratio to the default, by configuration
  double best() const {
    double least = 0;
    for (const auto& [config, time] : times) least = std::min(least, time);
    return least;
  }
};

struct Lessons {
  std::vector<std::vector<float>> rows;
  std::vector<float> targets;
  void add(const Kernel& kernel, size_t config, const Target& target, int threads) {
    rows.push_back(features(kernel.subject.space, config, target, threads));
    targets.push_back(static_cast<float>(residual(kernel.subject.space, config, kernel.times.at(config))));
  }
};

/// The best time found after each measurement, by the best of all: 1 where it is reached.
std::vector<double> curve(const Kernel& kernel, Strategy strategy, Lessons lessons, unsigned seed, const Target& target, int threads) {
  std::mt19937 random(seed);
  CostModel model(seed);
  Measured measured = {{0, 0.0}};
  std::vector<double> found = {std::exp2(-kernel.best())};
  while (measured.size() < kernel.times.size()) {
    if (strategy == Strategy::learned) model.fit(lessons.rows, lessons.targets);
    const std::vector<size_t> next = propose(kernel.subject.space, measured, model, strategy, batch, target, threads, random).configs;
    if (next.empty()) break;
    for (const size_t config : next) {
      const auto time = kernel.times.find(config);
      measured[config] = time == kernel.times.end() ? 10 : time->second;
      if (time != kernel.times.end()) lessons.add(kernel, config, target, threads);
      double least = 0;
      for (const auto& [other, value] : measured) least = std::min(least, value);
      found.push_back(std::exp2(least - kernel.best()));
    }
  }
  return found;
}

int needed(const std::vector<double>& found) {
  const auto reached = std::find_if(found.begin(), found.end(), [](double time) { return time <= near_best; });
  return static_cast<int>(reached - found.begin()) + 1;
}

/// Spearman's, of estimates and measurements.
double rank_correlation(const Kernel& kernel) {
  std::vector<double> estimates, times;
  for (const auto& [config, time] : kernel.times) estimates.push_back(kernel.subject.space.cycles[config]), times.push_back(time);
  const auto ranks = [](const std::vector<double>& values) {
    std::vector<size_t> order(values.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
    std::vector<double> rank(values.size());
    for (size_t i = 0; i < order.size();) {
      size_t end = i;
      while (end < order.size() && values[order[end]] == values[order[i]]) ++end;
      for (size_t j = i; j < end; ++j) rank[order[j]] = static_cast<double>(i + end - 1) / 2;
      i = end;
    }
    return rank;
  };
  const std::vector<double> a = ranks(estimates), b = ranks(times);
  const double n = static_cast<double>(a.size()), mean = (n - 1) / 2;
  double both = 0, of_a = 0, of_b = 0;
  for (size_t i = 0; i < a.size(); ++i) both += (a[i] - mean) * (b[i] - mean), of_a += (a[i] - mean) * (a[i] - mean), of_b += (b[i] - mean) * (b[i] - mean);
  return of_a > 0 && of_b > 0 ? both / std::sqrt(of_a * of_b) : 0;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Way {
  const char* name;
  Strategy strategy;
  bool transferred;
  int draws;
};
constexpr Way ways[] = {{"random", Strategy::random, false, 10},
                        {"estimates", Strategy::analytical, false, 1},
                        {"learned", Strategy::learned, false, 3},
                        {"transferred", Strategy::learned, true, 3}};

/// Mean curves over the share of the space that was measured.
std::string plot(const std::vector<std::vector<double>>& curves) {
  constexpr int width = 640, height = 360, left = 60, bottom = 40;
  const char* const colours[] = {"#999999", "#d08020", "#2f6fb0", "#2a9d4a"};
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" "
      "fill=\"white\"/>\n<text x=\"{}\" y=\"18\">Best time found by the space's best, over the share of the space measured (mean over kernels)</text>\n",
      width + left + 20, height + bottom + 40, left);
  double most = 1.02;
  for (const auto& one : curves)
    for (const double value : one) most = std::max(most, value);
  const auto x = [&](size_t i) { return left + width * static_cast<double>(i) / 100; };
  const auto y = [&](double value) { return 30 + height * (most - value) / (most - 1); };
  for (int tick = 0; tick <= 100; tick += 20) svg += fmt::format("<text x=\"{:.0f}\" y=\"{}\">{} %</text>\n", x(static_cast<size_t>(tick)), height + 50, tick);
  for (int tick = 0; tick <= 4; ++tick) {
    const double value = 1 + (most - 1) * tick / 4;
    svg += fmt::format("<text x=\"8\" y=\"{:.0f}\">{:.3f}</text>\n<line x1=\"{}\" x2=\"{}\" y1=\"{:.0f}\" y2=\"{:.0f}\" stroke=\"#dddddd\"/>\n", y(value) + 4,
                       value, left, left + width, y(value), y(value));
  }
  for (size_t way = 0; way < curves.size(); ++way) {
    std::string points;
    for (size_t i = 0; i < curves[way].size(); ++i) points += fmt::format("{:.1f},{:.1f} ", x(i), y(curves[way][i]));
    svg += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n<text x=\"{}\" y=\"{}\" fill=\"{}\">{}</text>\n", points,
                       colours[way], width - 40, 50 + 18 * way, colours[way], ways[way].name);
  }
  return svg + "</svg>\n";
}

int run(const std::vector<std::string>& models, CompileOptions compile, const std::string& file, const std::string& markdown, const std::string& picture) {
  const Target& target = find_target("native");
  const int threads = tuned_threads(compile.tuning);
  const Database database(file.empty() ? default_database() : std::filesystem::path(file));
  const Place place = this_place(target, threads, compile.build);
  std::vector<Kernel> kernels;
  std::set<std::string> seen;
  for (const std::string& model : models)
    for (const Subject& subject : tuning_subjects(model, compile)) {
      const KernelKey key = key_of(subject.space);
      if (!seen.insert(key.signature + key.shape).second) continue;
      Kernel kernel{subject, {}};
      std::map<std::string, size_t> index;
      for (size_t i = 0; i < subject.space.configs.size(); ++i) index.emplace(schedule::print(subject.space.configs[i]), i);
      size_t known = 0;
      for (const Measurement& m : database.measurements(place, key)) {
        if (index.count(m.config) == 0) continue;
        ++known;
        if (m.status == Measurement::Status::good && m.ratio > 0) kernel.times[index[m.config]] = std::log2(m.ratio);
      }
      kernel.times[0] = 0;
      if (known >= subject.space.configs.size() && known > 1) kernels.push_back(std::move(kernel));
    }
  if (kernels.empty()) fail(ErrorKind::invalid_input, "no kernel of these models was measured whole; run `tilewright tune MODEL --mode all` first");

  std::string table = fmt::format(
      "{}\n\n| kernel | space | rank correlation | default / best | {} | {} | {} | {} |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
      place.machine, ways[0].name, ways[1].name, ways[2].name, ways[3].name);
  std::vector<double> correlations, defaults;
  std::vector<std::vector<double>> shares(std::size(ways)), curves(std::size(ways), std::vector<double>(101, 0));
  for (const Kernel& kernel : kernels) {
    Lessons others;
    for (const Kernel& other : kernels)
      if (&other != &kernel)
        for (const auto& [config, time] : other.times) others.add(other, config, target, threads);
    correlations.push_back(rank_correlation(kernel));
    defaults.push_back(std::exp2(-kernel.best()));
    table += fmt::format("| {} {} | {} | {:.2f} | {:.3f} |", kernel.subject.space.signature.substr(0, kernel.subject.space.signature.find(" f32")),
                         key_of(kernel.subject.space).shape, kernel.times.size(), correlations.back(), defaults.back());
    for (size_t way = 0; way < std::size(ways); ++way) {
      double count = 0;
      for (int draw = 0; draw < ways[way].draws; ++draw) {
        const std::vector<double> found =
            curve(kernel, ways[way].strategy, ways[way].transferred ? others : Lessons{}, static_cast<unsigned>(draw + 1), target, threads);
        count += static_cast<double>(needed(found)) / ways[way].draws;
        for (size_t i = 0; i <= 100; ++i)
          curves[way][i] += found[std::min(found.size() - 1, i * kernel.times.size() / 100)] / ways[way].draws / static_cast<double>(kernels.size());
      }
      shares[way].push_back(count / static_cast<double>(kernel.times.size()));
      table += fmt::format(" {:.1f} ({:.0f} %) |", count, 100 * shares[way].back());
    }
    table += "\n";
  }
  table += fmt::format("| **median of {}** | | {:.2f} | {:.3f} |", kernels.size(), median(correlations), median(defaults));
  for (const auto& share : shares) table += fmt::format(" {:.1f} % |", 100 * median(share));
  double log_sum = 0;
  for (const double one : defaults) log_sum += std::log(one);
  table += fmt::format("\n\nDefault's time by the best one's: geometric mean {:.3f}, worst {:.3f}.\n", std::exp(log_sum / static_cast<double>(defaults.size())),
                       *std::max_element(defaults.begin(), defaults.end()));
  fmt::print("{}", table);
  if (!markdown.empty()) write_file(markdown, table);
  if (!picture.empty()) write_file(picture, plot(curves));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Replays searches over kernels whose whole space was measured.", "tilewright-curves"};
  std::vector<std::string> models;
  std::string database, markdown, picture;
  CompileOptions compile;
  app.add_option("models", models)->required();
  app.add_option("--database", database);
  app.add_option("--threads", compile.tuning.threads);
  app.add_option("--markdown", markdown);
  app.add_option("--plot", picture);
  CLI11_PARSE(app, argc, argv);
  try {
    return run(models, compile, database, markdown, picture);
  } catch (const Error& problem) {
    fmt::print(stderr, "tilewright-curves: {}\n", problem.what());
    return 1;
  }
}
