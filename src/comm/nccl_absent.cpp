// What a build without NCCL's header has in its place. Nothing but why_no_nccl() is reached.

#include "base/error.h"
#include "comm/gpu_communicator.h"

namespace mixserve::comm {
namespace {

[[noreturn]] void fail_absent() {
    fail("{}", why_no_nccl());
}

}  // namespace

struct GpuCommunicator::Impl {};

std::string why_no_nccl() {
    return "this build has no NCCL: configure it where nvcc and nccl.h are (Debian's libnccl-dev, NVIDIA's "
           "NCCL, or pip's nvidia-nccl-cu13 with its include folder in CPATH)";
}

GpuCommunicator::GpuCommunicator(const Communicator&, std::string) {
    fail_absent();
}
GpuCommunicator::~GpuCommunicator() = default;
GpuCommunicator::GpuCommunicator(GpuCommunicator&&) noexcept = default;
GpuCommunicator& GpuCommunicator::operator=(GpuCommunicator&&) noexcept = default;
int GpuCommunicator::rank() const {
    return 0;
}
int GpuCommunicator::size() const {
    return 1;
}
void GpuCommunicator::all_gather(const void*, size_t, void*, device::GpuQueue&) {}
void GpuCommunicator::all_reduce_sum(float*, int64_t, device::GpuQueue&) {}
void GpuCommunicator::reduce_scatter_sum(const float*, int64_t, float*, device::GpuQueue&) {}
void GpuCommunicator::exchange(std::span<const Outgoing>, std::span<const Incoming>, device::GpuQueue&) {}

}  // namespace mixserve::comm
