// NCCL's border over MPI, for ranks that each emulate a GPU. A call is work in its queue like any other: it
// posts its messages when the queue gets to it, and the queue stands still there until all have come. As with
// NCCL, the calls on one communicator follow each other, whichever queues they are in.

#include <mpi.h>

#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"
#include "comm/gpu_communicator.h"
#include "comm/mpi.h"
#include "emulator/device_memory.h"

namespace mixserve::comm {
namespace {

constexpr int message_tag = 7;

/// One call. Its messages lie in the host's memory on the way, since MPI may copy from inside any of its
/// calls.
struct Call {
    struct Send {
        int to;
        const void* data;
        std::vector<std::byte> bytes;
    };
    struct Receive {
        int from;
        std::vector<std::byte> bytes;
    };
    std::vector<Send> sends;
    std::vector<Receive> receives;
    std::function<void(Call&)> finish;  // when all has come
    std::vector<MPI_Request> requests;
    bool is_posted = false;
};

}  // namespace

struct GpuCommunicator::Impl {
    Communicator ranks;
    std::string name;
    uint64_t n_calls = 0;
    std::shared_ptr<uint64_t> n_done = std::make_shared<uint64_t>(0);

    void enqueue(Call call, device::GpuQueue& queue) {
        emulator::enqueue_waiting_work(queue, [call = std::move(call), number = n_calls++, done = n_done,
                                               comm = raw(ranks)]() mutable {
            if (*done != number) return false;
            if (!call.is_posted) {
                call.is_posted = true;
                for (Call::Receive& receive : call.receives)
                    MPI_Irecv(receive.bytes.data(), static_cast<int>(receive.bytes.size()), MPI_BYTE,
                              receive.from, message_tag, comm, &call.requests.emplace_back(MPI_REQUEST_NULL));
                for (Call::Send& send : call.sends) {
                    std::memcpy(send.bytes.data(), send.data, send.bytes.size());
                    MPI_Isend(send.bytes.data(), static_cast<int>(send.bytes.size()), MPI_BYTE, send.to,
                              message_tag, comm, &call.requests.emplace_back(MPI_REQUEST_NULL));
                }
            }
            int all_done = 0;
            MPI_Testall(static_cast<int>(call.requests.size()), call.requests.data(), &all_done,
                        MPI_STATUSES_IGNORE);
            if (all_done == 0) return false;
            call.finish(call);
            ++*done;
            return true;
        });
    }
};

std::string why_no_nccl() {
    return "";
}

GpuCommunicator::GpuCommunicator(const Communicator& ranks, std::string name)
    : impl_(std::make_unique<Impl>(Impl{ranks.split(0, ranks.rank()), std::move(name)})) {}
GpuCommunicator::~GpuCommunicator() {
    if (impl_ && may_wait_for_others()) emulator::run_all_queues();  // what is enqueued uses it
}
GpuCommunicator::GpuCommunicator(GpuCommunicator&&) noexcept = default;
GpuCommunicator& GpuCommunicator::operator=(GpuCommunicator&&) noexcept = default;
int GpuCommunicator::rank() const {
    return impl_->ranks.rank();
}
int GpuCommunicator::size() const {
    return impl_->ranks.size();
}

void GpuCommunicator::all_gather(const void* part, size_t n_bytes, void* all, device::GpuQueue& queue) {
    Call call;
    for (int r = 0; r < size(); ++r) {
        if (r == rank()) continue;
        call.sends.push_back({r, part, std::vector<std::byte>(n_bytes)});
        call.receives.push_back({r, std::vector<std::byte>(n_bytes)});
    }
    call.finish = [=, own = rank()](Call& done) {
        auto* bytes = static_cast<std::byte*>(all);
        std::memmove(bytes + static_cast<size_t>(own) * n_bytes, part, n_bytes);
        for (const Call::Receive& receive : done.receives)
            std::memcpy(bytes + static_cast<size_t>(receive.from) * n_bytes, receive.bytes.data(), n_bytes);
    };
    impl_->enqueue(std::move(call), queue);
}

// Every rank's values go to all of them, and each adds them in another order, as NCCL's own is not promised.
void GpuCommunicator::all_reduce_sum(float* values, int64_t n, device::GpuQueue& queue) {
    Call call;
    const size_t n_bytes = static_cast<size_t>(n) * sizeof(float);
    for (int i = 1; i < size(); ++i) {
        const int r = (rank() + i) % size();
        call.sends.push_back({r, values, std::vector<std::byte>(n_bytes)});
        call.receives.push_back({r, std::vector<std::byte>(n_bytes)});
    }
    call.finish = [=](Call& done) {
        for (const Call::Receive& receive : done.receives) {
            const auto* theirs = reinterpret_cast<const float*>(receive.bytes.data());
            for (int64_t i = 0; i < n; ++i)
                values[i] += theirs[i];
        }
    };
    impl_->enqueue(std::move(call), queue);
}

void GpuCommunicator::reduce_scatter_sum(const float* values, int64_t n, float* part,
                                         device::GpuQueue& queue) {
    Call call;
    const size_t n_bytes = static_cast<size_t>(n) * sizeof(float);
    for (int i = 1; i < size(); ++i) {
        const int r = (rank() + i) % size();
        call.sends.push_back({r, values + r * n, std::vector<std::byte>(n_bytes)});
        call.receives.push_back({r, std::vector<std::byte>(n_bytes)});
    }
    call.finish = [=, own = rank()](Call& done) {
        std::memmove(part, values + own * n, n_bytes);
        for (const Call::Receive& receive : done.receives) {
            const auto* theirs = reinterpret_cast<const float*>(receive.bytes.data());
            for (int64_t i = 0; i < n; ++i)
                part[i] += theirs[i];
        }
    };
    impl_->enqueue(std::move(call), queue);
}

void GpuCommunicator::exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives,
                               device::GpuQueue& queue) {
    Call call;
    std::vector<void*> targets;
    for (const Outgoing& out : sends) {
        require(out.to != rank(), "the emulated communicator {} sends to itself", impl_->name);
        if (out.n_bytes > 0) call.sends.push_back({out.to, out.data, std::vector<std::byte>(out.n_bytes)});
    }
    for (const Incoming& in : receives) {
        if (in.n_bytes == 0) continue;
        call.receives.push_back({in.from, std::vector<std::byte>(in.n_bytes)});
        targets.push_back(in.data);
    }
    call.finish = [targets = std::move(targets)](Call& done) {
        for (size_t i = 0; i < targets.size(); ++i)
            std::memcpy(targets[i], done.receives[i].bytes.data(), done.receives[i].bytes.size());
    };
    impl_->enqueue(std::move(call), queue);
}

}  // namespace mixserve::comm

