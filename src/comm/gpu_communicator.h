#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "comm/communicator.h"
#include "device/gpu.h"

/// The border to NCCL, as device/gpu.h is the border to CUDA. What is declared here has three
/// implementations, of which a program links one: NCCL's (nccl_communicator.cpp, which loads the library when
/// it is first asked for), none (nccl_absent.cpp, in builds without NCCL's header), and the emulator's, over
/// MPI.
namespace mixserve::comm {

/// What carries data between ranks with GPUs.
enum class GpuTransport : uint8_t {
    host,  // through the hosts' memory and MPI: always possible
    nccl   // from GPU to GPU; each rank has one to itself
};

/// Why ranks cannot use NCCL here, with what to do about it; "" where they can. Never throws.
std::string why_no_nccl();

/// A group of ranks, each with a GPU of its own, that exchange device memory. Calls enqueue and return, and
/// every rank of the group makes the same calls in the same order; what arrives is there for what follows in
/// the queue. Whatever goes wrong later, as when another rank ends, is seen by a thread beside, which says it
/// and ends the process: nobody waits in a queue for ever (on links that report nothing, the watchdog sees
/// it).
///
/// A failed call throws Error, which names the call, the group, the rank and what to do.
class GpuCommunicator {
  public:
    /// Collective over `ranks`; on the GPU in use. `name` says in messages which group this is.
    GpuCommunicator(const Communicator& ranks, std::string name);
    ~GpuCommunicator();
    GpuCommunicator(GpuCommunicator&&) noexcept;
    GpuCommunicator& operator=(GpuCommunicator&&) noexcept;

    int rank() const;
    int size() const;

    /// all [size, n_bytes] <- each rank's part [n_bytes], by rank. A part may lie in its own place of `all`.
    void all_gather(const void* part, size_t n_bytes, void* all, device::GpuQueue& queue);

    /// Sums in an order that the library chooses: to measure it by.
    void all_reduce_sum(float* values, int64_t n, device::GpuQueue& queue);
    /// part [n] <- this rank's of the sum of values [size, n].
    void reduce_scatter_sum(const float* values, int64_t n, float* part, device::GpuQueue& queue);

    struct Outgoing {
        int to;
        const void* data;
        size_t n_bytes;
    };
    struct Incoming {
        int from;
        void* data;
        size_t n_bytes;
    };
    /// All at once. Each rank that is sent something expects as much; nothing goes to oneself, and messages
    /// of no bytes are left out.
    void exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives,
                  device::GpuQueue& queue);

    struct Impl;

  private:
    std::unique_ptr<Impl> impl_;
};

}  // namespace mixserve::comm
