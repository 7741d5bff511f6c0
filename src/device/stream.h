#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "device/buffer.h"
#include "device/gpu.h"

namespace mixserve::device {

/// What device scratch is used for. A slot's memory may be used by one operation at a time; operations that
/// run inside others have slots of their own.
enum class ScratchSlot : uint8_t {
    operands,
    partial_sums,
    library,
    experts,
    routing,
    attention,
    batch,
    staging_in,
    staging_out,
    sampling_batch,
    sampling_rows
};
inline constexpr int n_scratch_slots = 11;

/// What a rank computes with.
enum class Backend : uint8_t { cpu, cuda };

/// Where a rank's arithmetic runs, in order: on the CPU a team of threads that finishes each call before it
/// returns; on a GPU a queue, into which calls put their work and return. Kernels take one by reference; the
/// engine makes one per rank. With a GPU, what kernels work on is device memory (memory()), and the threads
/// are there for what the host does.
///
/// Idle threads spin for some microseconds, then yield, then sleep, so that the hundreds of small calls of a
/// step start at once and a team that waits takes nothing from its neighbours. With one thread every call is
/// a plain loop.
class Stream {
  public:
    /// Throws Error when `n_threads` < 1 or the system grants no thread.
    explicit Stream(int n_threads);
    /// With `queue` as its GPU.
    Stream(int n_threads, GpuQueue queue);
    ~Stream();
    Stream(Stream&&) noexcept;
    Stream& operator=(Stream&&) noexcept;

    int n_threads() const;

    /// Its queue; null on the CPU.
    GpuQueue* gpu();
    /// Where the arguments of kernels on this stream lie.
    Memory memory() const;
    /// Device scratch of at least `n_bytes`, until the next call for the same slot. On a GPU only.
    std::byte* device_scratch(ScratchSlot slot, size_t n_bytes);
    /// Enqueues a copy of bytes of the host, which may change as soon as this returns. On a GPU only.
    void upload(void* device, const void* bytes, size_t n_bytes);

    /// Runs `body(task, thread)` for each task in [0, n_tasks), in any order, thread in [0, n_threads()).
    /// Thread 0 is the caller; it polls between its tasks. Returns when all tasks are done; what a task
    /// throws is thrown here (the first of them; tasks not yet begun are dropped). Calls do not nest.
    template <class Body>
    void parallel_for(int64_t n_tasks, const Body& body) {
        run(n_tasks, &body, [](const void* context, int64_t task, int thread) {
            (*static_cast<const Body*>(context))(task, thread);
        });
    }

    /// Scratch of at least `n_bytes`, 4 KiB aligned, private to `thread`; valid until its next call with a
    /// larger size.
    std::byte* scratch(int thread, size_t n_bytes);

    /// Scratch of at least `n_bytes`, 4 KiB aligned, for what the threads of one call share; apart from
    /// scratch(). Valid until the next call with a larger size. To be called outside parallel_for.
    std::byte* shared_scratch(size_t n_bytes);

    /// What drives communication while products run: called by thread 0 between tiles. Empty: nothing.
    void set_poll(std::function<void()> poll);
    void poll();

  private:
    using Task = void (*)(const void* context, int64_t task, int thread);
    void run(int64_t n_tasks, const void* context, Task task);

    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// A copy of `values` in stream.memory().
Buffer place(std::span<const float> values, Stream& stream);

}  // namespace mixserve::device
