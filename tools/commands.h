#pragma once

#include <CLI/CLI.hpp>

/// One function a sub-command: declares its options on `app` and what runs when it is chosen. A command's result is the exit code.
namespace tilewright::tools {

void add_compile(CLI::App& app, int& exit_code);
void add_run(CLI::App& app, int& exit_code);
void add_bench(CLI::App& app, int& exit_code);
void add_verify(CLI::App& app, int& exit_code);
void add_inspect(CLI::App& app, int& exit_code);
void add_tune(CLI::App& app, int& exit_code);
void add_doctor(CLI::App& app, int& exit_code);

}  // namespace tilewright::tools
