#pragma once

#include "target/cpu/rows_product.h"
#include "target/source/contract_shape.h"
#include "target/source/kernel_text.h"
#include "target/source/nest_body.h"

namespace tilewright::cpu {

using namespace source;  // NOLINT: the text that all targets' kernels are made of

/// What is known of the columns that a call of an epilogue gets: how many at most (0: not known), and what their first one is a multiple of.
struct EpilogueColumns {
  int64_t most = 0, multiple = 1;
  bool fetch = false;  ///< whether calls without sums ask for the memory of results to come nearer, see tile::RowsBlocking
};

/// What all calls of product kernels are written from: addresses over groups of loops, and the epilogue.
class ProductText {
 public:
  ProductText(const KernelText& kernel, const pattern::Nest& nest, ContractShape shape, Writer& out)
      : kernel_(kernel), source_(nest), shape_(std::move(shape)), out_(out) {}

 protected:
  std::string text(const Dim& e) const { return print_index(e, kernel_.sizes, shape_.nest.bounds); }
  std::string text(const Dim& e, const Names& names) const { return print_index(e, names, shape_.nest.bounds); }

  /// `const i64 i1 = m / 56 % 56;` for each loop of the group, from its joint index.
  void digits(const LoopGroup& group, const std::string& joint, NestBody& body);
  /// Where batch entry b begins: a stride, or a function of b.
  std::string batch_view(const Dim& start);
  /// The part of an address that no batch loop moves.
  Dim constant_part(Dim start) const;
  std::string pointer(TensorId tensor, const Dim& offset) const;
  /// The left or right factor that lies in memory as a matrix, as a view.
  std::string dense_left(const DenseShape& dense, const std::string& zero = "");
  std::string dense_right(const DenseShape& dense, const std::string& zero = "");
  /// Fields of tile::WindowRows that tell the windows' shape: `.channels = …, … .pad = {…}`, on three lines.
  void window_fields(const WindowRowsShape& windows, const std::string& end);
  /// What is subtracted from the factor's elements, as an int32_t; empty: nothing. Names of what it is computed from begin with `side`.
  std::string zero_point(const Factor& factor, const std::string& side);
  /// `const auto epilogue = …`: finished sums of a few rows and columns to what is stored: rows one by one, columns as vectors. The
  /// arguments' names are those of contract(); `row_group` is what the row index runs over. Where `columns` are limited, bytes and short floats
  /// are narrowed by themselves, so that vectors of what they are computed from are whole.
  void epilogue(const LoopGroup& batch, const LoopGroup& row_group, const EpilogueColumns& columns = {});
  /// `const auto scores = …`: the same, but the first output goes to the caller's rows, as floats: to[row * to_ld + column].
  void scores(const LoopGroup& batch, const LoopGroup& row_group);

  enum class Destination { tensors, rows };
  void results(const std::string& name, const LoopGroup& batch, const LoopGroup& row_group, Destination destination, const EpilogueColumns& columns = {});

  /// Columns that follow each other in memory where a call's may not, as heads of 40 elements, which panels of 32 or 48 columns cut. 0: a call's do, or no such
  /// piece is as long as a vector, or results are to be fetched, whose lines calls without sums ask for as they come.
  int64_t piece_of_columns(const EpilogueColumns& columns) const;
  /// The joint index of a call's columns, by symbols that get their bounds.
  Dim column_of(const EpilogueColumns& columns, Bounds& bounds) const;

  /// Asks for what a row of results is stored to, and for what else is read there, when there are no sums yet.
  void fetch_lines(const LoweredNest& after, const std::vector<bool>& needed, const LoopGroup& row_group, NestBody& body);

  const KernelText& kernel_;
  const pattern::Nest& source_;
  ContractShape shape_;
  Writer& out_;
};

}  // namespace tilewright::cpu
