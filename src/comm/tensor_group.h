#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/partition.h"
#include "base/phase.h"
#include "comm/communicator.h"
#include "comm/gpu_communicator.h"
#include "device/stream.h"

namespace mixserve::comm {

/// Collectives on the rows of activations (f32) between the ranks that split the same layers (tensor
/// parallelism). Rank q owns the rows partition(n_rows, size, q). Sums run over ranks 0..size-1 in that
/// order, so the same layout gives the same bits whichever rank owns a row. Pointers stay valid until the
/// next call of the same pair on this group. In a node the buffers are shared memory and nothing is copied
/// twice; across nodes it is MPI. A group of one rank needs no special case. Time spent waiting is
/// Phase::idle on the timer.
class TensorGroup {
  public:
    virtual ~TensorGroup() = default;
    virtual int rank() const = 0;
    virtual int size() const = 0;
    Range owned(int64_t n_rows) const { return partition(n_rows, size(), rank()); }

    /// A buffer [n_rows, width] of which the caller fills its owned rows; finish_gather() then returns all
    /// rows.
    float* start_gather(int64_t n_rows, int64_t width);
    virtual const float* finish_gather() = 0;

    /// A buffer [n_rows, width] which the caller fills with its partial sums of all rows; finish_reduce()
    /// then stores (or adds, with `accumulate`) the sum over the ranks of the owned rows to out [owned rows,
    /// width].
    float* start_reduce(int64_t n_rows, int64_t width);
    virtual void finish_reduce(float* out, bool accumulate) = 0;

    /// The same with rows_of_rank[r] rows owned by rank r, in the order of ranks. All ranks give the same
    /// counts.
    virtual float* start_gather(std::span<const int64_t> rows_of_rank, int64_t width) = 0;
    virtual float* start_reduce(std::span<const int64_t> rows_of_rank, int64_t width) = 0;

    virtual void barrier() = 0;
};

/// Shared memory where `shares_memory` (all ranks on one machine), else MPI. The communicator and timer are
/// borrowed.
std::unique_ptr<TensorGroup> make_tensor_group(const Communicator& communicator, bool shares_memory,
                                               PhaseTimer& timer);

/// The same for rows in stream.memory(): with a GPU, every pointer that goes in or comes out is device
/// memory, and what goes to other ranks is staged through the host's, or goes over NCCL.
std::unique_ptr<TensorGroup> make_tensor_group(const Communicator& communicator, bool shares_memory,
                                               PhaseTimer& timer, device::Stream& stream,
                                               GpuTransport transport = GpuTransport::host);

}  // namespace mixserve::comm
