#pragma once

#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "pattern/pattern.h"
#include "schedule/kernel_config.h"
#include "schedule/refusals.h"

/// What runs in which order, and where every tensor lives. Knows kernels by what they compute, not how they are written.
namespace tilewright::schedule {

using pattern::TensorId;

/// Where a tensor's bytes are while its block runs.
enum class Storage {
  unused,    ///< nothing reads or writes it any more (fused away)
  input,     ///< the caller's
  output,    ///< the caller's; for blocks called by If/Loop: allocated by the block, handed to the caller
  constant,  ///< in the artifact's weights
  arena,     ///< in the block's arena: its size is known from the sizes known when the block starts
  dynamic,   ///< allocated when first written, released after its last use: its size is learned while the block runs
  alias,     ///< the same bytes as `alias_of` (a reshape; a slice of leading rows), starting at element `alias_offset`
};

struct Placement {
  Storage storage = Storage::unused;
  TensorId alias_of = -1;
  Dim alias_offset = 0;
  int first_step = -1, last_step = -1;  ///< lifetime in steps of the block, both inclusive; aliases extend their base's
};

/// What a target decided about a product. Weights lie in panels that suit the configuration; another operand becomes panels while the kernel runs.
struct PackedProduct {
  ProductConfig config;
  TensorId weights = -1, packed = -1;  ///< the kernel reads `packed` where its nest says `weights`; -1: no weights
};

/// One function of the artifact. `stages` is one pattern, or several Nests that run row by row over the same leading
/// `shared_rank` kept coordinates (softmax, norms; attention, which begins and ends with a product), whose `row_local` tensors never leave the row,
/// or products that run line by line (a depthwise convolution and its neighbours), whose `row_local` tensors exist a few lines at a time.
struct Kernel {
  std::string name;                      ///< "kernel_17"
  std::string source;                    ///< names of the model's nodes
  std::vector<pattern::Pattern> stages;  ///< Nest, Scatter, Cumulate or Select
  int shared_rank = 0;
  std::vector<TensorId> row_local;
  std::vector<PackedProduct> products;  ///< by stage, where the target planned them
  std::optional<TileConfig> tiles;      ///< of a GPU's product, where the target planned it
  TensorId workspace = -1;              ///< memory for what passes between the kernel's launches; one of `tensors`
  std::vector<TensorId> tensors;        ///< arguments: Args::tensor[i] is the bytes of tensors[i]
  std::vector<std::string> sizes;       ///< arguments: Args::size[i] is the value of sizes[i]
};

struct Block;

struct RunKernel {
  int kernel = -1;
};  ///< index into Block::kernels
struct BindSizes {
  pattern::Bind bind;
};  ///< reads an integer tensor into named sizes
struct CheckSizes {
  pattern::Require require;
};
struct CallIf {
  pattern::If pattern;
  std::shared_ptr<Block> then_block, else_block;
};
struct CallLoop {
  pattern::Loop pattern;
  std::shared_ptr<Block> body;
};
struct CopyTensor {
  TensorId from = -1, to = -1;
};  ///< whole tensor, same byte size (an output that is an input, say)
using Step = std::variant<RunKernel, BindSizes, CheckSizes, CallIf, CallLoop, CopyTensor>;

/// On which of a device's streams each step of a block runs, and what it waits for. Steps of one stream run in the block's order.
struct StreamPlan {
  /// Stands for the block's beginning among what a step waits for.
  static constexpr int beginning = -1;

  struct At {
    int stream = 0;
    std::vector<int> waits;  ///< steps on other streams, and the beginning, that must be done before
  };
  std::vector<At> steps;  ///< empty: all are on stream 0
  int streams = 1;
  std::vector<int> joined;  ///< the last steps of other streams, which stream 0 waits for at the end
};

/// A program with everything decided: the model's main block, or the body of an If/Loop.
struct Block {
  pattern::Program program;           ///< after fusion; the tensors' table
  std::vector<Placement> placements;  ///< by TensorId
  std::vector<Kernel> kernels;
  std::vector<Step> steps;
  std::vector<std::string> entry_symbols;  ///< named sizes known when the block starts (of its inputs, or its caller's)
  StreamPlan streams;
  Refusals refusals;
};

/// Whether a target computes attention in one kernel, row by row: asked of its six Nests in order (see Attention of fuse_attention.h).
using StreamsAttention = std::function<bool(const std::vector<const pattern::Nest*>& stages, const pattern::Program& program)>;

/// Whether a target computes a depthwise convolution and the products before and after it in one kernel: asked of two or three Nests in order.
using ChainsDepthwise = std::function<bool(const std::vector<const pattern::Nest*>& stages, const pattern::Program& program)>;

/// Which bfloats that weights meet stay rounded in memory although rounding them takes a kernel, for machines that multiply bfloats much faster than floats.
enum class BfloatsStay {
  none,
  rows,  ///< several rows of them: tile registers gain nothing by one
  all,
};

/// Options the fusion obeys: passes that can be switched off by name, and what the machine has room for.
struct Options {
  bool fuse_maps = true, fuse_epilogues = true, fuse_rows = true, alias_views = true, write_in_place = true;
  bool drop_roundings = false;                   ///< for machines whose products take operands of 16 and of 32 bits together
  BfloatsStay bfloats_stay = BfloatsStay::none;  ///< which roundings drop_roundings leaves
  bool choose_layouts = false;                   ///< for machines whose products want the summed axis last
  bool products_of_bytes = false;                ///< for machines that multiply bytes with weights: they stay bytes, with the summed axis last
  StreamsAttention streams_attention = {};       ///< empty: no attention does
  ChainsDepthwise chains_depthwise = {};         ///< empty: no convolution does
  /// Called after each pass that rewrites the pattern program, with its name.
  std::function<void(const char* pass, const pattern::Program& program)> after = {};
  int64_t row_bytes = 0;  ///< memory of the tensors that stay in a row; what needs more, or has a size learned later, runs apart. 0: no limit
};

/// Fuses, groups, orders and places. Throws ErrorKind::internal on a program it cannot place.
Block schedule(pattern::Program program, const std::vector<std::string>& entry_symbols, const Options& options = {});

/// What a target decided about a kernel of one product.
inline std::optional<KernelConfig> decided(const Kernel& kernel) {
  if (kernel.tiles) return *kernel.tiles;
  return kernel.products.size() == 1 ? std::optional<KernelConfig>(kernel.products[0].config) : std::nullopt;
}

/// f(block), then the same of its branches and loop bodies.
template <class F>
void for_each_block(Block& block, F&& f) {
  f(block);
  for (const Step& step : block.steps) {
    if (const auto* call = std::get_if<CallIf>(&step))
      for (const auto& branch : {call->then_block, call->else_block}) for_each_block(*branch, f);
    if (const auto* call = std::get_if<CallLoop>(&step)) for_each_block(*call->body, f);
  }
}

std::string print(const Block&);

/// For people: what every kernel joins, and of every tensor that it reads from another one's memory why no fusion kept it out of there.
std::string explain(const Block&);

}  // namespace tilewright::schedule
