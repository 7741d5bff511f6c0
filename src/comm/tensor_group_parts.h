#pragma once

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

}  // namespace mixserve::comm
