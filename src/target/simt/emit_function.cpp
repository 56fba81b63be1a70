#include <array>

#include "base/error.h"
#include "schedule/fuse_attention.h"
#include "target/simt/kernel_emitters.h"

namespace tilewright::simt {

std::span<const std::string_view> headers(const Target& target) {
  // The last is for machines that have warpgroups.
  static constexpr auto with = [](std::string_view exec) {
    return std::array<std::string_view, 11>{"cast",
                                            exec,
                                            "kernels/simt_attention",
                                            "kernels/simt_contract",
                                            "kernels/simt_mma_contract",
                                            "kernels/simt_scan",
                                            "kernels/simt_select",
                                            "kernels/simt_split",
                                            "kernels/suppress",
                                            "math",
                                            "kernels/simt_wgmma_contract"};
  };
  static constexpr std::array emulated = with("exec/emulator"), gpu = with("exec/gpu");
  const std::span<const std::string_view> all = target.is_gpu() ? std::span(gpu) : std::span(emulated);
  return target.warpgroups ? all : all.first(all.size() - 1);
}

void Function::declare_views(Writer& out) const {
  for (size_t i = 0; i < kernel_.kernel.sizes.size(); ++i) out.line(fmt::format("const i64 n{0} = this->size[{0}];", i));
  for (size_t i = 0; i < kernel_.kernel.tensors.size(); ++i) {
    const Type& type = kernel_.program().tensor(kernel_.kernel.tensors[i]).type;
    const std::string& name = kernel_.pointers.at(kernel_.kernel.tensors[i]);
    out.line(fmt::format("const auto {} = ex.global(static_cast<{}{}*>(this->tensor[{}]), {});", name, name[0] == 'x' ? "const " : "", storage_type(type.dtype),
                         i, print_index(product(type.dims), kernel_.sizes, {})));
  }
}

std::string Function::add_struct(const Writer& body, const std::vector<std::string>& declarations) {
  std::string name = fmt::format("{}_threads{}", kernel_.kernel.name, count_ == 0 ? "" : std::to_string(count_));
  ++count_;
  const std::string base = fmt::format("tile::simt::Arguments<{}, {}>", kernel_.kernel.tensors.size(), kernel_.kernel.sizes.size());
  Writer out;
  out.open(fmt::format("struct {} : {}", name, base));
  out.line(fmt::format("using {}::Arguments;", base));
  for (const std::string& declaration : declarations) out.line(declaration);
  out.line("template <class Exec>");
  out.open("TILE_DEVICE void operator()(Exec& ex) const");
  declare_views(out);
  structs_ += out.text() + body.text() + "  }\n};\n";
  return name;
}

void Function::launch(const Writer& body, const Launch& launch, const std::string& when) {
  const std::string name = add_struct(body, {});
  Writer host(when.empty() ? 1 : 2);
  host.line(fmt::format("tile::simt::launch({}(a), {{.blocks = {}, .threads = {}, .shared_bytes = {}}}, a);", name, launch.blocks, launch.threads,
                        launch.shared_bytes));
  host_ += when.empty() ? host.text() : fmt::format("  if ({}) {{\n{}  }}\n", when, host.text());
}

void Function::launch_tiles(const Writer& body, const TileLaunch& launch) {
  std::vector<std::string> declarations = {"struct Tiling {", "  " + launch.tiling, "};", fmt::format("using Tiles = {};", launch.tiles),
                                           "static constexpr int most_threads = Tiles::threads;"};
  for (const auto& [name, map] : launch.maps) declarations.push_back(fmt::format("tile::simt::TensorMap {};", name));
  const std::string name = add_struct(body, declarations);
  Writer host(1);
  if (!launch.when.empty()) host.open("if (" + launch.when + ")");
  host.line(fmt::format("using Tiles = {}::Tiles;", name));
  host.line(fmt::format("{} grid(a);", name));
  for (const auto& [member, map] : launch.maps) host.line(fmt::format("grid.{} = {};", member, map));
  host.line(fmt::format("tile::simt::launch(grid, {{.blocks = {}, .threads = Tiles::threads, .shared_bytes = Tiles::shared_bytes}}, a);", launch.blocks));
  if (!launch.when.empty()) host.close();
  host_ += host.text();
}

std::string Function::text() const {
  Writer sizes(1);
  kernel_.declare_sizes(sizes);
  return structs_ + fmt::format("void {}(const tile::Args& a) {{\n", kernel_.kernel.name) + sizes.text() + host_ + "}\n";
}

std::string emit_function(const KernelText& text) {
  const schedule::Kernel& kernel = text.kernel;
  Function function(text);
  if (schedule::is_attention(kernel)) {
    emit_attention(text, function);
  } else if (kernel.stages.size() > 1) {
    emit_rows(text, function);
  } else if (const auto* nest = std::get_if<pattern::Nest>(&kernel.stages[0])) {
    if (!emit_contract(text, *nest, function)) emit_nest(text, *nest, function);
  } else if (const auto* scatter = std::get_if<pattern::Scatter>(&kernel.stages[0])) {
    emit_scatter(text, *scatter, function);
  } else if (const auto* cumulate = std::get_if<pattern::Cumulate>(&kernel.stages[0])) {
    emit_cumulate(text, *cumulate, function);
  } else if (const auto* select = std::get_if<pattern::Select>(&kernel.stages[0])) {
    emit_select(text, *select, function);
  } else {
    fail(ErrorKind::internal, "internal error: {} holds a pattern that is no kernel", kernel.name);
  }
  return function.text();
}

}  // namespace tilewright::simt
