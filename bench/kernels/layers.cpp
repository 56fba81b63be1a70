#include "bench/kernels/layers.h"

#include <fmt/format.h>

#include "op/builder.h"

namespace tilewright::kernel_bench {
namespace {

using enum Kind;

const Layer table[] = {
    {"ResNet-50", "stem", convolution, 224, 64, 3, 1, 7, 2},
    {"ResNet-50", "2 reduce", convolution, 56, 64, 256},
    {"ResNet-50", "2 middle", convolution, 56, 64, 64, 1, 3},
    {"ResNet-50", "2 expand", convolution, 56, 256, 64},
    {"ResNet-50", "3 reduce", convolution, 28, 128, 512},
    {"ResNet-50", "3 halve", convolution, 56, 128, 128, 1, 3, 2},
    {"ResNet-50", "3 middle", convolution, 28, 128, 128, 1, 3},
    {"ResNet-50", "3 expand", convolution, 28, 512, 128},
    {"ResNet-50", "3 shortcut", convolution, 56, 512, 256, 1, 1, 2},
    {"ResNet-50", "4 reduce", convolution, 14, 256, 1024},
    {"ResNet-50", "4 halve", convolution, 28, 256, 256, 1, 3, 2},
    {"ResNet-50", "4 middle", convolution, 14, 256, 256, 1, 3},
    {"ResNet-50", "4 expand", convolution, 14, 1024, 256},
    {"ResNet-50", "5 reduce", convolution, 7, 512, 2048},
    {"ResNet-50", "5 halve", convolution, 14, 512, 512, 1, 3, 2},
    {"ResNet-50", "5 middle", convolution, 7, 512, 512, 1, 3},
    {"ResNet-50", "5 expand", convolution, 7, 2048, 512},
    {"ResNet-50", "classes", linear, 1, 1000, 2048},
    {"VGG-16", "1.1", convolution, 224, 64, 3, 1, 3},
    {"VGG-16", "1.2", convolution, 224, 64, 64, 1, 3},
    {"VGG-16", "2.1", convolution, 112, 128, 64, 1, 3},
    {"VGG-16", "3.2", convolution, 56, 256, 256, 1, 3},
    {"VGG-16", "4.2", convolution, 28, 512, 512, 1, 3},
    {"VGG-16", "5.2", convolution, 14, 512, 512, 1, 3},
    {"VGG-16", "linear 2", linear, 1, 4096, 4096},
    {"MobileNetV2", "stem", convolution, 224, 32, 3, 1, 3, 2},
    {"MobileNetV2", "2 expand", convolution, 112, 96, 16},
    {"MobileNetV2", "2 depthwise", convolution, 112, 96, 96, 96, 3, 2},
    {"MobileNetV2", "3 depthwise", convolution, 56, 144, 144, 144, 3},
    {"MobileNetV2", "3 project", convolution, 56, 24, 144},
    {"MobileNetV2", "5 expand", convolution, 14, 384, 64},
    {"MobileNetV2", "5 depthwise", convolution, 14, 384, 384, 384, 3},
    {"MobileNetV2", "7 project", convolution, 7, 160, 960},
    {"MobileNetV2", "last", convolution, 7, 1280, 320},
    {"BERT-base 128", "projection", linear, 128, 768, 768},
    {"BERT-base 128", "feed-forward in", linear, 128, 3072, 768},
    {"BERT-base 128", "feed-forward out", linear, 128, 768, 3072},
    {"BERT-base 128", "scores", scores, 128, 128, 64, 12},
    {"BERT-base 128", "mixture", mixture, 128, 64, 128, 12},
    {"BERT-base 384", "projection", linear, 384, 768, 768},
    {"BERT-base 384", "feed-forward in", linear, 384, 3072, 768},
    {"BERT-base 384", "feed-forward out", linear, 384, 768, 3072},
    {"BERT-base 384", "scores", scores, 384, 384, 64, 12},
    {"BERT-base 384", "mixture", mixture, 384, 64, 384, 12},
    {"ViT-B/16", "patches", linear, 196, 768, 768},
    {"ViT-B/16", "projection", linear, 197, 768, 768},
    {"ViT-B/16", "feed-forward in", linear, 197, 3072, 768},
    {"ViT-B/16", "feed-forward out", linear, 197, 768, 3072},
    {"ViT-B/16", "scores", scores, 197, 197, 64, 12},
    {"ViT-B/16", "mixture", mixture, 197, 64, 197, 12},
    {"GPT-2", "attention in, 128 tokens", linear, 128, 2304, 768},
    {"GPT-2", "attention in", linear, 1, 2304, 768},
    {"GPT-2", "attention out", linear, 1, 768, 768},
    {"GPT-2", "feed-forward in", linear, 1, 3072, 768},
    {"GPT-2", "feed-forward out", linear, 1, 768, 3072},
    {"UNet", "first", convolution, 32, 320, 4, 1, 3},
    {"UNet", "1 residual", convolution, 32, 320, 320, 1, 3},
    {"UNet", "1 halve", convolution, 32, 320, 320, 1, 3, 2},
    {"UNet", "2 residual", convolution, 16, 640, 640, 1, 3},
    {"UNet", "3 residual", convolution, 8, 1280, 1280, 1, 3},
    {"UNet", "1 feed-forward", linear, 1024, 2560, 320},
    {"UNet", "1 context keys", linear, 77, 320, 768},
    {"UNet", "1 scores", scores, 1024, 1024, 40, 8},
    {"UNet", "1 mixture", mixture, 1024, 40, 1024, 8},
    {"BERT-base 128", "projection, bf16", linear, 128, 768, 768, 1, 1, 1, DType::bf16},
    {"BERT-base 128", "feed-forward in, bf16", linear, 128, 3072, 768, 1, 1, 1, DType::bf16},
    {"ResNet-50", "3 middle, bf16", convolution, 28, 128, 128, 1, 3, 1, DType::bf16},
    {"ResNet-50", "4 expand, bf16", convolution, 14, 1024, 256, 1, 1, 1, DType::bf16},
    {"ResNet-50", "stem, 8 bits", convolution, 224, 64, 3, 1, 7, 2, DType::u8},
    {"ResNet-50", "2 reduce, 8 bits", convolution, 56, 64, 256, 1, 1, 1, DType::u8},
    {"ResNet-50", "2 middle, 8 bits", convolution, 56, 64, 64, 1, 3, 1, DType::u8},
    {"ResNet-50", "2 expand, 8 bits", convolution, 56, 256, 64, 1, 1, 1, DType::u8},
    {"ResNet-50", "3 middle, 8 bits", convolution, 28, 128, 128, 1, 3, 1, DType::u8},
    {"ResNet-50", "4 middle, 8 bits", convolution, 14, 256, 256, 1, 3, 1, DType::u8},
    {"ResNet-50", "4 expand, 8 bits", convolution, 14, 1024, 256, 1, 1, 1, DType::u8},
    {"ResNet-50", "5 middle, 8 bits", convolution, 7, 512, 512, 1, 3, 1, DType::u8},
    {"ResNet-50", "5 reduce, 8 bits", convolution, 7, 512, 2048, 1, 1, 1, DType::u8},
    {"MobileNetV2", "5 expand, 8 bits", convolution, 14, 384, 64, 1, 1, 1, DType::u8},
    {"MobileNetV2", "7 project, 8 bits", convolution, 7, 160, 960, 1, 1, 1, DType::u8},
    {"BERT-base 128", "projection, 8 bits", linear, 128, 768, 768, 1, 1, 1, DType::u8},
    {"BERT-base 128", "feed-forward in, 8 bits", linear, 128, 3072, 768, 1, 1, 1, DType::u8},
    {"BERT-base 128", "feed-forward out, 8 bits", linear, 128, 768, 3072, 1, 1, 1, DType::u8},
};

Tensor ramp(DType dtype, std::vector<int64_t> dims) {
  Tensor tensor(dtype, std::move(dims));
  for (int64_t i = 0; i < tensor.element_count(); ++i)
    is_float(dtype) ? tensor.set_float(i, static_cast<double>(i % 17) * 0.1 - 0.8) : tensor.set_int(i, i % 17);
  return tensor;
}

}  // namespace

std::span<const Layer> layers() { return table; }

std::string Layer::shape() const {
  if (kind != convolution) return groups > 1 ? fmt::format("{} × ({} × {} × {})", groups, m, n, k) : fmt::format("{} × {} × {}", m, n, k);
  std::string text = groups > 1 ? fmt::format("{}², {} channels, {}×{}", m, n, kernel, kernel) : fmt::format("{}², {} → {}, {}×{}", m, k, n, kernel, kernel);
  return stride > 1 ? text + fmt::format(", stride {}", stride) : text;
}

double Layer::operations() const {
  const auto d = [](int64_t value) { return static_cast<double>(value); };
  if (kind == convolution) return 2 * d(side() * side()) * d(n) * d(k / groups * kernel * kernel);
  return 2 * d(groups) * d(m) * d(n) * d(k);
}

double Layer::bytes() const {
  const int64_t left = kind == convolution ? m * m * k : groups * m * k, right = kind == convolution ? n * k / groups * kernel * kernel : groups * k * n;
  const int64_t result = kind == convolution ? side() * side() * n : groups * m * n;
  return static_cast<double>((left + right) * static_cast<int64_t>(size_of(dtype)) + result * 4);
}

Graph graph_of(const Layer& layer) {
  Graph graph;
  graph.name = layer.name;
  Builder b(graph);
  const bool whole = layer.dtype == DType::u8;
  const DType weights = whole ? DType::i8 : layer.dtype, sums = whole ? DType::i32 : layer.dtype;
  Attributes attributes;
  if (whole) attributes["dtype"] = sums;
  const int64_t m = layer.m, n = layer.n, k = layer.k, groups = layer.groups;
  if (layer.kind == convolution) {
    const ValueId x = b.transpose(b.input("x", {layer.dtype, {1, m, m, k}}), {0, 3, 1, 2});
    const int64_t pad = layer.kernel / 2;
    attributes.insert({{"strides", std::vector<int64_t>(2, layer.stride)},
                       {"dilations", std::vector<int64_t>(2, 1)},
                       {"pads", std::vector<int64_t>(4, pad)},
                       {"groups", groups}});
    const ValueId sum = b.one("conv", {x, b.constant(ramp(weights, {n, k / groups, layer.kernel, layer.kernel})), b.constant(ramp(sums, {n}))}, attributes);
    b.output(b.transpose(b.max(sum, 0.0), {0, 2, 3, 1}), "y");
  } else if (layer.kind == linear) {
    const ValueId product = b.one("matmul", {b.input("x", {layer.dtype, {m, k}}), b.constant(ramp(weights, {k, n}))}, attributes);
    b.output(b.add(product, b.constant(ramp(sums, {n}))), "y");
  } else if (layer.kind == scores) {
    const ValueId queries = b.input("queries", {layer.dtype, {m, groups, k}}), keys = b.input("keys", {layer.dtype, {n, groups, k}});
    b.output(b.matmul(b.transpose(queries, {1, 0, 2}), b.transpose(keys, {1, 2, 0})), "y");
  } else {
    const ValueId weight = b.input("weights", {layer.dtype, {groups, m, k}}), values = b.input("values", {layer.dtype, {k, groups, n}});
    b.output(b.transpose(b.matmul(weight, b.transpose(values, {1, 0, 2})), {1, 0, 2}), "y");
  }
  return graph;
}

}  // namespace tilewright::kernel_bench
