#include "target/emit_program.h"

#include <gtest/gtest.h>

#include <sstream>

#include "base/error.h"
#include "target/testing/random_program.h"

namespace tilewright {
namespace {

std::string all_text(const EmittedSources& sources) {
  std::string text;
  for (const auto* files : {&sources.program, &sources.kernels})
    for (const SourceFile& file : *files) text += file.text;
  return text;
}

// Every name and source that a model file can choose, with what would end a comment or a string.
TEST(EmitProgram, NamesOfTheModelStayInsideCommentsAndStrings) {
  const std::string hostile = "x\nINJECTED\rINJECTED\"INJECTED\\";
  for (unsigned seed = 0; seed < 20; ++seed) {
    testing::RandomProgram random(seed);
    random.make(4);
    random.program.name = hostile;
    for (pattern::TensorInfo& tensor : random.program.tensors) tensor.name = hostile;
    for (pattern::Pattern& one : random.program.patterns) std::visit([&](auto& p) { p.source = hostile; }, one);
    const auto block = std::make_shared<schedule::Block>(schedule::schedule(random.program, {"N"}, {}));
    const std::string text = all_text(emit_sources({{hostile, "{\"name\": \"" + hostile + "\"}", block}}, find_target("cpu:x86-64-v3"), 1));
    ASSERT_NE(text.find("INJECTED"), std::string::npos);
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      ASSERT_EQ(line.find('\r'), std::string::npos) << line;
      const size_t at = line.find("INJECTED"), comment = line.find("//"), string = line.find('"');
      if (at == std::string::npos) continue;
      ASSERT_LT(std::min(comment, string), at) << line;
      ASSERT_NE(line.back(), '\\') << line;
    }
  }
}

}  // namespace
}  // namespace tilewright
