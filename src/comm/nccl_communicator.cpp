// The border by NCCL, loaded when it is first asked for: a program that computes on CPUs does not need it.

#include <dlfcn.h>
#include <nccl.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <exception>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/heartbeat.h"
#include "comm/agree.h"
#include "comm/gpu_communicator.h"
#include "comm/mpi.h"

namespace mixserve::comm {
namespace {

/// The functions that are used of it. `error` is empty when all were found.
struct Library {
    decltype(&ncclGetUniqueId) get_unique_id = nullptr;
    decltype(&ncclGetErrorString) error_string = nullptr;
    decltype(&ncclGetLastError) last_error = nullptr;
    decltype(&ncclCommInitRank) init_rank = nullptr;
    decltype(&ncclCommDestroy) destroy = nullptr;
    decltype(&ncclCommAbort) abort = nullptr;
    decltype(&ncclCommGetAsyncError) async_error = nullptr;
    decltype(&ncclAllGather) all_gather = nullptr;
    decltype(&ncclAllReduce) all_reduce = nullptr;
    decltype(&ncclReduceScatter) reduce_scatter = nullptr;
    decltype(&ncclSend) send = nullptr;
    decltype(&ncclRecv) receive = nullptr;
    decltype(&ncclGroupStart) group_start = nullptr;
    decltype(&ncclGroupEnd) group_end = nullptr;
    std::string error;

    Library() {
        constexpr const char* name = "libnccl.so.2";
        void* file = dlopen(name, RTLD_NOW | RTLD_LOCAL);
        if (file == nullptr) {
            const std::string why = dlerror();
            if (std::string_view(MIXSERVE_NCCL_PATH) != "") file = dlopen(MIXSERVE_NCCL_PATH, RTLD_NOW);
            if (file == nullptr) {
                error = fmt::format(
                    "NCCL cannot be loaded ({}): install it (Debian's libnccl2, NVIDIA's NCCL, a module of "
                    "the cluster, or pip's nvidia-nccl-cu13) and put its folder on LD_LIBRARY_PATH",
                    why);
                return;
            }
        }
        load(file, "ncclGetUniqueId", get_unique_id);
        load(file, "ncclGetErrorString", error_string);
        load(file, "ncclGetLastError", last_error);
        load(file, "ncclCommInitRank", init_rank);
        load(file, "ncclCommDestroy", destroy);
        load(file, "ncclCommAbort", abort);
        load(file, "ncclCommGetAsyncError", async_error);
        load(file, "ncclAllGather", all_gather);
        load(file, "ncclAllReduce", all_reduce);
        load(file, "ncclReduceScatter", reduce_scatter);
        load(file, "ncclSend", send);
        load(file, "ncclRecv", receive);
        load(file, "ncclGroupStart", group_start);
        load(file, "ncclGroupEnd", group_end);
    }

  private:
    template <class Function>
    void load(void* file, const char* name, Function& function) {
        function = reinterpret_cast<Function>(dlsym(file, name));
        if (function == nullptr && error.empty())
            error = fmt::format("the NCCL that was found has no {}: install 2.13 or later", name);
    }
};

const Library& library() {
    static const Library the_library;
    return the_library;
}

const char* remedy_of(ncclResult_t code) {
    switch (code) {
        case ncclSystemError:
            return "look at the network between the hosts (NCCL_SOCKET_IFNAME and NCCL_IB_HCA choose it) and "
                   "at the size of /dev/shm; NCCL_DEBUG=WARN says more";
        case ncclRemoteError:
            return "another rank has ended or cannot be reached: look at what it printed";
        case ncclInvalidUsage:
            return "each rank needs a GPU of its own and all the same NCCL; --gpu-transport host does "
                   "without";
        case ncclUnhandledCudaError:
            return "a CUDA call inside NCCL failed: the GPU may be full or its link down; NCCL_DEBUG=WARN "
                   "names it";
        default:
            return "NCCL_DEBUG=WARN says more; --gpu-transport host does without NCCL";
    }
}

}  // namespace

struct GpuCommunicator::Impl {
    std::string name;
    int rank = 0;
    int size = 1;
    int world_rank = 0;
    ncclComm_t comm = nullptr;

    std::string text_of(ncclResult_t code, const char* call) const {
        return fmt::format("{} on the NCCL communicator '{}', rank {} of {} (world rank {}): {} ({}); {}",
                           call, name, rank, size, world_rank, library().error_string(code),
                           library().last_error(comm), remedy_of(code));
    }
    void check(ncclResult_t code, const char* call) const {
        if (code != ncclSuccess) fail("{}", text_of(code, call));
    }

    ~Impl();
};

namespace {

/// Looks every half second whether any communicator of this process has failed since.
class Monitor {
  public:
    using Impl = GpuCommunicator::Impl;

