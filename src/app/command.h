#pragma once

#include <span>
#include <string_view>

namespace mixserve::app {

/// Arguments after the command's name.
using Arguments = std::span<char* const>;

/// A command of the program. `needs_ranks`: MPI is started for it; others run as one process and refuse
/// several. `catches_signals`: it looks at stop_signal() (base/stop.h) while it works.
struct Command {
    std::string_view name;
    std::string_view summary;
    bool needs_ranks;
    int (*run)(Arguments arguments);
    bool catches_signals = false;
};

// One file a command, src/app/<name>.cpp. Each returns an exit code, and throws Error for main to print.
int run_convert(Arguments arguments);
int run_inspect(Arguments arguments);
int run_tokenize(Arguments arguments);
int run_run(Arguments arguments);
int run_score(Arguments arguments);
int run_merge(Arguments arguments);
int run_bench(Arguments arguments);
int run_report(Arguments arguments);

}  // namespace mixserve::app
