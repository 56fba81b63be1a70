// Matrix products and convolutions, with what comes before and after them.

#include "families.h"

namespace tilewright::emulated {
namespace {

bool is_byte(DType dtype) { return dtype == DType::i8 || dtype == DType::u8; }
bool is_short(DType dtype) { return is_byte(dtype) || dtype == DType::f16 || dtype == DType::bf16; }
DType sum_of(DType dtype) { return is_byte(dtype) ? DType::i32 : dtype; }
int64_t pieces(int64_t whole, int64_t piece) { return (whole + piece - 1) / piece; }

/// Whether the emulator multiplies this in reasonable time: steps of tiles, which are larger and slower for matrix instructions.
bool is_quick(DType dtype, int64_t batch, int64_t m, int64_t n, int64_t k) {
  if (is_short(dtype)) return batch * pieces(m, 128) * pieces(n, 128) * pieces(k, 32) <= 6;
  return batch * pieces(m, 64) * pieces(n, 64) * pieces(k, 16) <= 80;
}

/// What a factor is made of before it is multiplied; every other time, nothing.
ValueId prologue(Draft& d, ValueId x) {
  Builder& b = d.build;
  const DType dtype = b.dtype(x);
  switch (d.choose(6)) {
    case 0: return is_byte(dtype) ? b.add(b.cast(x, DType::i32), -3.0) : b.neg(x);
    case 1: return is_byte(dtype) ? b.cast(x, DType::i32) : b.max(x, 0.0);
    case 2: return is_float(dtype) ? b.mul(b.sigmoid(x), x) : is_byte(dtype) ? x : b.min(x, 3.0);
    default: return x;
  }
}

/// What becomes of a product; `x`'s last axis, or `axis`, gets a bias.
void epilogue(Draft& d, ValueId x, int axis) {
  Builder& b = d.build;
  const DType dtype = b.dtype(x);
  Dims bias(b.dims(x).size(), Dim(1));
  bias[static_cast<size_t>(axis)] = b.dims(x)[static_cast<size_t>(axis)];
  switch (d.choose(5)) {
    case 0: x = b.max(b.add(x, d.input(dtype, bias)), 0.0); break;
    case 1: x = b.add(x, d.input(dtype, b.dims(x))); break;
    case 2: x = is_float(dtype) ? b.mul(x, b.sigmoid(x)) : b.mul(x, 3.0); break;
    case 3: x = b.cast(x, is_float(dtype) ? DType::f32 : DType::i64); break;
    default: break;
  }
  d.output(x);
}

/// left [batch…, m, k] · right [batch…, k, n]; either may lie the other way round in memory.
void multiply(Draft& d, DType dtype, const Dims& left_batch, const Dims& right_batch, const Dim& m, const Dim& n, const Dim& k) {
  Builder& b = d.build;
  const auto factor = [&](DType of, Dims dims, const Dim& rows, const Dim& columns) {
    const auto rank = static_cast<int64_t>(dims.size());
    if (d.chance()) {
      dims.insert(dims.end(), {rows, columns});
      return prologue(d, d.input(of, dims));
    }
    dims.insert(dims.end(), {columns, rows});
    std::vector<int64_t> order;
    for (int64_t axis = 0; axis < rank; ++axis) order.push_back(axis);
    order.insert(order.end(), {rank + 1, rank});
    return b.transpose(prologue(d, d.input(of, dims)), order);
  };
  ValueId left = factor(dtype, left_batch, m, k), right = factor(is_byte(dtype) && d.chance() ? DType::i8 : dtype, right_batch, k, n);
  if (is_byte(dtype) && (!is_byte(b.dtype(left)) || !is_byte(b.dtype(right)))) left = b.cast(left, DType::i32), right = b.cast(right, DType::i32);
  const ValueId product = b.one("matmul", {left, right}, {{"dtype", sum_of(dtype)}});
  epilogue(d, product, b.rank(product) - 1);
}

void gemm(Draft& d, DType dtype) {
  // Rows of k that are whole 16-byte pieces are copied asynchronously: they must be known.
  const bool whole = d.chance();
  const int64_t known_k = d.one_of<int64_t>({16, 32, 48, 64, 96, 128, 160});
  int64_t m = 0, n = 0, k = 0;
  do {
    m = d.draw({0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 61, 63, 64, 65, 127, 128, 129, 131});
    n = d.draw({0, 1, 3, 8, 11, 15, 16, 17, 32, 37, 63, 64, 65, 127, 128, 129, 137});
    k = whole ? known_k : d.draw({0, 1, 2, 15, 16, 17, 31, 32, 33, 64, 67, 127, 128, 129, 257, 509, 1031});
  } while (!is_quick(dtype, 1, m, n, k));
  const Dim rows = d.size(m), columns = d.size(n);
  multiply(d, dtype, {}, {}, rows, columns, whole ? Dim(k) : d.size(k));
}

void large_k(Draft& d, DType dtype) {
  const int64_t k = is_short(dtype) ? d.draw({190, 192, 193}) : d.draw({1021, 1024, 2049});
  multiply(d, dtype, {}, {}, d.size({16, 17, 29, 32}), d.size({16, 19, 31, 33}), d.size(k));
}

/// Factors of short elements as they lie in memory: what matrix instructions take.
void matrix_elements(Draft& d, DType dtype) {
  Builder& b = d.build;
  const Dim m = d.size({16, 17, 33, 127, 129}), n = d.size({16, 19, 32, 65, 128}), k = d.size({16, 17, 31, 33, 67});
  const auto factor = [&](DType of, const Dim& rows, const Dim& columns) {
    return d.chance() ? d.input(of, {rows, columns}) : b.transpose(d.input(of, {columns, rows}), {1, 0});
  };
  const ValueId x = factor(dtype, m, k), y = factor(is_byte(dtype) && d.chance() ? DType::i8 : dtype, k, n);
  epilogue(d, b.one("matmul", {x, y}, {{"dtype", sum_of(dtype)}}), 1);
}

/// Rows of whole 16-byte pieces, which are copied asynchronously: their length must be known, and where they lie must be up to us.
void matrix_rows(Draft& d, DType dtype) {
  Builder& b = d.build;
  d.fused = false;
  // Up to seven steps of a tile: every stage is used again.
  const int64_t k = d.one_of<int64_t>({16, 112, 160, 208}) * (is_byte(dtype) ? 2 : 1), known_n = d.one_of<int64_t>({16, 19, 65, 128, 131});
  const auto made = [&](DType of, const Dims& dims) {
    const ValueId x = d.input(of, dims);
    return is_float(of) ? b.neg(x) : b.max(x, 1.0);
  };
  const DType right = is_byte(dtype) && d.chance() ? DType::i8 : dtype;
  const ValueId x = made(dtype, {d.size({16, 17, 33, 127, 129}), k}), y = d.chance() ? d.weights(right, {known_n, k}) : made(right, {d.size({16, 33, 128}), k});
  if (is_float(dtype)) return epilogue(d, b.one("einsum", {x, y}, {{"equation", std::string("mk,nk->mn")}}), 1);
  epilogue(d, b.one("matmul", {x, b.transpose(y, {1, 0})}, {{"dtype", sum_of(dtype)}}), 1);
}

void batched(Draft& d, DType dtype) {
  int64_t batch = 0, m = 0, n = 0, k = 0;
  do {
    batch = d.draw({0, 1, 2, 3, 5});
    m = d.draw({1, 7, 8, 13, 16, 31, 64, 65});
    n = d.draw({1, 8, 9, 16, 17, 32, 64, 67});
    k = d.draw({0, 1, 8, 13, 16, 32, 37, 64});
  } while (!is_quick(dtype, 2 * batch, m, n, k));
  const Dim outer = d.size(batch);
  const Dims left = {outer, 2}, right = d.chance() ? left : d.chance() ? Dims{2} : Dims{};
  const Dim rows = d.size(m), columns = d.size(n);
  multiply(d, dtype, left, right, rows, columns, d.size(k));
}

/// Factors that a copy engine takes: one axis in memory is whole 16-byte pieces, which must be known; the sum may end anywhere.
void boxes(Draft& d, DType dtype) {
  Builder& b = d.build;
  const int64_t piece = 16 / static_cast<int64_t>(size_of(dtype)), known[] = {2 * piece, 9 * piece, 16 * piece, 20 * piece};
  const DType right = is_byte(dtype) && d.chance() ? DType::i8 : dtype;
  const bool whole_k = is_byte(dtype) || d.chance(), batched = d.chance(), shared = d.chance();
  const Dim k = whole_k ? Dim(d.one_of<int64_t>({known[0], known[1], known[2], known[3]})) : d.size({16, 37, 72, 130});
  // What lies with m or n as its last axis has whole pieces of those.
  const auto factor = [&](DType of, bool along_k, const Dim& rows, Dims dims) {
    const auto rank = static_cast<int64_t>(dims.size());
    dims.insert(dims.end(), along_k ? std::initializer_list<Dim>{rows, k} : std::initializer_list<Dim>{k, rows});
    const ValueId x = d.input(of, dims);
    std::vector<int64_t> order = rank == 1 ? std::vector<int64_t>{0, 2, 1} : std::vector<int64_t>{1, 0};
    return std::pair(x, along_k ? std::vector<int64_t>() : order);
  };
  const auto rows_of = [&](bool along_k) {
    return along_k && d.chance() ? d.size({16, 17, 65, 129}) : Dim(d.one_of<int64_t>({2 * piece, 9 * piece, 17 * piece}));
  };
  const bool left_along_k = whole_k && d.chance(), right_along_k = whole_k && d.chance();
  const bool byte = is_byte(dtype);
  const Dim batch = batched ? d.size({1, 2, 3}) : Dim(1);
  const Dims left_dims = batched ? Dims{batch} : Dims{}, right_dims = batched && !shared ? Dims{batch} : Dims{};
  auto [x, turn_x] = factor(dtype, byte || left_along_k, rows_of(byte || left_along_k), left_dims);
  auto [y, turn_y] = factor(right, byte || right_along_k, rows_of(byte || right_along_k), right_dims);
  if (!turn_x.empty()) x = b.transpose(x, turn_x);
  if (turn_y.empty()) y = b.transpose(y, right_dims.empty() ? std::vector<int64_t>{1, 0} : std::vector<int64_t>{0, 2, 1});
  epilogue(d, b.one("matmul", {x, y}, {{"dtype", sum_of(dtype)}}), batched ? 2 : 1);
}

/// Convolution over `rank` spatial axes, of `groups` groups with `in` and `out` channels each.
void convolve(Draft& d, DType dtype, int rank, int64_t groups, int64_t in, int64_t out) {
  Builder& b = d.build;
  std::vector<int64_t> kernel, strides, dilations, pads;
  for (int axis = 0; axis < rank; ++axis) {
    kernel.push_back(d.one_of<int64_t>({1, 2, 3, 3, 5}));
    strides.push_back(d.one_of<int64_t>({1, 1, 2, 3}));
    dilations.push_back(d.one_of<int64_t>({1, 1, 2}));
    pads.push_back(d.one_of<int64_t>({0, 1, 2}));
  }
  Dims x = {d.size({0, 1, 1, 2, 3}), groups * in}, w = {groups * out, in};
  for (size_t axis = 0; axis < static_cast<size_t>(rank); ++axis) {
    const int64_t reach = (kernel[axis] - 1) * dilations[axis] + 1;
    x.push_back(d.size(std::max<int64_t>(1, reach - 2 * pads[axis]) + d.draw({0, 1, 2, 5, 7})));
    w.emplace_back(kernel[axis]);
  }
  pads.insert(pads.end(), pads.begin(), pads.begin() + rank);
  ValueId image = prologue(d, d.input(dtype, x)), filters = d.input(is_byte(dtype) && d.chance() ? DType::i8 : dtype, w);
  if (is_byte(dtype) && !is_byte(b.dtype(image))) filters = b.cast(filters, DType::i32);
  epilogue(d, b.one("conv", {image, filters}, {{"groups", groups}, {"strides", strides}, {"dilations", dilations}, {"pads", pads}, {"dtype", sum_of(dtype)}}),
           1);
}

void convolution(Draft& d, DType dtype) {
  const int rank = d.one_of({1, 2, 2, 3});
  convolve(d, dtype, rank, 1, d.one_of<int64_t>({1, 3, 8, 16}), d.one_of<int64_t>({1, 7, 16, 24}));
}

void grouped(Draft& d, DType dtype) {
  if (d.chance())
    convolve(d, dtype, 2, d.one_of<int64_t>({2, 5, 16}), 1, d.one_of<int64_t>({1, 2}));
  else
    convolve(d, dtype, d.one_of({1, 2}), d.one_of<int64_t>({2, 3}), d.one_of<int64_t>({4, 16}), d.one_of<int64_t>({5, 16}));
}

void transposed(Draft& d, DType dtype) {
  const int64_t groups = d.one_of<int64_t>({1, 2}), in = d.one_of<int64_t>({3, 8}), out = d.one_of<int64_t>({4, 9}), stride = d.one_of<int64_t>({1, 2, 3});
  const ValueId x = d.input(dtype, {d.size({1, 2}), groups * in, d.size({1, 2, 7, 8}), d.size({1, 3, 5})}), w = d.input(dtype, {groups * in, out, 3, 2});
  epilogue(
      d, d.build.one("conv_transpose", {x, w}, {{"groups", groups}, {"strides", std::vector<int64_t>{stride, 1}}, {"pads", std::vector<int64_t>{1, 0, 0, 0}}}),
      1);
}

const std::vector<DType> factors = {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64, DType::i32, DType::i8, DType::u8};
const std::vector<DType> short_factors = {DType::f16, DType::bf16, DType::i8, DType::u8};
const std::vector<DType> floats = {DType::f64, DType::f32, DType::f16, DType::bf16};

}  // namespace

std::span<const Family> product_families() {
  static const Family table[] = {{"gemm", factors, gemm},
                                 {"large_k", factors, large_k},
                                 {"matrix_elements", short_factors, matrix_elements},
                                 {"matrix_rows", short_factors, matrix_rows},
                                 {"boxes", short_factors, boxes},
                                 {"batched", factors, batched},
                                 {"convolution", factors, convolution},
                                 {"grouped", factors, grouped},
                                 {"transposed", floats, transposed}};
  return table;
}

}  // namespace tilewright::emulated
