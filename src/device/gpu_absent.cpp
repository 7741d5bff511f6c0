// What a build without CUDA has in the GPU's place: a survey that says so. Nothing else is reached.

#include <utility>

#include "base/error.h"
#include "device/gpu.h"

namespace mixserve::device {
namespace {

[[noreturn]] void fail_absent() {
    fail("this build has no CUDA; configure it with -DMIXSERVE_CUDA=ON where nvcc is, or use --backend cpu");
}

}  // namespace

struct GpuQueue::Impl {};
struct GpuEvent::Impl {};
struct GpuGraph::Impl {};

GpuSurvey survey_gpus() {
    return {{}, "this build has no CUDA (configure it with -DMIXSERVE_CUDA=ON where nvcc is)"};
}
bool built_with_cuda() {
    return false;
}
void use_gpu(int) {
    fail_absent();
}
const GpuProperties& gpu_in_use() {
    fail_absent();
}
GpuMemory gpu_memory() {
    fail_absent();
}
void* gpu_allocate(size_t, Memory) {
    fail_absent();
}
void gpu_free(void*, Memory) noexcept {}
int64_t gpu_high_water_bytes() {
    return 0;
}
uint64_t gpu_memory_changes() {
    return 0;
}
bool enable_peer_access(int, int) {
    return false;
}

GpuQueue::GpuQueue() {
    fail_absent();
}
GpuQueue::~GpuQueue() = default;
GpuQueue::GpuQueue(GpuQueue&&) noexcept = default;
GpuQueue& GpuQueue::operator=(GpuQueue&&) noexcept = default;
void GpuQueue::copy_in(void*, const void*, size_t) {}
void GpuQueue::copy_out(void*, const void*, size_t) {}
void GpuQueue::copy_inside(void*, const void*, size_t) {}
void GpuQueue::clear(void*, size_t) {}
void GpuQueue::begin_capture() {}
GpuGraph GpuQueue::end_capture() {
    fail_absent();
}
void GpuQueue::abandon_capture() noexcept {}
void GpuQueue::replay(const GpuGraph&) {}
void GpuQueue::synchronize() {}
bool GpuQueue::is_idle() {
    return true;
}
void* GpuQueue::handle() const {
    return nullptr;
}

GpuGraph::GpuGraph(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GpuGraph::~GpuGraph() = default;
GpuGraph::GpuGraph(GpuGraph&&) noexcept = default;
GpuGraph& GpuGraph::operator=(GpuGraph&&) noexcept = default;

GpuEvent::GpuEvent() {
    fail_absent();
}
GpuEvent::~GpuEvent() = default;
GpuEvent::GpuEvent(GpuEvent&&) noexcept = default;
GpuEvent& GpuEvent::operator=(GpuEvent&&) noexcept = default;
void GpuEvent::record(GpuQueue&) {}
void GpuEvent::wait() {}
void GpuEvent::hold_back(GpuQueue&) const {}
double GpuEvent::seconds_since(const GpuEvent&) const {
    return 0;
}

}  // namespace mixserve::device
