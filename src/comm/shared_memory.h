#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "base/heartbeat.h"
#include "comm/communicator.h"

namespace mixserve::comm {

/// Waits in a loop: a moment of spinning, since the others usually arrive within microseconds, then giving
/// the core away, since ranks may outnumber cores.
class Backoff {
  public:
    void pause() {
        if (n_spins_ < max_spins) {
            ++n_spins_;
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        } else {
            std::this_thread::yield();
        }
    }

  private:
    static constexpr int max_spins = 64;
    int n_spins_ = 0;
};

/// A segment of memory for each rank of a group on one machine, which all of them read and write. Each
/// segment's pages are first touched, and so placed, by whoever writes them first.
class SharedSegments {
  public:
    /// Collective. The communicator is borrowed, and all its ranks share memory.
    SharedSegments(const Communicator& group, int64_t bytes_per_rank);
    ~SharedSegments();
    SharedSegments(const SharedSegments&) = delete;
    SharedSegments& operator=(const SharedSegments&) = delete;

    /// Collective, with the same size on all ranks: each segment has at least `bytes_per_rank` afterwards.
    /// Whatever they held is lost when they grow, and growing waits for all ranks.
    void reserve(int64_t bytes_per_rank);
    int64_t bytes_per_rank() const { return bytes_per_rank_; }
    std::byte* segment(int rank) const { return segments_[static_cast<size_t>(rank)]; }

  private:
    struct Window;
    void allocate(int64_t bytes_per_rank);

    const Communicator& group_;
    std::unique_ptr<Window> window_;
    std::vector<std::byte*> segments_;
    int64_t bytes_per_rank_ = 0;
};

/// A barrier of the ranks on one machine, on a counter and a generation in shared memory.
class SharedBarrier {
  public:
    explicit SharedBarrier(const Communicator& group);

    void wait() {
        wait([] {});
    }
    /// Calls `progress` again and again until all ranks are here.
    template <class Progress>
    void wait(Progress&& progress) {
        const uint32_t generation = arrive();
        const WaitScope waiting("a barrier of the node");
        Backoff backoff;
        while (!has_passed(generation)) {
            progress();
            backoff.pause();
        }
    }

    /// The two halves of wait(): counts this rank in and names what it waits for.
    uint32_t arrive();
    bool has_passed(uint32_t generation) const {
        return state_->generation.load(std::memory_order_acquire) != generation;
    }

  private:
    struct State {
        alignas(64) std::atomic<uint32_t> n_arrived;
        alignas(64) std::atomic<uint32_t> generation;
    };
    SharedSegments memory_;
    State* state_;
    uint32_t size_;
};

}  // namespace mixserve::comm
