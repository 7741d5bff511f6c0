#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device/buffer.h"

/// The border to the GPU's runtime. What is declared here has three implementations, of which a program links
/// one: CUDA's (cuda_device.cpp), none (gpu_absent.cpp, in builds without CUDA), and the emulator that the
/// tests run the GPU's code on where there is no GPU (tests/emulator).
///
/// A failed call throws Error, which names the call, the GPU and what to do.
namespace mixserve::device {

struct GpuProperties {
    std::string name;
    std::string uuid;
    int compute_capability = 0;  // 90 for 9.0
    int n_multiprocessors = 0;
    int64_t memory_bytes = 0;
    int64_t l2_bytes = 0;
};

/// The GPUs that the driver shows to this process. Never throws: without driver or GPU it is empty and
/// `why_none` says why.
struct GpuSurvey {
    std::vector<GpuProperties> gpus;
    std::string why_none;
};
GpuSurvey survey_gpus();

/// Whether this program has CUDA in it at all.
bool built_with_cuda();

/// Makes GPU `index` (in the driver's count) the one that this thread allocates and launches on.
void use_gpu(int index);
/// The one in use. A program that has called use_gpu() only.
const GpuProperties& gpu_in_use();

struct GpuMemory {
    int64_t free_bytes = 0;
    int64_t total_bytes = 0;
};
GpuMemory gpu_memory();

/// `memory` is Memory::pinned or Memory::device.
void* gpu_allocate(size_t n_bytes, Memory memory);
void gpu_free(void* data, Memory memory) noexcept;
/// Most bytes of device memory that gpu_allocate() has had out at once, in this process.
int64_t gpu_high_water_bytes();

/// Whether GPU `from` can read the memory of GPU `to` directly, which is then switched on.
bool enable_peer_access(int from, int to);

/// How often device memory has been allocated or freed in this process: as long as it stays the same, all of
/// it is where it was.
uint64_t gpu_memory_changes();

/// Work that a queue has recorded, which replay() enqueues with one call (a CUDA graph). A graph is destroyed
/// when nothing of it is enqueued any more.
class GpuGraph {
  public:
    struct Impl;
    explicit GpuGraph(std::unique_ptr<Impl> impl);
    ~GpuGraph();
    GpuGraph(GpuGraph&&) noexcept;
    GpuGraph& operator=(GpuGraph&&) noexcept;
    const Impl& impl() const { return *impl_; }

  private:
    std::unique_ptr<Impl> impl_;
};

/// A queue of work for the GPU in use: what is enqueued runs in order, while the host goes on.
class GpuQueue {
  public:
    GpuQueue();
    ~GpuQueue();
    GpuQueue(GpuQueue&&) noexcept;
    GpuQueue& operator=(GpuQueue&&) noexcept;

    /// Host to device. Pinned memory must stay as it is until the copy is done; other memory may be used at
    /// once.
    void copy_in(void* device, const void* host, size_t n_bytes);
    /// Device to host: there after synchronize().
    void copy_out(void* host, const void* device, size_t n_bytes);
    void copy_inside(void* to, const void* from, size_t n_bytes);
    /// Zeros.
    void clear(void* device, size_t n_bytes);

    /// From here to end_capture() what is enqueued is recorded, and does not run. Meanwhile nothing may be
    /// waited for, no device memory be allocated or freed, and no other than pinned memory of the host be
    /// copied. What the work uses has to stay where it is as long as the graph is replayed.
    void begin_capture();
    GpuGraph end_capture();
    /// After an error since begin_capture(): forgets what was recorded.
    void abandon_capture() noexcept;
    void replay(const GpuGraph& graph);

    /// Waits until all that was enqueued is done, and throws what went wrong in it.
    void synchronize();
    /// Whether all that was enqueued is done, without waiting.
    bool is_idle();

    /// The runtime's own handle (a cudaStream_t).
    void* handle() const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// A place in a queue.
class GpuEvent {
  public:
    GpuEvent();
    ~GpuEvent();
    GpuEvent(GpuEvent&&) noexcept;
    GpuEvent& operator=(GpuEvent&&) noexcept;

    void record(GpuQueue& queue);
    /// Waits until the queue has passed it; at once where it was never recorded.
    void wait();
    /// What `queue` is given from now on waits for this event.
    void hold_back(GpuQueue& queue) const;
    /// From `earlier` to this one; both have been passed.
    double seconds_since(const GpuEvent& earlier) const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace mixserve::device
