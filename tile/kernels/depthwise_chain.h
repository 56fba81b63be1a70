#pragma once

// A convolution with one filter a channel together with the product of rows before it, the one after it, or both (an inverted
// bottleneck: 1 x 1, depthwise, 1 x 1).
//
// What passes between them never leaves the core's own caches: a worker computes the input of a band of lines, filters it and hands the
// result on. Input lines that the next band reads again stay. Where two workers' lines meet, both compute the input lines that both read.
// Bands of a group of channels at a time, for the first level cache, were tried: the shorter calls cost more than it gave.

#include <cstdint>
#include <type_traits>

#include "tile/exec/args.h"
#include "tile/kernels/depthwise_rows.h"

namespace tile {

/// One worker of a team as a team of its own, for kernels that a task calls and that want no shared slot.
class OneWorker {
 public:
  OneWorker(const Team& all, int worker) : all_(all), worker_(worker), team_{this, 1, nullptr, &OneWorker::scratch} {}
  OneWorker(const OneWorker&) = delete;
  OneWorker& operator=(const OneWorker&) = delete;
  Team& team() { return team_; }

 private:
  static void* scratch(void* self, int slot, size_t bytes) {
    if (slot != 0) __builtin_trap();
    const auto& one = *static_cast<OneWorker*>(self);
    return one.all_.scratch(one.all_.pool, one.worker_, bytes);
  }

  const Team& all_;
  int worker_;
  Team team_;
};

/// Runs a depthwise convolution over two spatial dimensions (shape.kernel[0] and shape.stride[0] are 1) by bands. Lines of input and of
/// output are numbered over all images.
///   before: the input, a const T*, or before(i64 line, i64 lines, T* to, Team&), which computes lines of it
///   middle(const DepthwiseRowsShape& band, const T* from, i64 line, T* to, Team&) filters: `band` is the shape of some lines alone,
///     `from` where their input lies, `line` the first one of output, `to` where they go if there is an `after`
///   after: nullptr, or after(i64 line, i64 lines, const T* from, Team&), which takes lines of the result
/// `band_bytes`: of a worker's lines, in its second level cache.
template <class T, class Before, class Middle, class After>
void depthwise_chain(const DepthwiseRowsShape& shape, const Before& before, const Middle& middle, const After& after, i64 band_bytes, Team& team) {
  constexpr bool computes = !std::is_pointer_v<Before>, hands_on = !std::is_null_pointer_v<After>;
  const auto least = [](i64 a, i64 b) { return a < b ? a : b; };
  const auto most = [](i64 a, i64 b) { return a > b ? a : b; };
  const auto ceil_div = [](i64 a, i64 b) { return (a + b - 1) / b; };
  const i64 height = shape.input[1], lines = shape.output[1], all_lines = shape.images * shape.output[0] * lines;
  if (all_lines <= 0 || shape.output[2] <= 0 || shape.channels <= 0) return;
  const i64 stride = shape.stride[1], span = (shape.kernel[1] - 1) * shape.dilation[1] + 1;
  const i64 in_line = shape.input[2] * shape.channels, out_line = shape.output[2] * shape.channels;

  // Each seam costs the lines that both sides read: at most a sixteenth of a task's, or one task a worker.
  const i64 twice = computes ? most(span - stride, 0) : 0, piece = most(ceil_div(16 * twice, stride), 1);
  const i64 tasks = team.size == 1 ? 1 : least(all_lines, team.size * least(most(all_lines / (team.size * piece), 1), 4));
  const i64 most_lines = least(lines, ceil_div(all_lines, tasks));
  const i64 fixed = computes ? (span - stride) * in_line : 0, a_line = (computes ? stride * in_line : 0) + (hands_on ? out_line : 0);
  i64 band = (band_bytes / static_cast<i64>(sizeof(T)) - fixed) / most(a_line, 1);
  band = least(most(band, 1), most_lines);
  band = ceil_div(most_lines, ceil_div(most_lines, band));
  const i64 in_elements = computes ? ceil_div(((band - 1) * stride + span) * in_line, 16) * 16 : 0;
  const i64 elements = in_elements + (hands_on ? ceil_div(band * out_line, 16) * 16 : 0);
  T* const buffers = elements > 0 ? team.scratch_as<T>(team.shared_slot(), elements * team.size) : nullptr;

  team.for_each(tasks, [&](i64 task, int worker) {
    OneWorker alone(team, worker);
    T* const inputs = buffers + worker * elements;
    T* const result = inputs + in_elements;
    for (i64 line = task * all_lines / tasks, end = (task + 1) * all_lines / tasks; line < end;) {
      const i64 plane = line / lines, y0 = line % lines, y1 = least(lines, y0 + end - line);
      i64 held = 0, ready = 0;  // `inputs` has the input lines [held, ready) of this image
      for (i64 y = y0; y < y1; y += band) {
        const i64 count = least(band, y1 - y), top = y * stride - shape.pad[1];
        const i64 first = least(most(top, 0), height), last = most(least(top + (count - 1) * stride + span, height), first);
        DepthwiseRowsShape part = shape;
        part.images = part.input[0] = part.output[0] = 1;
        part.input[1] = last - first;
        part.output[1] = count;
        part.pad[1] = first - top;
        if constexpr (computes) {
          if (ready > first) {
            if (first > held) __builtin_memmove(inputs, inputs + (first - held) * in_line, static_cast<size_t>((ready - first) * in_line) * sizeof(T));
          } else {
            ready = first;
          }
          held = first;
          if (last > ready) {
            before(plane * height + ready, last - ready, inputs + (ready - first) * in_line, alone.team());
            ready = last;
          }
          middle(part, static_cast<const T*>(inputs), plane * lines + y, result, alone.team());
        } else {
          middle(part, before + (plane * height + first) * in_line, plane * lines + y, result, alone.team());
        }
        if constexpr (hands_on) after(plane * lines + y, count, static_cast<const T*>(result), alone.team());
      }
      line += y1 - y0;
    }
  });
}

}  // namespace tile
