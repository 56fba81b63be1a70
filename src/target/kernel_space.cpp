#include "target/kernel_space.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "base/error.h"
#include "base/hash.h"
#include "schedule/fuse_depthwise.h"
#include "target/cpu/kernel_emitters.h"
#include "target/cpu/product_cost.h"
#include "target/simt/kernel_emitters.h"

namespace tilewright {
namespace {

/// Multiply-adds of kernels that have no space: a rough figure.
constexpr double share_of_peak = 0.25;

float log2_of(double value) { return static_cast<float>(std::log2(std::max(value, 1e-9))); }

/// The nest's text with its tensors numbered as it mentions them: the same for the same computation in any model.
std::string normal_text(pattern::Nest nest, const pattern::Program& program) {
  pattern::Program own;
  std::map<pattern::TensorId, pattern::TensorId> ids;
  const auto renumber = [&](pattern::TensorId& id) {
    const auto [entry, added] = ids.try_emplace(id, 0);
    if (added) entry->second = own.add_tensor(program.tensor(id).type, program.tensor(id).constant ? "constant" : "");
    id = entry->second;
  };
  nest.source.clear();
  for (pattern::Access& access : nest.accesses) renumber(access.tensor);
  for (pattern::Store& store : nest.outputs) renumber(store.tensor);
  std::string text = pattern::print(pattern::Pattern(std::move(nest)), own);
  for (const pattern::TensorInfo& tensor : own.tensors) text += fmt::format("{} {}\n", str(tensor.type), tensor.name);
  return text;
}

/// Whether running the block pushes a kernel's weights out of a core's own caches before it runs again.
bool is_cold(const schedule::Block& block, const Target& target) {
  int64_t bytes = 0;
  for (size_t id = 0; id < block.program.tensors.size(); ++id) {
    const pattern::TensorInfo& tensor = block.program.tensors[id];
    if (tensor.constant && block.placements.at(id).storage == schedule::Storage::constant) bytes += static_cast<int64_t>(tensor.constant->byte_size());
  }
  return bytes > target.l2_bytes;
}

std::optional<KernelSpace> space_of(const pattern::Nest& nest, const pattern::Program& program, const Target& target, const SpaceOptions& options) {
  if (target.kind == TargetKind::cpu) return cpu::product_space(nest, program, target, options);
  return simt::tile_space(nest, program, target, options);
}

/// Of a product on a CPU.
std::vector<float> product_features(const KernelSpace& space, const schedule::ProductConfig& c, int threads) {
  std::map<std::string, int64_t> shape(space.shape.begin(), space.shape.end());
  const int64_t lanes = space.lanes, width = c.block.vectors * lanes, n = shape["n"], k = shape["k"], line = shape["line"];
  const auto used = [](int64_t all, int64_t piece) { return static_cast<float>(all) / static_cast<float>((all + piece - 1) / piece * piece); };
  const auto floats = [](auto value) { return static_cast<float>(value); };
  const bool winograd = c.method == schedule::ProductConfig::Method::winograd;
  const int64_t rows_in_line = winograd ? shape["lines"] * line / 4 : c.joined ? shape["padded"] : line;
  const int variant = c.widened ? 1 : c.joined ? 2 : 0;  // never both
  return {log2_of(static_cast<double>(shape["batch"] * shape["lines"])),
          log2_of(static_cast<double>(line)),
          log2_of(static_cast<double>(n)),
          log2_of(static_cast<double>(k)),
          log2_of(static_cast<double>(space.weight_bytes)),
          log2_of(space.operations / static_cast<double>(std::max<int64_t>(space.weight_bytes, 1))),
          floats(static_cast<int>(c.method)),
          floats(static_cast<int>(c.atom)),
          floats(space.weight_element),
          floats(c.block.rows),
          floats(c.block.vectors),
          floats(c.block.rows * c.block.vectors),
          floats(c.block.rows + c.block.vectors) / floats(c.block.rows * c.block.vectors),
          used(n, width),
          used(std::max<int64_t>(rows_in_line, 1), c.block.rows),
          floats(std::max<int64_t>(rows_in_line, 1) % c.block.rows),
          log2_of(static_cast<double>(k * width * space.weight_element)),
          floats(static_cast<int>(c.split)),
          c.panel_bytes > 0 ? log2_of(static_cast<double>(c.panel_bytes)) : 0,
          c.strip_bytes > 0 ? log2_of(static_cast<double>(c.strip_bytes)) : 0,
          c.ahead ? 1.0F : 0.0F,
          floats(variant),
          floats(threads)};
}

}  // namespace

std::optional<KernelSpace> kernel_space(const schedule::Block& block, const schedule::Kernel& kernel, const Target& target, const SpaceOptions& options) {
  if (kernel.stages.size() != 1 || !kernel.products.empty() || kernel.tiles) return std::nullopt;
  const auto* nest = std::get_if<pattern::Nest>(&kernel.stages[0]);
  if (nest == nullptr) return std::nullopt;
  std::optional<KernelSpace> space = space_of(*nest, block.program, target, options);
  if (!space) return std::nullopt;
  space->cold = is_cold(block, target);
  space->form =
      sha256(fmt::format("{}{}{}", normal_text(*nest, block.program), space->cold ? "cold " : "warm ", schedule::print(space->configs.at(0)))).substr(0, 12);
  return space;
}

std::map<std::string, int64_t> SpaceOptions::complete(const std::set<std::string>& symbols) const {
  std::map<std::string, int64_t> all = sizes;
  for (const std::string& symbol : symbols) all.emplace(symbol, usual_size(symbol));
  return all;
}

int64_t SpaceOptions::value(const Dim& dim) const {
  std::set<std::string> symbols;
  dim.collect_symbols(symbols);
  return std::max<int64_t>(dim.evaluate(complete(symbols)), 1);
}

int64_t usual_size(std::string_view symbol) {
  std::string lower(symbol);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower == "n" || lower == "b" || lower == "bs" || lower.find("batch") != std::string::npos ? 1 : 128;
}

double expected_cycles(const schedule::Block& block, const Target& target, const SpaceOptions& options) {
  double cycles = 0;
  for (const schedule::Kernel& kernel : block.kernels) {
    if (const std::optional<KernelSpace> space = kernel_space(block, kernel, target, options)) {
      cycles += space->cycles[0];
      continue;
    }
    if (schedule::is_depthwise_chain(kernel)) {
      // As its products one by one, but for what starting them takes.
      for (const pattern::Pattern& stage : kernel.stages)
        if (const auto space = space_of(std::get<pattern::Nest>(stage), block.program, target, options)) cycles += space->cycles[0];
      cycles -= cpu::start_cycles * static_cast<double>(kernel.stages.size() - 1);
      continue;
    }
    const auto evaluate = [&](const Dim& dim) { return static_cast<double>(options.value(dim)); };
    // Others move their tensors, or multiply at a quarter of the peak.
    double bytes = 0, operations = 0;
    for (const pattern::TensorId id : kernel.tensors) {
      const Type& type = block.program.tensor(id).type;
      bytes += evaluate(product(type.dims)) * static_cast<double>(size_of(type.dtype));
    }
    for (const pattern::Pattern& stage : kernel.stages)
      if (const auto* nest = std::get_if<pattern::Nest>(&stage); nest && pattern::classify(*nest) == pattern::NestKind::contract)
        operations += evaluate(product(nest->space));
    cycles +=
        std::max(bytes / target.l3_rate, operations / (share_of_peak * target.multiply_adds * target.vector_bytes / int64_t{sizeof(float)})) / options.threads +
        cpu::start_cycles;
  }
  return cycles;
}

std::vector<float> features(const KernelSpace& space, size_t index, const Target& target, int threads) {
  std::vector<float> all = {log2_of(space.cycles.at(index)), log2_of(space.cycles.at(index) / space.cycles.at(0))};
  const schedule::KernelConfig& config = space.configs.at(index);
  const auto* product = std::get_if<schedule::ProductConfig>(&config);
  const std::vector<float> own =
      product ? product_features(space, *product, threads) : simt::tile_features(space, std::get<schedule::TileConfig>(config), target);
  all.insert(all.end(), own.begin(), own.end());
  ensure(all.size() == feature_count, "every configuration has the same number of features");
  return all;
}

}  // namespace tilewright