// A GPU runs on while its host waits in MPI; the emulated one has only the host's thread. So whatever waits
// for other ranks first lets it finish. (What sends does not wait.)
#define MIXSERVE_WAITS(name, parameters, arguments) \
    extern "C" int MPI_##name parameters {          \
        mixserve::emulator::run_all_queues();       \
        return PMPI_##name arguments;               \
    }
MIXSERVE_WAITS(Barrier, (MPI_Comm comm), (comm))
MIXSERVE_WAITS(Bcast, (void* data, int n, MPI_Datatype type, int root, MPI_Comm comm),
               (data, n, type, root, comm))
MIXSERVE_WAITS(Allreduce, (const void* in, void* out, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm),
               (in, out, n, type, op, comm))
MIXSERVE_WAITS(Allgather,
               (const void* in, int n_in, MPI_Datatype type_in, void* out, int n_out, MPI_Datatype type_out,
                MPI_Comm comm),
               (in, n_in, type_in, out, n_out, type_out, comm))
MIXSERVE_WAITS(Allgatherv,
               (const void* in, int n_in, MPI_Datatype type_in, void* out, const int n_out[],
                const int offsets[], MPI_Datatype type_out, MPI_Comm comm),
               (in, n_in, type_in, out, n_out, offsets, type_out, comm))
MIXSERVE_WAITS(Alltoall,
               (const void* in, int n_in, MPI_Datatype type_in, void* out, int n_out, MPI_Datatype type_out,
                MPI_Comm comm),
               (in, n_in, type_in, out, n_out, type_out, comm))
MIXSERVE_WAITS(Alltoallv,
               (const void* in, const int n_in[], const int in_offsets[], MPI_Datatype type_in, void* out,
                const int n_out[], const int out_offsets[], MPI_Datatype type_out, MPI_Comm comm),
               (in, n_in, in_offsets, type_in, out, n_out, out_offsets, type_out, comm))
MIXSERVE_WAITS(Reduce_scatter_block,
               (const void* in, void* out, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm),
               (in, out, n, type, op, comm))
MIXSERVE_WAITS(Sendrecv,
               (const void* in, int n_in, MPI_Datatype type_in, int to, int tag_to, void* out, int n_out,
                MPI_Datatype type_out, int from, int tag_from, MPI_Comm comm, MPI_Status* status),
               (in, n_in, type_in, to, tag_to, out, n_out, type_out, from, tag_from, comm, status))
MIXSERVE_WAITS(Recv,
               (void* data, int n, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Status* status),
               (data, n, type, from, tag, comm, status))
MIXSERVE_WAITS(Mprobe, (int from, int tag, MPI_Comm comm, MPI_Message* message, MPI_Status* status),
               (from, tag, comm, message, status))
MIXSERVE_WAITS(Wait, (MPI_Request * request, MPI_Status* status), (request, status))
MIXSERVE_WAITS(Waitall, (int n, MPI_Request requests[], MPI_Status statuses[]), (n, requests, statuses))
MIXSERVE_WAITS(Comm_split, (MPI_Comm comm, int color, int key, MPI_Comm* out), (comm, color, key, out))
MIXSERVE_WAITS(Comm_split_type, (MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm* out),
               (comm, type, key, info, out))
MIXSERVE_WAITS(Win_allocate_shared,
               (MPI_Aint n_bytes, int unit, MPI_Info info, MPI_Comm comm, void* base, MPI_Win* window),
               (n_bytes, unit, info, comm, base, window))
MIXSERVE_WAITS(Win_free, (MPI_Win * window), (window))
MIXSERVE_WAITS(Comm_free, (MPI_Comm * comm), (comm))
MIXSERVE_WAITS(Finalize, (void), ())
