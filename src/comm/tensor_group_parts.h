#pragma once

#include "comm/gpu_communicator.h"
#include "comm/tensor_group.h"

namespace mixserve::comm {

/// The rows of a buffer, each owned by a rank.
struct RowLayout {
    int64_t n_rows = 0;
    Range owned;
    int64_t width = 0;
    int64_t n_values() const { return n_rows * width; }
};
RowLayout row_layout(std::span<const int64_t> rows_of_rank, int rank, int64_t width);

std::unique_ptr<TensorGroup> make_shared_tensor_group(const Communicator& communicator, PhaseTimer& timer);
std::unique_ptr<TensorGroup> make_mpi_tensor_group(const Communicator& communicator, PhaseTimer& timer);
std::unique_ptr<TensorGroup> make_nccl_tensor_group(const Communicator& communicator, PhaseTimer& timer,
                                                    device::Stream& stream);

/// Between GPUs, enqueued. `rows`: those of all ranks, by rank, of which this one's are there; then all are.
void gather_rows(void* rows, size_t row_bytes, std::span<const int64_t> rows_of_rank, GpuCommunicator& gpus,
                 device::GpuQueue& queue);
/// partials: this rank's sums of the rows of all ranks, by rank. received [size, own rows]: what the others
/// have of this rank's rows, by rank; its own place is left alone.
void scatter_partials(const float* partials, size_t row_bytes, std::span<const int64_t> rows_of_rank,
                      float* received, GpuCommunicator& gpus, device::GpuQueue& queue);

}  // namespace mixserve::comm
