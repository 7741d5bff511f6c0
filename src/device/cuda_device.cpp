// The GPU by CUDA's runtime, which is linked statically and looks for the driver when it is first asked: so a
// build with CUDA runs on machines without one.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/heartbeat.h"
#include "device/cuda_check.h"
#include "device/gpu.h"

namespace mixserve::device {
namespace {

/// What the process has allocated on the GPU, for its high-water mark. (cudaMalloc is called only when a
/// buffer is made or grows, never inside a step that has been like this before.)
class Allocations {
  public:
    void add(void* data, size_t n_bytes) {
        const std::scoped_lock lock(mutex_);
        sizes_[data] = n_bytes;
        n_bytes_ += static_cast<int64_t>(n_bytes);
        high_water_ = std::max(high_water_, n_bytes_);
        ++n_changes_;
    }
    void remove(void* data) {
        const std::scoped_lock lock(mutex_);
        const auto found = sizes_.find(data);
        if (found == sizes_.end()) return;
        n_bytes_ -= static_cast<int64_t>(found->second);
        sizes_.erase(found);
        ++n_changes_;
    }
    int64_t n_bytes() {
        const std::scoped_lock lock(mutex_);
        return n_bytes_;
    }
    int64_t high_water() {
        const std::scoped_lock lock(mutex_);
        return high_water_;
    }
    uint64_t n_changes() {
        const std::scoped_lock lock(mutex_);
        return n_changes_;
    }

