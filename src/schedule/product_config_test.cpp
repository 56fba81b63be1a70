#include "schedule/product_config.h"

#include <gmock/gmock.h>

#include "base/error.h"

namespace tilewright::schedule {
namespace {

TEST(ProductConfig, PrintsAndParses) {
  const ProductConfig rows{ProductConfig::Method::rows, {14, 2}, ProductConfig::Split::panels, 512 << 10, 100, false};
  EXPECT_EQ(print(rows), "method=rows block=14x2 split=panels panels=512K strips=100 ahead=off");
  EXPECT_EQ(parse_product_config(print(rows)), rows);
  const ProductConfig winograd{.method = ProductConfig::Method::winograd, .block = {6, 4}};
  EXPECT_EQ(print(winograd), "method=winograd block=6x4");
  EXPECT_EQ(parse_product_config("block=6x4 method=winograd"), winograd);
  ProductConfig bytes = rows;
  bytes.atom = ProductConfig::Atom::dot8;
  EXPECT_EQ(print(bytes), "method=rows atom=dot8 block=14x2 split=panels panels=512K strips=100 ahead=off");
  EXPECT_EQ(parse_product_config(print(bytes)), bytes);
  using Atom = ProductConfig::Atom;
  for (const auto& [atom, text] : {std::pair{Atom::dot16, "dot16"},
                                   {Atom::bf16, "bf16"},
                                   {Atom::amx8, "amx8"},
                                   {Atom::amx_bf16, "amx_bf16"},
                                   {Atom::amx_f32, "amx_f32"},
                                   {Atom::amx_tf32, "amx_tf32"},
                                   {Atom::amx_digits, "amx_digits"},
                                   {Atom::fma24, "fma24"}}) {
    bytes.atom = atom;
    EXPECT_THAT(print(bytes), testing::HasSubstr(std::string(" atom=") + text + " "));
    EXPECT_EQ(parse_product_config(print(bytes)), bytes);
  }
}

TEST(ProductConfig, SaysThatWeightsAreWidened) {
  ProductConfig widened{ProductConfig::Method::rows, {11, 2}, ProductConfig::Split::automatic, 512 << 10, 768 << 10};
  EXPECT_EQ(parse_product_config(print(widened) + " weights=stored"), widened);
  widened.widened = true;
  EXPECT_EQ(print(widened), "method=rows block=11x2 split=automatic panels=512K strips=768K ahead=on weights=widened");
  EXPECT_EQ(parse_product_config(print(widened)), widened);
  ProductConfig joined{ProductConfig::Method::rows, {32, 2}, ProductConfig::Split::automatic, 512 << 10, 768 << 10};
  joined.joined = true;
  EXPECT_EQ(print(joined), "method=rows block=32x2 split=automatic panels=512K strips=768K ahead=on lines=joined");
  EXPECT_EQ(parse_product_config(print(joined)), joined);
}

TEST(ProductConfig, RefusesWhatItCannotReadByName) {
  for (const char* text : {"method=rows block=6x4 colour=red", "method=fast block=6x4", "atom=dot7 block=6x4", "block=6", "block=6xz", "block=-1x2 method=rows",
                           "ahead=maybe block=1x1", "weights=wide block=1x1", "panels=12KK block=1x1", "panels=99999999999999999999K block=1x1", "nonsense"}) {
    try {
      parse_product_config(text);
      ADD_FAILURE() << text << " was taken";
    } catch (const Error& problem) {
      EXPECT_EQ(problem.kind(), ErrorKind::invalid_input);
      EXPECT_THAT(problem.what(), testing::HasSubstr("configuration")) << text;
    }
  }
  EXPECT_THROW(parse_product_config(""), Error);
  EXPECT_THROW(parse_product_config("block=0x4"), Error);
}

}  // namespace
}  // namespace tilewright::schedule
