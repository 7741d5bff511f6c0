#include "comm/pipeline_link.h"

#include <array>
#include <vector>

#include "comm/mpi.h"

namespace mixserve::comm {
namespace {
constexpr int tag_rows = 81;
}

struct PipelineLink::Slots {
    struct Slot {
        std::vector<float> rows;
        MPI_Request request = MPI_REQUEST_NULL;
    };
    std::array<Slot, 2> slots;
    size_t next = 0;
};

PipelineLink::PipelineLink(const Topology& topology)
    : lane_(topology.lane),
      stage_(topology.n_nodes - 1 - topology.node_index),
      n_stages_(topology.n_nodes),
      slots_(std::make_unique<Slots>()) {}

PipelineLink::~PipelineLink() {
    if (!may_wait_for_others()) {
        static_cast<void>(slots_.release());  // a send may still read from it
        return;
    }
    for (auto& slot : slots_->slots) {
        if (slot.request != MPI_REQUEST_NULL) MPI_Wait(&slot.request, MPI_STATUS_IGNORE);
    }
}

void PipelineLink::send(std::span<const float> rows) {
    auto& slot = slots_->slots[slots_->next];
    slots_->next = 1 - slots_->next;
    call_mpi("MPI_Wait", MPI_Wait, &slot.request, MPI_STATUS_IGNORE);
    slot.rows.assign(rows.begin(), rows.end());
    check_mpi(MPI_Isend(slot.rows.data(), mpi_int(static_cast<int64_t>(rows.size()), "MPI_Isend"), MPI_FLOAT,
                        lane_.rank() - 1, tag_rows, raw(lane_), &slot.request),
              "MPI_Isend");
}

void PipelineLink::receive(std::span<float> rows) {
    call_mpi("MPI_Recv", MPI_Recv, rows.data(), mpi_int(static_cast<int64_t>(rows.size()), "MPI_Recv"),
             MPI_FLOAT, lane_.rank() + 1, tag_rows, raw(lane_), MPI_STATUS_IGNORE);
}

}  // namespace mixserve::comm
