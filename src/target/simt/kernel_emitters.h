#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "target/emit_kernel.h"
#include "target/kernel_space.h"
#include "target/source/kernel_text.h"
#include "target/source/nest_body.h"

/// Kernels for SIMT machines, over the interface of tile/exec/simt.h: the same text for GPUs and for their emulator.
namespace tilewright::simt {

using namespace source;  // NOLINT: the text that all targets' kernels are made of

/// Chooses how products are cut into tiles, in the blocks of branches and loops, too.
void plan_products(schedule::Block& block, const Target& target, const PlanOptions& options);

/// What can be chosen for a product; `form` and `cold` are left open.
std::optional<KernelSpace> tile_space(const pattern::Nest& nest, const pattern::Program& program, const Target& target, const SpaceOptions& options);
std::vector<float> tile_features(const KernelSpace& space, const schedule::TileConfig& config, const Target& target);

/// The C++ function that runs the kernel's stages: a struct that every thread of a grid runs, and its launch.
std::string emit_function(const KernelText& text);
/// Headers of tile/ that such functions need.
std::span<const std::string_view> headers(const Target& target);

/// Whether emit_attention() takes these stages: schedule::Options::streams_attention of SIMT machines.
bool streams_attention(const std::vector<const pattern::Nest*>& stages, const pattern::Program& program);
/// Gives kernels whose work is shared out to several blocks the memory that parts of results pass through.
void plan_workspaces(schedule::Block& block, const Target& target);
/// Puts independent branches of a block whose memory has its place before the first step on streams of their own.
void plan_streams(schedule::Block& block);
struct Workspace {
  DType dtype;
  Dim elements;
};
/// What attention needs; nothing where no keys are shared out.
std::optional<Workspace> attention_workspace(const schedule::Block& block, const schedule::Kernel& kernel, const Target& target);
/// What a product needs; nothing where no sums are shared out.
std::optional<Workspace> contract_workspace(const schedule::Block& block, const schedule::Kernel& kernel, const Target& target);

/// A function being written: its launches, one after another.
class Function {
 public:
  explicit Function(const KernelText& kernel) : kernel_(kernel) {}

  struct Launch {
    std::string blocks, threads, shared_bytes = "0";  ///< over the sizes' names
  };
  /// `body`: what a thread does; the tensors and sizes are declared before it. `when`: a condition on the arguments, or "".
  void launch(const Writer& body, const Launch& launch, const std::string& when = "");
  /// A kernel of tile/kernels that `body` calls as Tiles.
  struct TileLaunch {
    std::string tiles;   ///< the type, which says how many threads and how much shared memory a block has
    std::string tiling;  ///< what Tiling declares, which `tiles` may mention
    std::string blocks;
    std::vector<std::pair<std::string, std::string>> maps;  ///< tensor maps of the kernel: name and value on the host
    std::string when;                                       ///< a condition on the arguments, or ""
  };
  void launch_tiles(const Writer& body, const TileLaunch& launch);
  /// Lines that run on the host between launches.
  void on_host(const Writer& lines) { host_ += lines.text(); }
  std::string text() const;

  static constexpr int body_depth = 2;

 private:
  void declare_views(Writer& out) const;
  /// The next kernel, with `declarations` in its struct; returns what the struct is called.
  std::string add_struct(const Writer& body, const std::vector<std::string>& declarations);

  const KernelText& kernel_;
  std::string structs_, host_;
  int count_ = 0;
};

// One function a kind of pattern.
void emit_nest(const KernelText& kernel, const pattern::Nest& nest, Function& function);
void emit_rows(const KernelText& kernel, Function& function);
/// A kernel whose stages are those of schedule::find_attention().
void emit_attention(const KernelText& kernel, Function& function);
void emit_scatter(const KernelText& kernel, const pattern::Scatter& scatter, Function& function);
void emit_cumulate(const KernelText& kernel, const pattern::Cumulate& cumulate, Function& function);
void emit_select(const KernelText& kernel, const pattern::Select& select, Function& function);
/// False when the nest is no matrix product worth tiles.
bool emit_contract(const KernelText& kernel, const pattern::Nest& nest, Function& function);

/// Which threads share the points of a nest.
enum class Sharing {
  grid,   ///< all of the grid
  block,  ///< those of a block: every block does the whole nest
};

/// The loops of a nest over its points, by the threads of a grid or a block; leaves it to the caller to wait for them.
/// `loads`, `stores`: what tensors are called where they are read and written. Returns how many threads find work, over the
/// sizes' names.
Dim write_points(const KernelText& kernel, const LoweredNest& nest, const Names& names, const std::map<TensorId, std::string>& loads,
                 const std::map<TensorId, std::string>& stores, Sharing sharing, Writer& out);

/// `const i64 i1 = p / 56 % 56;` for each loop, from their joint index.
void write_digits(const std::vector<Loop>& loops, const std::string& joint, const Names& names, const Bounds& bounds, Writer& out);
/// What a loop's index is called.
std::string loop_name(const Loop& loop);

}  // namespace tilewright::simt
