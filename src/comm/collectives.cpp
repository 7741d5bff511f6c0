#include "comm/collectives.h"

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "comm/mpi.h"

namespace mixserve::comm {
namespace {

int count_of(std::span<const float> values, const char* call) {
    return mpi_int(static_cast<int64_t>(values.size()), call);
}

}  // namespace

void all_reduce_sum(std::span<float> values, const Communicator& communicator) {
    call_mpi("MPI_Allreduce", MPI_Allreduce, MPI_IN_PLACE, values.data(), count_of(values, "MPI_Allreduce"),
             MPI_FLOAT, MPI_SUM, raw(communicator));
}

void reduce_scatter_sum(std::span<const float> values, std::span<float> part,
                        const Communicator& communicator) {
    require(values.size() == part.size() * static_cast<size_t>(communicator.size()),
            "reduce-scatter of uneven parts");
    call_mpi("MPI_Reduce_scatter_block", MPI_Reduce_scatter_block, values.data(), part.data(),
             count_of(part, "MPI_Reduce_scatter_block"), MPI_FLOAT, MPI_SUM, raw(communicator));
}

void all_gather(std::span<const float> part, std::span<float> all, const Communicator& communicator) {
    require(all.size() == part.size() * static_cast<size_t>(communicator.size()),
            "all-gather of uneven parts");
    const int count = count_of(part, "MPI_Allgather");
    call_mpi("MPI_Allgather", MPI_Allgather, part.data(), count, MPI_FLOAT, all.data(), count, MPI_FLOAT,
             raw(communicator));
}

void all_to_all(std::span<const float> sent, std::span<float> received, const Communicator& communicator) {
    const auto n_ranks = static_cast<size_t>(communicator.size());
    require(sent.size() == received.size() && sent.size() % n_ranks == 0, "all-to-all of uneven parts");
    const int count = mpi_int(static_cast<int64_t>(sent.size() / n_ranks), "MPI_Alltoall");
    call_mpi("MPI_Alltoall", MPI_Alltoall, sent.data(), count, MPI_FLOAT, received.data(), count, MPI_FLOAT,
             raw(communicator));
}

void send_receive(std::span<const float> sent, int to, std::span<float> received, int from,
                  const Communicator& communicator) {
    constexpr int tag = 3;
    call_mpi("MPI_Sendrecv", MPI_Sendrecv, sent.data(), count_of(sent, "MPI_Sendrecv"), MPI_FLOAT, to, tag,
             received.data(), count_of(received, "MPI_Sendrecv"), MPI_FLOAT, from, tag, raw(communicator),
             MPI_STATUS_IGNORE);
}

void exchange_bytes(std::span<const int64_t> bytes_to, std::span<const int64_t> bytes_from,
                    int64_t message_bytes, std::span<const std::byte> sent, std::span<std::byte> received,
                    const Communicator& communicator) {
    constexpr int tag = 4;
    std::vector<MPI_Request> requests;
    std::byte* into = received.data();
    for (int r = 0; r < communicator.size(); ++r) {
        const int64_t n_bytes = r == communicator.rank() ? 0 : bytes_from[static_cast<size_t>(r)];
        require(into + n_bytes <= received.data() + received.size(),
                "exchange of more bytes than there is room for");
        for (int64_t at = 0; at < n_bytes; at += message_bytes) {
            const int count = mpi_int(std::min(message_bytes, n_bytes - at), "MPI_Irecv");
            check_mpi(MPI_Irecv(into + at, count, MPI_BYTE, r, tag, raw(communicator),
                                &requests.emplace_back(MPI_REQUEST_NULL)),
                      "MPI_Irecv");
        }
        into += n_bytes;
    }
    for (int r = 0; r < communicator.size(); ++r) {
        const int64_t n_bytes = r == communicator.rank() ? 0 : bytes_to[static_cast<size_t>(r)];
        require(static_cast<size_t>(n_bytes) <= sent.size(), "exchange of more bytes than there are");
        for (int64_t at = 0; at < n_bytes; at += message_bytes) {
            const int count = mpi_int(std::min(message_bytes, n_bytes - at), "MPI_Isend");
            check_mpi(MPI_Isend(sent.data() + at, count, MPI_BYTE, r, tag, raw(communicator),
                                &requests.emplace_back(MPI_REQUEST_NULL)),
                      "MPI_Isend");
        }
    }
    call_mpi("MPI_Waitall", MPI_Waitall, static_cast<int>(requests.size()), requests.data(),
             MPI_STATUSES_IGNORE);
}

}  // namespace mixserve::comm