    void add(const Impl* communicator) {
        const std::scoped_lock lock(mutex_);
        watched_.insert(communicator);
        if (!thread_.joinable()) thread_ = std::thread([this] { watch(); });
    }
    void remove(const Impl* communicator) {
        std::thread ended;
        {
            const std::scoped_lock lock(mutex_);
            watched_.erase(communicator);
            if (watched_.empty()) ended = std::move(thread_);
        }
        changed_.notify_all();
        if (ended.joinable()) ended.join();
    }

  private:
    void watch() {
        std::unique_lock lock(mutex_);
        while (!watched_.empty()) {
            changed_.wait_for(lock, std::chrono::milliseconds(500));
            for (const Impl* communicator : watched_) {
                ncclResult_t code = ncclSuccess;
                if (library().async_error(communicator->comm, &code) != ncclSuccess) continue;
                if (code != ncclSuccess && code != ncclInProgress)
                    end_job(communicator->text_of(code, "a call"));
            }
        }
    }

    // What the queues hold may never end, and what they compute from here on is worthless, so that no row may
    // be made of it: the process ends here and now, and the launcher ends the others, as with the watchdog.
    [[noreturn]] static void end_job(const std::string& text) {
        const std::string line = fmt::format("mixserve: the job ends: {}\n", text);
        std::fputs(line.c_str(), stderr);
        std::fflush(stderr);
        _exit(exit_failure);
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    std::set<const Impl*> watched_;
    std::thread thread_;
};

Monitor& monitor() {
    static Monitor& the_monitor = *new Monitor;
    return the_monitor;
}

}  // namespace

GpuCommunicator::Impl::~Impl() {
    if (comm == nullptr) return;
    monitor().remove(this);
    // Destroying waits for what is enqueued, and so for others, which a rank that fails is not to add to.
    // (What it has freed before may have waited: until the others, whose operations are matched, have ended.)
    if (may_wait_for_others()) {
        library().destroy(comm);
    } else {
        library().abort(comm);
    }
}

std::string why_no_nccl() {
    return library().error;
}

GpuCommunicator::GpuCommunicator(const Communicator& ranks, std::string name)
    : impl_(std::make_unique<Impl>()) {
    impl_->name = std::move(name);
    impl_->rank = ranks.rank();
    impl_->size = ranks.size();
    impl_->world_rank = Communicator::world().rank();
    const Library& nccl = library();
    ncclUniqueId id{};
    agree(ranks, [&] {
        require(nccl.error.empty(), "{}", nccl.error);
        if (impl_->rank == 0) impl_->check(nccl.get_unique_id(&id), "ncclGetUniqueId");
    });
    ranks.broadcast(std::as_writable_bytes(std::span(&id, 1)), 0);
    {
        const WaitScope waiting("ncclCommInitRank");
        impl_->check(nccl.init_rank(&impl_->comm, impl_->size, id, impl_->rank), "ncclCommInitRank");
    }
    monitor().add(impl_.get());
}
GpuCommunicator::~GpuCommunicator() = default;
GpuCommunicator::GpuCommunicator(GpuCommunicator&&) noexcept = default;
GpuCommunicator& GpuCommunicator::operator=(GpuCommunicator&&) noexcept = default;

int GpuCommunicator::rank() const {
    return impl_->rank;
}
int GpuCommunicator::size() const {
    return impl_->size;
}

void GpuCommunicator::all_gather(const void* part, size_t n_bytes, void* all, device::GpuQueue& queue) {
    impl_->check(library().all_gather(part, all, n_bytes, ncclInt8, impl_->comm,
                                      static_cast<cudaStream_t>(queue.handle())),
                 "ncclAllGather");
}

void GpuCommunicator::all_reduce_sum(float* values, int64_t n, device::GpuQueue& queue) {
    impl_->check(library().all_reduce(values, values, static_cast<size_t>(n), ncclFloat32, ncclSum,
                                      impl_->comm, static_cast<cudaStream_t>(queue.handle())),
                 "ncclAllReduce");
}

void GpuCommunicator::reduce_scatter_sum(const float* values, int64_t n, float* part,
                                         device::GpuQueue& queue) {
    impl_->check(library().reduce_scatter(values, part, static_cast<size_t>(n), ncclFloat32, ncclSum,
                                          impl_->comm, static_cast<cudaStream_t>(queue.handle())),
                 "ncclReduceScatter");
}

void GpuCommunicator::exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives,
                               device::GpuQueue& queue) {
    const Library& nccl = library();
    auto* const stream = static_cast<cudaStream_t>(queue.handle());
    impl_->check(nccl.group_start(), "ncclGroupStart");
    for (const Outgoing& out : sends) {
        if (out.n_bytes > 0)
            impl_->check(nccl.send(out.data, out.n_bytes, ncclInt8, out.to, impl_->comm, stream), "ncclSend");
    }
    for (const Incoming& in : receives) {
        if (in.n_bytes > 0)
            impl_->check(nccl.receive(in.data, in.n_bytes, ncclInt8, in.from, impl_->comm, stream),
                         "ncclRecv");
    }
    impl_->check(nccl.group_end(), "ncclGroupEnd");
}

}  // namespace mixserve::comm