  private:
    std::mutex mutex_;
    std::map<void*, size_t> sizes_;
    int64_t n_bytes_ = 0;
    int64_t high_water_ = 0;
    uint64_t n_changes_ = 0;
};

// Never destroyed: buffers that outlive main are freed after it would be.
Allocations& allocations() {
    static Allocations& all = *new Allocations;
    return all;
}

std::optional<GpuProperties>& in_use() {
    static std::optional<GpuProperties> properties;
    return properties;
}

std::string hex(const char* bytes, int n) {
    std::string text;
    for (int i = 0; i < n; ++i)
        text += fmt::format("{:02x}", static_cast<unsigned char>(bytes[i]));
    return text;
}

GpuProperties properties_of(int index) {
    cudaDeviceProp p{};
    check_cuda(cudaGetDeviceProperties(&p, index), "cudaGetDeviceProperties");
    return {p.name,
            hex(p.uuid.bytes, 16),
            p.major * 10 + p.minor,
            p.multiProcessorCount,
            static_cast<int64_t>(p.totalGlobalMem),
            static_cast<int64_t>(p.l2CacheSize)};
}

const char* remedy_of(cudaError_t code) {
    switch (code) {
        case cudaErrorMemoryAllocation:
            return "the GPU is full: give a smaller --kv-cache-memory or --max-num-batched-tokens, or more "
                   "ranks";
        case cudaErrorInsufficientDriver:
            return "the driver is older than the CUDA that this was built with: ask for a newer driver, or "
                   "build "
                   "with the CUDA that fits it";
        case cudaErrorNoDevice:
        case cudaErrorInvalidDevice:
            return "look at CUDA_VISIBLE_DEVICES and at what the job was given (--gpus-per-task)";
        case cudaErrorNoKernelImageForDevice:
            return "the program has no code for this GPU: it needs compute capability 8.0 or higher";
        case cudaErrorIllegalAddress:
        case cudaErrorMisalignedAddress:
        case cudaErrorIllegalInstruction:
        case cudaErrorLaunchFailure:
            return "this is a fault of the program: run it under compute-sanitizer and report what it says";
        case cudaErrorStreamCaptureUnsupported:
        case cudaErrorStreamCaptureInvalidated:
        case cudaErrorStreamCaptureImplicit:
        case cudaErrorGraphExecUpdateFailure:
            return "a decode step could not be recorded as a graph, which is a fault of the program: report "
                   "it; "
                   "--cuda-graphs off does without";
        case cudaErrorECCUncorrectable:
            return "the GPU's memory is failing: leave this node out";
        default:
            return "the GPU's log (nvidia-smi, dmesg) may say more; --backend cpu does without it";
    }
}

}  // namespace

void check_cuda(int error, const char* call) {
    const auto code = static_cast<cudaError_t>(error);
    if (code == cudaSuccess) return;
    const std::string gpu =
        in_use() ? fmt::format("{} {}", in_use()->name, in_use()->uuid.substr(0, 8)) : "no GPU yet";
    fail("{}: {} ({}), on {}; {}", call, cudaGetErrorString(code), cudaGetErrorName(code), gpu,
         remedy_of(code));
}

GpuSurvey survey_gpus() {
    GpuSurvey survey;
    int n_gpus = 0;
    const cudaError_t code = cudaGetDeviceCount(&n_gpus);
    if (code != cudaSuccess) {
        survey.why_none = code == cudaErrorInsufficientDriver
                              ? fmt::format("there is no NVIDIA driver, or one older than CUDA {}.{}",
                                            CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10)
                              : fmt::format("cudaGetDeviceCount: {}", cudaGetErrorString(code));
        cudaGetLastError();  // forgotten: this program goes on without a GPU
        return survey;
    }
    for (int i = 0; i < n_gpus; ++i)
        survey.gpus.push_back(properties_of(i));
    if (n_gpus == 0) survey.why_none = "the driver shows no GPU";
    return survey;
}

bool built_with_cuda() {
    return true;
}

void use_gpu(int index) {
    check_cuda(cudaSetDevice(index), "cudaSetDevice");
    in_use() = properties_of(index);
    check_cuda(cudaFree(nullptr), "cudaFree");  // makes the context, so that its failure is told here
}

const GpuProperties& gpu_in_use() {
    require(in_use().has_value(), "no GPU is in use yet");
    return *in_use();
}

GpuMemory gpu_memory() {
    size_t free_bytes = 0;
    size_t total_bytes = 0;
    check_cuda(cudaMemGetInfo(&free_bytes, &total_bytes), "cudaMemGetInfo");
    return {static_cast<int64_t>(free_bytes), static_cast<int64_t>(total_bytes)};
}

void* gpu_allocate(size_t n_bytes, Memory memory) {
    void* data = nullptr;
    if (memory == Memory::pinned) {
        const cudaError_t code = cudaMallocHost(&data, n_bytes);
        require(
            code == cudaSuccess,
            "cudaMallocHost of {} bytes: {}; page-locked memory may be limited here (ulimit -l, or the job's "
            "memory)",
            n_bytes, cudaGetErrorString(code));
        return data;
    }
    const cudaError_t code = cudaMalloc(&data, n_bytes);
    if (code != cudaSuccess) {
        const GpuMemory now = gpu_memory();
        fail(
            "cudaMalloc of {} bytes: {}, on {}, which has {} of {} bytes free and {} in use by this rank; {}",
            n_bytes, cudaGetErrorString(code), gpu_in_use().name, now.free_bytes, now.total_bytes,
            allocations().n_bytes(), remedy_of(code));
    }
    allocations().add(data, n_bytes);
    return data;
}

void gpu_free(void* data, Memory memory) noexcept {
    // What is enqueued may still use it. Errors of that work show here too; the next call that may throw
    // tells them.
    cudaDeviceSynchronize();
    if (memory == Memory::pinned) {
        cudaFreeHost(data);
        return;
    }
    allocations().remove(data);
    cudaFree(data);
}

int64_t gpu_high_water_bytes() {
    return allocations().high_water();
}

uint64_t gpu_memory_changes() {
    return allocations().n_changes();
}

bool enable_peer_access(int from, int to) {
    int can = 0;
    check_cuda(cudaDeviceCanAccessPeer(&can, from, to), "cudaDeviceCanAccessPeer");
    if (can == 0) return false;
    int current = 0;
    check_cuda(cudaGetDevice(&current), "cudaGetDevice");
    check_cuda(cudaSetDevice(from), "cudaSetDevice");
    const cudaError_t code = cudaDeviceEnablePeerAccess(to, 0);
    if (code == cudaErrorPeerAccessAlreadyEnabled) {
        cudaGetLastError();
    } else {
        check_cuda(code, "cudaDeviceEnablePeerAccess");
    }
    check_cuda(cudaSetDevice(current), "cudaSetDevice");
    return true;
}

struct GpuQueue::Impl {
    cudaStream_t stream = nullptr;
    ~Impl() {
        if (stream != nullptr) cudaStreamDestroy(stream);
    }
};

GpuQueue::GpuQueue() : impl_(std::make_unique<Impl>()) {
    check_cuda(cudaStreamCreateWithFlags(&impl_->stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
}
GpuQueue::~GpuQueue() = default;
GpuQueue::GpuQueue(GpuQueue&&) noexcept = default;
GpuQueue& GpuQueue::operator=(GpuQueue&&) noexcept = default;

void GpuQueue::copy_in(void* device, const void* host, size_t n_bytes) {
    if (n_bytes == 0) return;
    check_cuda(cudaMemcpyAsync(device, host, n_bytes, cudaMemcpyHostToDevice, impl_->stream),
               "cudaMemcpyAsync to the device");
}

void GpuQueue::copy_out(void* host, const void* device, size_t n_bytes) {
    if (n_bytes == 0) return;
    check_cuda(cudaMemcpyAsync(host, device, n_bytes, cudaMemcpyDeviceToHost, impl_->stream),
               "cudaMemcpyAsync to the host");
}

void GpuQueue::copy_inside(void* to, const void* from, size_t n_bytes) {
    if (n_bytes == 0) return;
    check_cuda(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToDevice, impl_->stream),
               "cudaMemcpyAsync inside the device");
}

void GpuQueue::clear(void* device, size_t n_bytes) {
    if (n_bytes == 0) return;
    check_cuda(cudaMemsetAsync(device, 0, n_bytes, impl_->stream), "cudaMemsetAsync");
}

struct GpuGraph::Impl {
    cudaGraphExec_t graph = nullptr;
    ~Impl() {
        if (graph != nullptr) cudaGraphExecDestroy(graph);
    }
};

GpuGraph::GpuGraph(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GpuGraph::~GpuGraph() = default;
GpuGraph::GpuGraph(GpuGraph&&) noexcept = default;
GpuGraph& GpuGraph::operator=(GpuGraph&&) noexcept = default;

void GpuQueue::begin_capture() {
    // Of this thread alone: what other threads do on their streams is no part of it.
    check_cuda(cudaStreamBeginCapture(impl_->stream, cudaStreamCaptureModeThreadLocal),
               "cudaStreamBeginCapture");
}

GpuGraph GpuQueue::end_capture() {
    cudaGraph_t recorded = nullptr;
    check_cuda(cudaStreamEndCapture(impl_->stream, &recorded), "cudaStreamEndCapture");
    auto graph = std::make_unique<GpuGraph::Impl>();
    const cudaError_t code = cudaGraphInstantiate(&graph->graph, recorded, 0);
    cudaGraphDestroy(recorded);
    check_cuda(code, "cudaGraphInstantiate");
    return GpuGraph(std::move(graph));
}

void GpuQueue::abandon_capture() noexcept {
    cudaGraph_t recorded = nullptr;
    cudaStreamEndCapture(impl_->stream, &recorded);
    if (recorded != nullptr) cudaGraphDestroy(recorded);
    cudaGetLastError();  // told already
}

void GpuQueue::replay(const GpuGraph& graph) {
    check_cuda(cudaGraphLaunch(graph.impl().graph, impl_->stream), "cudaGraphLaunch");
}

void GpuQueue::synchronize() {
    const WaitScope waiting("cudaStreamSynchronize");
    check_cuda(cudaStreamSynchronize(impl_->stream), "cudaStreamSynchronize");
}

bool GpuQueue::is_idle() {
    const cudaError_t code = cudaStreamQuery(impl_->stream);
    if (code == cudaErrorNotReady) return false;
    check_cuda(code, "cudaStreamQuery");
    return true;
}

void* GpuQueue::handle() const {
    return impl_->stream;
}

struct GpuEvent::Impl {
    cudaEvent_t event = nullptr;
    ~Impl() {
        if (event != nullptr) cudaEventDestroy(event);
    }
};

GpuEvent::GpuEvent() : impl_(std::make_unique<Impl>()) {
    check_cuda(cudaEventCreate(&impl_->event), "cudaEventCreate");
}
GpuEvent::~GpuEvent() = default;
GpuEvent::GpuEvent(GpuEvent&&) noexcept = default;
GpuEvent& GpuEvent::operator=(GpuEvent&&) noexcept = default;

void GpuEvent::record(GpuQueue& queue) {
    check_cuda(cudaEventRecord(impl_->event, static_cast<cudaStream_t>(queue.handle())), "cudaEventRecord");
}
void GpuEvent::wait() {
    const WaitScope waiting("cudaEventSynchronize");
    check_cuda(cudaEventSynchronize(impl_->event), "cudaEventSynchronize");
}
void GpuEvent::hold_back(GpuQueue& queue) const {
    check_cuda(cudaStreamWaitEvent(static_cast<cudaStream_t>(queue.handle()), impl_->event, 0),
               "cudaStreamWaitEvent");
}
double GpuEvent::seconds_since(const GpuEvent& earlier) const {
    float ms = 0;
    check_cuda(cudaEventElapsedTime(&ms, earlier.impl_->event, impl_->event), "cudaEventElapsedTime");
    return static_cast<double>(ms) * 1e-3;
}

}  // namespace mixserve::device
