#include "comm/communicator.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "comm/mpi.h"

namespace mixserve::comm {
namespace {

// A message longer than this goes in pieces; the first piece that is shorter ends it.
constexpr int64_t piece_bytes = int64_t{1} << 30;
constexpr int gather_tag = 32001;
constexpr int scatter_tag = 32002;

MPI_Op mpi_op(ReduceOp op) {
    switch (op) {
        case ReduceOp::sum:
            return MPI_SUM;
        case ReduceOp::min:
            return MPI_MIN;
        case ReduceOp::max:
            return MPI_MAX;
    }
    fail("unknown reduction {}", static_cast<int>(op));
}

}  // namespace

Communicator::Communicator(std::unique_ptr<Handle> handle) : handle_(std::move(handle)) {}
Communicator::Communicator(Communicator&&) noexcept = default;

Communicator& Communicator::operator=(Communicator&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
}

Communicator::~Communicator() {
    if (handle_ && handle_->owned && may_wait_for_others()) MPI_Comm_free(&handle_->comm);
}

Communicator Communicator::world() {
    require(mpi_is_running(), "MPI is not initialised");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    return Communicator(std::make_unique<Handle>(Handle{MPI_COMM_WORLD, false}));
}

int Communicator::rank() const {
    int rank = 0;
    check_mpi(MPI_Comm_rank(handle_->comm, &rank), "MPI_Comm_rank");
    return rank;
}

int Communicator::size() const {
    int size = 0;
    check_mpi(MPI_Comm_size(handle_->comm, &size), "MPI_Comm_size");
    return size;
}

Communicator Communicator::split(int color, int key) const {
    auto handle = std::make_unique<Handle>(Handle{MPI_COMM_NULL, true});
    call_mpi("MPI_Comm_split", MPI_Comm_split, handle_->comm, color, key, &handle->comm);
    MPI_Comm_set_errhandler(handle->comm, MPI_ERRORS_RETURN);
    return Communicator(std::move(handle));
}

Communicator Communicator::split_shared_memory() const {
    auto handle = std::make_unique<Handle>(Handle{MPI_COMM_NULL, true});
    call_mpi("MPI_Comm_split_type", MPI_Comm_split_type, handle_->comm, MPI_COMM_TYPE_SHARED, rank(),
             MPI_INFO_NULL, &handle->comm);
    MPI_Comm_set_errhandler(handle->comm, MPI_ERRORS_RETURN);
    return Communicator(std::move(handle));
}

void Communicator::barrier() const {
    call_mpi("MPI_Barrier", MPI_Barrier, handle_->comm);
}

void Communicator::broadcast(std::span<std::byte> bytes, int root) const {
    const auto n_bytes = static_cast<int64_t>(bytes.size());
    for (int64_t at = 0; at < n_bytes; at += piece_bytes) {
        const int64_t n = std::min(piece_bytes, n_bytes - at);
        call_mpi("MPI_Bcast", MPI_Bcast, bytes.data() + at, static_cast<int>(n), MPI_BYTE, root,
                 handle_->comm);
    }
}

void Communicator::broadcast_resize(std::vector<std::byte>& bytes, int root) const {
    auto n_bytes = static_cast<int64_t>(bytes.size());
    call_mpi("MPI_Bcast", MPI_Bcast, &n_bytes, 1, MPI_INT64_T, root, handle_->comm);
    bytes.resize(static_cast<size_t>(n_bytes));
    broadcast(bytes, root);
}

std::vector<std::vector<std::byte>> Communicator::gather(std::span<const std::byte> bytes, int root) const {
    std::vector<std::vector<std::byte>> parts;
    if (rank() != root) {
        send(bytes, root, gather_tag);
        return parts;
    }
    parts.resize(static_cast<size_t>(size()));
    for (int from = 0; from < size(); ++from) {
        auto& part = parts[static_cast<size_t>(from)];
        part = from == root ? std::vector<std::byte>(bytes.begin(), bytes.end()) : receive(from, gather_tag);
    }
    return parts;
}

std::vector<std::byte> Communicator::scatter(std::span<const std::vector<std::byte>> parts, int root) const {
    if (rank() != root) return receive(root, scatter_tag);
    require(static_cast<int>(parts.size()) == size(), "scatter: {} parts for {} ranks", parts.size(), size());
    for (int to = 0; to < size(); ++to) {
        if (to != root) send(parts[static_cast<size_t>(to)], to, scatter_tag);
    }
    return parts[static_cast<size_t>(root)];
}

void Communicator::all_reduce(std::span<int64_t> values, ReduceOp op) const {
    call_mpi("MPI_Allreduce", MPI_Allreduce, MPI_IN_PLACE, values.data(),
             mpi_int(static_cast<int64_t>(values.size()), "MPI_Allreduce"), MPI_INT64_T, mpi_op(op),
             handle_->comm);
}

void Communicator::all_reduce(std::span<double> values, ReduceOp op) const {
    call_mpi("MPI_Allreduce", MPI_Allreduce, MPI_IN_PLACE, values.data(),
             mpi_int(static_cast<int64_t>(values.size()), "MPI_Allreduce"), MPI_DOUBLE, mpi_op(op),
             handle_->comm);
}

std::vector<int64_t> Communicator::all_gather(int64_t value) const {
    std::vector<int64_t> values(static_cast<size_t>(size()));
    call_mpi("MPI_Allgather", MPI_Allgather, &value, 1, MPI_INT64_T, values.data(), 1, MPI_INT64_T,
             handle_->comm);
    return values;
}

std::vector<std::string> Communicator::all_gather(const std::string& text) const {
    const std::vector<int64_t> lengths = all_gather(static_cast<int64_t>(text.size()));
    std::vector<int> counts;
    std::vector<int> offsets;
    int64_t total = 0;
    for (const int64_t length : lengths) {
        counts.push_back(mpi_int(length, "MPI_Allgatherv"));
        offsets.push_back(mpi_int(total, "MPI_Allgatherv"));
        total += length;
    }
    std::string all(static_cast<size_t>(total), '\0');
    call_mpi("MPI_Allgatherv", MPI_Allgatherv, text.data(),
             mpi_int(static_cast<int64_t>(text.size()), "MPI_Allgatherv"), MPI_CHAR, all.data(),
             counts.data(), offsets.data(), MPI_CHAR, handle_->comm);
    std::vector<std::string> texts;
    for (size_t r = 0; r < lengths.size(); ++r) {
        texts.push_back(all.substr(static_cast<size_t>(offsets[r]), static_cast<size_t>(counts[r])));
    }
    return texts;
}

void Communicator::send(std::span<const std::byte> bytes, int to, int tag) const {
    const auto n_bytes = static_cast<int64_t>(bytes.size());
    int64_t at = 0;
    int64_t n = piece_bytes;
    while (n == piece_bytes) {
        n = std::min(piece_bytes, n_bytes - at);
        call_mpi("MPI_Send", MPI_Send, bytes.data() + at, static_cast<int>(n), MPI_BYTE, to, tag,
                 handle_->comm);
        at += n;
    }
}

std::vector<std::byte> Communicator::receive(int from, int tag) const {
    std::vector<std::byte> bytes;
    int64_t n = piece_bytes;
    while (n == piece_bytes) {
        MPI_Message message = MPI_MESSAGE_NULL;
        MPI_Status status;
        call_mpi("MPI_Mprobe", MPI_Mprobe, from, tag, handle_->comm, &message, &status);
        int count = 0;
        check_mpi(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
        n = count;
        const size_t at = bytes.size();
        bytes.resize(at + static_cast<size_t>(n));
        call_mpi("MPI_Mrecv", MPI_Mrecv, bytes.data() + at, count, MPI_BYTE, &message, MPI_STATUS_IGNORE);
    }
    return bytes;
}

}  // namespace mixserve::comm
