#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/build_info.h"
#include "app/command.h"
#include "app/provenance.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/stop.h"
#include "comm/agree.h"
#include "comm/communicator.h"

namespace {

using namespace mixserve;

constexpr std::array commands{
    app::Command{"run", "generate: the main job", true, app::run_run, true},
    app::Command{"score", "log-probability of every given token, and perplexity", true, app::run_score, true},
    app::Command{"convert", "a Hugging Face checkpoint folder becomes one HDF5 model", false,
                 app::run_convert, true},
    app::Command{"inspect", "print or verify an HDF5 model", false, app::run_inspect},
    app::Command{"tokenize", "prompts to token ids, and back", false, app::run_tokenize},
    app::Command{"merge", "the outputs of jobs over shards of one input become one", false, app::run_merge},
    app::Command{"bench", "measure one part: layer, engine, comm or exchange", true, app::run_bench},
    app::Command{"report", "print and compare finished or running jobs", false, app::run_report},
};

constexpr unsigned int stop_limit_s = 5;

void print_usage(std::FILE* out) {
    std::fputs("usage: mixserve COMMAND [options]\n\ncommands (mixserve COMMAND --help lists the options):\n",
               out);
    for (const app::Command& command : commands) {
        std::fprintf(out, "  %-10.*s %.*s\n", static_cast<int>(command.name.size()), command.name.data(),
                     static_cast<int>(command.summary.size()), command.summary.data());
    }
}

/// Null where there is none.
const app::Command* command_named(std::string_view name) {
    const auto* const found = std::find_if(commands.begin(), commands.end(),
                                           [&](const app::Command& command) { return command.name == name; });
    return found == commands.end() ? nullptr : found;
}

const app::Command& find_command(std::string_view name) {
    if (const app::Command* const command = command_named(name)) return *command;
    std::vector<std::string_view> names;
    for (const app::Command& command : commands)
        names.push_back(command.name);
    fail_usage("unknown command '{}'{} (mixserve --help lists the commands)", name,
               did_you_mean(name, names));
}

std::string host_name() {
    std::array<char, 256> name{};
    gethostname(name.data(), name.size() - 1);
    return name.data();
}

/// One place turns what a rank threw into the end of all ranks. What all agreed on leaves through MPI's
/// normal end and is said once; anything else ends the job at once, since the others may be waiting for this
/// rank.
int run_on_ranks(std::string_view name, app::Arguments arguments) {
    // Until the step loop begins nothing is half-written, and a rank may be waiting for others.
    limit_stop(stop_limit_s);
    const comm::Runtime runtime;
    int rank = 0;
    int size = 1;
    try {
        const comm::Communicator world = comm::Communicator::world();
        rank = world.rank();
        size = world.size();
        configure_logging(rank, size);
        // Tables and usage are said once.
        if (rank != 0 && std::freopen("/dev/null", "w", stdout) == nullptr) fail("cannot open /dev/null");
        const app::Command* command = nullptr;
        comm::agree(world, [&] {
            command = &find_command(name);
            require_usage(
                command->needs_ranks || size == 1,
                "'mixserve {}' runs as one process; start it without mpirun or srun, or with one task", name);
        });
        const int code = command->run(arguments);
        std::fflush(stdout);  // when a rank ends with a code other than 0, launchers kill the others
        return code;
    } catch (const comm::AgreedError& e) {
        if (e.speaks()) std::fprintf(stderr, "mixserve: %s\n", e.what());
        return e.exit_code();
    } catch (const std::exception& e) {
        std::fprintf(stderr, "mixserve: rank %d of %d on host %s: %s\n", rank, size, host_name().c_str(),
                     e.what());
        std::fflush(stderr);
        if (size == 1) return exit_failure;
        comm::Runtime::abort(exit_failure);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const std::string_view name = argc > 1 ? argv[1] : "";
    if (name == "--help" || name == "-h" || name == "help") {
        print_usage(stdout);
        return exit_ok;
    }
    if (name == "--version") {
        std::printf("mixserve %s\n%s", app::build_info.version, app::build_text().c_str());
        return exit_ok;
    }
    if (name.empty()) {
        print_usage(stderr);
        return exit_usage;
    }
    try {
        const app::Arguments arguments(argv + 2, argv + argc);
        const app::Command* known = command_named(name);
        if (known != nullptr && known->catches_signals) catch_stop_signals();
        // Several ranks say once what is wrong with the command, so they start MPI for it.
        if (comm::Runtime::launched_with_several_ranks()) return run_on_ranks(name, arguments);
        const app::Command& command = find_command(name);
        if (command.needs_ranks) return run_on_ranks(name, arguments);
        configure_logging(0, 1);
        return command.run(arguments);
    } catch (const Error& e) {
        std::fprintf(stderr, "mixserve: %s\n", e.what());
        return e.exit_code();
    } catch (const std::exception& e) {
        std::fprintf(stderr, "mixserve: %s\n", e.what());
        return exit_failure;
    }
}
