#pragma once

#include <string>

#include "comm/topology.h"
#include "device/stream.h"

namespace mixserve::app {

/// --backend as it was asked for.
enum class BackendOption : uint8_t { automatic, cpu, cuda };

/// UsageError when it is none of auto, cpu and cuda, or cuda in a build without it.
BackendOption parse_backend(const std::string& text);

/// What this rank computes with.
struct BackendChoice {
    device::Backend backend = device::Backend::cpu;
    int gpu = 0;           // in the count of what this rank sees
    int ranks_on_gpu = 1;  // that share it
};

/// Collective over the world, and one answer for all. `auto` is the CPU, and says why. With `cuda` each rank
/// takes a GPU of its host (device::choose_gpu); every rank throws when one of them cannot.
BackendChoice choose_backend(BackendOption option, bool allow_gpu_sharing, const comm::Topology& topology);

}  // namespace mixserve::app
