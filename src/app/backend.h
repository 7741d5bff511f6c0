#pragma once

#include <string>

#include "comm/gpu_communicator.h"
#include "comm/topology.h"
#include "device/stream.h"

namespace mixserve::app {

/// --backend as it was asked for.
enum class BackendOption : uint8_t { automatic, cpu, cuda };

/// UsageError when it is none of auto, cpu and cuda, or cuda in a build without it.
BackendOption parse_backend(const std::string& text);

/// --gpu-transport as it was asked for.
enum class TransportOption : uint8_t { automatic, nccl, host };

/// UsageError when it is none of auto, nccl and host.
TransportOption parse_transport(const std::string& text);

/// What this rank computes with.
struct BackendChoice {
    device::Backend backend = device::Backend::cpu;
    int gpu = 0;           // in the count of what this rank sees
    int ranks_on_gpu = 1;  // that share it
    comm::GpuTransport transport = comm::GpuTransport::host;
};

/// Collective over the world, and one answer for all. `auto` is the CPU, and says why. With `cuda` each rank
/// takes a GPU of its host (device::choose_gpu); every rank throws when one of them cannot. Ranks exchange
/// over NCCL where it is there and each has a GPU to itself; where one does not, `auto` takes the hosts'
/// memory and says why, and `nccl` is a UsageError.
BackendChoice choose_backend(BackendOption option, bool allow_gpu_sharing, TransportOption transport,
                             const comm::Topology& topology);

}  // namespace mixserve::app
