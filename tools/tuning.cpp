#include "tuning.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "arguments.h"
#include "base/error.h"

namespace tilewright::tools {
namespace {

std::string clock_text(double seconds) {
  const int whole = static_cast<int>(seconds + 0.5);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

double milliseconds(const tune::KernelResult& kernel) { return 1e3 * kernel.uses * kernel.seconds; }

/// Most time first.
std::vector<tune::KernelResult> by_time(const ModelTuning& tuning) {
  std::vector<tune::KernelResult> kernels = tuning.search.kernels;
  std::stable_sort(kernels.begin(), kernels.end(), [](const auto& a, const auto& b) { return milliseconds(a) > milliseconds(b); });
  return kernels;
}

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '<')
      result += "&lt;";
    else if (c == '&')
      result += "&amp;";
    else
      result += c;
  }
  return result;
}

std::string shortened(const std::string& text, size_t length) { return text.size() <= length ? text : text.substr(0, length - 3) + "..."; }

}  // namespace

void TuningOptions::add_to(CLI::App& command) {
  command.add_option("--database", database, "tuning database (default: $TILEWRIGHT_TUNING, else tuning.sqlite beside the build cache)");
  command.add_option("--threads", threads, "threads that runs will use; 0: all cores")->check(CLI::Range(0, 1024));
  command.add_option("--runs", runs, "the value that a run-time size usually has, by its name: sequence=384; repeatable");
}

void TuningOptions::add_to(CompileOptions& options) const {
  options.tuning.threads = threads;
  options.tuning.machine = machine;
  for (const std::string& text : runs) options.tuning.sizes.insert(parse_size(text));
}

std::filesystem::path TuningOptions::path() const { return database.empty() ? tune::default_database() : std::filesystem::path(database); }

void print_progress(const tune::Progress& p) {
  static double last = -10;
  const std::string line = fmt::format("tune       {}/{} kernels, {} configurations measured, gain so far {:.1f} %, {} spent, about {} left", p.decided,
                                       p.kernels, p.measured, 100 * p.gain, clock_text(p.seconds), clock_text(p.left));
  if (isatty(2)) {
    std::fprintf(stderr, "\r\033[K%s", line.c_str());
  } else if (p.seconds - last >= 10) {
    last = p.seconds;
    std::fprintf(stderr, "%s\n", line.c_str());
  }
  std::fflush(stderr);
}

void end_progress() {
  if (isatty(2)) std::fputs("\r\033[K", stderr);
}

std::string tuning_report(const std::string& model, const ModelTuning& tuning) {
  const tune::TuneResult& search = tuning.search;
  std::string text = fmt::format("{}, {}: {} kernels with a choice, {} configurations measured in {}{}\n", model, tuning.target, search.kernels.size(),
                                 search.measured, clock_text(search.seconds), search.finished ? "" : " (not finished: the same command goes on)");
  text += fmt::format("{:>9} {:>7} {:>4} {:>9}  kernel\n", "ms", "gain", "uses", "measured");
  for (const tune::KernelResult& kernel : by_time(tuning)) {
    text += fmt::format("{:9.3f} {:6.1f}% {:4} {:4}/{:<4}  {}\n", milliseconds(kernel), 100 * (1 - kernel.ratio), kernel.uses, kernel.known + kernel.measured,
                        kernel.space, shortened(kernel.name, 60));
    text += fmt::format("{:33}{} {}\n", "", kernel.key.signature, kernel.key.shape);
    if (!kernel.trouble.empty()) text += fmt::format("{:33}not measured: {}\n", "", kernel.trouble);
    text += kernel.chosen == kernel.standard ? fmt::format("{:33}{} stays\n", "", kernel.standard)
                                             : fmt::format("{:33}{} -> {}\n", "", kernel.standard, kernel.chosen);
  }
  text += fmt::format("in these kernels: {:.1f} % of their time saved\n", 100 * tune::gain_of(search.kernels));
  for (const ModelVariant& variant : tuning.variants)
    text += fmt::format("whole model, {}: {:.3f} of the untuned one's time{}\n", variant.name, variant.ratio, variant.name == tuning.chosen ? " (taken)" : "");
  if (!tuning.unchecked.empty()) text += fmt::format("whole model: not measured, {}\n", tuning.unchecked);
  return text;
}

std::string tuning_json(const ModelTuning& tuning) {
  nlohmann::json kernels = nlohmann::json::array(), variants = nlohmann::json::array();
  for (const tune::KernelResult& k : tuning.search.kernels)
    kernels.push_back({{"kernel", k.name},
                       {"signature", k.key.signature},
                       {"shape", k.key.shape},
                       {"uses", k.uses},
                       {"space", k.space},
                       {"known", k.known},
                       {"measured", k.measured},
                       {"default", k.standard},
                       {"chosen", k.chosen},
                       {"ratio", k.ratio},
                       {"default_seconds", k.seconds}});
  for (const ModelVariant& variant : tuning.variants) variants.push_back({{"name", variant.name}, {"ratio", variant.ratio}});
  return nlohmann::json{{"target", tuning.target},
                        {"measured", tuning.search.measured},
                        {"seconds", tuning.search.seconds},
                        {"finished", tuning.search.finished},
                        {"gain", tune::gain_of(tuning.search.kernels)},
                        {"kernels", kernels},
                        {"variants", variants},
                        {"chosen", tuning.chosen}}
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string tuning_plot(const ModelTuning& tuning) {
  constexpr int row = 22, left = 380, width = 460, top = 40;
  const std::vector<tune::KernelResult> kernels = by_time(tuning);
  double most = 1e-9;
  for (const tune::KernelResult& kernel : kernels) most = std::max(most, milliseconds(kernel));
  const int height = top + row * static_cast<int>(kernels.size()) + 10;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" font-family=\"sans-serif\" font-size=\"11\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"10\" y=\"22\" font-size=\"14\">Milliseconds a run by kernel: default (grey), as "
      "measured "
      "best (blue)</text>\n",
      left + width + 120, height);
  int y = top;
  for (const tune::KernelResult& kernel : kernels) {
    const double before = milliseconds(kernel), after = before * kernel.ratio;
    svg += fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n", left - 8, y + 12, escaped(shortened(kernel.name, 60)));
    svg += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{:.1f}\" height=\"7\" fill=\"#b0b0b0\"/>\n", left, y + 1, before / most * width);
    svg += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{:.1f}\" height=\"7\" fill=\"#2f6fb0\"/>\n", left, y + 9, after / most * width);
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\">{:.3f} to {:.3f}</text>\n", left + before / most * width + 6, y + 12, before, after);
    y += row;
  }
  return svg + "</svg>\n";
}

}  // namespace tilewright::tools
