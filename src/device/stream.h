#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace mixserve::device {

/// Where a rank's arithmetic runs, in order: on the CPU a team of threads that finishes each call before it returns.
/// Kernels take one by reference; the engine makes one per rank. (CUDA adds a queue of the device behind the same name.)
class Stream {
  public:
    explicit Stream(int n_threads);
    ~Stream();
    Stream(Stream&&) noexcept;
    Stream& operator=(Stream&&) noexcept;

    int n_threads() const;

    /// Runs `body(task, thread)` for each task in [0, n_tasks), in any order, thread in [0, n_threads()).
    /// Thread 0 is the caller; it polls between its tasks. Returns when all tasks are done.
    void parallel_for(int64_t n_tasks, const std::function<void(int64_t task, int thread)>& body);

    /// Scratch of at least `n_bytes`, 64-byte aligned, private to `thread` until its next call with a larger size.
    std::byte* scratch(int thread, size_t n_bytes);

    /// What drives communication while products run: called by thread 0 between tiles. Empty: nothing.
    void set_poll(std::function<void()> poll);
    void poll();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace mixserve::device
