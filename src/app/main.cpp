#include <array>
#include <cstdio>
#include <exception>
#include <new>
#include <optional>
#include <string_view>
#include <vector>

#include "app/command.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "comm/communicator.h"

namespace {

using namespace mixserve;

constexpr std::array<app::Command, 0> commands{{}};

void print_usage() {
    std::puts("usage: mixserve COMMAND [options]\n\ncommands (mixserve COMMAND --help lists the options):");
    for (const app::Command& command : commands) {
        std::printf("  %-10.*s %.*s\n", static_cast<int>(command.name.size()), command.name.data(),
                    static_cast<int>(command.summary.size()), command.summary.data());
    }
}

}  // namespace

int main(int /*argc*/, char** /*argv*/) {
    print_usage();
    return exit_ok;
}
