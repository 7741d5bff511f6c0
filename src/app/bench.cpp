#include <array>
#include <cstdio>
#include <string_view>
#include <vector>

#include "app/benches.h"
#include "app/command.h"
#include "base/error.h"
#include "base/json.h"
#include "comm/agree.h"

namespace mixserve::app {

int run_bench(Arguments arguments) {
    constexpr std::array benches{
        Command{"layer", "the kernels of a layer on one rank", true, run_bench_layer},
        Command{"engine", "steps of a whole model: decode and prefill", true, run_bench_engine},
        Command{"load", "a model's weights from its file to the ranks", true, run_bench_load},
        Command{"tokenize", "prompts to tokens on one thread", true, run_bench_tokenize},
        Command{"comm", "collectives in node, lane and world", true, run_bench_comm},
        Command{"exchange", "a MoE layer's exchange under every strategy", true, run_bench_exchange},
    };
    const std::string_view name = arguments.empty() ? "" : arguments[0];
    std::vector<std::string_view> names;
    for (const Command& bench : benches) {
        if (bench.name == name) return bench.run(arguments.subspan(1));
        names.push_back(bench.name);
    }
    if (name == "--help") {
        std::puts(
            "usage: mixserve bench PART [options]\n\nparts (mixserve bench PART --help lists the options):");
        for (const Command& bench : benches)
            std::printf("  %-10s %s\n", bench.name.data(), bench.summary.data());
        return exit_ok;
    }
    comm::agree(comm::Communicator::world(), [&] {
        require_usage(!name.empty(), "mixserve bench: give a part: {}", fmt::join(names, ", "));
        fail_usage("mixserve bench: '{}' is not one of {}{}", name, fmt::join(names, ", "),
                   did_you_mean(name, names));
    });
    return exit_usage;
}

}  // namespace mixserve::app
