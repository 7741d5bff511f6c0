#include "comm/shared_memory.h"

#include <algorithm>
#include <new>

#include "comm/mpi.h"

namespace mixserve::comm {
namespace {

constexpr int64_t page = 4096;
constexpr int64_t round_to_page(int64_t n) {
    return (n + page - 1) / page * page;
}

}  // namespace

struct SharedSegments::Window {
    MPI_Win window = MPI_WIN_NULL;
    ~Window() {
        if (window != MPI_WIN_NULL && may_wait_for_others()) MPI_Win_free(&window);
    }
};

SharedSegments::SharedSegments(const Communicator& group, int64_t bytes_per_rank) : group_(group) {
    allocate(bytes_per_rank);
}

SharedSegments::~SharedSegments() = default;

void SharedSegments::reserve(int64_t bytes_per_rank) {
    if (bytes_per_rank <= bytes_per_rank_) return;
    const int64_t grown = std::max(bytes_per_rank, bytes_per_rank_ + bytes_per_rank_ / 2);
    window_.reset();
    allocate(grown);
}

void SharedSegments::allocate(int64_t bytes_per_rank) {
    bytes_per_rank_ = std::max(page, round_to_page(bytes_per_rank));
    window_ = std::make_unique<Window>();
    MPI_Info info = MPI_INFO_NULL;
    check_mpi(MPI_Info_create(&info), "MPI_Info_create");
    MPI_Info_set(info, "alloc_shared_noncontig", "true");
    void* mine = nullptr;
    const WaitScope waiting("MPI_Win_allocate_shared");
    const int code =
        MPI_Win_allocate_shared(bytes_per_rank_ + page, 1, info, raw(group_), &mine, &window_->window);
    MPI_Info_free(&info);
    check_mpi(code, "MPI_Win_allocate_shared");
    MPI_Win_set_errhandler(window_->window, MPI_ERRORS_RETURN);
    segments_.resize(static_cast<size_t>(group_.size()));
    for (int r = 0; r < group_.size(); ++r) {
        MPI_Aint size = 0;
        int unit = 0;
        void* base = nullptr;
        check_mpi(MPI_Win_shared_query(window_->window, r, &size, &unit, &base), "MPI_Win_shared_query");
        // MPI aligns to little more than a word. Ranks map whole pages, so all of them round alike.
        const auto address = reinterpret_cast<int64_t>(base);
        segments_[static_cast<size_t>(r)] =
            static_cast<std::byte*>(base) + (round_to_page(address) - address);
    }
}

SharedBarrier::SharedBarrier(const Communicator& group)
    : memory_(group, sizeof(State)), size_(static_cast<uint32_t>(group.size())) {
    std::byte* at = memory_.segment(0);
    if (group.rank() == 0) {
        state_ = new (at) State;
        state_->n_arrived.store(0);
        state_->generation.store(0);
    } else {
        state_ = std::launder(reinterpret_cast<State*>(at));
    }
    group.barrier();
}

uint32_t SharedBarrier::arrive() {
    const uint32_t generation = state_->generation.load(std::memory_order_acquire);
    if (state_->n_arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
        state_->n_arrived.store(0, std::memory_order_relaxed);
        state_->generation.fetch_add(1, std::memory_order_release);
    }
    return generation;
}

}  // namespace mixserve::comm
