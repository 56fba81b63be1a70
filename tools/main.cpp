#include <csignal>
#include <cstdio>

#include "artifact/run.h"
#include "base/error.h"
#include "commands.h"
#include "common.h"
#include "compiler/compile.h"

using namespace tilewright;

namespace {

int run(int argc, char** argv) {
  CLI::App app{"Tilewright compiles trained models into one self-contained shared library of fused kernels.", "tilewright"};
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("tilewright ") + compiler_version);
  app.footer(std::string("Examples:\n"
                         "  tilewright compile resnet50.onnx -o resnet50.so\n"
                         "  tilewright run resnet50.so --input image.npy --top 5\n"
                         "  tilewright bench resnet50.so --duration 3\n"
                         "  tilewright verify resnet50.onnx --artifact resnet50.so\n"
                         "  tilewright inspect resnet50.onnx\n"
                         "  tilewright tune resnet50.onnx --budget 5m\n"
                         "  tilewright doctor\n"
                         "'tilewright COMMAND --help' shows each command's options and examples.\n") +
             tools::exit_codes());
  int exit_code = tools::exit_done;
  tools::add_compile(app, exit_code);
  tools::add_run(app, exit_code);
  tools::add_bench(app, exit_code);
  tools::add_verify(app, exit_code);
  tools::add_inspect(app, exit_code);
  tools::add_tune(app, exit_code);
  tools::add_doctor(app, exit_code);
  std::signal(SIGINT, tools::note_interrupt);
  std::signal(SIGTERM, tools::note_interrupt);
  std::signal(SIGPIPE, SIG_IGN);
  try {
    translate_errors([&] { app.parse(argc, argv); });
  } catch (const CLI::ParseError& problem) {
    const int code = app.exit(problem);
    return code == 0 ? tools::exit_done : tools::exit_code_of(ErrorKind::invalid_input);
  }
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const Error& problem) {
    std::fflush(stdout);
    std::fprintf(stderr, "tilewright: %s\n", problem.what());
    return tools::exit_code_of(problem.kind());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "tilewright: out of memory\n");
    return tools::exit_code_of(ErrorKind::environment);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "tilewright: internal error: %s\n", problem.what());
    return tools::exit_code_of(ErrorKind::internal);
  }
}
